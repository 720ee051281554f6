"""What a run that draws label maps says of itself: its report, and the card of its model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medgraft import depth_rounds
from medgraft.detection.told import Times, backbone_entry
from medgraft.gather import Gathered
from medgraft.learn.loop import Fitted
from medgraft.nets.decoder import ARMS, DecoderForm
from medgraft.nets.mask_heads import WHOLE
from medgraft.recipe import Recipe
from medgraft.report.score_names import named
from medgraft.reporting import augment_steps, depth_entry, gathered_entry, run_entries
from medgraft.samples.framing import FrameForm
from medgraft.samples.mask_meaning import MaskForm
from medgraft.samples.picture_grid import PictureForm
from medgraft.samples.things import Parting
from medgraft.segmentation.facts import MaskFacts
from medgraft.segmentation.parts import DrawParts, Prepared, preset_of
from medgraft.tasks.segment import watched
from medgraft.version import VERSION

_DECODERS = {
    "unet": "U-Net",
    "fpn": "feature pyramid",
    "smp_unet": "U-Net of segmentation-models-pytorch",
    "smp_unetplusplus": "U-Net++ of segmentation-models-pytorch",
    "smp_manet": "MA-Net of segmentation-models-pytorch",
    "smp_linknet": "LinkNet of segmentation-models-pytorch",
    "smp_fpn": "feature pyramid of segmentation-models-pytorch",
    "dynunet": "MONAI's DynUNet, a whole net",
    "segresnet": "MONAI's SegResNet, a whole net",
}


def _recalibrated(recipe: Recipe, parts: DrawParts) -> int:
    """Of how many images the patches are, at most, on which BatchNorm was measured anew."""
    return len(parts.train.cases) if recipe.backbone.recalibrate else 0


def card_of(recipe: Recipe, parts: DrawParts, ready: Prepared) -> dict[str, Any]:
    """Get what the model file says of itself: everything that prediction needs, and where it came from."""
    task = parts.task
    return {
        "medgraft": VERSION,
        "task": recipe.task,
        "arm": parts.form.decoder.arm,
        "classes": list(task.answers.classes),
        "backbone": _backbone_entry(recipe, parts),
        "form": parts.form.to_dict(),
        "masks": ready.form.to_dict(),
        "parting": asdict(task.parting),
        "rules": {"tolerance": recipe.masks.tolerance, "unit": unit_of(parts), "thin": recipe.masks.thin},
        "spec": task.backbone.spec.to_dict(),
        "weights_spec": task.backbone.weights_spec.to_dict(),
        "gray": task.backbone.gray,
        "thawed_stages": task.thawed,
        "precision": parts.engine.precision,
        "channels_last": parts.engine.channels_last,
        "recipe_sha256": recipe.fingerprint(),
        "seed": recipe.seed,
    }


def _backbone_entry(recipe: Recipe, parts: DrawParts) -> dict[str, Any]:
    entry = backbone_entry(parts.task, _recalibrated(recipe, parts))
    if parts.form.decoder.arm not in WHOLE:
        return {**entry, "pooling": "decoder"}
    numbers = sum(one.numel() for one in parts.task.head.parameters())
    own = {"name": f"none:{parts.form.decoder.arm}", "source": "random numbers; it has no encoder of its own"}
    return {**entry, **own, "licence": "", "parameters": numbers, "random": True, "pooling": "none"}


def report_of(
    recipe: Recipe,
    parts: DrawParts,
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
        "arm": parts.form.decoder.arm,
        "classes": list(task.answers.classes),
        "backbone": _backbone_entry(recipe, parts),
        "depth": depth_entry(recipe, task, out / depth_rounds.FILE),
        "data": data_of(found, ready.facts, ready.form),
        "augment": _augment_entry(recipe),
        "training": _training_entry(recipe, parts, fitted),
        "methods": _methods(recipe, parts, found, fitted),
        **result,
        "timing": {
            "train_seconds": round(times.train, 2),
            "train_images_per_second": _rounded(fitted.images_per_second),
            "predict_images_per_second": _rounded(times.predict_images_per_second),
            "prefix_seconds": round(times.prefix, 2),
        },
    }


def data_of(found: Gathered, facts: MaskFacts, form: MaskForm) -> dict[str, Any]:
    """Get `data` of report.json, with what the label maps are like."""
    entry = gathered_entry(found)
    shares = [f"{name} {share:.2%}" for name, share in zip(form.names, facts.shares, strict=True)]
    rows: list[list[Any]] = [["Share of the pixels, training", ", ".join(shares)]]
    rows.append(["Thickness of what is drawn, median", f"{facts.thickness:.1f} pixels"])
    if form.instances:
        rows.append(["Things in the images that were looked at", len(facts.things)])
    return {**entry, "facts": [*entry["facts"], *rows]}


def _augment_entry(recipe: Recipe) -> dict[str, Any]:
    chosen, reason = preset_of(recipe), recipe.reasons.get("augment.preset")
    if chosen is None:
        return {"preset": "none", "reason": reason, "strength": 0.0, "steps": []}
    steps = augment_steps(chosen)
    return {"preset": chosen.name, "reason": reason, "strength": recipe.augment.strength, "steps": steps}


def _training_entry(recipe: Recipe, parts: DrawParts, fitted: Fitted) -> dict[str, Any]:
    fit, form, own = recipe.fit, parts.form, recipe.masks
    names = ("height", "width") if form.axes == 2 else ("depth", "height", "width")
    judged = is_judged(fitted)
    mirrored = " and ".join(names[axis] for axis in form.mirrored)
    return {
        "probe": None,
        "epochs": len(fitted.history),
        "epochs_planned": fit.epochs,
        "best_epoch": fitted.best_epoch + 1 if judged else None,
        "stopped": fitted.stopped,
        "score": watched(form.apart) if judged else None,
        "image_size": list(form.patch[-2:]),
        "loss": loss_words(recipe, apart=form.apart),
        "balance": f"{own.around:.0%} of the patches lie around a class, all classes equally often",
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
            ["decoder", f"{decoder_words(form.decoder)}, {form.decoder.width} channels on the finest map"],
            ["resolution", grid_words(parts)],
            ["black and white", levels_words(parts)],
            ["patches that it learns from", f"{_by(form.patch)}, {own.patches} an image and epoch"],
            ["windows that it looks through", f"{_by(form.window)}, {_by(form.lap)} shared with the next"],
            ["looks at an image", f"as it is, and mirrored along {mirrored}" if form.mirrored else "one"],
            ["coarser maps that are learnt from as well", form.decoder.deep or None],
            ["what parts two things", parting_words(parts.task.parting) if form.apart else None],
            ["learning rate of the decoder", fit.head_lr],
            ["factor on each stage further down", fit.layer_decay],
        ],
    }


def is_judged(fitted: Fitted) -> bool:
    """Tell whether validation images chose the epoch; not where none of them shows a structure."""
    return any("val_score" in row for row in fitted.history)


def loss_words(recipe: Recipe, *, apart: bool) -> str:
    """Say what the loss is made of."""
    own = recipe.masks
    words = "cross-entropy" + (f", {1 + own.boundary:g} times at boundaries" if own.boundary else "")
    words += " and soft Dice" if own.dice else ""
    return words + (
        ", the error of the way to the middle of a thing, and cross-entropy and soft Dice of the seam between two; "
        "pixels between things that touch count six times"
        if apart
        else ""
    )


def parting_words(parting: Parting) -> str:
    """Say what parts two things, and what is none."""
    valley = f"a valley of votes that is {parting.valley:.0%} of a peak deep"
    both = valley if parting.seam >= 1 else f"{valley}, or a seam that is {parting.seam:.0%} sure"
    sure = f", or is less than {parting.sure:.0%} sure," if parting.sure else ""
    return f"{both}; what has fewer than {parting.least:.0f} network pixels{sure} is no thing"


def decoder_words(form: DecoderForm) -> str:
    """Say which decoder it is, and what normalises its maps where that is ours to say."""
    norms = f" with {form.norm} normalisation" if form.arm in ARMS else ""
    return f"{_DECODERS[form.arm]}{norms}"


def grid_words(parts: DrawParts) -> str:
    """Say at which resolution is drawn."""
    grid = parts.form.grid
    if isinstance(grid, FrameForm):
        return f"voxels of {_by(grid.spacing_mm)} mm"
    if grid.side is not None:
        return f"the longer side of every image has {grid.side} pixels"
    if grid.um_per_px is not None:
        return f"pixels of {grid.um_per_px:g} micrometres"
    return "the pixels of the files" if grid.scale == 1 else f"{grid.scale:g} pixels for one of the file"


def levels_words(parts: DrawParts) -> str | None:
    """Say what is black and white, where it is not what the files say."""
    own = isinstance(parts.form.grid, PictureForm) and parts.form.grid.own_levels
    return "the 1st and 99.9th percentile of each image" if own else None


def _by(sizes: tuple[float, ...]) -> str:
    return " x ".join(f"{size:g}" for size in sizes)


def _methods(recipe: Recipe, parts: DrawParts, found: Gathered, fitted: Fitted) -> str:
    """The paragraph for a paper."""
    net, form = parts.task.backbone, parts.form
    counts = {part: len(found.of(part)) for part in ("train", "val", "test")}
    deep = ", its kernels spread over depth (Carreira and Zisserman, CVPR 2017)," if form.axes == 3 else ""
    graft = (
        f"A net of its own ({_DECODERS[form.decoder.arm]}) was learnt from random numbers"
        if form.decoder.arm in WHOLE
        else f"An encoder of pictures ({net.architecture}){deep} carried a decoder ({decoder_words(form.decoder)}); "
        f"{parts.task.thawed} of its {len(net.stages)} stages were tuned"
    )
    apart = (
        " Things were told apart by where their pixels say that their middle is, and by seams between two."
        if form.apart
        else ""
    )
    unit = "mm" if unit_of(parts) == "mm" else "pixels"
    best = f"the epoch with the best {named(watched(form.apart)).title} of the validation images was kept"
    kept = best if is_judged(fitted) else "the last weights were kept, as no validation image shows a structure"
    return (
        f"Images were parted into {counts['train']} for training, {counts['val']} for validation and {counts['test']} "
        f"for the test, and drawn on at this resolution: {grid_words(parts)}. {graft} on patches of {_by(form.patch)}, "
        f"by {loss_words(recipe, apart=form.apart)}, for {len(fitted.history)} epochs of AdamW; {kept}. "
        f"Whole images were looked at through windows of {_by(form.window)}, joined with Gaussian weights; "
        f"probabilities were brought to the grid of the file once, and scored there.{apart} Scores are of each image, "
        f"then their mean; a missed structure got the worst value. The tolerance of the boundary was "
        f"{recipe.masks.tolerance:g} {unit}. Intervals are from "
        f"{recipe.scores.resamples} resamples of {found.split_by}s. medgraft {VERSION}."
    )


def unit_of(parts: DrawParts) -> str:
    """Get what distances are measured in: "mm", or "px" where some files do not say how large a pixel is."""
    return "mm" if all(frame.spacing_mm is not None for frame in parts.frames.values()) else "px"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
