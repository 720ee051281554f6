"""Scores of order: does the model rank cases with the finding above those without?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medgraft.scores.resample import Value, as_columns, as_rows, as_value, mean_known, ratio


def one_column_each(targets: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Get truth and scores as columns, one a class: booleans (n, K) and floats (n, K).

    Args:
        targets: (n,) of 0/1 with scores (n,); (n,) class numbers with scores (n, K); or (n, K) of 0/1.
        scores: (n,) or (n, K).
    """
    targets, scores = np.asarray(targets), np.asarray(scores, dtype=np.float64)
    if scores.ndim == 1:
        return (targets.reshape(-1, 1) > 0), scores.reshape(-1, 1)
    if targets.ndim == 2:
        return targets > 0, scores
    return targets[:, None] == np.arange(scores.shape[1]), scores


def auroc(targets: np.ndarray, scores: np.ndarray, *, weights: np.ndarray | None = None) -> Value:
    """Get the area under the ROC curve (Mann-Whitney; a tie counts one half).

    More than two classes: the mean of one-vs-rest over the classes that have cases with and without.
    NaN when no class has both.

    Args:
        targets: (n,) 0/1, (n,) class numbers, or (n, K) 0/1.
        scores: (n,), or (n, K); higher means more likely.
        weights: (B, n) resamples, or None.

    Source: Hanley and McNeil, Radiology 1982;143:29.

    Example:
        >>> auroc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8]))
        0.75
    """
    columns = np.atleast_2d(auroc_each(targets, scores, weights=weights))
    return as_value(mean_known(columns), weights=weights)


def auroc_each(targets: np.ndarray, scores: np.ndarray, *, weights: np.ndarray | None = None) -> np.ndarray:
    """Get one AUROC a class, one-vs-rest: (K,), or (B, K) with weights; NaN where a class lacks a side."""
    truth, columns = one_column_each(targets, scores)
    rows = as_rows(weights, len(truth))
    values = [_auroc_column(truth[:, k], columns[:, k], rows) for k in range(truth.shape[1])]
    return as_columns(np.stack(values, axis=1), weights=weights)


def auprc(targets: np.ndarray, scores: np.ndarray, *, weights: np.ndarray | None = None) -> Value:
    """Get the average precision: the sum over thresholds of precision times the step in recall.

    More than two classes: the mean of one-vs-rest over the classes that have cases. Arguments as in `auroc`.
    NaN when there is no positive case.

    Source: the step-wise sum without interpolation; Davis and Goadrich, ICML 2006, on why not to interpolate.
    """
    columns = np.atleast_2d(auprc_each(targets, scores, weights=weights))
    return as_value(mean_known(columns), weights=weights)


def auprc_each(targets: np.ndarray, scores: np.ndarray, *, weights: np.ndarray | None = None) -> np.ndarray:
    """Get one average precision a class: (K,), or (B, K) with weights; NaN where a class has no case."""
    truth, columns = one_column_each(targets, scores)
    rows = as_rows(weights, len(truth))
    values = [_auprc_column(truth[:, k], columns[:, k], rows) for k in range(truth.shape[1])]
    return as_columns(np.stack(values, axis=1), weights=weights)


def auroc_cuts(targets: np.ndarray, scores: np.ndarray, *, weights: np.ndarray | None = None) -> Value:
    """Get the mean AUROC over the cuts of ordered grades: "above k" against "k or less".

    Args:
        targets: (n,) grades 0..K-1.
        scores: (n,) one number a case that grows with the grade, such as the expected grade.
        weights: (B, n) resamples, or None.
    """
    targets = np.asarray(targets)
    cuts = np.unique(targets)[:-1]
    if len(cuts) == 0:
        return as_value(np.full(len(as_rows(weights, len(targets))), np.nan), weights=weights)
    truth = targets[:, None] > cuts
    return auroc(truth, np.repeat(np.asarray(scores, dtype=np.float64)[:, None], len(cuts), axis=1), weights=weights)


