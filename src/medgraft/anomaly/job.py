"""The main job for what is unlike normal images: plan, learn from normal images, set a threshold, judge, report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medgraft import resuming, storage
from medgraft.anomaly import told
from medgraft.anomaly.judge import Judged, curves, threshold_of, verdicts
from medgraft.anomaly.parts import (
    NormalParts,
    Prepared,
    area_of,
    areas_in,
    assemble_normals,
    batches_of,
    prepare_normals,
    preset_of,
)
from medgraft.anomaly.seen import Seen, pieces, seen_of
from medgraft.anomaly.written import Maps, write_table
from medgraft.detection.told import Times
from medgraft.gather import Listen
from medgraft.generation.parts import Looks
from medgraft.learn import stopping
from medgraft.learn.loop import Fitted, Loop, Schedule
from medgraft.learn.resume import Checkpoints
from medgraft.nets.patch_bank import PatchBank
from medgraft.phantoms.foreign import put_in
from medgraft.recipe import Recipe
from medgraft.report.card import write_card
from medgraft.report.page import write_report
from medgraft.samples.dataset import DataSet
from medgraft.tasks.diffuse import Diffuse
from medgraft.weights.tensors import save_model

_USUAL, _ODDEST = 0.9, 0.999  # quantiles of normal validation maps between which colours begin, and are half way
_VALUES = 2000  # of each map that they are found by


def train_normals(out: Path, dataset: DataSet, *, recipe: Recipe, listen: Listen) -> dict[str, Any]:
    """Do the main job and get what report.json holds.

    Args:
        out: the run folder, already locked and checked.
        dataset: labelled images; one label is that of the normal ones.
        recipe: fields that are empty or "auto" are planned.
        listen: gets progress events.

    Raises:
        RunRefused: what a resumed run needs has changed.
        Stopped: it stopped safely and can be resumed.
    """
    ready = prepare_normals(dataset, recipe, listen=listen)
    try:
        resuming.check_samples(out, ready.found.samples, records=ready.found.records)
        parts = assemble_normals(ready)
        resuming.begin(out, ready.recipe, found=ready.found)
        fitted, bank = _learnt(out, ready, parts, listen)
        return _finish(out, ready, parts, fitted=fitted, bank=bank, listen=listen)
    finally:
        ready.found.store.close()


def _learnt(out: Path, ready: Prepared, parts: NormalParts, listen: Listen) -> tuple[Fitted, dict[str, Any]]:
    """Learn from the normal images of the training, in one pass or in steps."""
    recipe, fit, net = ready.recipe, ready.recipe.fit, parts.task.net
    if isinstance(net, PatchBank):
        began, own = time.perf_counter(), recipe.anomaly
        count = len(ready.normals("train"))
        listen({"event": "say", "text": f"features of {count} normal images, and the places of them that are kept"})
        parts.task.eval()
        words: dict[str, Any] = {"images": count, "share": own.coreset, "most": own.most, "top": own.top or 0.05}
        words |= {"mirrored": preset_of(recipe).flip_h > 0, "put_in": put_in}
        places = net.learn(_checked(batches_of(parts, areas_in(ready))), **words, seed=recipe.seed)
        seconds = time.perf_counter() - began
        fitted = Fitted(best_epoch=-1, images_per_second=count / max(seconds, 1e-9), seconds=seconds)
        return fitted, {"kept": len(net.bank), "places": places}
    schedule = Schedule(
        epochs=fit.epochs or 1,
        seed=recipe.seed,
        warmup=fit.warmup,
        clip=fit.clip,
        ema=fit.ema or 0.0,
        patience=fit.patience or 0,
        save_seconds=recipe.machine.save_seconds,
    )
    if isinstance(net, Diffuse):
        assert isinstance(parts.train, Looks)
        net.measure(parts.train.once())
    optimiser = torch.optim.AdamW(parts.task.parameters(), lr=fit.lr or 1e-3, weight_decay=0.0, fused=True)
    words = {"train": parts.train, "val": parts.val, "schedule": schedule, "folder": out, "listen": listen}
    return Loop(parts.task, parts.engine, optimisers={"all": optimiser}, **words).run(), {}


def _checked(batches: Any) -> Any:
    for one in batches:
        stopping.check()
        yield one


def seen_in(ready: Prepared, parts: NormalParts, split: str, listen: Listen) -> list[Seen]:
    """Look at all images of a split, in their order."""
    places, found = ready.found.of(split), ready.found
    seen: list[Seen] = []
    for part in pieces(len(places)):
        some = places[part]
        shapes, rows = [found.records[k]["shape"] for k in some], found.store.rows([found.places[k] for k in some])
        area = np.stack([area_of(shape, ready.pixels) for shape in shapes])
        seen += seen_of(parts.task, parts.engine, rows, area, shapes=shapes)
        listen({"event": "predict", "done": len(seen), "of": len(places)})
    return seen


def _finish(
    out: Path, ready: Prepared, parts: NormalParts, *, fitted: Fitted, bank: dict[str, Any], listen: Listen
) -> dict[str, Any]:
    """Set the threshold on validation, judge on test, write everything; report.json comes last and says it is done."""
    recipe, found, times = ready.recipe, ready.found, Times(train=fitted.seconds)
    parts.task.eval()
    seen = {"val": seen_in(ready, parts, "val", listen)}
    began = time.perf_counter()
    seen["test"] = seen_in(ready, parts, "test", listen)
    times.predict_images_per_second = len(seen["test"]) / max(time.perf_counter() - began, 1e-9)
    samples = {split: [found.samples[place] for place in found.of(split)] for split in seen}
    normal = [one for one, sample in zip(seen["val"], samples["val"], strict=True) if sample.label == ready.normal]
    threshold = threshold_of(np.array([one.score for one in normal]), recipe.anomaly.quantile)
    reach = reach_of(normal)
    rule = told.rule_of(recipe.anomaly.quantile, len(normal))
    sides = {split: Judged(samples[split], seen[split], ready.normal, ready.classes, threshold) for split in seen}
    words: dict[str, Any] = {"rule": rule, "pixels": ready.pixels, "seed": recipe.seed}
    result = verdicts(sides["val"], sides["test"], **words, count=recipe.scores.resamples)
    card = told.card_of(ready, parts, threshold=threshold, reach=reach)
    save_model(out / "model.safetensors", state=told.weights_of(parts.task), card=card)
    point = {"threshold": threshold, "rule": rule, "fitted_on": "val", "normal_images": len(normal)}
    storage.write_json(out / "calibration.json", point)
    maps, places = Maps(out, ready.pixels, reach), found.of("test")
    maps.add_oddest(sides["test"].samples, seen["test"], most=recipe.anomaly.maps)
    write_table(out / "predictions.csv", sides, maps=maps)
    report = told.report_of(ready, parts, fitted=fitted, times=times, result=result, bank=bank, out=out)
    drawn = {**curves(sides["test"], seed=recipe.seed), "train": fitted.history}
    shown = told.gallery_of(sides["test"], lambda place: found.store[found.places[places[place]]], reach)
    write_report(report, folder=out, curves=drawn, gallery=shown)
    write_card(report, out)
    storage.write_json(out / "report.json", report)
    Checkpoints(out / "resume").clear()
    return report


def reach_of(normal: Sequence[Seen]) -> tuple[float, float]:
    """Get where the colours of a map begin and where they are hottest, of the maps of normal validation images."""
    values = [one.map[one.map > 0] for one in normal]
    some = np.concatenate([own[:: max(1, len(own) // _VALUES)] for own in values if len(own)] or [np.zeros(1)])
    low, odd = (float(end) for end in np.quantile(some, (_USUAL, _ODDEST)))
    return low, max(2 * odd - low, low + 1e-6)
