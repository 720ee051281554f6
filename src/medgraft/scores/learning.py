"""How a score grows with the number of training cases, and how many more would bring how much.

The error falls as a power of the number of cases towards a floor that more of
the same kind do not break: score(n) = ceiling - drop * n ** -rate. Fitted to
scores of nets trained on nested parts of the data, each part drawn several
times. Draws that were judged on the same cases fail together: for the interval
they are resampled together, and its ends lie further out, as there are few.

Sources: Cortes et al., "Learning curves: asymptotic values and rate of
convergence", NIPS 1993; Figueroa et al., "Predicting sample size required for
classification performance", BMC Med Inform Decis Mak 2012;12:8, for the form
and the weights; Hestness et al., arXiv:1712.00409, for the rates of deep nets.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm

from medgraft.scores.intervals import wide

_RATES = np.linspace(0.1, 1.5, 57)
_RESAMPLES = 2000
_FLAT = 0.01  # a gain by four times as many cases that nobody would collect them for
_FAR = 16.0  # no answer beyond so many times as many cases: the curve was not seen there


@dataclass(frozen=True)
class Law:
    """A fitted curve.

    Attributes:
        ceiling: what the score tends to.
        drop: what one case is below it.
        rate: power by which that falls.
    """

    ceiling: float
    drop: float
    rate: float

    def at(self, count: float | np.ndarray) -> Any:
        """Get the score that so many cases give."""
        return self.ceiling - self.drop * np.asarray(count, dtype=np.float64) ** -self.rate

    def needed(self, score: float) -> float:
        """Get how many cases give a score; infinite where none do."""
        if score >= self.ceiling or self.drop <= 0:
            return 0.0 if score <= self.ceiling and self.drop <= 0 else np.inf
        return float((self.drop / (self.ceiling - score)) ** (1 / self.rate))


@dataclass(frozen=True, eq=False)
class Learning:
    """A learning curve with its uncertainty.

    Attributes:
        counts: sizes of the parts, rising.
        scores: one row a draw, a column a size; NaN where it could not be computed.
        law: fitted to the means.
        laws: fitted to resampled folds.
        folds: the fold of each draw, from 0 on.
    """

    counts: tuple[int, ...]
    scores: np.ndarray
    law: Law
    laws: tuple[Law, ...]
    folds: np.ndarray

    @property
    def _ends(self) -> tuple[float, float]:
        """Which quantiles of what was resampled are the ends of a 95 % interval."""
        low = float(norm.sf(wide(len(np.unique(self.folds)))))
        return low, 1 - low

    def at(self, count: float) -> tuple[float, float, float]:
        """Get (value, low, high) of the score that so many cases give, with a 95 % interval."""
        low, high = np.quantile([law.at(count) for law in self.laws], self._ends)
        value = float(self.law.at(count))
        return value, min(float(low), value), max(float(high), value)

    @property
    def flat(self) -> bool:
        """Whether four times as many cases would bring next to nothing."""
        return self.is_flat(self.counts[-1])

    def is_flat(self, now: int) -> bool:
        """Say whether four times `now` cases would surely bring next to nothing."""
        return self.gain(now)[2] < _FLAT

    def gain(self, now: int) -> tuple[float, float, float]:
        """Get (value, low, high) of what four times `now` cases bring, with a 95 % interval."""
        value, *drawn = (float(law.at(4 * now) - law.at(now)) for law in (self.law, *self.laws))
        low, high = np.quantile(drawn, self._ends)
        return value, min(float(low), value), max(float(high), value)

    def at_sizes(self, *, seed: int = 0) -> list[tuple[float, float, float]]:
        """Get (mean, low, high) over the draws at each size, with the 95 % interval of the mean."""
        drawn = _drawn(self.folds, seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a size may have no score in a resample
            means = np.nanmean(self.scores, axis=0)
            low, high = np.nanquantile(np.nanmean(self.scores[drawn], axis=1), self._ends, axis=0)
        return [(float(m), float(a), float(b)) for m, a, b in zip(means, low, high, strict=True)]

    def more_for(self, gain: float, *, now: int | None = None) -> tuple[float | None, float | None, float | None]:
        """Get (value, low, high) of how many more cases bring this gain; None for more than can be foretold.

        Args:
            gain: of the score, above that of `now` cases.
            now: cases there are; None takes the largest size.
        """
        most = self.counts[-1] if now is None else now
        found = [law.needed(float(law.at(most)) + gain) - most for law in (self.law, *self.laws)]
        value, (low, high) = found[0], np.quantile(found[1:], self._ends, method="nearest")
        ends = (value, min(low, value), max(high, value))
        return tuple(None if not end <= _FAR * most else float(end) for end in ends)  # type: ignore[return-value]


def learning_curve(
    counts: Sequence[int], scores: np.ndarray, *, folds: Sequence[int], seed: int = 0
) -> Learning | None:
    """Fit the curve; None where fewer than three sizes have scores, or all draws are of one fold.

    Args:
        counts: S sizes of the parts, rising.
        scores: `(D, S)` scores of D draws, higher is better; NaN where there is none.
        folds: D numbers; draws of one fold were judged on the same cases.
        seed: of the resampling.
    """
    sizes, values = np.asarray(counts, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    known = np.isfinite(values).any(axis=0)
    if known.sum() < 3 or len(set(folds)) < 2:
        return None
    sizes, values, places = sizes[known], values[:, known], np.asarray(folds)
    (law,), laws = _fitted(sizes, values[None]), _fitted(sizes, values[_drawn(places, seed=seed)])
    return Learning(tuple(int(size) for size in sizes), values, law, tuple(laws), places)


def _drawn(folds: np.ndarray, *, seed: int) -> np.ndarray:
    """Draws of each resample `(B, D)`: whole folds, drawn with replacement. All folds have as many draws."""
    _, place = np.unique(folds, return_inverse=True)
    members = np.argsort(place, kind="stable").reshape(place.max() + 1, -1)
    chosen = np.random.default_rng(seed).integers(len(members), size=(_RESAMPLES, len(members)))
    return members[chosen].reshape(_RESAMPLES, -1)


def _fitted(sizes: np.ndarray, values: np.ndarray) -> list[Law]:
    """Get the best law of each of B sets of draws `(B, D, S)` over a grid of rates."""
    there = np.isfinite(values)
    counts = there.sum(axis=1)
    means = np.where(there, values, 0.0).sum(axis=1) / np.maximum(counts, 1)
    # Larger parts are nearer to what is asked, and their scores vary less.
    weights = (counts * sizes / sizes.sum())[:, None]  # (B, 1, S)
    falls = sizes[None, None] ** -_RATES[None, :, None]  # (1, R, S)
    costs, ceilings, drops = _linear(means[:, None], weights, falls)
    best = costs.argmin(axis=1)
    rows = np.arange(len(best))
    found = zip(ceilings[rows, best], drops[rows, best], _RATES[best], strict=True)
    return [Law(float(ceiling), float(drop), float(rate)) for ceiling, drop, rate in found]


def _linear(means: np.ndarray, weights: np.ndarray, falls: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit ceiling (at most 1) and drop (at least 0) for given falls: (costs, ceilings, drops), `(B, R)` each.

    The best of: both free where that is allowed, the ceiling at 1, no drop.
    """

    def mean(rows: np.ndarray) -> np.ndarray:
        return (weights * rows).sum(axis=-1) / weights.sum(axis=-1)

    with np.errstate(divide="ignore", invalid="ignore"):
        level, fall = mean(means), mean(falls)
        free = -(mean(means * falls) - level * fall) / (mean(falls**2) - fall**2)
        capped = np.maximum(mean((1.0 - means) * falls) / mean(falls**2), 0.0)
    choices = []
    for drop, ceiling in (
        (free, level + free * fall),
        (capped, np.ones_like(capped)),
        (np.zeros_like(free), np.broadcast_to(np.minimum(level, 1.0), free.shape)),
    ):
        cost = mean((means - (ceiling[..., None] - drop[..., None] * falls)) ** 2)
        allowed = (drop >= 0) & (ceiling <= 1) & np.isfinite(cost)
        choices.append((np.where(allowed, cost, np.inf), ceiling, drop))
    costs, ceilings, drops = (np.stack(parts) for parts in zip(*choices, strict=True))
    best = costs.argmin(axis=0)[None]
    return tuple(np.take_along_axis(part, best, axis=0)[0] for part in (costs, ceilings, drops))  # type: ignore[return-value]


def cases_for_width(width: float, *, now: float, count: int) -> int:
    """Get how many test cases give an interval of a wanted width: widths fall as the root of the number.

    Args:
        width: wanted, from end to end.
        now: that of the interval there is.
        count: cases (or patients) that it rests on.

    Example:
        >>> cases_for_width(0.05, now=0.1, count=100)
        400
    """
    return int(np.ceil(count * (now / width) ** 2 - 1e-9))
