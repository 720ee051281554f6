"""A glomerulus: capsule, white space, a tuft of capillary loops in lobules; or the scar that is left of one."""

from __future__ import annotations

import numpy as np

from medgraft.phantoms import canvas as cv
from medgraft.phantoms import paint
from medgraft.phantoms.canvas import Canvas
from medgraft.phantoms.cortex import Body
from medgraft.phantoms.outline import Round


def paint_glomerulus(canvas: Canvas, body: Body, form: Round) -> np.ndarray:
    """Paint one, and get where it is: bool `(h, w)` of the part `form.where`, to the outer edge of its capsule."""
    rng = canvas.plane.rng("glomerulus", body.key)
    depth, fine = form.depth, canvas.fine[form.where]
    # A little collagen around, then nothing of the tubules.
    ring = float(rng.uniform(5.0, 12.0) if body.kind == "sclerosed" else rng.uniform(0.6, 2.5))
    coat = cv.edge(depth, -ring, soft=1.2)
    wide = cv.edge(depth, 0.0)
    canvas.clear(form.where, coat)
    canvas.add("collagen", form.where, (coat - wide) * (0.55 + 0.1 * fine))
    thick = float(rng.uniform(1.4, 2.2) * (1.7 if body.kind == "sclerosed" else 1.0))
    canvas.add("membrane", form.where, cv.line(depth, thick * 0.5, width=thick))
    canvas.place[form.where][coat > 0.3] = cv.STROMA
    inside = depth > 0
    canvas.place[form.where][inside] = cv.NOWHERE
    canvas.place[form.where][(depth > thick) & (depth < thick + 4)] = cv.CAPSULE
    canvas.rim[form.where] = np.where(coat > 0.3, depth, canvas.rim[form.where])
    within = np.where(inside, _tuft_depth(rng, body, form, fine), np.float32(-99))
    if body.kind == "sclerosed":
        _scar(canvas, form, within, rng=rng)
    else:
        _tuft(canvas, form, within, rng=rng)
    return inside


def _tuft_depth(rng: np.random.Generator, body: Body, form: Round, fine: np.ndarray) -> np.ndarray:
    """Get the depth in um below the surface of the tuft: a union of lobules on a stalk, off the capsule."""
    old = body.kind == "sclerosed"
    space = float(rng.uniform(1.5, 4.0) if old else rng.uniform(2.5, 7.0) + 0.05 * body.radius * rng.uniform(0.0, 2.2))
    radius = body.radius - space
    pole = np.array([np.sin(body.turn), np.cos(body.turn)])
    shift = pole * space * 0.7
    count = int(rng.integers(6, 10))
    angles = body.turn + np.arange(count) * 2 * np.pi / count + rng.uniform(-0.25, 0.25, count)
    reach, size = rng.uniform(0.5, 0.62, count) * radius, rng.uniform(0.36, 0.47, count) * radius
    rows = np.concatenate([[0.0, pole[0] * 0.55 * body.radius], np.sin(angles) * reach]) + shift[0]
    columns = np.concatenate([[0.0, pole[1] * 0.55 * body.radius], np.cos(angles) * reach]) + shift[1]
    sizes = np.concatenate([[0.5 * radius, 0.42 * body.radius], size])
    if old:
        sizes = sizes * 1.12
    found = np.full(form.depth.shape, -99, np.float32)
    for row, column, own in zip(rows, columns, sizes, strict=True):
        down, across = form.down - np.float32(row), form.across - np.float32(column)
        found = np.maximum(found, np.float32(own) - np.sqrt(down * down + across * across))
    return np.minimum(found + 0.7 * fine, form.depth - np.float32(1.6))


def _tuft(canvas: Canvas, form: Round, within: np.ndarray, *, rng: np.random.Generator) -> None:
    """Capillary loops: open lumens with a thin membrane, held by mesangium, with red cells in some."""
    size = float(rng.uniform(11.0, 14.0))
    depth, own, away = cv.cells(canvas, form.where, key="capillary", size=size)
    fine = canvas.fine[form.where]
    tuft = cv.edge(within, 0.0, soft=0.7)
    # The wall is thin at the surface of the tuft and thick between loops, in the mesangium.
    wall = np.float32(rng.uniform(0.8, 1.4)) + np.float32(rng.uniform(0.4, 0.9)) * np.maximum(fine + 0.6, 0)
    wall = wall + np.where(own < 0.26, np.float32(9), np.float32(0))  # cells of the net that are no loop but mesangium
    loop = np.minimum(np.minimum(depth - wall, (0.3 + 0.22 * own) * size - away + 0.5 * fine), within - 1.9)
    lumen = tuft * paint.ramp(loop, (-0.8, 0.8))
    solid = tuft - lumen
    canvas.add("matrix", form.where, solid * (0.55 + 0.16 * fine) * cv.edge(within, 1.2, soft=1.5))
    canvas.add("pale", form.where, solid * (0.55 + 0.14 * fine) + 0.16 * lumen)
    canvas.add("membrane", form.where, 0.62 * tuft * cv.line(loop, -0.8, width=0.9) * cv.edge(within, 0.3))
    red = np.float32(rng.uniform(0.0, 0.35))
    canvas.add("blood", form.where, lumen * (own > 1 - red) * paint.ramp(loop, (0.2, 1.6)) * np.float32(0.8))
    place = canvas.place[form.where]
    place[(within > 0.4) & (loop < 0.0)] = cv.TUFT
    canvas.rim[form.where] = np.where(within > -0.5, -loop, canvas.rim[form.where])


def _scar(canvas: Canvas, form: Round, within: np.ndarray, *, rng: np.random.Generator) -> None:
    """A solid ball of matrix and wrinkled membranes with few cells."""
    tuft = cv.edge(within, 0.0, soft=0.9)
    fine = canvas.fine[form.where]
    depth, own, _ = cv.cells(canvas, form.where, key="scar", size=float(rng.uniform(11, 16)))
    folds = cv.line(depth + 0.9 * fine, 0.9, width=1.2)
    canvas.add("matrix", form.where, tuft * (0.85 + 0.16 * fine + 0.12 * (own - 0.5)))
    canvas.add("collagen", form.where, tuft * np.float32(0.35))
    canvas.add("membrane", form.where, tuft * (0.28 * folds + 0.12).astype(np.float32))
    canvas.place[form.where][within > 0] = cv.SCAR
