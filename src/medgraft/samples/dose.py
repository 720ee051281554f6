"""Noise as fewer photons bring it: what an image would look like at a lower dose. For tests and benchmarks."""

from __future__ import annotations

import numpy as np

from medgraft import seeds

_REACH = 3.0  # natural logarithms between black, where all photons pass, and white: 5 % of them


def low_dose(shares: np.ndarray, *, photons: float, electronic: float = 5.0, seed: int, key: str = "") -> np.ndarray:
    """Get a radiograph at a lower dose: photons are counted behind the body, and the logarithm is shown again.

    Args:
        shares: `(C, [D,] H, W)` in 0 (black, nothing in the way) to 1 (white).
        photons: that reach a pixel where nothing is in the way; fewer are more noise.
        electronic: standard deviation of what the detector adds, in photons.
        seed: of the noise.
        key: of the image: another one, other noise.

    Returns:
        float32 of the same shape; noise may leave 0 to 1, and white has more of it than black.

    Source: the model of counts and electronic noise of Whiting et al., Med Phys 2006;33:3290.
    """
    dice = seeds.generator(seed, "dose", 0, key)
    passed = photons * np.exp(-_REACH * np.clip(np.asarray(shares, np.float64), 0, 1))
    counted = dice.poisson(passed) + electronic * dice.standard_normal(passed.shape)
    return (-np.log(np.maximum(counted, 0.5) / photons) / _REACH).astype(np.float32)


def few_counts(shares: np.ndarray, *, counts: float, electronic: float = 0.0, seed: int, key: str = "") -> np.ndarray:
    """Get an image whose brightness is counted, as in microscopy or nuclear medicine; arguments as in `low_dose`.

    Args:
        shares: `(C, [D,] H, W)` in 0 to 1.
        counts: of a pixel that is white.
        electronic: standard deviation of what the detector adds, in counts.
        seed: of the noise.
        key: of the image.
    """
    dice = seeds.generator(seed, "counts", 0, key)
    wanted = counts * np.clip(np.asarray(shares, np.float64), 0, 1)
    counted = dice.poisson(wanted) + electronic * dice.standard_normal(wanted.shape)
    return (counted / counts).astype(np.float32)
