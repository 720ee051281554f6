"""The healthy inside of an eye: geometry, vessels, disc, macula and the light that falls on it.

Lengths are in radii of the field of view (45 degrees, so 1 is about 6.5 mm and
an optic disc of 1.5 to 1.9 mm has a radius of about .13). The frame is that
of a left eye: x grows away from the nose, y downwards. A right eye is mirrored
by `Eye.side` on the way to pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from medgraft.phantoms import paint

BLOOD = np.array([0.16, 0.62, 0.42], np.float32)  # optical density of a main vein in red, green, blue
PIGMENT = np.array([0.55, 0.80, 0.90], np.float32)


@dataclass(frozen=True, eq=False)
class Eye:
    """Where things are in one photograph.

    Attributes:
        size: width and height in pixels.
        centre: (row, column) of the centre of the field of view.
        scale: radius of the field of view in pixels.
        side: +1 for a left eye, -1 for a right eye.
        x: unit coordinate of each pixel, `(size, size)`.
        y: unit coordinate of each pixel, `(size, size)`.
        fovea: unit (y, x).
        disc: unit (y, x).
        disc_radius: unit length.
        field: how much of each pixel is inside the field of view, 0..1.
    """

    size: int
    centre: tuple[float, float]
    scale: float
    side: int
    x: np.ndarray
    y: np.ndarray
    fovea: tuple[float, float]
    disc: tuple[float, float]
    disc_radius: float
    field: np.ndarray

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Get (row, column) in pixels of `(N, 2)` unit points (y, x)."""
        shifted = points * np.float32(self.scale) * np.array([1, self.side], np.float32)
        return shifted + np.array(self.centre, np.float32)

    def stamp(self, points: np.ndarray, radii: np.ndarray, *, soft: float = 0.6) -> np.ndarray:
        """Get the cover of discs given in unit lengths; `soft` in pixels."""
        return paint.stamp(self.size, self.pixels(points), radii=np.asarray(radii) * self.scale, soft=soft)

    def distance(self, point: tuple[float, float]) -> np.ndarray:
        """Get each pixel's distance from a unit (y, x) point, in unit lengths."""
        return np.hypot(self.y - np.float32(point[0]), self.x - np.float32(point[1]))


def frame(rng: np.random.Generator, size: int, *, side: int, camera: str, disc_radius: float) -> Eye:
    """Get the geometry: cameras A and B show a whole circle (A with a notch), C cuts it at the top and bottom."""
    scale = size * {"A": 0.485, "B": 0.492, "C": rng.uniform(0.53, 0.57)}[camera]
    centre = (size / 2 - 0.5 + rng.uniform(-0.5, 0.5), size / 2 - 0.5 + rng.uniform(-0.5, 0.5))
    row, column = paint.pixel_grid(size)
    y = np.broadcast_to((row - centre[0]) / scale, (size, size)).astype(np.float32)
    x = np.broadcast_to((column - centre[1]) / scale * side, (size, size)).astype(np.float32)
    gaze = rng.normal(0, 0.05), rng.normal(-0.06, 0.07)
    fovea = (float(gaze[0] + 0.03), float(gaze[1]))
    away = 0.61 + rng.normal(0, 0.03)
    disc = (float(fovea[0] - 0.06 + rng.normal(0, 0.03)), float(fovea[1] - away))
    edge = (1 - np.hypot(x, y)) * np.float32(scale)
    field = np.clip(edge + 0.5, 0, 1)
    if camera == "A":  # the notch tells which way is up
        angle = -0.78
        along = x * side * np.cos(angle) + y * np.sin(angle)
        across = np.abs(-x * side * np.sin(angle) + y * np.cos(angle))
        bump = np.clip((0.055 - across - np.maximum(along - 0.99, 0) * 0.7) * scale, 0, 1) * (along > 0.9)
        field = np.maximum(field, bump * (along < 1.05))
    field = field.astype(np.float32)
    return Eye(size, centre, float(scale), side, x, y, fovea, disc, disc_radius, field)


