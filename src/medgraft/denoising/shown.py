"""Pictures before and after, side by side, for people."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medgraft.denoising.judge import Case
from medgraft.report import pictures

_SIDE = 160  # pixels of an image that are shown, so that noise is not shrunk away
_GAIN = 4.0  # what was taken away is shown so many times stronger


def sheet_of(cases: Sequence[Case], cleaned: Sequence[np.ndarray]) -> np.ndarray:
    """Get a sheet, uint8 `(H, W, 3)`: a row an image: noisy, cleaned, what was taken away, and the clean one.

    Where only some images have a clean one, its place is white in the rows of others.

    Args:
        cases: noisy images.
        cleaned: `(P, h, w)` of each.
    """
    rows, beside = [], any(one.clean is not None for one in cases)
    for one, made in zip(cases, cleaned, strict=True):
        place = len(made) // 2
        parts = [one.noisy[place], made[place]] + ([one.clean[place]] if one.clean is not None else [])
        gray = [_gray(part, one.levels.low, one.levels.white) for part in parts]
        residual = _gray(_GAIN * (one.noisy[place] - made[place]) + one.levels.white / 2, 0.0, one.levels.white)
        row = [*gray[:2], residual, *gray[2:]]
        rows += row + [np.full_like(gray[0], 255)] * (3 + beside - len(row))
    columns = len(rows) // max(1, len(cases))
    return pictures.sheet(rows, columns=max(1, columns), cell=_SIDE) if rows else np.full((8, 8, 3), 255, np.uint8)


def _gray(plane: np.ndarray, low: float, white: float) -> np.ndarray:
    starts = [max(0, (own - _SIDE) // 2) for own in plane.shape]
    part = plane[starts[0] : starts[0] + _SIDE, starts[1] : starts[1] + _SIDE]
    return np.rint(np.clip((part - low) / white, 0, 1) * 255).astype(np.uint8)
