"""What report.json holds: where the data went, what was trained and how, and where it ran."""

from __future__ import annotations

import json
import os
import platform
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medgraft import enough, storage
from medgraft.assemble import Parts, augmentation, is_cached, rank_of, stages_of
from medgraft.gather import Gathered
from medgraft.learn.held import score_name
from medgraft.learn.loop import Fitted
from medgraft.learn.recalibrate import MOST_IMAGES
from medgraft.recipe import Recipe
from medgraft.report import certainty as report_certainty
from medgraft.report import shortcuts as report_shortcuts
from medgraft.samples.presets import Preset, meanings, numbers
from medgraft.samples.split import LeakPair
from medgraft.samples.survey import Survey
from medgraft.samples.synthetic import synthetic_words
from medgraft.tasks.base import ImageTask
from medgraft.values import Sample
from medgraft.version import VERSION

_SPLITS = ("train", "val", "test")
_DEPTH_SAID = ("curve", "thawed_stages", "adapters", "of", "backbone")
_LOSSES = {
    "number": "Huber loss on standardised labels",
    "labels": "binary cross-entropy of each label",
    "ordinal": "binary cross-entropy of each cut between grades",
}
_ZONES_SCORE = "mean of the diagnosis' AUROC and the zones' kappa or correlation, less a hundredth of the losses"


def _zone_loss(task: ImageTask) -> str:
    each = "binary cross-entropy of each cut between grades" if task.answers.grades else "binary cross-entropy"
    return f", and {each} of the zones; each in parts of what knowing nothing costs"


def backbone_entry(task: ImageTask) -> dict[str, Any]:
    """Get `backbone` of report.json."""
    net = task.backbone
    return {
        "name": net.name,
        "architecture": net.architecture,
        "options": net.options,
        "pooling": task.head.pooling,
        "source": net.source,
        "licence": net.licence,
        "parameters": net.parameters_count,
        "sha256": net.sha256,
        "random": not net.sha256,
        "input": {"size": list(net.spec.size), "channels": net.spec.channels},
    }


def recalibrated(recipe: Recipe, parts: Parts) -> int:
    """Get on how many training images the statistics of BatchNorm were measured anew; 0 where they were not."""
    return min(MOST_IMAGES, len(parts.train.keys)) if recipe.backbone.recalibrate else 0


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
        "backbone": {**backbone_entry(task), "recalibrated": recalibrated(recipe, parts)},
        "depth": depth_entry(recipe, task, out / "depth.json"),
        "target": target_entry(task, found.samples, name=recipe.data.label_column),
        "data": data_entry(
            found.samples,
            found.survey,
            kind=task.answer_kind,
            quarantined=len(found.quarantine),
            split_source=found.split_source,
            notes=found.notes,
            leaks=found.leaks,
        ),
        "quarantine": [{"path": path, "reason": reason} for path, reason in found.quarantine[:50]],
        "augment": _augment_entry(recipe, task, fitted),
        "training": _training_entry(recipe, parts, fitted),
        "shortcuts": _read(out / "shortcuts.json"),
        "learning": _learning_entry(out / "learning.json", task, result["scores"]["test"]),
        **result,
        "timing": {
            "train_seconds": round(times.train, 2),
            "train_images_per_second": _rounded(fitted.images_per_second),
            "predict_images_per_second": _rounded(times.predict_images_per_second),
            "prefix_seconds": round(times.prefix, 2),
            "question_seconds": times.questions,
        },
        "machine": machine_entry(parts.engine.device),
        "seed": recipe.seed,
        "recipe_sha256": recipe.fingerprint(),
        "recipe_yaml": recipe.to_yaml(),
        "command": f"medgraft train DATA --recipe {shlex.quote(str(out / 'recipe.yaml'))} --out NEW_RUN",
        "checksums": {"model.safetensors": storage.sha256_file(out / "model.safetensors")},
        "warnings": _warnings(recipe, found),
    }


def run_entries(recipe: Recipe, found: Gathered, *, device: Any, out: Path) -> dict[str, Any]:
    """Get the keys of report.json that say of every run on places alike what was done, where, and how to do it again.

    Args:
        recipe: filled.
        found: the data.
        device: of torch.
        out: the run folder, with its model.
    """
    return {
        "medgraft": VERSION,
        "task": recipe.task,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "positive": None,
        "phantoms": is_phantom(found.samples),
        "quarantine": [{"path": path, "reason": reason} for path, reason in found.quarantine[:50]],
        "machine": machine_entry(device),
        "seed": recipe.seed,
        "recipe_sha256": recipe.fingerprint(),
        "recipe_yaml": recipe.to_yaml(),
        "command": f"medgraft train DATA --recipe {shlex.quote(str(out / 'recipe.yaml'))} --out NEW_RUN",
        "checksums": {"model.safetensors": storage.sha256_file(out / "model.safetensors")},
        "warnings": list(found.survey.warnings),
        "alarms": [],
    }


