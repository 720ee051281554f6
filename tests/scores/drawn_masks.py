"""Masks with known answers for the tests of their scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st


def ball(shape: Sequence[int], centre: Sequence[float], radius: float, *, spacing: Sequence[float] = ()) -> np.ndarray:
    """Whether the middle of each voxel lies within a radius, in the unit of the spacing; with two axes a disc."""
    steps = tuple(spacing) or (1.0,) * len(shape)
    axes = np.ogrid[tuple(slice(0, side) for side in shape)]
    return sum((axis * step - at) ** 2 for axis, step, at in zip(axes, steps, centre, strict=True)) <= radius**2


def box(shape: Sequence[int], low: Sequence[int], high: Sequence[int]) -> np.ndarray:
    """A box from corner to corner, the high one left out."""
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    return mask


@st.composite
def pairs_of_masks(draw: st.DrawFn, *, empty: bool = False) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
    """Two random masks of one shape, in planes or volumes, and a spacing."""
    axes = draw(st.integers(2, 3))
    shape = draw(st.tuples(*[st.integers(1, 7)] * axes))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    first, second = (random.random(shape) < random.choice([0.1, 0.4, 0.8]) for _ in range(2))
    if not empty:
        first.flat[random.integers(first.size)] = second.flat[random.integers(first.size)] = True
    return first, second, tuple(random.choice([0.5, 0.7, 1.0, 2.0, 3.3], axes).tolist())
