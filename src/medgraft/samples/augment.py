"""Augmentation: the drawn numbers of each sample, and a deterministic function that carries them out.

`draw` turns a preset into numbers, `apply` turns pixels and numbers into
pixels; nothing random is left in between. All numbers of a sample come from
(seed, epoch, key), so the result is the same bits in any batch, with any
number of workers and threads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from medgraft import seeds
from medgraft.samples import intensity
from medgraft.samples.presets import BORDERS, Preset

if TYPE_CHECKING:
    import torch

    Pixels = np.ndarray | torch.Tensor

_SLOTS: tuple[str, ...] = (  # one uniform number each; new ones are added at the end, so that old draws stay
    "rotation", "zoom", "stretch", "shear", "shift_x", "shift_y", "flip_h", "flip_v", "turns", "turn",
    "elastic", "elastic_p", "brightness", "contrast", "gamma", "saturation", "hue", "stain_1", "stain_2", "stain_3",
    "blur", "blur_p", "resolution", "resolution_p", "noise", "noise_p", "speckle", "speckle_p", "bias", "bias_p",
    "erase", "erase_p", "erase_x", "erase_y", "erase_ratio",
)  # fmt: skip
_ELASTIC_KNOTS = 8


def draw(preset: Preset, generator: np.random.Generator) -> dict[str, float]:
    """Get the numbers of one sample.

    Returns:
        rotation and shear in degrees, zoom, stretch as factors, shift_x and shift_y as fractions of the side,
        flip_h and flip_v as 0 or 1, turns as quarter turns 0..3; brightness, contrast, gamma, saturation,
        stain_1..3 and resolution as factors (1 = unchanged), hue in degrees; the rest as in the preset (0 = off);
        key, an integer for the random fields; border, an index into `presets.BORDERS`.
    """
    u = dict(zip(_SLOTS, generator.random(len(_SLOTS)).tolist(), strict=True))
    key = int(generator.integers(0, 1 << 63))

    def either(name: str, size: float) -> float:
        return size * (2.0 * u[name] - 1.0)

    def factor(name: str, size: float) -> float:
        return math.exp(math.log1p(size) * (2.0 * u[name] - 1.0)) if size else 1.0

    def maybe(name: str) -> float:
        return getattr(preset, name) * u[name] if u[f"{name}_p"] < getattr(preset, f"{name}_p") else 0.0

    low, high = -math.log1p(preset.zoom_out), math.log1p(preset.zoom_in)
    return {
        "rotation": either("rotation", preset.rotation),
        "zoom": math.exp(low + u["zoom"] * (high - low)),
        "stretch": factor("stretch", preset.stretch),
        "shear": either("shear", preset.shear),
        "shift_x": either("shift_x", preset.shift),
        "shift_y": either("shift_y", preset.shift),
        "flip_h": float(u["flip_h"] < preset.flip_h),
        "flip_v": float(u["flip_v"] < preset.flip_v),
        "turns": float(int(4.0 * u["turn"])) if u["turns"] < preset.turns else 0.0,
        "elastic": maybe("elastic"),
        "brightness": 1.0 + either("brightness", preset.brightness),
        "contrast": 1.0 + either("contrast", preset.contrast),
        "gamma": factor("gamma", preset.gamma),
        "saturation": 1.0 + either("saturation", preset.saturation),
        "hue": either("hue", preset.hue),
        "stain_1": 1.0 + either("stain_1", preset.stain),
        "stain_2": 1.0 + either("stain_2", preset.stain),
        "stain_3": 1.0 + either("stain_3", preset.stain),
        "blur": maybe("blur"),
        "resolution": 1.0 + maybe("resolution"),
        "noise": maybe("noise"),
        "speckle": maybe("speckle"),
        "bias": maybe("bias"),
        "erase": maybe("erase"),
        "erase_x": u["erase_x"],
        "erase_y": u["erase_y"],
        "erase_ratio": math.exp(2.0 * u["erase_ratio"] - 1.0),
        "border": float(BORDERS.index(preset.border)),
        "key": key,
    }


def drawn_for(preset: Preset, keys: Sequence[str], *, seed: int, epoch: int) -> list[dict[str, float]]:
    """Get the numbers of several samples in one epoch; each depends on (seed, epoch, its key) alone."""
    return [draw(preset, seeds.generator(seed, "augment", epoch, key)) for key in keys]


def apply(pixels: Pixels, drawn: Sequence[dict[str, float]]) -> torch.Tensor:
    """Carry out drawn numbers.

    Args:
        pixels: `(N, C, H, W)` or `(N, C, D, H, W)` uint8, uint16, or float32 in 0..1. A volume is changed in its
            planes, all slices alike.
        drawn: N results of `draw`.

    Returns:
        float32 of the same shape, in 0..1.
    """
    import torch

    source = pixels.numpy() if isinstance(pixels, torch.Tensor) else np.asarray(pixels)
    colour = source.ndim == 4 and source.shape[1] == 3
    height, width = source.shape[-2:]
    planes = np.empty((len(source), math.prod(source.shape[1:-2]), height, width), np.float32)
    for index, numbers in enumerate(drawn):
        planes[index] = intensity.points(source[index], numbers, colour=colour).reshape(planes.shape[1:])
    planes = _move(planes, drawn)
    for index, numbers in enumerate(drawn):
        intensity.texture(planes[index], numbers)
    return torch.from_numpy(planes.reshape(source.shape))


def augment(pixels: Pixels, preset: Preset, *, keys: Sequence[str], seed: int, epoch: int) -> torch.Tensor:
    """Draw and apply at once: float32 `(N, C, [D,] H, W)` in 0..1, a function of (seed, epoch, each key)."""
    return apply(pixels, drawn_for(preset, keys, seed=seed, epoch=epoch))


def moved_labels(labels: np.ndarray, drawn: dict[str, float], *, unknown: int) -> np.ndarray:
    """Get a label map `(H, W)` moved as `apply` moves the pixels: each pixel has the label nearest to where it is from.

    Args:
        labels: whole numbers that float32 holds exactly.
        drawn: the numbers of the image.
        unknown: label of what comes from outside of the image.
    """
    import torch
    import torch.nn.functional as F

    height, width = labels.shape
    back = matrix(drawn, height, width)
    if drawn["elastic"] <= 0 and np.array_equal(back, _STILL):
        return labels
    grid = np.empty((1, height, width, 2), np.float32)
    _fill_grid(grid[0], back, drawn)
    # Counted from the unknown, so that 0, which comes from outside, is unknown.
    source = torch.from_numpy((labels.astype(np.float32) - unknown)[None, None])
    moved = F.grid_sample(source, torch.from_numpy(grid), mode="nearest", padding_mode="zeros", align_corners=False)
    return (moved.numpy()[0, 0] + unknown).astype(labels.dtype)


def matrix(drawn: dict[str, float], height: int, width: int) -> np.ndarray:
    """Get the 2 x 3 matrix from output to input pixels, both measured from the image's centre, x first.

    Forward, a point is mirrored, turned by quarters, stretched and zoomed, sheared, rotated, then shifted.
    """
    angle = math.radians(drawn["rotation"])
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    shear = np.array([[1.0, math.tan(math.radians(drawn["shear"]))], [0.0, 1.0]])
    root = math.sqrt(drawn["stretch"])
    scale = np.diag([drawn["zoom"] * root, drawn["zoom"] / root])
    quarters = int(drawn["turns"])
    if height != width:
        quarters -= quarters % 2  # a quarter turn would cut a rectangle
    c, s = ((1, 0), (0, 1), (-1, 0), (0, -1))[quarters]
    mirror = np.diag([1.0 - 2.0 * drawn["flip_h"], 1.0 - 2.0 * drawn["flip_v"]])
    forward = turn @ shear @ scale @ np.array([[c, -s], [s, c]], np.float64) @ mirror
    back = np.linalg.inv(forward)
    shift = np.array([drawn["shift_x"] * width, drawn["shift_y"] * height])
    return np.column_stack([back, -back @ shift])


_STILL = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def _move(planes: np.ndarray, drawn: Sequence[dict[str, float]]) -> np.ndarray:
    """Resample every sample once: its affine and its local displacement in one grid."""
    import torch
    import torch.nn.functional as F

    height, width = planes.shape[-2:]
    matrices = [matrix(numbers, height, width) for numbers in drawn]
    moved = [
        index
        for index, numbers in enumerate(drawn)
        if numbers["elastic"] > 0 or not np.array_equal(matrices[index], _STILL)
    ]
    for border, name in enumerate(BORDERS):
        chosen = [index for index in moved if int(drawn[index]["border"]) == border]
        if not chosen:
            continue
        grid = np.empty((len(chosen), height, width, 2), np.float32)
        for row, index in enumerate(chosen):
            _fill_grid(grid[row], matrices[index], drawn[index])
        whole = len(chosen) == len(planes)
        source = torch.from_numpy(planes if whole else planes[chosen])
        with torch.no_grad(), torch.autocast("cpu", enabled=False):  # the caller may be training in bf16
            moved_planes = F.grid_sample(
                source, torch.from_numpy(grid), mode="bilinear", padding_mode=name, align_corners=False
            )
        result = moved_planes.numpy()
        if whole:
            return result
        planes[chosen] = result
    return planes


def _fill_grid(grid: np.ndarray, back: np.ndarray, drawn: dict[str, float]) -> None:
    """Write where each output pixel comes from, x and y in -1..1 over the image's extent."""
    height, width = grid.shape[:2]
    x = np.arange(width) + (0.5 - width / 2)
    y = np.arange(height) + (0.5 - height / 2)
    for axis, side in enumerate((width, height)):
        along = ((back[axis, 0] * x + back[axis, 2]) * (2.0 / side)).astype(np.float32)
        down = (back[axis, 1] * y * (2.0 / side)).astype(np.float32)
        np.add(along[None, :], down[:, None], out=grid[..., axis])
    if drawn["elastic"] > 0:
        random = np.random.Generator(np.random.Philox(key=int(drawn["key"]) + 1))
        knots = random.uniform(-1.0, 1.0, (2, _ELASTIC_KNOTS, _ELASTIC_KNOTS)) * (2.0 * drawn["elastic"])
        for axis in range(2):
            grid[..., axis] += intensity.smooth(knots[axis], height, width)
