"""Prompts for scenes: a structure is chosen, shown by a box, by points or by a rough mask, and seen in a window.

What is drawn here is what `medgraft.nets.pyramid_prompter` asks of the net: a window
around a box or a mask, or one of some fixed sizes around a point. Around a
point the size of the window says what is meant: of the structures that the
point is in, the one that fits.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from medgraft.nets.prompt_net import GRID, SIDE
from medgraft.nets.pyramid_prompter import BOX_ROOM, MASK_ROOM, WIDEST
from pretraining.objective import MEAN
from pretraining.pool import stream
from pretraining.scenes import Scene

VIEW = 144  # pixels a side of what the encoder sees: the window, and a rim
_KINDS, _KIND_SHARES = ("box", "points", "mask"), (0.45, 0.47, 0.08)
_FIT = 0.4  # part of a window around a point that a structure takes where it fits best
_MOST_POINTS = 6
_BEYOND = MEAN  # of the picture, that nothing is left when the encoder takes its mean away


@dataclass(frozen=True)
class Asked:
    """A batch of prompts.

    Attributes:
        pixels: `(N, 3, VIEW, VIEW)` float32 from 0 to 1.
        picture: `(N, 4)` edges of the picture in pixels of the view.
        windows: `(N, 4)` x0, y0, x1, y1.
        points: `(N, 6, 3)` x, y, and 1, 0 or -1 (no point).
        boxes: `(N, 4)`, NaN where none is given.
        before: `(N, GRID, GRID)` from -1 to 1.
        wanted: `(N, GRID, GRID)` the structure in the window, from 0 to 1.
        beyond: `(N, )` how much of the structure lies outside of the window, in places.
    """

    pixels: Tensor
    picture: Tensor
    windows: Tensor
    points: Tensor
    boxes: Tensor
    before: Tensor
    wanted: Tensor
    beyond: Tensor


@dataclass(frozen=True)
class _Chosen:
    """One structure and the way it is shown, in the pixels of its scene."""

    kind: str
    mask: np.ndarray
    centre: np.ndarray  # of the window, x and y
    side: float  # of the window
    point: np.ndarray | None


def batch(scenes: list[Scene], *, count: int, seed: int, step: int) -> Asked:
    """Draw a batch of prompts: a function of (seed, step)."""
    dice = np.random.default_rng(stream(seed, "prompts", step))
    rows = [one(scenes[int(dice.integers(len(scenes)))], dice) for _ in range(count)]
    whole = {field.name: torch.stack([getattr(row, field.name) for row in rows]) for field in fields(Asked)}
    draw = torch.Generator().manual_seed(stream(seed, "light", step))
    pixels = _lit(whole["pixels"], draw)
    return Asked(**(whole | {"pixels": torch.where(_in_picture(whole["picture"]), pixels, _BEYOND)}))


def _in_picture(edges: Tensor) -> Tensor:
    """Which pixels of views show the picture whose edges `(N, 4)` are given: `(N, 1, VIEW, VIEW)`."""
    line = torch.arange(VIEW) + 0.5
    x0, y0, x1, y1 = (edge[:, None] for edge in edges.unbind(1))
    across, down = (x0 <= line) & (line <= x1), (y0 <= line) & (line <= y1)
    return (down[:, :, None] & across[:, None, :])[:, None]


def one(scene: Scene, dice: np.random.Generator) -> Asked:
    """Draw one prompt of a scene, without the first axis."""
    chosen = _choose(scene, dice)
    size = scene.picture.shape[-1]
    matrix = _way(chosen, size, dice)
    picture, mask = _warped(scene.picture, chosen.mask, matrix)
    window = _window(matrix, chosen, size)
    ends = _through(matrix, np.array([[0.0, 0.0], [size, size]]))
    edges = np.concatenate([ends.min(axis=0), ends.max(axis=0)])
    wanted = _in_window(mask, window)
    step = (window[2] - window[0]) / GRID
    whole = chosen.mask.sum() * abs(np.linalg.det(matrix[:, :2])) / step**2
    points, box, before = _shown(chosen, mask, wanted, matrix, window, dice)
    return Asked(
        pixels=picture,
        picture=torch.tensor(edges, dtype=torch.float32),
        windows=torch.tensor(window, dtype=torch.float32),
        points=torch.tensor(points, dtype=torch.float32),
        boxes=torch.tensor(box, dtype=torch.float32),
        before=before,
        wanted=wanted,
        beyond=torch.tensor(max(0.0, float(whole) - float(wanted.sum())), dtype=torch.float32),
    )


def _choose(scene: Scene, dice: np.random.Generator) -> _Chosen:
    """A structure, compact ones more often; how it is shown, and in which window."""
    masks = (
        np.unpackbits(scene.structures, axis=-1).astype(bool)
        if scene.structures.dtype == np.uint8
        else scene.structures
    )
    masks = masks[:, :, : scene.picture.shape[-1]]
    boxes = np.array([_bounds(mask) for mask in masks])
    sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    solid = masks.sum(axis=(1, 2)) / np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), 1)
    weight = (0.05 + solid**2) * np.minimum(1, sides / 12)
    number = int(dice.choice(len(masks), p=weight / weight.sum()))
    kind = str(dice.choice(_KINDS, p=_KIND_SHARES))
    if kind != "points":
        room = BOX_ROOM if kind == "box" else MASK_ROOM
        middle = (boxes[number, :2] + boxes[number, 2:]) / 2
        return _Chosen(kind, masks[number], middle, max(room * float(sides[number]), 12.0), None)
    size = masks.shape[1]
    side = min(sides[number] / float(np.exp(dice.uniform(np.log(0.12), np.log(0.95)))), float(size))
    side = max(side, 16.0)
    point = _point_in(masks[number], dice)
    here = [k for k in range(len(masks)) if masks[k][int(point[1]), int(point[0])]]
    best = min(here, key=lambda k: abs(np.log(sides[k] / side / _FIT)))
    half = side / 2
    return _Chosen(kind, masks[best], np.clip(point, half, max(half, size - half)), side, point)


def _bounds(mask: np.ndarray) -> list[float]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)]


def _point_in(mask: np.ndarray, dice: np.random.Generator) -> np.ndarray:
    """The centre of a pixel of a mask, x and y from the edge; half of them well inside."""
    inner: Any = mask
    if dice.random() < 0.5:
        deep: Any = ndimage.distance_transform_edt(np.pad(mask, 1))
        inner = deep[1:-1, 1:-1] > 0.5 * deep.max()
    places = np.argwhere(inner)
    y, x = places[int(dice.integers(len(places)))]
    return np.array([x + 0.5, y + 0.5])


def _way(chosen: _Chosen, size: int, dice: np.random.Generator) -> np.ndarray:
    """The matrix `(2, 3)` that leads from pixels of the scene to those of the view."""
    low, high = (0.9, WIDEST) if chosen.kind == "points" else (WIDEST / 2, WIDEST)
    wide = SIDE * float(np.exp(dice.uniform(np.log(low), np.log(high))))
    turn = dice.integers(4) * np.pi / 2
    c, s = np.round(np.cos(turn)), np.round(np.sin(turn))
    flip = 1 - 2 * float(dice.integers(2))
    matrix = np.array([[c * flip, -s], [s * flip, c]]) * (wide / chosen.side)
    room = (VIEW - min(wide, VIEW)) / 2
    centre = VIEW / 2 + dice.uniform(-room, room, 2)
    return np.column_stack([matrix, centre - matrix @ chosen.centre])


def _through(matrix: np.ndarray, places: np.ndarray) -> np.ndarray:
    return places @ matrix[:, :2].T + matrix[:, 2]


def _window(matrix: np.ndarray, chosen: _Chosen, size: int) -> np.ndarray:
    middle = _through(matrix, chosen.centre[None])[0]
    half = chosen.side * np.sqrt(abs(np.linalg.det(matrix[:, :2]))) / 2
    return np.concatenate([middle - half, middle + half])


def _warped(picture: np.ndarray, mask: np.ndarray, matrix: np.ndarray) -> tuple[Tensor, Tensor]:
    """Picture and mask in the view; what is beyond the scene is 0."""
    size = picture.shape[-1]
    back = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
    # affine_grid counts from -1 to 1 along each side.
    theta = np.column_stack([back[:, :2] * VIEW / size, (2 * (back @ [VIEW / 2, VIEW / 2, 1]) - size) / size])
    grid = functional.affine_grid(
        torch.tensor(theta[None], dtype=torch.float32), [1, 4, VIEW, VIEW], align_corners=False
    )
    both = np.concatenate([picture.astype(np.float32) / 255, mask[None].astype(np.float32)])
    seen = functional.grid_sample(torch.from_numpy(both)[None], grid, align_corners=False)[0]
    return seen[:3], seen[3]


def _in_window(mask: Tensor, window: np.ndarray) -> Tensor:
    from torchvision.ops import roi_align

    where = torch.tensor([[0.0, *window]], dtype=torch.float32)
    return roi_align(mask[None, None], where, GRID, 1.0, 2, aligned=True)[0, 0]


def _shown(
    chosen: _Chosen, mask: Tensor, wanted: Tensor, matrix: np.ndarray, window: np.ndarray, dice: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, Tensor]:
    """Points `(6, 3)`, box `(4, )` and guess `(GRID, GRID)`; now and then points go with a box."""
    points, box, before = np.full((_MOST_POINTS, 3), -1.0), np.full(4, np.nan), torch.zeros(GRID, GRID)
    if chosen.kind == "points":
        assert chosen.point is not None
        points[0] = [*_through(matrix, chosen.point[None])[0], 1]
    elif chosen.kind == "box":
        ends = _through(matrix, np.array(_bounds(chosen.mask)).reshape(2, 2))
        box = np.concatenate([ends.min(axis=0), ends.max(axis=0)])
        if dice.random() < 0.6:  # people do not draw boxes to the pixel
            spread = 0.05 * np.tile(box[2:] - box[:2], 2)
            box = box + np.clip(dice.normal(0, spread), -2 * spread, 2 * spread)
    else:
        before = _rough(wanted, dice)
    if dice.random() < (0.35 if chosen.kind == "points" else 0.15):
        step = (window[2] - window[0]) / GRID
        inside, outside = (wanted > 0.6).numpy(), (wanted < 0.3).numpy()
        near = ndimage.binary_dilation(inside, iterations=8) & outside
        for row in range(1, 1 + int(dice.integers(1, _MOST_POINTS))):
            label = int(dice.random() < 0.5)
            places = np.argwhere(inside if label else near)
            if len(places):
                y, x = places[int(dice.integers(len(places)))] + 0.5
                points[row] = [window[0] + x * step, window[1] + y * step, label]
    return points, box, before


def _rough(wanted: Tensor, dice: np.random.Generator) -> Tensor:
    """A mask as people draw it: grown, shrunk, shifted, coarse."""
    solid = (wanted > 0.5).numpy()
    times = int(dice.integers(-2, 4))
    if times:
        turned = (ndimage.binary_dilation if times > 0 else ndimage.binary_erosion)(solid, iterations=abs(times))
        solid = turned if turned.any() else solid
    solid = np.roll(solid, dice.integers(-3, 4, 2), axis=(0, 1))
    soft = ndimage.gaussian_filter(solid.astype(np.float32), float(dice.uniform(0.3, 3)))
    return torch.from_numpy(np.clip(2 * soft - 1, -1, 1))


def _lit(pixels: Tensor, draw: torch.Generator) -> Tensor:
    """Other light, contrast, colour and noise; now and then negative, or gray."""
    unit = torch.rand(len(pixels), 8, 1, 1, 1, generator=draw)
    pixels = torch.where(unit[:, 0] < 0.15, 1 - pixels, pixels)
    gray = pixels.mean(1, keepdim=True)
    pixels = torch.where(unit[:, 1] < 0.25, gray, pixels)
    mean = pixels.mean((1, 2, 3), keepdim=True)
    pixels = (pixels - mean) * (1.2 * (unit[:, 2] - 0.6)).exp() + mean + 0.2 * (unit[:, 3] - 0.5)
    pixels = pixels.clamp_min(0).pow((unit[:, 4] - 0.5).exp())
    grain = torch.randn(pixels.shape, generator=draw)
    grain = torch.where(unit[:, 5] < 0.5, grain[:, :1], grain)
    return (pixels + grain * 0.06 * unit[:, 6].square()).clamp(0, 1)
