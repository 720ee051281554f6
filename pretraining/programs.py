"""Programs: what stays the same in all images of one class.

A program is a row of structural parameters: which shapes, which spectra,
which colours. It is the class that the encoder learns to name. What differs
from image to image of a program (places, phases, pose, light, noise) is drawn
in `render`. Program k is the same however many programs are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

FAMILIES = (
    "contour",  # one closed outline, its radius a sum of two sines (VisualAtom, Takashima et al. 2023)
    "scatter",  # many outlines in a jittered grid: nuclei, nodules
    "cells",  # walls between the nearest and the second nearest seed (Worley 1996): epithelium
    "leaves",  # shapes that occlude each other, radius density r^-3 (dead leaves, Lee et al. 2001)
    "fractal",  # density of an iterated function system (Anderson and Farrell 2022)
    "blobs",  # noise above a threshold
    "ridges",  # level sets of noise: vessels, fibres
    "tree",  # ridges in polar coordinates: vessels that run from a centre
    "anatomy",  # nested mirrored ellipses: heads, chests (after Shepp and Logan 1974)
    "stripes",  # bent parallel bands: ribs, muscle
)
CURVES = ("plain", "creased", "waves", "flat", "peaks")
COLOURS = ("gray", "additive", "stains")
PLACES = ("anywhere", "inside", "outside")

_FAMILY_SHARES = (0.14, 0.14, 0.1, 0.1, 0.06, 0.1, 0.12, 0.06, 0.12, 0.06)
_SECOND_SHARES = (0.06, 0.28, 0.12, 0.06, 0.02, 0.16, 0.2, 0.04, 0.0, 0.06)
_COLOUR_SHARES = (0.45, 0.32, 0.23)
MAPS = 4  # of an iterated function system
PARTS = 6  # of an anatomy


@dataclass(frozen=True)
class Programs:
    """Structural parameters, one row a program.

    Attributes:
        values: name -> `(P, ...)` tensor; integers where a word of a tuple above is meant, else float32.
    """

    values: dict[str, Tensor]

    def __len__(self) -> int:
        return len(self.values["family"])

    def __getitem__(self, name: str) -> Tensor:
        return self.values[name]

    def rows(self, ids: Tensor) -> Programs:
        """Get the programs `ids`, in that order."""
        return Programs({name: value[ids] for name, value in self.values.items()})

    def to(self, device: torch.device | str) -> Programs:
        """Get them on a device."""
        return Programs({name: value.to(device) for name, value in self.values.items()})


class _Dice:
    """Random numbers by name: a longer draw begins with the shorter one."""

    def __init__(self, seed: int, count: int) -> None:
        self.seed, self.count = seed, count

    def unit(self, name: str, *more: int) -> np.ndarray:
        key = np.frombuffer(name.encode().ljust(16, b"\0")[:16], dtype=np.uint64)
        stream = np.random.Philox(key=[int(key[0] ^ key[1]), self.seed])
        return np.random.Generator(stream).random((self.count, *more))

    def uniform(self, name: str, low: float, high: float, *more: int) -> Tensor:
        return torch.from_numpy(low + (high - low) * self.unit(name, *more)).float()

    def log(self, name: str, low: float, high: float, *more: int) -> Tensor:
        return torch.from_numpy(low * (high / low) ** self.unit(name, *more)).float()

    def choice(self, name: str, shares: tuple[float, ...], *more: int) -> Tensor:
        edges = np.cumsum(shares) / np.sum(shares)
        return torch.from_numpy(np.minimum(np.searchsorted(edges, self.unit(name, *more)), len(shares) - 1))


def draw_programs(count: int, *, seed: int = 0) -> Programs:
    """Draw the structural parameters of `count` programs.

    Args:
        count: how many; the first ones do not change when there are more.
        seed: other programs.
    """
    dice = _Dice(seed, count)
    values = _shapes(dice) | _textures(dice) | _colours(dice) | _acquisition(dice)
    return Programs(values)


def _shapes(dice: _Dice) -> dict[str, Tensor]:
    """Two masks: the first large, the second small; index 0 and 1 of the last axis."""
    unit = dice.uniform
    angle = 2 * torch.pi
    return {
        "family": torch.stack([dice.choice("family", _FAMILY_SHARES), dice.choice("second", _SECOND_SHARES)], 1),
        "place": dice.choice("place", (0.45, 0.4, 0.15)),
        "upright": (unit("upright", 0, 1) < 0.35).float(),
        "size": torch.stack([dice.log("size0", 0.25, 0.85), dice.log("size1", 0.3, 1.0)], 1),
        "count": torch.stack([dice.log("count0", 1.5, 5), dice.log("count1", 3, 12)], 1),
        "fill": unit("fill", 0.25, 1.0, 2),
        "edge": dice.log("edge", 0.02, 0.25, 2),
        "oval": dice.log("oval", 1.0, 2.2, 2),
        "waves": dice.log("waves", 1.0, 14.0, 2, 2).round(),
        "amplitude": dice.log("amplitude", 0.02, 0.6, 2),
        "rings": torch.where(unit("ringed", 0, 1, 2) < 0.15, dice.log("rings", 1.0, 5.0, 2), torch.zeros(1)),
        "slope": unit("slope", 1.5, 4.0, 2),
        "pitch": dice.log("pitch", 0.03, 0.16, 2),
        "level": unit("level", -0.6, 1.2, 2),
        "width": dice.log("width", 0.06, 0.5, 2),
        "bend": unit("bend", -0.8, 0.8, 2),
        "warp": dice.log("warp", 0.005, 0.15),
        "rim": torch.where(unit("rimmed", 0, 1) < 0.25, unit("rim", 0.05, 0.3), torch.zeros(1)),
        "map_turn": unit("map_turn", 0, float(angle), MAPS, 2),
        "map_size": _map_sizes(dice),
        "map_shift": unit("map_shift", -1, 1, MAPS, 2),
        "map_flip": (unit("map_flip", 0, 1, MAPS, 2) < 0.5).float() * 2 - 1,
        "part_place": unit("part_place", -0.6, 0.6, PARTS, 2) * torch.tensor([0.9, 1.0]),
        "part_size": dice.log("part_size", 0.08, 0.5, PARTS, 2),
        "part_turn": unit("part_turn", 0, torch.pi, PARTS),
        "part_value": unit("part_value", -0.8, 0.8, PARTS),
    }


def _map_sizes(dice: _Dice) -> Tensor:
    """Singular values that contract, the larger first."""
    first = dice.uniform("map_first", 0.4, 0.85, MAPS)
    return torch.stack([first, first * dice.uniform("map_second", 0.3, 1.0, MAPS)], -1)


def _textures(dice: _Dice) -> dict[str, Tensor]:
    """Three textures: ground, first mask, second mask."""
    return {
        "alpha": dice.uniform("alpha", 0.3, 3.5, 3),
        "band": dice.log("band", 0.03, 0.4, 3),
        "banded": (dice.uniform("banded", 0, 1, 3) < 0.4).float(),
        "stretch": dice.log("stretch", 1.0, 5.0, 3),
        "grain_turn": dice.uniform("grain_turn", 0, torch.pi, 3),
        "curve": dice.choice("curve", (0.4, 0.15, 0.15, 0.15, 0.15), 3),
        "gain": dice.log("gain", 0.5, 3.0, 3),
        "contrast": dice.log("contrast", 0.006, 0.16, 3),
    }


def _colours(dice: _Dice) -> dict[str, Tensor]:
    """Mean colour of the three layers and how they vary."""
    mode = dice.choice("colour", _COLOUR_SHARES)
    empty = (dice.uniform("empty", 0, 1) < 0.3).float()
    gray = dice.uniform("gray", 0.05, 0.95, 3, 1)
    near = dice.uniform("near", 0, 1) < 0.5  # low contrast: the second layer differs little from what is around it
    gray[:, 2] = torch.where(near[:, None], gray[:, 1] + dice.uniform("step", -0.2, 0.2, 1), gray[:, 2])
    tint = dice.uniform("tint", -1, 1, 1, 3) * dice.log("tints", 0.05, 0.4, 1, 1)
    own = dice.uniform("own", -1, 1, 3, 3) * dice.log("owns", 0.02, 0.25, 1, 1)
    colour = gray + torch.where((mode > 0)[:, None, None], tint + own, torch.zeros(1))
    stains = dice.log("stain", 0.05, 1.6, 3, 3)
    colour = torch.where((mode == 2)[:, None, None], stains * (0.15 + gray), colour)
    # Much of medicine is seen before darkness (scans) or, stained, before a bright lamp: no light or no stain there.
    colour[:, 0] = torch.where(empty[:, None] > 0, colour[:, 0] * 0.08, colour[:, 0])
    direction = torch.where((mode > 0)[:, None, None], 1 + dice.uniform("direction", -0.8, 0.8, 3, 3), torch.ones(1))
    return {"mode": mode, "colour": colour, "direction": direction, "empty": empty}


def _acquisition(dice: _Dice) -> dict[str, Tensor]:
    """How the picture was taken; each image varies around it."""
    field = dice.choice("field", (0.72, 0.2, 0.08))
    speckled = (dice.uniform("speckled", 0, 1) < 0.25).float()
    return {
        "field": field,  # 0 = the whole picture, 1 = a disc on black, 2 = a disc on white
        "field_size": dice.uniform("field_size", 0.8, 1.15),
        "blur": dice.log("blur", 0.05, 1.6),
        "speckle": speckled * dice.uniform("speckle", 0.03, 0.35),
        "noise": dice.log("noise", 0.002, 0.05),
        "light": dice.uniform("light", 0.0, 0.25),
    }
