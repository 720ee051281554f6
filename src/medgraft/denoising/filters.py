"""Filters that learn nothing: median, bilateral, non-local means, total variation, wavelets; and their strengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from medgraft.denoising.planes import Levels, blind_error

FILTERS = ("median", "bilateral", "nlmeans", "tv", "wavelet")
STRENGTHS = (0.5, 0.75, 1.0, 1.5, 2.0)
_PART = 96  # pixels of a plane's side by which a strength is chosen
_SCALES = 4


@dataclass(frozen=True)
class Filter:
    """A filter, plane by plane.

    Attributes:
        name: one of FILTERS.
        strength: 1 is what its authors give for the noise.
    """

    name: str
    strength: float = 1.0

    def clean(self, solid: np.ndarray, levels: Levels) -> np.ndarray:
        """Get `(D, H, W)` without its noise."""
        if levels.noise <= 0:
            return solid.astype(np.float32)
        # Filters of scikit-image want numbers around 0 to 1.
        shares = (solid.astype(np.float64) - levels.low) / levels.white
        noise = levels.noise / levels.white
        found = np.stack([_filtered(plane, self.name, noise, self.strength) for plane in shares])
        return (found * levels.white + levels.low).astype(np.float32)


def _filtered(plane: np.ndarray, name: str, noise: float, strength: float) -> np.ndarray:
    from skimage import restoration

    if name == "median":
        return ndimage.median_filter(plane, size=3 if strength <= 1 else 5)
    if name == "bilateral":
        low = float(plane.min())  # it takes no numbers below zero
        words = {"sigma_color": 2 * strength * noise, "sigma_spatial": 1.5, "win_size": 7}
        return restoration.denoise_bilateral(plane - low, **words) + low
    if name == "nlmeans":
        words = {"h": 0.8 * strength * noise, "sigma": noise, "patch_size": 5, "patch_distance": 6}
        return restoration.denoise_nl_means(plane, fast_mode=True, **words)
    if name == "tv":
        return restoration.denoise_tv_chambolle(plane, weight=strength * noise)
    return shrunk(plane, strength * noise)


def shrunk(plane: np.ndarray, noise: float) -> np.ndarray:
    """Get a plane `(H, W)` whose details are shrunk by what their noise is, at four scales: Haar, all shifts.

    Source: BayesShrink, Chang, Yu and Vetterli, IEEE Trans Image Process 2000;9:1532; without decimation, Coifman and
        Donoho, 1995, Lecture Notes in Statistics 103:125.
    """
    coarse, details = np.asarray(plane, np.float64), []
    for scale in range(_SCALES):
        step = 2**scale
        if 2 * step >= min(plane.shape):
            break
        rows = _parted(coarse, step, 0)
        (low, across), (down, both) = (_parted(one, step, 1) for one in rows)
        # Each mean of two by two pixels that share no noise halves it.
        level = noise / 2 ** (scale + 1)
        details.append([_shrink(one, level) for one in (across, down, both)])
        coarse = low
    for scale in reversed(range(len(details))):
        across, down, both = details[scale]
        step = 2**scale
        coarse = _joined(_joined(coarse, across, step, 1), _joined(down, both, step, 1), step, 0)
    return coarse


def _parted(values: np.ndarray, step: int, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Half the sum and half the difference of each pixel and the one `step` further, mirrored at the end."""
    after = [(0, 0), (0, 0)]
    after[axis] = (0, step)
    further = np.take(np.pad(values, after, mode="symmetric"), np.arange(values.shape[axis]) + step, axis)
    return (values + further) / 2, (values - further) / 2


def _joined(low: np.ndarray, high: np.ndarray, step: int, axis: int) -> np.ndarray:
    """What `_parted` parted: the mean of what both pairs that hold a pixel say of it."""
    first = low + high
    places = np.arange(low.shape[axis]) - step
    second = np.take(low - high, np.maximum(places, 0), axis)
    shape = [1, 1]
    shape[axis] = -1
    return np.where((places < 0).reshape(shape), first, (first + second) / 2)


def _shrink(detail: np.ndarray, noise: float) -> np.ndarray:
    signal = max(float(np.mean(detail**2)) - noise**2, 0.0) ** 0.5
    if signal == 0:
        return np.zeros_like(detail)
    return np.sign(detail) * np.maximum(np.abs(detail) - noise**2 / signal, 0)


def settled(name: str, planes: Sequence[tuple[np.ndarray, Levels]]) -> tuple[Filter, float]:
    """Get a filter of the strength that foretells hidden pixels best, and its error in powers of the noise.

    Args:
        name: of the filter.
        planes: noisy ones `(H, W)`, with their levels; their middle parts are looked at.
    """
    found = []
    for strength in (1.0, 2.0) if name == "median" else STRENGTHS:
        way = Filter(name, strength)
        errors = [
            blind_error(middle(plane, _PART), way, levels) / levels.noise**2
            for plane, levels in planes
            if levels.noise > 0
        ]
        found.append((float(np.mean(errors)) if errors else 1.0, strength))
    error, strength = min(found)
    return Filter(name, strength), error


def middle(plane: np.ndarray, side: int) -> np.ndarray:
    """Get the middle part of `(H, W)`, no side above `side`."""
    starts = [max(0, (own - side) // 2) for own in plane.shape]
    return plane[starts[0] : starts[0] + side, starts[1] : starts[1] + side]
