"""Pictures with structure in their middle alone, as films have it."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

SIDE = 64


def make_discs(count: int, channels: int = 1) -> np.ndarray:
    """Get `(count, channels, 64, 64)` float32: a disc with blurred noise on an empty ground."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    disc = (np.hypot(x, y) < 24).astype(np.float32)
    noise = np.random.default_rng(0).normal(size=(count, channels, SIDE, SIDE)).astype(np.float32)
    return disc * (1 + 0.6 * ndimage.gaussian_filter(noise, (0, 0, 1.5, 1.5)))
