"""The healthy front of an eye: lids, white of the eye with its vessels, iris, pupil.

Lengths are in radii of the cornea (1 is about 5.8 mm). x grows to the right of the picture, y downwards, and 0 is the
centre of the cornea. What belongs to the eye (vessels, the texture of the iris) follows from the eye's own numbers, so
that two photographs of it show the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medgraft.phantoms import paint

BLOOD = np.array([0.10, 0.80, 0.72], np.float32)  # optical density of a full vessel in red, green, blue
# Plain colours of irises: brown, hazel, green, blue, gray.
_IRISES = ((0.30, 0.17, 0.08), (0.43, 0.29, 0.13), (0.36, 0.38, 0.22), (0.34, 0.46, 0.58), (0.46, 0.50, 0.52))
_COMMON = (0.5, 0.16, 0.08, 0.18, 0.08)


@dataclass(frozen=True, eq=False)
class Owner:
    """What photographs of one eye share.

    Attributes:
        iris: red, green and blue of the plain iris, 0..1.
        skin: of the lids.
        lean: ruffles of the iris: how strongly they show, 0..1.
        pupil: radius.
        opening: half width of the opening between the lids, and how far the upper and the lower lid are from 0.
        arcus: how clear the gray ring of old age is, 0..1.
    """

    iris: np.ndarray
    skin: np.ndarray
    lean: float
    pupil: float
    opening: tuple[float, float, float]
    arcus: float


def owner(rng: np.random.Generator, *, age: int) -> Owner:
    """Draw an eye."""
    base = np.array(_IRISES[int(rng.choice(5, p=_COMMON))], np.float32)
    dark = float(rng.beta(1.6, 2.2))
    tone = np.array([0.93, 0.73, 0.62], np.float32) * np.float32(1.02 - 0.62 * dark)
    tone = tone * np.array([1, 1 - 0.06 * dark, 1 - 0.14 * dark], np.float32)
    return Owner(
        iris=base * rng.normal(1, 0.025, 3).astype(np.float32) * np.float32(rng.normal(1, 0.1)),
        skin=tone * rng.normal(1, 0.012, 3).astype(np.float32),
        lean=float(rng.uniform(0.5, 1.0)),
        pupil=float(np.clip(rng.normal(0.36, 0.07) - 0.001 * (age - 50), 0.2, 0.55)),
        opening=(float(rng.uniform(2.0, 2.5)), float(rng.uniform(0.82, 1.12)), float(rng.uniform(0.98, 1.2))),
        arcus=float(rng.beta(1.5, 4)) if age > 60 else 0.0,
    )


@dataclass(frozen=True, eq=False)
class View:
    """Where things are in one photograph.

    Attributes:
        size: width and height in pixels.
        centre: (row, column) of the centre of the cornea in pixels.
        scale: pixels of a corneal radius.
        x: of each pixel, `(size, size)`.
        y: of each pixel.
        away: distance from the centre of the cornea.
        angle: around it, 0 to the right, growing downwards.
        open: how much of each pixel is between the lids, 0..1.
        upper: how far each pixel is below the edge of the upper lid, in radii.
        lower: how far each pixel is above the edge of the lower lid.
    """

    size: int
    centre: tuple[float, float]
    scale: float
    x: np.ndarray
    y: np.ndarray
    away: np.ndarray
    angle: np.ndarray
    open: np.ndarray
    upper: np.ndarray
    lower: np.ndarray

    @property
    def cornea(self) -> np.ndarray:
        """How much of each pixel is cornea that no lid hides, 0..1."""
        return paint.ramp(self.away, (1.04, 0.98)) * self.open

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Get (row, column) in pixels of `(N, 2)` points (y, x)."""
        return points * np.float32(self.scale) + np.array(self.centre, np.float32)

    def stamp(self, points: np.ndarray, radii: np.ndarray, *, soft: float = 0.6) -> np.ndarray:
        """Get the cover of discs given in radii of the cornea; `soft` in pixels."""
        return paint.stamp(self.size, self.pixels(points), radii=np.asarray(radii) * self.scale, soft=soft)


def view(rng: np.random.Generator, size: int, *, eye: Owner) -> View:
    """Get the geometry of one photograph: gaze, distance, how wide the lids are held open."""
    scale = size * float(rng.uniform(0.27, 0.37))
    middle = size / 2 - 0.5 + size * np.clip(rng.normal(0, 0.035, 2), -0.09, 0.09)
    centre = float(middle[0]), float(middle[1])
    row, column = paint.pixel_grid(size)
    y = np.broadcast_to((row - centre[0]) / scale, (size, size)).astype(np.float32)
    x = np.broadcast_to((column - centre[1]) / scale, (size, size)).astype(np.float32)
    wide = float(rng.uniform(0.0, 0.28))  # lids that are held open
    half, up, down = eye.opening
    tilt, shift = float(rng.normal(0, 0.05)), float(rng.normal(0, 0.12))
    across = np.clip(np.abs((x - np.float32(shift)) / np.float32(half)), 0, 1.6)
    waver = 0.012 * paint.noise(rng, size, cells=5)
    upper = y + np.float32(up + wide) * (1 - across**2.4) - np.float32(tilt) * x + waver
    lower = np.float32(down + wide) * (1 - across**2.0) - y + np.float32(tilt) * x + waver
    soft = 0.7 / scale
    between = paint.ramp(np.minimum(upper, lower), (-soft, soft))
    return View(size, centre, scale, x, y, np.hypot(x, y), np.arctan2(y, x), between, upper, lower)