def alarms(report: Mapping[str, Any]) -> list[str]:
    """Get what the page warns of that no warning of the data says: shortcuts, and sets that do not hold."""
    found = [*report_shortcuts.warnings(report), *report_certainty.warnings(report)]
    return [f"{one['title']}: {one['text']}" for one in found]


def is_phantom(samples: Sequence[Sample]) -> bool:
    """Say whether most images are phantoms: their file names say so."""
    named = sum("phantom" in sample.key.rsplit("/", 1)[-1].lower() for sample in samples)
    return named > len(samples) / 2


def name_of(survey: Survey) -> str:
    """Get what the data set is called: the name of its folder."""
    return Path(survey.root).resolve().name


def target_entry(task: ImageTask, samples: Sequence[Sample], *, name: str | None) -> dict[str, Any]:
    """Get `target` of report.json: what the numbers are and how far they reach; empty where answers are no numbers."""
    values = [float(sample.label) for sample in samples if sample.label] if task.answer_kind == "number" else []
    return {"name": name or "the value", "low": min(values), "high": max(values)} if values else {}


def gathered_entry(found: Gathered, *, kind: str = "labels") -> dict[str, Any]:
    """Get `data` of report.json of all that was gathered; arguments as in `data_entry`."""
    return data_entry(
        found.samples,
        found.survey,
        kind=kind,
        quarantined=len(found.quarantine),
        split_source=found.split_source,
        notes=found.notes,
        leaks=found.leaks,
    )


def data_entry(
    samples: Sequence[Sample],
    survey: Survey,
    *,
    kind: str,
    quarantined: int,
    split_source: str,
    notes: Sequence[str],
    leaks: Sequence[LeakPair] = (),
    splits: Sequence[str] = _SPLITS,
) -> dict[str, Any]:
    """Get `data` of report.json; `kind` is the answer kind, by which samples are counted."""
    by_split = {split: [sample for sample in samples if sample.split == split] for split in splits}
    known = all(sample.patient for sample in samples)
    names = {sample.key: _counted_as(sample.label or "", kind) for sample in samples}
    labels = sorted({name for own in names.values() for name in own})
    values = (
        {split: [float(s.label) for s in own if s.label] for split, own in by_split.items()} if kind == "number" else {}
    )
    return {
        "name": name_of(survey),
        "layout": survey.layout,
        "images": {split: len(own) for split, own in by_split.items()},
        "patients": {split: _people(own) for split, own in by_split.items()} if known else None,
        "split_by": "patient" if known else "image",
        "split_source": split_source,
        "quarantined": quarantined,
        "leaks_allowed": bool(leaks),
        "leaks": [_leak_entry(pair) for pair in leaks[:20]],
        "leak_counts": dict(Counter(pair.kind for pair in leaks)),
        "classes": {label: _class_entry(label, by_split, names, known) for label in labels[:30]},
        "duplicates": _duplicates_entry(survey),
        "image_size": {
            word: [round(survey.height[at]), round(survey.width[at])]
            for word, at in (("smallest", "low"), ("median", "median"), ("largest", "high"))
        },
        "facts": [
            *[[f"{name} images", count] for name, count in survey.modalities.items()],
            *[[f"Values, {split}", _range_words(own)] for split, own in values.items() if own],
        ],
        "notes": list(notes),
    }


def _people(samples: Sequence[Sample]) -> int:
    return len({sample.patient for sample in samples})


def _counted_as(label: str, kind: str) -> tuple[str, ...]:
    """The rows of the table of classes that a label counts in: several for `a|b`, none for a number."""
    if kind == "number":
        return ()
    if kind != "labels":
        return (label or "(not known)",)
    return tuple(part.strip() for part in label.split("|") if part.strip()) or ("(none)",)


def _range_words(values: Sequence[float]) -> str:
    return f"mean {np.mean(values):.4g}, from {min(values):g} to {max(values):g}"


def _class_entry(
    label: str, by_split: Mapping[str, Sequence[Sample]], names: Mapping[str, Sequence[str]], known: bool
) -> dict[str, Any]:
    own = {split: [x for x in part if label in names[x.key]] for split, part in by_split.items()}
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


