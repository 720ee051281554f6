"""The main job for label maps from end to end: plan, assemble, fit, judge, report; the run folder is the usual."""

from __future__ import annotations

import time
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from medgraft import resuming, storage
from medgraft.detection.told import Times
from medgraft.fitting import fit_places
from medgraft.gallery import picture_of
from medgraft.gather import Listen
from medgraft.learn import stopping
from medgraft.learn.loop import Fitted
from medgraft.learn.resume import Checkpoints
from medgraft.learn.segmenter import save_segmenter
from medgraft.nets import recalibrate
from medgraft.recipe import Recipe
from medgraft.report.card import write_card
from medgraft.report.page import write_report
from medgraft.samples.dataset import DataSet
from medgraft.segmentation import told
from medgraft.segmentation.cases import CaseShelf, truth_of
from medgraft.segmentation.drawer import Drawer
from medgraft.segmentation.judge import Rules, verdicts
from medgraft.segmentation.partings import best_parting, parting_before
from medgraft.segmentation.parts import DrawParts, Prepared, assemble_masks, prepare_masks

_MEASURED = 24  # batches that BatchNorm's statistics are measured on
_NO_EPOCH = 1_000_000  # patches that no epoch shows
_CASES = "cases"


def train_masks(out: Path, dataset: DataSet, *, recipe: Recipe, listen: Listen) -> dict[str, Any]:
    """Do the main job and get what report.json holds.

    Args:
        out: the run folder, already locked and checked.
        dataset: samples with label maps.
        recipe: fields that are empty or "auto" are planned.
        listen: gets progress events.

    Raises:
        RunRefused: what a resumed run needs has changed.
        Stopped: it stopped safely and can be resumed.
    """
    ready = prepare_masks(dataset, recipe, listen=listen)
    try:
        resuming.check_samples(out, ready.found.samples, records=ready.found.records)
        times, began = Times(), time.perf_counter()
        recipe, parts = assemble_masks(ready, folder=out / _CASES, listen=listen)
        if recipe.backbone.recalibrate:
            batches = islice(parts.train.epoch(_NO_EPOCH), _MEASURED)
            parts.task.backbone.eval()
            recalibrate(parts.task.backbone, [parts.engine.move(batch).pixels for batch in batches])
        if parts.form.apart:
            parts.task.parting = parting_before(parts.train.cases.masks)
        times.prefix = time.perf_counter() - began
        resuming.begin(out, recipe, found=ready.found)
        shown = any(ready.found.samples[place].label for place in ready.found.of("val"))
        if not shown:
            text = "no validation image has a structure: the last weights are kept, as none can be chosen"
            listen({"event": "warning", "text": text})
        words: dict[str, Any] = {"train": parts.train, "val": parts.val if shown else None, "listen": listen}
        fitted = fit_places(out, recipe, task=parts.task, engine=parts.engine, **words)
        times.train = fitted.seconds
        return _finish(out, recipe, parts, ready, fitted=fitted, times=times, listen=listen)
    finally:
        ready.found.store.close()


def _finish(
    out: Path,
    recipe: Recipe,
    parts: DrawParts,
    ready: Prepared,
    *,
    fitted: Fitted,
    times: Times,
    listen: Listen,
) -> dict[str, Any]:
    """Draw on validation and test images, judge, write everything; report.json comes last and says it is done."""
    task = parts.task.eval()
    task.mirrored = parts.form.mirrored  # not while it learnt: each epoch is judged, and looks cost time
    by_key = {sample.key: sample for sample in ready.found.samples}
    rules = Rules.of(recipe, parts.frames.values(), classes=ready.form.names)
    if task.apart and told.is_judged(fitted):
        truths = {key: truth_of(by_key[key], ready.form) for key in parts.val.cases.keys}
        task.parting = best_parting(task, parts.engine, parts.val, truths, frames=parts.frames)
    drawer = Drawer(out, task, parts.engine, form=ready.form, rules=rules)
    began = time.perf_counter()
    for split, wholes in (("val", parts.val), ("test", parts.test)):
        began = time.perf_counter()
        for done, (key, pixels) in enumerate(zip(wholes.cases.keys, wholes.cases.pixels, strict=True), start=1):
            stopping.check()
            drawer.add(split, by_key[key], pixels, parts.frames[key])
            listen({"event": "predict", "done": done, "of": len(wholes)})
    times.predict_images_per_second = len(parts.test) / max(time.perf_counter() - began, 1e-9)
    result = verdicts(drawer.judged, rules, seed=recipe.seed, resamples=recipe.scores.resamples)
    save_segmenter(out / "model.safetensors", task, card=told.card_of(recipe, parts, ready))
    fitted_on = "val" if told.is_judged(fitted) else None
    parting = asdict(task.parting) if task.apart else {"valley": None}
    storage.write_json(out / "calibration.json", {**parting, "fitted_on": fitted_on})
    drawer.write_table()
    report = told.report_of(recipe, parts, ready, fitted=fitted, times=times, result=result, out=out)
    curves: dict[str, Any] = {"train": fitted.history, "drawn": drawer.curves()}
    sheet = [picture_of(row) for row in parts.train.sample_sheet(16)]
    write_report(report, folder=out, curves=curves, gallery=drawer.gallery.rows(), augmented=sheet)
    write_card(report, out)
    storage.write_json(out / "report.json", report)
    Checkpoints(out / "resume").clear()
    CaseShelf(out / _CASES, parts.form.grid, ready.form).clear()
    return report
