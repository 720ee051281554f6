"""What a run that takes noise away says of itself: its report, and the card of its model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medgraft.denoising.crops import Patches
from medgraft.denoising.parts import DenoiseParts
from medgraft.detection.told import Times
from medgraft.generation.told import random_net_entry
from medgraft.learn.loop import Fitted
from medgraft.reporting import gathered_entry, run_entries
from medgraft.version import VERSION


def card_of(parts: DenoiseParts) -> dict[str, Any]:
    """Get what the model file says of itself."""
    recipe = parts.recipe
    return {
        "medgraft": VERSION,
        "task": recipe.task,
        "net": parts.task.net.form.to_dict(),
        "mirrored": recipe.denoise.mirrored,
        "precision": parts.engine.precision,
        "recipe_sha256": recipe.fingerprint(),
        "seed": recipe.seed,
    }


def report_of(
    parts: DenoiseParts, *, fitted: Fitted, times: Times, told: Mapping[str, Any], out: Path
) -> dict[str, Any]:
    """Get what report.json holds (see `medgraft.report.schema`); `told` is what `job` found on the test images."""
    recipe, found = parts.recipe, parts.found
    data = gathered_entry(found)
    speed = fitted.images_per_second
    return {
        **run_entries(recipe, found, device=parts.engine.device, out=out),
        "classes": [],
        "backbone": random_net_entry("restorer", [parts.task]),
        "depth": None,
        "data": {**data, "classes": {}},
        "training": _training_entry(parts, fitted),
        "scores": {"test": told["methods"]["blindspot"]},
        "denoising": dict(told),
        "methods": _methods(parts, fitted, told),
        "timing": {
            "train_seconds": round(times.train, 2),
            "train_images_per_second": None if speed is None else round(speed, 3),
            "predict_images_per_second": round(times.predict_images_per_second or 0.0, 3),
            "prefix_seconds": 0.0,
        },
    }


def _training_entry(parts: DenoiseParts, fitted: Fitted) -> dict[str, Any]:
    recipe, own, fit = parts.recipe, parts.recipe.denoise, parts.recipe.fit
    return {
        "probe": None,
        "epochs": len(fitted.history),
        "epochs_planned": fit.epochs,
        "best_epoch": fitted.best_epoch + 1,
        "stopped": fitted.stopped,
        "score": "blind",
        "image_size": [own.side, own.side],
        "loss": "mean squared error at hidden pixels, one in four, which show the mean of their neighbours",
        "balance": None,
        "precision": parts.engine.precision,
        "label_smoothing": None,
        "batch_size": fit.batch_size,
        "optimiser": "AdamW",
        "learning_rate": fit.lr,
        "weight_decay": 0.0,
        "schedule": "linear warm-up, then a half cosine to zero",
        "ema": fit.ema or None,
        "mixup": None,
        "facts": [["parts of images in memory", len(parts.train.crops)], ["seed", recipe.seed]],
    }


def _images(patches: Patches) -> int:
    """How many images the parts were cut out of."""
    return len({crop.key.rpartition(" ")[0] for crop in patches.crops})


def _methods(parts: DenoiseParts, fitted: Fitted, told: Mapping[str, Any]) -> str:
    """The paragraph for a paper."""
    recipe, counts = parts.recipe, {"train": _images(parts.train), "val": _images(parts.val)}
    beside = (
        "PSNR and SSIM were taken against clean images, from which nothing was learnt"
        if told["clean"]
        else "as no clean images were given, ways were compared by how well they foretell pixels hidden from them "
        "(Batson and Royer, ICML 2019)"
    )
    return (
        f"A U-Net learnt to foretell hidden pixels of noisy images (Noise2Void, Krull et al., CVPR 2019) from "
        f"{counts['train']} images, in patches of {recipe.denoise.side} pixels, for {len(fitted.history)} epochs; "
        f"the epoch was chosen on {counts['val']} validation images. What it foretells and the noisy pixel were "
        f"averaged by the powers of their errors. On {told['n']} test images {beside}; filters were given the "
        f"strength that foretells hidden pixels of {told['settled_on']} validation images best. medgraft {VERSION}."
    )
