"""Scores of a trained run on other labelled data; nothing is fitted there."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from medgraft import judge, pages, reporting, severity, storage
from medgraft.errors import BadData, BadTable, Leak, RunRefused
from medgraft.explanation.maker import MapMaker
from medgraft.explanation.methods import class_method
from medgraft.gallery import gallery, told_of
from medgraft.gather import Listen, zoned
from medgraft.judge import Predicted
from medgraft.learn import stopping
from medgraft.opened import Run
from medgraft.recipe import Recipe, load
from medgraft.report.card import write_card
from medgraft.report.page import write_report
from medgraft.samples import duplicates
from medgraft.samples.dataset import Columns, DataSet, read_samples
from medgraft.samples.store import GIGABYTE, Store
from medgraft.samples.survey import Survey, limit_bad, survey
from medgraft.samples.synthetic import synthetic_words
from medgraft.scores.operating import OperatingPoint
from medgraft.values import Sample
from medgraft.version import VERSION


def evaluate(
    run: Run, data: Path, *, out: Path, columns: Columns, percent_bad: float, cache_gb: float = 20.0, listen: Listen
) -> dict[str, Any]:
    """Score a run on labelled data and write report.json, report.html and predictions.csv.

    When the data have splits, only their test part is used. The operating point and the
    temperature are those of the run.

    Raises:
        RunRefused: `out` holds a report already.
        Leak: images of the run's training or validation are among the data.
    """
    if (out / "report.json").exists():
        raise RunRefused("this folder holds a report already", where=out, do="Give another --out.")
    pages.refuse_others(out, data=data)
    out.mkdir(parents=True, exist_ok=True)
    columns = replace(columns, several=run.report["task"] == "multilabel")
    dataset = _zoned(run, read_as_trained(run.folder, data, columns, percent_bad))
    samples, notes = chosen(dataset)
    store, records = stored(samples, run.model.pixels.to_dict(), cache_gb=cache_gb, listen=listen)
    refuse_training_images(run.folder, samples, records=records)
    for note in notes:
        listen({"event": "say", "text": note})
    doubts = doubts_of(run.folder, samples, records=records)
    for doubt in doubts:
        listen({"event": "warning", "text": doubt})
    whole = replace(dataset, samples=tuple(samples))
    bad = [(problem.path, problem.reason) for problem in limit_bad(whole, records, percent=percent_bad)]
    surveyed = survey(whole, records, duplicates=duplicates.find(records), by_class=False)
    good = [i for i, record in enumerate(records) if record["error"] is None]
    began = time.perf_counter()
    seen = _predicted(run, store, samples, good)
    found = judge.named(run.model.task, seen)
    speed = len(good) / max(time.perf_counter() - began, 1e-9)
    kept = [samples[i] for i in good]
    report = _report(run, seen, kept, surveyed, bad, notes)
    report["warnings"] += [*synthetic_words(kept), *doubts]
    report["alarms"] = reporting.alarms(report)
    report["timing"] = {"predict_images_per_second": round(speed, 2)}
    drawn = {
        **judge.curves(run.model.task, found, seed=report["seed"]),
        **severity.curves(run.model.task, seen),
        "maps": severity.shown(run.model.task, seen, pixels=lambda i: store[good[i]]),
    }
    shown, report["maps"] = _gallery(run, kept, found, lambda i: store[good[i]], listen)
    storage.write_table(out / "quarantine.csv", report["quarantine"], columns=("path", "reason"))
    told = judge.predictions_of(run.model.task, run.model.certainty, seen)
    pages.write_predictions(out / "predictions.csv", run.model.task, kept, {"test": told})
    write_report(report, folder=out, curves=drawn, gallery=shown)
    write_card(report, out)
    storage.write_json(out / "report.json", report)
    return report


def _gallery(
    run: Run, samples: Sequence[Sample], found: Predicted, picture: Callable[[int], np.ndarray], listen: Listen
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Get mistakes and right answers, with maps where the run's own report has them; and what is told of the maps."""
    maker = None
    if run.report.get("maps"):
        maker = MapMaker(
            run.model.task,
            device=run.predictor.device,
            method=class_method(run.model.task),
            seed=int(run.report["seed"]),
        )
    shown = gallery(run.model.task, samples, test=found, picture=picture, maker=maker, listen=listen)
    return shown, told_of(shown, method=maker.method) if maker else {}


