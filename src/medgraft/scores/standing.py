"""Candidates compared on the same cases: how far each is behind the best, and whether that is more than chance.

The rule of one standard error: take the simplest candidate that is no more
than one standard error behind the best. The error is that of the difference,
on the same resamples of patients: two nets mostly fail on the same cases, so
their difference is known better than either.

Source: Breiman, Friedman, Olshen, Stone, "Classification and regression
trees", 1984, section 3.4.3, for the rule; there the error is that of the best.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medgraft.scores.intervals import Draws, Statistic, bca, bootstrap_method, draws
from medgraft.scores.resample import known_patients, patient_codes
from medgraft.scores.score import Score

_COUNT = 1000


@dataclass(frozen=True, eq=False)
class Standing:
    """How candidates stand.

    Attributes:
        scores: of each, with its interval.
        drawn: of each, on the same resamples.
    """

    scores: Mapping[str, Score]
    drawn: Mapping[str, Draws]

    @property
    def best(self) -> str:
        """The name of the highest score; of equal ones the first."""
        return max(self.scores, key=lambda name: _number(self.scores[name].value))

    def behind(self, name: str, other: str | None = None) -> tuple[float, float]:
        """Get (difference, its standard error) to another candidate, the best by default; NaN where unknown."""
        other = self.best if other is None else other
        gap = _number(self.scores[other].value) - _number(self.scores[name].value)
        if name == other:
            return 0.0, 0.0
        apart = self.drawn[other].found - self.drawn[name].found
        apart = apart[np.isfinite(apart)]
        return gap, float(apart.std(ddof=1)) if len(apart) > 1 else math.nan

    def simplest(self, order: Sequence[str]) -> str:
        """Get the first candidate, the simplest first, that is no more than one standard error behind the best."""
        for name in order:
            gap, error = self.behind(name)
            if gap <= 0 or gap <= error:
                return name
        return self.best


def stand(
    statistics: Mapping[str, Statistic],
    *,
    n: int,
    patients: Sequence[object] | None,
    seed: int,
    count: int = _COUNT,
) -> Standing:
    """Compare candidates on the same n cases.

    Args:
        statistics: name -> function of rows of weights (B, n) that gives (B,) scores, higher is better.
        n: cases.
        patients: n names; None resamples cases.
        seed: the run's seed.
        count: resamples.

    Example:
        >>> right = {"coin": np.tile([0.0, 1.0], 50), "expert": np.repeat([0.0, 1.0], [10, 90])}
        >>> share = {name: lambda rows, hits=hits: rows @ hits / rows.sum(axis=1) for name, hits in right.items()}
        >>> standing = stand(share, n=100, patients=None, seed=0)
        >>> standing.best, standing.simplest(["coin", "expert"]), round(standing.behind("coin")[0], 2)
        ('expert', 'expert', 0.4)
    """
    codes, people = patient_codes(patients, n)
    known = known_patients(patients, n)
    drawn = draws(statistics, codes, seed=seed, count=count) if people > 1 else {}
    words: dict[str, Any] = {"n": n, "known": known, "count": count}
    scores = {name: _score(statistic, drawn.get(name), **words) for name, statistic in statistics.items()}
    nothing = Draws(np.zeros(0), np.zeros(0), people)
    return Standing(scores, {name: drawn.get(name, nothing) for name in statistics})


def _score(statistic: Statistic, drawn: Draws | None, *, n: int, known: Any, count: int) -> Score:
    method = bootstrap_method(known, count)
    value = float(np.atleast_1d(statistic(np.ones((1, n))))[0]) if n else math.nan
    if not math.isfinite(value):
        return Score.missing("these cases do not define it", n=n, n_patients=known)
    if drawn is None:
        return Score(value, None, None, n, known, method, "a single patient gives no interval")
    low, high, note = bca(value, drawn)
    return Score(value, low, high, n, known, method, why=note if low is None else None)


def _number(value: float | None) -> float:
    return -math.inf if value is None else value
