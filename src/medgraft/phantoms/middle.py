"""What lies between the lungs in CT: heart, great vessels, windpipe, gullet and the fat round them."""

from __future__ import annotations

import numpy as np

from medgraft.phantoms import space
from medgraft.phantoms.paint import curve
from medgraft.phantoms.space import Grid
from medgraft.phantoms.trunk import AIR, FAT, Build, Lungs, heart_shape

WALL = 46.0


def carina(body: Build) -> np.ndarray:
    """Get where the windpipe forks, (z, y, x) in mm."""
    return np.array([0.12 * body.tall, 0.18 * body.deep, 2.0])


def hilum(body: Build, side: int) -> np.ndarray:
    """Get where vessels and bronchus enter a lung, (z, y, x) in mm; side -1 is the right lung."""
    return np.array([0.03 * body.tall + 3 * side, 0.08 * body.deep, side * 33.0 + 3])


def paint_middle(rng: np.random.Generator, grid: Grid, body: Build, *, room: Lungs, volume: np.ndarray) -> np.ndarray:
    """Paint heart and great vessels in place; get how much of each voxel is heart, float32 `(D, H, W)`."""
    rough = space.noise(rng, grid, bump_mm=22, octaves=2)
    for part in grid.slabs():
        z, _, x = grid.axes(part)
        free = np.minimum(-room.outside[part], z - room.dome) - 1
        between = space.cover(free, grid.voxel) * (np.abs(x) < 0.85 * body.wide)
        space.mix(volume[part], FAT + 14 + 8 * rough[part], between)
    heart = np.zeros(grid.shape, np.float32)
    centre, radii, lean = heart_shape(body)
    part, distance = space.ball(grid, centre, radii, lean=lean)
    muscle = 46 + 0.42 * max(body.blood - 45, 0)
    inner = np.minimum(distance, grid.axes(part)[0] - room.dome[part[1:]] + 18)  # it rests on the diaphragm
    share = space.cover(inner + 2 * rough[part], grid.voxel)
    space.mix(volume[part], muscle, share)
    heart[part] = share
    for dz, dy, dx, size in ((-6, -4, 20, 0.44), (2, -16, -8, 0.46), (8, 12, -26, 0.40), (16, 26, 4, 0.42)):
        k = body.wide / 132
        place = (centre[0] + dz * k, centre[1] + dy * k, centre[2] + dx * k)
        room_of = space.ball(grid, place, (radii[0] * size, radii[1] * size, radii[2] * size), lean=lean)
        chamber = np.minimum(room_of[1] + 2 * rough[room_of[0]], 40)
        space.paint_ball(volume, grid, body.blood, at=(room_of[0], chamber))
    _great_vessels(rng, grid, body, volume)
    return heart


