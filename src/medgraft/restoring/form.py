"""What came of taking noise away from files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medgraft.denoising.filters import FILTERS

METHODS = ("blindspot", "prior", *FILTERS)
AUTO = "auto"
FORM = "denoise.json"


@dataclass(eq=False)
class Denoised:
    """What was written.

    Attributes:
        out: the folder.
        method: what was done.
        rows: a row an image, as in denoised.csv.
        problems: (path, reason) of images that were left out.
        told: what denoise.json holds.
    """

    out: Path
    method: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    told: dict[str, Any] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Get what a person is told."""
        said = [f"{len(self.rows)} images by {self.method}"]
        said += [f"{path}: {reason}" for path, reason in self.problems[:5]]
        for way, own in self.told.get("compared", {}).items():
            said.append(
                f"{way}: " + ", ".join(f"{name} {_said(own[name])}" for name in ("psnr", "ssim") if name in own)
            )
        for name, score in self.told.get("judged", {}).get("auroc", {}).items():
            said.append(f"AUROC {name}: {_said(score)}")
        return [*said, f"Look at them: {self.out / 'before-after.png'}", f"Data: {self.out / 'manifest.csv'}"]

    def headline(self) -> dict[str, Any]:
        """Get what programs are told."""
        paths = {"out": str(self.out), "data": str(self.out / "manifest.csv"), "told": str(self.out / FORM)}
        counts = {"images": len(self.rows), "left_out": len(self.problems), "method": self.method}
        return {**paths, **counts, **{name: self.told[name] for name in ("compared", "judged") if name in self.told}}


def _said(score: dict[str, Any]) -> str:
    """Get a score with its interval in words."""
    if score["value"] is None:
        return f"not computed ({score['why']})"
    ends = "no interval" if score["low"] is None else f"95 % interval {score['low']:.3f} to {score['high']:.3f}"
    return f"{score['value']:.3f} ({ends}, n = {score['n']})"
