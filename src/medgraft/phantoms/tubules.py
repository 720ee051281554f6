"""Tubules back to back: who owns a pixel, how deep below its basement membrane it lies, and what is there."""

from __future__ import annotations

import numpy as np

from medgraft.phantoms import canvas as cv
from medgraft.phantoms import endless, paint
from medgraft.phantoms.canvas import Canvas
from medgraft.phantoms.cortex import PROXIMAL, Habit, Tubules, tubules_in

_FAR = np.float32(60.0)
_SLACK = np.float32(11.0)  # um that a tubule spreads beyond its radius where there is room
# By kind: height of the cells in um, how much of each dye they take.
_HEIGHT = np.array([19.0, 8.5, 9.0, 6.5])
_CYTOPLASM = np.array([1.0, 0.42, 0.25, 0.6])
_PALE = np.array([0.0, 0.5, 0.55, 0.3])
_ALL = (slice(None), slice(None))


def paint_tubules(canvas: Canvas, habit: Habit, *, room: np.ndarray) -> None:
    """Fill a canvas with tubules and what is between them.

    Args:
        canvas: blank; what it is made of is added.
        habit: of the kidney.
        room: `(H, W)` um, distance to the nearest body; tubules keep off where it is below 0.
    """
    tubules = tubules_in(canvas.plane, canvas.window)
    depth, owner = _owned(canvas, tubules)
    spread = endless.noise(canvas.plane, canvas.window, name="fibrosis", bump_um=120.0)
    gap = np.float32(0.9 + 4.6 * habit.fibrosis) + np.float32(0.4 + 3.4 * habit.fibrosis) * np.maximum(spread, -1)
    depth = np.minimum(depth, room)
    depth -= np.maximum(gap, np.float32(0.7))
    kind = tubules.kind.astype(int)

    def each(values: np.ndarray) -> np.ndarray:
        """Get what belongs to its tubule at each pixel."""
        return np.take(values.astype(np.float32), owner)

    height = each(_HEIGHT[kind] * (1 - 0.17 * np.clip(tubules.lumen, -2, 2.4)))
    proximal = each(kind == PROXIMAL)
    fluff = np.float32(0.8) + np.float32(2.6) * proximal  # a proximal tubule has no sharp inner border
    inner = depth - height
    inner += np.float32(0.55) * fluff * canvas.fine
    inside = cv.edge(depth, 0.0, soft=0.7)
    lumen = inside * paint.ramp(inner, (-fluff, fluff))
    cells = inside - lumen
    # Cells are a little paler towards the lumen, where they swell.
    cells *= (1 + np.float32(0.13) * canvas.fine) * (1.1 - np.float32(0.2) * np.clip(depth / height, 0, 1))
    strength = 1 + 0.11 * np.clip(tubules.tint, -2.5, 2.5)
    canvas.add("cytoplasm", _ALL, cells * each(_CYTOPLASM[kind] * strength))
    canvas.add("pale", _ALL, cells * each(_PALE[kind] * strength))
    canvas.add("brush", _ALL, paint.ramp(np.abs(inner + 1.5), (3.4, 0.4)) * inside * proximal)
    canvas.add("membrane", _ALL, 0.88 * cv.line(depth, 0.0, width=0.85))
    _between(canvas, habit, inside=inside, spread=spread)
    # Slender cells have room for a nucleus only below their lumen.
    canvas.place[:] = np.where(depth > 0, np.where(proximal > 0, cv.CELLS_PROXIMAL, cv.CELLS_DISTAL), cv.STROMA)
    canvas.place[(inner > fluff) & (depth > 0)] = cv.NOWHERE
    canvas.rim[:] = depth


def _between(canvas: Canvas, habit: Habit, *, inside: np.ndarray, spread: np.ndarray) -> None:
    """Paint the interstitium: collagen, loose or firm."""
    outside = 1 - inside
    rough = endless.noise(canvas.plane, canvas.window, name="strands", bump_um=11.0, octaves=2)
    firm = np.clip(0.42 + 0.5 * habit.fibrosis + 0.12 * spread + 0.2 * rough, 0.05, 1.15).astype(np.float32)
    canvas.add("collagen", _ALL, outside * firm)


def _owned(canvas: Canvas, tubules: Tubules) -> tuple[np.ndarray, np.ndarray]:
    """Get the depth of each pixel in um, half the way to the next tubule at most, and the tubule that owns it."""
    shape = canvas.y.shape
    first, second = np.full(shape, _FAR, np.float32), np.full(shape, _FAR, np.float32)
    owner = np.zeros(shape, np.int32)
    for number in range(len(tubules.row)):
        centre = (float(tubules.row[number]), float(tubules.column[number]))
        half, radius = float(tubules.half[number]), float(tubules.radius[number])
        sine, cosine = float(np.sin(tubules.turn[number])), float(np.cos(tubules.turn[number]))
        where = canvas.window.part(centre, half + radius + 22.0)
        if where is None:
            continue
        down = canvas.y[where] - np.float32(centre[0])
        across = canvas.x[where] - np.float32(centre[1])
        if half > 5:
            along = down * np.float32(sine) + across * np.float32(cosine)
            along = np.clip(along, np.float32(-half), np.float32(half))
            down -= along * np.float32(sine)
            across -= along * np.float32(cosine)
        down *= down
        across *= across
        down += across
        away = np.sqrt(down, out=down)
        away -= np.float32(radius)
        mine, next_ = first[where], second[where]
        np.copyto(owner[where], number, where=away < mine)
        np.minimum(next_, np.maximum(mine, away), out=next_)
        np.minimum(mine, away, out=mine)
    return np.minimum((second - first) * np.float32(0.5), _SLACK - first), owner
