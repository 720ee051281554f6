"""Scores of a run that finds what is unlike normal images on other labelled data; nothing is fitted there."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medgraft import outside, pages, storage
from medgraft.anomaly.choices import normal_of, says_normal
from medgraft.anomaly.judge import Judged, check_masks, curves, judged
from medgraft.anomaly.opened import AnomalyRun
from medgraft.anomaly.parts import area_of
from medgraft.anomaly.seen import Seen, pieces, seen_of
from medgraft.anomaly.told import gallery_of
from medgraft.anomaly.written import Maps, write_table
from medgraft.errors import BadRecipe, RunRefused
from medgraft.gather import Listen
from medgraft.recipe import load
from medgraft.report.card import write_card
from medgraft.report.page import write_report
from medgraft.samples.dataset import Columns, DataSet
from medgraft.samples.store import Store
from medgraft.samples.survey import limit_bad


def evaluate_normals(
    run: AnomalyRun, data: Path, *, out: Path, columns: Columns, percent_bad: float, listen: Listen
) -> dict[str, Any]:
    """Score a run on labelled data and write report.json, report.html, predictions.csv and maps/.

    When the data have splits, only their test part is used. The threshold is that of the run. Which label is normal is
    what it was in training; where the data have no such label, the one that says so.

    Raises:
        RunRefused: `out` holds a report already.
        BadRecipe: no label says that it is normal.
        Leak: images of the run's training or validation are among the data.
    """
    if (out / "report.json").exists():
        raise RunRefused("this folder holds a report already", where=out, do="Give another --out.")
    pages.refuse_others(out, data=data)
    dataset = outside.read_as_trained(run.folder, data, columns, percent_bad)
    normal, notes = _normal(run, dataset)
    out.mkdir(parents=True, exist_ok=True)
    samples, more = outside.chosen(dataset)
    notes += more
    store, records = outside.stored(samples, run.pixels.to_dict(), listen=listen)
    try:
        outside.refuse_training_images(run.folder, samples, records=records)
        doubts = outside.doubts_of(run.folder, samples, records=records)
        for text in (*doubts, *notes):
            listen({"event": "warning" if text in doubts else "say", "text": text})
        whole = replace(dataset, samples=tuple(samples))
        bad = [(problem.path, problem.reason) for problem in limit_bad(whole, records, percent=percent_bad)]
        good = [place for place, record in enumerate(records) if record["error"] is None]
        check_masks([samples[place] for place in good], [records[place] for place in good])
        began = time.perf_counter()
        seen = _seen(run, store, records, good, listen)
        speed = len(good) / max(time.perf_counter() - began, 1e-9)
        part = Judged([samples[place] for place in good], seen, normal, run.classes, run.threshold)
        head = outside.head_of(run, whole, records, bad, notes)
        report = {**head, **_verdict(run, part), "timing": {"predict_images_per_second": round(speed, 3)}}
        report["warnings"] = [*head["warnings"], *doubts]
        shown = gallery_of(part, lambda place: store[good[place]], run.reach)
        _write(run, part, report, out=out, shown=shown)
        return report
    finally:
        store.close()


def _normal(run: AnomalyRun, dataset: DataSet) -> tuple[str, list[str]]:
    notes = list[str]()
    labels = [sample.label for sample in dataset.samples]
    if run.normal in labels:
        return run.normal, notes
    known = {label for label in labels if label is not None}
    if len(known) == 1 and not says_normal(only := next(iter(known))):
        return run.normal, [f"all images are {only}: none of them is {run.classes[0]}"]
    try:
        normal, _ = normal_of(labels, None)
    except BadRecipe as error:
        what = f"no image here is {run.classes[0]}, as normal images of the run are; {error.what}"
        raise BadRecipe(what, where=dataset.root, do="Call the normal images as in training.") from error
    return normal, [f"{normal} is read as {run.classes[0]}, as the normal images of the training are called"]


def _seen(run: AnomalyRun, store: Store, records: list[dict[str, Any]], good: list[int], listen: Listen) -> list[Seen]:
    seen: list[Seen] = []
    for part in pieces(len(good)):
        some = good[part]
        shapes = [records[place]["shape"] for place in some]
        area = np.stack([area_of(shape, run.pixels) for shape in shapes])
        seen += seen_of(run.task, run.engine, store.rows(some), area, shapes=shapes)
        listen({"event": "predict", "done": len(seen), "of": len(good)})
    return seen


def _verdict(run: AnomalyRun, part: Judged) -> dict[str, Any]:
    before = run.report
    rule = str(before["operating_point"]["rule"])
    count = load(run.folder / "recipe.yaml").scores.resamples
    result = judged(part, rule=rule, pixels=run.pixels, seed=int(before["seed"]), count=count)
    unlike = {**before["unlike"], "kinds": result.pop("kinds")}
    return {**result, "positive": run.classes[1], "training": before["training"], "unlike": unlike, "calibration": {}}


def _write(run: AnomalyRun, part: Judged, report: dict[str, Any], *, out: Path, shown: list[dict[str, Any]]) -> None:
    maps = Maps(out, run.pixels, run.reach)
    maps.add_oddest(part.samples, part.seen, most=load(run.folder / "recipe.yaml").anomaly.maps)
    storage.write_table(out / "quarantine.csv", report["quarantine"], columns=("path", "reason"))
    write_table(out / "predictions.csv", {"test": part}, maps=maps)
    write_report(report, folder=out, curves=curves(part, seed=int(run.report["seed"])), gallery=shown)
    write_card(report, out)
    storage.write_json(out / "report.json", report)