@dataclass(frozen=True, eq=False)
class Vessels:
    """The vessel tree as pictures: how much of each pixel is artery, vein, or the bright streak on a vessel."""

    artery: np.ndarray
    vein: np.ndarray
    streak: np.ndarray
    veins: paint.Branches


def vessels(rng: np.random.Generator, eye: Eye, *, beading: float = 0.0) -> Vessels:
    """Paint arteries and veins: four arcades each, and three generations of branches.

    Args:
        rng: where the numbers come from.
        eye: the geometry.
        beading: how strongly veins change their width, 0..1 (a sign of severe retinopathy).
    """
    covers, mains = [], []
    width = rng.uniform(0.0118, 0.0155)
    turn = rng.uniform(0.7, 1.25)
    for kind, thick in (("artery", 0.72), ("vein", 1.0)):
        main = _arcades(rng, eye, width=width * thick, shift=0.0 if kind == "vein" else 1.0, turn=turn)
        if kind == "vein" and beading:
            beads = np.stack([paint.wave(rng, main.radii.shape[1], bumps=26) for _ in main.radii])
            main = paint.Branches(main.points, main.radii * (1 + 0.4 * beading * np.clip(beads, -1.5, 1.5)))
        first = paint.grow(
            rng, main, growth=paint.Growth(5, 0.52, spread=(0.35, 0.9), ratio=(0.38, 0.68), wobble=0.45 * turn)
        )
        second = paint.grow(rng, first, growth=paint.Growth(3, 0.26, ratio=(0.42, 0.7), wobble=0.5 * turn, steps=36))
        third = paint.grow(rng, second, growth=paint.Growth(1, 0.14, ratio=(0.4, 0.7), wobble=0.5, steps=20))
        points, radii = paint.joined([main, first, second, third])
        radii = (
            radii * np.clip((np.hypot(*(points - eye.fovea).T) - 0.1) / 0.2, 0, 1) * paint.ramp(radii, (0.0014, 0.0028))
        )
        covers.append(eye.stamp(points, radii, soft=0.55))
        mains.append(main)
    streak = eye.stamp(mains[0].points.reshape(-1, 2), mains[0].radii.reshape(-1) * 0.3, soft=0.5)
    return Vessels(covers[0], covers[1], streak, mains[1])


def _arcades(rng: np.random.Generator, eye: Eye, *, width: float, shift: float, turn: float) -> paint.Branches:
    """The main vessels from the disc: two bend round the macula, two go to the nasal side, some small ones straight."""
    lines, radii = [], []
    steps = 260
    reach = 0.47 + rng.normal(0, 0.03) + 0.05 * shift
    for up in (-1, 1):
        high = reach * rng.uniform(0.9, 1.1)
        temporal = [
            (0.0, -0.015), (0.11, -0.02), (0.24, 0.05), (0.40, 0.24),
            (high, 0.55), (high * 0.97, 0.87), (high * 0.8, 1.2), (high * 0.7, 1.55), (high * 0.65, 1.95),
        ]  # fmt: skip
        nasal = [(0.0, -0.015), (0.10, -0.06), (0.26, -0.16 - 0.05 * shift), (0.48, -0.32), (0.85, -0.6), (1.3, -0.8)]
        for control, thick in ((temporal, 1.0), (nasal, 0.72)):
            knots = np.array(control, np.float32) * [up, 1]
            bend = np.linspace(0, 1, len(knots))[:, None] ** 0.7
            knots = knots + rng.normal(0, 0.045, knots.shape) * bend + [0, 0.012 * shift * up]
            line = paint.curve(knots, steps)
            sway = paint.wave(rng, steps, bumps=9) * 0.012 * turn * np.linspace(0, 1, steps) ** 0.5
            ahead = np.gradient(line, axis=0)
            normal = np.stack([-ahead[:, 1], ahead[:, 0]], axis=1) / (np.hypot(*ahead.T)[:, None] + 1e-6)
            lines.append(line + normal * sway[:, None] + eye.disc)
            radii.append(width * thick * rng.uniform(0.9, 1.1) * np.linspace(1, 0.45, steps))
    for heading in (np.pi, 0.45, -0.45):  # small vessels straight to the nose and towards the macula
        angle = heading + rng.normal(0, 0.2)
        far = 0.9 if heading == np.pi else 0.33
        knots = np.linspace(0, far, 5)[:, None] * [np.sin(angle), np.cos(angle)]
        knots = knots + rng.normal(0, 0.02, knots.shape) * np.linspace(0, 1, 5)[:, None]
        lines.append(paint.curve(knots, steps) + eye.disc)
        radii.append(width * 0.42 * np.linspace(1, 0.4, steps))
    return paint.Branches(np.stack(lines).astype(np.float32), np.stack(radii).astype(np.float32))


