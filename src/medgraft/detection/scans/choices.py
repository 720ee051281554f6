"""The data decide for boxes in volumes: how much of a candidate's surroundings is shown, and through which windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from medgraft.errors import BadRecipe
from medgraft.planning import filled
from medgraft.recipe import Recipe
from medgraft.samples.planes import Looks

ARM = "candidates"  # the word of `boxes.arm`
_PIXELS = 48
_NEAR, _FAR = (20.0, 32.0), (40.0, 64.0)  # mm: least and largest sides of the planes
WINDOWS_HU = [(-600.0, 1500.0), (40.0, 400.0), (-650.0, 700.0)]
_CANDIDATES, _VIEWS = 50, 8


def check_scans(recipe: Recipe) -> None:
    """Refuse what has no meaning where the encoder does not learn.

    Raises:
        BadRecipe: which field, and what to do.
    """
    if recipe.depth.thaw not in ("auto", "head", 0):
        raise BadRecipe(
            f"depth {recipe.depth.thaw} asks for tuning, and boxes in volumes are found by an encoder as it is",
            do="Leave --depth out.",
        )
    if recipe.boxes.windows_hu is not None and len(recipe.boxes.windows_hu) not in (1, 3):
        raise BadRecipe(
            f"boxes.windows_hu has {len(recipe.boxes.windows_hu)} windows, and a picture has 1 or 3 channels",
            do="Give one or three of (centre, width).",
        )


def choose_scans(recipe: Recipe, diameters_mm: Sequence[float], *, candidates: int, scans: int) -> Recipe:
    """Fill what is empty or "auto".

    Args:
        recipe: what was asked for.
        diameters_mm: of the true boxes of the training.
        candidates: in all scans of the training at most, with as many a scan as the recipe says or as is usual.
        scans: of the training.
    """
    windows = recipe.boxes.windows_hu or WINDOWS_HU
    share = len(diameters_mm) / max(1, candidates)
    planned: dict[str, tuple[Any, str]] = {
        "boxes.arm": (ARM, "these are volumes"),
        "boxes.hit": ("centre", "what is small in a volume is found where its place is known, as LUNA16 counts"),
        "boxes.candidates": (most_of(recipe), "nearly all that is found at all is among so many of a scan"),
        "boxes.sides_mm": _sides_rule(diameters_mm),
        "boxes.windows_hu": (windows, "lung, soft tissue and ground glass, as the three channels of a picture"),
        "boxes.views": (_VIEWS, f"{len(diameters_mm)} boxes in {scans} scans: {share:.0%} of the candidates at most"),
        "input.image_size": (_PIXELS, f"{_PIXELS} pixels: a plane shows little else than the candidate"),
        "input.channels": (1 if len(windows) == 1 else 3, "one a window"),
        "depth.thaw": ("head", "some dozens of scans hold too few findings to tune an encoder of pictures by"),
        "backbone.pooling": ("levels", "small things leave most of their traces in the levels below the last"),
        "backbone.recalibrate": (False, "the encoder stays as it is"),
        "augment.preset": ("none", "views of the findings are shifted, stretched and mirrored instead: boxes.views"),
        "fit.balance": ("weights", "few candidates are findings"),
        "fit.precision": ("fp32", "the encoder runs once over each picture, and the same picture gives the same"),
        "fit.channels_last": (True, "convolutions of pictures are as fast or faster so"),
    }
    return filled(recipe, planned)


def _sides_rule(diameters_mm: Sequence[float]) -> tuple[list[float], str]:
    middle, large = (float(np.percentile(diameters_mm, share)) for share in (50, 98))
    near, far = float(np.clip(round(3 * middle), *_NEAR)), float(np.clip(round(2 * large), *_FAR))
    return [
        near,
        far,
    ], f"boxes measure {middle:.0f} mm (median) to {large:.0f} (98th of a hundred): close by, and around"


def most_of(recipe: Recipe) -> int:
    """Get how many candidates a scan are looked at, at most."""
    return recipe.boxes.candidates or _CANDIDATES


def looks_of(recipe: Recipe) -> Looks:
    """Get how candidates become pictures, of a recipe that is filled."""
    own = recipe.boxes
    assert own.sides_mm is not None and own.windows_hu is not None and recipe.input.image_size is not None
    return Looks(
        most=most_of(recipe),
        sides_mm=tuple(own.sides_mm),
        pixels=recipe.input.image_size,
        windows_hu=tuple(own.windows_hu),
        views=own.views or 1,
        seed=recipe.seed,
    )
