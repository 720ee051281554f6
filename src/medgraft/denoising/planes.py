"""An image as planes, its levels, windows of it, and what a way of taking noise away gets and gives."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from medgraft.samples.noise import noise_of
from medgraft.values import Image

_AT_ONCE, _PIXELS = 16, 2**19  # windows, and pixels of them, that are looked at together: nets keep many maps of them


@dataclass(frozen=True)
class Levels:
    """What the values of an image mean.

    Attributes:
        low: black.
        high: white.
        mean: of the whole image.
        spread: its standard deviation.
        noise: standard deviation of the noise, as estimated or as told.
    """

    low: float
    high: float
    mean: float
    spread: float
    noise: float

    @property
    def white(self) -> float:
        """Get the difference of white and black."""
        return max(self.high - self.low, 1e-12)


class Way(Protocol):
    """A way of taking noise away."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    def clean(self, solid: np.ndarray, levels: Levels) -> np.ndarray:
        """Get one channel `(D, H, W)` float32 without its noise, in its own unit; of a picture D is 1."""
        ...


def levels_of(image: Image, *, noise: float | None = None) -> Levels:
    """Get the levels of an image; the noise is estimated where it is not told."""
    low, high = image.range
    mean, spread = float(image.pixels.mean(dtype=np.float64)), float(image.pixels.std(dtype=np.float64))
    return Levels(low, high, mean, max(spread, 1e-6), noise_of(image.pixels) if noise is None else noise)


def solids_of(pixels: np.ndarray) -> list[np.ndarray]:
    """Get each channel of `(C, [D,] H, W)` as `(D, H, W)`; one alone where all are equal."""
    equal = len(pixels) > 1 and bool((pixels == pixels[:1]).all())
    return [one if one.ndim == 3 else one[None] for one in (pixels[:1] if equal else pixels)]


def cleaned_pixels(pixels: np.ndarray, way: Way, levels: Levels) -> np.ndarray:
    """Get an image `(C, [D,] H, W)` without its noise, channel by channel, float32."""
    found = np.stack([way.clean(one, levels) for one in solids_of(pixels)]).astype(np.float32)
    found = found.reshape(len(found), *pixels.shape[1:])
    return np.repeat(found, len(pixels), axis=0) if len(found) < len(pixels) else found


def windowed(
    values: np.ndarray,
    window: Sequence[int],
    work: Callable[[np.ndarray], np.ndarray],
    *,
    overlap: int | None = None,
) -> np.ndarray:
    """Let a function of windows work on all of an image, and lay what it gives together.

    Windows overlap and weigh less towards their rims; an image that is smaller is mirrored at its ends.

    Args:
        values: of any number of axes.
        window: as many sides.
        work: windows `(N, ...)` -> the same shape.
        overlap: pixels of a side that neighbouring windows share at least; None is a half.
    """
    missing = [max(0, side - own) for side, own in zip(window, values.shape, strict=True)]
    # Around the last pixel, not behind it: what a net is not shown must not stand beside it once more.
    whole = np.pad(values, [(0, one) for one in missing], mode="reflect")
    steps = [max(1, side // 2 if overlap is None else side - overlap) for side in window]
    starts = [_starts(*one) for one in zip(whole.shape, window, steps, strict=True)]
    places = list(itertools.product(*starts))
    if len(places) == 1:
        return work(whole[None])[0][tuple(slice(0, own) for own in values.shape)]
    total, weights = np.zeros(whole.shape, np.float64), np.zeros(whole.shape, np.float64)
    weight = np.ones(tuple(window))
    for axis, side in enumerate(window):
        ramp = np.minimum(np.arange(side) + 0.5, side - np.arange(side) - 0.5) / (side / 2)
        weight = weight * ramp.reshape([-1 if axis == k else 1 for k in range(len(window))])
    each = max(1, min(_AT_ONCE, _PIXELS // math.prod(window)))
    for first in range(0, len(places), each):
        cuts = [tuple(slice(a, a + n) for a, n in zip(one, window, strict=True)) for one in places[first:][:each]]
        for cut, made in zip(cuts, work(np.stack([whole[cut] for cut in cuts])), strict=True):
            total[cut] += weight * made
            weights[cut] += weight
    found = (total / weights).astype(np.float32)
    return found[tuple(slice(0, own) for own in values.shape)]


def _starts(own: int, side: int, step: int) -> list[int]:
    """Where windows begin along an axis: evenly, the last one at the end."""
    count = 1 + -(-(own - side) // step)
    return [round(k * (own - side) / max(1, count - 1)) for k in range(count)]


def donut(plane: np.ndarray) -> np.ndarray:
    """Get of each pixel of `(H, W)` the mean of its four neighbours; mirrored at the ends."""
    wide = np.pad(plane, 1, mode="reflect")
    return (wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:]) / 4


def blind_error(plane: np.ndarray, way: Way, levels: Levels, *, every: int = 4, phases: int = 4) -> float:
    """Get the mean squared error by which a way foretells pixels of a noisy plane `(H, W)` that it is not shown.

    It is the error to the image without noise plus the power of the noise, so that ways are compared, and chosen,
    without any clean image.

    Args:
        plane: noisy.
        way: what is asked.
        levels: of the image.
        every: one pixel in so many along both axes is hidden.
        phases: how many of such grids are asked.

    Source: Batson and Royer, ICML 2019, p. 524 (Noise2Self), equation 2.
    """
    around, errors = donut(plane), []
    for number in range(phases):
        # Spread evenly over the grids that there are, so that few of them are not neighbours.
        down, across = divmod(number * (every * every // phases) + number, every)
        spots = np.zeros(plane.shape, bool)
        spots[down % every :: every, across::every] = True
        said = way.clean(np.where(spots, around, plane)[None].astype(np.float32), levels)[0]
        errors.append(float(np.mean((said[spots] - plane[spots]) ** 2)))
    return float(np.mean(errors))


def told(levels: Levels, noise: float) -> Levels:
    """Get the same levels with another noise."""
    return replace(levels, noise=noise)