@dataclass(frozen=True, eq=False)
class Tissue:
    """What a patient's two eyes share.

    Attributes:
        colour: red, green and blue of the plain fundus, 0..1.
        pigment: 0 blond to 1 very dark.
        tigroid: how clearly the choroidal vessels show through, 0..1.
        cup: radius of the cup relative to the disc.
    """

    colour: np.ndarray
    pigment: float
    tigroid: float
    cup: float


def retina(rng: np.random.Generator, eye: Eye, *, tissue: Tissue) -> np.ndarray:
    """Paint the fundus without vessels, `(3, size, size)`, 0..1."""
    size = eye.size
    cloud = paint.noise(rng, size, cells=3.5, octaves=4, keep=0.6)
    ridge = np.abs(paint.noise(rng, size, cells=19, octaves=2, keep=0.5))
    choroid = paint.ramp(ridge, (0.55, 0.05)) * paint.ramp(eye.distance(eye.fovea), (0.15, 0.7))
    grain = paint.noise(rng, size, cells=size / 2.6)
    macula = np.exp(-((eye.distance(eye.fovea) / np.float32(rng.uniform(0.17, 0.25))) ** 2))
    pit = np.exp(-((eye.distance(eye.fovea) / np.float32(rng.uniform(0.045, 0.07))) ** 2))
    density = 0.075 * cloud - 0.13 * tissue.tigroid * choroid + 0.018 * grain
    density += rng.uniform(0.18, 0.42) * macula + rng.uniform(0.1, 0.3) * pit
    picture = tissue.colour[:, None, None] * np.exp(-PIGMENT[:, None, None] * density)
    fibres = _nerve_fibres(rng, eye) * rng.uniform(0.0, 0.07)
    picture += np.array([0.5, 0.8, 0.6], np.float32)[:, None, None] * fibres
    sheen = rng.uniform(0, 1) ** 3 * 0.25 * np.exp(-((eye.distance(eye.fovea) / 0.018) ** 2))
    return picture + sheen


def _nerve_fibres(rng: np.random.Generator, eye: Eye) -> np.ndarray:
    """Fine bright streaks that leave the disc along the arcades, 0..1."""
    angle = np.arctan2(eye.y - np.float32(eye.disc[0]), eye.x - np.float32(eye.disc[1]))
    table = np.clip(paint.wave(rng, 720, bumps=150), 0, 2)
    table[0] = table[-1]
    streaks = table[((angle + np.pi) / (2 * np.pi) * 719).astype(np.intp)]
    away = eye.distance(eye.disc)
    return streaks * np.abs(np.sin(angle)) * np.exp(-((away - 0.3) ** 2) / 0.06)


