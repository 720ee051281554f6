"""Ribs, spine, sternum, clavicles and shoulder blades of a phantom chest in CT."""

from __future__ import annotations

import numpy as np

from medgraft.phantoms import space
from medgraft.phantoms.paint import curve
from medgraft.phantoms.space import Grid
from medgraft.phantoms.trunk import MUSCLE, Build, cage_distance

CARTILAGE = 95.0
_RIBS = 11


def paint_bones(rng: np.random.Generator, grid: Grid, body: Build, *, volume: np.ndarray) -> np.ndarray:
    """Paint the skeleton in place; get how much of each voxel is bone, float32 `(D, H, W)`."""
    soft = float(np.clip((body.age - 30) / 60, 0, 1))  # older bone holds less calcium
    bone = np.zeros(grid.shape, np.float32)
    _spine(rng, grid, body, volume, bone, 210 - 90 * soft)
    rows, radii, gristle = _ribs(rng, body)
    shell = space.tubes(grid, rows, radii=radii)
    space.mix(volume, 620 - 160 * soft, shell)
    space.mix(volume, 170 - 80 * soft, space.tubes(grid, rows, radii=np.clip(radii - 2.0, 0, None)))
    np.maximum(bone, shell, out=bone)
    space.mix(volume, CARTILAGE, space.tubes(grid, gristle, radii=np.full(len(gristle), 4.6)))
    _front(rng, grid, body, volume, bone, 160 - 60 * soft)
    _shoulders(rng, grid, body, volume, bone)
    return bone


