"""Letters, arrows and markers burned into a picture: found by what no tissue has, and painted over.

A mark is of one value, far brighter than what is around it on every side (or of a colour where all else is gray), with
edges as sharp as pixels are, thin and small. Bone and vessels that shine are of many values or are parts of something
large; what is not sure is left as it is, as a lesion that was painted over is worse than a letter that stayed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

_BRIGHT = 0.72  # of the range: of a mark
_COLOURED, _GRAY = 0.35, 0.08  # saturation of a mark, and of a picture that is gray
_FLAT = 0.035  # standard deviation of the brighter half of a stroke, of the range
_THICK = 0.014  # of the longer side: half of the widest stroke
_WIDE = 0.11  # of the longer side: what is larger is no letter
_APART = 0.03  # of the longer side: letters nearer than that are one mark
_LEAST = 12  # pixels of a mark
_SHARP, _ALL_AROUND = 0.3, 0.9  # of the range: how much it rises from what is around it, and at which share of that


@dataclass(frozen=True)
class Mark:
    """One line of letters, an arrow, a marker.

    Attributes:
        box: (x0, y0, x1, y1) in pixels.
        pixels: how many it covers.
    """

    box: tuple[int, int, int, int]
    pixels: int


def find_marks(picture: np.ndarray) -> tuple[np.ndarray, list[Mark]]:
    """Find what was burned into a picture.

    Args:
        picture: `(H, W)` or `(H, W, 3)` uint8.

    Returns:
        `(H, W)` bool, and one row a mark, the largest first.
    """
    values = np.asarray(picture, np.float32) / 255
    colour = values if values.ndim == 3 else np.repeat(values[..., None], 3, axis=2)
    gray = colour.max(axis=2)
    saturation = gray - colour.min(axis=2)
    kept = _strokes(gray, gray > _BRIGHT)
    if float(np.quantile(saturation, 0.9)) < _GRAY:
        kept |= _strokes(saturation, saturation > _COLOURED)
    return _joined(kept, max(gray.shape))


def _strokes(values: np.ndarray, high: np.ndarray) -> np.ndarray:
    """What of the high parts of a picture looks as if it was drawn."""
    kept = np.zeros_like(high)
    numbers, _ = _labelled(high)
    for number, place in enumerate(ndimage.find_objects(numbers), start=1):
        if place is not None and _is_stroke(values, numbers, number, place):
            kept[place] |= numbers[place] == number
    return kept


def _labelled(mask: np.ndarray) -> tuple[np.ndarray, int]:
    found: Any = ndimage.label(mask, structure=np.ones((3, 3)))
    return found[0], int(found[1])


def _is_stroke(values: np.ndarray, numbers: np.ndarray, number: int, place: tuple[slice, ...]) -> bool:
    """Small, thin, flat inside, and sharp all around."""
    side = max(values.shape)
    if max(part.stop - part.start for part in place) > _WIDE * side:
        return False
    around = tuple(slice(max(0, part.start - 3), part.stop + 3) for part in place)
    own, near = numbers[around] == number, values[around]
    deep: Any = ndimage.distance_transform_edt(np.pad(own, 1))
    if float(deep.max()) > max(2.0, _THICK * side):
        return False
    once, wide = (np.asarray(ndimage.binary_dilation(own, iterations=n), bool) for n in (1, 3))
    border = wide & ~once & (numbers[around] == 0)
    if not border.any():
        return False
    # What scanners and JPEG blur is left out: the brighter half of a stroke is what was drawn.
    inside = near[own]
    core = inside[inside >= np.median(inside)]
    rises = float((core.mean() - near[border] > _SHARP).mean())
    return float(core.std()) < _FLAT and rises >= _ALL_AROUND


def _joined(kept: np.ndarray, side: int) -> tuple[np.ndarray, list[Mark]]:
    """Put letters together to marks; specks are left out."""
    reach = max(1, round(_APART * side / 2))
    blocks, count = _labelled(ndimage.binary_dilation(kept, iterations=reach))
    whole = np.zeros_like(kept)
    marks = []
    for number, place in enumerate(ndimage.find_objects(blocks), start=1):
        if place is None:
            continue
        own = kept[place] & (blocks[place] == number)
        if int(own.sum()) < _LEAST:
            continue
        rows, columns = np.flatnonzero(own.any(axis=1)), np.flatnonzero(own.any(axis=0))
        top, left = place[0].start, place[1].start
        box = (left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1)
        marks.append(Mark((int(box[0]), int(box[1]), int(box[2]), int(box[3])), int(own.sum())))
        whole[place] |= own
    return whole, sorted(marks, key=lambda mark: -mark.pixels)


def painted_over(picture: np.ndarray, mask: np.ndarray, *, rim: int = 2) -> np.ndarray:
    """Fill what a mask covers, and a rim, from around it: the nearest pixel, smoothed within the mask.

    Args:
        picture: `(H, W)` or `(H, W, 3)` uint8 or uint16.
        mask: `(H, W)` bool.
        rim: pixels around it that are filled as well, as drawn edges are blurred.
    """
    if not mask.any():
        return picture
    wide = ndimage.binary_dilation(mask, iterations=rim) if rim else mask
    if wide.all():
        return np.zeros_like(picture)
    found: Any = ndimage.distance_transform_edt(wide, return_distances=False, return_indices=True)
    filled = picture[found[0], found[1]].astype(np.float32)
    spread = max(1.0, float(np.sqrt(wide.sum())) / 12)
    axes = (spread, spread, 0)[: filled.ndim]
    smooth = ndimage.gaussian_filter(filled, axes)
    whole = np.where(wide[..., None] if filled.ndim == 3 else wide, smooth, picture)
    return np.rint(whole).astype(picture.dtype)
