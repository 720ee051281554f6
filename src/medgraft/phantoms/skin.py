"""Dermoscopic pictures of pigmented skin lesions, benign or malignant; one to three lesions a patient."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from medgraft.phantoms import naevus, paint
from medgraft.phantoms.case import Case, Lesion, patient_of
from medgraft.seeds import generator, permutation

KINDS = ("background", "benign", "malignant")
_IMAGES = (1, 2, 3)  # lesions of the patients of a block
_BLOCK = 10
_SITES = ("back", "chest", "abdomen", "upper_limb", "lower_limb", "face")
# Melanin of the skin by Fitzpatrick type I to VI, and how many of each a set has.
_TYPES = ("I", "II", "III", "IV", "V", "VI")
_SHARES = (0.18, 0.30, 0.26, 0.14, 0.08, 0.04)
_MELANIN = (0.02, 0.06, 0.12, 0.22, 0.40, 0.62)


def skin(index: int, *, seed: int = 0, size: int = 224) -> Case:
    """Get picture `index` of a pigmented lesion.

    Args:
        index: which image of the set; each can be made alone.
        seed: of the set.
        size: width and height in pixels.
    """
    number, place = patient_of(index, sizes=_IMAGES)
    person = generator(seed, "phantom-skin-patient", index=number)
    kind = int(person.choice(6, p=_SHARES))
    age = int(np.clip(person.normal(52, 16), 18, 90))
    sex = str(person.choice(["F", "M"]))
    rng = generator(seed, "phantom-skin", index=index)
    block, rank = divmod(index, _BLOCK)
    malignant = bool(permutation(_BLOCK, seed=seed, purpose="phantom-skin-order", epoch=block)[rank] < _BLOCK * 0.4)
    atypia = float(rng.beta(5.0, 2.0) if malignant else rng.beta(1.5, 5.5))
    label = KINDS[1 + malignant]
    form = naevus.outline(rng, size, atypia=atypia)
    picture = _surface(rng, size, melanin=_MELANIN[kind] * rng.uniform(0.8, 1.2))
    picture = _stained(rng, picture, naevus.pigment(rng, form, atypia=atypia))
    mask = (form.depth > 0).astype(np.uint8) * np.uint8(1 + malignant)
    centre = np.argwhere(mask).mean(axis=0)
    radius = float(np.sqrt((mask > 0).sum() / np.pi))
    return Case(
        name=f"phantom_skin_{number + 1:04d}_{place + 1}",
        pixels=_photograph(rng, picture),
        label=label,
        patient=f"phantom-{number + 1:04d}",
        lesions=(Lesion(label, round(float(centre[0]), 2), round(float(centre[1]), 2), radius),),
        mask=mask,
        mask_names=KINDS,
        covariates={
            "skin_type": _TYPES[kind],
            "site": str(rng.choice(_SITES)),
            "age": str(age),
            "sex": sex,
        },
    )


def _surface(rng: np.random.Generator, size: int, *, melanin: float) -> np.ndarray:
    """Paint skin without the lesion, `(3, size, size)`: tone, blotches, small vessels, creases."""
    tone = np.array([0.93, 0.75, 0.69], np.float32) * rng.normal(1, 0.02, 3).astype(np.float32)
    cloud = paint.noise(rng, size, cells=4, octaves=6, keep=0.72)
    flush = np.clip(rng.uniform(0.0, 0.22) + 0.05 * paint.noise(rng, size, cells=5, octaves=4, keep=0.8), 0, 1)
    vessels = np.exp(-7 * np.abs(paint.noise(rng, size, cells=13, octaves=2)))
    patches = paint.ramp(paint.noise(rng, size, cells=5, octaves=2), (0.0, 1.3))
    flush = flush + np.float32(rng.uniform(0, 0.2)) * vessels * patches
    brown = melanin * (1 + 0.1 * cloud) + 0.012 * cloud + 0.02 * paint.noise(rng, size, cells=size / 6, octaves=2)
    if rng.uniform() < 0.4:  # freckles and the mottle of sun-worn skin
        spots = paint.ramp(paint.noise(rng, size, cells=rng.uniform(9, 26), octaves=4, keep=0.6), (0.5, 3.2))
        brown = brown + np.float32(rng.uniform(0.08, 0.35)) * spots
    crease = np.zeros((size, size), np.float32)
    row, column = paint.pixel_grid(size)
    bend = 5 * paint.noise(rng, size, cells=5)
    for lean in rng.uniform(0, np.pi) + np.array([0.0, 1.1]):
        phase = (row * np.float32(np.sin(lean)) + column * np.float32(np.cos(lean)) + bend) * (224 / size)
        crease += np.clip(np.cos(phase * np.float32(2 * np.pi / rng.uniform(7, 13))) - 0.6, 0, 1)
    brown = brown + np.float32(rng.uniform(0.0, 0.07)) * crease
    density = naevus.MELANIN[:, None, None] * brown + naevus.HAEM[:, None, None] * flush
    return tone[:, None, None] * np.exp(-density)


def _stained(rng: np.random.Generator, picture: np.ndarray, ink: naevus.Pigment) -> np.ndarray:
    """Let the lesion absorb, and lay veil and scar over it."""
    red = np.float32(rng.uniform(0.4, 1.5))
    density = naevus.MELANIN[:, None, None] * ink.melanin * np.float32(1.35)
    density = density + naevus.HAEM[:, None, None] * ink.haem * red
    blue = np.array([0.40, 0.43, 0.56], np.float32) * np.float32(rng.uniform(0.7, 1.15))
    pale = np.array([0.93, 0.82, 0.80], np.float32) * np.float32(min(1.0, picture.mean() * 1.35))
    picture = picture * np.exp(-density)
    picture = picture + (pale[:, None, None] - picture) * ink.scar
    return picture + (blue[:, None, None] - picture) * ink.veil


def _photograph(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Get the 8-bit picture: hairs, bubbles, ruler, lens, colour cast and noise, `(H, W, 3)`."""
    size = picture.shape[1]
    scale = size / 224
    _hairs(rng, picture)
    if rng.uniform() < 0.25:
        _bubbles(rng, picture)
    if rng.uniform() < 0.18:
        _ruler(rng, picture)
    row, column = paint.pixel_grid(size)
    away = np.hypot(row - size / 2, column - size / 2) / (size / 2)
    shade = 1 - np.float32(rng.uniform(0.02, 0.22)) * away**2
    slope = rng.normal(0, 0.05, 2)
    shade = shade + (row / size - 0.5) * np.float32(slope[0]) + (column / size - 0.5) * np.float32(slope[1])
    if rng.uniform() < 0.22:  # the round edge of a contact lens
        edge = rng.uniform(1.02, 1.25)
        shade = shade * (0.04 + 0.96 * paint.ramp(away, (edge + rng.uniform(0.02, 0.12), edge - 0.04)))
    sigma = scale * rng.uniform(0.2, 0.75)
    picture = np.stack([ndimage.gaussian_filter(plane, sigma, truncate=3.0) for plane in picture])
    cast = np.array([1.0, 1.0, 1.0]) + rng.normal(0, 1, 3) * [0.03, 0.03, 0.07]
    picture = picture * shade * cast.astype(np.float32)[:, None, None] * np.float32(rng.uniform(0.88, 1.12))
    picture = np.clip(picture, 0, None) ** np.float32(rng.uniform(0.85, 1.25))
    picture = picture + rng.standard_normal((3, size, size), dtype=np.float32) * np.float32(rng.uniform(0.004, 0.014))
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0).copy()


