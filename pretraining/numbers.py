"""The numbers that the generator knows of an image, and what becomes of them in a view.

Three kinds: parameters of shapes and textures, how the picture was taken, and what a reader would measure on the
masks. A number is asked for only where it can be seen; elsewhere it is NaN.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pretraining.fields import coordinates
from pretraining.programs import FAMILIES

_SHAPES = ("size", "count", "fill", "edge", "oval", "amplitude", "slope", "pitch", "level", "width")
_LAYERS = (1, 2, 3)
_COLOURS = ("stained", *(f"{channel} of layer {k}" for k in _LAYERS for channel in ("red", "green", "blue")))
_MEASURED = (
    *("area of mask 1", "area of mask 2", "area seen", "outline of mask 1", "outline of mask 2"),
    *("spread of mask 2", "distance of mask 2", "left against right", "top against bottom"),
)
NUMBERS = (
    *(f"{name} of mask {which}" for which in (1, 2) for name in _SHAPES),
    *(f"{name} of texture {k}" for name in ("slope", "in a band", "band", "stretch") for k in _LAYERS),
    *_COLOURS,
    *(f"contrast of texture {k}" for k in _LAYERS),
    *("light", "blur", "field of view", "speckle", "noise"),
    *_MEASURED,
)
_LOGS = ("size", "count", "edge", "oval", "amplitude", "pitch", "width")
# Which numbers say something of a mask of each family, and of which `fill`, as families switch by it (see `shapes`).
_TELLING = {
    "size": {"contour": (0, 1), "scatter": (0, 1), "cells": (0, 0.5), "leaves": (0, 1), "anatomy": (0, 1)},
    "count": {"scatter": (0, 1), "cells": (0, 1), "stripes": (0, 1)},
    "fill": {"scatter": (0, 1)},
    "edge": {"contour": (0, 1), "scatter": (0, 1), "cells": (0, 0.5), "blobs": (0, 1), "anatomy": (0, 1)}
    | {"stripes": (0, 1)},
    "oval": {"contour": (0, 1), "scatter": (0, 1), "leaves": (0, 1), "anatomy": (0, 1)},
    "amplitude": {"contour": (0, 1), "scatter": (0, 1)},
    "slope": {"blobs": (0, 0.5), "ridges": (0, 0.6)},
    "pitch": {"blobs": (0.5, 1), "ridges": (0.6, 1)},
    "level": {"blobs": (0, 1), "stripes": (0, 1)},
    "width": {"cells": (0.5, 1), "ridges": (0, 1), "tree": (0, 1)},
}
# How a number, a log, moves with the log of the magnification.
_ZOOMED = {"size": 1, "count": -1, "pitch": -1, "band": -1, "blur": 1, "field of view": 1}
_PLACED = 1e-3  # share of the picture below which a mask is too small to say where it lies


def of_program(p: dict[str, Tensor], scale: Tensor) -> Tensor:
    """Get the parameters of the shapes and textures of each image, after jitter: `(N, 33)`.

    Args:
        p: parameters by name.
        scale: `(N,)` log of the magnification that the shapes were posed with.
    """
    found = []
    for which in (0, 1):
        family, fill = p["family"][:, which], p["fill"][:, which]
        for name in _SHAPES:
            value = _length(p, which) if name == "size" else p[name][:, which]
            value = value.log() if name in _LOGS else value
            value = value + scale * {"size": 1, "count": -1}.get(name, 0)
            found.append(torch.where(_told(name, family, fill), value, torch.nan))
    banded = p["banded"] > 0
    slope, band = torch.where(banded, torch.nan, p["alpha"]), torch.where(banded, p["band"].log(), torch.nan)
    stained = (p["mode"] == 2).float()[:, None]
    return torch.cat([torch.stack(found, 1), slope, p["banded"], band, p["stretch"].log(), stained], 1)


def _length(p: dict[str, Tensor], which: int) -> Tensor:
    """Get the radius of the shapes in half pictures, by the formulas of `shapes`."""
    size, count, family = p["size"][:, which], p["count"][:, which], p["family"][:, which]
    of = {"scatter": (0.15 + 0.4 * size) / count, "cells": 0.6 * size / count, "leaves": 0.5 + size}
    of |= {"anatomy": size + 0.2}
    length = size
    for word, value in of.items():
        length = torch.where(family == FAMILIES.index(word), value, length)
    return length


def _told(name: str, family: Tensor, fill: Tensor) -> Tensor:
    """Say of each mask whether the number shows in it."""
    known = torch.zeros_like(fill, dtype=torch.bool)
    for word, (low, high) in _TELLING[name].items():
        known |= (family == FAMILIES.index(word)) & (fill > low) & (fill <= high)
    return known


def measured(masks: Tensor) -> Tensor:
    """Get what a reader would measure on masks `(N, 4, h, w)`: areas, outlines, spread, asymmetry; `(N, 9)`."""
    first, second, _, field = masks.unbind(1)
    grid = coordinates(first.shape[-1], first.device)
    area, small, seen = first.mean((1, 2)), second.mean((1, 2)), field.mean((1, 2))
    outline = _outline(first), _outline(second)
    weight = second / second.sum((1, 2), keepdim=True).clamp_min(1e-6)
    centre = torch.einsum("nhw,hwc->nc", weight, grid)
    spread = (torch.einsum("nhw,hwc->nc", weight, grid.square()) - centre.square()).sum(1).clamp_min(0).sqrt()
    there = small > _PLACED
    place = [torch.where(there, value, torch.nan) for value in (spread, centre.norm(dim=1))]
    solid = (first > 0.5).float()
    mirrored = (solid - solid.flip(-1)).abs().mean((1, 2)), (solid - solid.flip(-2)).abs().mean((1, 2))
    return torch.stack([area, small, seen, *outline, *place, *mirrored], 1)


def _outline(mask: Tensor) -> Tensor:
    """Length of the edge in sides of the picture: the mean size of the gradient, as a log."""
    side = mask.shape[-1]
    dx, dy = mask.diff(dim=2).abs().mean((1, 2)), mask.diff(dim=1).abs().mean((1, 2))
    return ((dx + dy) * side + 0.1).log()


def as_seen(numbers: Tensor, masks: Tensor, *, zoom: Tensor, gray: Tensor) -> Tensor:
    """Get the numbers of views of images.

    Args:
        numbers: `(N, K)` of the whole images.
        masks: `(N, 4, h, w)` of the views; what is measured is measured on them.
        zoom: `(N,)` log of the magnification of the view.
        gray: `(N,)` True where the view has no colour: there colours are not asked for.

    Returns:
        `(N, K)`.
    """
    words = [name.partition(" of mask ")[0].partition(" of texture ")[0] for name in NUMBERS]
    steps = torch.tensor([_ZOOMED.get(word, 0) for word in words], device=numbers.device)
    seen = numbers + zoom[:, None] * steps
    colours = slice(NUMBERS.index(_COLOURS[0]), NUMBERS.index(_COLOURS[-1]) + 1)
    seen[:, colours] = torch.where(gray[:, None], torch.nan, seen[:, colours])
    seen[:, -len(_MEASURED) :] = measured(masks)
    return seen
