"""Intervals of an AUROC without resampling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import norm, rankdata

from medgraft.scores.resample import known_patients, patient_codes
from medgraft.scores.score import Score

Z95 = float(norm.ppf(0.975))
_NAMES = ("negative", "positive")
_DELONG = "AUROC, DeLong, interval on the logit scale"
_NEWCOMBE = "AUROC, Newcombe's interval (its variance cannot be estimated from these cases)"


@dataclass(frozen=True)
class Difference:
    """One model against another on the same cases.

    Attributes:
        score: first minus second, with its 95 % interval.
        p: two-sided p of no difference; None when it cannot be computed.
    """

    score: Score
    p: float | None


def placements(targets: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Get DeLong's structural components: (m,) of the positive cases and (n,) of the negative ones.

    The component of a case is the share of the other class's cases it is ranked right against.

    Source: Sun and Xu, IEEE Signal Process Lett 2014;21:1389 (by mid-ranks, O(n log n)).
    """
    truth, scores = np.asarray(targets) > 0, np.asarray(scores, dtype=np.float64)
    plus, minus = scores[truth], scores[~truth]
    together = rankdata(scores)
    of_plus = (together[truth] - rankdata(plus)) / max(len(minus), 1)
    of_minus = 1.0 - (together[~truth] - rankdata(minus)) / max(len(plus), 1)
    return of_plus, of_minus


