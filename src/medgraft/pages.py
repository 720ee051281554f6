"""What a run writes for people and programs: card, tables, report.json's values, the page."""

from __future__ import annotations

import json
import os
import platform
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medgraft import storage
from medgraft.assemble import Parts, stages_of
from medgraft.gather import Gathered
from medgraft.judge import Predicted
from medgraft.learn.loop import Fitted
from medgraft.recipe import Recipe
from medgraft.report.card import write_card
from medgraft.report.page import write_report
from medgraft.samples.presets import Preset, meanings, numbers, preset
from medgraft.samples.split import LeakPair
from medgraft.samples.survey import Survey
from medgraft.tasks.base import ImageTask
from medgraft.values import Sample
from medgraft.version import VERSION

_SPLITS = ("train", "val", "test")
_SHOWN = {"mistake": 12, "right": 6}


def read_json(path: Path) -> Any:
    """Read a JSON file of a run."""
    return json.loads(path.read_text(encoding="utf-8"))


def card_of(recipe: Recipe, parts: Parts) -> dict[str, Any]:
    """Get what the model file says of itself: everything that prediction needs, and where it came from."""
    task = parts.task
    return {
        "medgraft": VERSION,
        "task": recipe.task,
        **task.answers.to_dict(),
        "classes": list(task.answers.classes),
        "backbone": backbone_entry(task),
        "pixels": parts.pixels.to_dict(),
        "spec": task.backbone.spec.to_dict(),
        "weights_spec": task.backbone.weights_spec.to_dict(),
        "gray": task.backbone.gray,
        "thawed_stages": task.thawed,
        "precision": parts.engine.precision,
        "channels_last": parts.engine.channels_last,
        "calibration": {
            "temperature": list(task.temperature),
            "threshold": list(task.threshold),
            "rule": recipe.scores.rule,
            "fitted_on": "val",
        },
        "recipe_sha256": recipe.fingerprint(),
        "seed": recipe.seed,
    }


def backbone_entry(task: ImageTask) -> dict[str, Any]:
    """Get `backbone` of report.json."""
    net = task.backbone
    return {
        "name": net.name,
        "architecture": net.architecture,
        "options": net.options,
        "source": net.source,
        "licence": net.licence,
        "parameters": net.parameters_count,
        "sha256": net.sha256,
        "random": not net.sha256,
        "input": {"size": list(net.spec.size), "channels": net.spec.channels},
    }


# ---- tables -------------------------------------------------------------------------


def write_samples(path: Path, found: Gathered) -> None:
    """Write samples.csv: key, path, sha256, patient, split, target, covariates."""
    columns = sorted({name for sample in found.samples for name in sample.covariates})
    rows = [
        {
            **sample.covariates,
            "key": sample.key,
            "path": str(sample.image.path),
            "sha256": record["sha256"],
            "patient": sample.patient,
            "split": sample.split,
            "target": sample.label,
        }
        for sample, record in zip(found.samples, found.records, strict=True)
    ]
    storage.write_table(path, rows, columns=("key", "path", "sha256", "patient", "split", "target", *columns))


def write_predictions(path: Path, task: ImageTask, samples: Sequence[Sample], parts: Mapping[str, Predicted]) -> None:
    """Write predictions.csv: key, path, patient, split, target, predicted, one column a class."""
    by_key = {sample.key: sample for sample in samples}
    rows = []
    for split, found in parts.items():
        for prediction in task.interpret(found.keys, found.logits):
            sample = by_key[prediction.key]
            row = {"key": sample.key, "path": str(sample.image.path), "patient": sample.patient, "split": split}
            rows.append({**row, "target": sample.label, **prediction_row(task, prediction)})
    columns = ("key", "path", "patient", "split", "target", *prediction_columns(task))
    storage.write_table(path, rows, columns=columns)


def prediction_columns(task: ImageTask) -> list[str]:
    """Get the columns of a prediction: predicted, value for numbers and grades, p_<class>."""
    value = ["value"] if task.answer_kind in ("number", "ordinal") else []
    return ["predicted", *value, *(f"p_{name}" for name in task.answers.classes)]


def prediction_row(task: ImageTask, prediction: Any) -> dict[str, Any]:
    """Get one prediction as cells."""
    chances = zip(task.answers.classes, prediction.probabilities, strict=True)
    row: dict[str, Any] = {f"p_{name}": f"{p:.6g}" for name, p in chances}
    row["predicted"] = prediction.predicted
    if prediction.value is not None:
        row["value"] = f"{prediction.value:.6g}"
    return row


# ---- report.json ---------------------------------------------------------------------


