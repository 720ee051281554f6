"""Nodules of the lung in CT: where they sit, how they are shaped and how dense they are.

The names are those of the Fleischner Society's glossary (Hansell et al.,
Radiology 2008) and the sizes those of its guidelines (MacMahon et al.,
Radiology 2017): 3 to 30 mm, solid, part-solid or ground glass.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from medgraft.phantoms import space
from medgraft.phantoms.bronchial import Tree
from medgraft.phantoms.space import Grid, Slices
from medgraft.phantoms.trunk import Lungs

TEXTURES = ("solid", "part_solid", "ground_glass")
SMALLEST, LARGEST = 3.0, 30.0
_COUNTS = (0.30, 0.26, 0.18, 0.12, 0.08, 0.06)  # shares of scans with 1 to 6 nodules, of those that have any
_FINE = 4  # steps a voxel along each axis in which the share of a nodule is counted
_TRIES = 60


@dataclass(frozen=True)
class Plan:
    """A nodule before it is painted.

    Attributes:
        diameter: of a ball of the size meant, in mm.
        texture: one of `TEXTURES`.
        margin: "smooth", "lobulated" or "spiculated".
        attachment: "none", "vessel" or "pleura".
    """

    diameter: float
    texture: str
    margin: str
    attachment: str


@dataclass(frozen=True, eq=False)
class Painted:
    """A nodule that was painted.

    Attributes:
        plan: what was meant.
        part: where on the grid it is.
        share: 0..1 of each voxel there.
        centre: (d, h, w) in voxels, 0 in the centre of the first.
        diameter: in mm, of the ball of the volume that was painted.
    """

    plan: Plan
    part: Slices
    share: np.ndarray
    centre: tuple[float, float, float]
    diameter: float


def plan_nodules(rng: np.random.Generator) -> list[Plan]:
    """Draw what a scan with nodules holds, the largest first."""
    plans = []
    for _ in range(1 + int(rng.choice(len(_COUNTS), p=_COUNTS))):
        diameter = SMALLEST * (LARGEST / SMALLEST) ** float(rng.beta(1.25, 2.1))
        # Nobody sees, or would report, ground glass that is smaller.
        texture = str(rng.choice(TEXTURES, p=(1, 0, 0) if diameter < 5 else (0.60, 0.18, 0.22)))
        ragged = float(np.clip((diameter - 6) / 24, 0, 0.6))
        margin = str(rng.choice(["smooth", "lobulated", "spiculated"], p=[0.75 - ragged, 0.25, ragged]))
        attachment = str(rng.choice(["none", "vessel", "pleura"], p=[0.56, 0.18, 0.26]))
        plans.append(Plan(diameter, texture, margin, attachment))
    return sorted(plans, key=lambda plan: -plan.diameter)


def paint_nodules(
    rng: np.random.Generator, grid: Grid, plans: list[Plan], *, room: Lungs, tree: Tree, volume: np.ndarray
) -> list[Painted]:
    """Paint nodules into the lung, in place; one that finds no room is left out.

    Args:
        rng: where the numbers come from.
        grid: the grid.
        plans: what to paint.
        room: where lung is.
        tree: the vessels, to lean on or to keep clear of.
        volume: HU.
    """
    wide = tree.radii > 0.9
    vessels = KDTree(tree.points[wide]) if wide.any() else None
    taken: list[tuple[np.ndarray, float]] = []
    painted = []
    for plan in plans:
        centre = _place(rng, grid, plan, room, tree, vessels, taken)
        if centre is None:
            continue
        one = _shape(rng, grid, plan, centre, room)
        if one is None:
            continue
        taken.append((centre, plan.diameter / 2))
        _fill(rng, grid, one, centre, volume)
        painted.append(one)
    return painted


def _place(
    rng: np.random.Generator,
    grid: Grid,
    plan: Plan,
    room: Lungs,
    tree: Tree,
    vessels: KDTree | None,
    taken: list[tuple[np.ndarray, float]],
) -> np.ndarray | None:
    """Get a place in mm that suits the attachment, or None."""
    radius = plan.diameter / 2
    if plan.attachment == "pleura":
        chosen = (room.depth > 0.35 * radius) & (room.depth < 0.75 * radius + 0.6 * grid.voxel)
    else:
        chosen = room.depth > radius + 3
    index = np.flatnonzero(chosen)
    if not len(index):
        return None
    for _ in range(_TRIES):
        spot = np.array(np.unravel_index(index[rng.integers(len(index))], grid.shape)) + rng.uniform(-0.4, 0.4, 3)
        place = grid.place(spot)
        if np.any(np.abs(place) > np.array(grid.shape) * grid.spacing / 2 - radius - 4):
            continue
        if plan.attachment == "vessel" and vessels is not None:
            suits = np.flatnonzero((tree.radii > 0.8) & (tree.radii < max(1.2, min(3.0, 0.6 * radius))))
            if not len(suits):
                continue
            way = rng.standard_normal(3)
            near = tree.points[suits[rng.integers(len(suits))]]
            place = near + way / np.linalg.norm(way) * radius * 0.8
            spot = np.rint(grid.index(place)).astype(int)
            if np.any(spot < 0) or np.any(spot >= grid.shape) or room.depth[tuple(spot)] < radius + 2:
                continue
        elif plan.attachment == "none" and vessels is not None and vessels.query(place)[0] < min(radius, 8) + 2.5:
            continue
        if all(np.linalg.norm(place - other) > 1.5 * (radius + size) + 6 for other, size in taken):
            return place
    return None


def _shape(rng: np.random.Generator, grid: Grid, plan: Plan, centre: np.ndarray, room: Lungs) -> Painted | None:
    """Count in fine steps how much of each voxel the nodule fills."""
    radius = plan.diameter / 2
    reach = 1.45 * radius + 1
    part = grid.around(centre, reach)
    lines = []
    for axis, line in enumerate(grid.axes(part)):
        step = grid.spacing[axis]
        fine = line.ravel()[:, None] + ((np.arange(_FINE) + 0.5) / _FINE - 0.5) * step
        lines.append((fine.ravel() - centre[axis]).reshape([-1 if k == axis else 1 for k in range(3)]))
    axes = rng.uniform(0.84, 1.0, 3)
    axes = axes / np.prod(axes) ** (1 / 3)
    away = np.sqrt(sum(np.square(line / size) for line, size in zip(lines, axes, strict=True)))
    bumps = {"smooth": 0.02, "lobulated": 0.085, "spiculated": 0.05}[plan.margin]
    wave = np.zeros(away.shape)
    for _ in range(9):
        way = rng.standard_normal(3) * {"smooth": 2.0, "lobulated": 3.4, "spiculated": 5.0}[plan.margin]
        phase = sum(line * k for line, k in zip(lines, way, strict=True)) / (away + 0.05 * radius)
        wave += np.cos(phase + rng.uniform(0, 6.3))
    edge = radius * (1 + bumps * wave / 2.1)
    solid = (away < edge).reshape(*(k for n in away.shape for k in (n // _FINE, _FINE)))
    share = solid.mean(axis=(1, 3, 5)).astype(np.float32)
    share = share * space.cover(room.depth[part], grid.voxel)
    total = float(share.sum())
    if total <= 0:
        return None
    index = np.meshgrid(*(np.arange(cut.start, cut.stop) for cut in part), indexing="ij")
    middle = tuple(float((one * share).sum() / total) for one in index)
    ball = total * float(np.prod(grid.spacing))
    return Painted(plan, part, share, middle, 2 * (3 * ball / (4 * np.pi)) ** (1 / 3))  # type: ignore[arg-type]


def _fill(rng: np.random.Generator, grid: Grid, one: Painted, centre: np.ndarray, volume: np.ndarray) -> None:
    """Give the nodule its density, and its spicules and tail, in place."""
    plan, part = one.plan, one.part
    here, radius = volume[part], plan.diameter / 2
    dense = float(rng.uniform(20, 60))
    if plan.texture != "solid":
        grain = np.float32(18) * rng.standard_normal(here.shape, dtype=np.float32)
        glass = np.maximum(here, float(rng.uniform(-650, -500)) + grain)  # vessels go on through ground glass
        space.mix(here, glass, one.share)
    if plan.texture == "part_solid":
        shift = centre + rng.normal(0, 0.15, 3) * radius
        size = radius * rng.uniform(0.35, 0.62)
        axes = grid.axes(part)
        away = np.sqrt(sum(np.square(axis - np.float32(k)) for axis, k in zip(axes, shift, strict=True)))
        core = space.cover(size * rng.uniform(0.9, 1.1) - away, grid.voxel) * one.share
        space.mix(here, dense, core)
    if plan.texture == "solid":
        space.mix(here, dense, one.share)
    if plan.margin == "spiculated":
        _spicules(rng, grid, plan, centre, volume, dense if plan.texture != "ground_glass" else -520.0)


def _spicules(
    rng: np.random.Generator, grid: Grid, plan: Plan, centre: np.ndarray, volume: np.ndarray, value: float
) -> None:
    radius = plan.diameter / 2
    count = int(rng.integers(9, 22))
    ways = rng.standard_normal((count, 3))
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    far = radius * rng.uniform(1.3, 2.0, count)
    t = np.linspace(0, 1, 30)
    points = centre + ways[:, None] * (0.7 * radius + (far - 0.7 * radius)[:, None] * t)[..., None]
    radii = np.broadcast_to(np.clip(0.085 * radius + 0.35, 0.5, 1.4) * (1 - 0.8 * t), (count, 30))
    part = grid.around(centre, 2.2 * radius + 2)
    small = Grid(tuple(cut.stop - cut.start for cut in part), grid.spacing)  # type: ignore[arg-type]
    origin = grid.place(np.array([(cut.start + cut.stop - 1) / 2 for cut in part]))
    lines = space.tubes(small, points.reshape(-1, 3) - origin, radii=radii.ravel())
    here = volume[part]
    lines = lines * (here < -300)
    space.mix(here, value, lines * np.float32(0.8))
