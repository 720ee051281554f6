"""What a run that draws images says of itself: its report, and the card of its model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from medgraft.detection.told import Times
from medgraft.generation.followed import followed
from medgraft.generation.parts import DrawnParts, spec_of
from medgraft.generation.sheets import SAMPLES
from medgraft.learn.loop import Fitted
from medgraft.reporting import gathered_entry, run_entries
from medgraft.tasks.diffuse import Diffuse
from medgraft.version import VERSION


def weights_of(parts: DrawnParts) -> dict[str, torch.Tensor]:
    """Get the weights that draw; of two nets that played, both, as a later run may begin with them."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in parts.task.state_dict().items()}


def card_of(parts: DrawnParts, audit: Mapping[str, Any]) -> dict[str, Any]:
    """Get what the model file says of itself: all that drawing needs, and where it came from."""
    recipe, task = parts.recipe, parts.task
    own = recipe.generator
    net = task.net.form if isinstance(task, Diffuse) else task.form
    return {
        "medgraft": VERSION,
        "task": recipe.task,
        "classes": list(parts.answers.classes),
        "net": net.to_dict(),
        "directions": own.directions,
        "coder": task.coder.form.to_dict() if isinstance(task, Diffuse) and task.coder is not None else None,
        "meaning": None if parts.meaning is None else parts.meaning.to_dict(),
        "window": None if recipe.input.window is None else list(recipe.input.window),
        "shape": [spec_of(recipe).channels, *(own.shape or ())],
        "way": {"steps": own.steps, "sampler": own.sampler, "guidance": own.guidance, "truncation": own.truncation},
        "precision": parts.engine.precision,
        "fit": recipe.input.fit,
        "audit": audit["verdict"],
        "recipe_sha256": recipe.fingerprint(),
        "seed": recipe.seed,
    }


def report_of(
    parts: DrawnParts,
    *,
    fitted: Fitted,
    times: Times,
    result: Mapping[str, Any],
    audit: Mapping[str, Any],
    out: Path,
) -> dict[str, Any]:
    """Get what report.json holds (see `medgraft.report.schema`)."""
    recipe, found, own = parts.recipe, parts.found, parts.recipe.generator
    data = gathered_entry(found)
    return {
        **run_entries(recipe, found, device=parts.engine.device, out=out),
        "classes": list(parts.answers.classes),
        "backbone": _net_entry(parts),
        "depth": None,
        "data": data if own.kinds else {**data, "classes": {}},
        "training": _training_entry(parts, fitted),
        "scores": {"test": result["scores"]},
        "generation": {
            "shape": list(own.shape or ()),
            "floors": result["floors"],
            "ms_ssim_real": result["ms_ssim_real"],
            "followed": followed(out / SAMPLES),
            "volume": None if parts.meaning is None else parts.meaning.to_dict(),
            "autoencoder": _coder_entry(parts, result["coded"]),
            "audit": {name: audit[name] for name in ("verdict", "reasons", "notes", "near", "called")}
            | {name: {k: audit[name][k] for k in ("share", "membership", "limit")} for name in ("features", "pixels")},
        },
        "methods": _methods(parts, fitted),
        "timing": {
            "train_seconds": round(times.train, 2),
            "train_images_per_second": None if fitted.images_per_second is None else round(fitted.images_per_second, 3),
            "predict_images_per_second": round(times.predict_images_per_second or 0.0, 3),
            "prefix_seconds": 0.0,
        },
    }


def _net_entry(parts: DrawnParts) -> dict[str, Any]:
    task = parts.task
    word = "denoiser" if isinstance(task, Diffuse) else "stylegan2"
    net = task.net if isinstance(task, Diffuse) else task.maker
    return random_net_entry(word, [net] if not isinstance(task, Diffuse) or task.coder is None else [net, task.coder])


def random_net_entry(word: str, nets: Iterable[torch.nn.Module]) -> dict[str, Any]:
    """Get `backbone` of report.json of nets that began with random numbers and have no encoder under them."""
    numbers = sum(one.numel() for own in nets for one in own.parameters())
    source = {"name": f"none:{word}", "architecture": word, "source": "random numbers", "licence": "", "sha256": ""}
    return {**source, "parameters": numbers, "random": True, "recalibrated": 0, "pooling": "none"}


def _coder_entry(parts: DrawnParts, coded: Mapping[str, Any]) -> dict[str, Any] | None:
    task = parts.task
    if not coded or not isinstance(task, Diffuse) or task.coder is None:
        return None
    form = task.coder.form
    numbers = sum(one.numel() for one in task.coder.parameters())
    return {**coded, "step": form.step, "latent": form.latent, "parameters": numbers}


