"""An endless plane seen through windows: what is painted at a place depends on the place alone.

So two windows agree, to the last bit, wherever they overlap, and a slide of
any size can be painted piece by piece. Positions are in micrometres; the pixel
in row r has its centre at `(r + 0.5) * pitch`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from medgraft.phantoms import paint
from medgraft.seeds import generator

_BLOCK = 32  # lattice points of noise that are drawn together
_GRAIN = 128  # pixels of grain that are drawn together


@dataclass(frozen=True)
class Plane:
    """Which of all planes: the one of this seed and number.

    Attributes:
        seed: of the set.
        number: of the plane.
        inner: centre (row, column) and radii (down, across) in um of the ellipse of the kidney's marrow; None where
            all is cortex.
    """

    seed: int
    number: int = 0
    inner: tuple[float, float, float, float] | None = None

    def rng(self, purpose: str, index: int | str = 0) -> np.random.Generator:
        """Get the generator of one purpose and place of this plane."""
        return generator(self.seed, f"phantom-plane-{purpose}", self.number, index)


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels of a plane.

    Attributes:
        top: row of its first pixel; may be negative.
        left: column of its first pixel.
        height: in pixels.
        width: in pixels.
        pitch: micrometres a pixel.
    """

    top: int
    left: int
    height: int
    width: int
    pitch: float = 1.0

    def grown(self, pixels: int) -> Window:
        """Get the window with a margin on all four sides."""
        return replace(
            self,
            top=self.top - pixels,
            left=self.left - pixels,
            height=self.height + 2 * pixels,
            width=self.width + 2 * pixels,
        )

    def rows_um(self) -> np.ndarray:
        """Get the position of each row, float64 `(height,)`."""
        return (np.arange(self.top, self.top + self.height) + 0.5) * self.pitch

    def columns_um(self) -> np.ndarray:
        """Get the position of each column, float64 `(width,)`."""
        return (np.arange(self.left, self.left + self.width) + 0.5) * self.pitch

    def ends_um(self) -> tuple[float, float, float, float]:
        """Get top, left, bottom and right edge."""
        bottom, right = self.top + self.height, self.left + self.width
        return self.top * self.pitch, self.left * self.pitch, bottom * self.pitch, right * self.pitch

    def part(self, centre: tuple[float, float], reach: float) -> tuple[slice, slice] | None:
        """Get which rows and columns lie within `reach` micrometres of a place, or None where none do."""
        slices = []
        for middle, start, count in zip(centre, (self.top, self.left), (self.height, self.width), strict=True):
            low = max(0, int(np.floor((middle - reach) / self.pitch)) - start)
            high = min(count, int(np.ceil((middle + reach) / self.pitch)) - start)
            if low >= high:
                return None
            slices.append(slice(low, high))
        return slices[0], slices[1]


def noise(
    plane: Plane, window: Window, *, name: str, bump_um: float, octaves: int = 1, keep: float = 0.5
) -> np.ndarray:
    """Get smooth noise `(height, width)` float32 with mean about 0 and standard deviation about 1.

    Args:
        plane: whose noise.
        window: where.
        name: other names, other noise.
        bump_um: width of a bump of the first octave.
        octaves: each further one has bumps of half the size.
        keep: weight of an octave relative to the one before.
    """
    total = np.zeros((window.height, window.width), np.float32)
    power, weight = 0.0, 1.0
    for octave in range(octaves):
        bump = bump_um / 2**octave
        if octave and bump < 1.2 * window.pitch:
            break  # finer than the pixels
        total += np.float32(weight) * _octave(plane, window, f"{name}-{octave}", bump)
        power += weight**2
        weight *= keep
    return total / np.float32(power**0.5)


def _octave(plane: Plane, window: Window, name: str, bump: float) -> np.ndarray:
    down, across = window.rows_um() / bump, window.columns_um() / bump
    first = int(np.floor(down[0])), int(np.floor(across[0]))
    count = int(np.floor(down[-1])) - first[0] + 4, int(np.floor(across[-1])) - first[1] + 4
    lattice = _lattice(plane, name, first, count)
    tall = _spread(lattice, down, first[0])
    return np.ascontiguousarray(_spread(np.ascontiguousarray(tall.T), across, first[1]).T)


def _spread(lattice: np.ndarray, place: np.ndarray, first: int) -> np.ndarray:
    """Interpolate along the first axis by a cubic B-spline."""
    cell = np.floor(place)
    weights = paint.spline_weights((place - cell).astype(np.float32))
    rows = cell.astype(int) - first
    total = lattice[rows]
    total *= weights[0][:, None]
    for k in range(1, 4):
        part = lattice[rows + k]
        part *= weights[k][:, None]
        total += part
    return total


def _lattice(plane: Plane, name: str, first: tuple[int, int], count: tuple[int, int]) -> np.ndarray:
    found = np.empty(count, np.float32)
    for i in range(first[0] // _BLOCK, (first[0] + count[0] - 1) // _BLOCK + 1):
        for j in range(first[1] // _BLOCK, (first[1] + count[1] - 1) // _BLOCK + 1):
            block = _normals(plane, name, i, j)
            top, left = i * _BLOCK - first[0], j * _BLOCK - first[1]
            rows = slice(max(0, top), min(count[0], top + _BLOCK))
            columns = slice(max(0, left), min(count[1], left + _BLOCK))
            found[rows, columns] = block[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    return found


@lru_cache(maxsize=4096)
def _normals(plane: Plane, name: str, i: int, j: int) -> np.ndarray:
    return plane.rng(name, f"{i}/{j}").standard_normal((_BLOCK, _BLOCK), dtype=np.float32)


def grain(plane: Plane, window: Window) -> np.ndarray:
    """Get noise of single pixels, `(height, width)` float32 with standard deviation 1."""
    found = np.empty((window.height, window.width), np.float32)
    for i in range(window.top // _GRAIN, (window.top + window.height - 1) // _GRAIN + 1):
        for j in range(window.left // _GRAIN, (window.left + window.width - 1) // _GRAIN + 1):
            block = plane.rng("grain", f"{i}/{j}").standard_normal((_GRAIN, _GRAIN), dtype=np.float32)
            top, left = i * _GRAIN - window.top, j * _GRAIN - window.left
            rows = slice(max(0, top), min(window.height, top + _GRAIN))
            columns = slice(max(0, left), min(window.width, left + _GRAIN))
            found[rows, columns] = block[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    return found
