"""Scores of numbers: how far off, and does the order hold?"""

from __future__ import annotations

import numpy as np

from medgraft.scores.probabilities import weighted_mean
from medgraft.scores.resample import Value, as_rows, as_value, ratio


def mae(targets: np.ndarray, values: np.ndarray, *, weights: np.ndarray | None = None) -> Value:
    """Get the mean absolute error, in the target's unit (grades count steps)."""
    return weighted_mean(np.abs(_floats(values) - _floats(targets)), weights=weights)


def rmse(targets: np.ndarray, values: np.ndarray, *, weights: np.ndarray | None = None) -> Value:
    """Get the root of the mean squared error, in the target's unit."""
    square = weighted_mean((_floats(values) - _floats(targets)) ** 2, weights=weights)
    return np.sqrt(square) if isinstance(square, np.ndarray) else float(np.sqrt(square))


def bias(targets: np.ndarray, values: np.ndarray, *, weights: np.ndarray | None = None) -> Value:
    """Get the mean of value minus target, in the target's unit; positive means too high."""
    return weighted_mean(_floats(values) - _floats(targets), weights=weights)


def r2(targets: np.ndarray, values: np.ndarray, *, weights: np.ndarray | None = None) -> Value:
    """Get the share of variance explained, 1 minus residual over total; NaN when all targets are equal."""
    targets, values = _floats(targets), _floats(values)
    rows = as_rows(weights, len(targets))
    # Taken about the sample's own mean first: the difference of two large sums would lose digits.
    centred = targets - targets.mean() if len(targets) else targets
    total = rows @ centred**2 - ratio((rows @ centred) ** 2, rows.sum(axis=1))
    varied = _several(centred, rows)
    return as_value(np.where(varied, 1.0 - ratio(rows @ (values - targets) ** 2, total), np.nan), weights=weights)


def spearman(targets: np.ndarray, values: np.ndarray, *, weights: np.ndarray | None = None) -> Value:
    """Get Spearman's rank correlation, ties by mean rank; NaN when targets or values are all equal."""
    rows = as_rows(weights, len(np.asarray(targets)))
    first, second = (_ranks(_floats(part), rows) for part in (targets, values))
    total = rows.sum(axis=1, keepdims=True)
    first, second = (part - ratio((rows * part).sum(axis=1, keepdims=True), total) for part in (first, second))
    joint = np.einsum("bn,bn,bn->b", rows, first, second)
    spread = [np.einsum("bn,bn,bn->b", rows, part, part) for part in (first, second)]
    # A spread of whole and half ranks is at least 1/2 when anything differs; less is rounding.
    flat = (spread[0] < 0.25) | (spread[1] < 0.25)
    return as_value(np.where(flat, np.nan, ratio(joint, np.sqrt(spread[0] * spread[1]))), weights=weights)


def _floats(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, dtype=np.float64).reshape(-1)


def _several(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Whether a row draws at least two different values."""
    if len(values) == 0:
        return np.zeros(len(rows), dtype=bool)
    drawn = rows > 0
    return np.where(drawn, values, -np.inf).max(axis=1) > np.where(drawn, values, np.inf).min(axis=1)


def _ranks(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Mean ranks 1.. of each case in each resample, (B, n); what a case of weight 0 gets does not matter."""
    order = np.argsort(values, kind="stable")
    ranked = values[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]]) if len(ranked) else np.zeros(0, dtype=int)
    group = np.empty(len(values), dtype=np.int64)
    group[order] = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, len(values)]))
    sizes = np.add.reduceat(rows[:, order], starts, axis=1) if len(starts) else rows
    middle = np.cumsum(sizes, axis=1) - sizes + (sizes + 1) / 2
    return middle[:, group]
