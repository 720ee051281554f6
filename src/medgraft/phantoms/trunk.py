"""The trunk of a phantom patient in CT: outline, chest wall, lungs, and what lies under the diaphragm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medgraft.phantoms import space
from medgraft.phantoms.space import Grid

AIR, FAT, MUSCLE, FLUID = -1000.0, -100.0, 52.0, 20.0
_PLANE = 2.4  # exponent of the cross section: between an ellipse and a box


@dataclass(frozen=True)
class Build:
    """How a patient is built, in millimetres.

    Attributes:
        female: bool.
        age: years.
        wide: half of the width of the rib cage's inside.
        deep: half of its depth.
        tall: from the lowest recess of the lungs to their tops.
        fat: thickness under the skin.
        muscle: of the chest wall outside the ribs.
        heart: size of the heart relative to the mean.
        blood: HU of blood; high with contrast medium.
    """

    female: bool
    age: int
    wide: float
    deep: float
    tall: float
    fat: float
    muscle: float
    heart: float
    blood: float

    @property
    def spine_y(self) -> float:
        """Get where the middle of the vertebral bodies lies."""
        return self.deep - 33

    def arch_z(self) -> float:
        """Get the height of the aortic arch."""
        return 0.2 * self.tall


def build(rng: np.random.Generator, *, female: bool, age: int, contrast: bool) -> Build:
    """Draw a patient."""
    small = 0.92 if female else 1.0
    habitus = float(rng.beta(2, 2.4))
    return Build(
        female=female,
        age=age,
        wide=float(small * rng.normal(132, 6)),
        deep=float(small * rng.normal(91, 5)),
        tall=float(small * np.clip(rng.normal(258, 14), 222, 290)),
        fat=float(6 + 24 * habitus + (5 if female else 0)),
        muscle=float(rng.uniform(9, 16) * small),
        heart=float(rng.normal(1, 0.06) * (1 + 0.002 * (age - 60))),
        blood=float(rng.uniform(150, 290) if contrast else rng.uniform(36, 48)),
    )


def grid_of(rng: np.random.Generator, body: Build, *, size: int) -> Grid:
    """Get the voxels that a radiographer would choose: the whole body across, the lungs from base to top."""
    across = 2 * (body.wide + body.muscle + body.fat + 10) * rng.uniform(1.03, 1.12)
    depth = max(16, size // 2)
    return Grid((depth, size, size), (body.tall * rng.uniform(1.07, 1.15) / depth, across / size, across / size))


@dataclass(frozen=True, eq=False)
class Lungs:
    """Where lung is.

    Attributes:
        depth: float32 `(D, H, W)`, about the distance to the nearest pleura in mm, positive in a lung.
        outside: about the distance to the inside of the rib cage in mm, positive outside.
        dome: float32 `(H, W)`, height of the diaphragm in mm.
    """

    depth: np.ndarray
    outside: np.ndarray
    dome: np.ndarray


def lungs(rng: np.random.Generator, grid: Grid, body: Build) -> Lungs:
    """Shape both lungs: the rib cage, less the mediastinum, above the diaphragm."""
    rough = space.noise(rng, grid, bump_mm=45, octaves=2)
    top = np.array(rng.normal([0.40, 0.34], 0.025)) * body.tall  # the right dome stands higher
    _, y, x = grid.axes()
    dome = _domes(body, y[0], x[0], top - body.tall / 2)
    depth, outside = np.empty(grid.shape, np.float32), np.empty(grid.shape, np.float32)
    middle = mediastinum_distance(grid, body)
    for part in grid.slabs():
        z, y, x = grid.axes(part)
        cage = cage_distance(body, z, y, x) + np.float32(1.3) * rough[part]
        inside = np.minimum(np.minimum(cage, rough[part] - middle[part]), (z - dome) * np.float32(0.8))
        depth[part] = np.minimum(inside, np.float32(0.5 * body.tall) - z)
        outside[part] = -cage
    return Lungs(depth, outside, dome)


def cage_distance(body: Build, z: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Get about the distance to the inside of the rib cage in mm, positive inside."""
    up = (z + body.tall / 2) / np.float32(body.tall)
    close = np.clip((up - 0.24) / 0.77, 0, None) ** np.float32(2.5)
    flare = 1 - np.float32(0.06) * np.clip(up - 0.25, -1, 1) ** 2
    across = np.abs(x / (body.wide * flare)) ** np.float32(_PLANE)
    along = np.abs((y + 6) / (body.deep + np.float32(6) * (y > -6))) ** np.float32(_PLANE)
    half = np.float32(0.5 * (body.wide + body.deep) * 2 / _PLANE)
    return (1 - np.sqrt(across + close + along)) * half


