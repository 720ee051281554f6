"""Photographs of the front of an eye, healthy or with microbial keratitis; one or two of an eye, one eye a patient.

What an ill eye shows: an infiltrate of the stroma (whitish, fuzzy edge) in a hazy cornea, a defect of the epithelium
over it that takes up fluorescein, red vessels with a flush around the cornea, sometimes pus in the chamber (hypopyon).
How far it has gone is one number, `burden`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from medgraft.phantoms import ocular, paint
from medgraft.phantoms.case import Case, Lesion, patient_of
from medgraft.seeds import generator, permutation

KINDS = ("background", "infiltrate", "defect", "hypopyon")
ANATOMY = ("background", "lid", "white", "iris", "pupil")
_IMAGES = (1, 2, 1, 1, 2, 1, 1, 2, 1, 1)  # photographs of the patients of a block
_ILL = 4  # of the patients of a block
_PUS = np.array([0.93, 0.89, 0.72], np.float32)
_OPAQUE = np.array([0.93, 0.92, 0.86], np.float32)


@dataclass(frozen=True, eq=False)
class _Patient:
    age: int
    sex: str
    eye: ocular.Owner
    ill: bool
    burden: float
    red: float
    scar: bool


@dataclass(frozen=True, eq=False)
class _Ulcer:
    """What the disease paints, each `(size, size)` in 0..1: cover of the infiltrate, haze, defect and pus."""

    opaque: np.ndarray
    haze: np.ndarray
    defect: np.ndarray
    pus: np.ndarray


def keratitis(index: int, *, seed: int = 0, size: int = 224) -> Case:
    """Get photograph `index` of the front of an eye.

    Args:
        index: which image of the set; each can be made alone.
        seed: of the set.
        size: width and height in pixels.
    """
    number, place = patient_of(index, sizes=_IMAGES)
    person = _patient(seed, number)
    rng = generator(seed, "phantom-keratitis", index=index)
    where = ocular.view(rng, size, eye=person.eye)
    ulcer = _ulcer(generator(seed, "phantom-keratitis-ulcer", index=number), where, person)
    picture = np.zeros((3, size, size), np.float32)
    ocular.white(rng, where, picture=picture, age=person.age)
    body = generator(seed, "phantom-keratitis-body", index=number)
    blood = ocular.vessels(body, where, red=person.red) * paint.ramp(where.away, (1.0, 1.05))
    picture *= np.exp(-ocular.BLOOD[:, None, None] * blood[None])
    coloured = ocular.iris(body, where, eye=person.eye)
    limbus = np.float32(0.05 + 0.03 * rng.uniform())
    picture += (coloured - picture) * paint.ramp(where.away, (1 + limbus, 1 - limbus))[None]
    light = str(rng.choice(["plain", "slit", "cobalt"], p=[0.55, 0.27, 0.18]))
    _cornea(rng, where, picture, person, ulcer)
    mask, lesions = _truth(where, ulcer, ill=person.ill)
    _lit(rng, where, picture, light=light, ulcer=ulcer)
    ocular.lids(rng, where, eye=_under(person.eye, light), picture=picture)
    return Case(
        name=f"phantom_keratitis_{number + 1:04d}_{place + 1}",
        pixels=_photograph(rng, picture),
        label="keratitis" if person.ill else "healthy",
        patient=f"phantom-{number + 1:04d}",
        lesions=lesions,
        mask=mask,
        mask_names=KINDS,
        covariates={"light": light, "age": str(person.age), "sex": person.sex},
        anatomy=_anatomy(where, person.eye.pupil),
        anatomy_names=ANATOMY,
    )


def _patient(seed: int, number: int) -> _Patient:
    block, place = divmod(number, len(_IMAGES))
    rng = generator(seed, "phantom-keratitis-patient", index=number)
    ill = bool(permutation(len(_IMAGES), seed=seed, purpose="phantom-keratitis-order", epoch=block)[place] < _ILL)
    age = int(np.clip(rng.normal(50, 17), 18, 90))
    burden = float(rng.beta(1.5, 1.9)) if ill else 0.0
    tired = float(rng.beta(1.3, 4.5))  # eyes are red for other reasons, too
    red = float(np.clip(0.12 + 0.35 * tired + (0.2 + 0.5 * burden) * ill * rng.uniform(0.5, 1.2), 0, 1))
    eye = ocular.owner(rng, age=age)
    scar = not ill and rng.uniform() < 0.12
    return _Patient(age, str(rng.choice(["F", "M"])), eye, ill, burden, red, bool(scar))


def _ulcer(rng: np.random.Generator, where: ocular.View, person: _Patient) -> _Ulcer:
    none = np.zeros_like(where.away)
    if not person.ill:
        return _Ulcer(none, none, none, none)
    reach = 0.1 + 0.36 * person.burden
    far, way = rng.uniform(0, 1) ** 0.7 * (0.82 - reach * 0.7), rng.uniform(-0.25, np.pi + 0.25)
    middle = np.float32(far * np.sin(way) * 0.8), np.float32(far * np.cos(way))
    lean, oval = rng.uniform(0, np.pi), rng.uniform(0.65, 1.0)
    dy, dx = where.y - middle[0], where.x - middle[1]
    angle = np.arctan2(dy, dx)
    ragged = sum(rng.normal(0, 0.09) / k**0.5 * np.cos(k * angle + rng.uniform(0, 6.3)) for k in range(2, 8))
    along = dx * np.float32(np.cos(lean)) + dy * np.float32(np.sin(lean))
    across = dy * np.float32(np.cos(lean)) - dx * np.float32(np.sin(lean))
    gap = np.hypot(along, across / np.float32(oval)) / np.float32(reach) / (1 + np.asarray(ragged, np.float32))
    soft = float(rng.uniform(0.25, 0.6))
    inside = paint.ramp(where.away, (1.02, 0.96))
    opaque = paint.ramp(gap, (1 + soft, 1 - soft)) * inside * np.float32(0.5 + 0.48 * rng.beta(2, 1.2))
    haze = np.exp(-np.clip(gap - 0.6, 0, None) / np.float32(rng.uniform(0.7, 1.6))) * inside
    haze = haze * np.float32(0.12 + 0.4 * person.burden * rng.uniform(0.5, 1))
    edge = rng.uniform(1.1, 1.5)
    defect = paint.ramp(gap, (edge + 0.1, edge - 0.1)) * inside if rng.uniform() < 0.85 else none
    pus = none
    if person.burden > 0.4 and rng.uniform() < 0.5:
        level = 0.93 - rng.uniform(0.1, 0.42) * person.burden
        bowl = paint.ramp(where.away, (0.97, 0.9))
        pus = paint.ramp(where.y, (level - 0.02, level + 0.03)) * bowl
    return _Ulcer(opaque.astype(np.float32), haze.astype(np.float32), defect.astype(np.float32), pus)


def _cornea(rng: np.random.Generator, where: ocular.View, picture: np.ndarray, person: _Patient, ulcer: _Ulcer) -> None:
    """Lay what is in and behind the cornea over the iris, in place."""
    mottle = paint.noise(rng, where.size, cells=16, octaves=3, keep=0.6)
    if person.eye.arcus:
        ring = np.exp(-(((where.away - 0.9) / 0.05) ** 2)) * np.float32(0.5 * person.eye.arcus)
        picture += (np.float32(0.78) - picture) * ring[None]
    if person.scar:  # an old, thin, quiet opacity
        spot = rng.uniform(-0.55, 0.55, 2).astype(np.float32)
        gap = np.hypot(where.x - spot[0], (where.y - spot[1]) * 1.2) / np.float32(rng.uniform(0.1, 0.22))
        picture += (np.float32(0.72) - picture) * (paint.ramp(gap, (1.05, 0.9)) * np.float32(rng.uniform(0.12, 0.3)))
    picture += (_PUS[:, None, None] - picture) * (ulcer.pus * np.float32(0.93))[None]
    haze = np.clip(ulcer.haze * (1 + 0.15 * mottle), 0, 0.8)
    picture += (np.array([0.66, 0.70, 0.72], np.float32)[:, None, None] - picture) * haze[None]
    cover = np.clip(ulcer.opaque * (1 + 0.07 * mottle), 0, 0.99)
    tint = _OPAQUE * np.array([1, 0.99, float(rng.uniform(0.86, 1.0))], np.float32)
    picture += (tint[:, None, None] * (1 + 0.04 * mottle)[None] - picture) * cover[None]


def _lit(rng: np.random.Generator, where: ocular.View, picture: np.ndarray, *, light: str, ulcer: _Ulcer) -> None:
    """Light the eye as the lamp does, with dye under cobalt light, and add what the cornea mirrors; in place."""
    rough = 0.05 + 0.25 * ulcer.defect
    bump = paint.noise(rng, where.size, cells=30, octaves=2)
    if light == "slit":
        centre, width = rng.uniform(-0.75, 0.75), rng.uniform(0.09, 0.24)
        bend = np.float32(centre + rng.choice([-1, 1]) * 0.22) * (1 - np.clip(where.y, -1.2, 1.2) ** 2 * 0.4)
        beam = np.exp(-(((where.x - bend) / np.float32(width)) ** 4)) * np.exp(-((where.y / 1.35) ** 6))
        picture *= (np.float32(rng.uniform(0.34, 0.55)) + np.float32(rng.uniform(0.6, 0.85)) * beam)[None]
        scatter = beam * where.cornea * np.float32(rng.uniform(0.04, 0.1))
        picture += scatter[None] * np.array([0.8, 0.9, 1.0], np.float32)[:, None, None]
    elif light == "cobalt":
        gray = picture.mean(axis=0)
        picture[:] = np.stack([0.05 + 0.12 * gray, 0.08 + 0.27 * gray, 0.3 + 0.62 * gray]) * np.float32(
            rng.uniform(0.7, 1.0)
        )
        tears = np.exp(-((where.lower / 0.055) ** 2)) * np.float32(rng.uniform(0.3, 0.9))
        film = np.clip(0.05 + 0.035 * paint.noise(rng, where.size, cells=9, octaves=2), 0, 0.2) * where.cornea
        glow = np.clip(ulcer.defect * (0.85 + 0.1 * bump) + 0.2 * ulcer.opaque + tears + film, 0, 1)
        picture += (np.array([0.35, 0.95, 0.38], np.float32)[:, None, None] - picture) * (0.9 * glow)[None]
    spots = int(rng.integers(1, 3))
    for _ in range(spots):
        y, x = rng.uniform(-0.5, 0.25), rng.uniform(-0.5, 0.5)
        tall, wide = rng.uniform(0.05, 0.13), rng.uniform(0.04, 0.13)
        power = float(rng.choice([2.0, 8.0]))
        dy, dx = where.y - np.float32(y) + 0.1 * rough * bump, where.x - np.float32(x) + 0.1 * rough * bump
        shape = np.exp(-(np.abs(dy / np.float32(tall)) ** power + np.abs(dx / np.float32(wide)) ** power))
        picture += (np.float32(rng.uniform(0.7, 1.0)) * shape * where.cornea)[None]
    shine = paint.ramp(paint.noise(rng, where.size, cells=34, octaves=2), (2.2, 3.2)) * where.open
    picture += (0.45 * shine * paint.ramp(where.away, (1.0, 1.1)))[None]


def _under(eye: ocular.Owner, light: str) -> ocular.Owner:
    """Lids are lit by the same lamp."""
    if light == "cobalt":
        gray = float(eye.skin.mean())
        return replace(eye, skin=np.array([0.08, 0.13, 0.62], np.float32) * np.float32(gray + 0.1))
    return replace(eye, skin=eye.skin * np.float32(0.5)) if light == "slit" else eye


def _photograph(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Get the 8-bit picture a camera makes, `(H, W, 3)`."""
    size = picture.shape[1]
    row, column = paint.pixel_grid(size)
    spot = rng.normal(0, 0.16, 2)
    away = (row / size - 0.5 - np.float32(spot[0])) ** 2 + (column / size - 0.5 - np.float32(spot[1])) ** 2
    picture = picture * np.exp(-np.float32(rng.uniform(0.2, 1.1)) * away)[None]
    sigma = size / 224 * float(rng.gamma(2.0, 0.3))
    if sigma >= 0.3:
        picture = np.stack([ndimage.gaussian_filter(plane, sigma, truncate=3.0) for plane in picture])
    gain = rng.normal(1, 0.03, 3).astype(np.float32) * np.float32(rng.uniform(0.85, 1.08))
    picture = np.clip(picture * gain[:, None, None], 0, None) ** np.float32(rng.uniform(0.85, 1.15))
    picture = picture + rng.standard_normal(picture.shape, dtype=np.float32) * np.float32(rng.uniform(0.004, 0.014))
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0).copy()