def _great_vessels(rng: np.random.Generator, grid: Grid, body: Build, volume: np.ndarray) -> None:
    wide = 1 + 0.004 * (body.age - 60)
    arch, root = body.arch_z(), np.array([-0.06 * body.tall, -0.22 * body.deep, -2.0])
    back = np.array([arch - 14, body.spine_y - 15, 21.0])
    aorta = curve(np.array([
        root,
        [0.07 * body.tall, -0.32 * body.deep, -14],
        [arch - 6, -0.22 * body.deep, -11],
        [arch + 5, 0.05 * body.deep, 8],
        [arch - 2, 0.34 * body.deep, 20],
        back,
        [-0.2 * body.tall, body.spine_y - 15, 20],
        [-0.62 * body.tall, body.spine_y - 17, 12],
    ]), 420)  # fmt: skip
    sizes = np.interp(np.linspace(0, 1, 420), [0, 0.3, 0.6, 1], [16.5, 15, 12.5, 11.0]) * wide
    tubes: list[tuple[np.ndarray, np.ndarray]] = [(aorta, sizes)]
    for start, end, size in (
        ([arch + 4, -0.20 * body.deep, -6], [0.62 * body.tall, -0.1 * body.deep, -16], 7.0),
        ([arch + 5, -0.02 * body.deep, 5], [0.62 * body.tall, 0.05 * body.deep, 12], 4.2),
        ([arch + 3, 0.16 * body.deep, 13], [0.62 * body.tall, 0.22 * body.deep, 30], 4.6),
        ([-0.12 * body.tall, -0.18 * body.deep, -24], [0.34 * body.tall, -0.2 * body.deep, -26], 9.0),
        ([0.30 * body.tall, -0.2 * body.deep, -26], [0.5 * body.tall, -0.36 * body.deep, -40], 7.0),
        ([0.30 * body.tall, -0.24 * body.deep, -24], [0.38 * body.tall, -0.4 * body.deep, 44], 6.0),
    ):
        line = np.linspace(start, end, 90)
        tubes.append((line + rng.normal(0, 0.8, 3), np.full(90, size * rng.uniform(0.92, 1.08))))
    trunk = np.array([0.035 * body.tall, -0.22 * body.deep, 14.0])
    tubes.append((np.linspace([-0.07 * body.tall, -0.4 * body.deep, 14], trunk, 60), np.full(60, 13.5)))
    for side in (-1, 1):
        middle = np.array([0.045 * body.tall, -0.02 * body.deep if side < 0 else 0.02 * body.deep, side * 16.0 + 4])
        line = curve(np.stack([trunk, middle, hilum(body, side)]), 80)
        tubes.append((line, np.linspace(12.0, 9.0, 80)))
        vein = np.array([-0.10 * body.tall, 0.10 * body.deep, side * 14.0 + 4])
        tubes.append((np.linspace(vein, hilum(body, side) + [-24, -3, 0], 60), np.linspace(9.0, 7.0, 60)))
    points, radii = (np.concatenate(parts) for parts in zip(*tubes, strict=True))
    if body.age > 62 and rng.uniform() < 0.6:  # chalk in the wall of the aorta
        spots = aorta[rng.integers(150, 400, 14)] + rng.normal(0, 1, (14, 3))
        outward = rng.standard_normal((14, 3))
        spots = spots + outward / np.linalg.norm(outward, axis=1, keepdims=True) * 12.5 * wide
    else:
        spots = np.zeros((0, 3))
    space.mix(volume, body.blood, space.tubes(grid, points, radii=radii))
    space.mix(volume, 500.0, space.tubes(grid, spots, radii=np.full(len(spots), 1.6)))
    gullet = np.linspace([0.6 * body.tall, 0.34 * body.deep, 3], [-0.6 * body.tall, body.spine_y - 26, 8], 260)
    space.mix(volume, WALL, space.tubes(grid, gullet, radii=np.full(260, 7.5)))
    if rng.uniform() < 0.4:
        space.mix(volume, -600.0, space.tubes(grid, gullet[:110] + [0, -1, 0], radii=np.full(110, 2.2)))


def paint_windpipe(grid: Grid, body: Build, *, volume: np.ndarray) -> None:
    """Paint the windpipe and the two main bronchi in place: a wall, then air in it."""
    fork = carina(body)
    top = np.array([0.62 * body.tall, 0.02 * body.deep, 0.0])
    lines = [np.linspace(top, fork, 160)]
    radii = [np.full(160, 9.5 if not body.female else 8.2)]
    for side in (-1, 1):
        middle = (fork + hilum(body, side)) / 2 + [3, 3, 0]
        lines.append(curve(np.stack([fork, middle, hilum(body, side) + [0, 8, 0]]), 70))
        radii.append(np.linspace(7.6, 6.2, 70) * (0.9 if body.female else 1.0))
    points, sizes = np.concatenate(lines), np.concatenate(radii)
    space.mix(volume, WALL, space.tubes(grid, points, radii=sizes + 2.0))
    space.mix(volume, AIR, space.tubes(grid, points, radii=sizes))