def _domes(body: Build, y: np.ndarray, x: np.ndarray, tops: np.ndarray) -> np.ndarray:
    sides = []
    for side, top in zip((-1, 1), tops, strict=True):
        across = (x - side * 0.47 * body.wide) / (0.62 * body.wide)
        along = (y + 0.2 * body.deep) / (1.12 * body.deep)
        sides.append(top - 0.30 * body.tall * (across**2 + along**2 * np.where(along > 0, 1.15, 0.35)))
    share = np.clip(x / 50 + 0.5, 0, 1)
    return (sides[0] * (1 - share) + sides[1] * share).astype(np.float32)


def heart_shape(body: Build) -> tuple[tuple[float, float, float], tuple[float, float, float], float]:
    """Get centre and radii (z, y, x) of the heart in mm, and how it is turned."""
    k = body.heart * body.wide / 132
    return (-0.20 * body.tall, -0.26 * body.deep, 20.0 * k), (56 * k, 43 * k, 62 * k), 0.42


def mediastinum_distance(grid: Grid, body: Build) -> np.ndarray:
    """Get about the distance to the surface of heart, great vessels and spine in mm, positive inside."""
    out = np.empty(grid.shape, np.float32)
    _, y, x = grid.axes()
    seam = np.float32(2.5) - np.abs(x - 4)  # where both pleurae meet behind the sternum
    back = (1 - np.sqrt((x / 25) ** 2 + ((y - body.spine_y - 24) / 42) ** 2)) * np.float32(25)
    fixed = np.maximum(seam, back)
    up = grid.axes()[0] / np.float32(body.tall)
    half = 25 + 9 * np.exp(-(((up - 0.27) / 0.16) ** 2)) + 5 * np.exp(-(((up - 0.03) / 0.1) ** 2))
    reach = body.deep * (0.80 - 0.26 * np.clip((up - 0.12) / 0.3, 0, 1))
    for k in range(grid.shape[0]):
        core = (1 - np.sqrt((x / half[k]) ** 2 + ((y + 4) / reach[k]) ** 2)) * np.float32(22)
        out[k] = np.maximum(core, fixed)[0]
    part, pad = space.ball(grid, (-0.36 * body.tall, -0.86 * body.deep, 4), (0.22 * body.tall, 40, 58))
    np.maximum(out[part], pad, out=out[part])  # fat in front of the heart
    centre, radii, lean = heart_shape(body)
    part, heart = space.ball(grid, centre, (radii[0] + 4, radii[1] + 4, radii[2] + 4), lean=lean)
    np.maximum(out[part], heart, out=out[part])
    part, aorta = space.ball(grid, (0, body.spine_y - 14, 22), (np.inf, 14.5, 14.5))
    below = body.arch_z() + 8 - grid.axes(part)[0]
    np.maximum(out[part], np.minimum(aorta, below), out=out[part])
    return out


