"""95 % intervals by resampling patients, and exact ones for plain shares."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta, norm
from scipy.stats import t as student

from medgraft.scores.delong import Z95
from medgraft.scores.probabilities import ece, ece_classwise
from medgraft.scores.resample import Value, known_patients, leave_out, patient_codes, resamples
from medgraft.scores.score import Score

COUNT = 2000
_ENOUGH = 0.9  # share of resamples that must be computable before their spread is called an interval
Statistic = Callable[[np.ndarray], Value]
Joint = Callable[[np.ndarray], Mapping[str, Value]]


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
    if people == 1:
        return Score(value, None, None, n, known, "proportion", "a single patient gives no interval")
    if value in (0.0, 1.0):
        return Score(value, *clopper_pearson(value * people, people), n, known, one_way(people))
    found = draws({"share": lambda rows: rows @ right / rows.sum(axis=1)}, codes, seed=seed, count=count)["share"]
    low, high, note = bca(value, found)
    return Score(
        value, low, high, n, known, bootstrap_method(known, count, note=note), why=note if low is None else None
    )


def one_way(people: int) -> str:
    """Say how the interval of all-right or none-right clustered cases was found."""
    return f"proportion, Clopper-Pearson over {people} patients"


@dataclass(frozen=True, eq=False)
class Draws:
    """One statistic on resamples.

    Attributes:
        found: (count,) its value on each resample; NaN where it cannot be computed.
        left_out: (G,) its value with each patient (or one of 400 groups of patients) left out.
        patients: how many are drawn.
    """

    found: np.ndarray
    left_out: np.ndarray
    patients: int

    @property
    def usable(self) -> np.ndarray:
        """Get the values that could be computed."""
        return self.found[np.isfinite(self.found)]

    @property
    def note(self) -> str | None:
        """Say how many resamples could not be computed, if any."""
        lost = len(self.found) - len(self.usable)
        return f"{lost} of {len(self.found)} resamples could not be computed" if lost else None

    @property
    def flat(self) -> bool:
        """Tell whether all resamples that can be computed agree: they would claim an interval of width 0."""
        usable = self.usable
        return len(usable) > 0 and bool(np.ptp(usable) <= 1e-12 * max(1.0, float(np.abs(usable).max())))

    @property
    def too_few(self) -> str | None:
        """Say why no interval follows: too many resamples lost, or no spread."""
        if len(self.usable) < max(1.0, _ENOUGH * len(self.found)):
            return self.note or "there are no resamples"
        return "every resample gave the same value, so they give no interval" if self.flat else None


def draws(statistics: Mapping[str, Statistic], codes: np.ndarray, *, seed: int, count: int) -> dict[str, Draws]:
    """Compute statistics on the same resamples of patients.

    Args:
        statistics: name -> function of rows of weights (B, n) that gives (B,).
        codes: (n,) patient number of each case, 0..P-1.
        seed: the run's seed.
        count: resamples.
    """
    if not statistics:
        return {}
    return draws_together(
        lambda rows: {name: statistic(rows) for name, statistic in statistics.items()}, codes, seed=seed, count=count
    )


def draws_together(joint: Joint, codes: np.ndarray, *, seed: int, count: int) -> dict[str, Draws]:
    """Compute statistics that share their work, such as all those of one curve; the resamples are those of `draws`.

    Args:
        joint: function of rows of weights (B, n) that gives name -> (B,), always the same names.
        codes: (n,) patient number of each case, 0..P-1.
        seed: the run's seed.
        count: resamples.
    """
    people = int(codes.max(initial=-1)) + 1
    found: dict[str, list[np.ndarray]] = {}
    left: dict[str, list[np.ndarray]] = {}
    for parts, blocks in ((found, resamples(codes, seed=seed, count=count)), (left, leave_out(codes))):
        for rows in blocks:
            for name, values in joint(rows).items():
                parts.setdefault(name, []).append(np.atleast_1d(values))
    return {name: Draws(np.concatenate(found[name]), np.concatenate(left[name]), people) for name in found}


def wide(patients: int) -> float:
    """Get how many standard deviations 95 % reach on each side, for so many patients.

    1.96 for many; more for few, as the t distribution says, since resamples vary less than samples.

    Source: Hesterberg, Am Stat 2015;69:371 (expanded percentiles).
    """
    return Z95 if patients > 10_000 else float(student.ppf(0.975, patients - 1)) * math.sqrt(patients / (patients - 1))


def bca(value: float, drawn: Draws) -> tuple[float | None, float | None, str | None]:
    """Get low, high and a note by the bias-corrected and accelerated bootstrap, widened for few patients.

    No interval where more than a tenth of the resamples cannot be computed or where all are equal: a width
    of 0 would claim a certainty that resampling cannot give.

    Source: Efron, J Am Stat Assoc 1987;82:171.
    """
    if drawn.too_few:
        return None, None, drawn.too_few
    usable, reach = drawn.usable, wide(drawn.patients)
    below = ((usable < value).sum() + (usable == value).sum() / 2) / len(usable)
    bias = float(norm.ppf(np.clip(below, 1 / len(usable), 1 - 1 / len(usable))))
    pull = drawn.left_out[np.isfinite(drawn.left_out)]
    pull = pull.mean() - pull if len(pull) else np.zeros(1)
    size = float((pull**2).sum()) ** 1.5
    skew = float((pull**3).sum()) / (6 * size) if size > 0 else 0.0
    ends = [norm.cdf(bias + (bias + side) / max(1 - skew * (bias + side), 1e-3)) for side in (-reach, reach)]
    low, high = np.quantile(usable, ends)
    # Of a lumpy score few resamples may lie on one side of it; it belongs to its own interval.
    return min(float(low), value), max(float(high), value), drawn.note


def noisy_sum(value: float, drawn: Draws, *, noise: Draws) -> tuple[float | None, float | None, str | None]:
    """Get low, high and a note for a sum of absolute gaps (a calibration error), which chance only adds to.

    The true sum is nearer to the seen one than the noise of all gaps together, which bounds it on both sides:
    a sum of absolute values changes by no more than the sum of the changes.

    Args:
        value: the sum of gaps.
        drawn: the sum on resamples.
        noise: the sum of the changes of the gaps on the same resamples.
    """
    if drawn.too_few:
        return None, None, drawn.too_few
    tail = float(norm.sf(wide(drawn.patients)))
    reach = float(np.quantile(noise.usable, 1 - tail))
    return max(0.0, value - reach), min(1.0, value + reach), drawn.note


def ends(value: float, drawn: Draws, *, noise: Draws | None) -> tuple[float | None, float | None, str | None]:
    """Get low, high and a note: by `noisy_sum` where the noise of a sum of gaps is given, else by `bca`."""
    return bca(value, drawn) if noise is None else noisy_sum(value, drawn, noise=noise)


def bootstrap_method(known: int | None, count: int, *, note: str | None = None, noise: bool = False) -> str:
    """Say in words how an interval was bootstrapped."""
    way = "ends by the noise of all bins" if noise else "BCa"
    words = f"{count} bootstrap resamples of {'images' if known is None else 'patients'}, {way}"
    return f"{words} ({note})" if note else words


def bootstrap(
    metric: Callable[..., Value],
    arrays: Sequence[np.ndarray],
    *,
    patients: Sequence[object] | None,
    seed: int,
    count: int = COUNT,
) -> Score:
    """Get any score with a 95 % interval from resampling patients: BCa, or `noisy_sum` for `ece` and `ece_classwise`.

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
    wanted: dict[str, Statistic] = {"it": lambda rows: metric(*arrays, weights=rows)}
    if metric in (ece, ece_classwise):
        wanted["noise"] = lambda rows: metric(*arrays, weights=rows, changes=True)
    found = draws(wanted, codes, seed=seed, count=count)
    low, high, note = ends(value, found["it"], noise=found.get("noise"))
    said = note if low is not None else None
    method = bootstrap_method(known, count, note=said, noise="noise" in found)
    return Score(value, low, high, n, known, method, why=note if low is None else None)
