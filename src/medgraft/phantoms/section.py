"""A window of a stained section of kidney, and where its glomeruli are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from medgraft.phantoms import canvas as cv
from medgraft.phantoms import paint, stains
from medgraft.phantoms.bodies import paint_bodies
from medgraft.phantoms.canvas import Canvas
from medgraft.phantoms.cortex import LARGEST, Body, bodies_in, habit_of
from medgraft.phantoms.endless import Plane, Window
from medgraft.phantoms.nuclei import REACH, paint_nuclei
from medgraft.phantoms.outline import Round, round_of
from medgraft.phantoms.pieces import Tissue
from medgraft.phantoms.stains import Look
from medgraft.phantoms.tubules import paint_tubules

_FLAWS = 900.0  # um: cells of the layout of folds and tears


@dataclass(frozen=True, eq=False)
class Section:
    """What a window shows.

    Attributes:
        pixels: uint8 `(H, W, 3)`.
        bodies: all near the window.
        truth: int32 `(H, W)`; 0, or 1 + the place in `bodies` of the glomerulus that is there.
    """

    pixels: np.ndarray
    bodies: list[Body]
    truth: np.ndarray


def section(plane: Plane, window: Window, look: Look, *, tissue: Tissue | None = None) -> Section:
    """Paint a window of a plane; any other window shows the same where they overlap.

    Args:
        plane: the kidney.
        window: what is seen of it.
        look: how it was stained and photographed.
        tissue: where there is tissue; everywhere when None.
    """
    around = stains.margin(look, window.pitch)
    extra = around + int(np.ceil(REACH / window.pitch)) + 2
    wide = window.grown(extra)
    bodies = bodies_in(plane, wide.ends_um(), margin=LARGEST + 26)
    deep = None
    if tissue is not None:
        deep = tissue(wide, *cv.bent(plane, wide))
        if deep.max() < -3:
            shape = (window.height, window.width)
            return Section(stains.glass(look, plane=plane, window=window), bodies, np.zeros(shape, np.int32))
    canvas = cv.blank(plane, wide)
    forms = [round_of(canvas, body) for body in bodies]
    paint_tubules(canvas, habit_of(plane), room=_room(canvas, forms))
    paint_bodies(canvas, bodies, forms=forms)
    paint_nuclei(canvas)
    if deep is not None:
        _cut_out(canvas, deep)
    _tears(canvas)
    kept = slice(extra - around, extra + window.height + around), slice(extra - around, extra + window.width + around)
    parts = {name: np.ascontiguousarray(part[kept]) for name, part in canvas.parts.items()}
    thick = _folds(canvas)
    thick = None if thick is None else np.ascontiguousarray(thick[kept])
    pixels = stains.photograph(parts, look, plane=plane, window=window, thick=thick)
    inner = slice(extra, extra + window.height), slice(extra, extra + window.width)
    return Section(pixels, bodies, np.ascontiguousarray(canvas.truth[inner]))


def outline_of(plane: Plane, body: Body, window: Window, *, tissue: Tissue | None = None) -> np.ndarray:
    """Get where a glomerulus is in a window, bool `(H, W)`, as `section` has it in its truth."""
    canvas = cv.blank(plane, window)
    form = round_of(canvas, body)
    found = np.zeros((window.height, window.width), bool)
    if form is None:
        return found
    found[form.where] = form.depth > 0
    if tissue is not None:
        found &= tissue(window, canvas.y, canvas.x) > 0
    return found


def _room(canvas: Canvas, forms: list[Round | None]) -> np.ndarray:
    """Get the distance to the nearest body in um, `(H, W)`; far from all of them 60."""
    found = np.full(canvas.y.shape, 60, np.float32)
    for form in forms:
        if form is not None:
            np.minimum(found[form.where], -form.depth, out=found[form.where])
    return found


def _cut_out(canvas: Canvas, deep: np.ndarray) -> None:
    """Leave glass where there is no tissue, and a thin capsule of collagen along its edge."""
    inside = cv.edge(deep, 0.0, soft=1.2)
    rim = inside * paint.ramp(deep, (9.0, 3.0))
    whole = (slice(None), slice(None))
    canvas.clear(whole, np.maximum(1 - inside, 0.75 * rim))
    canvas.add("collagen", whole, 0.6 * rim)
    canvas.truth[deep <= 0] = 0


@dataclass(frozen=True)
class _Flaw:
    """A fold or a tear: half of its length and width, and how soft and strong it is; lengths in um."""

    row: float
    column: float
    turn: float
    bend: float
    half: float
    width: float
    soft: float
    amount: float


def _flaws(
    canvas: Canvas, name: str, *, share: float, half: tuple[float, float], width: tuple[float, float]
) -> Iterator[tuple[_Flaw, np.ndarray, np.ndarray]]:
    """Yield each flaw of one name that touches the canvas, with the distance from its line and the place along it."""
    top, left, bottom, right = canvas.window.ends_um()
    reach = half[1] + width[1] + 60
    for i in range(int((top - reach) // _FLAWS), int((bottom + reach) // _FLAWS) + 1):
        for j in range(int((left - reach) // _FLAWS), int((right + reach) // _FLAWS) + 1):
            rng = canvas.plane.rng(name, f"{i}/{j}")
            if rng.uniform() >= share:
                continue
            row, column = (i + rng.uniform()) * _FLAWS, (j + rng.uniform()) * _FLAWS
            flaw = _Flaw(
                row,
                column,
                turn=rng.uniform(0, np.pi),
                bend=rng.normal(0, 1 / 900),
                half=rng.uniform(*half),
                width=rng.uniform(*width),
                soft=rng.uniform(1.5, 5.0),
                amount=rng.uniform(0.5, 1.0),
            )
            away = max(top - row, row - bottom, left - column, column - right)
            if away < flaw.half + flaw.width + 40:
                yield flaw, *_ribbon(canvas, flaw)


def _ribbon(canvas: Canvas, flaw: _Flaw) -> tuple[np.ndarray, np.ndarray]:
    down, across = canvas.y - np.float32(flaw.row), canvas.x - np.float32(flaw.column)
    sine, cosine = np.float32(np.sin(flaw.turn)), np.float32(np.cos(flaw.turn))
    along = down * sine + across * cosine
    beside = across * sine - down * cosine
    return np.abs(beside - np.float32(flaw.bend) * along * along), along


def _tears(canvas: Canvas) -> None:
    """Cracks of the section, through which glass is seen."""
    for flaw, beside, along in _flaws(canvas, "tear", share=0.2, half=(60, 260), width=(4, 14)):
        narrow = np.float32(flaw.width) * (1 - (along / np.float32(flaw.half)) ** 2) - beside + 3.5 * canvas.fine
        canvas.clear((slice(None), slice(None)), cv.edge(narrow, 0.0, soft=1.0))


def _folds(canvas: Canvas) -> np.ndarray | None:
    """Get how many times as thick the section is where it lies in folds, or None where it does not."""
    found = None
    for flaw, beside, along in _flaws(canvas, "fold", share=0.1, half=(120, 480), width=(7, 26)):
        inside = paint.ramp(beside, (flaw.width + flaw.soft, flaw.width - flaw.soft))
        inside *= paint.ramp(np.abs(along), (flaw.half, flaw.half * 0.8))
        found = np.ones(canvas.y.shape, np.float32) if found is None else found
        np.maximum(found, 1 + np.float32(flaw.amount) * inside, out=found)
    return found
