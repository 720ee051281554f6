"""What a run that finds what is unlike normal images says of itself: its report, its card, its gallery."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medgraft.anomaly.judge import Judged
from medgraft.anomaly.parts import NormalParts, Prepared, form_of
from medgraft.detection.told import Times
from medgraft.gallery import picture_of
from medgraft.generation.told import random_net_entry
from medgraft.learn.loop import Fitted
from medgraft.nets.patch_bank import PatchBank
from medgraft.reporting import gathered_entry, run_entries
from medgraft.tasks.anomaly import Anomaly
from medgraft.version import VERSION

_SHOWN = {"mistake": 8, "right": 6}
WORDS = {
    "patches": "distance of features from those of normal places",
    "diffusion": "what diffusion draws otherwise, from part of the way to noise",
    "autoencoder": "what an autoencoder draws otherwise",
}


def weights_of(task: Anomaly) -> dict[str, torch.Tensor]:
    """Get all tensors of a net: of a bank the encoder's weights and the kept places."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in task.state_dict().items()}


def rule_of(quantile: float, count: int) -> str:
    """Get in words how the threshold was set."""
    return f"the {100 * quantile:g}% quantile of {count} normal images"


def card_of(ready: Prepared, parts: NormalParts, *, threshold: float, reach: Sequence[float]) -> dict[str, Any]:
    """Get what the model file says of itself: everything that prediction needs, and where it came from."""
    recipe, task = ready.recipe, parts.task
    return {
        "medgraft": VERSION,
        "task": recipe.task,
        "classes": list(ready.classes),
        "normal": ready.normal,
        "method": recipe.anomaly.method,
        "form": form_of(task),
        "look": {name: getattr(task.look, name) for name in ("top", "whole", "neighbours", "noise", "noises", "steps")},
        "backbone": net_entry(task),
        "pixels": ready.pixels.to_dict(),
        "spec": task.spec.to_dict(),
        "threshold": threshold,
        "heat": [float(end) for end in reach],
        "precision": parts.engine.precision,
        "recipe_sha256": recipe.fingerprint(),
        "seed": recipe.seed,
    }


def net_entry(task: Anomaly) -> dict[str, Any]:
    """Get `backbone` of report.json: the encoder, or a net of its own from random numbers."""
    net = task.net
    if isinstance(net, PatchBank):
        encoder = net.backbone
        return {
            "name": encoder.name,
            "architecture": encoder.architecture,
            "options": encoder.options,
            "pooling": "places",
            "source": encoder.source,
            "licence": encoder.licence,
            "parameters": encoder.parameters_count,
            "sha256": encoder.sha256,
            "random": not encoder.sha256,
            "input": {"size": list(task.spec.size), "channels": task.spec.channels},
            "recalibrated": 0,
        }
    return random_net_entry(form_of(task)["kind"], [net])


def report_of(
    ready: Prepared,
    parts: NormalParts,
    *,
    fitted: Fitted,
    times: Times,
    result: Mapping[str, Any],
    bank: Mapping[str, Any],
    out: Path,
) -> dict[str, Any]:
    """Get what report.json holds (see `medgraft.report.schema`)."""
    recipe, found = ready.recipe, ready.found
    data = gathered_entry(found, kind="multiclass" if ready.normal else "labels")
    return {
        **run_entries(recipe, found, device=parts.engine.device, out=out),
        "classes": list(ready.classes),
        "positive": ready.classes[1],
        "backbone": net_entry(parts.task),
        "depth": None,
        "data": data,
        "training": _training_entry(ready, parts, fitted, bank),
        "unlike": {
            "method": recipe.anomaly.method,
            "normal": ready.classes[0],
            "learnt_from": len(ready.normals("train")),
            "left_out": len(found.of("train")) - len(ready.normals("train")),
            "kinds": result["kinds"],
            **bank,
        },
        **{name: value for name, value in result.items() if name != "kinds"},
        "calibration": {},
        "methods": _methods(ready, parts, fitted, result),
        "timing": {
            "train_seconds": round(times.train, 2),
            "train_images_per_second": None if fitted.images_per_second is None else round(fitted.images_per_second, 3),
            "predict_images_per_second": round(times.predict_images_per_second or 0.0, 3),
            "prefix_seconds": 0.0,
        },
    }


