"""Brushes: smooth noise, soft stamps, curves and branching trees, fast and seeded.

Everything is float32 on a square canvas. The noise uses additions and
multiplications of single elements only, so that the sum of a dot product
cannot come out differently on a machine with another number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

_MOST_STAMPED = 400_000  # pixels stamped in one go: bounds memory, not the result


def ramp(values: np.ndarray, edges: tuple[Any, Any]) -> np.ndarray:
    """Get 0 below the first edge, 1 above the second and a smooth step between; turned round when the first is higher.

    An edge may be an array that fits `values`.
    """
    low, high = (np.asarray(edge, np.float32) for edge in edges)
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def noise(rng: np.random.Generator, size: int, *, cells: float, octaves: int = 1, keep: float = 0.5) -> np.ndarray:
    """Get smooth noise `(size, size)` with mean about 0 and standard deviation 1.

    Args:
        rng: where the numbers come from.
        size: width and height of the canvas in pixels.
        cells: how many bumps fit across the canvas in the first octave.
        octaves: each further one has bumps of half the size.
        keep: weight of an octave relative to the one before.
    """
    total = np.zeros((size, size), np.float32)
    power, weight = 0.0, 1.0
    for octave in range(octaves):
        count = max(2, min(round(cells * 2**octave), size))
        lattice = rng.standard_normal((count + 3, count + 3), dtype=np.float32)
        total += np.float32(weight) * stretch(lattice, size)
        power += weight**2
        weight *= keep
    return total / np.float32(power**0.5)


def stretch(lattice: np.ndarray, size: int) -> np.ndarray:
    """Get a `(count + 3, count + 3)` lattice as a smooth `(size, size)` surface (cubic B-spline, variance kept)."""
    first, weights = _spline(size, lattice.shape[0] - 3)
    tall = sum(weights[k][:, None] * lattice[first + k] for k in range(4))
    wide = np.ascontiguousarray(np.asarray(tall).T)
    return np.ascontiguousarray(np.asarray(sum(weights[k][:, None] * wide[first + k] for k in range(4))).T)


@lru_cache(maxsize=64)
def _spline(size: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
    place = (np.arange(size) + 0.5) * cells / size
    first = place.astype(int)
    return first, spline_weights((place - first).astype(np.float32))


def spline_weights(t: np.ndarray) -> np.ndarray:
    """Get the weights of the four lattice points around each place of a cubic B-spline, `(4, N)` float32.

    Args:
        t: `(N,)` float32, how far each place is past its lattice point, in 0..1.
    """
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]) / 6
    # The mean over t of the summed squared weights is .479: noise of a lattice with variance 1 keeps variance 1.
    return (weights / np.float32(0.479**0.5)).astype(np.float32)


def wave(rng: np.random.Generator, count: int, *, bumps: float) -> np.ndarray:
    """Get smooth noise along a line, `(count,)`, standard deviation about 1."""
    knots = rng.standard_normal(max(2, round(bumps)) + 3).astype(np.float32)
    first, weights = _spline(count, len(knots) - 3)
    return np.asarray(sum(weights[k] * knots[first + k] for k in range(4)))


def stamp(size: int, points: np.ndarray, *, radii: np.ndarray, soft: float = 0.6) -> np.ndarray:
    """Get how much of each pixel is covered by discs, 0..1, `(size, size)`.

    Args:
        size: width and height of the canvas in pixels.
        points: `(N, 2)` centres as (row, column) in pixels; those outside are dropped.
        radii: `(N,)` in pixels. Discs thinner than a pixel become fainter, not wider.
        soft: half of the width of the soft edge in pixels.
    """
    cover = np.zeros(size * size, np.float32)
    points = np.asarray(points, np.float32).reshape(-1, 2)
    radii = np.broadcast_to(np.asarray(radii, np.float32), len(points))
    reach = np.ceil(radii + soft).astype(int)
    seen = np.all((points > -reach[:, None]) & (points < size + reach[:, None]), axis=1) & (radii > 0.02)
    for most in np.unique(reach[seen]):
        chosen = np.flatnonzero(seen & (reach == most))
        step = max(1, _MOST_STAMPED // (2 * most + 1) ** 2)
        for start in range(0, len(chosen), step):
            part = chosen[start : start + step]
            _stamp_same(cover, size, points[part], radii[part], most=int(most), soft=soft)
    return cover.reshape(size, size)


def _stamp_same(cover: np.ndarray, size: int, points: np.ndarray, radii: np.ndarray, *, most: int, soft: float) -> None:
    offsets = np.arange(-most, most + 1)
    centre = np.rint(points).astype(int)
    rows = centre[:, 0, None] + offsets
    columns = centre[:, 1, None] + offsets
    down = (rows - points[:, 0, None]).astype(np.float32) ** 2
    across = (columns - points[:, 1, None]).astype(np.float32) ** 2
    distance = np.sqrt(down[:, :, None] + across[:, None, :])
    value = np.clip((radii[:, None, None] + np.float32(soft) - distance) / np.float32(2 * soft), 0, 1)
    inside = ((rows >= 0) & (rows < size))[:, :, None] & ((columns >= 0) & (columns < size))[:, None, :] & (value > 0)
    flat = rows[:, :, None] * size + columns[:, None, :]
    np.maximum.at(cover, flat[inside], value[inside])


def curve(control: np.ndarray, count: int) -> np.ndarray:
    """Get `count` points of the smooth line through the control points (Catmull-Rom), `(count, dimensions)`."""
    control = np.asarray(control, np.float32)
    padded = np.concatenate([2 * control[:1] - control[1:2], control, 2 * control[-1:] - control[-2:-1]])
    place = np.linspace(0, len(control) - 1, count)
    first = np.minimum(place.astype(int), len(control) - 2)
    t = (place - first).astype(np.float32)[:, None]
    a, b, c, d = (padded[first + k] for k in range(4))
    return 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)


@dataclass(frozen=True, eq=False)
class Branches:
    """Lines of equal length of list: points `(M, T, 2)` and radii `(M, T)`, in one unit."""

    points: np.ndarray
    radii: np.ndarray


@dataclass(frozen=True)
class Growth:
    """How children leave their parents.

    Attributes:
        children: how many each parent has.
        length: of a child, in the unit of the points.
        spread: least and greatest angle between child and parent in radians.
        ratio: least and greatest radius of a child relative to the parent's where it leaves.
        curl: how much a child bends back along its parent, in radians.
        wobble: standard deviation of the slow change of heading, in radians.
        steps: points of a child.
    """

    children: int
    length: float
    spread: tuple[float, float] = (0.4, 1.0)
    ratio: tuple[float, float] = (0.5, 0.75)
    curl: float = 0.5
    wobble: float = 0.35
    steps: int = 60


def grow(rng: np.random.Generator, parents: Branches, *, growth: Growth) -> Branches:
    """Get one more generation of a tree: `children` lines from each parent, alternating sides, tapering."""
    count, steps = parents.radii.shape
    kids = growth.children
    place = (np.arange(kids) + rng.uniform(0.1, 0.9, (count, kids))) / kids
    place = np.clip(0.08 + 0.88 * place, 0, 0.97)
    at = (place * (steps - 2)).astype(int)
    owner = np.arange(count)[:, None]
    start = parents.points[owner, at]
    ahead = parents.points[owner, at + 1] - start
    heading = np.arctan2(ahead[..., 0], ahead[..., 1])
    side = np.where((np.arange(kids) + rng.integers(0, 2, (count, 1))) % 2 == 0, 1.0, -1.0)
    heading = heading + side * rng.uniform(*growth.spread, (count, kids))
    total = count * kids
    length = (growth.length * rng.lognormal(0, 0.3, (count, kids)) * (1.15 - 0.5 * place)).reshape(total)
    along = np.linspace(0, 1, growth.steps)
    slow = np.cumsum(rng.standard_normal((total, growth.steps)), axis=1) * (growth.wobble / growth.steps**0.5)
    bend = heading.reshape(total, 1) - side.reshape(total, 1) * growth.curl * along + slow
    move = np.stack([np.sin(bend), np.cos(bend)], axis=-1) * (length / growth.steps)[:, None, None]
    points = start.reshape(total, 1, 2) + np.cumsum(move, axis=1) - move[:, :1]
    radius = parents.radii[owner, at].reshape(total, 1) * rng.uniform(*growth.ratio, (total, 1))
    return Branches(points.astype(np.float32), (radius * (1 - 0.55 * along)).astype(np.float32))


def joined(parts: list[Branches]) -> tuple[np.ndarray, np.ndarray]:
    """Get all points `(N, 2)` and radii `(N,)` of several generations, for `stamp`."""
    points = np.concatenate([part.points.reshape(-1, 2) for part in parts])
    return points, np.concatenate([part.radii.reshape(-1) for part in parts])


def pixel_grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Get the row and column of every pixel, float32 `(size, 1)` and `(1, size)`."""
    line = np.arange(size, dtype=np.float32)
    return line[:, None], line[None, :]


_GLYPHS = {
    "A": "0E11111F111111",
    "L": "1010101010101F",
    "P": "1E11111E101010",
    "R": "1E11111E141211",
}


def letters(word: str, *, scale: int) -> np.ndarray:
    """Get a word of the letters A, L, P, R as a picture of 0 and 1, `(7 * scale, 6 * scale * letters)`."""
    blocks = []
    for letter in word:
        rows = [int(_GLYPHS[letter][2 * k : 2 * k + 2], 16) for k in range(7)]
        blocks.append(np.array([[(row >> (4 - k)) & 1 for k in range(5)] + [0] for row in rows], np.float32))
    return np.kron(np.concatenate(blocks, axis=1), np.ones((scale, scale), np.float32))
