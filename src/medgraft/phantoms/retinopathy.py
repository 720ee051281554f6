"""Lesions of diabetic retinopathy by grade, and the harmless spots that look a little like them.

Grades follow the International Clinical Diabetic Retinopathy scale
(Wilkinson et al., Ophthalmology 2003): 0 none; 1 microaneurysms only; 2 more
than that; 3 many haemorrhages in all four quadrants, venous beading or fine
abnormal vessels; 4 new vessels or bleeding in front of the retina.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from medgraft.phantoms import paint
from medgraft.phantoms.case import Lesion
from medgraft.phantoms.eye import Eye

KINDS = ("background", "microaneurysm", "haemorrhage", "exudate", "cotton_wool_spot", "new_vessels")


@dataclass(eq=False)
class Findings:
    """Painted lesions: covers by how they change the light, the label map, and the list."""

    blood: np.ndarray
    lipid: np.ndarray
    cotton: np.ndarray
    mask: np.ndarray
    lesions: list[Lesion] = field(default_factory=list)


@dataclass(frozen=True)
class Burden:
    """How many lesions of each kind an eye has."""

    microaneurysms: int = 0
    blots: int = 0
    flames: int = 0
    exudates: int = 0
    cotton: int = 0
    fans: int = 0
    pools: int = 0


def burden(rng: np.random.Generator, grade: int) -> Burden:
    """Draw the number of lesions of an eye of this grade."""
    if grade == 0:
        return Burden()
    if grade == 1:
        return Burden(microaneurysms=int(rng.integers(6, 22)))
    if grade == 2:
        return Burden(
            microaneurysms=int(rng.integers(8, 26)),
            blots=int(rng.integers(4, 15)),
            flames=int(rng.integers(0, 5)),
            exudates=int(rng.integers(0, 6)),
            cotton=int(rng.integers(0, 3)),
        )
    many = Burden(
        microaneurysms=int(rng.integers(16, 45)),
        blots=int(rng.integers(18, 42)),
        flames=int(rng.integers(4, 12)),
        exudates=int(rng.integers(0, 6)),
        cotton=int(rng.integers(1, 6)),
    )
    if grade == 3:
        return many
    fewer = rng.uniform(0.3, 0.9)
    return Burden(
        microaneurysms=round(many.microaneurysms * fewer),
        blots=round(many.blots * fewer),
        flames=round(many.flames * fewer),
        exudates=many.exudates,
        cotton=many.cotton,
        fans=int(rng.integers(1, 4)),
        pools=int(rng.uniform() < 0.4),
    )


def paint_lesions(rng: np.random.Generator, eye: Eye, *, amount: Burden) -> Findings:
    """Paint an eye's lesions; with an empty burden the findings are empty."""
    blank = np.zeros((eye.size, eye.size), np.float32)
    found = Findings(blank, blank.copy(), blank.copy(), np.zeros((eye.size, eye.size), np.uint8))
    for _ in range(amount.cotton):
        _cotton(rng, eye, found)
    for _ in range(amount.exudates):
        _exudates(rng, eye, found)
    for _ in range(amount.pools):
        _pool(rng, eye, found)
    for number in range(amount.blots):
        _blot(rng, eye, found, quadrant=number % 4)
    for number in range(amount.flames):
        _flame(rng, eye, found, quadrant=number % 4)
    for number in range(amount.fans):
        _fan(rng, eye, found, at_disc=number == 0 and rng.uniform() < 0.6)
    if amount.microaneurysms:
        _microaneurysms(rng, eye, found, count=amount.microaneurysms)
    found.mask[eye.field < 0.5] = 0
    return found


def _place(rng: np.random.Generator, eye: Eye, *, spread: float, quadrant: int | None = None) -> np.ndarray:
    """Draw a unit (y, x) around the macula, off the disc and the fovea, inside the picture and the field."""
    for _ in range(200):
        angle = rng.uniform(-np.pi, np.pi) if quadrant is None else (quadrant + rng.uniform()) * np.pi / 2
        away = 0.12 + abs(rng.normal(0, spread))
        place = np.array([eye.fovea[0] + away * np.sin(angle), eye.fovea[1] + away * np.cos(angle)])
        row, column = eye.pixels(place[None])[0]
        margin = 0.04 * eye.size
        on_canvas = margin < row < eye.size - margin and margin < column < eye.size - margin
        off_disc = np.hypot(*(place - eye.disc)) > 1.35 * eye.disc_radius
        if on_canvas and off_disc and np.hypot(*place) < 0.88:
            return place
    return np.array([eye.fovea[0] + 0.2, eye.fovea[1] + 0.2])


