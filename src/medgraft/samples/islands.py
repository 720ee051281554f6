"""Small islands and holes of a mask, taken away."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage

_CORNERS = np.ones((3, 3), bool)


def cleaned(mask: np.ndarray, least: float) -> np.ndarray:
    """Get a mask `(H, W)` without holes and islands of fewer pixels than `least`; the largest island always stays.

    Holes are filled first. Pixels that touch at a corner belong together.

    Source: `remove_small_regions` of segment-anything.
    """
    filled = mask | _small(~mask, least, keep=False)
    return filled & ~_small(filled, least, keep=True)


def _small(mask: np.ndarray, least: float, *, keep: bool) -> np.ndarray:
    found: Any = ndimage.label(mask, _CORNERS)
    parts, count = found
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    few = sizes < least
    few[0] = False  # what is not in the mask
    if keep and count and few[1:].all():
        few[1 + int(sizes[1:].argmax())] = False
    return few[parts]
