"""95 % bands of ROC and precision-recall curves, point by point, from resampled patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medgraft.scores.intervals import COUNT, wilson
from medgraft.scores.ranking import tally
from medgraft.scores.resample import patient_codes, resamples


@dataclass(frozen=True, eq=False)
class Band:
    """A pointwise 95 % band of a curve on a fixed grid.

    Attributes:
        x: (G,) 0..1; of FROC false positives an image.
        middle: (G,) the curve itself on the grid.
        low: (G,) lower edge.
        high: (G,) upper edge.
        why: said where there is no band; then `low` and `high` are empty, and without cases of both classes all arrays.
    """

    x: np.ndarray
    middle: np.ndarray
    low: np.ndarray
    high: np.ndarray
    why: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Get plain JSON values, rounded to five digits (a plot needs no more)."""
        rows = {name: np.round(getattr(self, name), 5).tolist() for name in ("x", "middle", "low", "high")}
        return rows if self.why is None else {**rows, "why": self.why}


def roc_band(
    targets: np.ndarray,
    scores: np.ndarray,
    *,
    patients: Sequence[object] | None,
    seed: int,
    count: int = COUNT,
    points: int = 101,
) -> Band:
    """Get sensitivity against 1 - specificity with its band (vertical averaging of resampled curves).

    Where the curve steps, the upper end counts; between its points it is straight.

    Args:
        targets: (n,) 0/1.
        scores: (n,).
        patients: n names, or None to resample cases.
        seed: the run's seed.
        count: resamples.
        points: G, grid points.

    Source: Fawcett, Pattern Recognit Lett 2006;27:861.
    """
    band = _band(targets, scores, (_roc_rows, _positives), patients=patients, seed=seed, count=count, points=points)
    # Sensitivity never falls along the curve, so what bounds it at one point bounds it at all later ones.
    return replace(band, low=np.maximum.accumulate(band.low)) if len(band.low) else band


def pr_band(
    targets: np.ndarray,
    scores: np.ndarray,
    *,
    patients: Sequence[object] | None,
    seed: int,
    count: int = COUNT,
    points: int = 101,
) -> Band:
    """Get precision against recall with its band; steps, as average precision sums them.

    At a wanted recall stands the precision of the highest threshold that reaches it. Arguments as in `roc_band`.
    """
    return _band(targets, scores, (_pr_rows, _called), patients=patients, seed=seed, count=count, points=points)


def _band(
    targets: np.ndarray,
    scores: np.ndarray,
    ways: tuple[Callable[..., np.ndarray], Callable[..., np.ndarray]],
    *,
    patients: Sequence[object] | None,
    seed: int,
    count: int,
    points: int,
) -> Band:
    truth, scores = np.asarray(targets) > 0, np.asarray(scores, dtype=np.float64)
    curve, trials = ways
    grid, none = np.linspace(0.0, 1.0, points), np.zeros(0)
    if len(truth) == 0 or truth.all() or not truth.any():
        return Band(none, none, none, none, "one of the two classes has no case")
    codes, people = patient_codes(patients, len(truth))

    def of(rows: np.ndarray) -> np.ndarray:
        _, plus, minus = tally(truth, scores, rows=rows)
        usable = (plus.sum(axis=1) > 0) & (minus.sum(axis=1) > 0)
        hits, alarms = (np.cumsum(part[usable, ::-1], axis=1) for part in (plus, minus))
        return curve(hits, alarms, grid)

    middle = of(np.ones((1, len(truth))))[0]
    if people < 2:
        return Band(grid, middle, none, none, "a single patient gives no band")
    found = np.concatenate([of(rows) for rows in resamples(codes, seed=seed, count=count)])
    if len(found) < 0.9 * count:
        return Band(grid, middle, none, none, "too many resamples lack one of the two classes")
    low, high = np.quantile(found, [0.025, 0.975], axis=0)
    low, high = widened(middle, low, high, trials(truth, scores, grid) * people / len(truth))
    return Band(grid, middle, low, high)


def widened(middle: np.ndarray, low: np.ndarray, high: np.ndarray, trials: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Make a band no narrower than Wilson's interval where resamples hardly differ (all right so far).

    Args:
        middle: (G,) the curve.
        low: (G,) lower edge; changed in place.
        high: (G,) upper edge; changed in place.
        trials: (G,) how many independent cases each point rests on.
    """
    certain = (high - low < 1e-12) | (middle > 1 - 1e-12) | (middle < 1e-12)
    for spot in np.flatnonzero(certain & (trials > 0)):
        least, most = wilson(middle[spot] * trials[spot], trials[spot])
        low[spot], high[spot] = min(low[spot], least), max(high[spot], most)
    return low, high


def _positives(truth: np.ndarray, scores: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """How many cases a point of the ROC curve rests on; the last point is 1 by definition."""
    return np.where(grid < 1, float(truth.sum()), 0.0)


def _called(truth: np.ndarray, scores: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """How many cases are called positive at each wanted recall."""
    _, plus, minus = tally(truth, scores, rows=np.ones((1, len(truth))))
    hits, alarms = np.cumsum(plus[0, ::-1]), np.cumsum(minus[0, ::-1])
    reach = np.searchsorted(hits, np.maximum(grid * hits[-1] - 1e-9, 0.5), side="left")
    return (hits + alarms)[np.minimum(reach, len(hits) - 1)]


def _roc_rows(hits: np.ndarray, alarms: np.ndarray, grid: np.ndarray) -> np.ndarray:
    found = np.empty((len(hits), len(grid)))
    for row, (up, along) in enumerate(zip(hits, alarms, strict=True)):
        y, x = np.r_[0.0, up / up[-1]], np.r_[0.0, along / along[-1]]
        # The last point at or left of the grid: of a vertical step the upper end.
        left = np.searchsorted(x, grid, side="right") - 1
        right = np.minimum(left + 1, len(x) - 1)
        run = np.where(right > left, x[right] - x[left], 1.0)
        found[row] = y[left] + (y[right] - y[left]) * (grid - x[left]) / np.where(run > 0, run, 1.0)
    return found


def _pr_rows(hits: np.ndarray, alarms: np.ndarray, grid: np.ndarray) -> np.ndarray:
    found = np.empty((len(hits), len(grid)))
    for row, (up, along) in enumerate(zip(hits, alarms, strict=True)):
        # The first threshold that reaches the recall; at recall 0 the first that hits anything.
        reach = np.searchsorted(up, np.maximum(grid * up[-1] - 1e-9, 0.5), side="left")
        reach = np.minimum(reach, len(up) - 1)
        found[row] = up[reach] / (up[reach] + along[reach])
    return found
