"""What a run writes for people and programs: the card of the model, tables, the page with its pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medgraft import severity, storage
from medgraft.assemble import Parts
from medgraft.errors import BadData, RunRefused
from medgraft.files.listing import is_there
from medgraft.gallery import picture_of
from medgraft.gather import Gathered
from medgraft.recipe import Recipe
from medgraft.report.card import write_card
from medgraft.report.page import write_report
from medgraft.reporting import backbone_entry, recalibrated
from medgraft.samples.sheet import read_sheet
from medgraft.tasks.base import ImageTask
from medgraft.values import ImageRef, Prediction, Sample
from medgraft.version import VERSION

_RUN_FILES = frozenset(
    [
        "recipe.yaml",
        "survey.json",
        "depth.json",
        "learning.json",
        "shortcuts.json",
        "samples.csv",
        "samples.json",
        "thumbnails.npz",
        "quarantine.csv",
        "log.jsonl",
        "resume",
        "model.safetensors",
        "calibration.json",
        "predictions.csv",
        "report.json",
        "report.html",
        "model-card.md",
    ]
)


def read_json(path: Path) -> Any:
    """Read a JSON file of a run."""
    return json.loads(path.read_text(encoding="utf-8"))


def refuse_others(folder: Path, *, data: Path, known: str = "") -> None:
    """Refuse a folder in which a run would write over a user's own files, or make the data unreadable.

    Args:
        folder: where the run wants to write; it need not exist, and may hold other files.
        data: the data of the run.
        known: a file whose presence says that those of a run's names are ours.

    Raises:
        RunRefused: files of these names are there, or the folder is the data's own.
    """
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    ours = sorted(found & _RUN_FILES)
    if ours and known not in found:
        raise RunRefused(
            f"the folder holds something else already, such as {ours[0]}", where=folder, do="Give another --out."
        )
    own = data.resolve() if data.is_dir() else data.resolve().parent
    if not ours and folder.resolve() == own:
        raise RunRefused("this is the folder of the data", where=folder, do="Give another --out.")


def card_of(recipe: Recipe, parts: Parts) -> dict[str, Any]:
    """Get what the model file says of itself: everything that prediction needs, and where it came from."""
    task = parts.task
    return {
        "medgraft": VERSION,
        "task": recipe.task,
        **task.answers.to_dict(),
        "classes": list(task.answers.classes),
        "backbone": {**backbone_entry(task), "recalibrated": recalibrated(recipe, parts)},
        "pixels": parts.pixels.to_dict(),
        "spec": task.backbone.spec.to_dict(),
        "weights_spec": task.backbone.weights_spec.to_dict(),
        "gray": task.backbone.gray,
        "thawed_stages": task.thawed,
        "adapters": task.rank,
        "precision": parts.engine.precision,
        "channels_last": parts.engine.channels_last,
        "calibration": {
            "temperature": list(task.temperature),
            "threshold": list(task.threshold),
            "reach": [width if math.isfinite(width) else None for width in task.reach],
            "rule": recipe.scores.rule,
            "fitted_on": "val",
        },
        "recipe_sha256": recipe.fingerprint(),
        "seed": recipe.seed,
    }


# ---- tables -------------------------------------------------------------------------


def write_samples(path: Path, found: Gathered) -> None:
    """Write samples.csv: key, path, sha256, patient, split, target, zones, covariates of other names."""
    zones = list(found.samples[0].zones)
    own = ("key", "path", "sha256", "patient", "split", "target", *zones)
    columns = sorted({name for sample in found.samples for name in sample.covariates} - set(own))
    rows = [
        {
            **sample.covariates,
            **{name: f"{value:g}" for name, value in sample.zones.items() if math.isfinite(value)},
            "key": sample.key,
            "path": str(sample.image.path.absolute()),
            "sha256": record["sha256"],
            "patient": sample.patient,
            "split": sample.split,
            "target": sample.label,
        }
        for sample, record in zip(found.samples, found.records, strict=True)
    ]
    storage.write_table(path, rows, columns=(*own, *columns))


def place_in_file(image: ImageRef) -> list[dict[str, Any]]:
    """Get what a path alone does not say of where an image is, for samples.json; empty where it says all."""
    if image.index is None and not image.files:
        return []
    return [{"index": image.index, "files": [str(file.relative_to(image.path)) for file in image.files]}]


def samples_in(folder: Path) -> list[dict[str, str]]:
    """Get the rows of a run's samples.csv, without the apostrophes that keep spreadsheets from running a cell."""
    rows = read_sheet(folder / "samples.csv").rows
    return [{name: storage.as_written(cell) for name, cell in row.items()} for row in rows]


def identity(sha256: str, image: ImageRef) -> str:
    """Get what tells an image from all others whatever its file is called: the file's content, and its place in it.

    Args:
        sha256: of the file, as records and samples.csv have it.
        image: where it is.
    """
    array = image.path.name if image.path.parent.suffix.lower() == ".npz" else ""
    return sha256 if image.index is None else f"{sha256} {array} {image.index}"


