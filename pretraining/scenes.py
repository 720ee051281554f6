"""Scenes: images of several layers, and every structure in them as a mask of its own.

A model that outlines what a prompt shows has to learn what a structure is: a
part, the whole that it is in, one of many that touch. A formula knows all of
them. Layers are drawn over one another as in `render`; each connected part of
a layer that can be seen is a structure, with and without what lies on it, and
things that touch are known apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from pretraining.fields import coordinates, posed
from pretraining.programs import Programs
from pretraining.render import coloured, jittered, photographed, two_masks
from pretraining.shapes import apart

_TEXTURED = ("alpha", "band", "banded", "stretch", "grain_turn", "curve", "gain", "contrast", "colour", "direction")
_LEAST, _MOST = 0.0009, 0.7  # of the picture that a structure covers
_SEEN = 0.5  # how far apart inside and outside are, in their own spreads
MOST_STRUCTURES, _MOST_PARTS = 16, 8


@dataclass(frozen=True)
class Scene:
    """A picture and what is in it.

    Attributes:
        picture: `(3, S, S)` uint8.
        structures: `(K, S, S)` bool, the largest first; they may lie within one another.
    """

    picture: np.ndarray
    structures: np.ndarray


def draw_scenes(programs: Programs, others: Programs, *, size: int, draw: torch.Generator) -> list[Scene]:
    """Draw one scene a row: two layers of a program, a third of another one, and things.

    Args:
        programs: N rows, on the device of `draw`.
        others: N rows.
        size: S in pixels.
        draw: everything random comes from it.
    """
    p, q = jittered(programs, draw), jittered(others, draw)
    count, device = len(programs), draw.device
    first, second, _ = two_masks(p, size=size, draw=draw)
    third, _, _ = two_masks(q, size=size, draw=draw)
    chance = torch.rand(count, 4, generator=draw, device=device)[:, :, None, None]
    third = third * torch.where(chance[:, 0] < 0.35, first, torch.where(chance[:, 0] < 0.6, 1.0, 0.0))
    there = chance[:, 1, 0, 0] < 0.45
    things, which, gap = _things(q, there, size=size, draw=draw)
    things = things * torch.where(chance[:, 1] < 0.2, first, 1.0)
    layers = torch.stack([torch.ones_like(first), first, second, third, things], 1)
    both = p | {name: torch.cat([p[name], q[name][:, 1:]], 1) for name in _TEXTURED}
    images, _ = coloured(layers, both, draw)
    images = images * _own_light(things, which, gap, draw)
    images, field, _ = photographed(images, p, draw)
    return [
        Scene(picture, _structures(picture, solid, numbers, seen))
        for picture, solid, numbers, seen in zip(
            (images * 255).round().byte().cpu().numpy(),
            (layers > 0.5).cpu().numpy(),
            which.cpu().numpy(),
            (field > 0.5).cpu().numpy(),
            strict=True,
        )
    ]


def _things(p: dict[str, Tensor], there: Tensor, *, size: int, draw: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Many outlines that may touch, of any size, in the rows that have some: (mask, number, nearness of the next)."""
    unit = torch.rand(len(p["size"]), 4, generator=draw, device=draw.device)
    turn, shift = unit[:, 0] * 6.28, unit[:, 1:3] * 2 - 1
    at = posed(coordinates(size, draw.device), turn=turn, scale=torch.ones_like(turn), shift=shift)
    own = {name: p[name][:, 1] for name in ("size", "count", "fill", "edge", "oval", "waves", "amplitude")}
    # The seeds lie in a grid of which 32 are known a side.
    own["count"] = 1.2 * (10 / 1.2) ** unit[:, 3]
    # What costs most is left out where nothing comes of it.
    some = apart({name: value[there] for name, value in own.items()}, at[there], draw)
    whole = [torch.zeros(at.shape[:3], dtype=part.dtype, device=draw.device) for part in some]
    for part, drawn in zip(whole, some, strict=True):
        part[there] = drawn
    return whole[0], whole[1], whole[2]