def _training_entry(ready: Prepared, parts: NormalParts, fitted: Fitted, bank: Mapping[str, Any]) -> dict[str, Any]:
    recipe, fit, own = ready.recipe, ready.recipe.fit, ready.recipe.anomaly
    facts: list[list[Any]] = [["normal images learnt from", len(ready.normals("train"))]]
    facts += [["score of an image", f"mean of the oddest {100 * (own.top or 0):g} % of its places"]]
    if own.method == "patches":
        kept, strides = bank.get("kept", 0), ", ".join(map(str, own.levels or ()))
        facts += [["stages compared", strides], ["places kept", f"{kept} of {bank.get('places', 0)}"]]
        facts += [["where a place lies", f"edges {own.apart:g} deviations apart" if own.apart else "does not count"]]
        head = f"weight {own.foreign:g} beside the distance; learnt from things put into normal images"
        facts += [["head that sees what does not belong", head if own.foreign else "none"]]
        learnt = False
    else:
        facts += [["an epoch shows an image", f"{recipe.generator.looks} times"]]
        learnt = True
    if own.method == "diffusion":
        facts += [["looked at", f"{own.noises} noises of time {own.noise:g}, {own.steps} steps back each"]]
    entry: dict[str, Any] = {
        "probe": None,
        "epochs": len(fitted.history),
        "epochs_planned": fit.epochs if learnt else 0,
        "best_epoch": fitted.best_epoch + 1 if learnt else None,
        "stopped": fitted.stopped if learnt else None,
        "score": "denoising" if own.method == "diffusion" else "error",
        "image_size": list(ready.pixels.size),
        "loss": {
            "patches": "cross-entropy of the head, of what was put in; the encoder stays as it is"
            if own.foreign
            else "none: features are kept as they are",
            "diffusion": "mean squared error of v, at times spread evenly over each batch",
            "autoencoder": "mean squared error of pixels",
        }[own.method],
        "balance": None,
        "precision": parts.engine.precision,
        "label_smoothing": None,
        "facts": facts,
    }
    steps = {
        "batch_size": fit.batch_size,
        "optimiser": "AdamW",
        "learning_rate": fit.lr,
        "weight_decay": 0.0,
        "schedule": "linear warm-up, then a half cosine to zero",
        "ema": fit.ema or None,
        "mixup": None,
    }
    return {**entry, **(steps if learnt else dict.fromkeys(steps))}


_HEAD = (
    " To it is added, with a weight of {weight:g} in deviations of normal places, the logit of a small network on the "
    "same features, which learnt to find patches, spots and textures that were put into the normal training images "
    "(after Tan et al., arXiv:2011.04197, and Li et al., CVPR 2021)."
)


def _methods(ready: Prepared, parts: NormalParts, fitted: Fitted, result: Mapping[str, Any]) -> str:
    """The paragraph for a paper."""
    recipe, own = ready.recipe, ready.recipe.anomaly
    size = recipe.input.image_size
    count = len(ready.normals("train"))
    entry = net_entry(parts.task)
    how = {
        "patches": f"Features of {entry['architecture']} (stages {', '.join(map(str, own.levels or ()))}) at places of "
        f"{count} normal training images were averaged over 3 x 3 cells and standardised, and a part of them chosen by "
        "greedy k-centre was kept (PatchCore, Roth et al., CVPR 2022). How odd a place is, is the distance of its "
        f"features{' and of where it lies' if own.apart else ''} from the nearest kept ones, on the scale that normal "
        "images have there." + (_HEAD.format(weight=own.foreign) if own.foreign else ""),
        "diffusion": f"A denoising diffusion model over a Gaussian denoiser learnt from {count} normal training "
        f"images for {len(fitted.history)} epochs. Images were taken to time {own.noise:g} with Gaussian noise "
        f"and back in {own.steps} steps, with {own.noises} noises (after AnoDDPM, Wyatt et al., CVPR workshops 2022). "
        "How odd a place is, is the absolute difference from the mean of what was drawn.",
        "autoencoder": f"A convolutional autoencoder learnt from {count} normal training images for "
        f"{len(fitted.history)} epochs. How odd a place is, is the absolute difference from what it draws.",
    }[own.method]
    point = result["operating_point"]
    return (
        f"{how} Images were {size} x {size} pixels; padding took no part. The score of an image is the mean of the "
        f"oddest {100 * (own.top or 0):g} % of its places. The threshold is {point['rule']} of the validation "
        f"part. The test part ({len(ready.found.of('test'))} images) had no part in any choice. medgraft {VERSION}."
    )


def heat(maps: np.ndarray, reach: Sequence[float]) -> np.ndarray:
    """Get maps as 0..1 for the eye: 0 where validation images are as a rule, 1 far beyond the oddest of them."""
    low, high = reach
    return np.clip((maps - low) / max(high - low, 1e-12), 0.0, 1.0)


def gallery_of(test: Judged, pictures: Any, reach: Sequence[float]) -> list[dict[str, Any]]:
    """Get the surest mistakes and some right answers with their maps.

    Args:
        test: what was seen.
        pictures: position -> network pixels `(C, H, W)`.
        reach: as of `heat`.
    """
    rows: dict[str, list[tuple[float, int]]] = {"mistake": [], "right": []}
    for place, (sample, seen) in enumerate(zip(test.samples, test.seen, strict=True)):
        called, odd = seen.score >= test.threshold, sample.label != test.normal
        away = abs(seen.score - test.threshold)
        rows["right" if called == odd else "mistake"].append((away + (1e9 if called == odd and odd else 0), place))
    shown = []
    for kind, own in rows.items():
        for _, place in sorted(own, key=lambda row: -row[0])[: _SHOWN[kind]]:
            sample, seen = test.samples[place], test.seen[place]
            said = test.classes[int(seen.score >= test.threshold)]
            row = {"key": sample.key, "truth": sample.label or test.classes[0], "predicted": said, "kind": kind}
            row |= {"patient": sample.patient, "note": f"score {seen.score:.3g}, threshold {test.threshold:.3g}"}
            row |= {"image": picture_of(pictures(place)), "map": heat(seen.map, reach), "shows": "unlike normal images"}
            shown.append({**row, "faults": []})
    return shown
