"""Temperature: one number, fitted on validation cases, that makes probabilities honest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, softmax

from medgraft.errors import BadData
from medgraft.scores.intervals import COUNT, wilson
from medgraft.scores.probabilities import BINS, bin_of, case_losses, ece, top_label
from medgraft.scores.resample import patient_codes, ratio, resamples

BOUNDS = (0.05, 20.0)
_FEWEST = 10


def to_probabilities(kind: str, logits: np.ndarray, *, temperature: float | np.ndarray = 1.0) -> np.ndarray:
    """Get probabilities from the raw outputs of a head, the same way in training and use.

    "binary": (n,) or (n, 1) by the logistic function -> (n, 2); (n, 2) by softmax -> (n, 2).
    "multiclass": (n, K) by softmax. "labels": (n, K) by the logistic function, each alone.
    "ordinal": (n, K - 1) logits of "above grade 0", "above grade 1", ... -> (n, K) grades; where a later
    one is more likely than an earlier one (they need not be in order) it is lowered to it.

    Args:
        kind: see `medgraft.scores.cases.KINDS`.
        logits: raw outputs.
        temperature: logits are divided by it; (K,) for "labels".
    """
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    if kind == "binary" and (scaled.ndim == 1 or scaled.shape[1] == 1):
        chance = expit(scaled.reshape(-1))
        return np.stack([1 - chance, chance], axis=1)
    if kind in ("binary", "multiclass"):
        return softmax(scaled, axis=1)
    if kind == "labels":
        return expit(scaled)
    if kind == "ordinal":
        above = np.minimum.accumulate(expit(scaled), axis=1)
        edge = np.ones((len(above), 1))
        return -np.diff(np.concatenate([edge, above, 0 * edge], axis=1), axis=1)
    raise BadData(f"{kind!r} has no probabilities")


@dataclass(frozen=True)
class Calibration:
    """A temperature and what it did on the cases it was fitted on.

    Attributes:
        temperature: one a column for "labels", else one; above 1 the model was too sure.
        nll_before: mean negative log-likelihood in nats at temperature 1; None without cases.
        nll_after: the same at the temperature.
        ece_before: calibration error (15 bins) at temperature 1.
        ece_after: the same at the temperature; measured where it was fitted, so rather too small.
        n: validation cases.
        why: said where a temperature was left at 1 or stopped at a bound.
    """

    temperature: tuple[float, ...]
    nll_before: float | None
    nll_after: float | None
    ece_before: float | None
    ece_after: float | None
    n: int
    why: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Get plain JSON values; `why` is there only when it says something."""
        names = ("nll_before", "nll_after", "ece_before", "ece_after", "n")
        row = {"temperature": list(self.temperature), **{name: getattr(self, name) for name in names}}
        return row if self.why is None else {**row, "why": self.why}


def fit_temperature(kind: str, targets: np.ndarray, *, logits: np.ndarray) -> Calibration:
    """Fit the temperature that makes validation cases most likely, within 0.05..20.

    Never give it test cases. It stays 1 with fewer than ten cases, with one class only, or when the cases
    are so well told apart that ever smaller temperatures fit ever better.

    Args:
        kind: "binary", "multiclass", "labels" or "ordinal".
        targets: (n,) class numbers, 1 = positive for "binary"; (n, K) of 0/1 for "labels".
        logits: raw outputs, shaped as `to_probabilities` takes them.

    Source: Guo et al., "On calibration of modern neural networks", ICML 2017.
    """
    targets, logits = np.asarray(targets), np.asarray(logits, dtype=np.float64)
    if kind == "labels":
        parts = [_fit_one("binary", targets[:, k], logits[:, k]) for k in range(logits.shape[1])]
        temperature = tuple(part[0] for part in parts)
        said = [f"label {k}: {why}" for k, (_, why) in enumerate(parts) if why]
        why = "; ".join(said) or None
    else:
        only, why = _fit_one(kind, targets, logits)
        temperature = (only,)
    if len(targets) == 0 or not np.isfinite(logits).all():
        return Calibration(temperature, None, None, None, None, len(targets), why)
    before, after = (to_probabilities(kind, logits, temperature=np.asarray(t)) for t in (1.0, temperature))
    if kind == "binary":
        before, after = before[:, 1], after[:, 1]
    losses = [float(case_losses(targets, part).mean()) for part in (before, after)]
    errors = [float(ece(targets, part)) for part in (before, after)]
    return Calibration(temperature, losses[0], losses[1], errors[0], errors[1], len(targets), why)


