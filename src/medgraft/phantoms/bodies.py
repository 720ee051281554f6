"""The round parts of the cortex that are no glomeruli, some of which look like one: vessels, wide tubules, clusters."""

from __future__ import annotations

import numpy as np

from medgraft.phantoms import canvas as cv
from medgraft.phantoms import paint
from medgraft.phantoms.canvas import Canvas
from medgraft.phantoms.cortex import Body
from medgraft.phantoms.glomerulus import paint_glomerulus
from medgraft.phantoms.outline import Round


def paint_bodies(canvas: Canvas, bodies: list[Body], *, forms: list[Round | None]) -> None:
    """Paint bodies over the tubules; `canvas.truth` gets 1 + the place in the list of each glomerulus."""
    for number, (body, form) in enumerate(zip(bodies, forms, strict=True)):
        if form is None:
            continue
        if body.kind in ("glomerulus", "sclerosed"):
            inside = paint_glomerulus(canvas, body, form)
            canvas.truth[form.where][inside] = number + 1
        elif body.kind in ("artery", "arteriole"):
            _artery(canvas, body, form)
        elif body.kind == "vein":
            _vein(canvas, body, form)
        elif body.kind == "dilated":
            _dilated(canvas, body, form)
        else:
            _cluster(canvas, body, form)


def _over(canvas: Canvas, form: Round, cover: np.ndarray, *, rim: np.ndarray) -> None:
    """Make room for a body: nothing of what was below shows, and no nucleus of it."""
    canvas.clear(form.where, cover)
    canvas.place[form.where][cover > 0.3] = cv.NOWHERE
    canvas.rim[form.where] = np.where(cover > 0.3, rim, canvas.rim[form.where])


def _artery(canvas: Canvas, body: Body, form: Round) -> None:
    """A thick round wall of muscle in circles, an elastic line in waves, and collagen around."""
    rng = canvas.plane.rng("artery", body.key)
    wall = body.radius * rng.uniform(0.4, 0.66)
    waves, swing = int(rng.integers(7, 15)), 0.05 * body.radius * rng.uniform(0.3, 1.0)
    depth = form.depth
    wavy = depth + np.float32(swing) * np.sin(form.angle * waves + rng.uniform(0, 6)).astype(np.float32)
    coat = cv.edge(depth, -7.0 - 0.1 * body.radius, soft=2.0)
    _over(canvas, form, coat, rim=depth)
    fine = canvas.fine[form.where]
    wide = cv.edge(depth, 0.0)
    lumen = cv.edge(wavy, wall)
    canvas.add("collagen", form.where, (coat - wide) * (0.6 + 0.12 * fine))
    rings = 1 + 0.1 * np.sin(depth * np.float32(0.9) + 1.8 * fine) + 0.08 * fine
    canvas.add("muscle", form.where, (wide - lumen) * rings.astype(np.float32))
    canvas.add("membrane", form.where, 0.75 * cv.line(wavy, wall - 0.6, width=1.5))
    canvas.add("membrane", form.where, np.float32(0.16) * (wide - lumen) * np.clip(fine, 0, 1))
    if rng.uniform() < 0.4:
        canvas.add("blood", form.where, lumen * cv.edge(wavy, wall + 4, soft=3.0) * _crowded(canvas, form, body))
    canvas.place[form.where][(depth > 2) & (wavy < wall - 0.5)] = cv.WALL


def _vein(canvas: Canvas, body: Body, form: Round) -> None:
    rng = canvas.plane.rng("vein", body.key)
    wall = rng.uniform(2.2, 5.0)
    coat, wide, lumen = (cv.edge(form.depth, start, soft=soft) for start, soft in ((-5, 2.0), (0, 0.8), (wall, 0.8)))
    _over(canvas, form, coat, rim=form.depth)
    canvas.add("collagen", form.where, 0.5 * (coat - wide) + 0.45 * (wide - lumen))
    canvas.add("muscle", form.where, 0.45 * (wide - lumen))
    if rng.uniform() < 0.6:
        fill = cv.edge(form.depth, wall + rng.uniform(1, 9), soft=2.5)
        canvas.add("blood", form.where, lumen * fill * _crowded(canvas, form, body))
    canvas.place[form.where][(form.depth > 0) & (form.depth < wall)] = cv.WALL


def _crowded(canvas: Canvas, form: Round, body: Body) -> np.ndarray:
    """Red cells side by side."""
    depth, own, away = cv.cells(canvas, form.where, key="blood", size=6.8)
    return paint.ramp(np.minimum(depth, 3.4 - away), (-0.3, 0.9)) * (own < 0.8) * (0.65 + 0.25 * own)


def _dilated(canvas: Canvas, body: Body, form: Round) -> None:
    """A wide tubule with flat cells, empty or with a cast that fills it."""
    rng = canvas.plane.rng("dilated", body.key)
    height = rng.uniform(3.0, 5.5)
    coat, wide, lumen = (cv.edge(form.depth, start) for start in (-3.0, 0.0, height))
    _over(canvas, form, coat, rim=form.depth)
    canvas.add("collagen", form.where, 0.5 * (coat - wide))
    canvas.add("membrane", form.where, cv.line(form.depth, 0.3, width=1.4))
    canvas.add("pale", form.where, 0.9 * (wide - lumen))
    if rng.uniform() < 0.6:
        shrunk = rng.uniform(0.5, 9.0)
        body_of = cv.edge(form.depth + 0.5 * canvas.fine[form.where], height + shrunk, soft=1.2)
        pale = np.float32(rng.uniform(0.35, 1.0))
        canvas.add("cast", form.where, body_of * pale * (1 + 0.05 * canvas.fine[form.where]))
    canvas.place[form.where][(form.depth > 0.5) & (form.depth < height + 0.5)] = cv.CELLS_DISTAL


def _cluster(canvas: Canvas, body: Body, form: Round) -> None:
    """Shrunken tubules in a round field of scar: as big as a glomerulus, and as crowded."""
    rng = canvas.plane.rng("cluster", body.key)
    size = float(rng.uniform(24, 32))
    depth, own, away = cv.cells(canvas, form.where, key="cluster", size=size)
    whole = cv.edge(form.depth, 0.0, soft=3.5)
    fine = canvas.fine[form.where]
    # Round tubules of several widths with scar between them.
    depth = np.minimum(np.minimum(depth - 1.6, (0.36 + 0.14 * own) * size - away), form.depth - 4.0)
    _over(canvas, form, whole, rim=depth)
    height = np.where(own < 0.55, np.float32(5.6), np.float32(7.6))
    wide = whole * cv.edge(depth, 0.0)
    lumen = wide * paint.ramp(depth + 0.4 * fine, (height - 0.8, height + 0.8))
    canvas.add("collagen", form.where, (whole - wide) * (0.7 + 0.2 * fine))
    canvas.add("membrane", form.where, 0.8 * whole * cv.line(depth, 0.0, width=1.3))
    canvas.add("pale", form.where, (wide - lumen) * (0.55 + 0.1 * fine))
    canvas.add("cytoplasm", form.where, (wide - lumen) * np.float32(0.35))
    canvas.add("cast", form.where, lumen * (own > 0.8))
    place = np.where(depth > 0, np.where(depth > height + 0.8, cv.NOWHERE, cv.CELLS_DISTAL), cv.STROMA)
    canvas.place[form.where] = np.where(whole > 0.5, place, canvas.place[form.where])