def _note(eye: Eye, found: Findings, kind: str, cover: np.ndarray, *, place: np.ndarray, radius: float) -> None:
    """Write a lesion into the label map and the list; a lesion fainter than half still has its centre marked."""
    row, column = (round(float(v), 2) for v in eye.pixels(np.asarray(place)[None])[0])
    found.mask[cover > 0.4] = KINDS.index(kind)
    found.mask[round(row), round(column)] = KINDS.index(kind)
    found.lesions.append(Lesion(kind, row, column, float(radius * eye.scale)))


def _microaneurysms(rng: np.random.Generator, eye: Eye, found: Findings, *, count: int) -> None:
    places = np.stack([_place(rng, eye, spread=0.36) for _ in range(count)])
    radii = rng.uniform(0.009, 0.0155, count)
    cover = eye.stamp(places, radii, soft=0.7)
    dark = rng.uniform(0.9, 1.25)
    np.maximum(found.blood, cover * np.float32(dark), out=found.blood)
    found.mask[(cover > 0.4) & (found.mask == 0)] = KINDS.index("microaneurysm")
    for place, radius in zip(places, radii, strict=True):
        row, column = (round(float(v), 2) for v in eye.pixels(place[None])[0])
        if found.mask[round(row), round(column)] == 0:
            found.mask[round(row), round(column)] = KINDS.index("microaneurysm")
        found.lesions.append(Lesion("microaneurysm", row, column, float(radius * eye.scale)))


def _blot(rng: np.random.Generator, eye: Eye, found: Findings, *, quadrant: int) -> None:
    place = _place(rng, eye, spread=0.42, quadrant=quadrant)
    radius = min(0.0145 * rng.lognormal(0.1, 0.42), 0.045)
    lobes = int(rng.integers(3, 7))
    around = place + rng.normal(0, 0.55 * radius, (lobes, 2))
    cover = eye.stamp(np.vstack([place[None], around]), radius * rng.uniform(0.6, 1.0, lobes + 1), soft=1.1)
    np.maximum(found.blood, cover * np.float32(rng.uniform(1.0, 1.8)), out=found.blood)
    _note(eye, found, "haemorrhage", cover, place=place, radius=1.4 * radius)


def _flame(rng: np.random.Generator, eye: Eye, found: Findings, *, quadrant: int) -> None:
    """A flame lies in the nerve fibres, so it points at the disc and is frayed at its ends."""
    place = _place(rng, eye, spread=0.45, quadrant=quadrant)
    outward = place - eye.disc
    outward = outward / np.hypot(*outward)
    across = np.array([-outward[1], outward[0]])
    length, width = rng.uniform(0.03, 0.075), rng.uniform(0.008, 0.018)
    strands = int(rng.integers(4, 9))
    sideways = rng.normal(0, width, strands)
    reach = length * rng.uniform(0.5, 1.0, strands) * np.exp(-((sideways / (2 * width)) ** 2))
    along = np.linspace(-1, 1, 14)
    points = place + across * sideways[:, None, None] + outward * (reach[:, None] * along)[..., None]
    radii = np.broadcast_to(0.0065 * (1.15 - along**2), (strands, 14))
    cover = eye.stamp(points.reshape(-1, 2), radii.reshape(-1), soft=0.7)
    np.maximum(found.blood, cover * np.float32(rng.uniform(0.9, 1.4)), out=found.blood)
    _note(eye, found, "haemorrhage", cover, place=place, radius=length)


def _exudates(rng: np.random.Generator, eye: Eye, found: Findings) -> None:
    """A cluster of small sharp yellow deposits, sometimes a ring round a leaking spot."""
    place = _place(rng, eye, spread=0.26)
    count = int(rng.integers(5, 26))
    width = rng.uniform(0.035, 0.1)
    if rng.uniform() < 0.35:
        angle = rng.uniform(0, 1.3 * np.pi) + rng.uniform(0, 1.5 * np.pi, count)
        away = width * rng.normal(1, 0.12, count)
        spots = place + np.stack([np.sin(angle), np.cos(angle)], axis=1) * away[:, None]
    else:
        spots = place + rng.normal(0, 0.6 * width, (count, 2)) * rng.uniform(0.4, 1.0, 2)
    radii = 0.0085 * rng.lognormal(0, 0.4, count)
    cover = eye.stamp(spots, radii, soft=0.55)
    np.maximum(found.lipid, cover * np.float32(rng.uniform(0.6, 0.95)), out=found.lipid)
    nearest = spots[np.argmin(np.hypot(*(spots - spots.mean(0)).T))]
    _note(eye, found, "exudate", cover, place=nearest, radius=width)


def _cotton(rng: np.random.Generator, eye: Eye, found: Findings) -> None:
    place = _place(rng, eye, spread=0.42)
    radius = rng.uniform(0.02, 0.042)
    lobes = place + rng.normal(0, 0.5 * radius, (6, 2))
    cover = eye.stamp(np.vstack([place[None], lobes]), radius * rng.uniform(0.35, 0.7, 7), soft=0.026 * eye.scale)
    np.maximum(found.cotton, cover * np.float32(rng.uniform(0.55, 0.85)), out=found.cotton)
    _note(eye, found, "cotton_wool_spot", cover, place=place, radius=radius)


