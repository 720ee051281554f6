"""Graded changes of test images: what a model may meet that its training did not show, one kind at a time.

Each image goes one of the two ways (turned left or right, darker or brighter) by a draw of its own key, the same at
every strength, so that a curve over strengths follows the same images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medgraft import seeds
from medgraft.files.jpeg import through_jpeg
from medgraft.samples import augment
from medgraft.samples.presets import Preset

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Change:
    """One kind of change.

    Attributes:
        title: for people.
        unit: what the strengths are, in words.
        strengths: rising; nothing is changed at 0 (not listed).
        numbers: (strength, -1 or 1) -> what `augment.apply` changes.
        colour: it needs colour.
    """

    title: str
    unit: str
    strengths: tuple[float, ...]
    numbers: Callable[[float, int], Mapping[str, float]]
    colour: bool = False


CHANGES: dict[str, Change] = {
    "rotation": Change("Rotation", "degrees", (7, 15, 30), lambda s, way: {"rotation": s * way}),
    "crop": Change("Crop", "magnified by", (1.15, 1.3, 1.6), lambda s, way: {"zoom": s}),
    "stretch": Change("Stretch", "width to height", (1.1, 1.25, 1.5), lambda s, way: {"stretch": s**way}),
    "brightness": Change("Brightness", "changed by", (0.1, 0.25, 0.4), lambda s, way: {"brightness": 1 + s * way}),
    "contrast": Change("Contrast", "changed by", (0.15, 0.3, 0.6), lambda s, way: {"contrast": 1 + s * way}),
    "gamma": Change("Gray levels (gamma)", "exponent", (1.2, 1.5, 2.0), lambda s, way: {"gamma": s**way}),
    "stain": Change(
        "Stain",
        "changed by",
        (0.15, 0.3, 0.6),
        lambda s, way: {"stain_1": 1 + s * way, "stain_2": 1 - s * way},
        True,
    ),
    "blur": Change("Blur", "of the side", (0.006, 0.012, 0.025), lambda s, way: {"blur": s}),
    "noise": Change("Noise", "of the range", (0.03, 0.07, 0.15), lambda s, way: {"noise": s}),
    "jpeg": Change("JPEG", "quality lost", (50, 75, 90), lambda s, way: {}),
    "resolution": Change("Resolution", "divided by", (1.5, 2.5, 4), lambda s, way: {"resolution": s}),
}


def changes_for(channels: int) -> list[str]:
    """Get the changes that images of so many channels can meet."""
    return [name for name, change in CHANGES.items() if channels == 3 or not change.colour]


def stressed(pixels: np.ndarray, name: str, *, strength: float, keys: Sequence[str], seed: int) -> torch.Tensor:
    """Change images.

    Args:
        pixels: `(N, C, H, W)` uint8, uint16, or float32 in 0..1.
        name: of `CHANGES`.
        strength: one of its strengths, or any other; see its unit.
        keys: N names, by which ways and noise are drawn.
        seed: of these draws.

    Returns:
        float32 of the same shape in 0..1.
    """
    import torch

    still = augment.drawn_for(Preset(border="border"), keys, seed=seed, epoch=0)
    ways = [int(seeds.generator(seed, "stress", 0, key).integers(2)) * 2 - 1 for key in keys]
    drawn = [{**own, **CHANGES[name].numbers(strength, way)} for own, way in zip(still, ways, strict=True)]
    changed = augment.apply(pixels, drawn)
    if name != "jpeg":
        return changed
    return torch.from_numpy(through_jpeg(changed.numpy(), quality=round(100 - strength)))