def white(rng: np.random.Generator, where: View, *, picture: np.ndarray, age: int) -> None:
    """Paint the white of the eye on `picture` `(3, size, size)`, in place."""
    warm = np.array([0.90, 0.86, 0.82], np.float32) - np.array([0.0, 0.012, 0.05], np.float32) * np.float32(age / 50)
    cloud = paint.noise(rng, where.size, cells=5, octaves=4, keep=0.6)
    turned = 1 - 0.085 * np.clip(where.away - 1, 0, 2.2) ** 1.5  # the eye is a ball
    shade = turned * paint.ramp(where.upper, (-0.05, 0.5)) ** np.float32(0.22)
    picture[:] = warm[:, None, None] * (shade * (1 + 0.018 * cloud))[None]
    corner = np.exp(-(((where.x - np.float32(2.15)) / 0.28) ** 2 + (where.y / 0.42) ** 2))
    picture += (np.array([0.80, 0.50, 0.47], np.float32)[:, None, None] - picture) * (0.8 * corner)[None]


def vessels(rng: np.random.Generator, where: View, *, red: float) -> np.ndarray:
    """Get how much blood each pixel of the white shows, 0..1.6: trees that run to the cornea, and a flush around it.

    Args:
        rng: of the eye, so that its photographs show the same trees.
        where: the photograph.
        red: hyperaemia, 0 none to 1 severe.
    """
    count, steps = 30, 90
    start = np.sort(rng.uniform(0, 2 * np.pi, count))
    seen = rng.uniform(0, 1, count)  # fills as the eye gets redder
    lines, radii = [], []
    for k in range(count):
        inner = rng.uniform(1.04, 1.5)
        far = np.linspace(rng.uniform(2.3, 3.0), inner, 7)
        turn = start[k] + np.cumsum(rng.normal(0, 0.075, 7))
        line = paint.curve(np.stack([far * np.sin(turn), far * np.cos(turn)], axis=1), steps)
        sway = paint.wave(rng, steps, bumps=11) * 0.018
        lines.append(line + sway[:, None] * np.array([np.cos(start[k]), -np.sin(start[k])]))
        full = np.clip((0.16 + 0.95 * red) * 1.5 - seen[k], 0, 1) ** 0.5
        radii.append(rng.uniform(0.009, 0.021) * full * (0.75 + 0.6 * red) * np.linspace(1, 0.45, steps))
    main = paint.Branches(np.stack(lines).astype(np.float32), np.stack(radii).astype(np.float32))
    first = paint.grow(rng, main, growth=paint.Growth(4, 0.5, spread=(0.2, 0.9), ratio=(0.4, 0.7), wobble=0.8))
    second = paint.grow(rng, first, growth=paint.Growth(2, 0.25, ratio=(0.4, 0.75), wobble=0.9, steps=30))
    points, thick = paint.joined([main, first, second])
    tree = where.stamp(points, thick, soft=0.55)
    comb = np.clip(paint.wave(rng, 900, bumps=210), -0.5, 2)
    comb[0] = comb[-1]
    fine = comb[((where.angle + np.pi) / (2 * np.pi) * 899).astype(np.intp)]
    band = np.exp(-np.clip(where.away - 1.0, 0, None) / np.float32(0.10 + 0.16 * red))
    flush = np.float32(red) ** 1.3 * (0.55 + 0.26 * fine) * band + np.float32(0.13 * red**1.3)
    return np.clip(tree * np.float32(0.75 + 0.35 * red) + flush, 0, 1.6)


