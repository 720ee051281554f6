"""Pigmented lesions of the skin: outline, pigment network, colours, and what hides them.

How suspicious a lesion looks is one number, `atypia`: asymmetry, ragged
border, several colours and structures grow with it (the ABCD rule: Nachbar et
al., J Am Acad Dermatol 1994). Benign and malignant lesions overlap in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medgraft.phantoms import paint

MELANIN = np.array([0.62, 1.0, 1.32], np.float32)  # optical density of brown pigment in red, green, blue
HAEM = np.array([0.12, 0.85, 0.6], np.float32)


@dataclass(frozen=True, eq=False)
class Outline:
    """Where the lesion is.

    Attributes:
        depth: signed, in radii: 1 in the middle, 0 at the border, below 0 outside.
        cover: 0..1 with the border as sharp as this lesion's.
        centre: (row, column) in pixels.
        radius: mean radius in pixels.
        rows: row minus the centre's, in radii, `(size, size)`.
        columns: column minus the centre's, in radii, `(size, size)`.
    """

    depth: np.ndarray
    cover: np.ndarray
    centre: tuple[float, float]
    radius: float
    rows: np.ndarray
    columns: np.ndarray


def outline(rng: np.random.Generator, size: int, *, atypia: float) -> Outline:
    """Draw the border: a wobbly ellipse that atypia makes ragged, notched and blurred on one side."""
    radius = float(size * np.clip(rng.lognormal(-1.66 + 0.45 * atypia, 0.25), 0.08, 0.42))
    centre = tuple(float(v) for v in size / 2 + size * np.clip(rng.normal(0, 0.045, 2), -0.1, 0.1))
    row, column = paint.pixel_grid(size)
    rows = np.broadcast_to((row - centre[0]) / radius, (size, size)).astype(np.float32)
    columns = np.broadcast_to((column - centre[1]) / radius, (size, size)).astype(np.float32)
    angle = np.arctan2(rows, columns)
    oval, lean = rng.uniform(0.72, 1.0), rng.uniform(0, np.pi)
    reach = 1 / np.sqrt(np.cos(angle - lean) ** 2 + (np.sin(angle - lean) / oval) ** 2) / np.float32(oval**-0.5)
    for wave in range(1, 8):
        strength = (0.025 + 0.16 * atypia) / wave**0.75 * rng.uniform(0.2, 1.0)
        reach = reach + np.float32(strength) * np.cos(wave * angle + rng.uniform(0, 6.3)).astype(np.float32)
    reach = np.maximum(reach, 0.35)
    rough = paint.noise(rng, size, cells=min(4.5 * size / radius / 2, size / 4), octaves=3, keep=0.65)
    depth = 1 - np.hypot(rows, columns) / reach + np.float32(0.035 + 0.085 * atypia) * rough
    side = np.cos(angle - rng.uniform(0, 6.3))
    soft = 0.05 + 0.2 * rng.beta(1.5, 3) + 0.09 * atypia * side
    soft = np.clip(soft, 0.035, 0.4).astype(np.float32)
    crumbs = paint.noise(rng, size, cells=size / 9, octaves=3, keep=0.8)
    t = np.clip((depth + soft * (1 + 0.42 * crumbs)) / (2 * soft), 0, 1)
    return Outline(depth, t * t * (3 - 2 * t), (centre[0], centre[1]), radius, rows, columns)


@dataclass(frozen=True, eq=False)
class Pigment:
    """Densities of melanin and blood, and how much blue-white veil or pale scar covers them; all `(size, size)`."""

    melanin: np.ndarray
    haem: np.ndarray
    veil: np.ndarray
    scar: np.ndarray


def pigment(rng: np.random.Generator, form: Outline, *, atypia: float) -> Pigment:
    """Fill the outline: base brown, network, globules, dark blotches, and with atypia veil, scar and streaks."""
    size = len(form.depth)
    lumps = size / form.radius  # cells that make bumps as wide as the lesion's radius
    base = rng.uniform(0.4, 1.1)
    inner = paint.ramp(form.depth, (-0.1, rng.uniform(0.4, 1.0)))
    melanin = base * (0.55 + rng.uniform(0.1, 0.6) * inner)
    mottle = paint.noise(rng, size, cells=2.6 * lumps, octaves=5, keep=0.78)
    melanin = melanin * np.exp((0.14 + 0.36 * atypia) * mottle)
    melanin = melanin * (1 + _network(rng, form, atypia=atypia))
    tilt = rng.uniform(0, 6.3)
    gradient = form.rows * np.float32(np.sin(tilt)) + form.columns * np.float32(np.cos(tilt))
    melanin = melanin * np.exp(np.float32(0.5 * atypia * rng.uniform(0.2, 1.0)) * gradient)
    blot = paint.noise(rng, size, cells=1.7 * lumps, octaves=5, keep=0.68)
    grit = paint.noise(rng, size, cells=size / 5, octaves=2, keep=0.8)
    dark = paint.ramp(blot + 0.3 * grit, (0.9 - 0.9 * atypia, 3.0 - 1.1 * atypia)) * paint.ramp(form.depth, (-0.1, 0.3))
    melanin = melanin * (1 + 0.1 * grit) + dark * np.float32(rng.uniform(0.4, 1.3))
    melanin = melanin + _dots(rng, form, atypia=atypia)
    haem = np.clip(rng.uniform(0.05, 0.4) + 0.15 * paint.noise(rng, size, cells=1.6 * lumps, octaves=2), 0, 1)
    blank = np.zeros((size, size), np.float32)
    veil, scar = blank, blank
    if rng.uniform() < 0.01 + 0.85 * atypia**1.6:
        field = paint.noise(rng, size, cells=1.5 * lumps, octaves=4, keep=0.65)
        veil = paint.ramp(field, (-0.2, 2.2)) * paint.ramp(form.depth, (0.0, 0.5)) * np.float32(rng.uniform(0.35, 0.85))
    if rng.uniform() < 0.03 + 0.7 * atypia:
        field = paint.noise(rng, size, cells=2.2 * lumps, octaves=5, keep=0.72)
        scar = paint.ramp(field, (0.0, 2.2)) * paint.ramp(form.depth, (-0.05, 0.35)) * np.float32(rng.uniform(0.3, 0.8))
    return Pigment(melanin * form.cover, haem.astype(np.float32) * form.cover, veil, scar)


def _network(rng: np.random.Generator, form: Outline, *, atypia: float) -> np.ndarray:
    """A net of brown lines round pale holes: even in a mole, patchy and coarse with atypia."""
    size = len(form.depth)
    cells = np.clip(224 / rng.uniform(4.6, 8.0) * (1 - 0.25 * atypia), 10, size / 3)
    one = paint.noise(rng, size, cells=float(cells))
    two = paint.noise(rng, size, cells=float(cells))
    lines = np.exp(-2.6 * np.minimum(np.abs(one), np.abs(two)))
    where = 1 - np.float32(atypia) * paint.ramp(paint.noise(rng, size, cells=4), (-0.6, 0.6))
    return (
        np.float32(rng.uniform(0.15, 1.3))
        * (lines - 0.42)
        * where
        * (0.25 + 0.75 * paint.ramp(form.depth, (0.8, 0.25)))
    )


def _dots(rng: np.random.Generator, form: Outline, *, atypia: float) -> np.ndarray:
    size = len(form.depth)
    count = int(rng.integers(0, 26))
    if rng.uniform() < 0.35 or not count:
        return np.zeros((size, size), np.float32)
    # Globules of a mole lie all over; atypical ones crowd at one side and differ in size.
    lean = rng.uniform(0, 6.3)
    angle = lean + rng.uniform(-np.pi, np.pi, count) * (1 - 0.65 * atypia)
    away = form.radius * np.sqrt(rng.uniform(0.0, 0.9, count)) * rng.uniform(0.75, 1.1)
    places = np.stack([np.sin(angle), np.cos(angle)], axis=1) * away[:, None] + form.centre
    radii = size / 224 * rng.uniform(0.9, 1.7) * rng.lognormal(0, 0.12 + 0.4 * atypia, count)
    return paint.stamp(size, places, radii=radii, soft=0.9) * np.float32(rng.uniform(0.3, 0.8))
