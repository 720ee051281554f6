"""Sets of answers that hold the true one in a stated share of cases: split conformal prediction.

A class belongs to the set of a case when its probability is not smaller than
most true answers of that class had on calibration cases, cases that the model
did not learn from. The share holds for each class on its own, so that a rare
class is not left out for the sake of a common one.

Sources: Vovk, "Conditional validity of inductive conformal predictors", ACML
2012, arXiv:1209.2673, for one limit a class; Sadinle, Lei, Wasserman, "Least
ambiguous set-valued classifiers", JASA 2019, arXiv:1609.00451, for the score.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from medgraft.scores.cases import Cases
from medgraft.scores.intervals import bootstrap, proportion
from medgraft.scores.probabilities import weighted_mean
from medgraft.scores.score import Score


@dataclass(frozen=True)
class Conformal:
    """What calibration cases say of the sets.

    Attributes:
        kind: of the targets, as in `Cases`.
        coverage: share of cases whose set is to hold the true answer.
        limits: K; a class is in the set when one less its probability is not above it. Of numbers one: half of the
            width of the interval, infinite where there are too few cases.
        counts: K; calibration cases of each class. Of numbers one.
        pooled: K; True where a class had too few cases of its own, so that its limit is that of all classes together.
    """

    kind: str
    coverage: float
    limits: tuple[float, ...]
    counts: tuple[int, ...]
    pooled: tuple[bool, ...]

    def to_dict(self) -> dict[str, Any]:
        """Get plain JSON values; a limit that is infinite is null."""
        values = asdict(self)
        values["limits"] = [limit if np.isfinite(limit) else None for limit in self.limits]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Conformal:
        """Read what `to_dict` wrote."""
        return cls(
            kind=str(values["kind"]),
            coverage=float(values["coverage"]),
            limits=tuple(np.inf if limit is None else float(limit) for limit in values["limits"]),
            counts=tuple(int(count) for count in values["counts"]),
            pooled=tuple(bool(pooled) for pooled in values["pooled"]),
        )

    def members(self, probabilities: np.ndarray) -> np.ndarray:
        """Get which classes are in the set of each case: `(N, K)` booleans of `(N, K)` probabilities.

        A set may be empty: then no class fits as well as most cases of that class did. Sets of grades have no gaps.
        """
        inside = 1.0 - np.asarray(probabilities, dtype=np.float64) <= np.asarray(self.limits)
        if self.kind == "ordinal":
            from_below = np.maximum.accumulate(inside, axis=1)
            return from_below & np.maximum.accumulate(inside[:, ::-1], axis=1)[:, ::-1]
        return inside

    def interval(self, values: np.ndarray) -> np.ndarray:
        """Get the lower and upper ends `(N, 2)` around predicted numbers `(N,)`."""
        values = np.asarray(values, dtype=np.float64)
        return np.stack([values - self.limits[0], values + self.limits[0]], axis=1)


def calibrate(cases: Cases, *, coverage: float) -> Conformal:
    """Get the limits from calibration cases.

    Between the two cases that a limit lies between it is interpolated, so that the coverage is the stated one on
    average over calibrations, and not above it by up to a case.

    Args:
        cases: truth and predictions of cases that the model did not learn from.
        coverage: from .5 to 1, both left out.

    Raises:
        ValueError: another coverage.
    """
    if not 0.5 < coverage < 1:
        raise ValueError(f"a coverage lies between .5 and 1, and not at {coverage}")
    own = _scores(cases)
    counts = tuple(len(scores) for scores in own)
    together = _limit(np.concatenate(own) if own else np.zeros(0), coverage)
    found = [_limit(scores, coverage) for scores in own]
    limits = tuple(together if limit is None else limit for limit in found)
    whole = np.inf if cases.kind == "number" else 1.0  # everything is in the set
    return Conformal(
        kind=cases.kind,
        coverage=coverage,
        limits=tuple(whole if limit is None else limit for limit in limits),
        counts=counts,
        pooled=tuple(limit is None for limit in found),
    )


def _limit(scores: np.ndarray, coverage: float) -> float | None:
    """Get the interpolated order statistic; None where there are too few cases for one."""
    rank = coverage * (len(scores) + 1)
    if not 1 <= rank <= len(scores):
        return None
    ordered = np.sort(scores)
    below = int(rank)
    after = ordered[min(below, len(ordered) - 1)]
    return float(ordered[below - 1] + (rank - below) * (after - ordered[below - 1]))


def _scores(cases: Cases) -> list[np.ndarray]:
    """One less the probability of the true answer, class by class; of numbers the size of the errors."""
    if cases.kind == "number":
        return [np.abs(cases.targets - cases.probabilities)]
    chances = columns_of(cases)
    truth = _truth(cases)
    return [1.0 - chances[truth[:, k], k] for k in range(chances.shape[1])]


def columns_of(cases: Cases) -> np.ndarray:
    """Get `(N, K)` probabilities, two columns for a binary question."""
    chances = cases.probabilities
    if chances.ndim == 2:
        return chances
    columns = (1.0 - chances, chances)
    return np.stack(columns if cases.positive_index == 1 else columns[::-1], axis=1)


def _truth(cases: Cases) -> np.ndarray:
    """Get `(N, K)` booleans: which classes are true."""
    if cases.kind == "labels":
        return cases.targets > 0
    return np.arange(columns_of(cases).shape[1]) == cases.targets[:, None]


def coverage_table(cases: Cases, conformal: Conformal, *, seed: int, count: int) -> dict[str, Any]:
    """Check the sets on cases that had no say in them.

    Args:
        cases: truth and predictions.
        conformal: what `calibrate` gave for other cases.
        seed: of the resampling of patients.
        count: resamples.

    Returns:
        "coverage": Score of the share of true answers that are in their sets; "per_class": name -> the same of each
        class; "size": Score of the mean number of answers in a set (of numbers the width of the interval);
        "single": Score of the share of cases with one answer alone; "single_right": how many of those are right.
    """
    words: dict[str, Any] = {"seed": seed, "count": count}
    if cases.kind == "number":
        ends = conformal.interval(cases.probabilities)
        inside = (ends[:, 0] <= cases.targets) & (cases.targets <= ends[:, 1])
        width = 2 * conformal.limits[0]
        size = Score(width if np.isfinite(width) else None, None, None, len(cases), None, "from calibration cases")
        return {"coverage": proportion(inside, patients=cases.patients, **words), "per_class": {}, "size": size}
    members, truth = conformal.members(columns_of(cases)), _truth(cases)
    table: dict[str, Any] = {"coverage": _covered(members, truth, cases, words), "per_class": {}}
    for k in range(truth.shape[1]):
        table["per_class"][cases.name(k)] = _share(members[:, k], cases, of=truth[:, k], **words)
    sizes = members.sum(axis=1).astype(np.float64)
    table["size"] = bootstrap(weighted_mean, (sizes,), patients=cases.patients, **words)
    if cases.kind != "labels":
        single = sizes == 1
        table["single"] = proportion(single, patients=cases.patients, **words)
        table["single_right"] = _share(np.asarray((members & truth).any(axis=1)), cases, of=single, **words)
    return table


def _share(right: np.ndarray, cases: Cases, *, of: np.ndarray, **words: Any) -> Score:
    """The share that is right of some of the cases."""
    rows = np.flatnonzero(of)
    patients = None if cases.patients is None else [cases.patients[row] for row in rows.tolist()]
    return proportion(right[rows], patients=patients, **words)


def _covered(members: np.ndarray, truth: np.ndarray, cases: Cases, words: Mapping[str, Any]) -> Score:
    """The share of true answers in their sets; several answers of one case count as of one patient."""
    rows, columns = np.nonzero(truth)
    known = cases.patients is not None
    people = cases.patients if cases.patients is not None else range(len(cases))
    score = proportion(members[rows, columns], patients=[people[row] for row in rows.tolist()], **words)
    return score if known else replace(score, n_patients=None)