def _spine(
    rng: np.random.Generator, grid: Grid, body: Build, volume: np.ndarray, bone: np.ndarray, marrow: float
) -> None:
    part, trunk = space.ball(grid, (0, body.spine_y, 0), (np.inf, 15, 18.5))
    z = grid.axes(part)[0]
    pitch = body.tall / 11.5
    phase = (z / pitch + rng.uniform()) % 1.0
    disc = space.cover(2.2 - np.abs(phase - 0.5) * np.float32(pitch), grid.spacing[0])
    waist = trunk + 1.8 * np.cos(2 * np.pi * phase) - 1.4
    solid = space.cover(waist, grid.voxel)
    rim = space.cover(2.0 - waist, grid.voxel)
    space.mix(volume[part], marrow + (360 - 0.4 * marrow) * rim, solid * (1 - disc))
    space.mix(volume[part], 85.0, solid * disc)
    np.maximum(bone[part], solid * (1 - disc), out=bone[part])
    part, ring = space.ball(grid, (0, body.spine_y + 24, 0), (np.inf, 13, 15))
    _, y, x = grid.axes(part)
    z = grid.axes(part)[0]
    phase = (z / pitch + 0.2) % 1.0
    arch = space.cover(ring, grid.voxel) * (0.45 + 0.55 * (np.abs(phase - 0.5) < 0.32))
    space.mix(volume[part], 420.0, arch)
    np.maximum(bone[part], arch, out=bone[part])
    canal = space.ball(grid, (0, body.spine_y + 23, 0), (np.inf, 8.5, 10))
    space.paint_ball(volume, grid, 25.0, at=canal)
    space.paint_ball(volume, grid, 45.0, at=space.ball(grid, (0, body.spine_y + 23, 0), (np.inf, 5, 6)))
    count = int(np.ceil(1.3 * body.tall / pitch))
    points, radii = [], []
    for level in range(-count // 2, count // 2 + 1):
        at = (level - 0.2) * pitch
        t = np.linspace(0, 1, 24)[:, None]
        points.append(np.array([at, body.spine_y + 34, 0]) + t * [-15, 22, rng.normal(0, 1.5)])
        radii.append(np.linspace(3.6, 2.8, 24))
        for side in (-1, 1):
            points.append(np.array([at, body.spine_y + 22, side * 12]) + t * [3, 10, side * 22])
            radii.append(np.linspace(5.0, 3.8, 24))
    cover = space.tubes(grid, np.concatenate(points), radii=np.concatenate(radii))
    space.mix(volume, 400.0, cover)
    np.maximum(bone, cover, out=bone)


def _ribs(rng: np.random.Generator, body: Build) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Get points and radii of the ribs, and points of their cartilage, (z, y, x) in mm."""
    points, radii, gristle = [], [], []
    pitch = body.tall / 11.2
    for side in (-1, 1):
        for number in range(_RIBS):
            head = body.tall / 2 - 4 - number * pitch + rng.normal(0, 1)
            t = np.linspace(0, 1, 120)
            fall = (50 + 8 * number) * t**1.1 * (1 - 0.2 * t)
            angle = np.pi / 2 - t * (2.62 - 0.05 * max(number - 6, 0) ** 2)
            z = head - fall
            line = _on_cage(body, z, angle, side)
            ends = 0.80 if number < 7 else 0.86
            bony = t <= ends
            thick = np.where(t < 0.06, 5.2, 4.6 + 0.8 * np.sin(t * 7)) * rng.uniform(0.92, 1.08)
            for lift in (-2.0, 2.0):  # ribs are higher than thick
                points.append(line[bony] + [lift, 0, 0])
                radii.append(thick[bony] - 0.5 * abs(lift))
            if number < 8:
                tail = line[~bony]
                climb = np.linspace(0, 1, len(tail)) ** 1.3 * (6 + 8 * number)
                gristle.append(tail + np.stack([climb, 0 * climb, 0 * climb], axis=1))
    return np.concatenate(points), np.concatenate(radii), np.concatenate(gristle)


def _on_cage(body: Build, z: np.ndarray, angle: np.ndarray, side: int) -> np.ndarray:
    """Get the places outside the cage's inner surface at heights and directions seen from the middle, `(T, 3)`."""
    reach = np.linspace(0.15, 1.35, 120) * body.wide
    y = (np.sin(angle)[:, None] * reach).astype(np.float32)
    x = (side * np.cos(angle)[:, None] * reach).astype(np.float32)
    inside = cage_distance(body, z[:, None], y, x) > -5.5
    edge = reach[np.clip(inside.sum(axis=1), 0, 119)]
    line = np.stack([z, np.sin(angle) * edge, side * np.cos(angle) * edge], axis=1)
    # The head sits beside the spine.
    line[:, 2] = np.where(np.abs(line[:, 2]) < 20, side * 20 * (1 - 0.3 * (line[:, 1] < 0)), line[:, 2])
    for axis in range(3):
        line[:, axis] = np.convolve(np.pad(line[:, axis], 4, mode="edge"), np.full(9, 1 / 9), mode="valid")
    return line


def _front(
    rng: np.random.Generator, grid: Grid, body: Build, volume: np.ndarray, bone: np.ndarray, marrow: float
) -> None:
    """The sternum and the clavicles."""
    t = np.linspace(0, 1, 160)
    z = body.tall * (0.36 - 0.50 * t)
    y = np.array([_front_of(body, float(height)) for height in z])
    points, radii = [], []
    for shift in np.linspace(-1, 1, 7):
        wide = np.where(t < 0.28, 17 - 24 * t, 10 + 5 * t)
        points.append(np.stack([z, y - 6, shift * wide], axis=1))
        radii.append(np.full(len(t), 5.2))
    plate, thick = np.concatenate(points), np.concatenate(radii)
    cover = space.tubes(grid, plate, radii=thick)
    space.mix(volume, 380.0, cover)
    space.mix(volume, marrow, space.tubes(grid, plate, radii=thick - 2.2))
    np.maximum(bone, cover, out=bone)
    top, lines = body.tall * 0.375, []
    for side in (-1, 1):
        control = np.array([
            [top, y[0] - 4, side * 20],
            [top + 12, y[0] - 12, side * 55],
            [top + 26, y[0] + 18, side * 0.8 * body.wide],
            [top + 34, y[0] + 50, side * 1.15 * body.wide],
        ])  # fmt: skip
        lines.append(curve(control, 160))
    line = np.concatenate(lines)
    cover = space.tubes(grid, line, radii=np.full(len(line), 6.2))
    space.mix(volume, 560.0, cover)
    space.mix(volume, 200.0, space.tubes(grid, line, radii=np.full(len(line), 3.8)))
    np.maximum(bone, cover, out=bone)


def _front_of(body: Build, z: float) -> float:
    """Get where the front wall of the cage lies in the middle, y in mm."""
    y = np.linspace(-1.3, 0, 200) * body.deep
    inside = cage_distance(body, np.full(1, z, np.float32), y, np.zeros(1, np.float32)) > 0
    return float(y[np.argmax(inside)]) if inside.any() else -0.3 * body.deep


def _shoulders(rng: np.random.Generator, grid: Grid, body: Build, volume: np.ndarray, bone: np.ndarray) -> None:
    """The shoulder blades: thin plates behind the ribs, thicker at their outer edge."""
    points, radii = [], []
    for side in (-1, 1):
        for z in np.arange(0.04, 0.50, 0.011) * body.tall:
            t = np.linspace(0, 1, 40)
            grows = np.clip((z / body.tall - 0.02) * 4, 0.15, 1)
            inner = np.array([0.78 * body.deep + 22, side * (0.80 - 0.22 * grows) * body.wide])
            outer = np.array([0.12 * body.deep + 4, side * (1.02 + 0.13 * grows) * body.wide])
            bow = np.sin(np.pi * t)[:, None] * np.array([5, side * 9])
            line = inner + (outer - inner) * (t[:, None] * (0.45 + 0.55 * grows) + 0.12) + bow
            points.append(np.column_stack([np.full(40, z), line]))
            radii.append(1.9 + 3.4 * t**3)
    plate, thick = np.concatenate(points), np.concatenate(radii)
    part = space.tubes(grid, plate, radii=thick + 9)
    flesh = part * (volume < MUSCLE - 20) * (volume > -300)
    space.mix(volume, MUSCLE, flesh * np.float32(0.85))
    cover = space.tubes(grid, plate, radii=thick)
    space.mix(volume, float(rng.uniform(380, 480)), cover)
    np.maximum(bone, cover, out=bone)