def _fit_one(kind: str, targets: np.ndarray, logits: np.ndarray) -> tuple[float, str | None]:
    if len(targets) < _FEWEST:
        return 1.0, f"{len(targets)} validation cases are too few to fit a temperature (at least {_FEWEST})"
    if len(np.unique(targets)) < 2:
        return 1.0, "all validation cases are of one class"
    if not np.isfinite(logits).all():
        return 1.0, "some validation predictions are not finite"

    def loss(power: float) -> float:
        chances = to_probabilities(kind, logits, temperature=math.exp(power))
        return float(case_losses(targets, chances[:, 1] if kind == "binary" else chances).mean())

    low, high = math.log(BOUNDS[0]), math.log(BOUNDS[1])
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6})
    power = float(found.x)  # type: ignore[union-attr]
    # Without errors the likelihood only grows towards 0, or lies flat where rounding ends.
    if power < low + 0.01 or loss(low) <= loss(power) + 1e-12:
        return 1.0, "validation cases are told apart without error, which leaves the temperature open"
    if power > high - 0.01:
        return BOUNDS[1], "the logits say nothing about validation cases: stopped at the largest temperature"
    # Never worse than leaving it alone: a search may stop a hair beside 1.
    return (1.0, None) if loss(power) >= loss(0.0) else (math.exp(power), None)


@dataclass(frozen=True)
class ReliabilityBin:
    """One bin of a reliability diagram.

    Attributes:
        start: lower edge of confidence.
        stop: upper edge.
        n: cases in it.
        confidence: their mean confidence; None when empty.
        observed: share of them that came true; None when empty.
        low: lower end of the share's 95 % interval.
        high: upper end.
    """

    start: float
    stop: float
    n: int
    confidence: float | None
    observed: float | None
    low: float | None
    high: float | None

    def to_dict(self) -> dict[str, Any]:
        """Get plain JSON values."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def reliability(
    targets: np.ndarray,
    probabilities: np.ndarray,
    *,
    bins: int = BINS,
    patients: Sequence[object] | None = None,
    seed: int = 0,
    count: int = COUNT,
) -> list[ReliabilityBin]:
    """Get the bins of a reliability diagram; the calibration error is their gaps weighted by `n`.

    Intervals: Wilson where each patient has one case, else by resampling patients (Wilson over the patients
    in the bin where all of its cases agree).

    Args:
        targets: (n,) 0/1 with (n,) probabilities, or class numbers with (n, K).
        probabilities: of the positive class, or of all classes (then the largest is judged).
        bins: equal widths over 0..1.
        patients: n names, or None when unknown.
        seed: the run's seed.
        count: resamples.
    """
    confidences, right = top_label(targets, probabilities)
    place, edges = bin_of(confidences, bins=bins), np.linspace(0.0, 1.0, bins + 1)
    codes, people = patient_codes(patients, len(right))
    marks = np.zeros((len(right), bins))
    marks[np.arange(len(right)), place] = 1.0
    found = np.zeros((0, bins))
    if people < len(right) and people > 1:
        blocks = resamples(codes, seed=seed, count=count)
        found = np.concatenate([ratio(rows @ (marks * right[:, None]), rows @ marks) for rows in blocks])
    table = []
    for k in range(bins):
        inside = place == k
        n = int(inside.sum())
        if n == 0:
            table.append(ReliabilityBin(edges[k], edges[k + 1], 0, None, None, None, None))
            continue
        share, ends = float(right[inside].mean()), None
        if len(found):
            usable = found[np.isfinite(found[:, k]), k]
            low, high = np.quantile(usable, [0.025, 0.975])
            ends = None if high - low < 1e-12 else (float(low), float(high))
        if ends is None:
            trials = len(np.unique(codes[inside]))
            ends = wilson(share * trials, trials)
        row = (float(edges[k]), float(edges[k + 1]), n, float(confidences[inside].mean()), share, *ends)
        table.append(ReliabilityBin(*row))
    return table
