"""What is asked of a cleaning, and what was written."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MASKS = "masks"  # in place of a run: the label map of each image says what is kept
FORM = "clean.json"


@dataclass(frozen=True)
class CleanForm:
    """What is done with every picture.

    Attributes:
        marks: True paints over letters and markers.
        crop: True cuts to what is kept.
        margin: around that cut, of the longer side of what is kept.
        blank: True makes what is not kept black.
    """

    marks: bool = False
    crop: bool = False
    margin: float = 0.05
    blank: bool = True


@dataclass(frozen=True, eq=False)
class CleanedSet:
    """What was written.

    Attributes:
        out: the folder.
        rows: what was done with each image, as in cleaned.csv.
        problems: (path, reason) of images that were left out.
    """

    out: Path
    rows: list[dict[str, Any]] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Get what a person is told."""
        marked = sum(bool(row["marks"]) for row in self.rows)
        lost = sum(bool(row["why"]) for row in self.rows)
        said = [f"{len(self.rows)} images cleaned" + (f", marks painted over in {marked}" if marked else "")]
        said += [f"in {lost} nothing to keep was drawn: they are as they were"] if lost else []
        said += [f"{path}: {reason}" for path, reason in self.problems[:5]]
        return [*said, f"Look at them: {self.out / 'before-after.png'}", f"Data: {self.out / 'manifest.csv'}"]

    def headline(self) -> dict[str, Any]:
        """Get what programs are told."""
        paths = {"out": str(self.out), "data": str(self.out / "manifest.csv")}
        return {**paths, "images": len(self.rows), "left_out": len(self.problems)}
