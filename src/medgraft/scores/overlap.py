"""How far boxes agree, in planes and in volumes, and the greedy matching that COCO uses."""

from __future__ import annotations

import numpy as np


def sizes(corners: np.ndarray) -> np.ndarray:
    """Get area or volume of boxes (M, 4) or (M, 6): (M,)."""
    half = corners.shape[1] // 2
    return np.prod(corners[:, half:] - corners[:, :half], axis=1)


def iou(found: np.ndarray, truth: np.ndarray, *, crowd: np.ndarray | None = None) -> np.ndarray:
    """Get intersection over union of each pair: (D, G); 0 for boxes without size.

    Args:
        found: (D, 4) or (D, 6).
        truth: (G, 4) or (G, 6).
        crowd: (G,) booleans; of these it is the share of the found box that lies inside, as in COCO.

    Example:
        >>> iou(np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 0, 3, 2]])).round(3).tolist()
        [[0.333]]
    """
    half = truth.shape[1] // 2
    low = np.maximum(found[:, None, :half], truth[None, :, :half])
    high = np.minimum(found[:, None, half:], truth[None, :, half:])
    shared = np.prod(np.clip(high - low, 0.0, None), axis=2)
    own = sizes(found)[:, None]
    union = own + sizes(truth) - shared
    whole = union if crowd is None else np.where(crowd, own, union)
    return np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)


def nearness(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Get how near the centre of each found box is to that of each true one: (D, G).

    1 at the centre, 0 on the edge, negative outside of the true box; along the axis where it is farthest off, in half
    widths of the true box.
    """
    half = truth.shape[1] // 2
    centre, wanted = ((part[:, :half] + part[:, half:]) / 2 for part in (found, truth))
    reach = (truth[:, half:] - truth[:, :half]) / 2
    off = np.abs(centre[:, None] - wanted)
    # In a box without size only its very centre lies.
    far = np.divide(off, reach[None], out=np.where(off > 0, np.inf, 0.0), where=reach[None] > 0)
    return 1.0 - far.max(axis=2)


def greedy(agreement: np.ndarray, limits: np.ndarray, *, ignored: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Match found boxes of one image and class, one after the other, each to the best truth that is left.

    The rule of COCO: a truth that counts goes before an ignored one; of equally good ones the last is taken; a crowd
    may be matched any number of times.

    Args:
        agreement: (D, G), rows by falling score of the found box.
        limits: (T,) least agreement of a match.
        ignored: (G,) booleans.
        crowd: (G,) booleans.

    Returns:
        (T, D) number of the truth, -1 for none.

    Source: Lin et al., Microsoft COCO, ECCV 2014; the order is that of COCOeval.evaluateImg.
    """
    count, truths = agreement.shape
    limits = np.minimum(limits, 1 - 1e-10)
    match = np.full((len(limits), count), -1)
    if truths == 0:
        return match
    free = np.ones((len(limits), truths), dtype=bool)
    each = np.arange(len(limits))
    for place in np.flatnonzero((agreement >= limits.min()).any(axis=1)):
        row = agreement[place]
        open_ = free & (row >= limits[:, None])
        counts = open_ & ~ignored
        open_ = np.where(counts.any(axis=1)[:, None], counts, open_)
        best = truths - 1 - np.where(open_, row, -np.inf)[:, ::-1].argmax(axis=1)
        some = open_[each, best]
        match[some, place] = best[some]
        free[each[some], best[some]] = crowd[best[some]]
    return match
