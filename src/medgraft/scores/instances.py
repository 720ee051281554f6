"""Single things, each with its number, in two label maps: which match, how well, and the tables of many images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from medgraft.errors import BadData
from medgraft.scores.intervals import COUNT
from medgraft.scores.joint_rows import JointRow, fill_together, means_known
from medgraft.scores.matching import LIMITS
from medgraft.scores.resample import patient_codes, ratio
from medgraft.scores.score import Score

MATCH = 0.5  # two things that each share more than half with a third would overlap each other


@dataclass(frozen=True, eq=False)
class Overlaps:
    """Which true and found things share voxels.

    Attributes:
        truths: (G,) sizes of the true things, in voxels.
        finds: (D,) sizes of the found ones.
        pairs: (P, 2) which true and which found thing share anything, places in the two.
        shared: (P,) how many voxels.
    """

    truths: np.ndarray
    finds: np.ndarray
    pairs: np.ndarray
    shared: np.ndarray

    @property
    def union(self) -> np.ndarray:
        """Get how many voxels the two things of each pair cover together, (P,)."""
        return self.truths[self.pairs[:, 0]] + self.finds[self.pairs[:, 1]] - self.shared

    @property
    def iou(self) -> np.ndarray:
        """Get intersection over union of each pair, (P,)."""
        return self.shared / self.union


@dataclass(frozen=True, eq=False)
class InstanceScores:
    """How well the things of one image were found.

    Attributes:
        key: name of the image.
        truths: how many true things it has.
        finds: how many were found.
        hits: (T,) how many pairs match at each of `LIMITS`, IoU .50 to .95.
        quality: sum of IoU of the pairs that match at .50.
        aji: aggregated Jaccard index.
        aji_plus: the same with each thing matched once.
    """

    key: str
    truths: int
    finds: int
    hits: np.ndarray
    quality: float
    aji: float
    aji_plus: float

    @property
    def ap(self) -> np.ndarray:
        """Get hits / (hits + false finds + missed) at each of `LIMITS`, (T,); 1 where nothing is true or found."""
        either = self.truths + self.finds - self.hits
        return np.divide(self.hits, either, out=np.ones(len(either)), where=either > 0)

    @property
    def rq(self) -> float:
        """Get the recognition quality, F1 at IoU .50; 1 where nothing is true or found."""
        both = self.truths + self.finds
        return 2 * float(self.hits[0]) / both if both else 1.0

    @property
    def sq(self) -> float:
        """Get the quality of outlines, the mean IoU of the pairs that match at .50; NaN where none does."""
        return self.quality / float(self.hits[0]) if self.hits[0] else math.nan

    @property
    def pq(self) -> float:
        """Get the panoptic quality, rq times sq; 1 where nothing is true or found."""
        both = self.truths + self.finds
        return 2 * self.quality / both if both else 1.0


def instance_scores(truth: np.ndarray, found: np.ndarray, *, key: str = "") -> InstanceScores:
    """Score the things of one image.

    A pair matches at a limit when its IoU is above it; from .50 on no thing can match two. Where nothing is true or
    found every score is 1; where nothing is found of what is true, or the other way round, 0.

    Args:
        truth: ([D,] H, W) whole numbers: 0 background, each thing a number of its own.
        found: the same shape.
        key: name of the image.

    Raises:
        BadData: shapes differ, or numbers are not whole or negative.

    Source: Caicedo et al., Nat Methods 2019;16:1247 (hits over all); Kirillov et al., CVPR 2019, p. 9404 (panoptic
        quality); Kumar et al., IEEE Trans Med Imaging 2017;36:1550 (AJI); Graham et al., Med Image Anal 2019;58:101563
        (AJI+).

    Example:
        >>> instance_scores(np.array([[1, 1, 0, 2]]), np.array([[5, 5, 0, 0]])).pq.__round__(3)
        0.667
    """
    these = overlaps(truth, found, key=key)
    best = these.iou[these.iou > MATCH]
    hits = np.array([np.count_nonzero(best > limit) for limit in LIMITS])
    once = matched(these, limit=0.0)
    return InstanceScores(
        key,
        len(these.truths),
        len(these.finds),
        hits,
        float(best.sum()),
        _aji(these, _best_of_each(these)),
        _aji(these, once),
    )


def overlaps(truth: np.ndarray, found: np.ndarray, *, key: str = "") -> Overlaps:
    """Count the voxels that each true and each found thing share; see `instance_scores` for arguments and errors."""
    truth, found = np.asarray(truth), np.asarray(found)
    if truth.shape != found.shape:
        raise BadData(
            f"the true map of things has the shape {truth.shape}, the found one {found.shape}", where=key or None
        )
    for word, part in (("true", truth), ("found", found)):
        if not np.issubdtype(part.dtype, np.integer):
            raise BadData(f"the {word} map of things holds {part.dtype}, not whole numbers", where=key or None)
        if part.size and part.min() < 0:
            raise BadData(f"the {word} map of things holds {part.min()}", where=key or None, do="Number things from 1.")
    some = (truth > 0) | (found > 0)
    true, called = truth[some].astype(np.int64), found[some].astype(np.int64)
    width = int(called.max(initial=0)) + 1
    codes, sizes = np.unique(true * width + called, return_counts=True)
    left, right = codes // width, codes % width
    names, sums = [], []
    for numbers in (left, right):
        name, place = np.unique(numbers, return_inverse=True)
        total = np.bincount(place, weights=sizes, minlength=len(name)).astype(np.int64)
        names.append(name[name > 0])
        sums.append(total[name > 0])
    both = (left > 0) & (right > 0)
    places = [np.searchsorted(name, numbers[both]) for name, numbers in zip(names, (left, right), strict=True)]
    return Overlaps(sums[0], sums[1], np.stack(places, axis=1), sizes[both])


def matched(these: Overlaps, *, limit: float) -> np.ndarray:
    """Get the pairs that match, each thing at most once: places in `pairs`, rising.

    Only pairs with an IoU above the limit match. From .5 on that alone leaves each thing one partner; below, the pairs
    are those with the largest sum of IoU.

    Args:
        these: from `overlaps`.
        limit: 0 to 1.
    """
    iou = these.iou
    kept = np.flatnonzero(iou > limit)
    if limit >= MATCH or not len(kept):
        return kept
    # Clumps of things that overlap are matched one by one: all at once would need a table of all by all.
    rows, columns = these.pairs[kept].T
    nodes = len(these.truths) + len(these.finds)
    links = coo_array((np.ones(len(kept)), (rows, columns + len(these.truths))), shape=(nodes, nodes))
    clumps = connected_components(links, directed=False)[1][rows]
    order = np.argsort(clumps, kind="stable")
    found = []
    for part in np.split(kept[order], np.flatnonzero(np.diff(clumps[order])) + 1):
        found.append(part if len(part) == 1 else part[_assigned(these.pairs[part], iou[part])])
    return np.sort(np.concatenate(found))


def _assigned(pairs: np.ndarray, worth: np.ndarray) -> np.ndarray:
    rows, columns = (np.unique(side, return_inverse=True)[1] for side in pairs.T)
    table = np.zeros((rows.max() + 1, columns.max() + 1))
    place = np.full(table.shape, -1)
    table[rows, columns], place[rows, columns] = worth, np.arange(len(pairs))
    chosen = place[linear_sum_assignment(table, maximize=True)]
    return chosen[chosen >= 0]


def _best_of_each(these: Overlaps) -> np.ndarray:
    """For each true thing that meets any, its pair of largest IoU; a found one may be taken more than once."""
    order = np.lexsort((-these.iou, these.pairs[:, 0]))
    first = np.unique(these.pairs[order, 0], return_index=True)[1]
    return order[first]


def _aji(these: Overlaps, taken: np.ndarray) -> float:
    """Shared over joint voxels of the pairs, to the latter all things added that no pair holds."""
    true, called = (
        np.setdiff1d(np.arange(len(sizes)), these.pairs[taken, side])
        for side, sizes in enumerate((these.truths, these.finds))
    )
    whole = these.union[taken].sum() + these.truths[true].sum() + these.finds[called].sum()
    return float(these.shared[taken].sum() / whole) if whole else 1.0


def instance_table(
    cases: Sequence[InstanceScores], *, patients: Sequence[object] | None, seed: int, count: int = COUNT
) -> dict[str, Score]:
    """Get every score of found things, by the names of report.json.

    Means over images: ap50, ap75, ap (mean over IoU .50 to .95), pq, sq, rq, aji, aji_plus, count_mae. Over the things
    of all images together: f1_50. An image without any thing, true or found, counts as 1, but for sq, which only images
    with a match have. A score that cannot be computed is there without a value and says why.

    Args:
        cases: scores of n images.
        patients: n names, or None when unknown; then images are resampled.
        seed: the run's seed; the same seed gives the same intervals.
        count: resamples.

    Raises:
        BadData: there is not one patient an image.
    """
    n = len(cases)
    if patients is not None and len(patients) != n:
        raise BadData(f"{n} images but {len(patients)} patients")
    means, counts = _columns(cases), _counts(cases)

    def joint(weights: np.ndarray) -> dict[str, np.ndarray]:
        truths, finds, hits = (weights @ part for part in counts)
        return means_known(means, weights) | {"f1_50": ratio(2 * hits, truths + finds)}

    rows = _rows(means, counts, codes=patient_codes(patients, n)[0])
    return fill_together(joint, rows, n=n, patients=patients, seed=seed, count=count)


def _counts(cases: Sequence[InstanceScores]) -> np.ndarray:
    """True things, found things and matches at IoU .50 of each image, (3, n)."""
    rows = [(case.truths, case.finds, int(case.hits[0])) for case in cases]
    return np.array(rows, dtype=np.float64).reshape(len(cases), 3).T


def _columns(cases: Sequence[InstanceScores]) -> dict[str, np.ndarray]:
    ap = np.array([case.ap for case in cases], dtype=np.float64).reshape(len(cases), len(LIMITS))
    table = {"ap50": ap[:, 0], "ap75": ap[:, 5], "ap": ap.mean(axis=1)}
    table |= {name: np.array([getattr(case, name) for case in cases], dtype=np.float64) for name in _OF_IMAGES}
    return table | {"count_mae": np.array([abs(case.finds - case.truths) for case in cases], dtype=np.float64)}


_OF_IMAGES = {
    "pq": "sum of IoU of matches over the mean of true and found things",
    "sq": "mean IoU of the matches of an image",
    "rq": "F1 of an image at IoU .50",
    "aji": "each true thing with the found one of the largest IoU",
    "aji_plus": "each thing matched once",
}


def _rows(means: dict[str, np.ndarray], counts: np.ndarray, *, codes: np.ndarray) -> dict[str, JointRow]:
    truths, finds, hits = counts
    n, empty = len(codes), (truths + finds) == 0
    none = f"; {int(empty.sum())} of {n} images hold no thing, true or found, and count as 1" if empty.any() else ""
    over = "hits over hits, false finds and missed things"
    notes = {"ap50": f"{over}, IoU .50", "ap75": f"{over}, IoU .75", "ap": f"{over}, mean over IoU .50 to .95"}
    rows = {
        name: JointRow(f"mean over images; {note}{none}", "there are no images", len(np.unique(codes)))
        for name, note in (notes | _OF_IMAGES).items()
    }
    some = hits > 0
    left = f"; {int((~some).sum())} of {n} images left out: no match" if not some.all() else ""
    rows["sq"] = JointRow(
        f"mean over images; {_OF_IMAGES['sq']}{left}", "no thing matches", len(np.unique(codes[some])), some
    )
    people = len(np.unique(codes[~empty]))
    rows["f1_50"] = JointRow("things of all images together, IoU .50", "no thing is true or found", people, ~empty)
    rows["count_mae"] = JointRow("mean over images; found things too many or too few", "there are no images")
    return rows
