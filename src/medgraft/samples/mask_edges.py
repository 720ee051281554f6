"""How far inside of its own thing a pixel is: what a net learns beside the class, so that things can be told apart."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def distances(things: np.ndarray) -> np.ndarray:
    """Get class and distance of each pixel of a map of things.

    The distance to the edge of the thing, as a share of its largest: 1 in the middle of each thing, however large it
    is, and 0 outside.

    Args:
        things: `(H, W)` numbers of things, 0 where there is none and -1 where nothing is known.

    Returns:
        `(2, H, W)` float32: 1 inside a thing, 0 outside, 255 unknown; and the distance.

    Source: Naylor et al., IEEE Trans Med Imaging 2019;38:448, who regress it in pixels.
    """
    inside = things > 0
    apart = np.zeros(things.shape, bool)  # pixels whose neighbour belongs to another thing
    for axis in (0, 1):
        one, two = (
            tuple(part if k == axis else slice(None) for k in (0, 1)) for part in (slice(None, -1), slice(1, None))
        )
        differ = things[one] != things[two]
        apart[one] |= differ
        apart[two] |= differ
    far = np.asarray(ndimage.distance_transform_edt(inside & ~apart), np.float32)
    far[inside] += 1  # the pixels along the edge are inside, too
    count = int(things.max(initial=0))
    most = np.ones(count + 1, np.float32)
    if count:
        numbers = np.arange(1, count + 1)
        most[1:] = np.maximum(ndimage.maximum(far, np.maximum(things, 0), numbers), 1)
    share = np.where(inside, far / most[np.maximum(things, 0)], 0).astype(np.float32)
    kinds = np.where(things < 0, np.float32(255), inside.astype(np.float32))
    return np.stack([kinds, share])
