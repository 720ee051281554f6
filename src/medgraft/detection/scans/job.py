"""The main job for boxes in volumes from end to end: plan, search, fit, judge, report; the run folder is the usual."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medgraft import resuming, storage
from medgraft.detection import judge, written
from medgraft.detection.scans import drawn, told
from medgraft.detection.scans.parts import diameters, prepare_scans
from medgraft.detection.scans.seen import Seen, clear, see
from medgraft.errors import MedgraftError
from medgraft.gather import Gathered, Listen
from medgraft.learn.candidate_finder import Finder, save_finder, solve_finder
from medgraft.recipe import Recipe
from medgraft.report.card import write_card
from medgraft.report.page import write_report
from medgraft.samples.dataset import DataSet
from medgraft.samples.planes import LEFT_OUT, Errand
from medgraft.samples.split import group_of
from medgraft.scores.box_sizes import size_subgroups
from medgraft.scores.boxes import Detections
from medgraft.scores.froc import events, froc_scores
from medgraft.scores.hits import HitRule
from medgraft.scores.hits import verdicts as verdicts_of
from medgraft.tasks.box_calls import BoxCalls
from medgraft.values import Prediction, Sample


@dataclass(frozen=True, eq=False)
class Rows:
    """Candidates to learn from.

    Attributes:
        features: `(N, F)`.
        targets: `(N,)` 0 for nothing, k for the k-th class.
        weights: `(N,)` what each row stands for: the views of one candidate share 1.
        groups: N patients.
    """

    features: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    groups: tuple[str, ...]


def train_scans(out: Path, dataset: DataSet, *, recipe: Recipe, listen: Listen) -> dict[str, Any]:
    """Do the main job and get what report.json holds; arguments and errors as in `detection.job.train_boxes`."""
    recipe, found, finder = prepare_scans(dataset, recipe, listen=listen)
    try:
        resuming.check_samples(out, found.samples, records=found.records)
        resuming.begin(out, recipe, found=found)
        times = told.Times()
        began = time.perf_counter()
        seen = _seen(out, recipe, found, finder, listen)
        times.search = time.perf_counter() - began
        began = time.perf_counter()
        fitted = _fit(found, finder, seen, seed=recipe.seed)
        times.train = time.perf_counter() - began
        listen({"event": "say", "text": told.fit_words(fitted)})
        return _finish(out, recipe, found, finder, seen, fitted=fitted, times=times)
    finally:
        found.store.close()


def _seen(out: Path, recipe: Recipe, found: Gathered, finder: Finder, listen: Listen) -> dict[str, Seen]:
    """What is seen of each scan by its key; of those of the training with further views of what hits."""
    errands = [Errand(one.image, one.boxes if one.split == "train" else None) for one in found.samples]
    prints = [str(record["content"]) for record in found.records]
    words: dict[str, Any] = {"workers": max(2, recipe.machine.workers), "listen": listen}
    seen: dict[str, Seen] = {}
    each = see(finder, errands, prints=prints, folder=out / "resume", **words)
    for sample, one in zip(found.samples, each, strict=True):
        if isinstance(one, Exception):
            raise one if isinstance(one, MedgraftError) else RuntimeError(str(one))
        seen[sample.key] = one
    return seen


def _fit(found: Gathered, finder: Finder, seen: Mapping[str, Seen], *, seed: int) -> dict[str, Any]:
    training = [found.samples[i] for i in found.of("train")]
    names = group_of(found.samples, found.survey.duplicates)
    rows = rows_of(training, seen, classes=finder.answers.classes, groups=names, views=finder.looks.views)
    words: dict[str, Any] = {"targets": rows.targets, "weights": rows.weights, "groups": rows.groups}
    fitted = solve_finder(finder, rows.features, seed=seed, **words)
    finder.grow = _growth(training, seen)
    counts = [int((rows.weights * (rows.targets == kind)).sum().round()) for kind in range(rows.targets.max() + 1)]
    return {**fitted, "candidates": sum(counts), "findings": sum(counts[1:]), **_reach(training, seen)}


def rows_of(
    samples: Sequence[Sample],
    seen: Mapping[str, Seen],
    *,
    classes: Sequence[str],
    groups: Mapping[str, str],
    views: int,
) -> Rows:
    """Put the candidates of scans together; those left out are not among them.

    Args:
        samples: with boxes.
        seen: by the key of the sample.
        classes: K names.
        groups: a patient by the key of the sample.
        views: of a candidate that is a finding.
    """
    number = {name: place for place, name in enumerate(classes, start=1)}
    features, targets, weights, names = [], [], [], []
    for sample in samples:
        one, boxes = seen[sample.key], sample.boxes
        assert boxes is not None
        kinds = np.array([0 if hit < 0 else number[boxes.labels[hit]] for hit in one.hits.tolist()], np.int64)
        plain = np.flatnonzero(one.hits != LEFT_OUT)
        features += [one.features[plain], one.further]
        targets += [kinds[plain], kinds[one.further_of]]
        own = np.where(kinds > 0, 1.0 / views, 1.0)
        weights += [own[plain], own[one.further_of]]
        names += [groups[sample.key]] * (len(plain) + len(one.further))
    whole = [np.concatenate(part) for part in (features, targets, weights)]
    return Rows(whole[0], whole[1], whole[2], tuple(names))


def _growth(samples: Sequence[Sample], seen: Mapping[str, Seen]) -> float:
    """How much larger a true box is than the candidate that hits it, the median of the training."""
    ratios = []
    for sample in samples:
        one = seen[sample.key]
        hit = np.flatnonzero(one.hits >= 0)
        assert sample.boxes is not None
        true = diameters(sample.boxes, one.space.spacing_mm)
        ratios += (true[one.hits[hit]] / (2 * one.radius_mm[hit])).tolist()
    return float(np.median(ratios))


def _reach(samples: Sequence[Sample], seen: Mapping[str, Seen]) -> dict[str, int]:
    """How many true boxes there are, and in how many there is a candidate: no more can be found."""
    true = sum(int((~sample.boxes.ignored).sum()) for sample in samples if sample.boxes is not None)
    return {"true": true, "reached": sum(len({hit for hit in seen[s.key].hits.tolist() if hit >= 0}) for s in samples)}


def _finish(
    out: Path,
    recipe: Recipe,
    found: Gathered,
    finder: Finder,
    seen: Mapping[str, Seen],
    *,
    fitted: dict[str, Any],
    times: told.Times,
) -> dict[str, Any]:
    """Choose thresholds on validation, judge on test, write everything; report.json comes last and says it is done."""
    by_key = {sample.key: sample for sample in found.samples}
    rule = judge.rule_of(recipe)
    split = {part: [found.samples[i].key for i in found.of(part)] for part in ("val", "test")}
    said = {part: [seen[key].told(finder, key) for key in keys] for part, keys in split.items()}
    laid = {part: judge.detections(finder, ones, by_key) for part, ones in said.items()}
    finder.threshold = judge.thresholds(laid["val"], rule)
    said = {part: [seen[key].told(finder, key) for key in keys] for part, keys in split.items()}
    spaces = {key: one.space for key, one in seen.items()}
    words: dict[str, Any] = {"seed": recipe.seed, "resamples": recipe.scores.resamples}
    parts = {"val": laid["val"], "test": laid["test"]}
    result = verdicts(finder, parts, rule, samples=by_key, seen=seen, **words)
    result["search"] = _search_alone(finder, [seen[key].alone(finder, key) for key in split["test"]], by_key, rule)
    save_finder(out / "model.safetensors", finder, card=told.card_of(recipe, finder))
    storage.write_json(out / "calibration.json", {"threshold": list(finder.threshold), "fitted_on": "val"})
    every = [(part, by_key[one.key], one) for part, ones in said.items() for one in ones]
    written.write_predictions(out, finder, every, spaces=spaces)
    report = told.report_of(recipe, finder, found, fitted=fitted, times=times, result=result, out=out)
    write_pages(out, report, laid["test"], finder, rule, images={key: one.image for key, one in by_key.items()})
    storage.write_json(out / "report.json", report)
    clear(out / "resume")
    return report


def verdicts(
    finder: BoxCalls,
    parts: Mapping[str, Detections],
    rule: HitRule,
    *,
    samples: Mapping[str, Sample],
    seen: Mapping[str, Any],
    seed: int,
    resamples: int,
) -> dict[str, Any]:
    """Get the report's keys about found boxes, as `detection.judge.verdicts`, with groups by the size of the truth.

    Args:
        finder: with its thresholds.
        parts: truth and finds by the part of the data, "test" and where there is one "val".
        rule: when a found box is a hit.
        samples: by their keys.
        seen: anything with the `space` of a scan, by its key.
        seed: the run's seed.
        resamples: of patients.
    """
    test = parts["test"]
    columns = judge.covariates_of([samples[key] for key in test.keys])
    result = judge.verdicts(finder, parts, rule, covariates=columns, seed=seed, resamples=resamples)
    limits = dict(zip(finder.answers.classes, finder.threshold, strict=True))
    sizes = [diameters(boxes, seen[key].space.spacing_mm) for key, boxes in zip(test.keys, test.truth, strict=True)]
    banded = size_subgroups(test, sizes, thresholds=limits, hit=rule, seed=seed, count=resamples)
    return {**result, "subgroups": [*(one.to_dict() for one in banded), *result["subgroups"]]}


def _search_alone(
    finder: Finder, found: Sequence[Prediction], samples: Mapping[str, Sample], rule: HitRule
) -> dict[str, Any]:
    """The FROC score of the candidates by the filter's own score, where there is one class: what the net adds to."""
    if len(finder.answers.classes) > 1:
        return {}
    test = judge.detections(finder, found, samples)
    some = events(verdicts_of(test, hit=rule), images=len(test))
    return {name: float(row[0]) for name, row in froc_scores(some, np.ones((1, len(test)))).items()}


def write_pages(
    out: Path,
    report: dict[str, Any],
    test: Detections,
    finder: BoxCalls,
    rule: HitRule,
    *,
    images: Mapping[str, Any],
    history: Sequence[Mapping[str, float]] = (),
) -> None:
    """Write report.html and model-card.md, with pictures of test scans; `history` is of the epochs of a training."""
    limits = dict(zip(finder.answers.classes, finder.threshold, strict=True))
    shown, close = drawn.gallery(test, limits, rule, images=images)
    curves = {**judge.curves(test, rule, seed=int(report["seed"])), "close": close}
    if history:
        curves["train"] = list(history)
    write_report(report, folder=out, curves=curves, gallery=shown)
    write_card(report, out)
