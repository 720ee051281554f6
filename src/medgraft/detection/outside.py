"""Scores of a run that finds boxes on other data with boxes; nothing is fitted there."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medgraft import outside, pages, storage
from medgraft.detection import drawn, judge, written
from medgraft.detection.job import in_file
from medgraft.detection.opened import BoxRun
from medgraft.detection.scans.opened import ScanRun
from medgraft.detection.told import box_counts
from medgraft.errors import BadData, RunRefused
from medgraft.gather import Listen
from medgraft.learn import stopping
from medgraft.recipe import load
from medgraft.report.card import write_card
from medgraft.report.page import write_report
from medgraft.samples.dataset import Columns, read_samples
from medgraft.samples.store import Store
from medgraft.samples.survey import limit_bad
from medgraft.scores.hits import HitRule
from medgraft.values import Prediction, Sample

_BATCH = 8


def evaluate_boxes(
    run: BoxRun, data: Path, *, out: Path, columns: Columns, percent_bad: float, listen: Listen
) -> dict[str, Any]:
    """Score a run on data with boxes and write report.json, report.html, predictions.csv and boxes.csv.

    When the data have splits, only their test part is used. Thresholds and the rule of a hit are those of the run.

    Raises:
        RunRefused: `out` holds a report already.
        BadData: no image has boxes, or a class is not one of the run's.
        Leak: images of the run's training or validation are among the data.
    """
    if (out / "report.json").exists():
        raise RunRefused("this folder holds a report already", where=out, do="Give another --out.")
    pages.refuse_others(out, data=data)
    out.mkdir(parents=True, exist_ok=True)
    dataset = read_samples(data, columns=columns, limit_bad=percent_bad)
    boxed = replace(dataset, samples=tuple(sample for sample in dataset.samples if sample.boxes is not None))
    if not boxed.samples:
        raise BadData("no image has boxes", where=data)
    samples, notes = outside.chosen(boxed)
    store, records = outside.stored(samples, run.pixels.to_dict(), listen=listen)
    outside.refuse_training_images(run.folder, samples, records=records)
    doubts = outside.doubts_of(run.folder, samples, records=records)
    for text in (*doubts, *notes):
        listen({"event": "warning" if text in doubts else "say", "text": text})
    whole = replace(boxed, samples=tuple(samples))
    bad = [(problem.path, problem.reason) for problem in limit_bad(whole, records, percent=percent_bad)]
    good = [place for place, record in enumerate(records) if record["error"] is None]
    kept = [samples[place] for place in good]
    run.task.encode([sample.boxes for sample in kept if sample.boxes is not None])  # names classes that are not known
    shapes = {records[place]["key"]: records[place]["shape"] for place in good}
    sizes = {key: (int(shape[-2]), int(shape[-1])) for key, shape in shapes.items()}
    found, speed = _found(run, store, kept=kept, places=good, sizes=sizes, listen=listen)
    rule = HitRule(run.card["hit"]["rule"], run.card["hit"]["iou"])
    by_key = {sample.key: sample for sample in kept}
    seen = {"test": judge.detections(run.task, found, by_key)}
    seed, resamples = int(run.report["seed"]), load(run.folder / "recipe.yaml").scores.resamples
    head = head_of(run, whole, records, bad, notes)
    report = {
        **head,
        "warnings": [*head["warnings"], *doubts],
        **judge.verdicts(run.task, seen, rule, covariates=judge.covariates_of(kept), seed=seed, resamples=resamples),
        "timing": {"predict_images_per_second": round(speed, 2)},
    }
    place_of = {sample.key: place for sample, place in zip(kept, good, strict=True)}
    limits = dict(zip(run.task.answers.classes, run.task.threshold, strict=True))
    words: dict[str, Any] = {"picture": lambda key: store[place_of[key]], "pixels": run.pixels, "sizes": sizes}
    shown, close = drawn.gallery(seen["test"], limits, rule, **words)
    store.close()
    storage.write_table(out / "quarantine.csv", report["quarantine"], columns=("path", "reason"))
    written.write_predictions(out, run.task, [("test", by_key[one.key], one) for one in found])
    write_report(
        report, folder=out, curves={**judge.curves(seen["test"], rule, seed=seed), "close": close}, gallery=shown
    )
    write_card(report, out)
    storage.write_json(out / "report.json", report)
    return report


def _found(
    run: BoxRun,
    store: Store,
    *,
    kept: Sequence[Sample],
    places: Sequence[int],
    sizes: Mapping[str, tuple[int, int]],
    listen: Listen,
) -> tuple[list[Prediction], float]:
    """Run the detector over images of a store: (predictions in the files' own pixels, images per second)."""
    began, found = time.perf_counter(), []
    for start in range(0, len(places), _BATCH):
        stopping.check()
        part = slice(start, start + _BATCH)
        here = run.found(store.rows(places[part]), [sample.key for sample in kept[part]])
        found += [in_file(run.task, one, run.pixels, sizes[one.key]) for one in here]
        listen({"event": "predict", "done": len(found), "of": len(places)})
    return found, len(found) / max(time.perf_counter() - began, 1e-9)


def head_of(
    run: BoxRun | ScanRun, whole: Any, records: Any, bad: list[tuple[str, str]], notes: list[str]
) -> dict[str, Any]:
    """Get what the report says of the data, with their boxes, and of the run; arguments as of `outside.head_of`."""
    head = outside.head_of(run, whole, records, bad, notes)
    head["data"]["boxes"] = {"test": box_counts(whole.samples)}
    return head
