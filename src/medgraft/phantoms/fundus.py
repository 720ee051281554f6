"""Fundus photographs with graded diabetic retinopathy; two eyes a patient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medgraft.phantoms import eye as eyes
from medgraft.phantoms import retinopathy
from medgraft.phantoms.case import Case
from medgraft.seeds import generator, permutation

ANATOMY = ("background", "field", "vessel", "disc", "macula")
# Share of patients whose worse eye has grade 0, 1, 2, 3, 4.
_GRADES = (0.45, 0.10, 0.21, 0.14, 0.10)
_BLOCK = 20
# Plain fundus colours as cameras and films show them.
_TONES = {
    "A": ((0.86, 0.42, 0.17), (0.92, 0.52, 0.20), (0.74, 0.30, 0.12)),
    "B": ((0.80, 0.58, 0.42), (0.74, 0.52, 0.40), (0.86, 0.66, 0.46)),
    "C": ((0.70, 0.45, 0.34), (0.62, 0.47, 0.36), (0.78, 0.50, 0.30)),
}


@dataclass(frozen=True, eq=False)
class _Patient:
    age: int
    sex: str
    camera: str
    grades: tuple[int, int]
    tissue: eyes.Tissue
    disc_radius: float


def fundus(index: int, *, seed: int = 0, size: int = 224) -> Case:
    """Get fundus photograph `index`: even numbers are right eyes, odd ones left eyes of the same patient.

    Args:
        index: which image of the set; each can be made alone.
        seed: of the set.
        size: width and height in pixels.
    """
    number, place = divmod(index, 2)
    side = "right" if place == 0 else "left"
    person = _patient(seed, number)
    grade = person.grades[place]
    rng = generator(seed, "phantom-fundus", index=index)
    eye = eyes.frame(rng, size, side=1 if side == "left" else -1, camera=person.camera, disc_radius=person.disc_radius)
    beading = rng.uniform(0.4, 1.0) if grade >= 3 and rng.uniform() < 0.6 else 0.0
    tree = eyes.vessels(rng, eye, beading=beading)
    picture = eyes.retina(rng, eye, tissue=person.tissue)
    disc = eyes.optic_disc(rng, eye, tissue=person.tissue, picture=picture)
    retinopathy.distractors(rng, eye, picture=picture, age=person.age)
    found = retinopathy.paint_lesions(rng, eye, amount=retinopathy.burden(rng, grade))
    _blood_and_lipid(picture, tree, found)
    return Case(
        name=f"phantom_fundus_{number + 1:04d}_{side}",
        pixels=_photograph(rng, eye, picture, camera=person.camera, age=person.age),
        label="retinopathy" if grade else "healthy",
        patient=f"phantom-{number + 1:04d}",
        lesions=tuple(found.lesions),
        mask=found.mask,
        mask_names=retinopathy.KINDS,
        grade=grade,
        covariates={"eye": side, "camera": person.camera, "age": str(person.age), "sex": person.sex},
        anatomy=_anatomy(eye, tree, disc),
        anatomy_names=ANATOMY,
    )


def _patient(seed: int, number: int) -> _Patient:
    block, place = divmod(number, _BLOCK)
    rng = generator(seed, "phantom-fundus-patient", index=number)
    # Every block of patients has its share of grades, so that small sets are balanced too.
    rank = permutation(_BLOCK, seed=seed, purpose="phantom-fundus-order", epoch=block)[place]
    worse = int(np.searchsorted(np.cumsum(_GRADES), (rank + rng.uniform()) / _BLOCK).clip(0, 4))
    drop = int(rng.uniform() < 0.3) + int(rng.uniform() < 0.05)
    other = max(0, worse - drop)
    grades = (worse, other) if rng.uniform() < 0.5 else (other, worse)
    camera = str(rng.choice(["A", "B", "C"], p=[0.4, 0.35, 0.25]))
    tones = np.array(_TONES[camera], np.float32)
    mix = rng.dirichlet(np.ones(3)).astype(np.float32)
    pigment = float(rng.beta(2, 2.5))
    colour = (mix @ tones) * np.float32(1.14 - 0.55 * pigment) * rng.normal(1, 0.03, 3).astype(np.float32)
    tissue = eyes.Tissue(colour, pigment, float(rng.beta(1.2, 2.5)), float(rng.uniform(0.28, 0.58)))
    age = int(np.clip(rng.normal(57, 13), 21, 88))
    return _Patient(age, str(rng.choice(["F", "M"])), camera, grades, tissue, float(rng.normal(0.135, 0.008)))


def _blood_and_lipid(picture: np.ndarray, tree: eyes.Vessels, found: retinopathy.Findings) -> None:
    """Lay deposits, then vessels and bleeding over them (in place): blood absorbs, mostly green."""
    for cover, colour in ((found.cotton, (0.97, 0.93, 0.84)), (found.lipid, (1.0, 0.92, 0.58))):
        lit = np.array(colour, np.float32) * np.float32(min(1.0, 0.45 + float(picture[0].mean()) * 0.75))
        picture += (np.maximum(lit[:, None, None], picture) - picture) * cover[None]
    density = np.maximum(np.maximum(tree.vein, 0.66 * tree.artery), found.blood * np.float32(1.05))
    density = density - 0.3 * tree.streak * (density > 0.3)
    picture *= np.exp(-eyes.BLOOD[:, None, None] * density[None])


def _photograph(rng: np.random.Generator, eye: eyes.Eye, picture: np.ndarray, *, camera: str, age: int) -> np.ndarray:
    """Get the 8-bit picture a camera makes of the retina, `(H, W, 3)`."""
    haze = float(rng.beta(1.1, 7)) + (0.1 * rng.uniform() if age > 65 else 0.0)
    picture = eyes.light(rng, eye, picture=picture, haze=haze)
    scale = eye.size / 224
    picture = eyes.blurred(picture, scale * float(rng.gamma(2.0, 0.2 if camera != "C" else 0.28)))
    gain = rng.normal(1, 0.03, 3).astype(np.float32) * np.float32(rng.uniform(0.88, 1.1))
    picture = np.clip(picture * gain[:, None, None], 0, None) ** np.float32(rng.uniform(0.85, 1.15))
    picture = np.where(picture > 0.85, 0.85 + 0.15 * np.tanh((picture - 0.85) / 0.15), picture)
    strength = rng.uniform(0.004, 0.014)
    grain = rng.standard_normal((4, eye.size, eye.size), dtype=np.float32) * np.float32(strength)
    picture = (picture + grain[:3] + grain[3]) * eye.field
    dark = np.float32(rng.uniform(0, 0.012)) * np.abs(grain[3]) / np.float32(strength)
    picture = np.clip(picture + dark, 0, 1)
    return np.rint(picture * 255).astype(np.uint8).transpose(1, 2, 0).copy()


def _anatomy(eye: eyes.Eye, tree: eyes.Vessels, disc: np.ndarray) -> np.ndarray:
    names = {name: value for value, name in enumerate(ANATOMY)}
    chart = np.where(eye.field > 0.5, names["field"], 0).astype(np.uint8)
    inside = chart > 0
    chart[inside & (eye.distance(eye.fovea) < 0.2)] = names["macula"]
    chart[inside & (disc > 0.5)] = names["disc"]
    chart[inside & (np.maximum(tree.artery, tree.vein) > 0.5)] = names["vessel"]
    return chart
