"""How good it is: everything the report says about predictions.

Temperature and operating point come from validation cases only; test cases
are only judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from medgraft.learn import certainty
from medgraft.learn.certainty import Certainty
from medgraft.scores.bands import Band, pr_band, roc_band
from medgraft.scores.calibration import Calibration, fit_temperature, reliability
from medgraft.scores.cases import Cases
from medgraft.scores.conformal import coverage_table
from medgraft.scores.decisions import confusion_matrix
from medgraft.scores.intervals import bootstrap, proportion
from medgraft.scores.operating import OperatingPoint, choose_point, judge
from medgraft.scores.patients import by_patient
from medgraft.scores.probabilities import BINS, brier, ece
from medgraft.scores.ranking import one_column_each
from medgraft.scores.score import Score
from medgraft.scores.subgroups import subgroup_table
from medgraft.scores.summary import class_table, score_table
from medgraft.tasks.base import ImageTask
from medgraft.values import Prediction, Sample

_FILES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".nii", ".gz", ".xml", ".txt", ".json", ".npy")
_MOST_CURVES = 12
_MANY_CASES = 20
_CURVE_RESAMPLES = 500  # bands are drawn, not quoted


@dataclass(frozen=True, eq=False)
class Predicted:
    """Logits and truth of one part of the data, in one order.

    Attributes:
        keys: of the samples.
        logits: `(N, K)` float64.
        targets: encoded truth.
        patients: names, or None when unknown.
        covariates: column -> N values.
        features: `(N, F)` the pooled features that the logits came from.
    """

    keys: tuple[str, ...]
    logits: np.ndarray
    targets: np.ndarray
    patients: tuple[str, ...] | None
    covariates: Mapping[str, Sequence[str | None]]
    features: np.ndarray


def named(task: ImageTask, found: Predicted) -> Predicted:
    """Get the part whose labels are known, as a task of labels alone would have given it."""
    rows, targets = task.named(found.targets)
    if len(rows) == len(found.targets) and targets is found.targets:
        return found
    chosen = rows.tolist()
    return Predicted(
        keys=tuple(found.keys[row] for row in chosen),
        logits=task.named_logits(found.logits)[rows],
        targets=targets,
        patients=None if found.patients is None else tuple(found.patients[row] for row in chosen),
        covariates={name: [values[row] for row in chosen] for name, values in found.covariates.items()},
        features=found.features[rows],
    )


def known_patients(samples: Sequence[Sample]) -> tuple[str, ...] | None:
    """Get a patient's name for every sample; a sample of an unknown one stands alone; None when all are unknown."""
    if not any(sample.patient for sample in samples):
        return None
    return tuple(sample.patient or f"\x00{sample.key}" for sample in samples)


