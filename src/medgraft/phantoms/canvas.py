"""What tissue is made of at each pixel of a window, before any dye."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from medgraft.phantoms import endless, paint
from medgraft.phantoms.endless import Plane, Window

COMPONENTS = ("cytoplasm", "pale", "collagen", "matrix", "membrane", "muscle", "brush", "cast", "blood", "nucleus")
# What a nucleus may lie in; `Canvas.place` says which of them each pixel is.
NOWHERE, CELLS_PROXIMAL, CELLS_DISTAL, STROMA, TUFT, CAPSULE, WALL, SCAR = range(8)


@dataclass(eq=False)
class Canvas:
    """A window of tissue while it is painted.

    Attributes:
        plane: whose tissue.
        window: where.
        y: `(H, W)` float32 um, the row of each pixel, bent a little so that nothing has the outline of a compass.
        x: its column.
        fine: `(H, W)` noise with bumps of 5 um.
        parts: component -> `(H, W)` float32, how much of it there is, about 0..1.
        place: `(H, W)` uint8, what kind of cells may have a nucleus there.
        rim: `(H, W)` float32 um, depth below the border of the part that nuclei line up along.
        truth: `(H, W)` int32, 0, or 1 + the number of the body of `bodies` that is there.
    """

    plane: Plane
    window: Window
    y: np.ndarray
    x: np.ndarray
    fine: np.ndarray
    place: np.ndarray
    rim: np.ndarray
    truth: np.ndarray
    parts: dict[str, np.ndarray] = field(default_factory=dict)

    def clear(self, where: tuple[slice, slice], cover: np.ndarray) -> None:
        """Take out what was painted, by how much `cover` says."""
        rest = 1 - cover
        for name in COMPONENTS:
            self.parts[name][where] *= rest

    def add(self, name: str, where: tuple[slice, slice], amount: np.ndarray) -> None:
        """Add an amount of a component, `(H, W)` of the part `where`."""
        self.parts[name][where] += amount


def blank(plane: Plane, window: Window) -> Canvas:
    """Get a canvas without anything on it."""
    y, x = bent(plane, window)
    shape = (window.height, window.width)
    return Canvas(
        plane=plane,
        window=window,
        y=y,
        x=x,
        fine=endless.noise(plane, window, name="fine", bump_um=5.0, octaves=2),
        place=np.zeros(shape, np.uint8),
        rim=np.zeros(shape, np.float32),
        truth=np.zeros(shape, np.int32),
        parts={name: np.zeros(shape, np.float32) for name in COMPONENTS},
    )


def bent(plane: Plane, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Get the bent row and column of each pixel in um, float32 `(H, W)` each."""
    down = endless.noise(plane, window, name="bend-down", bump_um=34.0, octaves=2, keep=0.35)
    across = endless.noise(plane, window, name="bend-across", bump_um=34.0, octaves=2, keep=0.35)
    down *= np.float32(3.2)
    across *= np.float32(3.2)
    down += window.rows_um().astype(np.float32)[:, None]
    across += window.columns_um().astype(np.float32)[None, :]
    return down, across


def edge(depth: np.ndarray, start: float, *, soft: float = 0.8) -> np.ndarray:
    """Get 0 where `depth` is below `start` and 1 where above, with a soft step of `soft` um to both sides."""
    return paint.ramp(depth, (start - soft, start + soft))


def line(depth: np.ndarray, middle: float, *, width: float) -> np.ndarray:
    """Get a line of this width in um along the places where `depth` is `middle`, 1 on it and 0 off it."""
    away = np.abs(depth - np.float32(middle))
    return paint.ramp(away, (width * 0.5 + 0.55, width * 0.5 - 0.35))


def cells(
    canvas: Canvas, where: tuple[slice, slice], *, key: str, size: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Part a place into small cells as soap bubbles are.

    Args:
        canvas: whose pixels.
        where: rows and columns.
        key: other keys, other cells.
        size: um across a cell.

    Returns:
        depth below the border to the nearest other cell in um, a number of 0..1 that each cell has for itself, and
        the distance from its middle in um.
    """
    y, x = canvas.y[where], canvas.x[where]
    best, second = np.full(y.shape, 1e9, np.float32), np.full(y.shape, 1e9, np.float32)
    own = np.zeros(y.shape, np.float32)
    row, column = np.floor(y / np.float32(size)).astype(np.int32), np.floor(x / np.float32(size)).astype(np.int32)
    first = int(row.min()) - 1, int(column.min()) - 1
    count = int(row.max()) - first[0] + 2, int(column.max()) - first[1] + 2
    spots = _spots(canvas.plane, key, first, count)
    flat = (row - first[0]) * count[1] + (column - first[1])
    for step in [a * count[1] + b for a in (-1, 0, 1) for b in (-1, 0, 1)]:
        index = flat + step
        down = y - np.take(spots[0], index) * np.float32(size)
        across = x - np.take(spots[1], index) * np.float32(size)
        away = np.sqrt(down * down + across * across)
        np.copyto(own, np.take(spots[2], index), where=away < best)
        np.minimum(second, np.maximum(best, away), out=second)
        np.minimum(best, away, out=best)
    return (second - best) * np.float32(0.5), own, best


def _spots(plane: Plane, key: str, first: tuple[int, int], count: tuple[int, int]) -> np.ndarray:
    """Get `(3, cells)`: row and column in cells, and the cell's own number; of a lattice that begins at `first`."""
    block = 16
    found = np.empty((3, *count), np.float32)
    for i in range(first[0] // block, (first[0] + count[0] - 1) // block + 1):
        for j in range(first[1] // block, (first[1] + count[1] - 1) // block + 1):
            drawn = plane.rng(f"cells-{key}", f"{i}/{j}").uniform(0, 1, (3, block, block)).astype(np.float32)
            drawn[:2] = 0.5 + 0.82 * (drawn[:2] - 0.5)
            drawn[0] += np.arange(i * block, (i + 1) * block, dtype=np.float32)[:, None]
            drawn[1] += np.arange(j * block, (j + 1) * block, dtype=np.float32)[None, :]
            top, left = i * block - first[0], j * block - first[1]
            rows = slice(max(0, top), min(count[0], top + block))
            columns = slice(max(0, left), min(count[1], left + block))
            found[:, rows, columns] = drawn[
                :, rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
            ]
    return found.reshape(3, -1)
