"""Where the middle of its thing is seen from a pixel, and how near a gap is: what a net tells things apart by."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

NEAR = 4.0  # pixels: ways up to so many are hardly compressed
AT_SEAM = 0.75  # nearness to a gap from which a pixel is at the seam: a band of about four pixels
_GAP, _REACH = 3.0, 2.0  # pixels: things this near touch, and how far around a gap its pixels count more


def thing_planes(things: np.ndarray) -> np.ndarray:
    """Get class, nearness to a gap, and the way to the middle of each pixel of a map of things.

    The nearness is 1 in the gap between two things that touch, or nearly, and falls off around it. The way to the
    middle is that to the centre of what is seen of the thing, down and across, as `compressed`; 0 outside.

    Args:
        things: `(H, W)` numbers of things, 0 where there is none and -1 where nothing is known.

    Returns:
        `(4, H, W)` float32: 1 inside a thing, 0 outside, 255 unknown; the nearness; the way.

    Source: ways to the middle as in Cheng et al., Panoptic-DeepLab, CVPR 2020, p. 12472; the weight of gaps from
        Ronneberger et al., U-Net, MICCAI 2015.
    """
    kinds = np.where(things < 0, np.float32(255), (things > 0).astype(np.float32))
    return np.concatenate([np.stack([kinds, _nearness(things)]), compressed(ways_of(things))])


def compressed(ways: np.ndarray) -> np.ndarray:
    """Get pixels so that an error counts by how large it is beside the way: 4 become .7, 40 become 2.4."""
    return (np.sign(ways) * np.log1p(np.abs(ways) / NEAR)).astype(np.float32)


def ways_of(things: np.ndarray) -> np.ndarray:
    """Get from each pixel inside the way to the centre of its thing, `(2, H, W)` pixels down and across; 0 outside."""
    numbers = np.maximum(things, 0)
    counts = np.maximum(np.bincount(numbers.ravel()), 1)
    found = np.zeros((2, *things.shape), np.float32)
    for axis, places in enumerate(np.indices(things.shape, sparse=True)):
        where = np.broadcast_to(places, things.shape)
        centres = np.bincount(numbers.ravel(), weights=where.ravel().astype(np.float64)) / counts
        found[axis] = np.where(numbers > 0, centres[numbers] - where, 0)
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