def delong_variance(targets: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """Get the AUROC and DeLong's variance of it; NaN for what cannot be computed.

    Source: DeLong, DeLong and Clarke-Pearson, Biometrics 1988;44:837.
    """
    plus, minus = placements(targets, scores)
    if len(plus) == 0 or len(minus) == 0:
        return math.nan, math.nan
    area = float(plus.mean())
    if len(plus) < 2 or len(minus) < 2:
        return area, math.nan
    return area, float(plus.var(ddof=1) / len(plus) + minus.var(ddof=1) / len(minus))


def delong(
    targets: np.ndarray,
    scores: np.ndarray,
    *,
    patients: Sequence[object] | None = None,
    names: tuple[str, str] = _NAMES,
) -> Score:
    """Get the AUROC of cases that are one a patient, with DeLong's 95 % interval.

    The interval is symmetric on the logit scale, so it stays inside 0..1. Where DeLong's variance is 0
    or unknown (perfect order, all tied, one case of a class) Newcombe's interval is given instead: it
    does not collapse.

    Args:
        targets: (n,) 0/1.
        scores: (n,) higher means more likely positive.
        patients: names, only to be counted; None when unknown.
        names: what negative and positive cases are called, for `why`.
    """
    n, known = len(targets), known_patients(patients, len(targets))
    area, variance = delong_variance(targets, scores)
    positives = int((np.asarray(targets) > 0).sum())
    if math.isnan(area):
        return Score.missing(one_sided(n, positives, names=names), n=n, n_patients=known, method=_DELONG)
    if variance > 0 and 0 < area < 1:
        low, high = logit_interval(area, variance)
        return Score(area, low, high, n, known, _DELONG)
    low, high = newcombe(area, positives=positives, negatives=n - positives)
    return Score(area, low, high, n, known, _NEWCOMBE)


def one_sided(n: int, positives: int, *, names: tuple[str, str]) -> str:
    """Say which of two classes, named (negative, positive), is missing among n cases."""
    if n == 0:
        return "there are no cases"
    return f"all {n} cases are {names[1] if positives else names[0]}"


def logit_interval(area: float, variance: float) -> tuple[float, float]:
    """Get the 95 % interval of a share strictly between 0 and 1 on the logit scale (Pepe 2003, section 5.2)."""
    centre, half = logit(area), Z95 * math.sqrt(variance) / (area * (1 - area))
    return float(expit(centre - half)), float(expit(centre + half))


def newcombe(area: float, *, positives: int, negatives: int) -> tuple[float, float]:
    """Get a 95 % interval of an AUROC from the area and the counts alone; never of width 0.

    It asks which true areas the seen one is within 1.96 standard errors of, with the standard error that
    the true area would have: what Wilson's interval is to a proportion.

    Source: Newcombe, Stat Med 2006;25:559, method 5.
    """
    pairs, extra = positives * negatives, (positives + negatives) / 2 - 1

    def surplus(true: float) -> float:
        spread = true * (1 - true) * (1 + extra * ((1 - true) / (2 - true) + true / (1 + true))) / pairs
        return (true - area) ** 2 - Z95**2 * spread

    low = 0.0 if area <= 0 else brentq(surplus, 0.0, area - 1e-12 if area == 1 else area)
    high = 1.0 if area >= 1 else brentq(surplus, area + 1e-12 if area == 0 else area, 1.0)
    return float(low), float(high)  # type: ignore[arg-type]


def paired_delong(targets: np.ndarray, *, first: np.ndarray, second: np.ndarray) -> Difference:
    """Get the difference of two AUROCs on the same cases, one case a patient.

    Args:
        targets: (n,) 0/1.
        first: (n,) scores of one model.
        second: (n,) scores of the other.

    Source: DeLong 1988; Sun and Xu 2014.
    """
    method, n = "difference of AUROCs, paired DeLong", len(targets)
    positives = int((np.asarray(targets) > 0).sum())
    if min(positives, n - positives) == 0:
        return Difference(Score.missing(one_sided(n, positives, names=_NAMES), n=n, method=method), None)
    plus, minus = zip(*(placements(targets, part) for part in (first, second)), strict=True)
    value = float(plus[0].mean() - plus[1].mean())
    if min(positives, n - positives) < 2:
        return Difference(Score(value, None, None, n, None, method, "one class has a single case"), None)
    variance = float((plus[0] - plus[1]).var(ddof=1) / positives + (minus[0] - minus[1]).var(ddof=1) / (n - positives))
    if variance <= 0:
        why = "both models order the cases so alike that no interval can be estimated"
        return Difference(Score(value, None, None, n, None, method, why), None)
    half = Z95 * math.sqrt(variance)
    low, high = max(-1.0, value - half), min(1.0, value + half)
    return Difference(Score(value, low, high, n, None, method), float(2 * norm.sf(abs(value) / math.sqrt(variance))))


def obuchowski(targets: np.ndarray, scores: np.ndarray, *, patients: Sequence[object]) -> Score:
    """Get the AUROC of patients with several cases each, with an analytic 95 % interval (logit scale).

    Source: Obuchowski, Biometrics 1997;53:567.
    """
    truth, n = np.asarray(targets) > 0, len(targets)
    codes, people = patient_codes(patients, n)
    method = "AUROC, Obuchowski's clustered variance, interval on the logit scale"
    m, k = int(truth.sum()), int((~truth).sum())
    if min(m, k) == 0:
        return Score.missing(one_sided(n, m, names=_NAMES), n=n, n_patients=people, method=method)
    plus, minus = placements(truth, scores)
    area = float(plus.mean())
    ill, well = len(np.unique(codes[truth])), len(np.unique(codes[~truth]))
    off_plus = np.bincount(codes[truth], weights=plus - area, minlength=people)
    off_minus = np.bincount(codes[~truth], weights=minus - area, minlength=people)
    if min(ill, well) > 1 and 0 < area < 1:
        variance = (
            ill / (ill - 1) * (off_plus**2).sum() / m**2
            + well / (well - 1) * (off_minus**2).sum() / k**2
            + 2 * people / (people - 1) * (off_plus * off_minus).sum() / (m * k)
        )
        if variance > 0:
            return Score(area, *logit_interval(area, float(variance)), n, people, method)
    low, high = newcombe(area, positives=ill, negatives=well)
    return Score(area, low, high, n, people, _NEWCOMBE)
