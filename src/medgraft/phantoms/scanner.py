"""What a CT scanner adds: blur of the kernel and of the slice, and noise that depends on dose and body."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medgraft.phantoms import space
from medgraft.phantoms.space import Grid
from medgraft.phantoms.trunk import Build

KERNELS = {"soft": 0.75, "standard": 0.58, "lung": 0.42}  # standard deviation of the blur in mm
_NOISE = {"soft": 9.0, "standard": 15.0, "lung": 30.0}  # HU at standard dose in a mean body
_LOWEST = -1024.0


@dataclass(frozen=True)
class Scan:
    """How a scan was made.

    Attributes:
        kernel: one of `KERNELS`.
        dose: "standard" or "low".
        contrast: bool, whether blood is bright.
    """

    kernel: str
    dose: str
    contrast: bool


def protocol(rng: np.random.Generator) -> Scan:
    """Draw a protocol; a scan of low dose has no contrast medium, as in screening."""
    dose = str(rng.choice(["standard", "low"], p=[0.6, 0.4]))
    kernel = str(rng.choice(list(KERNELS), p=[0.3, 0.4, 0.3]))
    return Scan(kernel, dose, bool(rng.uniform() < 0.4 and dose == "standard"))


def taken(rng: np.random.Generator, grid: Grid, volume: np.ndarray, *, scan: Scan, body: Build) -> np.ndarray:
    """Get what the scanner stores of a body in HU, int16 `(D, H, W)`."""
    blur = KERNELS[scan.kernel]
    sigma = (0.35, max(0.3, blur / grid.spacing[1]), max(0.3, blur / grid.spacing[2]))
    volume = blurred(volume, sigma, sharp=0.35 if scan.kernel == "lung" else 0.0)  # a sharp kernel overshoots at edges
    level = _NOISE[scan.kernel] * (2.1 if scan.dose == "low" else 1.0) * rng.uniform(0.8, 1.2)
    level *= float(np.exp(0.006 * (body.fat - 17))) * np.sqrt(3.0 / grid.spacing[0]) ** 0.5
    volume += _grain(rng, grid, scan.kernel) * np.float32(level)
    out = np.clip(np.rint(volume), _LOWEST, 3071)
    return out.astype(np.int16)


def blurred(volume: np.ndarray, sigma: tuple[float, float, float], *, sharp: float = 0.0) -> np.ndarray:
    """Get a volume with a Gaussian blur, and with its edges lifted by `sharp` times what a small blur takes away.

    Args:
        volume: float32 `(D, H, W)`.
        sigma: standard deviation of the blur in voxels along each axis.
        sharp: 0 lifts nothing.
    """
    weights = [_taps(one) for one in sigma]
    out = np.empty_like(volume)
    for k in range(len(volume)):
        rows = np.clip(np.arange(len(weights[0])) - len(weights[0]) // 2 + k, 0, len(volume) - 1)
        layer = sum(weight * volume[row] for weight, row in zip(weights[0], rows, strict=True))
        layer = _along_rows(_along_rows(np.asarray(layer), weights[1]).T, weights[2])
        if sharp:
            small = _taps(0.8)
            layer = layer + np.float32(sharp) * (layer - _along_rows(_along_rows(layer, small).T, small).T)
        out[k] = layer.T
    return out


def _along_rows(layer: np.ndarray, weights: np.ndarray) -> np.ndarray:
    half = len(weights) // 2
    wide = np.pad(layer, ((half, half), (0, 0)), mode="edge")
    return np.asarray(sum(weight * wide[k : k + len(layer)] for k, weight in enumerate(weights)))


def _taps(sigma: float) -> np.ndarray:
    half = max(1, int(np.ceil(2.6 * sigma)))
    weights = np.exp(-0.5 * (np.arange(-half, half + 1) / sigma) ** 2)
    return (weights / weights.sum()).astype(np.float32)


def _grain(rng: np.random.Generator, grid: Grid, kernel: str) -> np.ndarray:
    """Get noise with the texture of the kernel, standard deviation 1 in the middle, less near the skin."""
    grain = rng.standard_normal(grid.shape, dtype=np.float32)
    wide = {"soft": 0.62, "standard": 0.45, "lung": 0.3}[kernel]
    grain = blurred(grain, (0.3, wide, wide), sharp=0.6 if kernel == "lung" else 0.0)
    grain *= np.float32(1 / max(float(grain[len(grain) // 2].std()), 1e-6))
    z, y, x = grid.axes()
    half = np.float32(grid.shape[1] * grid.spacing[1] / 2)
    rays = 1.15 - 0.75 * np.clip((y**2 + x**2) / half**2, 0, 1)
    up = z / np.float32(grid.shape[0] * grid.spacing[0])
    shoulders = 1 + np.float32(0.5) * space.cover((up - 0.36) * 10, 1.0)
    for k, layer in enumerate(grain):
        layer *= rays[0] * shoulders[k]
    return grain