def read_as_trained(folder: Path, data: Path, columns: Columns, percent_bad: float) -> DataSet:
    """Read the columns that the run in `folder` was trained on, where the table has them and no others are asked for.

    Raises:
        BadData, BadTable: what is wrong, where, and what to do.
    """
    path = folder / "recipe.yaml"
    trained = load(path).data if path.exists() else None
    if trained is None or columns.label or columns.patient:
        return read_samples(data, columns=columns, limit_bad=percent_bad)
    same = replace(columns, label=trained.label_column, patient=trained.patient_column)
    try:
        return read_samples(data, columns=same, limit_bad=percent_bad)
    except BadTable:
        found = read_samples(data, columns=columns, limit_bad=percent_bad)
        note = f"the table has no column {trained.label_column!r} as in training; {found.label_column!r} is taken"
        return replace(found, notes=(*found.notes, note))


def _zoned(run: Run, dataset: DataSet) -> DataSet:
    """Read the severities of zones as in training, where the run knows zones and the data have them."""
    if not run.model.task.answers.zones:
        return dataset
    try:
        return zoned(dataset, _recipe(run))
    except BadData as error:
        return replace(dataset, notes=(*dataset.notes, f"zones are not judged: {error}"))


def _progress(done: int, count: int, listen: Listen) -> None:
    stopping.check()
    listen({"event": "decode", "done": done, "of": count})


def stored(
    samples: Sequence[Sample], network: Mapping[str, Any], *, cache_gb: float = 20.0, listen: Listen
) -> tuple[Store, list[dict[str, Any]]]:
    """Decode images, and get their network pixels and their facts, in order."""
    store = Store.open(
        [sample.image for sample in samples],
        network,
        budget_bytes=int(cache_gb * GIGABYTE),
        workers=2,
        progress=lambda done, count: _progress(done, count, listen),
    )
    return store, [{**record, "key": sample.key} for sample, record in zip(samples, store.records, strict=True)]


def chosen(dataset: DataSet) -> tuple[list[Sample], list[str]]:
    """Get the samples that are scored, as test samples, and what is to be said of them.

    Raises:
        BadData: none has a label.
    """
    labelled = [sample for sample in dataset.samples if sample.label is not None]
    notes = list(dataset.notes)
    if any(sample.split == "test" for sample in labelled):
        labelled = [sample for sample in labelled if sample.split == "test"]
        notes.append("the data have splits; only their test part is scored")
    if not labelled:
        raise BadData("no sample has a label", where=dataset.root)
    return [replace(sample, split="test") for sample in labelled], notes


def refuse_training_images(folder: Path, samples: Sequence[Sample], *, records: Sequence[dict[str, Any]]) -> None:
    """Refuse images that the run in `folder` learnt from.

    Raises:
        Leak: some are named.
    """
    path = folder / "samples.json"
    if not path.exists():
        return
    learnt = {values[4] for values in pages.read_json(path).values() if values[3] in ("train", "val")}
    again = [s.key for s, r in zip(samples, records, strict=True) if r.get("content") and r["content"] in learnt]
    if again:
        shown = ", ".join(again[:5])
        raise Leak(
            f"{len(again)} of these images were in the run's training or validation, such as {shown}",
            do="Leave them out: a score on them says nothing about new patients.",
        )


def doubts_of(folder: Path, samples: Sequence[Sample], *, records: Sequence[dict[str, Any]]) -> list[str]:
    """Get what speaks against scores on these images of the run in `folder`: its patients, or copies of its images."""
    return [*_same_patients(folder, samples), *look_alikes(folder, samples, records)]


def _same_patients(folder: Path, samples: Sequence[Sample]) -> list[str]:
    """Say when patients bear the names of patients that the run learnt from: two hospitals may count alike."""
    path = folder / "samples.json"
    known = {values[2] for values in pages.read_json(path).values() if values[3] != "test"} if path.exists() else set()
    again = sorted({sample.patient for sample in samples if sample.patient and sample.patient in known})
    if not again:
        return []
    named = f"{len(again)} patients bear the name of a patient of the training or validation, such as {again[0]}"
    return [f"{named}: if they are the same people, these scores say nothing about new patients"]


def look_alikes(folder: Path, samples: Sequence[Sample], records: Sequence[dict[str, Any]]) -> list[str]:
    """Say when images look like copies of training images that were saved again, resized or flipped."""
    path = folder / "thumbnails.npz"
    good = [i for i, record in enumerate(records) if record["error"] is None]
    if not path.exists() or not good:
        return []
    keys, learnt = pages.read_thumbnails(path)
    pictures = np.concatenate([learnt, np.stack([np.asarray(records[i]["thumbnail"]) for i in good])])
    pairs = [pair for pair in duplicates.near_pairs(pictures) if pair[0] < len(keys) <= pair[1]]
    if not pairs:
        return []
    count, (first, other, _, _) = len({pair[1] for pair in pairs}), pairs[0]
    shown = f"{samples[good[other - len(keys)]].key} (like {keys[first]})"
    named = f"{count} images look like copies of images of the training or validation, such as {shown}"
    return [f"{named}: if they are, these scores are too good"]


