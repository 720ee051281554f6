"""The pieces of tissue that lie on a slide: a section of a whole small kidney, or cores of a needle."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from medgraft.phantoms import endless
from medgraft.phantoms.endless import Plane, Window

PIECES = ("kidney", "cores")
Tissue = Callable[[Window, np.ndarray, np.ndarray], np.ndarray]
"""(window, bent rows, bent columns) -> `(H, W)` um, how deep in the tissue each pixel lies; negative on glass."""


def piece_of(plane: Plane, kind: str, *, extent: tuple[float, float]) -> tuple[Plane, Tissue]:
    """Get the plane, with its marrow where the piece has one, and where there is tissue.

    Args:
        plane: whose random numbers are used.
        kind: one of `PIECES`.
        extent: height and width of the slide in um.
    """
    rng = plane.rng("piece")
    if kind == "kidney":
        return _kidney(plane, rng, extent)
    return plane, _cores(plane, rng, extent)


def _ragged(plane: Plane, window: Window) -> np.ndarray:
    rough = endless.noise(plane, window, name="border", bump_um=260.0, octaves=4, keep=0.45)
    return np.float32(22.0) * rough


def _kidney(plane: Plane, rng: np.random.Generator, extent: tuple[float, float]) -> tuple[Plane, Tissue]:
    """A bean: an ellipse with a dent where the vessels enter, cortex around marrow."""
    height, width = extent
    row, column = height * rng.uniform(0.46, 0.54), width * rng.uniform(0.46, 0.54)
    down, across = height * rng.uniform(0.34, 0.41), width * rng.uniform(0.28, 0.36)
    side = rng.choice([-1.0, 1.0])
    dent, notch = column + side * across * 1.12, min(down, across) * rng.uniform(0.3, 0.42)
    inner = (row, column + side * 0.3 * across, down * 0.5, across * 0.52)

    def tissue(window: Window, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Depth below the border of the bean."""
        away = np.hypot((y - np.float32(row)) / np.float32(down), (x - np.float32(column)) / np.float32(across))
        depth = (1 - away) * np.float32(min(down, across))
        hilum = np.hypot((y - np.float32(row)) * np.float32(0.8), x - np.float32(dent)) - np.float32(notch)
        return np.minimum(depth, hilum) + _ragged(plane, window)

    return Plane(plane.seed, plane.number, inner), tissue


def _cores(plane: Plane, rng: np.random.Generator, extent: tuple[float, float]) -> Tissue:
    """One to three bent strips of about a millimetre, lying along the longer side of the slide."""
    upright = extent[0] > extent[1]
    length, breadth = max(extent), min(extent)
    width = min(rng.uniform(800, 1100), 0.6 * breadth)
    count = int(np.clip(rng.integers(1, 4), 1, max(1, breadth // (width * 1.7))))
    lanes = (np.arange(count) + 0.5) * breadth / count
    cores = []
    for lane in lanes:
        half = length * rng.uniform(0.3, 0.44)
        spare = max(0.0, breadth / count - width) * 0.5
        bend = rng.uniform(-0.6, 0.6) * spare / half**2
        cores.append((lane, length * rng.uniform(0.47, 0.53), half, bend, width * rng.uniform(0.85, 1.0) / 2))

    def tissue(window: Window, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Depth below the border of the nearest core."""
        along, beside = (y, x) if upright else (x, y)
        found = np.full(y.shape, -np.inf, np.float32)
        for lane, middle, half, bend, thick in cores:
            place = along - np.float32(middle)
            sideways = np.abs(beside - np.float32(lane) - np.float32(bend) * place * place)
            found = np.maximum(found, np.minimum(np.float32(thick) - sideways, np.float32(half) - np.abs(place)))
        return found + _ragged(plane, window)

    return tissue
