"""Opacities of the lung: consolidation, ground glass and patches, scored by six zones.

The severity of a zone follows how much of it is opaque, as in the RALE extent
score (Warren et al., Thorax 2018) folded to four steps: 0 none, 1 below a
quarter, 2 below a half, 3 a half or more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medgraft.phantoms import paint
from medgraft.phantoms.case import Lesion
from medgraft.phantoms.thorax import Chest

KINDS = ("background", "consolidation", "ground_glass", "patches")
_LEAST = 0.01  # a smaller share of a zone counts as spill from its neighbour


@dataclass(frozen=True, eq=False)
class Disease:
    """Painted opacities: share of the air that is gone, how solid, the label map and the list."""

    filled: np.ndarray
    solid: np.ndarray
    mask: np.ndarray
    lesions: tuple[Lesion, ...]


def paint_opacities(rng: np.random.Generator, chest: Chest, *, ill: bool) -> Disease:
    """Paint one of three patterns of disease: one lobe, both lungs in patches, or spread through both lungs."""
    blank = np.zeros((chest.size, chest.size), np.float32)
    mask = np.zeros((chest.size, chest.size), np.uint8)
    if not ill:
        return Disease(blank, blank.copy(), mask, ())
    filled, solid, lesions = blank, blank.copy(), []
    zones = chest.zones()
    pattern = rng.choice(["lobe", "both", "spread"], p=[0.45, 0.37, 0.18])
    places = _places(rng, str(pattern))
    strength = rng.uniform(0.65, 1.1)
    for zone in places:
        kind = _kind(rng, str(pattern))
        spot = _centre(rng, chest, zones, zone)
        if spot is None:
            continue
        wide = {"lobe": rng.uniform(0.13, 0.32), "both": rng.uniform(0.09, 0.22), "spread": rng.uniform(0.18, 0.32)}
        radius = wide[str(pattern)]
        cover = _cloud(rng, chest, spot, radius=radius, kind=kind) * (chest.lung > 0.4)
        full = {"consolidation": 0.85, "ground_glass": 0.42, "patches": 0.62}[kind] * strength
        np.maximum(filled, cover * np.float32(full), out=filled)
        if kind == "consolidation":
            np.maximum(solid, cover, out=solid)
        chosen = (cover > 0.4) & (chest.lung > 0.5)
        mask[chosen & (mask == 0)] = KINDS.index(kind)
        row, column = (round(float(v), 2) for v in chest.place(np.array(spot)))
        mask[round(row), round(column)] = KINDS.index(kind)
        lesions.append(Lesion(kind, row, column, float(radius * chest.scale)))
    return Disease(filled, solid, mask, tuple(lesions))


def _places(rng: np.random.Generator, pattern: str) -> list[int]:
    if pattern == "lobe":
        side = 1 if rng.uniform() < 0.55 else 4
        first = int(rng.choice([0, 1, 2], p=[0.25, 0.3, 0.45]))
        near = [first] if rng.uniform() < 0.6 else [first, max(0, first - 1) if first else 1]
        return [side + level for level in near]
    chance = (0.25, 0.5, 0.75) if pattern == "both" else (0.7, 0.85, 0.9)
    chosen = [side + level for side in (1, 4) for level in range(3) if rng.uniform() < chance[level]]
    return (chosen or [3]) + [zone for zone in chosen if rng.uniform() < 0.4]


def _kind(rng: np.random.Generator, pattern: str) -> str:
    shares = {"lobe": [0.75, 0.15, 0.1], "both": [0.2, 0.4, 0.4], "spread": [0.15, 0.5, 0.35]}[pattern]
    return str(rng.choice(KINDS[1:], p=shares))


def _centre(rng: np.random.Generator, chest: Chest, zones: np.ndarray, zone: int) -> tuple[float, float] | None:
    """Draw a body (y, x) in a zone, well inside the lung and beside the heart, or None where there is no room."""
    out = np.abs(chest.x)
    free = np.flatnonzero((zones == zone) & (chest.lung > 0.95) & (out > 0.2) & (out < chest.wall - 0.06))
    if not len(free):
        return None
    pixel = free[rng.integers(len(free))]
    return float(chest.y.flat[pixel]), float(chest.x.flat[pixel])


def _cloud(
    rng: np.random.Generator, chest: Chest, spot: tuple[float, float], *, radius: float, kind: str
) -> np.ndarray:
    """An ill-defined cloud, 0..1."""
    tall = rng.uniform(0.75, 1.25)
    away = np.hypot((chest.y - np.float32(spot[0])) / tall, (chest.x - np.float32(spot[1])) * tall) / np.float32(radius)
    rough = paint.noise(rng, chest.size, cells=min(2.2 / radius, 30), octaves=3, keep=0.6)
    shape = 1 - away + 0.24 * rough
    if kind == "consolidation":
        return np.maximum(paint.ramp(shape, (-0.15, 0.5)), paint.ramp(away, (0.3, 0.12)))
    if kind == "ground_glass":
        return np.maximum(paint.ramp(shape, (-0.25, 0.65)), paint.ramp(away, (0.3, 0.12)))
    holes = paint.noise(rng, chest.size, cells=26, octaves=2)
    return np.maximum(paint.ramp(shape, (-0.2, 0.6)) * paint.ramp(holes, (-0.5, 0.5)), paint.ramp(away, (0.25, 0.1)))


def severities(zones: np.ndarray, mask: np.ndarray) -> list[int]:
    """Get the severity 0..3 of zones 1..6 from the opaque share of each.

    Example:
        >>> zones = np.repeat(np.arange(1, 7, dtype=np.uint8), 4)
        >>> severities(zones, np.array([1, 0, 0, 0] * 3 + [0] * 12))
        [2, 2, 2, 0, 0, 0]
    """
    found = []
    for zone in range(1, 7):
        inside = zones == zone
        share = float((mask[inside] > 0).mean()) if inside.any() else 0.0
        found.append(0 if share <= _LEAST else 1 if share < 0.25 else 2 if share < 0.5 else 3)
    return found
