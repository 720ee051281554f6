"""One picture cleaned: what is kept, what is hidden, what is painted over, and the part that is cut out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import ndimage

from medgraft.cleaning.form import CleanForm
from medgraft.samples.marks import Mark, find_marks, painted_over

_GROWN = 0.02  # of the longer side: how much wider what is kept is than what was drawn


@dataclass(frozen=True, eq=False)
class Cleaned:
    """A picture that was cleaned.

    Attributes:
        picture: `(h, w)` or `(h, w, 3)`, uint8 or uint16 as it was given.
        box: (x0, y0, x1, y1) of the part that it is of the file.
        told: what was done, as cells of a table.
        marks: what was painted over.
    """

    picture: np.ndarray
    box: tuple[int, int, int, int]
    told: dict[str, Any]
    marks: list[Mark] = field(default_factory=list)


def cleaned(
    picture: np.ndarray,
    form: CleanForm,
    *,
    keep: np.ndarray | None = None,
    hide: np.ndarray | None = None,
    seen: np.ndarray | None = None,
) -> Cleaned:
    """Clean one picture.

    Args:
        picture: `(H, W)` or `(H, W, 3)` uint8, or `(H, W)` uint16.
        form: what is done.
        keep: `(H, W)` bool, what is kept; None, or nowhere, keeps all.
        hide: `(H, W)` bool, what is painted over, such as tubes.
        seen: the same picture as it is shown, uint8, where letters are looked for; None where it is that itself.
    """
    height, width = picture.shape[:2]
    marks: list[Mark] = []
    shown = picture
    if hide is not None and hide.any():
        shown = painted_over(shown, hide, rim=max(2, round(0.004 * max(height, width))))
    if form.marks:
        mask, marks = find_marks(picture if seen is None else seen)
        shown = painted_over(shown, mask)
    box = (0, 0, width, height)
    lost = keep is not None and not keep.any()
    if keep is not None and not lost:
        kept = _grown(keep, round(_GROWN * max(height, width)))
        if form.blank:
            shown = np.where(kept[..., None] if shown.ndim == 3 else kept, shown, 0).astype(picture.dtype)
        if form.crop:
            box = _around(kept, form.margin)
    cut = np.ascontiguousarray(shown[box[1] : box[3], box[0] : box[2]])
    told = {
        "kept": 1.0 if keep is None or lost else round(float(keep.mean()), 4),
        "hidden": 0.0 if hide is None else round(float(hide.mean()), 4),
        "marks": len(marks),
        "x0": box[0],
        "y0": box[1],
        "x1": box[2],
        "y1": box[3],
        "why": "nothing to keep was drawn: the picture is as it was" if lost else "",
    }
    return Cleaned(cut, box, told, marks)


def _grown(mask: np.ndarray, reach: int) -> np.ndarray:
    """A mask without holes, some pixels wider."""
    whole: Any = ndimage.binary_fill_holes(mask)
    far: Any = ndimage.distance_transform_edt(~whole)
    return far <= reach


def _around(mask: np.ndarray, margin: float) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    rim = round(margin * max(len(rows), len(columns), rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1))
    height, width = mask.shape
    return (
        int(max(0, columns[0] - rim)),
        int(max(0, rows[0] - rim)),
        int(min(width, columns[-1] + 1 + rim)),
        int(min(height, rows[-1] + 1 + rim)),
    )
