"""Average precision and recall as COCO accumulates them, on thousands of weighted resamples at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medgraft.scores.matching import SIZES, Matches
from medgraft.scores.resample import in_blocks, mean_known

RECALLS = np.linspace(0.0, 1.0, 101)  # where the envelope of precision is read


def average_precision(matches: Matches, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Get average precision and the largest recall of one class: (A, T, B) each; NaN where no truth counts.

    With weights 1 both equal those of `COCOeval.accumulate`; with whole weights those of the images repeated so often.
    Finds of one image that share a score keep their order, which in repeated images alternates.

    Args:
        matches: of the class; A ranges of size, T limits of IoU.
        weights: (B, n).
    """
    parts = []
    # Found boxes along the first axis, resamples along the second: every step then runs over whole rows of memory.
    for rows in in_blocks(weights, width=len(matches.images)):
        drawn = np.ascontiguousarray(rows.T)[matches.images]
        parts.append([_of_range(matches, drawn, a, rows @ truths) for a, truths in enumerate(matches.truths)])
    whole = np.concatenate([np.array(part) for part in parts], axis=-1)
    return whole[:, :, 0], whole[:, :, 1]


def _of_range(matches: Matches, drawn: np.ndarray, a: int, truths: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Precision and recall at each limit, (B,) each."""
    found = []
    seen: dict[bytes, np.ndarray] = {}
    for hits, alarms in zip(matches.hits[a], matches.alarms[a], strict=True):
        kept = hits | alarms
        # Limits mostly keep the same boxes, so that the sum over all of them is done once.
        called = seen.setdefault(kept.tobytes(), np.zeros(0))
        if len(called) == 0:
            called = seen[kept.tobytes()] = np.cumsum(drawn if kept.all() else drawn[kept], axis=0)
        found.append(_area(drawn[hits], called[np.flatnonzero(hits[kept])], truths))
    return found


def _area(right: np.ndarray, called: np.ndarray, truths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Area under the envelope and the last recall.

    Between two hits precision only falls, so that the envelope is that of the hits alone; each of the recalls is read
    at the first hit that reaches it.

    Args:
        right: (P, B) weight of each hit, by falling score.
        called: (P, B) weight of all that was called down to each hit.
        truths: (B,).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        if len(right) == 0:
            nothing = np.where(truths > 0, 0.0, np.nan)
            return nothing, nothing
        hits = np.cumsum(right, axis=0)
        recall = hits / truths
    precision = hits / (called + np.spacing(1))
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    # Where no truth was drawn the recall is no number; what is read there is thrown away below.
    reached = np.searchsorted(RECALLS, recall.ravel(), side="right").reshape(recall.shape)
    read = np.diff(reached, axis=0, prepend=0)
    area = np.einsum("pb,pb->b", envelope, read) / len(RECALLS)
    return np.where(truths > 0, area, np.nan), np.where(truths > 0, recall[-1], np.nan)


def precision_scores(matches: Sequence[Matches], weights: np.ndarray) -> dict[str, np.ndarray]:
    """Get COCO's scores, means over the classes that have truth: name -> (B,).

    Names: map, map50, map75, recall100, and where ranges of size were matched map_small, map_medium, map_large.

    Args:
        matches: K of `match_boxes`.
        weights: (B, n).
    """
    areas, recalls = zip(*(average_precision(each, weights) for each in matches), strict=True)
    area, recall = np.stack(areas, axis=-1), np.stack(recalls, axis=-1)
    found = {
        "map": mean_known(area[0].mean(axis=0)),
        "map50": mean_known(area[0, 0]),
        "map75": mean_known(area[0, 5]),
        "recall100": mean_known(recall[0].mean(axis=0)),
    }
    names = list(SIZES)[: len(area) - 1]
    return found | {f"map_{name}": mean_known(area[a].mean(axis=0)) for a, name in enumerate(names, 1)}
