"""Scores of probabilities: are they right, not only in the right order?"""

from __future__ import annotations

import numpy as np

from medgraft.scores.ranking import one_column_each
from medgraft.scores.resample import Value, as_rows, as_value, ratio

BINS = 15
_SMALLEST = 1e-15  # a probability of 0 for what happened would cost infinitely much


def brier(targets: np.ndarray, probabilities: np.ndarray, *, weights: np.ndarray | None = None) -> Value:
    """Get the Brier score, 0 is best.

    With (n,) probabilities of the positive class: the mean squared error, 0..1.
    With (n, K) and class numbers: the squared error summed over the classes, 0..2 (Brier's own definition).
    With (n, K) and 0/1 columns (several labels a case): the mean over labels, 0..1.

    Source: Brier, Mon Weather Rev 1950;78:1.
    """
    truth, columns = one_column_each(targets, probabilities)
    errors = (columns - truth) ** 2
    losses = errors.mean(axis=1) if np.ndim(targets) == 2 else errors.sum(axis=1)
    return weighted_mean(losses, weights=weights)


def log_loss(targets: np.ndarray, probabilities: np.ndarray, *, weights: np.ndarray | None = None) -> Value:
    """Get the mean negative log-likelihood in nats; probabilities are kept above 1e-15. Shapes as in `brier`."""
    return weighted_mean(case_losses(targets, probabilities), weights=weights)


def case_losses(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Get the negative log-likelihood of each case, (n,), in nats; the mean over labels where there are several."""
    truth, columns = one_column_each(targets, probabilities)
    of_truth = np.where(truth, columns, 1.0 - columns)
    if np.ndim(probabilities) == 2 and np.ndim(targets) == 1:
        of_truth = columns[np.arange(len(columns)), np.asarray(targets, dtype=np.int64)][:, None]
    return -np.log(np.clip(of_truth, _SMALLEST, 1.0)).mean(axis=1)


def weighted_mean(losses: np.ndarray, *, weights: np.ndarray | None) -> Value:
    """Average (n,) losses over cases: one number, or (B,) with rows of weights."""
    rows = as_rows(weights, len(losses))
    return as_value(ratio(rows @ losses, rows.sum(axis=1)), weights=weights)


def bin_of(confidences: np.ndarray, *, bins: int = BINS) -> np.ndarray:
    """Get each confidence's bin 0..bins-1: equal widths over 0..1, lower edge inside, 1.0 in the last."""
    edges = np.linspace(0.0, 1.0, bins + 1)
    return np.clip(np.searchsorted(edges, confidences, side="right") - 1, 0, bins - 1)


def top_label(targets: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Get what is plotted and averaged in a reliability diagram: confidence (n,) and whether it was right (n,).

    With (n,) probabilities: the positive class's probability, and whether the case is positive.
    With (n, K): the largest probability, and whether that class is the true one.
    """
    probabilities = np.asarray(probabilities, dtype=np.float64)
    if probabilities.ndim == 1:
        return probabilities, np.asarray(targets) > 0
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == np.asarray(targets)


def ece(
    targets: np.ndarray,
    probabilities: np.ndarray,
    *,
    bins: int = BINS,
    weights: np.ndarray | None = None,
    changes: bool = False,
) -> Value:
    """Get the expected calibration error: the mean gap between confidence and truth over equal-width bins.

    Each bin weighs as many cases as it holds. With (n,) probabilities the positive class's probability is
    judged; with (n, K) and class numbers the largest (top-label); with (n, K) and 0/1 columns each label
    alone, then their mean. Chance only adds to it: a perfectly calibrated model has an error above 0 that
    shrinks with the square root of n.

    Args:
        targets: see above.
        probabilities: see above.
        bins: how many.
        weights: (B, n) resamples, or None.
        changes: give how much the signed gaps of a resample differ from those of all cases, summed alike.

    Source: Guo et al., ICML 2017 (top-label, 15 bins); Naeini et al., AAAI 2015.
    """
    if np.ndim(targets) == 2:
        return ece_classwise(targets, probabilities, bins=bins, weights=weights, changes=changes)
    confidences, right = top_label(targets, probabilities)
    return as_value(_gap(confidences, right, bins, as_rows(weights, len(right)), changes), weights=weights)


def ece_classwise(
    targets: np.ndarray,
    probabilities: np.ndarray,
    *,
    bins: int = BINS,
    weights: np.ndarray | None = None,
    changes: bool = False,
) -> Value:
    """Get the calibration error of each class's probability, one-vs-rest, averaged over classes.

    Source: Kull et al., NeurIPS 2019 (classwise-ECE). Arguments as in `ece`.
    """
    truth, columns = one_column_each(targets, probabilities)
    rows = as_rows(weights, len(truth))
    gaps = [_gap(columns[:, k], truth[:, k], bins, rows, changes) for k in range(truth.shape[1])]
    return as_value(np.mean(gaps, axis=0), weights=weights)


def _gap(confidences: np.ndarray, right: np.ndarray, bins: int, rows: np.ndarray, changes: bool) -> np.ndarray:
    place = np.zeros((len(confidences), bins))
    # Sum of confidences minus sum of hits of a bin: its signed gap times its count.
    place[np.arange(len(confidences)), bin_of(confidences, bins=bins)] = confidences - right
    gaps = ratio(rows @ place, rows.sum(axis=1, keepdims=True))
    if changes:
        gaps -= place.mean(axis=0)
    return np.abs(gaps).sum(axis=1)
