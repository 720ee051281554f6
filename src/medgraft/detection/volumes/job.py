"""The main job for a detector in volumes from end to end; the run folder is the usual."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medgraft import resuming, storage
from medgraft.detection import judge, written
from medgraft.detection.scans.job import verdicts, write_pages
from medgraft.detection.volumes import told
from medgraft.detection.volumes.framed import FrameShelf
from medgraft.detection.volumes.parts import (
    VolumeParts,
    assemble_volumes,
    boxes_back,
    prepare_volumes,
    recalibration_batches,
)
from medgraft.fitting import fit_places
from medgraft.gather import Gathered, Listen
from medgraft.learn import stopping
from medgraft.learn.engine import Engine
from medgraft.learn.loop import Fitted
from medgraft.learn.resume import Checkpoints
from medgraft.learn.volume_detector import save_volume_detector
from medgraft.nets import recalibrate
from medgraft.recipe import Recipe
from medgraft.samples.dataset import DataSet
from medgraft.samples.framing import Frame
from medgraft.tasks.detect_volume import DetectVolume
from medgraft.values import Batch, Boxes, Prediction

_MEASURED = 32  # batches that BatchNorm's statistics are measured on
_FRAMES = "frames"


def train_volumes(out: Path, dataset: DataSet, *, recipe: Recipe, listen: Listen) -> dict[str, Any]:
    """Do the main job and get what report.json holds; arguments and errors as in `detection.job.train_boxes`."""
    recipe, found, task = prepare_volumes(dataset, recipe, listen=listen)
    try:
        resuming.check_samples(out, found.samples, records=found.records)
        times = told.Times()
        began = time.perf_counter()
        recipe, parts = assemble_volumes(recipe, found, task, folder=out / _FRAMES, listen=listen)
        if recipe.backbone.recalibrate:
            task.backbone.eval()
            recalibrate(task.backbone, recalibration_batches(parts.train, parts.engine, count=_MEASURED))
        times.prefix = time.perf_counter() - began
        resuming.begin(out, recipe, found=found)
        words: dict[str, Any] = {"train": parts.train, "val": parts.val, "listen": listen}
        fitted = fit_places(out, recipe, task=parts.task, engine=parts.engine, **words)
        times.train = fitted.seconds
        return _finish(out, recipe, parts, found, fitted=fitted, times=times, listen=listen)
    finally:
        found.store.close()


def _finish(
    out: Path,
    recipe: Recipe,
    parts: VolumeParts,
    found: Gathered,
    *,
    fitted: Fitted,
    times: told.Times,
    listen: Listen,
) -> dict[str, Any]:
    """Choose thresholds on validation, judge on test, write everything; report.json comes last and says it is done."""
    task, rule = parts.task.eval(), judge.rule_of(recipe)
    task.mirrored = parts.form.mirrored  # not while it learnt
    by_key = {sample.key: sample for sample in found.samples}
    said = {"val": _predicted(parts, parts.val.epoch(), listen)}
    began = time.perf_counter()
    said["test"] = _predicted(parts, parts.test.epoch(), listen)
    times.predict_images_per_second = len(said["test"]) / max(time.perf_counter() - began, 1e-9)
    laid = {part: judge.detections(task, own, by_key) for part, own in said.items()}
    task.threshold = judge.thresholds(laid["val"], rule)
    words: dict[str, Any] = {"seed": recipe.seed, "resamples": recipe.scores.resamples}
    result = verdicts(task, laid, rule, samples=by_key, seen=parts.frames, **words)
    save_volume_detector(out / "model.safetensors", task, card=told.card_of(recipe, parts))
    storage.write_json(out / "calibration.json", {"threshold": list(task.threshold), "fitted_on": "val"})
    every = [(part, by_key[one.key], _worded(task, one)) for part, own in said.items() for one in own]
    written.write_predictions(out, task, every, spaces={key: one.space for key, one in parts.frames.items()})
    report = told.report_of(recipe, parts, found, fitted=fitted, times=times, result=result, out=out)
    images = {key: one.image for key, one in by_key.items()}
    write_pages(out, report, laid["test"], task, rule, images=images, history=fitted.history)
    storage.write_json(out / "report.json", report)
    Checkpoints(out / "resume").clear()
    FrameShelf(out / _FRAMES, parts.form.frame).clear()
    return report


def _predicted(parts: VolumeParts, batches: Iterable[Batch], listen: Listen) -> list[Prediction]:
    """Get what is found in scans, in the files' own voxels."""
    found: list[Prediction] = []
    for batch in batches:
        stopping.check()
        found += look(parts.task, parts.engine, batch, [parts.frames[key] for key in batch.keys])
        listen({"event": "scans", "done": len(found)})
    return found


def look(task: DetectVolume, engine: Engine, batch: Batch, frames: Sequence[Frame]) -> list[Prediction]:
    """Get what is in a batch of whole scans, in the files' own voxels."""
    with torch.inference_mode(), engine.autocast():
        told_of = task.predict(engine.move(batch))
    back = boxes_back([one.boxes or Boxes(np.zeros((0, 6)), ()) for one in told_of], frames)
    scores = [np.zeros(0) if one.scores is None else one.scores for one in back]
    return [
        replace(one, boxes=boxes, logits=sure, predicted=task.said(boxes))
        for one, boxes, sure in zip(told_of, back, scores, strict=True)
    ]


def _worded(task: DetectVolume, one: Prediction) -> Prediction:
    """Say anew what is called: the thresholds are chosen by now."""
    assert one.boxes is not None
    return replace(one, predicted=task.said(one.boxes))
