"""What is asked of a cleaning, and what was written."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MASKS = "masks"  # in place of a run: the label map of each image says what is kept
FORM = "clean.json"
COMPARED = "compared.json"


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
        compared: what a model learns before and after, where that was asked; as in compared.json.
    """

    out: Path
    rows: list[dict[str, Any]] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    compared: dict[str, Any] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Get what a person is told."""
        marked = sum(bool(row["marks"]) for row in self.rows)
        lost = sum(bool(row["why"]) for row in self.rows)
        said = [f"{len(self.rows)} images cleaned" + (f", marks painted over in {marked}" if marked else "")]
        said += [f"in {lost} nothing to keep was drawn: they are as they were"] if lost else []
        said += [f"{path}: {reason}" for path, reason in self.problems[:5]]
        if self.compared:
            said += [f"AUROC {name}: {_score(score)}" for name, score in self.compared["auroc"].items()]
        return [*said, f"Look at them: {self.out / 'before-after.png'}", f"Data: {self.out / 'manifest.csv'}"]

    def headline(self) -> dict[str, Any]:
        """Get what programs are told."""
        paths = {"out": str(self.out), "data": str(self.out / "manifest.csv")}
        counts = {"images": len(self.rows), "left_out": len(self.problems)}
        return {**paths, **counts, **({"auroc": self.compared["auroc"]} if self.compared else {})}


def _score(score: dict[str, Any]) -> str:
    """Get a score with its interval and n in words."""
    if score["value"] is None:
        return f"not computed ({score['why']})"
    ends = "no interval" if score["low"] is None else f"95 % interval {score['low']:.3f} to {score['high']:.3f}"
    return f"{score['value']:.3f} ({ends}, n = {score['n']})"