def paint_wall(rng: np.random.Generator, grid: Grid, body: Build, *, room: Lungs) -> np.ndarray:
    """Paint air, table, skin, fat and muscle; get HU, float32 `(D, H, W)`."""
    rough = space.noise(rng, grid, bump_mm=38, octaves=2, keep=0.6)
    planes = space.noise(rng, grid, bump_mm=20)
    bust = float(rng.uniform(24, 46)) + 0.5 * body.fat
    volume = np.full(grid.shape, AIR, np.float32)
    _table(volume, grid, _half(body)[1])
    for part in grid.slabs():
        bumps, outside, here = rough[part], room.outside[part], volume[part]
        skin = _skin(grid, body, part, bust) + 1.5 * rough[grid.shape[0] // 2]
        inside = space.cover(skin, grid.voxel)
        space.mix(here, FAT + 6 * bumps, inside)
        space.mix(here, 15.0, inside * space.cover(2.2 - skin, grid.voxel) * np.float32(0.8))
        space.mix(here, 35.0, _strands(grid, body, part, bumps) * space.cover(skin - 8, grid.voxel))
        thick = _muscle(grid, body, part) + 1.6 * bumps
        meat = space.cover(np.minimum(thick - outside, skin - 0.35 * body.fat - 2), grid.voxel)
        streak = np.exp(-np.square(planes[part] * np.float32(1 / 0.12))) * (outside > 7)
        space.mix(here, MUSCLE + 4 * bumps, meat * (1 - np.float32(0.8) * streak))
    limit = _half(body)[1] - 0.3 * body.fat - 5
    for side in (-1, 1):  # the muscles along the spine
        part, distance = space.ball(grid, (0, body.spine_y + 38, side * 32), (np.inf, 19, 25))
        distance = np.minimum(distance, np.float32(limit) - grid.axes(part)[1])
        space.paint_ball(volume, grid, MUSCLE, at=(part, distance))
    return volume


def _half(body: Build) -> tuple[float, float]:
    """Get half of the width and of the depth of the whole trunk in mm."""
    return body.wide + body.muscle + body.fat + 6, body.deep + 0.7 * body.muscle + body.fat + 6


def _skin(grid: Grid, body: Build, part: space.Slices, bust: float) -> np.ndarray:
    """Get about the distance to the skin in mm, positive inside."""
    z, y, x = grid.axes(part)
    half_x, half_y = _half(body)
    plane = np.abs(x / half_x) ** np.float32(2.35) + np.abs((y - 2) / half_y) ** np.float32(2.35)
    skin = (1 - np.sqrt(plane)) * np.float32(0.5 * (half_x + half_y) * 2 / 2.35)
    if not body.female:
        return skin
    for side in (-1, 1):
        away = ((z + 0.08 * body.tall) / (bust + 22)) ** 2 + ((x - side * 74) / (bust + 22)) ** 2
        rho = away + ((y + half_y - 16) / (0.8 * bust)) ** 2
        skin = np.maximum(skin, (1 - np.sqrt(rho)) * np.float32(bust))
    return skin


def _strands(grid: Grid, body: Build, part: space.Slices, bumps: np.ndarray) -> np.ndarray | float:
    """Get the share of gland in the breasts."""
    if not body.female:
        return np.zeros_like(bumps)
    z, y, _ = grid.axes(part)
    return np.clip(bumps - 0.1, 0, 1) * ((y < -_half(body)[1] + 8) & (np.abs(z + 0.08 * body.tall) < 0.16 * body.tall))


def _muscle(grid: Grid, body: Build, part: space.Slices) -> np.ndarray:
    """Get how thick the muscles outside the ribs are, in mm."""
    z, y, x = grid.axes(part)
    up = (z + body.tall / 2) / np.float32(body.tall)
    behind = (
        np.exp(-(((np.abs(x) - 0.85 * body.wide) / 55) ** 2))
        * np.clip((y + 50) / 45, 0, 1)
        * np.clip((up - 0.4) * 4, 0, 1)
    )
    front = np.exp(-(((np.abs(x) - 65) / 45) ** 2)) * np.clip(-y / 35, 0, 1) * np.exp(-(((up - 0.72) / 0.2) ** 2))
    return 4.5 + np.float32(body.muscle) * (0.45 + 2.2 * behind + 1.2 * front)


def _table(volume: np.ndarray, grid: Grid, half_y: float) -> None:
    """The couch: a carbon shell round foam, under the back."""
    _, y, x = grid.axes()
    arc = y[0] - np.float32(half_y + 5) + (x[0] / 26) ** 2
    foam = space.cover(9 - np.abs(arc - 10), grid.voxel)
    shell = space.cover(1.1 - np.abs(np.abs(arc - 10) - 9), grid.voxel)
    volume += (90 * foam + 620 * shell) * (np.abs(x[0]) < 0.62 * half_y + 90)


def paint_belly(rng: np.random.Generator, grid: Grid, body: Build, *, room: Lungs, volume: np.ndarray) -> None:
    """Paint liver, spleen and stomach under the diaphragm, in place."""
    rough = space.noise(rng, grid, bump_mm=40)
    bright = 0.32 * max(body.blood - 45, 0)
    for part in grid.slabs():
        z, y, x = grid.axes(part)
        here, under = volume[part], _under(grid, room, part)
        if under.max() < -4:
            continue
        space.mix(here, MUSCLE, space.cover(under + 2, grid.voxel))
        space.mix(here, FAT, space.cover(under, grid.voxel))
        edge = np.minimum(30 + 0.18 * (y + 20) - x + 6 * rough[part], 0.55 * body.deep + 30 - y)
        space.mix(here, 58 + bright, space.cover(np.minimum(under, edge), grid.voxel))
    place = (-0.36 * body.tall, 0.42 * body.deep, 0.62 * body.wide)
    part, spleen = space.ball(grid, place, (52, 34, 30))
    spleen = np.minimum(spleen, _under(grid, room, part))
    space.paint_ball(volume, grid, 50 + 1.2 * bright, at=(part, spleen))
    place = (-0.27 * body.tall, -0.22 * body.deep, 0.46 * body.wide)
    part, stomach = space.ball(grid, place, (46, 40, 42))
    stomach = np.minimum(stomach, _under(grid, room, part) - 3)
    space.paint_ball(volume, grid, MUSCLE, at=(part, stomach))
    space.paint_ball(volume, grid, FLUID, at=(part, stomach - 4))
    level = -8 - grid.axes(part)[1] - 0.22 * body.deep + rng.uniform(-15, 10)
    space.paint_ball(volume, grid, AIR, at=(part, np.minimum(stomach - 4, level)))


def _under(grid: Grid, room: Lungs, part: space.Slices) -> np.ndarray:
    """Get about how deep under the diaphragm and inside the cage a voxel lies, in mm."""
    return np.minimum(-room.outside[part] - 2, room.dome[part[1:]] - grid.axes(part)[0] - 2.5)
