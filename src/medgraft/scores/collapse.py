"""Intervals where resampling shows no spread: perfect order, no error, all right.

Every resample of a perfect result is perfect, so the bootstrap would claim a width of 0. What a perfect
result of few patients does not rule out is asked instead. Patients count, not images: images of a patient
may stand or fall together, so these intervals are rather too wide.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from medgraft.scores.decisions import confusion_matrix
from medgraft.scores.delong import newcombe
from medgraft.scores.intervals import clopper_pearson, wilson
from medgraft.scores.ranking import auprc_each, auroc_each

Ends = tuple[float, float, str]


def exact_share(right: np.ndarray, *, codes: np.ndarray) -> Ends:
    """Get the interval of a share without spread, one trial a patient: see `flat_share`.

    Args:
        right: (m,) booleans.
        codes: (m,) patient numbers.
    """
    return flat_share(float(right.mean()), people=len(np.unique(codes)))


def flat_share(value: float, *, people: int) -> Ends:
    """Get the interval of a share, or of what is read as one, without spread: exact where it is 0 or 1.

    Where each patient has the same share of right cases, resamples agree on a value between; then it is Wilson's.

    Args:
        value: 0..1.
        people: how many trials it rests on, one a patient.
    """
    if 0.0 < value < 1.0:
        low, high = wilson(value * people, people)
        return low, high, f"proportion, Wilson over {people} patients (resamples show no spread)"
    low, high = clopper_pearson(people * value, people)
    return low, high, f"proportion, Clopper-Pearson over {people} patients"


def flat_auroc(truth: np.ndarray, columns: np.ndarray, *, codes: np.ndarray) -> Ends:
    """Get the interval of an AUROC (mean over columns) without spread, by Newcombe over patients.

    The ends of the classes are averaged, as if all were off in the same direction.

    Args:
        truth: (n, K) booleans.
        columns: (n, K) scores.
        codes: (n,) patient numbers.
    """
    ends = []
    for k, area in enumerate(auroc_each(truth, columns)):
        if np.isfinite(area):
            with_it, without = (len(np.unique(codes[side])) for side in (truth[:, k], ~truth[:, k]))
            ends.append(newcombe(float(area), positives=with_it, negatives=without))
    low, high = np.mean(ends, axis=0)
    return float(low), float(high), "AUROC, Newcombe's interval over patients (resamples show no spread)"


def flat_auprc(truth: np.ndarray, columns: np.ndarray, *, codes: np.ndarray) -> Ends:
    """Get the interval of an average precision (mean over columns) without spread.

    The value is treated as a share of the patients with the finding: Boyd, Eng and Page, ECML 2013.
    Arguments as in `flat_auroc`.
    """
    ends = []
    for k, value in enumerate(auprc_each(truth, columns)):
        if np.isfinite(value):
            people = len(np.unique(codes[truth[:, k]]))
            ends.append(wilson(float(value) * people, people))
    low, high = np.mean(ends, axis=0)
    return float(low), float(high), "average precision, Wilson over patients with the finding (no spread in resamples)"


def no_error(
    metric: Callable[[np.ndarray], np.ndarray], targets: np.ndarray, *, called: np.ndarray, codes: np.ndarray
) -> Ends | None:
    """Get the interval of a score of decisions when no case was called wrong; None when some were.

    Low end: the exact binomial bound on the errors of one class (its patients are the trials), put where
    it hurts the score most: every class in turn, called as every other.

    Args:
        metric: (K, K) counts -> score, largest without errors.
        targets: (n,) class numbers.
        called: (n,) class numbers.
        codes: (n,) patient numbers.
    """
    targets, called = np.asarray(targets, dtype=np.int64), np.asarray(called, dtype=np.int64)
    if (targets != called).any():
        return None
    classes = max(2, int(targets.max(initial=0)) + 1)
    matrix = confusion_matrix(targets, called, classes=classes)
    best = float(metric(matrix))
    low = best
    present = np.unique(targets)
    for true in present:
        missed = matrix[true, true] * (1 - clopper_pearson(*([len(np.unique(codes[targets == true]))] * 2))[0])
        for other in present[present != true]:
            worse = matrix.copy()
            worse[true, true] -= missed
            worse[true, other] += missed
            value = float(metric(worse))
            low = min(low, value) if np.isfinite(value) else low
    return low, best, "exact bound on the errors of one class over its patients (no case was called wrong)"