def optic_disc(rng: np.random.Generator, eye: Eye, *, tissue: Tissue, picture: np.ndarray) -> np.ndarray:
    """Lay the disc with its cup on the picture (changed in place); returns the disc's cover."""
    oval = rng.uniform(1.02, 1.16)
    dy, dx = (eye.y - np.float32(eye.disc[0])) / np.float32(oval), eye.x - np.float32(eye.disc[1])
    wobble = 1 + 0.03 * np.sin(2 * np.arctan2(dy, dx) + rng.uniform(0, 6.3))
    away = np.hypot(dy, dx) / np.float32(eye.disc_radius) * wobble
    soft = rng.uniform(0.06, 0.16)
    disc = paint.ramp(away, (1 + soft, 1 - soft))
    centre = np.hypot(dy, dx - np.float32(0.08 * eye.disc_radius)) / np.float32(eye.disc_radius)
    cup = paint.ramp(centre, (tissue.cup + 0.13, tissue.cup - 0.13))
    bright = 0.55 + 0.45 * float(tissue.colour.mean()) / 0.5
    rim = np.clip(np.array([1.0, 0.72, 0.42], np.float32) * bright, 0, 1) * 0.68 + 0.32 * tissue.colour
    rosy = 1 - 0.14 * paint.ramp(-dx / np.float32(eye.disc_radius), (-0.2, 0.9))  # the nasal rim is redder
    pale = np.array([1.0, 0.92, 0.66], np.float32) * min(1.05, bright * 1.1)
    halo = np.exp(-(np.clip(away - 1, 0, None) ** 2) / 0.09) * rng.uniform(0.02, 0.12)
    crescent = paint.ramp(away, (1.35, 1.15)) * paint.ramp(dx, (0.2 * eye.disc_radius, 0.9 * eye.disc_radius))
    halo = halo + crescent * (rng.uniform() < 0.3) * rng.uniform(0.1, 0.35)
    for channel in range(3):
        plane = picture[channel]
        plane += (rim[channel] - plane) * halo
        tone = rim[channel] * (rosy if channel else 1.0)
        plane += (tone + (pale[channel] - tone) * cup * 0.85 - plane) * disc
    return disc


def light(rng: np.random.Generator, eye: Eye, *, picture: np.ndarray, haze: float) -> np.ndarray:
    """Shade the picture as flash, pupil and lens do; `haze` 0..1 is the opacity of the media."""
    spot = rng.normal(0, 0.22, 2)
    away2 = (eye.y - np.float32(spot[0])) ** 2 + (eye.x - np.float32(spot[1])) ** 2
    falloff = np.exp(-np.float32(rng.uniform(0.18, 0.55)) * away2)
    picture = picture * (falloff * np.float32(rng.uniform(0.92, 1.12)))
    fog = np.clip(0.6 + 0.5 * paint.noise(rng, eye.size, cells=2.5, octaves=2), 0, 1.6) * np.float32(haze)
    veil = np.array([0.62, 0.55, 0.48], np.float32) * np.float32(picture.mean() * 2.2)
    picture = picture + (veil[:, None, None] - picture) * np.clip(fog, 0, 0.75)
    if rng.uniform() < 0.3:  # light scattered at the edge of the pupil
        angle = rng.uniform(0, 2 * np.pi)
        toward = eye.x * np.float32(np.cos(angle)) + eye.y * np.float32(np.sin(angle))
        rim = paint.ramp(np.hypot(eye.x, eye.y), (0.78, 1.02)) * paint.ramp(toward, (0.45, 0.95))
        tint = np.array([1.0, 0.9, 0.68] if rng.uniform() < 0.6 else [0.75, 0.85, 1.0], np.float32)
        picture = picture + (rim * np.float32(rng.uniform(0.1, 0.55)))[None] * tint[:, None, None]
    return picture


def blurred(picture: np.ndarray, sigma: float) -> np.ndarray:
    """Get the planes blurred by `sigma` pixels; below .3 the picture as it is."""
    if sigma < 0.3:
        return picture
    return np.stack([ndimage.gaussian_filter(plane, sigma, truncate=3.0) for plane in picture])