def report_of(
    recipe: Recipe, parts: Parts, found: Gathered, fitted: Fitted, *, times: Any, result: dict[str, Any], out: Path
) -> dict[str, Any]:
    """Get what report.json holds (see `medgraft.report.schema`)."""
    task = parts.task
    answers = task.answers
    return {
        "medgraft": VERSION,
        "task": recipe.task,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "classes": list(answers.classes),
        "positive": answers.positive,
        "phantoms": is_phantom(found.samples),
        "backbone": backbone_entry(task),
        "depth": _depth_entry(recipe, task),
        "data": data_entry(
            found.samples,
            found.survey,
            quarantined=len(found.quarantine),
            split_source=found.split_source,
            notes=found.notes,
            leaks=found.leaks,
        ),
        "quarantine": [{"path": path, "reason": reason} for path, reason in found.quarantine[:50]],
        "augment": _augment_entry(recipe),
        "training": _training_entry(recipe, parts, fitted),
        **result,
        "timing": {
            "train_seconds": round(times.train, 2),
            "train_images_per_second": _rounded(fitted.images_per_second),
            "predict_images_per_second": _rounded(times.predict_images_per_second),
            "prefix_seconds": round(times.prefix, 2),
        },
        "machine": machine_entry(parts),
        "seed": recipe.seed,
        "recipe_sha256": recipe.fingerprint(),
        "recipe_yaml": recipe.to_yaml(),
        "command": f"medgraft train DATA --recipe {out / 'recipe.yaml'} --out NEW_RUN",
        "checksums": {"model.safetensors": storage.sha256_file(out / "model.safetensors")},
        "warnings": _warnings(recipe, found),
    }


def is_phantom(samples: Sequence[Sample]) -> bool:
    """Say whether most images are phantoms: their file names say so."""
    named = sum("phantom" in sample.key.rsplit("/", 1)[-1].lower() for sample in samples)
    return named > len(samples) / 2


def data_entry(
    samples: Sequence[Sample],
    survey: Survey,
    *,
    quarantined: int,
    split_source: str,
    notes: Sequence[str],
    leaks: Sequence[LeakPair] = (),
) -> dict[str, Any]:
    """Get `data` of report.json."""
    by_split = {split: [sample for sample in samples if sample.split == split] for split in _SPLITS}
    known = all(sample.patient for sample in samples)
    labels = sorted({sample.label or "" for sample in samples})
    return {
        "name": Path(survey.root).name,
        "layout": survey.layout,
        "images": {split: len(own) for split, own in by_split.items()},
        "patients": {split: _people(own) for split, own in by_split.items()} if known else None,
        "split_by": "patient" if known else "image",
        "split_source": split_source,
        "quarantined": quarantined,
        "leaks_allowed": bool(leaks),
        "leaks": [_leak_entry(pair) for pair in leaks[:20]],
        "leak_counts": dict(Counter(pair.kind for pair in leaks)),
        "classes": {label or "(none)": _class_entry(label, by_split, known) for label in labels[:30]},
        "duplicates": _duplicates_entry(survey),
        "image_size": {
            word: [round(survey.height[at]), round(survey.width[at])]
            for word, at in (("smallest", "low"), ("median", "median"), ("largest", "high"))
        },
        "facts": [[f"{name} images", count] for name, count in survey.modalities.items()],
        "notes": list(notes),
    }


def _people(samples: Sequence[Sample]) -> int:
    return len({sample.patient for sample in samples})


def _class_entry(label: str, by_split: Mapping[str, Sequence[Sample]], known: bool) -> dict[str, Any]:
    own = {split: [x for x in part if (x.label or "") == label] for split, part in by_split.items()}
    people = {split: _people(part) for split, part in own.items()} if known else None
    return {"images": {split: len(part) for split, part in own.items()}, "patients": people}


def _duplicates_entry(survey: Survey) -> dict[str, Any]:
    found = survey.duplicates
    members: dict[int, list[str]] = {}
    for key, group in found.near.items():
        members.setdefault(group, []).append(key)
    exact = set(found.exact)
    groups = [{"kind": "exact" if set(keys) <= exact else "near", "keys": keys} for keys in members.values()]
    count = sum(group["kind"] == "exact" for group in groups)
    return {
        "exact_groups": count,
        "near_groups": len(groups) - count,
        "images": sum(len(group["keys"]) for group in groups),
        "groups": groups[:10],
    }


def _leak_entry(pair: LeakPair) -> dict[str, Any]:
    keys = [pair.first, pair.second]
    return {"kind": pair.kind, "splits": list(pair.splits), "patient": pair.patient, "keys": keys}


def _depth_entry(recipe: Recipe, task: ImageTask) -> dict[str, Any]:
    stages = [name for name, _ in task.parts().stages]
    thawed = stages_of(recipe, task)
    reason = recipe.reasons.get("depth.thaw")
    return {
        "thawed_stages": thawed,
        "of": len(stages),
        "chosen_by": "rule by the number of training patients" if reason else "the user",
        "reason": reason,
        "stages": stages[::-1],
        "trained_parameters": sum(p.numel() for p in task.parameters() if p.requires_grad),
        "curve": [],
    }


def _augment_entry(recipe: Recipe) -> dict[str, Any]:
    chosen = preset(recipe.augment.preset).with_(strength=recipe.augment.strength)
    return {
        "preset": chosen.name,
        "reason": recipe.reasons.get("augment.preset"),
        "strength": recipe.augment.strength,
        "steps": _steps(chosen),
    }