def _read(path: Path) -> dict[str, Any]:
    """What a step before the fit found; nothing where it was not taken."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _learning_entry(path: Path, task: ImageTask, scores: Mapping[str, Any]) -> dict[str, Any]:
    """What more cases would bring: in training to the score, in the test to its interval."""
    return {**_read(path), "widths": enough.widths(scores, score_name(task))}


def depth_entry(recipe: Recipe, task: Any, path: Path) -> dict[str, Any]:
    """Get `depth` of report.json; `path` is that of depth.json, which is there where depths were searched."""
    tried = _read(path)
    stages = [name for name, _ in task.parts().stages]
    thawed = stages_of(recipe, task)
    reason = recipe.reasons.get("depth.thaw")
    return {
        "thawed_stages": thawed,
        "adapters": rank_of(recipe),
        "of": len(stages),
        "chosen_by": "the depth finder" if tried else "rule" if reason else "the user",
        "reason": reason,
        "stages": stages[::-1],
        "trained_parameters": task.learning,
        "curve": tried.get("curve", []),
        "searched": {name: value for name, value in tried.items() if name not in _DEPTH_SAID},
    }


def _augment_entry(recipe: Recipe, task: ImageTask, fitted: Fitted) -> dict[str, Any]:
    # A probe without epochs learns from the views that it was given, and these may be the plain ones alone.
    learnt = bool(recipe.fit.epochs) or fitted.start.get("views", 1) > 1
    chosen = augmentation(recipe if learnt else recipe.changed({"augment.preset": "none"}), task)
    return {
        "preset": chosen.name,
        "reason": recipe.reasons.get("augment.preset"),
        "strength": recipe.augment.strength,
        "steps": augment_steps(chosen),
    }


def augment_steps(chosen: Preset) -> list[str]:
    """Get the ranges that are not zero, in words."""
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
    kind, head_only, zoned = parts.task.answer_kind, parts.task.thawed == 0, bool(parts.task.answers.zones)
    stated = {
        "number": "minus the mean absolute error, in standard deviations of the training values",
        "ordinal": "quadratic kappa less a fiftieth of the loss",
    }
    views = [["views of each image through the frozen stages", recipe.depth.views]] if is_cached(recipe, parts) else []
    steps = {
        "batch_size": fit.batch_size,
        "optimiser": "AdamW",
        "learning_rate": fit.head_lr if head_only else fit.lr,
        "weight_decay": fit.weight_decay,
        "schedule": f"linear warm-up over {fit.warmup:.0%} of the steps, then a half cosine to zero",
        "ema": fit.ema or None,
        "mixup": fit.mixup,
    }
    rates = [["learning rate of the head", fit.head_lr], ["factor on each stage further down", fit.layer_decay]]
    return {
        "probe": fitted.start or None,
        "epochs": sum(row["epoch"] > 0 for row in fitted.history),
        "epochs_planned": fit.epochs,
        "best_epoch": fitted.best_epoch + 1,
        "stopped": fitted.stopped if fit.epochs else None,
        "score": _ZONES_SCORE if zoned else stated.get(kind, "AUROC less a fiftieth of the loss"),
        "image_size": list(parts.pixels.size),
        "loss": _LOSSES.get(kind, "cross-entropy") + (_zone_loss(parts.task) if zoned else ""),
        "balance": recipe.reasons.get("fit.balance") or f"{fit.balance}, as the user chose",
        "precision": parts.engine.precision,
        "label_smoothing": None if kind == "number" else fit.label_smoothing,
        # Without an epoch no step was done, and what a step would have been is nobody's business.
        **(steps if fit.epochs else dict.fromkeys(steps)),
        "facts": views if head_only else [*rates, *views],
    }


def machine_entry(device: torch.device) -> dict[str, Any]:
    """Get where it ran."""
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
    drawn = synthetic_words(found.samples)
    return [*found.survey.warnings, *drawn, *_limited(recipe, found), *_unused(recipe, found)]


def _unused(recipe: Recipe, found: Gathered) -> list[str]:
    """Say what was asked for and has no meaning here."""
    classes = {sample.label for sample in found.samples}
    if recipe.scores.prevalence is None or (recipe.task == "classify" and len(classes) == 2):
        return []
    return ["the setting scores.prevalence has a meaning for two classes alone and was not used"]


def _limited(recipe: Recipe, found: Gathered) -> list[str]:
    """Say that not all training images were used."""
    if not recipe.split.limit_train:
        return []
    return [f"only {len(found.of('train'))} training images were used, because split.limit_train says so"]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