def splits_in(folder: Path) -> dict[str, str]:
    """Get the split of each image of a run, by its `identity`."""
    held, found = read_json(folder / "samples.json"), {}
    for row in samples_in(folder):
        last = held.get(row["key"], [None])[-1]
        index = last["index"] if isinstance(last, dict) and "files" in last else None
        found[identity(row["sha256"], ImageRef(Path(row["path"]), index))] = row["split"]
    return found


def images_of(folder: Path, rows: Sequence[Mapping[str, str]]) -> list[ImageRef]:
    """Get the images of rows of a run's samples.csv, as `samples_in` reads them.

    Raises:
        BadData: one is not where the run found it.
    """
    held, found = read_json(folder / "samples.json"), []
    for row in rows:
        path, last = Path(row["path"]), held.get(row["key"], [None])[-1]  # of synthetic images the path says all
        more = last if isinstance(last, dict) and "files" in last else {"index": None, "files": []}
        image = ImageRef(path, more["index"], tuple(path / name for name in more["files"]))
        gone = next((place for place in (path, *image.files) if not is_there(place)), None)
        if gone is not None:
            what = f"the image {row['key']} is not where the run found it"
            raise BadData(what, where=gone, do="Bring the data back to this place.")
        found.append(image)
    return found


def write_thumbnails(path: Path, found: Gathered) -> None:
    """Write small pictures of the training and validation images, by which an evaluation finds copies of them."""
    learnt = [(s.key, r["thumbnail"]) for s, r in zip(found.samples, found.records, strict=True) if s.split != "test"]
    keys, pictures = np.array([key for key, _ in learnt]), np.stack([picture for _, picture in learnt])
    storage.write_atomic(path, lambda file: np.savez_compressed(file, keys=keys, thumbnails=pictures))


def read_thumbnails(path: Path) -> tuple[list[str], np.ndarray]:
    """Read what `write_thumbnails` wrote: keys, and uint8 `(N, 64, 64)`; nothing is unpickled."""
    with np.load(path, allow_pickle=False) as held:
        return [str(key) for key in held["keys"]], held["thumbnails"]


def write_predictions(
    path: Path, task: ImageTask, samples: Sequence[Sample], parts: Mapping[str, Sequence[Prediction]]
) -> None:
    """Write predictions.csv: key, path, patient, split, target, then what `prediction_columns` names."""
    by_key = {sample.key: sample for sample in samples}
    rows = []
    for split, found in parts.items():
        for prediction in found:
            sample = by_key[prediction.key]
            row = {"key": sample.key, "path": str(sample.image.path), "patient": sample.patient, "split": split}
            true = {f"target_{name}": f"{value:g}" for name, value in sample.zones.items() if math.isfinite(value)}
            rows.append({**row, "target": sample.label, **true, **prediction_row(task, prediction)})
    known = [f"target_{name}" for name in task.answers.zones]
    columns = ("key", "path", "patient", "split", "target", *known, *prediction_columns(task))
    storage.write_table(path, rows, columns=columns)


def prediction_columns(task: ImageTask) -> list[str]:
    """Get the columns of a prediction: predicted, value for numbers and grades, p_<class>, and how sure it is."""
    value = ["value"] if task.answer_kind in ("number", "ordinal") else []
    chances = [f"p_{name}" for name in task.answers.classes]
    return ["predicted", *value, *chances, *severity.names_of(task), "set", "ood", "abstain", "why"]


def prediction_row(task: ImageTask, prediction: Prediction) -> dict[str, Any]:
    """Get one prediction as cells; what the model cannot say stays empty."""
    chances = zip(task.answers.classes, prediction.probabilities, strict=True)
    row: dict[str, Any] = {f"p_{name}": f"{p:.6g}" for name, p in chances}
    row["predicted"] = prediction.predicted
    if prediction.value is not None:
        row["value"] = f"{prediction.value:.6g}"
    if prediction.severity is not None:
        row |= {f"zone_{name}": f"{value:.4g}" for name, value in prediction.zones.items()}
        row["severity"] = f"{prediction.severity:.4g}"
    if prediction.severity_ends is not None:
        low, high = prediction.severity_ends
        row |= {"severity_low": f"{low:.4g}", "severity_high": f"{high:.4g}"}
    if prediction.answers is not None and prediction.ood is not None:
        number = task.answer_kind == "number"
        row["set"] = f"[{', '.join(prediction.answers)}]" if number else "|".join(prediction.answers)
        row |= {"ood": f"{prediction.ood:.4g}", "abstain": str(prediction.abstain).lower(), "why": prediction.why}
    return row


# ---- the page ------------------------------------------------------------------------


def write_pages(
    out: Path, report: dict[str, Any], *, parts: Parts, curves: dict[str, Any], shown: Sequence[Mapping[str, Any]]
) -> None:
    """Write report.html and model-card.md; `shown` is the gallery."""
    sheet, _ = parts.train.sample_sheet(16)
    write_report(report, folder=out, curves=curves, gallery=shown, augmented=[picture_of(row) for row in sheet])
    write_card(report, out)
