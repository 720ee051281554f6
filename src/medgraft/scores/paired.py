"""Two models on the same cases: differences with paired intervals, and what is more than chance of several tries."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

from medgraft.scores.cases import Cases
from medgraft.scores.decisions import balanced_accuracy, confusion_matrix
from medgraft.scores.delong import paired_delong
from medgraft.scores.intervals import COUNT, bootstrap, draws
from medgraft.scores.probabilities import case_losses, log_loss
from medgraft.scores.ranking import auroc
from medgraft.scores.resample import Value, known_patients, patient_codes, ratio
from medgraft.scores.rows import two_columns
from medgraft.scores.score import Score

_LEVEL = 0.05
_RESAMPLES = 10_000  # of what is asked far out in the tail


def differences(first: Cases, second: Cases, *, seed: int, count: int = COUNT) -> dict[str, Score]:
    """Get first minus second in AUROC, balanced accuracy and log-loss, each with its paired 95 % interval.

    Args:
        first: predictions of one model, of one class a case.
        second: those of the other, on the same cases in the same order.
        seed: the run's seed.
        count: resamples of patients, the same for both models.
    """
    targets, chances = first.targets, [two_columns(one) for one in (first, second)]
    ranked = first.truth.astype(np.int64) if first.kind == "binary" else targets
    scores = [one.chance if one.kind == "binary" else one.probabilities for one in (first, second)]
    classes = max(2, len(first.classes))

    def of_ranks(_: np.ndarray, one: np.ndarray, two: np.ndarray, *, weights: np.ndarray | None) -> Value:
        return auroc(ranked, one, weights=weights) - auroc(ranked, two, weights=weights)

    def of_calls(_: np.ndarray, one: np.ndarray, two: np.ndarray, *, weights: np.ndarray | None) -> Value:
        values = [
            balanced_accuracy(confusion_matrix(targets, called, classes=classes, weights=weights))
            for called in (one, two)
        ]
        found = values[0] - values[1]
        return float(found) if weights is None else found

    def of_losses(_: np.ndarray, one: np.ndarray, two: np.ndarray, *, weights: np.ndarray | None) -> Value:
        return log_loss(targets, one, weights=weights) - log_loss(targets, two, weights=weights)

    asked = {
        "auroc": (of_ranks, scores),
        "balanced_accuracy": (of_calls, [first.called, second.called]),
        "log_loss": (of_losses, chances),
    }
    found = {
        name: _said(bootstrap(metric, (targets, *pair), patients=first.patients, seed=seed, count=count))
        for name, (metric, pair) in asked.items()
    }
    if first.kind == "binary" and patient_codes(first.patients, len(targets))[1] == len(targets):
        score = paired_delong(ranked, first=scores[0], second=scores[1]).score
        found["auroc"] = replace(score, n_patients=known_patients(first.patients, len(targets)))
    return found


def _said(score: Score) -> Score:
    return replace(score, method=f"paired difference, {score.method}")


def losses(cases: Cases) -> np.ndarray:
    """Get the log-loss of each case of one class a case, `(n,)`."""
    return case_losses(cases.targets, two_columns(cases))


def highest_mean(values: np.ndarray, *, patients: Sequence[object] | None, seed: int, tries: int = 1) -> float:
    """Get the upper end of the interval around a mean when `tries` such means are looked at: 1 - .05 / tries.

    Below zero, the mean of these paired differences is below zero by more than chance, however many were tried.
    Infinite for fewer than two patients: they settle nothing.

    Args:
        values: (n,) differences of the same cases.
        patients: n names; None resamples cases.
        seed: the run's seed.
        tries: means that are looked at (Bonferroni).
    """
    codes, people = patient_codes(patients, len(values))
    if people < 2:
        return math.inf
    # Few patients vary more than their resamples do: the ends of a t distribution, as in `intervals.wide`.
    reach = float(student.ppf(1 - _LEVEL / (2 * tries), people - 1)) * math.sqrt(people / (people - 1))
    found = draws({"mean": lambda rows: ratio(rows @ values, rows.sum(axis=1))}, codes, seed=seed, count=_RESAMPLES)[
        "mean"
    ].usable
    tail = float(norm.sf(reach))
    # Where fewer than ten resamples lie beyond it a quantile is a lottery; the normal tail goes on from there.
    far = float(values.mean() + reach * found.std()) if tail * len(found) < 10 else -math.inf
    return max(float(np.quantile(found, 1 - tail)), far)