def iris(rng: np.random.Generator, where: View, *, eye: Owner) -> np.ndarray:
    """Get the iris with its pupil, `(3, size, size)`; only what is within the cornea counts."""
    place = np.clip((where.away - eye.pupil) / np.float32(0.97 - eye.pupil), 0, 1)
    turn = (where.angle + np.pi) / (2 * np.pi)
    fibres = np.zeros_like(where.away)
    for count, weight in ((70, 0.5), (150, 0.35), (300, 0.25)):
        ring = paint.wave(rng, 1024, bumps=count)
        ring = np.concatenate([ring[:-64], ring[-64:] + (ring[0] - ring[-64:]) * np.linspace(0, 1, 64)])
        bend = np.float32(0.006 * rng.normal()) * place
        fibres += np.float32(weight) * ring[(((turn + bend) % 1.0) * 1023).astype(np.intp)]
    ruff = np.float32(rng.uniform(0.28, 0.42)) + 0.03 * paint.wave(rng, 512, bumps=22)[(turn * 511).astype(np.intp)]
    collar = np.exp(-(((place - ruff) / 0.07) ** 2))
    inner = paint.ramp(place, (0.5, 0.2))
    light = 1 + np.float32(0.34 * eye.lean) * fibres * (0.5 + 0.5 * place) + 0.28 * collar + 0.1 * inner
    for _ in range(int(rng.integers(3, 9))):  # crypts
        far, way = rng.uniform(0.45, 0.75), rng.uniform(-np.pi, np.pi)
        gap = np.hypot(where.x - np.float32(far * np.cos(way)), (where.y - np.float32(far * np.sin(way))) * 1.2)
        light = light - 0.35 * np.exp(-((gap / np.float32(rng.uniform(0.03, 0.06))) ** 2))
    light = light * (1 - 0.6 * paint.ramp(place, (0.78, 1.0)))  # the dark ring before the white
    amber = np.array([1.12, 1.0, 0.8], np.float32)[:, None, None] ** (inner * np.float32(rng.uniform(0, 1.2)))[None]
    found = eye.iris[:, None, None] * np.clip(light, 0.15, 2.0)[None] * amber
    oval = np.hypot(where.x, where.y * np.float32(rng.uniform(0.96, 1.04)))
    soft = 1.2 / where.scale
    hole = paint.ramp(oval, (eye.pupil + soft, eye.pupil - soft))
    return found * (1 - hole) + np.float32(0.025) * hole


def lids(rng: np.random.Generator, where: View, *, eye: Owner, picture: np.ndarray) -> None:
    """Lay lids, their wet edges, their shadow and lashes over `picture`, in place."""
    size = where.size
    shadow = 1 - np.float32(rng.uniform(0.1, 0.35)) * paint.ramp(where.upper, (0.34, 0.0)) * where.open
    picture *= shadow
    inside = np.minimum(where.upper, where.lower)
    grain = 0.05 * paint.noise(rng, size, cells=6, octaves=5, keep=0.7)
    crease = np.zeros((size, size), np.float32)
    waver = 0.05 * paint.noise(rng, size, cells=4, octaves=3)
    for depth in rng.uniform(0.14, 0.7, 4):
        broken = paint.ramp(paint.noise(rng, size, cells=3), (-0.6, 1.4))
        line = np.exp(-((((-inside) + waver - np.float32(depth)) / np.float32(rng.uniform(0.02, 0.04))) ** 2))
        crease += line * broken * np.float32(rng.uniform(0.1, 0.4))
    skin = eye.skin[:, None, None] * (1 + grain - crease * paint.ramp(inside, (0.0, -0.1)))[None]
    edge = paint.ramp(inside, (-0.11, -0.03))
    moist = np.array([0.86, 0.55, 0.50], np.float32)[:, None, None] * (0.55 + 0.45 * eye.skin.mean() / 0.76)
    skin = skin + (moist - skin) * (0.75 * edge)[None]
    wet = np.exp(-(((inside + 0.02) / 0.016) ** 2)) * np.clip(0.5 + 0.6 * paint.noise(rng, size, cells=12), 0, 1)
    cover = (1 - where.open)[None]
    picture += (skin - picture) * cover
    picture += (np.float32(rng.uniform(0.1, 0.4)) * wet)[None]
    _lashes(rng, where, picture)


def _lashes(rng: np.random.Generator, where: View, picture: np.ndarray) -> None:
    """Draw lashes from the edges of both lids, away from the eye."""
    lines, radii = [], []
    for edge, up, count in ((where.upper, -1.0, 34), (where.lower, 1.0, 16)):
        for column in rng.uniform(0, where.size - 1, count):
            line = edge[:, int(column)]
            rows = np.flatnonzero(np.diff(np.sign(line)))
            if not len(rows):
                continue
            foot = np.array([rows[0 if up < 0 else -1] + up * 0.06 * where.scale, column])
            long = where.scale * rng.uniform(0.2, 0.5) * (1.0 if up < 0 else 0.6)
            lean = (column - where.centre[1]) / where.size + rng.normal(0, 0.15)
            knots = foot + np.array([[0, 0], [up * 0.3, lean * 0.5], [up * 0.75, lean * 1.2]]) * long
            lines.append(paint.curve(knots, 24))
            radii.append(where.size / 224 * rng.uniform(0.4, 0.75) * np.linspace(1, 0.25, 24))
    if lines:
        cover = paint.stamp(where.size, np.concatenate(lines), radii=np.concatenate(radii), soft=0.5)
        picture *= (1 - 0.8 * cover)[None]