def groupable(covariates: Mapping[str, Sequence[str | None]]) -> dict[str, Sequence[str | None]]:
    """Get the columns that can part cases into groups: not those that name files or single cases."""
    found = {}
    for name, values in covariates.items():
        known = [value for value in values if value]
        numbers, different = sum(_is_number(value) for value in known), len(set(known))
        names_files = any(Path(value).suffix.lower() in _FILES for value in known)
        names_cases = not numbers and 1 < len(known) == different
        few = numbers > len(known) / 2 or different <= max(8, len(known) // 10)
        if known and few and not names_files and not names_cases:
            found[name] = values
    return found


def repeats_labels(values: Sequence[str | None], targets: np.ndarray) -> bool:
    """Say whether a column only says the label again, as a grade or a diagnosis does: its groups cannot be scored."""
    if targets.ndim != 1 or targets.dtype.kind == "f" or len(values) < _MANY_CASES:
        return False
    groups: dict[str, list[int]] = {}
    for value, target in zip(values, targets.tolist(), strict=True):
        if value:
            groups.setdefault(value, []).append(target)
    shared = [found for found in groups.values() if len(found) > 1]
    return len(groups) <= max(8, len(values) // 10) and all(len(set(found)) == 1 for found in shared)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def settle(task: ImageTask, val: Predicted, *, rule: str) -> tuple[Calibration | None, OperatingPoint]:
    """Fit the temperature and choose the operating point on validation, and set both in the task.

    Raises:
        BadRecipe: the rule is no rule.
    """
    calibration = None
    if task.answer_kind != "number":
        calibration = fit_temperature(task.answer_kind, val.targets, logits=_for_fit(task, val.logits))
        calibration = _with_names(calibration, task.answers.classes)
        task.temperature = calibration.temperature
    point = choose_point(cases_of(task, val), rule=rule)
    if point.threshold is not None:
        task.threshold = point.threshold if isinstance(point.threshold, tuple) else (point.threshold,)
    return calibration, point


def _with_names(calibration: Calibration, classes: Sequence[str]) -> Calibration:
    """What is said of "label 3" said of its name."""
    why = calibration.why
    for place in reversed(range(len(classes))):
        why = why.replace(f"label {place}:", f"{classes[place]}:") if why else None
    return replace(calibration, why=why)


def _for_fit(task: ImageTask, logits: np.ndarray) -> np.ndarray:
    """Two softmax outputs say the same as the difference between them."""
    return logits[:, 1] - logits[:, 0] if task.answer_kind == "binary" else logits


def cases_of(task: ImageTask, found: Predicted, *, temperature: tuple[float, ...] | None = None) -> Cases:
    """Get truth and predictions as the scores room takes them."""
    threshold = task.threshold[0] if len(task.threshold) == 1 else task.threshold
    kept = task.temperature
    task.temperature = temperature or kept
    predictions = task.interpret(found.keys, found.logits)
    task.temperature = kept
    if task.answer_kind == "number":
        values = np.array([prediction.value for prediction in predictions], dtype=np.float64)
    else:
        rows = [prediction.probabilities for prediction in predictions]
        values = np.stack(rows) if rows else np.zeros((0, len(task.answers.classes)))
    return Cases(
        kind=task.answer_kind,
        targets=found.targets,
        probabilities=values,
        classes=task.answers.classes,
        positive=task.answers.positive,
        patients=found.patients,
        threshold=threshold if isinstance(threshold, float) else np.asarray(threshold),
    )


def settle_certainty(
    task: ImageTask, val: Predicted, train_features: np.ndarray, *, coverage: float, share: float
) -> Certainty | None:
    """Settle sets and familiarity on validation, after `settle`; see `medgraft.learn.certainty`.

    Familiar is what the features of the last level say, which stand last: decision 7.
    """
    width = task.head.widths[-1]
    words = {"train_features": train_features[:, -width:], "val_features": val.features[:, -width:]}
    return certainty.settle(cases_of(task, val), coverage=coverage, share=share, **words)


def predictions_of(task: ImageTask, sure: Certainty | None, found: Predicted) -> list[Prediction]:
    """Get the predictions, with sets and reasons to abstain where the model has them."""
    plain = task.interpret(found.keys, found.logits)
    return plain if sure is None else sure.judged(plain, found.features)


def certainty_entry(
    task: ImageTask, sure: Certainty | None, test: Predicted, *, seed: int, resamples: int
) -> dict[str, Any]:
    """Get `certainty` of report.json: sets and abstention, checked on test cases; empty where there is none."""
    if sure is None:
        return {}
    cases, sets = cases_of(task, test), sure.conformal
    words: dict[str, Any] = {"seed": seed, "count": resamples}
    judged = sure.judged(task.interpret(test.keys, test.logits), test.features)
    answered = np.array([not one.abstain for one in judged], dtype=bool)
    table = coverage_table(cases, sets, **words)
    table["per_class"] = _plain(table["per_class"])
    entry: dict[str, Any] = {
        "fitted_on": "val",
        "coverage": sets.coverage,
        "sets": {name: value if name == "per_class" else value.to_dict() for name, value in table.items()},
        "few_cases": [cases.name(k) for k, pooled in enumerate(sets.pooled) if pooled] if cases.classes else [],
        "ood": {
            "share": sure.share,
            "above": proportion(
                np.array([(one.ood or 0) > 1 for one in judged]), patients=test.patients, **words
            ).to_dict(),
        },
        "answered": proportion(answered, patients=test.patients, **words).to_dict(),
    }
    if cases.kind in ("binary", "multiclass", "ordinal"):
        for name, rows in (("right", np.ones_like(answered)), ("right_when_answered", answered)):
            part = cases.take(rows)
            entry[name] = proportion(part.called == part.targets, patients=part.patients, **words).to_dict()
    return entry


def table(task: ImageTask, found: Predicted, *, seed: int, resamples: int) -> dict[str, Any]:
    """Get name -> score in the form of report.json."""
    return _plain(score_table(cases_of(task, found), seed=seed, count=resamples))


def verdicts(
    task: ImageTask,
    test: Predicted,
    point: OperatingPoint,
    *,
    seed: int,
    resamples: int,
    prevalence: float | None = None,
) -> dict[str, Any]:
    """Get the report's keys about the test cases: tables, subgroups, operating point, calibration, confusion."""
    cases = cases_of(task, test)
    report: dict[str, Any] = {
        "scores": {"test": _plain(score_table(cases, seed=seed, count=resamples))},
        "per_class": {name: _plain(row) for name, row in class_table(cases, seed=seed, count=resamples).items()},
        "operating_point": _operating(point, cases, seed=seed, resamples=resamples, prevalence=prevalence),
    }
    if cases.kind == "binary":
        report["per_class"] = {}
    columns = {name: v for name, v in groupable(test.covariates).items() if not repeats_labels(v, cases.targets)}
    table = subgroup_table(cases, columns, seed=seed, count=resamples)
    report["subgroups"] = [row.to_dict() for row in table]
    people = by_patient(cases)
    if people.cases is not None:
        report["patient_scores"] = _plain(score_table(people.cases, seed=seed, count=resamples))
        report["patient_rule"] = people.note
    if cases.kind in ("binary", "multiclass", "ordinal"):
        matrix = confusion_matrix(cases.targets, cases.called, classes=len(cases.classes))
        report["confusion"] = {"classes": list(cases.classes), "matrix": matrix.astype(int).tolist()}
    return report


def calibration_entry(
    task: ImageTask, test: Predicted, fitted: Calibration | None, *, seed: int, resamples: int
) -> dict[str, Any]:
    """Get `calibration` of report.json: the temperature from validation, and errors on test before and after it."""
    if fitted is None:
        return {}
    plain = cases_of(task, test, temperature=(1.0,) * len(task.temperature))
    mended = cases_of(task, test)
    entry: dict[str, Any] = {
        "temperature": fitted.temperature[0] if len(fitted.temperature) == 1 else list(fitted.temperature),
        "fitted_on": "val",
        "bins": BINS,
        "validation": fitted.to_dict(),
    }
    for name, cases in (("before", plain), ("after", mended)):
        entry[f"ece_{name}"] = _interval(cases, ece, seed=seed, count=resamples)
        entry[f"brier_{name}"] = _interval(cases, brier, seed=seed, count=resamples)
    return entry


def _interval(cases: Cases, metric: Any, *, seed: int, count: int) -> dict[str, Any]:
    chances = cases.chance if cases.kind == "binary" else cases.probabilities
    truth = cases.truth.astype(np.int64) if cases.kind == "binary" else cases.targets
    score: Score = bootstrap(metric, (truth, chances), patients=cases.patients, seed=seed, count=count)
    return score.to_dict()


def curves(task: ImageTask, test: Predicted, *, seed: int) -> dict[str, Any]:
    """Get what the page draws: ROC and PR with bands, reliability before and after, scatter of numbers."""
    cases = cases_of(task, test)
    if cases.kind == "number":
        return {"scatter": {"true": cases.targets.tolist(), "predicted": cases.probabilities.tolist()}}
    drawn: dict[str, Any] = {"roc": {}, "pr": {}, "reliability": {}}
    truth, columns = one_column_each(cases.targets, cases.probabilities)
    shown = [cases.positive_index] if cases.kind == "binary" else list(range(min(truth.shape[1], _MOST_CURVES)))
    words: dict[str, Any] = {"patients": cases.patients, "seed": seed, "count": _CURVE_RESAMPLES}
    for k in shown:
        name = cases.name(k)
        roc = roc_band(truth[:, k].astype(int), columns[:, k], **words)
        pr = pr_band(truth[:, k].astype(int), columns[:, k], **words)
        if len(roc.x):
            drawn["roc"][name] = _curve(roc)
            drawn["pr"][name] = {**_curve(pr), "prevalence": float(truth[:, k].mean())}
    for name, temperature in (("before", (1.0,) * len(task.temperature)), ("after", task.temperature)):
        truths, chances, people = _judged(cases_of(task, test, temperature=temperature))
        bins = reliability(truths, chances, bins=10, patients=people, seed=seed, count=_CURVE_RESAMPLES)
        drawn["reliability"][name] = [
            {"p": b.confidence, "observed": b.observed, "low": b.low, "high": b.high, "n": b.n} for b in bins if b.n
        ]
    return drawn


def _judged(part: Cases) -> tuple[np.ndarray, np.ndarray, Sequence[object] | None]:
    """Truth, probabilities and patients as a reliability diagram takes them; labels are pooled, an image one case."""
    if part.kind == "binary":
        return part.truth.astype(np.int64), part.chance, part.patients
    if part.kind == "labels":
        count, labels = part.targets.shape
        own = part.patients if part.patients is not None else range(count)
        return part.targets.reshape(-1), part.probabilities.reshape(-1), [name for name in own for _ in range(labels)]
    return part.targets, part.probabilities, part.patients


def _curve(band: Band) -> dict[str, Any]:
    rows = band.to_dict()
    return {"x": rows["x"], "y": rows["middle"], "low": rows["low"], "high": rows["high"]}


def _operating(
    point: OperatingPoint, cases: Cases, *, seed: int, resamples: int, prevalence: float | None
) -> dict[str, Any]:
    asked = prevalence if cases.kind == "binary" else None
    entry = judge(point, cases, seed=seed, prevalence=asked, count=resamples)
    if cases.kind == "binary":
        called, truth = cases.called == cases.positive_index, cases.truth
        entry["prevalence"] = float(truth.mean())
        entry["counts"] = {
            "tp": int((called & truth).sum()),
            "fp": int((called & ~truth).sum()),
            "tn": int((~called & ~truth).sum()),
            "fn": int((~called & truth).sum()),
        }
        if "at_prevalence" in entry:
            entry["at_prevalence"] = [entry["at_prevalence"]]
    return entry


def _plain(table: Mapping[str, Score]) -> dict[str, Any]:
    return {name: score.to_dict() for name, score in table.items()}
