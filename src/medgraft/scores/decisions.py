"""Scores of decisions: what was called against what is true, all from one confusion matrix."""

from __future__ import annotations

import numpy as np

from medgraft.scores.resample import Value, as_rows, as_value, mean_known, ratio


def confusion_matrix(
    targets: np.ndarray, predicted: np.ndarray, *, classes: int, weights: np.ndarray | None = None
) -> np.ndarray:
    """Count cases by (true class, called class): (K, K), or (B, K, K) with rows of weights.

    Args:
        targets: (n,) class numbers 0..K-1.
        predicted: (n,) class numbers 0..K-1.
        classes: K.
        weights: (B, n) resamples, or None.
    """
    rows = as_rows(weights, len(np.asarray(targets)))
    cell = np.asarray(targets, dtype=np.int64) * classes + np.asarray(predicted, dtype=np.int64)
    places = cell + (np.arange(len(rows)) * classes * classes)[:, None]
    counts = np.bincount(places.ravel(), weights=rows.ravel(), minlength=len(rows) * classes * classes)
    matrix = counts.reshape(len(rows), classes, classes)
    return matrix[0] if weights is None or np.ndim(weights) == 1 else matrix


def accuracy(matrix: np.ndarray) -> np.ndarray:
    """Get the share of cases called right, from (..., K, K) counts."""
    return ratio(np.trace(matrix, axis1=-2, axis2=-1), matrix.sum(axis=(-2, -1)))


def recall_each(matrix: np.ndarray) -> np.ndarray:
    """Get the share of each class's cases that were called so: (..., K); NaN for a class without cases."""
    return ratio(np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(axis=-1))


def precision_each(matrix: np.ndarray) -> np.ndarray:
    """Get the share of each class's calls that were right: (..., K); NaN for a class never called."""
    return ratio(np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(axis=-2))


def f1_each(matrix: np.ndarray) -> np.ndarray:
    """Get F1 of each class: (..., K); NaN for a class that is neither true nor called."""
    right = np.diagonal(matrix, axis1=-2, axis2=-1)
    return ratio(2 * right, matrix.sum(axis=-1) + matrix.sum(axis=-2))


def balanced_accuracy(matrix: np.ndarray) -> np.ndarray:
    """Get the mean recall over the classes that have cases; NaN when only one class has."""
    several = (matrix.sum(axis=-1) > 0).sum(axis=-1) > 1
    return np.where(several, mean_known(recall_each(matrix)), np.nan)


def f1(matrix: np.ndarray, *, positive: int | None = None) -> np.ndarray:
    """Get F1 of the positive class, or the mean over classes that are true or called.

    Args:
        matrix: (..., K, K).
        positive: number of the positive class; None for the mean.
    """
    each = f1_each(matrix)
    return mean_known(each) if positive is None else each[..., positive]


def mcc(matrix: np.ndarray) -> np.ndarray:
    """Get Matthews' correlation for K classes, -1..1.

    All cases called alike is 0 (no skill); all cases truly alike is NaN (nothing to tell apart).

    Source: Gorodkin, Comput Biol Chem 2004;28:367.
    """
    total = matrix.sum(axis=(-2, -1))
    true, called = matrix.sum(axis=-1), matrix.sum(axis=-2)
    top = np.trace(matrix, axis1=-2, axis2=-1) * total - (true * called).sum(axis=-1)
    spread_true, spread_called = (total**2 - (part**2).sum(axis=-1) for part in (true, called))
    value = ratio(top, np.sqrt(spread_true * spread_called))
    return np.where((spread_true > 0) & (spread_called == 0), 0.0, value)


def quadratic_kappa(matrix: np.ndarray) -> np.ndarray:
    """Get Cohen's kappa with quadratic weights, for ordered grades; NaN when all is one grade.

    Source: Cohen, Psychol Bull 1968;70:213.
    """
    grades = np.arange(matrix.shape[-1])
    cost = (grades[:, None] - grades) ** 2
    true, called = matrix.sum(axis=-1), matrix.sum(axis=-2)
    seen = (cost * matrix).sum(axis=(-2, -1)) * matrix.sum(axis=(-2, -1))
    chance = np.einsum("...i,ij,...j->...", true, cost.astype(np.float64), called)
    return 1.0 - ratio(seen, chance)


def counts(truth: np.ndarray, called: np.ndarray, *, weights: np.ndarray | None = None) -> np.ndarray:
    """Count true positives, false negatives, true negatives, false positives: (4,), or (B, 4).

    Args:
        truth: (n,) booleans.
        called: (n,) booleans.
        weights: (B, n) resamples, or None.
    """
    truth, called = np.asarray(truth, dtype=bool), np.asarray(called, dtype=bool)
    marks = np.stack([truth & called, truth & ~called, ~truth & ~called, ~truth & called], axis=1)
    found = as_rows(weights, len(truth)) @ marks.astype(np.float64)
    return found[0] if weights is None or np.ndim(weights) == 1 else found


def sensitivity(truth: np.ndarray, called: np.ndarray, *, weights: np.ndarray | None = None) -> Value:
    """Get the share of positive cases called positive; NaN without positive cases."""
    found = np.atleast_2d(counts(truth, called, weights=weights))
    return as_value(ratio(found[:, 0], found[:, 0] + found[:, 1]), weights=weights)


def specificity(truth: np.ndarray, called: np.ndarray, *, weights: np.ndarray | None = None) -> Value:
    """Get the share of negative cases called negative; NaN without negative cases."""
    found = np.atleast_2d(counts(truth, called, weights=weights))
    return as_value(ratio(found[:, 2], found[:, 2] + found[:, 3]), weights=weights)


def ppv(truth: np.ndarray, called: np.ndarray, *, weights: np.ndarray | None = None) -> Value:
    """Get the share of positive calls that are right, at the data's own prevalence; NaN without such calls."""
    found = np.atleast_2d(counts(truth, called, weights=weights))
    return as_value(ratio(found[:, 0], found[:, 0] + found[:, 3]), weights=weights)


def npv(truth: np.ndarray, called: np.ndarray, *, weights: np.ndarray | None = None) -> Value:
    """Get the share of negative calls that are right, at the data's own prevalence; NaN without such calls."""
    found = np.atleast_2d(counts(truth, called, weights=weights))
    return as_value(ratio(found[:, 2], found[:, 2] + found[:, 1]), weights=weights)


def ppv_at(sensitivity: Value, specificity: Value, *, prevalence: float) -> np.ndarray:
    """Get the positive predictive value where `prevalence` of the people have the finding (Bayes).

    Example:
        >>> round(float(ppv_at(0.9, 0.9, prevalence=0.01)), 4)
        0.0833
    """
    right = np.asarray(sensitivity) * prevalence
    return ratio(right, right + (1 - np.asarray(specificity)) * (1 - prevalence))


def npv_at(sensitivity: Value, specificity: Value, *, prevalence: float) -> np.ndarray:
    """Get the negative predictive value where `prevalence` of the people have the finding (Bayes)."""
    right = np.asarray(specificity) * (1 - prevalence)
    return ratio(right, right + (1 - np.asarray(sensitivity)) * prevalence)
