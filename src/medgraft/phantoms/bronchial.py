"""Trees of the lung: arteries with their bronchi, and veins, that fill it to the edge; and its fissures.

A branch carries the lung tissue that it feeds. It grows towards the middle of
that tissue, which a plane then shares between its two children, and so on
until every piece has its own branch. Radii obey Murray's law: the cube of a
parent's is the sum of the cubes of its children's.

Source: Tawhai et al., "CT-based geometry analysis and finite element models of
the human and ovine bronchial tree", J Appl Physiol 2004.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medgraft.phantoms.space import Grid, Slices
from medgraft.phantoms.trunk import Build, Lungs

_STEPS = 26  # points of the longest branches
_GENERATIONS = 17
_THINNEST = 0.9  # mm: what is thinner is not told from lung


@dataclass(frozen=True, eq=False)
class Tree:
    """Branches that follow each other.

    Attributes:
        points: `(N, 3)` (z, y, x) in mm along all branches.
        radii: `(N,)` in mm.
        generation: `(N,)`, 0 for the trunk.
    """

    points: np.ndarray
    radii: np.ndarray
    generation: np.ndarray


def fed(rng: np.random.Generator, grid: Grid, *, room: Lungs, side: int, count: int) -> np.ndarray:
    """Draw `count` places of lung tissue that branches shall reach, `(count, 3)` in mm; side -1 is the right lung."""
    step = max(1, round(4 / grid.voxel))
    deep = room.depth[:, ::step, ::step] > 5
    half = deep[..., : deep.shape[2] // 2] if side < 0 else deep[..., deep.shape[2] // 2 :]
    index = np.argwhere(half).astype(float)
    if side > 0:
        index[:, 2] += deep.shape[2] // 2
    if not len(index):
        return np.zeros((0, 3))
    chosen = index[rng.integers(0, len(index), count)] * [1, step, step]
    return grid.place(chosen + rng.uniform(-0.5, 0.5, chosen.shape) * [1, step, step])


def grow(rng: np.random.Generator, targets: np.ndarray, *, root: np.ndarray, ahead: np.ndarray, radius: float) -> Tree:
    """Grow a tree from its root to all targets.

    Args:
        rng: where the numbers come from.
        targets: `(N, 3)` in mm.
        root: `(3,)` where the trunk begins.
        ahead: `(3,)` its direction.
        radius: of the trunk in mm.
    """
    group = np.zeros(len(targets), int)
    start, heading = root[None].astype(float), ahead[None] / np.linalg.norm(ahead)
    lines, radii, ages = [], [], []
    whole = len(targets)
    for generation in range(_GENERATIONS):
        if not len(targets):
            break
        count = np.bincount(group)
        middle = np.stack([np.bincount(group, targets[:, k]) for k in range(3)], axis=1) / count[:, None]
        share = np.where(count == 1, 1.0, rng.uniform(0.34, 0.52, len(count)))
        end = start + share[:, None] * (middle - start) + rng.normal(0, 0.6, middle.shape)
        line, out = _branches(start, end, heading)
        size = np.maximum(radius * (count / whole) ** (1 / 3), _THINNEST)
        taper = np.where(count == 1, 0.7, 0.92)[:, None] ** np.linspace(0, 1, line.shape[1])
        lines.append(line.reshape(-1, 3))
        radii.append((size[:, None] * taper).ravel())
        ages.append(np.full(line.shape[0] * line.shape[1], generation))
        targets, group, parents = _shared(rng, targets, group, middle)
        start, heading = end[parents], out[parents]
    if not lines:
        return Tree(np.zeros((0, 3)), np.zeros(0), np.zeros(0, int))
    return Tree(np.concatenate(lines), np.concatenate(radii), np.concatenate(ages))


def _branches(start: np.ndarray, end: np.ndarray, heading: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Get curved lines that leave along the parent's direction, `(M, T, 3)`, and the directions they end in."""
    length = np.linalg.norm(end - start, axis=1, keepdims=True)
    knee = start + heading * 0.35 * length
    steps = int(np.clip(length.max() / 0.9, 6, 2.5 * _STEPS))
    t = np.linspace(0, 1, steps)[None, :, None]
    line = (1 - t) ** 2 * start[:, None] + 2 * t * (1 - t) * knee[:, None] + t**2 * end[:, None]
    out = end - knee
    return line, out / (np.linalg.norm(out, axis=1, keepdims=True) + 1e-9)


def _shared(
    rng: np.random.Generator, targets: np.ndarray, group: np.ndarray, middle: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Split each group by a leaning plane across its longest side; groups of one have arrived and are left out."""
    off = targets - middle[group]
    spread = np.stack([np.bincount(group, off[:, k] ** 2) for k in range(3)], axis=1)
    across = np.eye(3)[spread.argmax(axis=1)] + rng.normal(0, 0.25, middle.shape)
    side = (off * across[group]).sum(axis=1) > 0
    kept = np.bincount(group)[group] > 1
    names, fresh = np.unique(2 * group[kept] + side[kept], return_inverse=True)
    return targets[kept], fresh, names // 2


def bronchi_beside(tree: Tree, *, offset: np.ndarray, thinnest: float) -> Tree:
    """Get the bronchus that runs beside an artery as far as it can be seen, its lumen in radii."""
    keep = (tree.radii > thinnest) & (tree.generation > 0)
    radii = tree.radii[keep]
    away = offset / np.linalg.norm(offset)
    points = tree.points[keep] + away * (2.0 * radii + 0.6)[:, None]
    return Tree(points, radii * 0.82, tree.generation[keep])


def fissures(grid: Grid, body: Build, *, part: Slices, rough: np.ndarray) -> np.ndarray:
    """Get how much of each voxel is fissure, 0..1: the oblique one of both lungs, the horizontal one of the right.

    Args:
        grid: the grid.
        body: the patient.
        part: which part of the grid.
        rough: smooth noise there that bends them.
    """
    z, y, x = grid.axes(part)
    left = x > 0
    slope = np.where(left, 1.05, 0.95).astype(np.float32)
    bent = 0.02 * body.tall + slope * (y - 0.12 * body.deep) - 0.0012 * (np.abs(x) - 75) ** 2
    oblique = z - bent + 4 * rough
    sheet = np.clip(1 - np.abs(oblique) / np.float32(1.1 * max(grid.voxel, 1.2)), 0, 1)
    flat = z - np.float32(0.01 * body.tall) + 3 * rough
    level = np.clip(0.8 - np.abs(flat) / np.float32(max(grid.spacing[0], 1.2)), 0, 1)
    level = level * ((~left) & (y < 0.1 * body.deep)) * (oblique > 0)
    return np.maximum(sheet, level).astype(np.float32)
