"""The outline of a round body: a circle that some slow waves have pushed and drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medgraft.phantoms.canvas import Canvas
from medgraft.phantoms.cortex import Body

_AROUND = 26.0  # um beside a body that belong to it: a coat, a bent outline
_SWING = {"glomerulus": 0.05, "sclerosed": 0.08, "artery": 0.07, "arteriole": 0.05, "vein": 0.16, "dilated": 0.09}


@dataclass(frozen=True, eq=False)
class Round:
    """A body's surroundings on a canvas.

    Attributes:
        where: rows and columns of the canvas.
        down: `(h, w)` um from the centre.
        across: the same for columns.
        away: distance from the centre.
        angle: radians around the centre.
        depth: um below the outline; negative outside.
    """

    where: tuple[slice, slice]
    down: np.ndarray
    across: np.ndarray
    away: np.ndarray
    angle: np.ndarray
    depth: np.ndarray


def round_of(canvas: Canvas, body: Body) -> Round | None:
    """Get the outline of a body where it may be seen on a canvas, None where it is not."""
    where = canvas.window.part(body.centre, body.radius * 1.25 + _AROUND)
    if where is None:
        return None
    down = canvas.y[where] - np.float32(body.centre[0])
    across = canvas.x[where] - np.float32(body.centre[1])
    away = np.sqrt(down * down + across * across)
    angle = np.arctan2(down, across)
    rng = canvas.plane.rng("outline", body.key)
    swing = _SWING.get(body.kind, 0.1)
    radius = np.full(away.shape, body.radius, np.float32)
    for waves in (2, 3, 5):
        phase, size = rng.uniform(0, 2 * np.pi), swing * rng.normal(0, 1) / waves**0.7
        radius += np.float32(body.radius * np.clip(size, -0.12, 0.12)) * np.cos(waves * angle + np.float32(phase))
    return Round(where, down, across, away, angle, radius - away)


def area_of(body: Body) -> float:
    """Get about how large a body is, in square micrometres."""
    return float(np.pi * body.radius**2)
