"""How alike two pictures or volumes are: SSIM, MS-SSIM and PSNR; and pairs to compare the images of a set by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from medgraft.seeds import generator

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, the finest first
_SIGMA, _RADIUS = 1.5, 5  # pixels of the Gaussian window, 11 wide
_ONE, _TWO = 0.01**2, 0.03**2  # of white, squared


def psnr(one: np.ndarray, two: np.ndarray, *, white: float = 1.0) -> float:
    """Get the peak signal-to-noise ratio in dB; infinite where both are equal."""
    error = float(np.mean((np.asarray(one, np.float64) - two) ** 2))
    return float("inf") if error == 0 else float(10 * np.log10(white**2 / error))


def ssim(one: np.ndarray, two: np.ndarray, *, white: float = 1.0) -> float:
    """Get the structural similarity of two images, 1 where they are equal.

    Args:
        one: `(C, [D,] H, W)`.
        two: the same shape.
        white: the difference of white and black.

    Source: Wang et al., IEEE Trans Image Process 2004;13:600, with the Gaussian window of 11 pixels.
    """
    return float(np.mean([_maps(a, b, white)[0].mean() for a, b in zip(one, two, strict=True)]))


def ms_ssim(one: np.ndarray, two: np.ndarray, *, white: float = 1.0) -> float:
    """Get the multi-scale structural similarity of two images, 1 where they are equal.

    Five scales where the shortest side allows (176 pixels), else as many as leave 11 pixels, their weights scaled to
    a sum of 1; so only figures of one size can be compared.

    Args:
        one: `(C, [D,] H, W)`.
        two: the same shape.
        white: the difference of white and black.

    Raises:
        ValueError: the images are smaller than 11 pixels, or differ in shape.

    Source: Wang et al., Asilomar 2003, p. 1398; of pairs of a set as in Khader et al., Sci Rep 2023;13:7303.
    """
    one, two = np.asarray(one, np.float64), np.asarray(two, np.float64)
    if one.shape != two.shape:
        raise ValueError(f"images of {one.shape} and {two.shape} are not compared")
    count = scales_of(one.shape[1:])
    weights = np.array(WEIGHTS[:count]) / sum(WEIGHTS[:count])
    return float(np.mean([_many(a, b, weights, white) for a, b in zip(one, two, strict=True)]))


def scales_of(shape: Sequence[int]) -> int:
    """Get at how many scales images of a shape are compared.

    Raises:
        ValueError: they are too small for one.
    """
    side, count = min(shape), 0
    while side >= 2 * _RADIUS + 1 and count < len(WEIGHTS):
        side, count = side // 2, count + 1
    if not count:
        raise ValueError(f"images of {tuple(shape)} are smaller than the window of {2 * _RADIUS + 1} pixels")
    return count


def _many(one: np.ndarray, two: np.ndarray, weights: np.ndarray, white: float) -> float:
    found = []
    for scale in range(len(weights)):
        whole, contrast = _maps(one, two, white)
        found.append(max(0.0, float((whole if scale == len(weights) - 1 else contrast).mean())))
        one, two = _halved(one), _halved(two)
    return float(np.prod(np.array(found) ** weights))


def _maps(one: np.ndarray, two: np.ndarray, white: float) -> tuple[np.ndarray, np.ndarray]:
    """SSIM, and its part of contrast and structure, at each place where the window fits."""
    inside = tuple(slice(_RADIUS, -_RADIUS or None) for _ in one.shape)

    def smooth(values: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(values, _SIGMA, radius=_RADIUS)[inside]

    first, second = smooth(one), smooth(two)
    both = smooth(one * two) - first * second
    spread = smooth(one * one) - first**2 + smooth(two * two) - second**2
    contrast = (2 * both + _TWO * white**2) / (spread + _TWO * white**2)
    light = (2 * first * second + _ONE * white**2) / (first**2 + second**2 + _ONE * white**2)
    return light * contrast, contrast


def _halved(image: np.ndarray) -> np.ndarray:
    """Means of two by two (by two) neighbours; an odd last one is left out."""
    even = image[tuple(slice(0, side - side % 2) for side in image.shape)]
    shape = [part for side in even.shape for part in (side // 2, 2)]
    return even.reshape(shape).mean(axis=tuple(range(1, 2 * even.ndim, 2)))


def pairs_of(count: int, *, most: int, seed: int, purpose: str) -> np.ndarray:
    """Draw different pairs of `count` images, (P, 2), at most `most` of them, without repeats."""
    every = np.stack(np.triu_indices(count, 1), axis=1)
    if len(every) <= most:
        return every
    return every[np.sort(generator(seed, purpose).choice(len(every), most, replace=False))]
