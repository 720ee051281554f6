"""How far inside of its own thing a pixel is, and how near to a gap: what a net learns to tell things apart by."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

_GAP, _REACH = 3.0, 2.0  # pixels: things this near touch, and how far around a gap its pixels count more


def distances(things: np.ndarray) -> np.ndarray:
    """Get class, distance and nearness to a gap of each pixel of a map of things.

    The distance to the edge of the thing, as a share of its largest: 1 in the middle of each thing, however large it
    is, and 0 outside. The nearness is 1 in the gap between two things that touch, or nearly, and falls off around it.

    Args:
        things: `(H, W)` numbers of things, 0 where there is none and -1 where nothing is known.

    Returns:
        `(3, H, W)` float32: 1 inside a thing, 0 outside, 255 unknown; the distance; the nearness.

    Source: Naylor et al., IEEE Trans Med Imaging 2019;38:448, who regress the distance in pixels; the weight of gaps
        from Ronneberger et al., U-Net, MICCAI 2015.
    """
    inside = things > 0
    far = np.asarray(ndimage.distance_transform_edt(inside & ~_between(things)), np.float32)
    far[inside] += 1  # the pixels along the edge are inside, too
    count = int(things.max(initial=0))
    most = np.ones(count + 1, np.float32)
    if count:
        numbers = np.arange(1, count + 1)
        most[1:] = np.maximum(ndimage.maximum(far, np.maximum(things, 0), numbers), 1)
    share = np.where(inside, far / most[np.maximum(things, 0)], 0).astype(np.float32)
    kinds = np.where(things < 0, np.float32(255), inside.astype(np.float32))
    return np.stack([kinds, share, _nearness(things)])


def _between(things: np.ndarray) -> np.ndarray:
    """Which pixels have a neighbour of another number."""
    found = np.zeros(things.shape, bool)
    for axis in (0, 1):
        one, two = (
            tuple(part if k == axis else slice(None) for k in (0, 1)) for part in (slice(None, -1), slice(1, None))
        )
        differ = things[one] != things[two]
        found[one] |= differ
        found[two] |= differ
    return found


def _nearness(things: np.ndarray) -> np.ndarray:
    """How near a pixel is to where two things meet once each has grown by some pixels."""
    outside = things <= 0
    if outside.all():
        return np.zeros(things.shape, np.float32)
    gone: tuple[np.ndarray, np.ndarray] = ndimage.distance_transform_edt(outside, return_indices=True)  # type: ignore[assignment]
    grown = np.where(gone[0] <= _GAP, things[tuple(gone[1])], 0)
    high = ndimage.maximum_filter(grown, 3)
    low = ndimage.minimum_filter(np.where(grown > 0, grown, high.max()), 3)  # nothing is no other thing
    met = (grown > 0) & (low < high)
    if not met.any():
        return np.zeros(things.shape, np.float32)
    away = np.asarray(ndimage.distance_transform_edt(~met), np.float32)
    return np.exp(-((away / _REACH) ** 2) / 2).astype(np.float32)
