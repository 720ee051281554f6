"""Frontal chest X-rays with opacities that are scored by six lung zones."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from medgraft.phantoms import opacities, paint, thorax
from medgraft.phantoms.case import Case, patient_of
from medgraft.seeds import generator, permutation

ANATOMY = (
    "background",
    "right_upper", "right_middle", "right_lower", "left_upper", "left_middle", "left_lower",
    "heart",
)  # fmt: skip
_IMAGES = (1, 1, 2, 1)  # images of the patients of a block: one in four has a second film
_BLOCK = 10


def chest(index: int, *, seed: int = 0, size: int = 224, bits: int = 8) -> Case:
    """Get chest X-ray `index`.

    Args:
        index: which image of the set; each can be made alone.
        seed: of the set.
        size: width and height in pixels.
        bits: 8, or 16 for pixels from 0 to 65535.
    """
    number, film = patient_of(index, sizes=_IMAGES)
    body, ill = _patient(seed, number)
    rng = generator(seed, "phantom-chest", index=index)
    view = str(rng.choice(["PA", "AP"], p=[0.6, 0.4]))
    body = thorax.Body(body.female, body.age, body.habitus, view)
    room = thorax.chest(rng, size, body=body)
    total = thorax.soft_tissue(rng, body, chest=room)
    disease = opacities.paint_opacities(rng, room, ill=ill)
    middle = thorax.middle(rng, body, chest=room)
    total = total - _air(rng, room, disease) * (1 - middle.displaced)
    total += thorax.bones(rng, body, chest=room) + middle.attenuation
    total += _belly_and_things(rng, room, body)
    zones = room.zones()
    scores = opacities.severities(zones, disease.mask)
    names = {f"z{zone}": str(score) for zone, score in enumerate(scores, start=1)}
    anatomy = np.where((zones == 0) & (middle.heart > 0.5), len(ANATOMY) - 1, zones).astype(np.uint8)
    build = "slender" if body.habitus < -0.4 else "heavy" if body.habitus > 0.4 else "average"
    return Case(
        name=f"phantom_chest_{number + 1:04d}_{film + 1}",
        pixels=_film(rng, room, total, view=view, bits=bits),
        label="opacity" if disease.lesions else "clear",
        patient=f"phantom-{number + 1:04d}",
        lesions=disease.lesions,
        mask=disease.mask,
        mask_names=opacities.KINDS,
        covariates={
            **names,
            "severity": str(sum(scores)),
            "view": view,
            "age": str(body.age),
            "sex": "F" if body.female else "M",
            "habitus": build,
        },
        anatomy=anatomy,
        anatomy_names=ANATOMY,
    )


def _patient(seed: int, number: int) -> tuple[thorax.Body, bool]:
    block, place = divmod(number, _BLOCK)
    rng = generator(seed, "phantom-chest-patient", index=number)
    rank = permutation(_BLOCK, seed=seed, purpose="phantom-chest-order", epoch=block)[place]
    age = int(np.clip(rng.normal(54, 17), 18, 92))
    habitus = float(np.clip(rng.normal(0, 0.5), -1, 1))
    return thorax.Body(bool(rng.uniform() < 0.5), age, habitus, "PA"), bool(rank < _BLOCK // 2)


def _air(rng: np.random.Generator, room: thorax.Chest, disease: opacities.Disease) -> np.ndarray:
    """How much attenuation the lungs take away; disease fills them, and solid lung hides its vessels."""
    texture = paint.noise(rng, room.size, cells=34, octaves=3, keep=0.7)
    slow = paint.noise(rng, room.size, cells=3, octaves=2)
    lines = thorax.lung_vessels(rng, room)
    weight = np.float32(rng.uniform(0.7, 1.3))
    left = 1 + 0.02 * texture + 0.04 * slow - 0.34 * weight * lines * (1 - disease.solid)
    filled = disease.filled * (1 + 0.1 * texture) - 0.16 * disease.solid * lines  # air-filled bronchi stay dark
    return thorax.AIR_IN_LUNG * room.depth * left * (1 - np.clip(filled, 0, 1))


def _belly_and_things(rng: np.random.Generator, room: thorax.Chest, body: thorax.Body) -> np.ndarray:
    """What lies over or under the chest and means nothing: stomach air, leads, lines, nipples, old scars."""
    total = np.zeros((room.size, room.size), np.float32)
    if rng.uniform() < 0.5:
        top = room.left_dome + rng.uniform(0.1, 0.16)
        away = np.hypot((room.x - rng.uniform(0.28, 0.42)) / rng.uniform(0.12, 0.24), (room.y - top) / 0.09)
        total -= np.float32(rng.uniform(0.1, 0.25)) * paint.ramp(away, (1.1, 0.8))
    if rng.uniform() < (0.45 if body.view == "AP" else 0.15):
        for _ in range(int(rng.integers(2, 5))):
            end = np.array([rng.uniform(-0.5, 0.6), rng.uniform(-0.7, 0.7)])
            knots = np.linspace(end, end + [rng.uniform(0.4, 1), rng.uniform(-0.8, 0.8)], 5)
            knots[1:] += rng.normal(0, 0.08, (4, 2))
            total += 0.16 * room.stamp(paint.curve(knots, 300), 0.006, soft=0.6)
            total += 0.3 * room.stamp(end[None], 0.028, soft=0.7)
    if rng.uniform() < (0.3 if body.view == "AP" else 0.04):  # a central line or a tube
        line = [(-1.0, -0.12), (-0.6, -0.13), (-0.4, -0.1), (-0.12, -0.07)]
        total += 0.2 * room.stamp(paint.curve(np.array(line) + rng.normal(0, 0.015, (4, 2)), 200), 0.008)
    if rng.uniform() < 0.25:
        low = rng.uniform(0.22, 0.4)
        total += 0.07 * room.stamp(np.array([[low, -0.44], [low, 0.44]]), 0.022, soft=1.2)
    if rng.uniform() < 0.15:
        spots = np.stack([rng.uniform(-0.5, 0.2, 2), rng.uniform(0.25, 0.55, 2) * rng.choice([-1, 1])], axis=1)
        total += 0.2 * room.stamp(spots, rng.uniform(0.008, 0.018, 2), soft=0.8)
    if rng.uniform() < 0.15:  # a plate of collapsed lung
        start = np.array([rng.uniform(0.15, 0.32), rng.choice([-1, 1]) * 0.28])
        end = start + [rng.uniform(-0.06, 0.06), 0.26 * np.sign(start[1])]
        total += 0.08 * room.stamp(np.linspace(start, end, 60), 0.011, soft=1.0)
    return total


def _film(rng: np.random.Generator, room: thorax.Chest, total: np.ndarray, *, view: str, bits: int) -> np.ndarray:
    """Get the picture the detector makes: scatter, blur, noise, exposure, tone curve, marker."""
    size = room.size
    scale = size / 224
    total = np.clip(total, 0, None)
    scatter = rng.uniform(0.12, 0.4)
    total = (1 - scatter) * total + scatter * ndimage.gaussian_filter(total, 13 * scale, truncate=2.0)
    total = ndimage.gaussian_filter(total, scale * rng.uniform(0.35, 0.9), truncate=3.0)
    dose = rng.uniform(0.004, 0.014)
    grain = ndimage.gaussian_filter(rng.standard_normal((size, size), dtype=np.float32), 0.45)
    total = total + np.float32(dose) * 1.6 * np.exp(0.9 * total) * grain
    low, high = np.quantile(total[total > 0.12], [0.01, 0.94])
    low, high = low - rng.uniform(0.02, 0.2), high + rng.uniform(-0.06, 0.12)
    tone = np.clip((total - low) / (high - low), 0, None)
    tone = np.where(tone > 0.8, 0.8 + 0.2 * np.tanh((tone - 0.8) / 0.2), tone)
    tone = tone ** np.float32(rng.uniform(0.75, 1.35))
    if rng.uniform() < 0.75:
        _marker(rng, tone, view=view)
    tone = np.clip(tone, 0, 1)
    most = 2**bits - 1
    return np.rint(tone * most).astype(np.uint8 if bits == 8 else np.uint16)


def _marker(rng: np.random.Generator, tone: np.ndarray, *, view: str) -> None:
    """A lead letter in an upper corner, on AP films at times the view below it (in place)."""
    size = len(tone)
    word, on_right = ("R", False) if rng.uniform() < 0.4 else ("L", True)
    scale = max(1, round(size / 224 * rng.uniform(1, 1.8)))
    top, inset = int(size * rng.uniform(0.03, 0.14)), int(size * rng.uniform(0.02, 0.1))
    shine = np.float32(rng.uniform(0.75, 1.0))
    lines = [word, "AP"] if view == "AP" and rng.uniform() < 0.4 else [word]
    for line in lines:
        sign = paint.letters(line, scale=scale)
        left = size - inset - sign.shape[1] if on_right else inset
        patch = tone[top : top + sign.shape[0], left : left + sign.shape[1]]
        np.maximum(patch, sign * shine, out=patch)
        top += sign.shape[0] + 3 * scale