def _truth(where: ocular.View, ulcer: _Ulcer, *, ill: bool) -> tuple[np.ndarray, tuple[Lesion, ...]]:
    """Get the mask and the lesions of what no lid hides; the infiltrate lies over the other two."""
    mask = np.zeros((where.size, where.size), np.uint8)
    if not ill:
        return mask, ()
    shown = where.open > 0.5
    parts = {"hypopyon": ulcer.pus, "defect": ulcer.defect, "infiltrate": ulcer.opaque}
    for name, cover in parts.items():
        mask[(cover > 0.4) & shown] = KINDS.index(name)
    if not (mask == KINDS.index("infiltrate")).any():  # always seen: at the darkest place of what is there
        visible = np.where(shown, ulcer.opaque, -1.0)
        mask[np.unravel_index(int(visible.argmax()), mask.shape)] = KINDS.index("infiltrate")
    lesions = []
    for value, name in enumerate(KINDS[1:], start=1):
        places = np.argwhere(mask == value)
        if len(places):
            middle = places[np.hypot(*(places - places.mean(axis=0)).T).argmin()]
            radius = max(0.5, float(np.sqrt(len(places) / np.pi)))
            lesions.append(Lesion(name, float(middle[0]), float(middle[1]), radius))
    return mask, tuple(lesions)


def _anatomy(where: ocular.View, pupil: float) -> np.ndarray:
    chart = np.full((where.size, where.size), ANATOMY.index("lid"), np.uint8)
    shown = where.open > 0.5
    chart[shown] = ANATOMY.index("white")
    chart[shown & (where.away < 1)] = ANATOMY.index("iris")
    chart[shown & (where.away < pupil)] = ANATOMY.index("pupil")
    return chart
