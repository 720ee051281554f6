"""What a run that finds boxes in volumes says of itself: its report, and the card of its model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medgraft.detection.scans.choices import ARM
from medgraft.detection.told import data_of
from medgraft.gather import Gathered
from medgraft.learn.candidate_finder import Finder
from medgraft.recipe import Recipe
from medgraft.reporting import backbone_entry, run_entries
from medgraft.samples.candidates import GRID_MM
from medgraft.version import VERSION


@dataclass
class Times:
    """Seconds that the steps of a run took."""

    search: float = 0.0
    train: float = 0.0


def card_of(recipe: Recipe, finder: Finder) -> dict[str, Any]:
    """Get what the model file says of itself: everything that prediction needs, and where it came from."""
    net = finder.judge.backbone
    return {
        "medgraft": VERSION,
        "task": recipe.task,
        "arm": ARM,
        "classes": list(finder.answers.classes),
        "backbone": {**backbone_entry(finder.judge), "recalibrated": 0},
        "looks": finder.looks.to_dict(),
        "grow": finder.grow,
        "threshold": list(finder.threshold),
        "hit": {"rule": recipe.boxes.hit, "iou": recipe.boxes.iou},
        "weights_spec": net.weights_spec.to_dict(),
        "spec": net.spec.to_dict(),
        "gray": net.gray,
        "thawed_stages": 0,
        "precision": finder.engine.precision,
        "channels_last": finder.engine.channels_last,
        "recipe_sha256": recipe.fingerprint(),
        "seed": recipe.seed,
    }


def report_of(
    recipe: Recipe,
    finder: Finder,
    found: Gathered,
    *,
    fitted: Mapping[str, Any],
    times: Times,
    result: Mapping[str, Any],
    out: Path,
) -> dict[str, Any]:
    """Get what report.json holds (see `medgraft.report.schema`)."""
    return {
        **run_entries(recipe, found, device=finder.engine.device, out=out),
        "arm": ARM,
        "classes": list(finder.answers.classes),
        "backbone": {**backbone_entry(finder.judge), "recalibrated": 0},
        "depth": _depth_entry(recipe, finder),
        "data": data_of(found),
        "augment": {"preset": "none", "reason": recipe.reasons.get("augment.preset"), "strength": 0.0, "steps": []},
        "training": _training_entry(finder, fitted, alone=result.get("search", {}).get("froc")),
        "methods": _methods(recipe, finder, found, fitted),
        **result,
        "timing": {
            "train_seconds": round(times.train, 2),
            "prefix_seconds": round(times.search, 2),
            "predict_images_per_second": round(len(found.samples) / max(times.search, 1e-9), 3),
        },
        "limits": [
            f"What the search for candidates passes by cannot be found: of {fitted['true']} true boxes of the training "
            f"it reached {fitted['reached']}."
        ],
    }


def fit_words(fitted: Mapping[str, Any]) -> str:
    """Say in a line what the head learnt from."""
    return (
        f"{fitted['candidates']} candidates of the training scans, {fitted['findings']} of them findings; "
        f"{fitted['reached']} of {fitted['true']} true boxes have a candidate"
    )


def _depth_entry(recipe: Recipe, finder: Finder) -> dict[str, Any]:
    stages = [name for name, _ in finder.judge.parts().stages]
    reason = recipe.reasons.get("depth.thaw")
    return {
        "thawed_stages": 0,
        "adapters": 0,
        "of": len(stages),
        "chosen_by": "rule" if reason else "the user",
        "reason": reason,
        "stages": stages[::-1],
        "trained_parameters": sum(one.numel() for one in finder.judge.head.parameters()),
        "curve": [],
    }


def _training_entry(finder: Finder, fitted: Mapping[str, Any], *, alone: float | None) -> dict[str, Any]:
    looks = finder.looks
    sides = " and ".join(f"{side:g}" for side in looks.sides_mm)
    windows = ", ".join(f"{centre:g} / {width:g}" for centre, width in looks.windows_hu)
    return {
        "probe": None,
        "epochs": 0,
        "epochs_planned": 0,
        "image_size": [looks.pixels, looks.pixels],
        "loss": "cross-entropy of what a candidate is",
        "balance": "each class counts as much as nothing does",
        "precision": finder.engine.precision,
        "facts": [
            ["candidates a scan", f"{looks.most} at most, searched on voxels of {GRID_MM:g} mm"],
            ["candidates of the training", f"{fitted['candidates']}, {fitted['findings']} of them findings"],
            ["true boxes with a candidate", f"{fitted['reached']} of {fitted['true']}"],
            ["planes", f"three at right angles, {sides} mm wide, {looks.pixels} pixels"],
            ["windows, centre / width", f"{windows} HU"],
            ["views of a finding", f"{looks.views}"],
            ["penalty on the weights", f"{fitted['strength']:.3g}"],
            ["FROC score of the candidates by the filter alone, test", None if alone is None else f"{alone:.3f}"],
            ["size of a box", f"{finder.grow:.2f} times the candidate's"],
        ],
    }


def _methods(recipe: Recipe, finder: Finder, found: Gathered, fitted: Mapping[str, Any]) -> str:
    """The paragraph for a paper."""
    looks, net = finder.looks, finder.judge.backbone
    sides = " and ".join(f"{side:g}" for side in looks.sides_mm)
    counts = {part: len(found.of(part)) for part in ("train", "val", "test")}
    folds = f"{fitted['folds']}-fold cross-validation by patient" if fitted["folds"] else "rule"
    hit = "its centre lies in a true box" if recipe.boxes.hit == "centre" else f"IoU is at least {recipe.boxes.iou:g}"
    return (
        f"Scans were parted into {counts['train']} for training, {counts['val']} for validation and {counts['test']} "
        f"for the test. In each, at most {looks.most} candidates were sought inside the lungs by multi-scale "
        f"Laplacian filters with tests of the Hessian's eigenvalues (Murphy et al., Med Image Anal 2009) on voxels of "
        f"{GRID_MM:g} mm. As van Ginneken et al. (ISBI 2015) did, an encoder of pictures ({net.architecture}), which "
        f"was not changed, saw three planes at right angles through each candidate, {sides} mm wide at {looks.pixels} "
        f"pixels, through {len(looks.windows_hu)} window{'s' if len(looks.windows_hu) > 1 else ''}; its features were "
        f"averaged over the planes. A logistic regression with an L2 penalty, chosen by {folds}, learnt "
        f"from {fitted['candidates']} candidates, of which {fitted['findings']} were findings, the latter in "
        f"{looks.views} shifted, stretched and mirrored views; classes were weighted alike and probabilities corrected "
        f"for it. A box was a hit where {hit}. Thresholds were chosen on validation scans for the largest F1. "
        f"Intervals are from {recipe.scores.resamples} resamples of patients. medgraft {VERSION}."
    )
