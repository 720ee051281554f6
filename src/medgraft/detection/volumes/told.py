"""What a run with a detector in volumes says of itself: its report, and the card of its model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medgraft import depth_rounds
from medgraft.detection.told import backbone_entry, data_of
from medgraft.detection.volumes.choices import ARM
from medgraft.detection.volumes.parts import VolumeParts
from medgraft.gather import Gathered
from medgraft.learn.loop import Fitted
from medgraft.recipe import Recipe
from medgraft.reporting import depth_entry, run_entries
from medgraft.version import VERSION


@dataclass
class Times:
    """Seconds that the steps of a run took, and scans a second."""

    train: float = 0.0
    prefix: float = 0.0
    predict_images_per_second: float = 0.0


def _recalibrated(recipe: Recipe, parts: VolumeParts) -> int:
    """Of how many scans the patches are, at most, on which BatchNorm was measured anew."""
    return len(parts.train.volumes) if recipe.backbone.recalibrate else 0


def card_of(recipe: Recipe, parts: VolumeParts) -> dict[str, Any]:
    """Get what the model file says of itself: everything that prediction needs, and where it came from."""
    task = parts.task
    return {
        "medgraft": VERSION,
        "task": recipe.task,
        "arm": ARM,
        "classes": list(task.answers.classes),
        "backbone": backbone_entry(task, _recalibrated(recipe, parts)),
        "form": parts.form.to_dict(),
        "threshold": list(task.threshold),
        "hit": {"rule": recipe.boxes.hit, "iou": recipe.boxes.iou},
        "spec": task.backbone.spec.to_dict(),
        "weights_spec": task.backbone.weights_spec.to_dict(),
        "gray": task.backbone.gray,
        "thawed_stages": task.thawed,
        "precision": parts.engine.precision,
        "channels_last": parts.engine.channels_last,
        "recipe_sha256": recipe.fingerprint(),
        "seed": recipe.seed,
    }


def report_of(
    recipe: Recipe,
    parts: VolumeParts,
    found: Gathered,
    *,
    fitted: Fitted,
    times: Times,
    result: Mapping[str, Any],
    out: Path,
) -> dict[str, Any]:
    """Get what report.json holds (see `medgraft.report.schema`)."""
    speed = fitted.images_per_second
    return {
        **run_entries(recipe, found, device=parts.engine.device, out=out),
        "arm": ARM,
        "classes": list(parts.task.answers.classes),
        "backbone": backbone_entry(parts.task, _recalibrated(recipe, parts)),
        "depth": depth_entry(recipe, parts.task, out / depth_rounds.FILE),
        "data": data_of(found),
        "augment": {"preset": "none", "reason": recipe.reasons.get("augment.preset"), "strength": 0.0, "steps": []},
        "training": _training_entry(recipe, parts, fitted),
        "methods": _methods(recipe, parts, found, fitted),
        **result,
        "timing": {
            "train_seconds": round(times.train, 2),
            "train_images_per_second": None if speed is None else round(speed, 2),
            "prefix_seconds": round(times.prefix, 2),
            "predict_images_per_second": round(times.predict_images_per_second, 3),
        },
    }


def _training_entry(recipe: Recipe, parts: VolumeParts, fitted: Fitted) -> dict[str, Any]:
    fit, form = recipe.fit, parts.form
    return {
        "probe": None,
        "epochs": len(fitted.history),
        "epochs_planned": fit.epochs,
        "best_epoch": fitted.best_epoch + 1,
        "stopped": fitted.stopped,
        "score": "FROC score",
        "image_size": list(form.patch[1:]),
        "loss": "focal loss of classes, and smooth L1 of corners",
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
            ["detector", f"RetinaNet in volumes, {form.finder.width} channels"],
            ["voxels", f"{_by(form.frame.spacing_mm)} mm"],
            ["where it looks", "the box around the lungs" if form.frame.region == "lungs" else "the whole scan"],
            ["windows, centre / width", _windows(parts)],
            [
                "anchors on the finest map",
                f"{_sides(recipe)} mm; twice as large on each of {form.finder.maps - 1} more",
            ],
            ["patches that it learns from", f"{_by(form.patch)} voxels, {recipe.boxes.patches} a scan and epoch"],
            ["windows that it looks through", f"{_by(form.window)} voxels, {_by(form.lap)} shared with the next"],
            ["looks at a scan", "four: as it is, and mirrored along each axis" if form.mirrored else "one"],
            ["learning rate of pyramid and detector", fit.head_lr],
            ["factor on each stage further down", fit.layer_decay],
        ],
    }


def _by(sizes: tuple[float, ...]) -> str:
    return " x ".join(f"{size:g}" for size in sizes)


def _sides(recipe: Recipe) -> str:
    return " and ".join(f"{side:g}" for side in recipe.boxes.anchors_mm or [])


def _windows(parts: VolumeParts) -> str:
    own = parts.form.frame.windows_hu
    each = ", ".join(f"{centre:g} / {width:g}" for centre, width in own)
    return f"{each} HU" if own else "the darkest and brightest voxels of each scan"


def _methods(recipe: Recipe, parts: VolumeParts, found: Gathered, fitted: Fitted) -> str:
    """The paragraph for a paper."""
    net, form = parts.task.backbone, parts.form
    counts = {part: len(found.of(part)) for part in ("train", "val", "test")}
    hit = "its centre lies in a true box" if recipe.boxes.hit == "centre" else f"IoU is at least {recipe.boxes.iou:g}"
    seen = "the box around the lungs" if form.frame.region == "lungs" else "the whole scan"
    looks = ", four times, mirrored along each axis, and the boxes joined" if form.mirrored else ""
    return (
        f"Scans were parted into {counts['train']} for training, {counts['val']} for validation and {counts['test']} "
        f"for the test, brought to voxels of {_by(form.frame.spacing_mm)} mm (z, y, x) and cut to {seen}. An encoder "
        f"of pictures ({net.architecture}), its kernels spread over depth (Carreira and Zisserman, CVPR 2017), carried "
        f"a feature pyramid and a RetinaNet (Lin et al., ICCV 2017; anchors matched by ATSS, MONAI's implementation). "
        f"{parts.task.thawed} of its {len(net.stages)} stages were tuned on patches of {_by(form.patch)} voxels, half "
        f"of them around findings, mirrored, stretched and changed in brightness, by the focal loss, for "
        f"{len(fitted.history)} epochs of AdamW; the epoch with the best FROC score of the validation scans was kept. "
        f"Whole scans were looked at through windows of {_by(form.window)} voxels{looks}. A box was a hit where {hit}. "
        f"Thresholds were chosen on validation scans for the largest F1. Intervals are from {recipe.scores.resamples} "
        f"resamples of patients. medgraft {VERSION}."
    )
