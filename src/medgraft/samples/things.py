"""Things of one class told apart, from what a net says of a pixel: inside, where the middle is, at a seam."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

VALLEY = 0.6  # of the lower of two peaks of votes: a valley that is deeper parts them
SEAM = 0.5  # from which probability a pixel is at a seam between two things
LEAST = 4.0  # pixels of a thing
SURE = 0.0  # mean probability of the pixels of a thing
_SHARE = 0.1  # of the largest part, that another part between seams has at least if it is a thing
_BLUR = 1.0  # pixels
_SURE = 0.5  # from which probability a pixel is inside
_FEWEST = 2.0  # votes that peak in a place, once blurred


@dataclass(frozen=True)
class Parting:
    """What it takes to part two things, and to be one; chosen on validation images.

    Attributes:
        valley: how deep a valley of votes is, as a share of the lower peak, that parts two things; less parts more.
        seam: from which probability on a pixel is at a seam; less parts more, and 1 leaves it to the votes.
        least: network pixels that a thing has; what is smaller is a speck.
        sure: mean probability of a thing's pixels; what is less sure is none.
    """

    valley: float = VALLEY
    seam: float = SEAM
    least: float = LEAST
    sure: float = SURE

    def on(self, share: float) -> Parting:
        """Get the same on another grid, on which a network pixel is so many pixels."""
        return replace(self, least=self.least * share)


def told_apart(
    inside: np.ndarray,
    ways: np.ndarray,
    *,
    seams: np.ndarray | None = None,
    parting: Parting | None = None,
) -> np.ndarray:
    """Get a number for each thing.

    Each pixel inside votes for where its middle is. Votes that lie close together are of one thing: peaks of their
    density, parted from each other by a valley. What a thing has of pixels apart from its largest part goes to its
    neighbours. Where the votes are for one thing and a seam runs through it, it is two: a net that is not sure puts
    the middle of two things between them, and still sees that something parts them.

    Args:
        inside: `(H, W)` probability that a pixel is of a thing; of a half and more it is.
        ways: `(2, H, W)` pixels down and across to the middle of its thing.
        seams: `(H, W)` probability that a pixel is where two things meet, or None for votes alone.
        parting: what it takes to part two things; as its class says when None. Its pixels are those of the maps.

    Returns:
        `(H, W)` int32: 0 where there is nothing, 1 to n in the things.

    Source: votes for middles as in Cheng et al., Panoptic-DeepLab, CVPR 2020, p. 12472, and Neven et al., CVPR 2019,
        p. 8837; watershed of their density; seams as in the borders of Caicedo et al., Cytometry A 2019.
    """
    parting = parting or Parting()
    found = by_votes(inside, ways, valley=parting.valley)
    if seams is not None:
        found = cut(found, seams, seam=parting.seam)
    if parting.sure > SURE:
        found = _numbered(np.where(np.r_[0.0, certainties(found, inside)][found] < parting.sure, 0, found))
    return found if parting.least <= LEAST else _numbered(found, least=parting.least)


def certainties(things: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Get the mean probability of the pixels of each thing, `(n,)`.

    Args:
        things: `(H, W)` numbers of things, 1 to n.
        inside: `(H, W)` probability that a pixel is of a thing.
    """
    counts = np.bincount(things.ravel(), minlength=1)[1:]
    return np.bincount(things.ravel(), weights=inside.ravel(), minlength=1)[1:] / np.maximum(counts, 1)


def by_votes(inside: np.ndarray, ways: np.ndarray, *, valley: float = VALLEY) -> np.ndarray:
    """Get a number for each thing from votes alone; see `told_apart`."""
    from skimage.segmentation import watershed

    body = inside >= _SURE
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


def cut(things: np.ndarray, seams: np.ndarray, *, seam: float = SEAM) -> np.ndarray:
    """Part the things that seams run through; a seam's own pixels go to the pieces beside it, up to its ridge.

    Args:
        things: `(H, W)` numbers of things.
        seams: `(H, W)` probability that a pixel is where two things meet.
        seam: from which probability on it is; 1 parts nothing.
    """
    at = (things > 0) & (seams >= seam)
    if seam >= 1 or not at.any():
        return things
    pieces, count = _parts_of(np.where(at, 0, things))
    if not count:
        return things
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    owner = np.zeros(count + 1, np.int64)
    owner[pieces.ravel()] = np.where(pieces > 0, things, 0).ravel()
    largest = np.zeros(int(things.max()) + 1, np.int64)
    np.maximum.at(largest, owner, np.where(owner > 0, sizes, 0))
    kept = (owner > 0) & (sizes >= LEAST) & (sizes >= _SHARE * largest[owner])
    parted = np.bincount(owner[kept], minlength=len(largest)) > 1
    parted &= np.bincount(things[at], minlength=len(largest)) > 0  # of others the pieces hung together at corners
    return _numbered(_filled(things, np.where(kept[pieces], pieces, 0), seams, np.flatnonzero(parted)))


def _filled(things: np.ndarray, pieces: np.ndarray, seams: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Number the pieces of some things after all others, each grown within its own thing."""
    from skimage.segmentation import watershed

    found, last = things.copy(), int(things.max())
    boxes = ndimage.find_objects(things)
    for number in numbers.tolist():
        box = boxes[number - 1]
        own = things[box] == number
        grown = watershed(seams[box], np.where(own, pieces[box], 0), mask=own)
        found[box] = np.where(grown > 0, grown + last, found[box])
    return found


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


def _numbered(found: np.ndarray, *, least: float = LEAST) -> np.ndarray:
    numbers, codes, sizes = np.unique(found, return_inverse=True, return_counts=True)
    kept = (numbers > 0) & (sizes >= least)
    order = np.zeros(len(numbers), np.int32)
    order[kept] = np.arange(1, int(kept.sum()) + 1)
    return order[codes].reshape(found.shape)


def _parts(where: np.ndarray) -> tuple[np.ndarray, int]:
    """Number what hangs together, and count it."""
    found = np.zeros(where.shape, np.int32)
    count = ndimage.label(where, output=found, structure=np.ones((3, 3)))
    return found, int(count)  # type: ignore[arg-type]