def _predicted(run: Run, store: Store, samples: list[Sample], good: list[int]) -> Predicted:
    task, seen = run.model.task, []
    for start in range(0, len(good), 64):
        stopping.check()
        seen.append(run.predictor.seen(store.rows(good[start : start + 64])))
    own = [samples[i] for i in good]
    columns = sorted({name for sample in own for name in sample.covariates})
    return Predicted(
        keys=tuple(sample.key for sample in own),
        logits=np.concatenate([logits for logits, _ in seen]),
        targets=task.targets_of(own),
        patients=judge.known_patients(own),
        covariates={name: [sample.covariates.get(name) or None for sample in own] for name in columns},
        features=np.concatenate([features for _, features in seen]),
    )


def _recipe(run: Run) -> Recipe:
    path = run.folder / "recipe.yaml"
    return load(path) if path.exists() else Recipe()  # type: ignore[call-arg]


def _report(
    run: Run, seen: Predicted, kept: list[Sample], surveyed: Survey, bad: list[tuple[str, str]], notes: list[str]
) -> dict[str, Any]:
    task, before, recipe = run.model.task, run.report, _recipe(run)
    found, scores = judge.named(task, seen), recipe.scores
    threshold = task.threshold[0] if len(task.threshold) == 1 else task.threshold
    decided = task.answer_kind in ("binary", "labels")
    rule, why = run.model.card["calibration"]["rule"], before.get("operating_point", {}).get("why")
    point = OperatingPoint(threshold if decided else None, rule, why)
    words: dict[str, Any] = {"resamples": scores.resamples, "prevalence": scores.prevalence}
    result = judge.verdicts(task, found, point, seed=before["seed"], **words)
    result["certainty"] = judge.certainty_entry(
        task, run.model.certainty, found, seed=before["seed"], resamples=scores.resamples
    )
    result["severity"] = severity.entry(
        task, seen, coverage=recipe.certainty.coverage, seed=before["seed"], resamples=scores.resamples
    )
    temperature = run.model.card["calibration"]["temperature"]
    fitted = before.get("calibration", {}).get("validation", {})
    kept_keys = ("task", "classes", "positive", "backbone", "depth", "augment", "training", "seed")
    known = {name: before[name] for name in (*kept_keys, "recipe_sha256") if name in before}
    return {
        "medgraft": VERSION,
        **known,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "title": f"Evaluation on {reporting.name_of(surveyed)}",
        "evaluated_run": run.folder.name,
        "phantoms": reporting.is_phantom(kept),
        "target": reporting.target_entry(task, kept, name=before.get("target", {}).get("name")),
        "data": reporting.data_entry(
            kept,
            surveyed,
            kind=task.answer_kind,
            quarantined=len(bad),
            split_source="all of it is test data",
            notes=notes,
            splits=("test",),
        ),
        "quarantine": [{"path": path, "reason": reason} for path, reason in bad],
        **result,
        "calibration": {
            "temperature": temperature[0] if len(temperature) == 1 else temperature,
            "fitted_on": "val",
            **({"validation": fitted} if fitted else {}),
        },
        "machine": reporting.machine_entry(run.predictor.device),
        "checksums": before.get("checksums", {}),
        "warnings": list(surveyed.warnings),
    }


def head_of(
    run: Any, whole: DataSet, records: list[dict[str, Any]], bad: Sequence[tuple[str, str]], notes: Sequence[str]
) -> dict[str, Any]:
    """Get what the report of an evaluation says of the data and of a run on places.

    Args:
        run: that is scored.
        whole: the data set, all of it test samples.
        records: of its images.
        bad: (path, reason) of those that could not be read.
        notes: what a person should know.
    """
    surveyed = survey(whole, records, duplicates=duplicates.find(records), by_class=False)
    words: dict[str, Any] = {"quarantined": len(bad), "split_source": "all of it", "splits": ("test",)}
    return {
        "medgraft": VERSION,
        "task": run.report["task"],
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "classes": list(run.classes),
        "positive": None,
        "phantoms": reporting.is_phantom(whole.samples),
        "evaluated_run": run.folder.resolve().name,
        **{name: run.report[name] for name in ("backbone", "depth", "seed", "recipe_sha256")},
        "data": reporting.data_entry(whole.samples, surveyed, kind="labels", notes=notes, **words),
        "quarantine": [{"path": path, "reason": reason} for path, reason in bad],
        "machine": reporting.machine_entry(run.device),
        "warnings": list(surveyed.warnings),
        "alarms": [],
    }