def _latent_facts(parts: DrawnParts) -> list[list[Any]]:
    task = parts.task
    if not isinstance(task, Diffuse) or task.coder is None:
        return []
    shape = " x ".join(str(side) for side in task.shape_of((1, *(parts.recipe.generator.shape or ()))))
    return [["drawn as latents", f"{shape} numbers, by an autoencoder that learnt first"]]


def _volume_facts(parts: DrawnParts) -> list[list[Any]]:
    if parts.meaning is None:
        return []
    own = parts.meaning
    size = "not known" if own.spacing_mm is None else " x ".join(f"{one:.3g}" for one in own.spacing_mm) + " mm"
    return [["a drawn voxel", size], ["axes run to", own.ways or "not known"], ["values of files", own.words]]


def _training_entry(parts: DrawnParts, fitted: Fitted) -> dict[str, Any]:
    recipe, own, fit = parts.recipe, parts.recipe.generator, parts.recipe.fit
    shape = " x ".join(str(side) for side in own.shape or ())
    facts: list[list[Any]] = [["what is drawn", f"{shape}, {'gray' if spec_of(recipe).channels == 1 else 'colour'}"]]
    facts += [["classes that it is drawn by", ", ".join(parts.answers.classes) or None]]
    if own.directions:
        known = f"a Gaussian of training images, {own.directions} directions and all frequencies"
        facts += [["known before it learns", known]]
    facts += [["an epoch shows an image", f"{own.looks} times"], *_latent_facts(parts), *_volume_facts(parts)]
    if isinstance(parts.task, Diffuse):
        loss, optimiser = "mean squared error of v, at times spread evenly over each batch", "AdamW"
        facts += [["way back from noise", f"{own.sampler}, {own.steps} steps, guidance {own.guidance:g}"]]
    else:
        loss = f"logistic, both nets in turn; slopes at real images weigh {own.gamma:g}; path length"
        optimiser = "Adam, no momentum"
        facts += [["chance of changes that the discriminator sees, at the end", f"{float(parts.task.chance):.2f}"]]
    return {
        "probe": None,
        "epochs": len(fitted.history),
        "epochs_planned": fit.epochs,
        "best_epoch": fitted.best_epoch + 1,
        "stopped": fitted.stopped,
        "score": "denoising" if isinstance(parts.task, Diffuse) else "kid",
        "image_size": None,
        "loss": loss,
        "balance": None,
        "precision": parts.engine.precision,
        "label_smoothing": None,
        "batch_size": fit.batch_size,
        "optimiser": optimiser,
        "learning_rate": fit.lr,
        "weight_decay": 0.0,
        "schedule": "linear warm-up, then a half cosine to zero" if isinstance(parts.task, Diffuse) else "constant",
        "ema": fit.ema or None,
        "mixup": None,
        "facts": facts,
    }


def _methods(parts: DrawnParts, fitted: Fitted) -> str:
    """The paragraph for a paper."""
    recipe, found = parts.recipe, parts.found
    counts = {part: len(found.of(part)) for part in ("train", "val", "test")}
    shape = " x ".join(str(side) for side in recipe.generator.shape or ())
    net = (
        "A denoising diffusion model (Ho et al., NeurIPS 2020; U-Net that says v)"
        if isinstance(parts.task, Diffuse)
        else "A StyleGAN2 with adaptive augmentation of what the discriminator sees (Karras et al., NeurIPS 2020)"
    )
    if recipe.generator.directions:
        over = "the linear denoiser of a Gaussian" if isinstance(parts.task, Diffuse) else "images of a Gaussian"
        net += f" over {over} that was measured on training images"
    net += _in_latents(parts)
    by = f", by class ({', '.join(parts.answers.classes)})," if parts.answers.classes else ""
    return (
        f"{net} learnt to draw images of {shape} pixels{by} from {counts['train']} images, for {len(fitted.history)} "
        f"epochs; the epoch was chosen on {counts['val']} validation images. As many images were drawn as there are "
        f"in the test part ({counts['test']}), which had no part in training, and compared with it by features of an "
        f"encoder that saw neither. Whether drawn images copy training images was asked by their distance to the "
        f"nearest of them, beside that of the test images. medgraft {VERSION}."
    )


def _in_latents(parts: DrawnParts) -> str:
    task = parts.task
    if not isinstance(task, Diffuse) or task.coder is None:
        return ""
    step = task.coder.form.step
    return (
        f" in the latents of an autoencoder (Kingma and Welling, ICLR 2014; Rombach et al., CVPR 2022) of which a "
        f"place stands for {step} pixels along each axis,"
    )
