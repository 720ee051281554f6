"""What a run that finds boxes says of itself: its report, and the card of its model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medgraft import depth_rounds
from medgraft.detection.parts import BoxParts, words_of
from medgraft.gather import Gathered
from medgraft.learn.loop import Fitted
from medgraft.learn.recalibrate import MOST_IMAGES
from medgraft.recipe import Recipe
from medgraft.reporting import augment_steps, depth_entry, gathered_entry, run_entries
from medgraft.samples.box_loader import exact
from medgraft.samples.presets import preset
from medgraft.values import Sample
from medgraft.version import VERSION

_ARMS = {"faster_rcnn": "Faster R-CNN", "fcos": "FCOS"}
_LOSSES = {
    "faster_rcnn": "cross-entropy of proposals and classes, and smooth L1 of their corners",
    "fcos": "focal loss of classes, generalised IoU of boxes, cross-entropy of how central a place is",
}


@dataclass
class Times:
    """Seconds that the steps of a run took."""

    train: float = 0.0
    prefix: float = 0.0
    predict_images_per_second: float | None = None


def backbone_entry(task: Any, recalibrated: int) -> dict[str, Any]:
    """Get `backbone` of report.json; `recalibrated` images measured its BatchNorm anew."""
    net = task.backbone
    return {
        "name": net.name,
        "architecture": net.architecture,
        "options": net.options,
        "pooling": "pyramid",
        "source": net.source,
        "licence": net.licence,
        "parameters": net.parameters_count,
        "sha256": net.sha256,
        "random": not net.sha256,
        "input": {"size": list(net.spec.size), "channels": net.spec.channels},
        "recalibrated": recalibrated,
    }


def card_of(recipe: Recipe, parts: BoxParts) -> dict[str, Any]:
    """Get what the model file says of itself: everything that prediction needs, and where it came from."""
    task = parts.task
    return {
        "medgraft": VERSION,
        "task": recipe.task,
        "classes": list(task.answers.classes),
        "backbone": backbone_entry(task, _recalibrated(recipe, parts)),
        "finder": task.head.form.to_dict(),
        "threshold": list(task.threshold),
        "field": parts.field,
        "hit": {"rule": recipe.boxes.hit, "iou": recipe.boxes.iou},
        "pixels": parts.pixels.to_dict(),
        "spec": task.backbone.spec.to_dict(),
        "weights_spec": task.backbone.weights_spec.to_dict(),
        "gray": task.backbone.gray,
        "thawed_stages": task.thawed,
        "precision": parts.engine.precision,
        "channels_last": parts.engine.channels_last,
        "recipe_sha256": recipe.fingerprint(),
        "seed": recipe.seed,
    }


def _recalibrated(recipe: Recipe, parts: BoxParts) -> int:
    return min(MOST_IMAGES, len(parts.train.keys)) if recipe.backbone.recalibrate else 0


def report_of(
    recipe: Recipe,
    parts: BoxParts,
    found: Gathered,
    fitted: Fitted,
    *,
    times: Times,
    result: Mapping[str, Any],
    out: Path,
) -> dict[str, Any]:
    """Get what report.json holds (see `medgraft.report.schema`)."""
    task = parts.task
    return {
        **run_entries(recipe, found, device=parts.engine.device, out=out),
        "classes": list(task.answers.classes),
        "backbone": backbone_entry(task, _recalibrated(recipe, parts)),
        "depth": depth_entry(recipe, task, out / depth_rounds.FILE),
        "data": data_of(found),
        "augment": _augment_entry(recipe),
        "training": _training_entry(recipe, parts, fitted),
        **result,
        "timing": {
            "train_seconds": round(times.train, 2),
            "train_images_per_second": _rounded(fitted.images_per_second),
            "predict_images_per_second": _rounded(times.predict_images_per_second),
            "prefix_seconds": round(times.prefix, 2),
        },
    }


def data_of(found: Gathered) -> dict[str, Any]:
    """Get `data` of report.json, with how many boxes there are."""
    entry = gathered_entry(found)
    entry["boxes"] = {split: box_counts([found.samples[i] for i in found.of(split)]) for split in entry["images"]}
    said = [[f"Boxes, {split}", _counted(one)] for split, one in entry["boxes"].items()]
    return {**entry, "facts": [*entry["facts"], *said]}


def box_counts(samples: Sequence[Sample]) -> dict[str, Any]:
    """Count the boxes of some samples, in all and of each class: {"boxes", "images", "empty", "classes": {...}}."""
    named: dict[str, int] = {}
    for sample in samples:
        for name in () if sample.boxes is None else sample.boxes.labels:
            named[name] = named.get(name, 0) + 1
    return {**words_of(samples), "classes": dict(sorted(named.items()))}


def _counted(one: Mapping[str, Any]) -> str:
    each = ", ".join(f"{count} {name}" for name, count in one["classes"].items())
    return f"{one['boxes']} in {one['images']} images ({each}); {one['empty']} images have none"


def _augment_entry(recipe: Recipe) -> dict[str, Any]:
    chosen = exact(preset(recipe.augment.preset).with_(strength=recipe.augment.strength))
    return {
        "preset": chosen.name,
        "reason": recipe.reasons.get("augment.preset"),
        "strength": recipe.augment.strength,
        "steps": augment_steps(chosen),
    }


def _training_entry(recipe: Recipe, parts: BoxParts, fitted: Fitted) -> dict[str, Any]:
    fit, form = recipe.fit, parts.task.head.form
    strides = ", ".join(map(str, form.strides))
    return {
        "probe": None,
        "epochs": len(fitted.history),
        "epochs_planned": fit.epochs,
        "best_epoch": fitted.best_epoch + 1,
        "stopped": fitted.stopped,
        "score": "mean of average precision at IoU .50 and .75",
        "image_size": list(parts.pixels.size),
        "loss": _LOSSES[form.arm],
        "balance": None,
        "precision": parts.engine.precision,
        "label_smoothing": None,
        "batch_size": fit.batch_size,
        "optimiser": "AdamW",
        "learning_rate": fit.lr,
        "weight_decay": fit.weight_decay,
        "schedule": f"linear warm-up over {fit.warmup:.0%} of the steps, then a half cosine to zero",
        "ema": fit.ema or None,
        "mixup": None,
        "facts": [
            ["detector", _ARMS[form.arm]],
            ["maps that boxes are looked for in", f"a place is {strides} pixels wide; {form.width} channels"],
            ["windows", f"{recipe.boxes.crop} pixels wide" if recipe.boxes.crop else None],
            ["learning rate of pyramid and detector", fit.head_lr],
            ["factor on each stage further down", fit.layer_decay],
        ],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
