"""95 % intervals by resampling patients, and exact ones for plain shares."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.stats import beta

from medgraft.scores.delong import Z95
from medgraft.scores.resample import Value, known_patients, patient_codes, resamples
from medgraft.scores.score import Score

COUNT = 2000
_ENOUGH = 0.9  # share of resamples that must be computable before their spread is called an interval
Statistic = Callable[[np.ndarray], Value]


def wilson(hits: float, n: float) -> tuple[float, float]:
    """Get the 95 % interval of a share of independent cases.

    Source: Wilson, J Am Stat Assoc 1927;22:209; recommended by Newcombe, Stat Med 1998;17:857.

    Example:
        >>> [round(end, 4) for end in wilson(0, 10)]
        [0.0, 0.2775]
    """
    share, square = hits / n, Z95**2
    centre = (share + square / (2 * n)) / (1 + square / n)
    half = Z95 / (1 + square / n) * math.sqrt(share * (1 - share) / n + square / (4 * n * n))
    return (0.0 if hits == 0 else max(0.0, centre - half)), (1.0 if hits == n else min(1.0, centre + half))


def clopper_pearson(hits: float, n: float) -> tuple[float, float]:
    """Get the exact 95 % interval of a share; it covers at least 95 %.

    Source: Clopper and Pearson, Biometrika 1934;26:404.
    """
    low = 0.0 if hits == 0 else float(beta.ppf(0.025, hits, n - hits + 1))
    high = 1.0 if hits == n else float(beta.ppf(0.975, hits + 1, n - hits))
    return low, high


def proportion(
    right: np.ndarray, *, patients: Sequence[object] | None = None, seed: int = 0, count: int = COUNT
) -> Score:
    """Get the share of cases that are right, with its 95 % interval.

    One case a patient: Wilson. Several: bootstrap of patients; when all or none are right, the exact
    interval with as many trials as patients (cases of a patient counted once, so rather too wide).

    Args:
        right: (n,) booleans.
        patients: n names, or None when unknown.
        seed: the run's seed.
        count: resamples.
    """
    right = np.asarray(right, dtype=bool)
    n, known = len(right), known_patients(patients, len(right))
    codes, people = patient_codes(patients, n)
    if n == 0:
        return Score.missing("there are no such cases", n=0, n_patients=known, method="proportion, Wilson")
    value = float(right.mean())
    if people == n:
        return Score(value, *wilson(right.sum(), n), n, known, "proportion, Wilson")
    if value in (0.0, 1.0):
        return Score(value, *clopper_pearson(value * people, people), n, known, one_way(people))
    found = draws({"share": lambda rows: rows @ right / rows.sum(axis=1)}, codes, seed=seed, count=count)["share"]
    low, high, note = percentiles(found)
    return Score(
        value, low, high, n, known, bootstrap_method(known, count, note=note), why=note if low is None else None
    )


def one_way(people: int) -> str:
    """Say how the interval of all-right or none-right clustered cases was found."""
    return f"proportion, Clopper-Pearson over {people} patients"


def draws(statistics: Mapping[str, Statistic], codes: np.ndarray, *, seed: int, count: int) -> dict[str, np.ndarray]:
    """Compute statistics on the same resamples of patients: name -> (count,).

    Args:
        statistics: each takes rows of weights (B, n) and gives (B,).
        codes: (n,) patient number of each case.
        seed: the run's seed.
        count: resamples.
    """
    found: dict[str, list[np.ndarray]] = {name: [] for name in statistics}
    for rows in resamples(codes, seed=seed, count=count):
        for name, statistic in statistics.items():
            found[name].append(np.atleast_1d(statistic(rows)))
    return {name: np.concatenate(parts) if parts else np.zeros(0) for name, parts in found.items()}


def percentiles(found: np.ndarray) -> tuple[float | None, float | None, str | None]:
    """Get low, high and a note from the values of resamples.

    No interval where more than a tenth of the resamples cannot be computed or where all are equal: a width
    of 0 would claim a certainty that resampling cannot give.
    """
    usable = found[np.isfinite(found)]
    lost = len(found) - len(usable)
    if len(usable) == 0 or len(usable) < _ENOUGH * len(found):
        return None, None, f"{lost} of {len(found)} resamples could not be computed"
    if is_flat(found):
        return None, None, "every resample gave the same value, so they give no interval"
    low, high = np.quantile(usable, [0.025, 0.975])
    return float(low), float(high), f"{lost} of {len(found)} resamples could not be computed" if lost else None


def is_flat(found: np.ndarray) -> bool:
    """Tell whether all resamples that can be computed agree."""
    usable = found[np.isfinite(found)]
    return len(usable) > 0 and bool(np.ptp(usable) <= 1e-12 * max(1.0, float(np.abs(usable).max())))


def reflected(value: float, found: np.ndarray) -> tuple[float | None, float | None, str | None]:
    """Get an interval reflected about the value ("basic"), for scores of 0 and above that resampling pushes upwards.

    Source: Davison and Hinkley, Bootstrap Methods, 1997, equation 5.6.
    """
    low, high, note = percentiles(found)
    if low is None or high is None:
        return low, high, note
    return max(0.0, 2 * value - high), max(0.0, 2 * value - low), note


def bootstrap_method(known: int | None, count: int, *, note: str | None = None) -> str:
    """Say in words how an interval was bootstrapped."""
    words = f"{count} bootstrap resamples of {'images' if known is None else 'patients'}, percentile"
    return f"{words} ({note})" if note else words


def bootstrap(
    metric: Callable[..., Value],
    arrays: Sequence[np.ndarray],
    *,
    patients: Sequence[object] | None,
    seed: int,
    count: int = COUNT,
) -> Score:
    """Get any score with a 95 % percentile interval from resampling patients.

    Args:
        metric: called as `metric(*arrays, weights=rows)`; rows are (B, n) or None; see `medgraft.scores.resample`.
        arrays: n cases each.
        patients: n names; None resamples cases.
        seed: the run's seed.
        count: resamples.

    Example:
        >>> from medgraft.scores.numeric import mae
        >>> score = bootstrap(mae, [np.zeros(50), np.arange(50.0)], patients=None, seed=0)
        >>> score.value
        24.5
    """
    n = len(arrays[0])
    known = known_patients(patients, n)
    codes, people = patient_codes(patients, n)
    method = bootstrap_method(known, count)
    value = float(metric(*arrays, weights=None)) if n else math.nan
    if not math.isfinite(value):
        return Score.missing("there are no cases" if n == 0 else "these cases do not define it", n=n, n_patients=known)
    if people < 2:
        return Score(value, None, None, n, known, method, "a single patient gives no interval")
    found = draws({"it": lambda rows: metric(*arrays, weights=rows)}, codes, seed=seed, count=count)["it"]
    low, high, note = percentiles(found)
    return Score(
        value, low, high, n, known, bootstrap_method(known, count, note=note), why=note if low is None else None
    )