def _steps(chosen: Preset) -> list[str]:
    """The ranges that are not zero, in words."""
    said = meanings()
    values = {name: float(getattr(chosen, name)) for name in numbers()}
    chances = ("_p", "_h", "_v")  # of these the meaning alone is the better name
    return [
        f"{said[name]} {value:g}" if name.endswith(chances) else f"{name.replace('_', ' ')} {value:g} ({said[name]})"
        for name, value in values.items()
        if value
    ]


def _training_entry(recipe: Recipe, parts: Parts, fitted: Fitted) -> dict[str, Any]:
    fit = recipe.fit
    stated = {"number": "mean absolute error", "ordinal": "quadratic kappa less a fiftieth of the loss"}
    return {
        "epochs": len(fitted.history),
        "epochs_planned": fit.epochs,
        "best_epoch": fitted.best_epoch + 1,
        "stopped": fitted.stopped,
        "score": stated.get(parts.task.answer_kind, "AUROC less a fiftieth of the loss"),
        "batch_size": fit.batch_size,
        "image_size": list(parts.pixels.size),
        "optimiser": "AdamW",
        "learning_rate": fit.lr,
        "weight_decay": fit.weight_decay,
        "schedule": f"linear warm-up over {fit.warmup:.0%} of the steps, then a half cosine to zero",
        "loss": "cross-entropy" if parts.task.answer_kind != "number" else "Huber loss on standardised labels",
        "balance": recipe.reasons.get("fit.balance") or f"{fit.balance}, as the user chose",
        "precision": parts.engine.precision,
        "ema": fit.ema or None,
        "label_smoothing": fit.label_smoothing,
        "mixup": fit.mixup,
        "facts": [["learning rate of the head", fit.head_lr], ["factor on each stage further down", fit.layer_decay]],
    }


def machine_entry(parts: Parts) -> dict[str, Any]:
    """Get where it ran."""
    device = parts.engine.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "device": device.type,
        "processor": name,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _warnings(recipe: Recipe, found: Gathered) -> list[str]:
    return [*found.survey.warnings, *_limited(recipe, found)]


def _limited(recipe: Recipe, found: Gathered) -> list[str]:
    """Say that not all training images were used."""
    if not recipe.split.limit_train:
        return []
    return [f"only {len(found.of('train'))} training images were used, because split.limit_train says so"]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


# ---- the page ------------------------------------------------------------------------


def write_pages(
    out: Path, report: dict[str, Any], *, parts: Parts, found: Gathered, test: Predicted, curves: dict[str, Any]
) -> None:
    """Write report.html and model-card.md."""
    sheet, _ = parts.train.sample_sheet(16)
    shown = gallery(parts.task, found.samples, test, picture=lambda i: found.store[found.places[i]])
    write_report(report, folder=out, curves=curves, gallery=shown, augmented=[_picture(row) for row in sheet])
    write_card(report, out)


def gallery(
    task: ImageTask, samples: Sequence[Sample], test: Predicted, *, picture: Callable[[int], np.ndarray]
) -> list[dict[str, Any]]:
    """Get the most certain mistakes and right answers with their images.

    Args:
        task: says what the logits mean.
        samples: among them those of `test`.
        test: predictions.
        picture: position in `samples` -> network pixels.
    """
    if task.answer_kind in ("number", "labels"):
        return []
    place = {sample.key: i for i, sample in enumerate(samples)}
    rows: dict[str, list[dict[str, Any]]] = {kind: [] for kind in _SHOWN}
    for prediction in task.interpret(test.keys, test.logits):
        sample = samples[place[prediction.key]]
        kind = "right" if prediction.predicted == sample.label else "mistake"
        sure = float(prediction.probabilities[task.answers.classes.index(prediction.predicted)])
        row = {"kind": kind, "key": sample.key, "truth": sample.label, "predicted": prediction.predicted}
        rows[kind].append({**row, "probability": sure, "patient": sample.patient})
    surest = {kind: sorted(found, key=lambda row: -row["probability"]) for kind, found in rows.items()}
    surest["right"] = _of_each_class(surest["right"])
    chosen = [row for kind, count in _SHOWN.items() for row in surest[kind][:count]]
    return [{**row, "image": _picture(picture(place[row["key"]]))} for row in chosen]


def _of_each_class(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The surest of each class, then the second of each: one easy class shall not fill the row."""
    seen: Counter[str] = Counter()
    ranked = []
    for row in rows:
        ranked.append((seen[row["truth"]], row))
        seen[row["truth"]] += 1
    return [row for _, row in sorted(ranked, key=lambda pair: pair[0])]


def _picture(pixels: np.ndarray) -> np.ndarray:
    """Network pixels `(C, H, W)` as uint8 `(H, W)` or `(H, W, 3)`."""
    shown = pixels if pixels.dtype == np.uint8 else (pixels // 257).astype(np.uint8)
    return shown[0] if shown.shape[0] == 1 else np.moveaxis(shown, 0, -1)