def _groups(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Order of rising scores, and where each distinct value starts in that order."""
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    return order, np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]]) if len(ranked) else np.zeros(0, dtype=int)


def tally(truth: np.ndarray, scores: np.ndarray, *, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count positives and negatives at each distinct score, rising: values (G,), two arrays (B, G)."""
    order, starts = _groups(scores)
    ranked, sign = rows[:, order], truth[order]
    plus, minus = ranked * sign, ranked * ~sign
    if len(starts) < len(order):
        plus, minus = (np.add.reduceat(part, starts, axis=1) for part in (plus, minus))
    return scores[order[starts]], plus, minus


def _auroc_column(truth: np.ndarray, scores: np.ndarray, rows: np.ndarray) -> np.ndarray:
    if len(truth) == 0:
        return np.full(len(rows), np.nan)
    _, plus, minus = tally(truth, scores, rows=rows)
    below = np.cumsum(minus, axis=1)
    positives, negatives = plus.sum(axis=1), below[:, -1].copy()
    # Twice the wins, ties once: below counts the ties once already. Whole numbers, so exact.
    below *= 2
    below -= minus
    return ratio(np.einsum("bg,bg->b", plus, below), 2 * positives * negatives)


def _auprc_column(truth: np.ndarray, scores: np.ndarray, rows: np.ndarray) -> np.ndarray:
    if len(truth) == 0:
        return np.full(len(rows), np.nan)
    _, plus, minus = tally(truth, scores, rows=rows)
    hits = np.cumsum(plus[:, ::-1], axis=1)
    called = hits + np.cumsum(minus[:, ::-1], axis=1)
    hits *= plus[:, ::-1]
    # Where nothing is called yet, nothing was hit either: 0 / 1 adds nothing.
    np.copyto(called, 1.0, where=called == 0)
    hits /= called
    return ratio(hits.sum(axis=1), plus.sum(axis=1))


@dataclass(frozen=True, eq=False)
class Curve:
    """A ROC or precision-recall curve.

    Attributes:
        x: (M,) 1 - specificity of a ROC, recall of a precision-recall curve.
        y: (M,) sensitivity, or precision.
        thresholds: (M,) "positive" means score >= threshold; the first is infinite (nothing is positive).
    """

    x: np.ndarray
    y: np.ndarray
    thresholds: np.ndarray


def roc_curve(targets: np.ndarray, scores: np.ndarray) -> Curve:
    """Get the ROC curve from (0, 0) to (1, 1), corners only; empty when a class is missing.

    Args:
        targets: (n,) 0/1.
        scores: (n,).
    """
    values, hits, alarms = _called(targets, scores)
    if len(hits) == 0 or hits[-1] == 0 or alarms[-1] == 0:
        return Curve(np.zeros(0), np.zeros(0), np.zeros(0))
    # A point on a straight line between its neighbours draws nothing.
    turns = np.flatnonzero(np.diff(hits[:-1]) * np.diff(alarms[1:]) != np.diff(hits[1:]) * np.diff(alarms[:-1])) + 1
    keep = np.r_[0, turns, len(hits) - 1]
    return Curve(alarms[keep] / alarms[-1], hits[keep] / hits[-1], values[keep])


def pr_curve(targets: np.ndarray, scores: np.ndarray) -> Curve:
    """Get the precision-recall curve by falling threshold; empty when there is no positive case.

    The first point repeats the first precision at recall 0, so that a step plot has a start.

    Args:
        targets: (n,) 0/1.
        scores: (n,).
    """
    values, hits, alarms = _called(targets, scores)
    if len(hits) == 0 or hits[-1] == 0:
        return Curve(np.zeros(0), np.zeros(0), np.zeros(0))
    precision = hits[1:] / (hits[1:] + alarms[1:])
    return Curve(hits / hits[-1], np.r_[precision[0], precision], values)


def _called(targets: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thresholds falling from infinity, and the true and false positives at each."""
    truth, scores = np.asarray(targets) > 0, np.asarray(scores, dtype=np.float64)
    if len(truth) == 0:
        return np.zeros(0), np.zeros(0), np.zeros(0)
    values, plus, minus = tally(truth, scores, rows=np.ones((1, len(truth))))
    hits, alarms = (np.r_[0.0, np.cumsum(part[0, ::-1])] for part in (plus, minus))
    return np.r_[np.inf, values[::-1]], hits, alarms
