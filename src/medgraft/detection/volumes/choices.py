"""The data decide for a detector in volumes: its grid, windows, region, anchors, patches and schedule, with reasons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medgraft.detection.choices import untried_rule
from medgraft.detection.scans.choices import WINDOWS_HU
from medgraft.errors import BadRecipe
from medgraft.learn.volume_detector import VolumeForm
from medgraft.nets.depth import plan_depth
from medgraft.nets.volume_detector import VolumeFinderForm
from medgraft.planning import average_rule, filled
from medgraft.recipe import Recipe
from medgraft.samples.framing import FrameForm

ARM = "retinanet"  # the word of `boxes.arm`
_ACROSS = 5  # voxels that a small box should have along an axis, where the scans have them
_PATCH_VOXELS = 2**14  # many small patches a step show more findings than a few large ones at the same cost
_STEP_VOXELS = 2**19
_FEWEST_A_STEP = 2
_ROOM = 1.4  # sides of a large box that a patch has
_WINDOW_VOXELS = 2**22
_STEPS_WANTED = 4800
_EPOCHS = 15


@dataclass(frozen=True)
class ScanFacts:
    """What scans of the training are like.

    Attributes:
        spacing_mm: (z, y, x) of upright voxels, the median.
        hounsfield: True where the scans are in HU.
        in_lungs: True where all boxes that were looked at lie in the box around the lungs.
        diameters_mm: of all true boxes of the training.
        scans: of the training.
    """

    spacing_mm: tuple[float, float, float]
    hounsfield: bool
    in_lungs: bool
    diameters_mm: Sequence[float]
    scans: int


def check_volumes(recipe: Recipe) -> None:
    """Refuse what has no meaning for a detector in volumes.

    Raises:
        BadRecipe: which field, and what to do.
    """
    if recipe.depth.thaw == "lora":
        raise BadRecipe("adapters are not for detectors", do="Give --depth head, a number of stages, or all.")
    windows = recipe.boxes.windows_hu
    if windows is not None and len(windows) not in (1, 3):
        raise BadRecipe(
            f"boxes.windows_hu has {len(windows)} windows, and a net takes 1 or 3 channels",
            do="Give one or three of (centre, width).",
        )


def choose_frame(recipe: Recipe, facts: ScanFacts) -> Recipe:
    """Fill what says how scans become voxels: grid, region, windows."""
    small, large = (float(np.percentile(facts.diameters_mm, share)) for share in (5, 98))
    spacing = tuple(round(max(step, min(small / _ACROSS, 3 * step)), 3) for step in facts.spacing_mm)
    text = " x ".join(f"{step:g}" for step in spacing)
    planned: dict[str, tuple[Any, str]] = {
        "boxes.arm": (ARM, f"{facts.scans} scans to tune an encoder by"),
        "boxes.hit": ("centre", "what is small in a volume is found where its place is known, as LUNA16 counts"),
        "boxes.spacing_mm": (
            spacing,
            f"{text} mm: boxes measure {small:.1f} to {large:.0f} mm (5th to 98th of a hundred), "
            f"and the scans have no finer voxels than that"
            if spacing == facts.spacing_mm
            else f"{text} mm: small boxes measure {small:.1f} mm and have {_ACROSS} voxels",
        ),
        "boxes.region": (
            ("lungs", "all boxes lie in the lungs") if facts.in_lungs else ("all", "boxes may lie anywhere")
        ),
        "boxes.windows_hu": (
            (WINDOWS_HU, "lung, soft tissue and ground glass, as the three channels of a picture")
            if facts.hounsfield
            else ([], "these are no Hounsfield units: the darkest and brightest voxels are black and white")
        ),
    }
    recipe = filled(recipe, planned)
    channels = 3 if len(recipe.boxes.windows_hu or []) > 1 else 1
    return filled(recipe, {"input.channels": (channels, "one a window")})


def choose_rest(
    recipe: Recipe, facts: ScanFacts, *, stages: int, random: bool, procedural: bool, norms: bool
) -> Recipe:
    """Fill anchors, maps, patches, depth and the schedule.

    Args:
        recipe: with its frame.
        facts: of the training.
        stages: of the backbone.
        random: True where it starts from random numbers.
        procedural: True where its weights never saw a real image.
        norms: True where it has BatchNorm that can be measured anew.
    """
    spacing = recipe.boxes.spacing_mm
    assert spacing is not None
    tenth, large = (float(np.percentile(facts.diameters_mm, share)) for share in (10, 98))
    first = round(max(tenth, 2 * float(np.cbrt(np.prod(spacing)))), 1)
    anchors = recipe.boxes.anchors_mm or [first, round(first * math.sqrt(2), 1)]
    maps = 1
    while maps < min(4, stages) and anchors[-1] * 2 ** (maps - 1) * 1.5 < large:
        maps += 1
    epochs = recipe.fit.epochs or _EPOCHS
    patch, why = _patch_rule(spacing, large, halvings=(recipe.boxes.maps or maps) + 1)
    patch = recipe.boxes.patch or patch
    batch = recipe.fit.batch_size or max(_FEWEST_A_STEP, _STEP_VOXELS // math.prod(patch))
    each = max(1, round(_STEPS_WANTED * batch / (epochs * facts.scans)))
    steps = epochs * math.ceil((recipe.boxes.patches or each) * facts.scans / batch)
    fresh = random or procedural
    rate = (2e-3, "layers that have seen no real image learn faster") if fresh else (5e-4, "trained layers keep much")
    planned: dict[str, tuple[Any, str]] = {
        "boxes.anchors_mm": (anchors, f"boxes measure {tenth:.1f} mm (10th of a hundred) and more"),
        "boxes.maps": (maps, f"each has boxes twice as large as the one before, up to {large:.0f} mm"),
        "boxes.patch": (patch, why),
        "boxes.patches": (each, f"about {each * facts.scans * epochs} patches in all from {facts.scans} scans"),
        "boxes.mirrored": (True, "the mean of four looks ranks findings above false alarms better than one does"),
        "boxes.most": (100, "more are hardly looked at in a scan"),
        "augment.preset": ("none", "patches are mirrored along all axes, stretched and brightened instead"),
        "depth.thaw": untried_rule(stages=stages, random=random, procedural=procedural),
        "backbone.recalibrate": (norms, "a step sees too few patches to normalise by its own statistics"),
        "fit.batch_size": (batch, f"{batch} patches a step"),
        "fit.epochs": (epochs, f"about {steps} steps; the best epoch by validation is kept"),
        "fit.patience": (0, "the falling rate still brings gains"),
        "fit.norms": ("stored", "a step sees too few patches to normalise by its own statistics"),
        "fit.lr": rate,
        "fit.head_lr": (2e-3, "pyramid and detector are new"),
        "fit.layer_decay": (1.0, "no layer has seen a real image yet") if fresh else (0.75, "early features serve all"),
        "fit.ema": average_rule(steps),
    }
    return filled(recipe, planned)


def _patch_rule(spacing_mm: Sequence[float], large: float, *, halvings: int) -> tuple[tuple[int, int, int], str]:
    """Choose a patch as wide in all directions, with room for large boxes, of whole places of the coarsest map."""
    side = max(float(np.cbrt(_PATCH_VOXELS * np.prod(spacing_mm))), _ROOM * large)
    steps = steps_of(spacing_mm, halvings=halvings)
    shape = [max(1, round(side / size / step)) * step for size, step in zip(spacing_mm, steps, strict=True)]
    return (shape[0], shape[1], shape[2]), f"about {side:.0f} mm wide; large boxes are {large:.0f}"


def steps_of(spacing_mm: Sequence[float], *, halvings: int) -> tuple[int, int, int]:
    """Get (D, H, W) voxels of a place of the map after so many halvings, on voxels of this spacing."""
    plan = plan_depth(halvings, spacing_mm=spacing_mm)
    return math.prod(plan.strides), 2**halvings, 2**halvings


def form_of(recipe: Recipe) -> VolumeForm:
    """Get how the detector is built and looks, of a recipe that is filled."""
    own = recipe.boxes
    assert own.spacing_mm is not None and own.anchors_mm is not None and own.patch is not None
    assert own.region != "auto" and own.maps is not None
    spacing = own.spacing_mm
    anchors = tuple((side / spacing[0], side / spacing[1], side / spacing[2]) for side in own.anchors_mm)
    finder = VolumeFinderForm(own.maps, 1, anchors, max(16, own.width // 4), own.most or 100)
    frame = FrameForm(spacing, own.region, tuple(own.windows_hu or ()))
    steps = steps_of(spacing, halvings=own.maps + 1)
    grow = (_WINDOW_VOXELS / math.prod(own.patch)) ** (1 / 3)
    window = [max(1, round(size * grow / step)) * step for size, step in zip(own.patch, steps, strict=True)]
    lap = [2 * math.ceil(size / 4 / 2) for size in own.patch]
    sizes = (window[0], window[1], window[2]), (lap[0], lap[1], lap[2])
    return VolumeForm(frame, finder, own.patch, *sizes, mirrored=bool(own.mirrored))