def _hairs(rng: np.random.Generator, picture: np.ndarray) -> None:
    size = picture.shape[1]
    count = int(rng.poisson(rng.choice([0.3, 3.0, 14.0], p=[0.55, 0.33, 0.12])))
    if not count:
        return
    facing, lines, radii = rng.uniform(0, 2 * np.pi), [], []
    for _ in range(count):
        angle = facing + rng.normal(0, 0.5)
        length = size * rng.uniform(0.15, 0.7)
        steps = int(length * 1.5) + 8
        heading = angle + np.cumsum(np.full(steps, rng.normal(0, 1.2) / steps))
        move = np.stack([np.sin(heading), np.cos(heading)], axis=1) * length / steps
        lines.append(rng.uniform(0, size, 2) + np.cumsum(move, axis=0))
        radii.append(size / 224 * rng.uniform(0.3, 0.75) * np.linspace(1, 0.4, steps))
    cover = paint.stamp(size, np.concatenate(lines), radii=np.concatenate(radii), soft=0.55)
    light = rng.uniform() < 0.15
    colour = np.array([0.85, 0.8, 0.7] if light else [0.16, 0.1, 0.08], np.float32)
    picture += (colour[:, None, None] - picture) * cover * np.float32(0.5 if light else rng.uniform(0.6, 0.9))


def _bubbles(rng: np.random.Generator, picture: np.ndarray) -> None:
    size = picture.shape[1]
    count = int(rng.integers(1, 16))
    places = rng.uniform(0, size, (count, 2))
    radii = size / 224 * rng.lognormal(1.2, 0.6, count)
    rim = paint.stamp(size, places, radii=radii) - paint.stamp(size, places, radii=radii * 0.78)
    picture -= 0.16 * np.clip(rim, 0, 1) * picture
    picture += 0.5 * paint.stamp(size, places - 0.4 * radii[:, None], radii=radii * 0.2) * (1 - picture)


def _ruler(rng: np.random.Generator, picture: np.ndarray) -> None:
    """Dark millimetre ticks along an edge."""
    size = picture.shape[1]
    step, length = size * rng.uniform(0.04, 0.07), size * 0.05
    where = np.arange(0, size, step) + rng.uniform(0, step)
    along = np.linspace(0, 1, 14)
    reach = np.where(np.arange(len(where)) % 5 == 0, 1.7, 1.0) * length
    start = size * rng.uniform(0.0, 0.03)
    inward = start + reach[:, None] * along
    points = np.stack([np.broadcast_to(where[:, None], inward.shape), inward], axis=-1).reshape(-1, 2)
    if rng.uniform() < 0.5:
        points = points[:, ::-1]
    if rng.uniform() < 0.5:
        points = size - points
    cover = paint.stamp(size, points, radii=np.full(len(points), 0.4 * size / 224), soft=0.5)
    picture *= 1 - 0.75 * cover
