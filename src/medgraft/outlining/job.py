"""The main job for a model that outlines: plan, find the depth, tune, judge before and after; the usual run folder."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from medgraft import depth_rounds, resuming, storage
from medgraft.detection.told import Times
from medgraft.fitting import fit_places
from medgraft.gather import Listen
from medgraft.learn.loop import Fitted
from medgraft.learn.resume import Checkpoints
from medgraft.nets.prompter import Prompter
from medgraft.outlining import told
from medgraft.outlining.depth import settle_depth
from medgraft.outlining.judge import Overlaps, asked, verdicts
from medgraft.outlining.parts import JUDGED_EACH, Prepared, PromptParts, assemble_prompts, pictures_in, prepare_prompts
from medgraft.outlining.shown import PictureShelf
from medgraft.outlining.tuned import save_tuned
from medgraft.recipe import Recipe
from medgraft.report.card import write_card
from medgraft.report.outlines import HIT, agreement, filled
from medgraft.report.page import write_report
from medgraft.samples.dataset import DataSet
from medgraft.samples.prompted import JUDGED, Shown, plain_prompt

CASES = "cases"
_WORST, _BEST, _SHEET = 8, 4, 160
_COLUMNS = ("key", "path", "patient", "split", "picture", "number", "structure", "pixels")


def train_prompts(out: Path, dataset: DataSet, *, recipe: Recipe, listen: Listen) -> dict[str, Any]:
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
    ready = prepare_prompts(dataset, recipe, listen=listen)
    try:
        resuming.check_samples(out, ready.found.samples, records=ready.found.records)
        times, began = Times(), time.perf_counter()
        parts = assemble_prompts(ready, folder=out / CASES, listen=listen)
        recipe, depths = settle_depth(ready, parts, out=out, listen=listen)
        ready = replace(ready, recipe=recipe)
        before = _before(out, ready, parts, listen)
        times.prefix = time.perf_counter() - began
        if depths is not None:
            storage.write_json(out / depth_rounds.FILE, depths)
        resuming.begin(out, recipe, found=ready.found)
        words: dict[str, Any] = {"train": parts.train, "val": parts.val, "listen": listen}
        fitted = fit_places(out, recipe, task=parts.task, engine=parts.engine, judge_start=True, **words)
        if fitted.best_epoch < 0:
            text = "no epoch was better on validation images than the model as it was, which is kept"
            listen({"event": "warning", "text": text})
        times.train = fitted.seconds
        return _finish(out, ready, parts, before, fitted=fitted, times=times, listen=listen)
    finally:
        ready.found.store.close()


def _before(out: Path, ready: Prepared, parts: PromptParts, listen: Listen) -> Overlaps:
    """What the untuned model says of the test images; kept with the pictures, as it is asked once."""
    places = ready.found.of("test")
    samples = [ready.found.samples[place] for place in places]
    # A run that was stopped before it wrote its recipe may begin anew with another one.
    decided = [parts.task.prompter.sha256, asdict(parts.form), [sample.key for sample in samples]]
    path = out / CASES / f"before-{storage.sha256_json(decided)[:16]}.json"
    if path.exists():
        return Overlaps(samples, json.loads(path.read_text(encoding="utf-8")))
    pictures = pictures_in(parts, places)
    found = asked(parts.task.prompter, samples, pictures, most=JUDGED_EACH, listen=listen)
    storage.write_json(path, found.rows)
    return found


def _finish(
    out: Path,
    ready: Prepared,
    parts: PromptParts,
    before: Overlaps,
    *,
    fitted: Fitted,
    times: Times,
    listen: Listen,
) -> dict[str, Any]:
    """Judge on validation and test images and write everything; report.json comes last and says it is done."""
    recipe, found, task = ready.recipe, ready.found, parts.task
    task.settle()
    told_of: dict[str, Overlaps] = {}
    for split in ("val", "test"):
        places = found.of(split)
        samples, pictures = [found.samples[place] for place in places], pictures_in(parts, places)
        began = time.perf_counter()
        told_of[split] = asked(task.prompter, samples, pictures, most=JUDGED_EACH, listen=listen)
        times.predict_images_per_second = len(places) / max(time.perf_counter() - began, 1e-9)
    result = verdicts(told_of, before, seed=recipe.seed, count=recipe.scores.resamples)
    save_tuned(out / "model.safetensors", task, card=told.card_of(recipe, parts, ready))
    storage.write_json(out / "calibration.json", {"fitted_on": None})
    write_table(out / "predictions.csv", told_of)
    report = told.report_of(recipe, parts, ready, fitted=fitted, times=times, result=result, out=out)
    curves: dict[str, Any] = {"train": fitted.history}
    shown = gallery_of(task.prompter, told_of["test"], pictures_in(parts, found.of("test")))
    write_report(report, folder=out, curves=curves, gallery=shown, augmented=_sheet(parts))
    write_card(report, out)
    storage.write_json(out / "report.json", report)
    Checkpoints(out / "resume").clear()
    PictureShelf(out / CASES, ready.masks, parts.form).clear()
    depth_rounds.clear(out)
    return report


def write_table(path: Path, parts: dict[str, Overlaps]) -> None:
    """Write predictions.csv: a row a structure, with its overlap by each way of showing."""
    ways = [f"iou_{way}{end}" for way in JUDGED for end in ("", "_best")]
    rows = []
    for split, own in parts.items():
        for row in own.rows:
            sample = own.samples[row["place"]]
            line = {name: row.get(name) for name in _COLUMNS} | {"split": split, "patient": sample.patient}
            line |= {"path": str(sample.image.path)} | {way: f"{row[way[4:]]:.4f}" for way in ways}
            rows.append(line)
    storage.write_table(path, rows, columns=(*_COLUMNS, *ways))


def gallery_of(model: Prompter, test: Overlaps, pictures: Sequence[Sequence[Shown]]) -> list[dict[str, Any]]:
    """Get pictures of the structures that are outlined worst from a box, and of some of the best."""
    by_key = {shown.key: shown for some in pictures for shown in some}
    order = sorted(test.rows, key=lambda row: row["box"])
    cut = min(_WORST, max(1, len(order) - _BEST)) if order else 0
    chosen = [(row, "mistake") for row in order[:cut]]
    chosen += [(row, "right") for row in order[cut:][-_BEST:][::-1]]
    return [_entry(model, test, row, kind, by_key[row["picture"]]) for row, kind in chosen]


def _entry(model: Prompter, test: Overlaps, row: dict[str, Any], kind: str, shown: Shown) -> dict[str, Any]:
    mask = shown.mask(row["number"])
    picture = np.asarray(shown.picture)
    answer = model.decode(model.encode(picture), plain_prompt(mask, "box"))
    drawn = answer.masks[answer.best]
    sample = test.samples[row["place"]]
    return {
        "image": agreement(*_around(picture, mask, drawn)),
        "most": 640,
        "key": row["picture"],
        "patient": sample.patient,
        "truth": row["structure"],
        "predicted": f"IoU {row['box']:.2f} by a box, {row['point']:.2f} by a point",
        "note": None,
        "kind": kind,
    }


def _around(picture: np.ndarray, mask: np.ndarray, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The part of a picture around a structure, as wide as it again on either side."""
    both = mask | drawn
    ends = []
    for axis in (1, 0):
        there = np.flatnonzero(both.any(axis=axis))
        ends.append((int(there[0]), int(there[-1]) + 1))
    reach = max(16, *(high - low for low, high in ends)) // 2
    place = tuple(slice(max(0, low - reach), high + reach) for low, high in ends)
    return picture[place], mask[place], drawn[place]


def _sheet(parts: PromptParts) -> list[np.ndarray]:
    """Pictures as they are learnt from, each with one structure of those that are shown, of one size."""
    sheet = []
    for batch in parts.train.epoch(0):
        assert batch.targets is not None
        picture = batch.pixels[0].permute(1, 2, 0).numpy()
        rows, columns = (np.linspace(0, side - 1, _SHEET).astype(int) for side in picture.shape[:2])
        place = np.ix_(rows, columns)
        sheet.append(filled(picture[place], [(batch.targets[0, 0].numpy()[place] > 0, HIT)]))
        if len(sheet) == 16:
            break
    return sheet
