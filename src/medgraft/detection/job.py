"""The main job for boxes from end to end: plan, assemble, fit, judge, report; the run folder is that of every task."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medgraft import depth_rounds, resuming, storage
from medgraft.detection import drawn, judge, told, written
from medgraft.detection.depth import settle_depth
from medgraft.detection.parts import BoxParts, assemble_boxes, prepare_boxes
from medgraft.files import file_corners
from medgraft.fitting import fit_places
from medgraft.gallery import picture_of
from medgraft.gather import Gathered, Listen
from medgraft.learn import stopping
from medgraft.learn.detector import save_detector
from medgraft.learn.loop import Fitted
from medgraft.learn.model import Pixels
from medgraft.learn.recalibrate import recalibrate_on
from medgraft.learn.resume import Checkpoints
from medgraft.recipe import Recipe
from medgraft.report.card import write_card
from medgraft.report.page import write_report
from medgraft.samples.box_loader import BoxLoader
from medgraft.samples.dataset import DataSet
from medgraft.tasks.detect import Detect
from medgraft.values import Boxes, Prediction


def train_boxes(out: Path, dataset: DataSet, *, recipe: Recipe, listen: Listen) -> dict[str, Any]:
    """Do the main job and get what report.json holds.

    Args:
        out: the run folder, already locked and checked.
        dataset: samples with boxes.
        recipe: fields that are empty or "auto" are planned.
        listen: gets progress events.

    Raises:
        RunRefused: what a resumed run needs has changed.
        Stopped: it stopped safely and can be resumed.
    """
    recipe, found, task, pixels = prepare_boxes(dataset, recipe, listen=listen)
    resuming.check_samples(out, found.samples, records=found.records)
    recipe, depths = settle_depth(recipe, found, task, pixels, out=out, listen=listen)
    recipe, parts = assemble_boxes(recipe, found, task, pixels)
    try:
        times = told.Times()
        if recipe.backbone.recalibrate:
            began = time.perf_counter()
            recalibrate_on(parts.task.backbone, parts.train, engine=parts.engine, listen=listen)
            times.prefix = time.perf_counter() - began
        if depths is not None:
            storage.write_json(out / depth_rounds.FILE, depths)
        resuming.begin(out, recipe, found=found)
        words: dict[str, Any] = {"train": parts.train, "val": parts.val, "listen": listen}
        fitted = fit_places(out, recipe, task=parts.task, engine=parts.engine, **words)
        times.train = fitted.seconds
        return _finish(out, recipe, parts, found, fitted, times)
    finally:
        for part in (parts.train, parts.val, parts.test, found.store):
            part.close()


def _finish(
    out: Path, recipe: Recipe, parts: BoxParts, found: Gathered, fitted: Fitted, times: told.Times
) -> dict[str, Any]:
    """Choose thresholds on validation, judge on test, write everything; report.json comes last and says it is done."""
    parts.task.eval()
    by_key = {sample.key: sample for sample in found.samples}
    val, _ = predicted(parts, parts.val)
    test, times.predict_images_per_second = predicted(parts, parts.test)
    rule = judge.rule_of(recipe)
    seen = {name: judge.detections(parts.task, own, by_key) for name, own in (("val", val), ("test", test))}
    parts.task.threshold = judge.thresholds(seen["val"], rule)
    columns = judge.covariates_of([by_key[key] for key in seen["test"].keys])
    words: dict[str, Any] = {"seed": recipe.seed, "resamples": recipe.scores.resamples}
    result = judge.verdicts(parts.task, seen, rule, covariates=columns, **words)
    card = told.card_of(recipe, parts)
    save_detector(out / "model.safetensors", parts.task, card=card)
    storage.write_json(out / "calibration.json", {"threshold": list(parts.task.threshold), "fitted_on": "val"})
    own = [("val", one) for one in val] + [("test", one) for one in test]
    said = [(split, replace(one, predicted=parts.task.said(one.boxes))) for split, one in own if one.boxes is not None]
    written.write_predictions(out, parts.task, [(split, by_key[one.key], one) for split, one in said])
    report = told.report_of(recipe, parts, found, fitted, times=times, result=result, out=out)
    place = {sample.key: found.places[i] for i, sample in enumerate(found.samples)}
    limits = dict(zip(parts.task.answers.classes, parts.task.threshold, strict=True))
    words = {"picture": lambda key: found.store[place[key]], "pixels": parts.pixels}
    shown, close = drawn.gallery(seen["test"], limits, rule, sizes=parts.sizes, **words)
    curves = {**judge.curves(seen["test"], rule, seed=recipe.seed), "train": fitted.history, "close": close}
    sheet, _ = parts.train.sample_sheet(16)
    write_report(report, folder=out, curves=curves, gallery=shown, augmented=[picture_of(row) for row in sheet])
    write_card(report, out)
    storage.write_json(out / "report.json", report)
    Checkpoints(out / "resume").clear()
    depth_rounds.clear(out)
    return report


def predicted(parts: BoxParts, loader: BoxLoader) -> tuple[list[Prediction], float | None]:
    """Run the net over a loader: (predictions in the files' own pixels, images per second)."""
    found: list[Prediction] = []
    began = time.perf_counter()
    for batch in loader.epoch(0):
        stopping.check()
        with torch.inference_mode(), parts.engine.autocast():
            found += parts.task.predict(parts.engine.move(batch))
    seconds = time.perf_counter() - began
    back = [in_file(parts.task, one, parts.pixels, parts.sizes[one.key]) for one in found]
    return back, (len(found) / seconds if found and seconds else None)


def in_file(task: Detect, prediction: Prediction, pixels: Pixels, size: tuple[int, int]) -> Prediction:
    """Bring a prediction from network pixels to the file's own; what lies outside the image is cut off.

    Args:
        task: says in words what is called.
        prediction: with boxes in network pixels.
        pixels: how the file became network pixels.
        size: (H, W) of the file.
    """
    boxes = prediction.boxes
    assert boxes is not None
    corners = file_corners(boxes.corners, size=size, network=pixels.size, fit=pixels.fit)
    corners = np.clip(corners, 0.0, np.array([size[1], size[0], size[1], size[0]], dtype=np.float64))
    inside = np.flatnonzero((corners[:, 2:] > corners[:, :2]).all(axis=1))
    kept: Boxes = replace(boxes, corners=corners).take(inside)
    scores = np.zeros(0) if kept.scores is None else kept.scores
    return replace(prediction, boxes=kept, logits=scores, predicted=task.said(kept))