def _fan(rng: np.random.Generator, eye: Eye, found: Findings, *, at_disc: bool) -> None:
    """New vessels: a fan of fine winding loops, at the disc or elsewhere along the arcades."""
    place = np.array(eye.disc) + rng.normal(0, 0.03, 2) if at_disc else _place(rng, eye, spread=0.5)
    width = rng.uniform(0.07, 0.15)
    facing = rng.uniform(-np.pi, np.pi)
    stems = 9
    angle = facing + rng.uniform(-1.3, 1.3, stems)
    along = np.linspace(0, 1, 40)
    curl = np.stack([paint.wave(rng, 40, bumps=7) for _ in range(stems)]) * 0.75
    step = width * rng.uniform(0.7, 1.3, (stems, 1)) / 40
    heading = angle[:, None] + np.cumsum(curl, axis=1) * 0.25
    points = np.stack([np.cumsum(np.sin(heading) * step, 1), np.cumsum(np.cos(heading) * step, 1)], -1) + place
    stem = paint.Branches(points.astype(np.float32), np.broadcast_to(0.0048 * (1.2 - 0.4 * along), (stems, 40)))
    twigs = paint.grow(
        rng, stem, growth=paint.Growth(3, width * 0.4, curl=1.6, wobble=1.5, ratio=(0.7, 0.95), steps=20)
    )
    spots, radii = paint.joined([stem, twigs])
    cover = eye.stamp(spots, radii, soft=0.6)
    np.maximum(found.blood, cover * np.float32(rng.uniform(0.7, 1.0)), out=found.blood)
    middle = spots[np.argmin(np.hypot(*(spots - spots.mean(0)).T))]
    _note(eye, found, "new_vessels", cover, place=middle, radius=width * 0.6)


def _pool(rng: np.random.Generator, eye: Eye, found: Findings) -> None:
    """Blood between retina and vitreous: it sinks, so its upper edge is level."""
    place = _place(rng, eye, spread=0.4)
    radius = rng.uniform(0.07, 0.16)
    dy, dx = eye.y - np.float32(place[0]), eye.x - np.float32(place[1])
    level = paint.ramp(dy, (-0.012, 0.012))
    cover = paint.ramp(np.hypot(dy * 1.5, dx), (radius, radius * 0.88)) * level
    low = place + np.array([0.3 * radius, 0])
    np.maximum(found.blood, cover * np.float32(rng.uniform(1.3, 2.0)), out=found.blood)
    _note(eye, found, "haemorrhage", cover, place=low, radius=radius)


def distractors(rng: np.random.Generator, eye: Eye, *, picture: np.ndarray, age: int) -> None:
    """Add what healthy eyes have too: drusen, reflections of the lens, dust, spots of pigment (in place)."""
    pale, bright = np.array([0.97, 0.86, 0.55], np.float32), np.array([1.0, 0.97, 0.95], np.float32)
    if rng.uniform() < 0.12 + 0.4 * max(0, age - 45) / 40:
        count = int(rng.integers(3, 26))
        spots = np.array(eye.fovea) + rng.normal(0, rng.uniform(0.08, 0.25), (count, 2))
        drusen = eye.stamp(spots, rng.uniform(0.006, 0.015, count), soft=1.3) * rng.uniform(0.1, 0.3)
        _blend(picture, drusen, pale)
    if rng.uniform() < 0.35:
        count = int(rng.integers(1, 5))
        spots = rng.uniform(-0.6, 0.6, (count, 2))
        ghost = eye.stamp(spots, rng.uniform(0.012, 0.07, count), soft=2.5) * rng.uniform(0.06, 0.3)
        _blend(picture, ghost, bright * np.float32(min(1.0, picture.mean() * 2.5)))
    if rng.uniform() < 0.35:
        count = int(rng.integers(1, 9))
        dust = eye.stamp(rng.uniform(-0.8, 0.8, (count, 2)), rng.uniform(0.004, 0.012, count), soft=0.9)
        picture *= 1 - (dust * np.float32(rng.uniform(0.12, 0.4)))[None]
    if rng.uniform() < 0.06:
        place = _place(rng, eye, spread=0.5)
        lobes = place + rng.normal(0, 0.03, (5, 2))
        spot = eye.stamp(lobes, rng.uniform(0.03, 0.06, 5), soft=4.0) * rng.uniform(0.15, 0.35)
        picture *= 1 - spot[None] * np.array([0.9, 0.8, 0.6], np.float32)[:, None, None]


def _blend(picture: np.ndarray, cover: np.ndarray, colour: np.ndarray) -> None:
    picture += (colour[:, None, None] - picture) * cover[None].astype(np.float32)
