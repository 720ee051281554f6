"""Things of one class told apart, from what a net says: how sure a pixel is inside, and where its middle is."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

VALLEY = 0.6  # of the lower of two peaks of votes: a valley that is deeper parts them
_LEAST = 4  # pixels of a thing
_BLUR = 1.0  # pixels
_FEWEST = 2.0  # votes that peak in a place, once blurred


def told_apart(inside: np.ndarray, ways: np.ndarray, *, valley: float = VALLEY, sure: float = 0.5) -> np.ndarray:
    """Get a number for each thing.

    Each pixel inside votes for where its middle is. Votes that lie close together are of one thing: peaks of their
    density, parted from each other by a valley. What a thing has of pixels apart from its largest part goes to its
    neighbours.

    Args:
        inside: `(H, W)` probability that a pixel is of a thing.
        ways: `(2, H, W)` pixels down and across to the middle of its thing.
        valley: how deep it is, as a share of the lower peak, that parts two things; less parts more of them.
        sure: from which probability a pixel is inside.

    Returns:
        `(H, W)` int32: 0 where there is nothing, 1 to n in the things; those of fewer than 4 pixels are left out.

    Source: votes for middles as in Cheng et al., Panoptic-DeepLab, CVPR 2020, p. 12472, and Neven et al., CVPR 2019,
        p. 8837; watershed of their density.
    """
    from skimage.segmentation import watershed

    body = inside >= sure
    rows, columns = np.nonzero(body)
    if not len(rows):
        return np.zeros(body.shape, np.int32)
    to = [
        np.clip(np.rint(own + ways[axis][rows, columns]), 0, body.shape[axis] - 1).astype(int)
        for axis, own in enumerate((rows, columns))
    ]
    votes = np.zeros(body.shape, np.float64)
    np.add.at(votes, tuple(to), 1.0)
    density = ndimage.gaussian_filter(votes, _BLUR, mode="constant")
    basins = watershed(-density, _peaks(density, valley), mask=density > 0)
    found = np.zeros(body.shape, np.int32)
    found[rows, columns] = basins[tuple(to)]
    whole = watershed(np.zeros(body.shape, np.uint8), _largest_parts(found), mask=body)
    alone, _ = _parts(body & (whole == 0))  # what no thing reaches is one of its own
    return _numbered(np.where(alone > 0, alone + whole.max(), whole))


def _peaks(density: np.ndarray, valley: float) -> np.ndarray:
    """Number the peaks of a density that rise above the valleys around them by enough."""
    from skimage.morphology import reconstruction

    height = np.log(density + 1e-3)
    # In logarithms a share of the peak is the same step everywhere.
    raised = reconstruction(height + np.log(1 - valley), height)
    peaks = (height - raised > -np.log(1 - valley) - 1e-6) & (density >= _fewest(density))
    return _parts(peaks)[0]


def _fewest(density: np.ndarray) -> float:
    return min(_FEWEST / (2 * np.pi * _BLUR**2), float(density.max()))


def _largest_parts(found: np.ndarray) -> np.ndarray:
    """Of each number its largest connected part; the rest becomes 0."""
    parts, count = _parts_of(found)
    if not count:
        return found
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    owner = np.zeros(count + 1, np.int64)
    owner[parts.ravel()] = found.ravel()
    order = np.lexsort((-sizes[1:], owner[1:])) + 1
    first = order[np.r_[True, owner[order][1:] != owner[order][:-1]]]
    kept = np.zeros(count + 1, bool)
    kept[first] = True
    return np.where(kept[parts], found, 0)


def _parts_of(found: np.ndarray) -> tuple[np.ndarray, int]:
    """Number what hangs together and has one number."""
    from skimage.measure import label

    parts = np.asarray(label(found, background=0, connectivity=1))
    return parts, int(parts.max(initial=0))


def _numbered(found: np.ndarray) -> np.ndarray:
    numbers, codes, sizes = np.unique(found, return_inverse=True, return_counts=True)
    kept = (numbers > 0) & (sizes >= _LEAST)
    order = np.zeros(len(numbers), np.int32)
    order[kept] = np.arange(1, int(kept.sum()) + 1)
    return order[codes].reshape(found.shape)


def _parts(where: np.ndarray) -> tuple[np.ndarray, int]:
    """Number what hangs together, and count it."""
    found = np.zeros(where.shape, np.int32)
    count = ndimage.label(where, output=found, structure=np.ones((3, 3)))
    return found, int(count)  # type: ignore[arg-type]
