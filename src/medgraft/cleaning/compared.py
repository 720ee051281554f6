"""What a cleaning is worth: a model learnt from the images as they were, and one from what they became.

Both are the probe of the same encoder on the same split, so that the pictures alone differ; the difference is taken
on the same test images. Where cutting something away costs much, the answer was in it: a finding, or a shortcut.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medgraft import run, storage
from medgraft.cleaning.form import COMPARED, CleanedSet
from medgraft.errors import BadData
from medgraft.recipe import OPTIONS, parse, with_options
from medgraft.scores.intervals import bootstrap
from medgraft.scores.ranking import auroc
from medgraft.scores.resample import Value

Listen = Callable[[dict[str, Any]], None]
_TASKS = ("classify", "multilabel", "grade")


def compare(
    done: CleanedSet, data: Path, *, columns: Mapping[str, Any], patients: bool, device: str, listen: Listen
) -> dict[str, Any]:
    """Learn from both, write `before/`, `after/` and compared.json, and get what that file holds.

    Args:
        done: what was cleaned.
        data: what it was cleaned from.
        columns: label_column, patient_column and split_column, where they were given.
        patients: False where nobody knows the patients.
        device: "auto", "cpu", "cuda" or "cuda:1".
        listen: gets progress events.

    Raises:
        BadData: there are no classes to tell apart, or too few images of one.
    """
    words = {"depth": "head", "epochs": 0, "device": device, "patients_unknown": not patients}
    given = {name: value for name, value in columns.items() if value is not None and name != "mask_column"}
    listen({"event": "say", "text": "before: learning from the images as they were"})
    before = _learnt(data, done.out / "before", words | given, listen)
    if before["task"] not in _TASKS:
        what = f"the labels are for {before['task']}, and an AUROC is of classes"
        raise BadData(what, where=data, do="Leave out --compare.")
    splits = {row["key"]: row["split"] for row in _rows(done.out / "before" / "samples.csv")}
    keys = {str((done.out / row["path"]).resolve()): row["key"] for row in done.rows if row["key"] in splits}
    table = [{**row, "split": splits[keys[row["path"]]]} for row in _given(done) if row["path"] in keys]
    storage.write_table(done.out / "after.csv", table, columns=("path", "label", "patient", "split"))
    listen({"event": "say", "text": "after: learning from what they became"})
    words |= {"task": before["task"]}
    after = _learnt(done.out / "after.csv", done.out / "after", words, listen)
    told = {
        "task": before["task"],
        "backbone": before["backbone"],
        "auroc": {
            "before": before["scores"]["test"]["auroc"],
            "after": after["scores"]["test"]["auroc"],
            "difference": _difference(done.out, keys),
        },
    }
    storage.write_json(done.out / COMPARED, told)
    return told


def _learnt(data: Path, out: Path, words: Mapping[str, Any], listen: Listen) -> dict[str, Any]:
    """Train the probe and get its report."""
    # Cleaned pictures are more alike than whole ones, and the split is that of the whole ones: leaks are told alone.
    recipe = with_options(parse({}), words, settings={"split.allow_leaks": True})
    return run.train(data, recipe, out=out, asked=[OPTIONS[name] for name in words], listen=listen)


def _given(done: CleanedSet) -> list[dict[str, Any]]:
    """The rows of the cleaned data's table, with whole paths."""
    return [{**row, "path": str((done.out / row["path"]).resolve())} for row in _rows(done.out / "manifest.csv")]


def _difference(out: Path, keys: Mapping[str, str]) -> dict[str, Any]:
    """After minus before on the test images that both answer."""
    first = {row["key"]: row for row in _rows(out / "before" / "predictions.csv") if row["split"] == "test"}
    second = {keys[row["path"]]: row for row in _rows(out / "after" / "predictions.csv") if row["split"] == "test"}
    both = sorted(first.keys() & second.keys())
    classes = [name for name in next(iter(first.values()), {}) if name.startswith("p_")]
    truth = np.array([[name[2:] in first[key]["target"].split("|") for name in classes] for key in both])
    sides = [_chances([rows[key] for key in both], classes) for rows in (second, first)]
    # Who is of no known patient counts as one of its own, as in both runs.
    named = [first[key]["patient"] for key in both]
    patients = [name or key for name, key in zip(named, both, strict=True)] if any(named) else None

    def gained(truth: np.ndarray, ours: np.ndarray, theirs: np.ndarray, *, weights: np.ndarray | None) -> Value:
        return auroc(truth, ours, weights=weights) - auroc(truth, theirs, weights=weights)

    return bootstrap(gained, [truth, *sides], patients=patients, seed=0).to_dict()


def _chances(rows: Sequence[Mapping[str, str]], classes: Sequence[str]) -> np.ndarray:
    return np.array([[float(row[name]) for name in classes] for row in rows])


def _rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
        return [dict(zip(map(storage.as_written, head), map(storage.as_written, row), strict=True)) for row in rows]
