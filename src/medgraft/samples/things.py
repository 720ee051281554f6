"""Things of one class told apart, from what a net says: how sure a pixel is inside, and how far from an edge."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

MIDDLE = 0.5  # distance, as a share of the thing's largest, from which a pixel is in its middle
_LEAST = 4  # pixels of a thing


def told_apart(inside: np.ndarray, distance: np.ndarray, *, middle: float = MIDDLE, sure: float = 0.5) -> np.ndarray:
    """Get a number for each thing.

    Middles that hang together are one thing; what is inside goes to the middle that is reached by the way along which
    the distance falls least (a watershed). What is inside and has no middle is a thing of its own.

    Args:
        inside: `(H, W)` probability that a pixel is of a thing.
        distance: `(H, W)` to the edge of its thing, 0 to 1 in its middle.
        middle: from which distance a pixel counts as the middle.
        sure: from which probability a pixel is inside.

    Returns:
        `(H, W)` int32: 0 where there is nothing, 1 to n in the things; those of fewer than 4 pixels are left out.

    Source: Beucher and Lantuejoul 1979; on learnt distances as in Naylor et al., IEEE Trans Med Imaging 2019;38:448.
    """
    body = inside >= sure
    middles, count = _parts(body & (distance >= middle))
    parts, _ = _parts(body)
    reached = np.zeros(int(parts.max(initial=0)) + 1, bool)
    reached[np.unique(parts[middles > 0])] = True
    alone = body & ~reached[parts]
    from skimage.segmentation import watershed

    markers = np.where(alone, parts + count, middles)
    found = watershed(-np.clip(distance, 0, 1), markers, mask=body)
    numbers, codes, sizes = np.unique(found, return_inverse=True, return_counts=True)
    kept = (numbers > 0) & (sizes >= _LEAST)
    order = np.zeros(len(numbers), np.int32)
    order[kept] = np.arange(1, int(kept.sum()) + 1)
    return order[codes].reshape(found.shape)


def _parts(where: np.ndarray) -> tuple[np.ndarray, int]:
    """Number what hangs together, and count it."""
    found = np.zeros(where.shape, np.int32)
    count = ndimage.label(where, output=found)
    return found, int(count)  # type: ignore[arg-type]
