"""A healthy chest from the front, as a sum of what weakens the beam.

The frame: x from -1 (the patient's right, left in the picture) to 1, y from -1
(neck) to 1 (abdomen), before the patient is tilted and shifted. Values are in
arbitrary units of attenuation: 0 is air, about 1 is the middle of the abdomen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medgraft.phantoms import paint

AIR_IN_LUNG = 0.56  # attenuation that a fully aerated lung takes away
_WALL_Y = (-1.2, -0.84, -0.74, -0.55, -0.3, 0.0, 0.3, 0.6, 1.2)
_WALL_X = (0.12, 0.2, 0.36, 0.5, 0.61, 0.68, 0.72, 0.74, 0.76)


@dataclass(frozen=True)
class Body:
    """Who stands before the detector.

    Attributes:
        female: breasts are drawn.
        age: years.
        habitus: thickness of soft tissue, -1 slender to 1 heavy.
        view: "PA" or "AP".
    """

    female: bool
    age: int
    habitus: float
    view: str


@dataclass(frozen=True, eq=False)
class Chest:
    """The parts that other layers need.

    Attributes:
        x, y: body coordinates of each pixel, `(size, size)`.
        scale: pixels a unit.
        place: body (y, x) points -> pixels (row, column).
        lung: 0..1, right and left lung as far as the diaphragm.
        depth: 0..1, how much air the beam meets.
        wall: x of the chest wall at each pixel's y.
        base: y of the diaphragm at each pixel's x.
        right_dome, left_dome: y of the top of the diaphragm.
        hila: (y, x) of the right and left hilum.
    """

    size: int
    x: np.ndarray
    y: np.ndarray
    scale: float
    turn: np.ndarray
    origin: np.ndarray
    lung: np.ndarray
    depth: np.ndarray
    wall: np.ndarray
    base: np.ndarray
    right_dome: float
    left_dome: float
    hila: tuple[tuple[float, float], tuple[float, float]]

    def place(self, points: np.ndarray) -> np.ndarray:
        """Get (row, column) in pixels of `(..., 2)` body points (y, x)."""
        return (np.asarray(points, np.float32) @ self.turn.T) * self.scale + self.origin

    def stamp(self, points: np.ndarray, radii: np.ndarray | float, *, soft: float = 0.7) -> np.ndarray:
        """Get the cover of discs given in body lengths; `soft` in pixels."""
        points = np.asarray(points, np.float32).reshape(-1, 2)
        radii = np.broadcast_to(np.asarray(radii, np.float32), len(points)) * np.float32(self.scale)
        return paint.stamp(self.size, self.place(points), radii=radii, soft=soft)

    def zones(self) -> np.ndarray:
        """Get 1..3 for right upper, middle, lower and 4..6 for left; 0 outside the lungs."""
        chart = np.zeros((self.size, self.size), np.uint8)
        for first, dome, inside in ((1, self.right_dome, self.x < 0), (4, self.left_dome, self.x >= 0)):
            third = np.clip((self.y + 0.84) / np.float32(dome + 0.04 + 0.84) * 3, 0, 2.99).astype(np.uint8)
            chosen = inside & (self.lung > 0.5)
            chart[chosen] = third[chosen] + first
        return chart


def chest(rng: np.random.Generator, size: int, *, body: Body) -> Chest:
    """Draw the geometry of one chest."""
    zoom = rng.uniform(1.0, 1.17) * (0.97 if body.view == "AP" else 1.0)
    scale = size / 2 * zoom
    angle = rng.normal(0, 0.035)
    origin = np.array([size / 2 + size * rng.normal(0.01, 0.02), size / 2 + size * rng.normal(0, 0.02)], np.float32)
    row, column = paint.pixel_grid(size)
    down, across = (row - origin[0]) / scale, (column - origin[1]) / scale
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    y, x = down * cosine - across * sine, down * sine + across * cosine
    turn = np.array([[cosine, sine], [-sine, cosine]], np.float32)
    breath = rng.normal(0.0, 0.06) - (0.1 if body.view == "AP" else 0.0)
    right_dome = float(0.42 + breath)
    left_dome = float(right_dome + rng.uniform(0.02, 0.1))
    width = np.array(_WALL_X) * rng.uniform(0.94, 1.05) * (1 + 0.03 * body.habitus)
    width[1:] += rng.normal(0, 0.012, len(width) - 1)
    wall = np.interp(y, _WALL_Y, width).astype(np.float32)
    twist = np.float32(rng.normal(0, 0.02))  # a patient who is turned shows one lung wider
    lung, depth = np.zeros((size, size), np.float32), np.zeros((size, size), np.float32)
    bases = []
    for side, dome in ((-1, right_dome), (1, left_dome)):
        out = (x - twist) * side
        base = dome + np.where(out > 0.36, 0.24 * ((out - 0.36) / 0.34) ** 2, 0.09 * ((0.36 - out) / 0.3) ** 2)
        apex = paint.ramp(y, (-0.87, -0.8))
        bases.append(base)
        inside = np.clip((wall - out) / 0.022, 0, 1)
        inside = inside * paint.ramp(out, (0.085, 0.15)) * apex
        above = paint.ramp(base - y, (-0.008, 0.014))
        recess = 0.14 * paint.ramp(base - y, (-0.17, -0.01))  # lung behind the dome of the diaphragm
        across_lung = np.clip((wall - out) / np.maximum(wall - 0.05, 0.05), 0, 1)
        air = np.clip(4.2 * across_lung * (1.02 - across_lung), 0, 1) ** 0.42
        lung += inside * above
        depth += inside * np.maximum(above, recess) * air * (0.8 + 0.2 * paint.ramp(y, (-0.8, -0.2)))
    hila = ((-0.09 + breath / 2, -0.16), (-0.13 + breath / 2, 0.17))
    return Chest(
        size, x, y, float(scale), turn, origin, np.minimum(lung, 1), np.minimum(depth, 1), wall,
        np.where(x < twist, *bases), right_dome, left_dome, hila,
    )  # fmt: skip


def soft_tissue(rng: np.random.Generator, body: Body, *, chest: Chest) -> np.ndarray:
    """Paint the trunk with neck, arms, abdomen and breasts, without lungs and heart."""
    x, y = chest.x, chest.y
    out = np.abs(x)
    thick = 0.88 + 0.1 * body.habitus
    flank = np.float32(0.9 + 0.1 * body.habitus + rng.normal(0, 0.02))
    trunk_edge = flank + 0.06 * paint.ramp(y, (0.2, -0.6))
    trunk = np.sqrt(np.clip(1 - (out / np.maximum(trunk_edge, 0.05)) ** 2, 0, 1))
    slope = rng.uniform(0.2, 0.34)
    shoulder = np.float32(-0.96) + slope * np.clip(out - 0.22, 0, None) ** 1.15
    neck = np.clip((0.24 + 0.05 * body.habitus - out) / 0.05, 0, 1)
    top = np.maximum(paint.ramp(y - shoulder, (-0.02, 0.14)), neck * 0.78)
    total = thick * (0.35 + 0.65 * trunk) * np.clip((trunk_edge - out) / 0.03, 0, 1) * top
    arm = np.float32(1.08 + 0.08 * body.habitus + rng.normal(0, 0.04))
    limb = np.sqrt(np.clip(1 - ((out - arm) / 0.19) ** 2, 0, 1)) * paint.ramp(y - shoulder, (0.0, 0.12))
    total = np.maximum(total, 0.62 * limb)
    total += 0.16 * paint.ramp(y, (0.3, 0.75)) * (trunk > 0.15)
    if body.female:
        size = rng.uniform(0.2, 0.32) + 0.05 * body.habitus
        low = rng.uniform(0.26, 0.45)
        for side in (-1, 1):
            away = np.hypot((x - side * rng.uniform(0.4, 0.46)) / (size * 1.1), (y - low) / size)
            lower = 0.4 + 0.6 * paint.ramp(y - np.float32(low), (-size, 0.6 * size))
            total += np.float32(0.15) * paint.ramp(away, (1.03, 0.82)) * lower * (trunk > 0.1)
    return total


def bones(rng: np.random.Generator, body: Body, *, chest: Chest) -> np.ndarray:
    """Paint ribs, clavicles, scapulae, the upper arms and the spine."""
    x, y, wall = chest.x, chest.y, chest.wall
    firm = rng.uniform(0.75, 1.15) * (1 - 0.15 * max(0, body.age - 60) / 30)
    out = np.abs(x)
    u = np.clip(out / np.maximum(wall, 0.05), 0, 1.06)
    cage = np.clip((wall + 0.035 - out) / 0.02, 0, 1) * paint.ramp(out, (0.05, 0.085)) * paint.ramp(y, (-0.92, -0.8))
    spacing, start = rng.uniform(0.158, 0.182), rng.uniform(0, 1)
    droop = rng.uniform(0.2, 0.3) * (0.8 if body.view == "AP" else 1.0)
    uneven = 0.12 * np.sin(5 * y + rng.uniform(0, 6)) + 0.06 * np.sign(x) * np.float32(rng.normal(0, 1))
    back = (y + 0.07 * np.sin(np.pi * 0.8 * u) - droop * u**3.2) / spacing + start + uneven
    front = (y - (droop - 0.04) - 0.42 * np.clip(1 - u, 0, 1) ** 1.1) / spacing + start + uneven
    fade = paint.ramp(y, (0.85, 0.35))
    total = 0.15 * _rib(back, 0.2) * cage * fade
    total += 0.09 * _rib(front, 0.22) * cage * paint.ramp(u, (0.42, 0.58)) * paint.ramp(y, (0.6, 0.2))
    high = 0.1 if body.view == "AP" else 0.0
    for side in (-1, 1):
        inner, tilt = np.array([-0.62 - high + rng.normal(0, 0.015), 0.07 * side]), rng.uniform(0.08, 0.18)
        line = [(0, 0), (-0.02, 0.16), (-0.35 * tilt, 0.32), (-tilt, 0.5), (-1.1 * tilt, 0.72)]
        points = paint.curve(inner + np.array(line) * [1 - 4 * high, side], 160)
        radii = np.interp(np.linspace(0, 1, 160), [0, 0.12, 0.5, 1], [0.036, 0.031, 0.026, 0.034])
        total += 0.21 * _tube(chest, points, radii)
        inward = 0.09 if body.view == "AP" else 0.0
        edge = np.array([(-0.66, 0.62), (-0.4, 0.74), (-0.05, 0.7), (0.08, 0.74)]) - [0, inward]
        total += 0.06 * chest.stamp(paint.curve(edge * [1, side], 90), 0.026, soft=1.5)
        total += 0.16 * chest.stamp(np.array([[-0.68, 0.97 * side]]), 0.12, soft=2.5)
        shaft = np.linspace([-0.65, 1.02 * side], [0.6, 1.12 * side], 90)
        total += 0.12 * _tube(chest, shaft, np.full(90, 0.055))
    return total * np.float32(firm) + _spine(rng, chest) * np.float32(firm)


def _rib(phase: np.ndarray, half: float) -> np.ndarray:
    """A band with a dense rim around each whole number of the phase, 0..1."""
    away = np.abs(phase - np.rint(phase)) / np.float32(half)
    return paint.ramp(away, (1.08, 0.88)) * (0.62 + 0.38 * paint.ramp(away, (0.45, 0.85)))


def _tube(chest: Chest, points: np.ndarray, radii: np.ndarray) -> np.ndarray:
    return chest.stamp(points, radii) - 0.4 * chest.stamp(points, radii * 0.62, soft=1.2)


def _spine(rng: np.random.Generator, chest: Chest) -> np.ndarray:
    bend = np.float32(rng.normal(0, 0.02)) * np.sin(2.2 * chest.y + rng.uniform(0, 6))
    out = np.abs(chest.x - bend)
    width = 0.075 + 0.02 * paint.ramp(chest.y, (-0.8, 0.9))
    phase = chest.y / np.float32(0.118) + np.float32(rng.uniform(0, 1)) - 0.06 * chest.y
    away = np.abs(phase - np.rint(phase))
    column = np.clip((width - out) / 0.02, 0, 1)
    body = 0.06 + 0.035 * paint.ramp(away, (0.36, 0.46)) - 0.04 * paint.ramp(away, (0.455, 0.5))
    pedicle = 0.04 * np.exp(-(((out - 0.048) / 0.013) ** 2) - ((away - 0.2) / 0.12) ** 2)
    spinous = 0.03 * np.exp(-((out / 0.012) ** 2)) * paint.ramp(away, (0.3, 0.1))
    return column * body + pedicle + spinous


@dataclass(frozen=True, eq=False)
class Middle:
    """Heart and great vessels: attenuation, outline of the heart 0..1, and the share of lung that gives way."""

    attenuation: np.ndarray
    heart: np.ndarray
    displaced: np.ndarray


def middle(rng: np.random.Generator, body: Body, *, chest: Chest) -> Middle:
    """Paint heart, great vessels and windpipe."""
    x, y = chest.x, chest.y
    big = rng.normal(1, 0.07) * (1.13 if body.view == "AP" else 1.0) * (1 + 0.002 * (body.age - 50))
    low = (chest.right_dome + chest.left_dome) / 2
    centre = np.float32(low - 0.13), np.float32(0.12 + rng.normal(0, 0.015))
    lean = rng.uniform(0.45, 0.75)
    dy, dx = y - centre[0], x - centre[1]
    a, b = dx * np.cos(lean) + dy * np.sin(lean), -dx * np.sin(lean) + dy * np.cos(lean)
    away = np.hypot(a / (0.4 * big), b / (0.29 * big))
    atrium = np.hypot((x + 0.05) / (0.16 * big), (y - (low - 0.17)) / 0.27)
    heart = np.maximum(paint.ramp(away, (1.03, 0.94)), paint.ramp(atrium, (1.05, 0.92)))
    bulk = np.maximum(np.sqrt(np.clip(1.03 - away**2, 0, 1)), 0.8 * np.sqrt(np.clip(1.03 - atrium**2, 0, 1)))
    displaced = heart * (0.42 + 0.3 * np.clip(bulk, 0, 1))
    base = 0.115 + 0.05 * paint.ramp(y, (-0.5, -0.95)) + 0.02 * body.habitus
    left = (
        base + 0.02 + 0.13 * paint.ramp(y, (-0.34, 0.15))
    )  # the pulmonary trunk leads to the left border of the heart
    right = base + 0.05 * paint.ramp(y, (-0.3, 0.3))
    half = np.where(x > 0, left, right)
    stripe = np.clip((half - np.abs(x)) / 0.045, 0, 1)
    displaced = np.maximum(displaced, 0.55 * stripe)
    total = 0.05 * heart * bulk + 0.03 * stripe
    knob = np.hypot(x - 0.105, (y + 0.37) * 0.9) / (0.075 + 0.0007 * max(0, body.age - 40))
    displaced = np.maximum(displaced, 0.6 * paint.ramp(knob, (1.1, 0.85)))
    descending = np.abs(x - 0.1 + 0.05 * paint.ramp(y, (-0.2, 0.6))) / 0.055
    total += 0.06 * paint.ramp(descending, (1.1, 0.8)) * paint.ramp(y, (-0.4, -0.3)) * paint.ramp(y, (0.8, 0.5))
    fork = np.array([-0.27, 0.01])
    pipe = chest.stamp(np.linspace([-1.0, 0.0], fork, 60), 0.04, soft=1.2)
    for side, out in ((-1, 0.15), (1, 0.19)):
        pipe = np.maximum(pipe, chest.stamp(np.linspace(fork, [-0.1, out * side], 40), 0.027, soft=1.2))
    total *= 0.12 + 0.88 * paint.ramp(chest.base - y, (-0.05, 0.03))  # the belly hides what hangs into it
    return Middle(total - 0.08 * pipe, heart * (y < chest.base), np.clip(displaced, 0, 1))


def lung_vessels(rng: np.random.Generator, chest: Chest) -> np.ndarray:
    """Paint the branching vessels of both lungs and the shadow of each hilum, 0..1."""
    stems, radii = [], []
    along = np.linspace(0, 1, 50)[:, None]
    for (row, column), side in zip(chest.hila, (-1, 1), strict=True):
        for angle in np.linspace(-1.25, 1.3, 8) + rng.normal(0, 0.1, 8):
            reach = 0.42 + 0.12 * abs(np.sin(angle))
            start = np.array([row, column]) + rng.normal(0, 0.02, 2)
            tip = start + reach * np.array([np.sin(angle), side * np.cos(angle)])
            bow = rng.normal(0, 0.03, 2) * np.sin(np.pi * along)
            stems.append(start + (tip - start) * along + bow)
            radii.append(np.linspace(0.02, 0.007, 50) * (1.1 if angle > 0 else 0.62))
    tree = paint.Branches(np.stack(stems).astype(np.float32), np.stack(radii).astype(np.float32))
    first = paint.grow(
        rng, tree, growth=paint.Growth(5, 0.22, spread=(0.3, 0.8), ratio=(0.55, 0.8), wobble=0.4, steps=40)
    )
    second = paint.grow(
        rng, first, growth=paint.Growth(3, 0.12, spread=(0.3, 0.9), ratio=(0.5, 0.8), wobble=0.4, steps=24)
    )
    points, thick = paint.joined([tree, first, second])
    lines = chest.stamp(points, thick * 0.9, soft=0.9)
    hilum = chest.stamp(np.array(chest.hila), 0.05, soft=0.05 * chest.scale)
    return np.maximum(lines * 0.75, hilum)
