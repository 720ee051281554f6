"""The operating point: a threshold chosen on validation cases and judged on others."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import expit, logit

from medgraft.errors import BadRecipe
from medgraft.scores import decisions
from medgraft.scores.cases import Cases
from medgraft.scores.delong import Z95
from medgraft.scores.intervals import COUNT, bca, bootstrap_method, draws
from medgraft.scores.ranking import tally
from medgraft.scores.resample import known_patients, patient_codes
from medgraft.scores.rows import class_rows
from medgraft.scores.score import Score
from medgraft.scores.summary import fill

_WANTED = re.compile(r"\s*(sensitivity|specificity)\s*>=\s*(0?\.\d+|0|1(?:\.0*)?)\s*")


@dataclass(frozen=True)
class OperatingPoint:
    """What counts as positive, and how that was chosen.

    Attributes:
        threshold: positive means probability >= threshold; a tuple of K for several labels; None where the
            decision needs none (the most probable class, the median grade).
        rule: "youden", "sensitivity>=0.95", ..., "argmax", "median grade".
        why: said where the rule could not be followed.
        chosen_on: the split the threshold was chosen on.
    """

    threshold: float | tuple[float, ...] | None
    rule: str
    why: str | None = None
    chosen_on: str = "val"

    def on(self, cases: Cases) -> Cases:
        """Get the cases with decisions at this point."""
        return cases if self.threshold is None else replace(cases, threshold=self.threshold)

    def to_dict(self) -> dict[str, Any]:
        """Get plain JSON values; `why` is there only when it says something."""
        threshold = list(self.threshold) if isinstance(self.threshold, tuple) else self.threshold
        row: dict[str, Any] = {"threshold": threshold, "chosen_on": self.chosen_on, "rule": self.rule}
        return row if self.why is None else {**row, "why": self.why}


def choose_point(cases: Cases, *, rule: str = "youden") -> OperatingPoint:
    """Choose an operating point on validation cases; never give it test cases.

    Binary: one threshold; several labels: one each; classes and grades need none.

    Args:
        cases: validation cases.
        rule: "youden" (largest sensitivity + specificity), "sensitivity>=S" (the highest threshold that
            reaches S, so the best specificity there) or "specificity>=S" (the lowest).

    Raises:
        BadRecipe: the rule is none of these.
    """
    if cases.kind in ("multiclass", "ordinal", "number"):
        return OperatingPoint(None, {"multiclass": "argmax", "ordinal": "median grade"}.get(cases.kind, "value"))
    if cases.kind == "binary":
        threshold, why = choose_threshold(cases.truth, cases.chance, rule=rule)
        return OperatingPoint(threshold, rule, why)
    parts = [choose_threshold(cases.targets[:, k], cases.probabilities[:, k], rule=rule) for k in columns_of(cases)]
    said = [f"{cases.name(k)}: {why}" for k, (_, why) in enumerate(parts) if why]
    return OperatingPoint(tuple(threshold for threshold, _ in parts), rule, "; ".join(said) or None)


def columns_of(cases: Cases) -> range:
    """Get the numbers of the columns of probabilities."""
    return range(cases.probabilities.shape[1])


def choose_threshold(targets: np.ndarray, scores: np.ndarray, *, rule: str = "youden") -> tuple[float, str | None]:
    """Get a threshold by a rule, and why it is the plain 0.5 where the rule could not be followed.

    It lies midway between two neighbouring scores. Of equally good ones by Youden the one with sensitivity
    and specificity nearest to each other is taken, then the higher.

    Args:
        targets: (n,) 0/1.
        scores: (n,) probabilities.
        rule: see `choose_point`.

    Source: Youden, Cancer 1950;3:32.
    """
    wanted = None if rule == "youden" else _WANTED.fullmatch(rule)
    if rule != "youden" and wanted is None:
        do = "Write youden, sensitivity>=0.95 or specificity>=0.9 (a number from 0 to 1)."
        raise BadRecipe(f"{rule!r} is no rule for an operating point", do=do)
    truth, scores = np.asarray(targets) > 0, np.asarray(scores, dtype=np.float64)
    if len(truth) == 0 or truth.all() or not truth.any():
        return 0.5, "validation lacks positive or negative cases, so the threshold is 0.5"
    if not np.isfinite(scores).all():
        return 0.5, "some validation predictions are not finite, so the threshold is 0.5"
    values, plus, minus = tally(truth, scores, rows=np.ones((1, len(truth))))
    if len(values) == 1:
        return 0.5, "all validation cases have the same probability, so the threshold is 0.5"
    # Cut c calls positive what scores values[c] or more; the last cut calls nothing positive.
    hits = np.r_[np.cumsum(plus[0, ::-1])[::-1], 0.0]
    spared = np.r_[0.0, np.cumsum(minus[0])]
    if wanted is None:
        if (hits / hits[0] + spared / spared[-1]).max() <= 1 + 1e-9:
            return 0.5, "no threshold tells the classes apart on validation, so the threshold is 0.5"
        return between(values, _best_youden(hits, spared)), None
    share = float(wanted[2])
    if wanted[1] == "sensitivity":
        cut = int(np.flatnonzero(hits >= share * hits[0] - 1e-9)[-1])
        note = "only calling every case positive reaches it on validation" if cut == 0 else None
    else:
        cut = int(np.flatnonzero(spared >= share * spared[-1] - 1e-9)[0])
        note = "only calling no case positive reaches it on validation" if cut == len(values) else None
    return between(values, cut), note


def _best_youden(hits: np.ndarray, spared: np.ndarray) -> int:
    positives, negatives = hits[0], spared[-1]
    gain = hits * negatives + spared * positives  # whole numbers: equal points compare equal
    best = np.flatnonzero(gain == gain.max())
    apart = np.abs(hits[best] * negatives - spared[best] * positives)
    return int(best[apart == apart.min()][-1])


def between(values: np.ndarray, cut: int) -> float:
    """Get a threshold that separates `values[cut - 1]` from `values[cut]`: midway where numbers allow it.

    Args:
        values: (M,) different scores, rising.
        cut: 0 (all are called positive) to M (none is).
    """
    if cut == 0:
        return float(values[0] / 2 if values[0] >= 0 else values[0])
    if cut == len(values):
        last = float(values[-1])
        return (last + 1) / 2 if last < 1 - 1e-12 else math.nextafter(last, math.inf)
    middle = float(values[cut - 1] + (values[cut] - values[cut - 1]) / 2)
    return middle if values[cut - 1] < middle <= values[cut] else float(values[cut])


def judge(
    point: OperatingPoint, cases: Cases, *, seed: int, prevalence: float | None = None, count: int = COUNT
) -> dict[str, Any]:
    """Get the entry `operating_point` of report.json: the point on cases it was not chosen on.

    Holds sensitivity, specificity, ppv and npv with intervals; at a stated prevalence also `at_prevalence`
    with ppv and npv by Bayes. Several classes or labels: the same under `classes`, each against the rest.

    Args:
        point: from `choose_point`.
        cases: test cases.
        seed: the run's seed.
        prevalence: share of people with the finding where the model is to be used, 0..1; binary only.
        count: resamples.

    Raises:
        BadRecipe: prevalence is not strictly between 0 and 1.
    """
    if prevalence is not None and not 0 < prevalence < 1:
        raise BadRecipe(f"prevalence {prevalence} is not between 0 and 1")
    placed = point.on(cases)
    if cases.kind == "number":
        return point.to_dict()
    if cases.kind != "binary":
        return {**point.to_dict(), "classes": _each_class(placed, seed=seed, count=count)}
    called = placed.called == placed.positive_index
    name = placed.name(placed.positive_index)
    rows = class_rows(placed, placed.truth, chance=placed.chance, called=called, name=name)
    wanted = ("sensitivity", "specificity", "ppv", "npv")
    found = fill(placed, {word: rows[word] for word in wanted}, seed=seed, count=count)
    entry = {**point.to_dict(), **{word: score.to_dict() for word, score in found.items()}}
    if prevalence is not None:
        pair = predictive_values(placed, called, prevalence=prevalence, seed=seed, count=count)
        entry["at_prevalence"] = {"prevalence": prevalence, **{word: score.to_dict() for word, score in pair.items()}}
    return entry


def _each_class(cases: Cases, *, seed: int, count: int) -> dict[str, dict[str, Any]]:
    called, rows = cases.called, {}
    for k in columns_of(cases):
        truth = cases.targets[:, k] > 0 if cases.kind == "labels" else cases.targets == k
        decided = called[:, k] > 0 if cases.kind == "labels" else called == k
        one = class_rows(cases, truth, chance=cases.probabilities[:, k], called=decided, name=cases.name(k))
        rows |= {f"{k} {word}": one[word] for word in ("sensitivity", "specificity", "ppv", "npv")}
    table: dict[str, dict[str, Any]] = {cases.name(k): {} for k in columns_of(cases)}
    for name, score in fill(cases, rows, seed=seed, count=count).items():
        k, _, word = name.partition(" ")
        table[cases.name(int(k))][word] = score.to_dict()
    return table


def predictive_values(
    cases: Cases, called: np.ndarray, *, prevalence: float, seed: int, count: int = COUNT
) -> dict[str, Score]:
    """Get PPV and NPV at a stated prevalence, with 95 % intervals.

    One case a patient: on the logit scale with 1.96 squared halves added to the counts, which also serves
    when no case was called wrong. Several: by resampling patients, and by the former over patients where
    resamples show no spread. The prevalence itself is taken as known.

    Args:
        cases: binary.
        called: (n,) booleans, called positive.
        prevalence: strictly between 0 and 1.
        seed: the run's seed.
        count: resamples.

    Source: Mercaldo, Lau and Zhou, Stat Med 2007;26:2170 (adjusted logit).
    """
    truth, known = cases.truth, known_patients(cases.patients, len(cases))
    codes, people = patient_codes(cases.patients, len(cases))

    def both(rows: np.ndarray | None) -> np.ndarray:
        tp, fn, tn, fp = np.atleast_2d(decisions.counts(truth, called, weights=rows)).T
        sides = decisions.ratio(tp, tp + fn), decisions.ratio(tn, tn + fp)
        return np.stack([metric(*sides, prevalence=prevalence) for metric in _BAYES], axis=1)

    value = both(None)[0]
    parts = {name: lambda rows, k=k: both(rows)[:, k] for k, name in enumerate(("ppv", "npv"))}
    found = draws(parts, codes, seed=seed, count=count) if 1 < people < len(cases) else {}
    right = {"tp": truth & called, "positive": truth, "tn": ~truth & ~called, "negative": ~truth}
    sizes = {name: float(len(np.unique(codes[mask]))) for name, mask in right.items()}
    ends = _adjusted_logit(sizes, prevalence)
    table = {}
    for k, name in enumerate(("ppv", "npv")):
        method = f"Bayes at prevalence {prevalence:g}, adjusted logit interval"
        if not math.isfinite(value[k]):
            why = "cases with or without the finding are missing, or none was called so"
            table[name] = Score.missing(why, n=len(cases), n_patients=known, method=method)
            continue
        low, high, note = min(ends[k][0], value[k]), max(ends[k][1], value[k]), None
        if name in found and not found[name].flat:
            low, high, note = bca(float(value[k]), found[name])
            method = f"Bayes at prevalence {prevalence:g}, {bootstrap_method(known, count, note=note)}"
        why = note if low is None else None
        table[name] = Score(float(value[k]), low, high, len(cases), known, method, why)
    return table


_BAYES = (decisions.ppv_at, decisions.npv_at)


def _adjusted_logit(sizes: dict[str, float], prevalence: float) -> tuple[tuple[float, float], tuple[float, float]]:
    square = Z95**2
    positives, negatives = sizes["positive"] + square, sizes["negative"] + square
    sens, spec = (sizes["tp"] + square / 2) / positives, (sizes["tn"] + square / 2) / negatives
    found = []
    for centre, spread in (
        (
            math.log(sens / (1 - spec)) + logit(prevalence),
            (1 - sens) / (sens * positives) + spec / ((1 - spec) * negatives),
        ),
        (
            math.log(spec / (1 - sens)) - logit(prevalence),
            sens / ((1 - sens) * positives) + (1 - spec) / (spec * negatives),
        ),
    ):
        half = Z95 * math.sqrt(spread)
        found.append((float(expit(centre - half)), float(expit(centre + half))))
    return found[0], found[1]