def _own_light(things: Tensor, which: Tensor, gap: Tensor, draw: torch.Generator) -> Tensor:
    """Each thing a little lighter or darker than the next, and darker or lighter where they touch: `(N, 1, S, S)`."""
    count = len(things)
    unit = torch.rand(count, 3, generator=draw, device=things.device)[:, :, None, None]
    table = torch.rand(count, 32 * 32, generator=draw, device=things.device) * 2 - 1
    own = torch.gather(table, 1, which.flatten(1)).view(things.shape)
    light = 1 + 0.35 * unit[:, 0] * own + (unit[:, 1] - 0.65) * 0.7 * gap
    return torch.lerp(torch.ones_like(light), light.clamp(0.3, 1.7), things)[:, None]


def _structures(picture: np.ndarray, solid: np.ndarray, which: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Every structure that can be seen, `(K, S, S)` bool."""
    depth = len(solid)
    top = (depth - 1) - solid[::-1].argmax(axis=0)  # the number of the layer that shows at each pixel
    found: list[np.ndarray] = []
    for layer in range(depth):
        own = (top == layer) & seen
        if layer == depth - 1:
            numbers, sizes = np.unique(which[own], return_counts=True)
            found += [own & (which == numbers[k]) for k in np.argsort(-sizes, kind="stable")[:MOST_STRUCTURES]]
        else:
            found += _parts(own)
        if layer:
            whole = _parts(solid[layer] & seen)
            found += whole + [ndimage.binary_fill_holes(part) for part in whole[:3]]
    found += [seen] if not seen.all() else []
    return _chosen(picture, found)


def _parts(mask: np.ndarray) -> list[np.ndarray]:
    """Connected parts, the largest first."""
    numbers, count = ndimage.label(mask)
    sizes = np.bincount(numbers.ravel(), minlength=count + 1)
    order = [k for k in np.argsort(-sizes, kind="stable").tolist() if k and sizes[k] > _LEAST * mask.size]
    return [numbers == k for k in order[:_MOST_PARTS]]


def _chosen(picture: np.ndarray, found: list[Any]) -> np.ndarray:
    """Those of a fit size that can be told from what is around them, none twice."""
    area = picture.shape[1] * picture.shape[2]
    features = _features(picture)
    kept: list[np.ndarray] = []
    places: list[np.ndarray] = []
    for mask in found:
        size = int(mask.sum())
        if not _LEAST * area < size < _MOST * area:
            continue
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        place = np.array([rows[0], rows[-1] + 1, columns[0], columns[-1] + 1, size**0.5])
        # Twice is also what differs by a rim.
        if any((np.abs(place - other) < 2 + 0.05 * other[4]).all() for other in places):
            continue
        if _apart(features, mask, place[:4].astype(int).tolist()) > _SEEN:
            kept.append(mask)
            places.append(place)
    order = sorted(range(len(kept)), key=lambda k: -places[k][4])
    if len(order) > MOST_STRUCTURES:  # of very many, large and small ones
        order = [order[k] for k in np.linspace(0, len(order) - 1, MOST_STRUCTURES).round().astype(int)]
    return np.array([kept[k] for k in order], bool).reshape(-1, *picture.shape[1:])


def _features(picture: np.ndarray) -> np.ndarray:
    """Colour, and how it varies within a few pixels: `(4, S, S)`."""
    values = ndimage.gaussian_filter(picture.astype(np.float32) / 255, (0, 0.8, 0.8))
    gray = picture.astype(np.float32).mean(axis=0) / 255
    rough = ndimage.gaussian_filter(np.abs(gray - ndimage.gaussian_filter(gray, 1.5)), 1.5)
    return np.concatenate([values, 2 * rough[None]])


def _apart(features: np.ndarray, mask: np.ndarray, box: list[int]) -> float:
    """How much what lies within a mask differs from the band around it."""
    reach = 4
    window = slice(max(0, box[0] - reach), box[1] + reach), slice(max(0, box[2] - reach), box[3] + reach)
    inner = mask[window]
    outer = ndimage.maximum_filter(inner, 2 * reach + 1) & ~inner
    # Of a large one the rim alone tells whether there is an edge.
    near = inner & ndimage.maximum_filter(outer, 4 * reach + 1)
    if not outer.any() or not near.any():
        return 0.0
    one, other = features[:, *window][:, near], features[:, *window][:, outer]
    spread = np.sqrt(0.5 * (one.var(axis=1) + other.var(axis=1)) + 2e-4)
    return float((np.abs(one.mean(axis=1) - other.mean(axis=1)) / spread).max())
