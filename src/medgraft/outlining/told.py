"""What a run that learnt to outline says of itself: its report, and the card of its model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medgraft import depth_rounds
from medgraft.detection.told import Times
from medgraft.gather import Gathered
from medgraft.learn.loop import Fitted
from medgraft.outlining.parts import Prepared, PromptParts, preset_of
from medgraft.recipe import Recipe
from medgraft.reporting import augment_steps, depth_entry, gathered_entry, run_entries
from medgraft.samples.mask_meaning import MaskForm
from medgraft.tasks.outline import Outline
from medgraft.version import VERSION


def card_of(recipe: Recipe, parts: PromptParts, ready: Prepared) -> dict[str, Any]:
    """Get what the model file says of itself, but how its net is built."""
    return {
        "medgraft": VERSION,
        "task": recipe.task,
        "classes": list(ready.masks.names),
        "backbone": backbone_entry(parts.task),
        "masks": ready.masks.to_dict(),
        "structures": {name: getattr(parts.form, name) for name in ("parts", "least", "slices", "axis")},
        "axes": ready.axes,
        "thawed_stages": parts.task.thawed,
        "recipe_sha256": recipe.fingerprint(),
        "seed": recipe.seed,
    }


def backbone_entry(task: Outline) -> dict[str, Any]:
    """Get `backbone` of report.json."""
    model = task.prompter
    return {
        "name": model.name,
        "architecture": str(model.described()["arm"]),
        "pooling": "prompts",
        "source": model.source,
        "licence": model.licence,
        "parameters": sum(one.numel() for one in task.net.parameters()),
        "sha256": model.sha256,
        "random": False,
        "recalibrated": 0,
    }


def report_of(
    recipe: Recipe,
    parts: PromptParts,
    ready: Prepared,
    *,
    fitted: Fitted,
    times: Times,
    result: Mapping[str, Any],
    out: Path,
) -> dict[str, Any]:
    """Get what report.json holds (see `medgraft.report.schema`)."""
    found, task = ready.found, parts.task
    return {
        **run_entries(recipe, found, device=parts.engine.device, out=out),
        "classes": list(ready.masks.names),
        "backbone": backbone_entry(task),
        "depth": depth_entry(recipe, task, out / depth_rounds.FILE),
        "data": data_of(found, ready.masks, parts),
        "augment": _augment_entry(recipe),
        "training": _training_entry(recipe, fitted),
        "methods": _methods(recipe, parts, found, fitted),
        **result,
        "timing": {
            "train_seconds": round(times.train, 2),
            "train_images_per_second": _rounded(fitted.images_per_second),
            "predict_images_per_second": _rounded(times.predict_images_per_second),
            "prefix_seconds": round(times.prefix, 2),
        },
    }


def _augment_entry(recipe: Recipe) -> dict[str, Any]:
    chosen = preset_of(recipe)
    entry = {"preset": chosen.name, "reason": recipe.reasons.get("augment.preset")}
    return {**entry, "strength": recipe.augment.strength, "steps": augment_steps(chosen)}


def data_of(found: Gathered, masks: MaskForm, parts: PromptParts) -> dict[str, Any]:
    """Get `data` of report.json, with how many structures there are."""
    entry = gathered_entry(found)
    counts = {
        split: sum(len(one.names) for place in found.of(split) for one in parts.pictures[place])
        for split in ("train", "val", "test")
    }
    what = "things, each a structure" if masks.instances else "structures"
    rows = [[f"{what.capitalize()} in training, validation and test", ", ".join(map(str, counts.values()))]]
    return {**entry, "facts": [*entry["facts"], *rows]}


def _training_entry(recipe: Recipe, fitted: Fitted) -> dict[str, Any]:
    fit, own = recipe.fit, recipe.prompts
    return {
        "probe": None,
        "epochs": sum(row["epoch"] > 0 for row in fitted.history),
        "epochs_planned": fit.epochs,
        "best_epoch": fitted.best_epoch + 1,
        "stopped": fitted.stopped,
        "score": "iou",
        "loss": "cross-entropy and soft Dice of the drawing, squared error of the foreseen overlap",
        "balance": "none",
        "precision": fit.precision,
        "label_smoothing": None,
        "batch_size": fit.batch_size,
        "optimiser": "AdamW",
        "learning_rate": fit.lr,
        "weight_decay": fit.weight_decay,
        "schedule": f"linear warm-up over {fit.warmup:.0%} of the steps, then a half cosine to zero",
        "ema": fit.ema or None,
        "mixup": None,
        "facts": [
            ["structures of a picture at once", own.most],
            ["looks at a picture in an epoch", own.looks],
            ["shown by", "boxes that are not exact, one point, some points in it and beside it; then one correction"],
            ["learning rate of the decoder", fit.head_lr],
        ],
    }


def _methods(recipe: Recipe, parts: PromptParts, found: Gathered, fitted: Fitted) -> str:
    """The paragraph for a paper."""
    task = parts.task
    counts = {part: len(found.of(part)) for part in ("train", "val", "test")}
    deep = (
        "low-rank adapters in its encoder were tuned with its decoder"
        if task.rank
        else "its decoder alone was tuned"
        if not task.thawed
        else f"its decoder and {task.thawed} of {len(task.backbone.stages)} stages of its encoder were tuned"
    )
    epochs = sum(row["epoch"] > 0 for row in fitted.history)
    kept = "The epoch with the best overlap on validation was kept."
    if fitted.best_epoch < 0:
        kept = "No epoch had a better overlap on validation than the model as it was, which was kept."
    return (
        f"Images were parted into {counts['train']} for training, {counts['val']} for validation and {counts['test']} "
        f"for the test. A model that outlines what prompts show ({task.prompter.name}) was tuned on their label maps: "
        f"{deep}, for {epochs} epochs of AdamW. Structures were shown by boxes whose edges wavered by a "
        f"twentieth of their size, by a point, or by some points, and each answer was corrected once by a point in the "
        f"largest error. {kept} Test structures were shown by the "
        f"exact box and by the innermost point of their largest part; the candidate that the model thinks best of was "
        f"compared with the truth (intersection over union). Intervals are from {recipe.scores.resamples} resamples of "
        f"patients. medgraft {VERSION}."
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
