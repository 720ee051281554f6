"""Where the parts of a kidney's cortex lie: glomeruli, vessels and tubules on an endless plane.

Sizes and shares are those of textbooks of renal histology, roundly: glomeruli
of 110 to 240 um, cut at any height, about four to a square millimetre; tubules
of 35 to 65 um, back to back, two thirds of them proximal.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from medgraft.phantoms.endless import Plane, Window

LARGEST = 128.0  # um: radius of the largest body with what surrounds it
BODIES = ("glomerulus", "sclerosed", "artery", "vein", "dilated", "cluster", "arteriole")
PROXIMAL, DISTAL, COLLECTING, ATROPHIC = range(4)
_CELL = 250.0  # um: at most one body has its centre in each cell of this size
_LOOKALIKES = (("artery", 26, 78), ("vein", 24, 62), ("dilated", 34, 60), ("cluster", 52, 100))  # least, most um
_GAP = 9.0
_SITE = 37.0  # um between tubules
_SITES = 6  # tubules a side that are drawn together
_SEEN = 115.0  # um from its centre that a tubule may be seen
_KINDS = (0.7, 0.88, 0.95)  # shares of proximal, distal and collecting ones, summed


@dataclass(frozen=True)
class Habit:
    """What differs between the kidneys of two patients.

    Attributes:
        sclerosed: share of glomeruli that are scars.
        fibrosis: 0 for back-to-back tubules to 1 for much collagen between them.
        crowd: share of the cells of the layout that hold a glomerulus.
        lookalikes: share that hold something else that is round.
    """

    sclerosed: float
    fibrosis: float
    crowd: float
    lookalikes: float


@dataclass(frozen=True)
class Body:
    """One round part.

    Attributes:
        kind: one of `BODIES`.
        centre: (row, column) in um.
        radius: um.
        key: names its own random numbers.
        turn: radians; of a glomerulus where its vessels enter.
    """

    kind: str
    centre: tuple[float, float]
    radius: float
    key: str
    turn: float = 0.0


@dataclass(frozen=True, eq=False)
class Tubules:
    """Tubules as lines with a radius, each array of length N, in um.

    Attributes:
        row: of the centre.
        column: of the centre.
        half: half of the length of the line; 0 for a tubule that is cut across.
        turn: direction of the line in radians.
        radius: from the line to the basement membrane, where there is room.
        kind: PROXIMAL to ATROPHIC.
        tint: standard normal, how its cells take the stain.
        lumen: standard normal, how wide it is open.
    """

    row: np.ndarray
    column: np.ndarray
    half: np.ndarray
    turn: np.ndarray
    radius: np.ndarray
    kind: np.ndarray
    tint: np.ndarray
    lumen: np.ndarray

    def take(self, rows: np.ndarray) -> Tubules:
        """Get some of them."""
        return Tubules(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


@lru_cache(maxsize=256)
def habit_of(plane: Plane) -> Habit:
    """Get the habit of the kidney on a plane."""
    rng = plane.rng("habit")
    ill = rng.uniform() < 0.35
    return Habit(
        sclerosed=float(rng.uniform(0.12, 0.4) if ill else rng.uniform(0.0, 0.1)),
        fibrosis=float(rng.uniform(0.35, 0.95) if ill else rng.uniform(0.0, 0.3)),
        crowd=float(rng.uniform(0.45, 0.62)),
        lookalikes=float(rng.uniform(0.25, 0.36)),
    )


def bodies_in(plane: Plane, ends: tuple[float, float, float, float], *, margin: float = LARGEST) -> list[Body]:
    """Get the bodies whose centre is within `margin` of a rectangle (top, left, bottom, right) in um."""
    top, left, bottom, right = ends[0] - margin, ends[1] - margin, ends[2] + margin, ends[3] + margin
    found = []
    for i in range(int(np.floor(top / _CELL)), int(np.floor(bottom / _CELL)) + 1):
        for j in range(int(np.floor(left / _CELL)), int(np.floor(right / _CELL)) + 1):
            for body in _settled(plane, i, j):
                if top <= body.centre[0] < bottom and left <= body.centre[1] < right:
                    found.append(body)
    return found


def _inward(plane: Plane, row: np.ndarray | float, column: np.ndarray | float) -> np.ndarray:
    """Get how far from the middle of the marrow places are; 1 on its border."""
    if plane.inner is None:
        return np.full(np.shape(row), np.inf)
    top, left, down, across = plane.inner
    return np.hypot((np.asarray(row) - top) / down, (np.asarray(column) - left) / across)


@lru_cache(maxsize=8192)
def _settled(plane: Plane, i: int, j: int) -> tuple[Body, ...]:
    """Get the body of a cell unless one that comes before it is in the way, and the arteriole beside it."""
    mine, rank = _wanted(plane, i, j)
    if mine is None:
        return ()
    for k in range(i - 2, i + 3):
        for m in range(j - 2, j + 3):
            other, before = _wanted(plane, k, m)
            if other is None or (k, m) == (i, j) or before < rank:
                continue
            away = np.hypot(mine.centre[0] - other.centre[0], mine.centre[1] - other.centre[1])
            if away < mine.radius + other.radius + _room(mine) + _room(other) + _GAP:
                return ()
    if mine.kind != "glomerulus" or mine.radius < 55:
        return (mine,)
    rng = plane.rng("arteriole", mine.key)
    small = float(rng.uniform(9, 14))
    away = mine.radius + small - 2
    centre = mine.centre[0] + away * np.sin(mine.turn), mine.centre[1] + away * np.cos(mine.turn)
    return mine, Body("arteriole", (float(centre[0]), float(centre[1])), small, mine.key + "a")


def _room(body: Body) -> float:
    return 14.0 if body.kind == "glomerulus" else 0.0


@lru_cache(maxsize=16384)
def _wanted(plane: Plane, i: int, j: int) -> tuple[Body | None, float]:
    habit, rng = habit_of(plane), plane.rng("body", f"{i}/{j}")
    draw, rank = rng.uniform(), float(rng.uniform())
    row, column = ((i + rng.uniform()) * _CELL, (j + rng.uniform()) * _CELL)
    turn = float(rng.uniform(-np.pi, np.pi))
    if draw < habit.crowd:
        if bool(_inward(plane, row, column) < 1.05):
            return None, rank
        kind = "sclerosed" if rng.uniform() < habit.sclerosed else "glomerulus"
        whole = float(np.clip(rng.normal(95, 13), 62, 120))
        height = rng.uniform(0, 0.97)  # of the cut through the ball
        radius = whole * (1 - height**2) ** 0.5
        radius = max(24.0, radius * (0.62 if kind == "sclerosed" else 1.0))
        rank += 1.0  # gives way to no look-alike
    elif draw < habit.crowd + habit.lookalikes:
        kind, least, most = _LOOKALIKES[int(np.searchsorted((0.3, 0.48, 0.78), rng.uniform()))]
        radius = float(least + (most - least) * rng.uniform() ** (1.6 if kind == "artery" else 1.0))
    else:
        return None, rank
    return Body(kind, (float(row), float(column)), float(radius), f"{i}/{j}", turn), rank


def tubules_in(plane: Plane, window: Window) -> Tubules:
    """Get the tubules that may be seen in a window, in an order that is the same for all windows."""
    top, left, bottom, right = window.ends_um()
    size = _SITE * _SITES
    blocks = [
        _kept(plane, i, j)
        for i in range(int(np.floor((top - _SEEN) / size)), int(np.floor((bottom + _SEEN) / size)) + 1)
        for j in range(int(np.floor((left - _SEEN) / size)), int(np.floor((right + _SEEN) / size)) + 1)
    ]
    every = Tubules(*np.concatenate(blocks, axis=1)[1:])
    near = (every.row > top - _SEEN) & (every.row < bottom + _SEEN)
    near &= (every.column > left - _SEEN) & (every.column < right + _SEEN)
    return every.take(near)


@lru_cache(maxsize=4096)
def _kept(plane: Plane, i: int, j: int) -> np.ndarray:
    """Get the tubules of a block, `(9, N)`: those that no one crowds out, then those that find room between them."""
    drawn, first, second = _drawn(plane, i, j), _first(plane, i, j), _second(plane, i, j)
    around = [(k, m) for k in range(i - 1, i + 2) for m in range(j - 1, j + 2)]
    rivals = np.concatenate([_drawn(plane, k, m)[:, _second(plane, k, m)] for k, m in around], axis=1)
    return drawn[:, first | second & ~_crowded(drawn, rivals, ranked=True)]


@lru_cache(maxsize=4096)
def _second(plane: Plane, i: int, j: int) -> np.ndarray:
    """Say which tubules of a block were crowded out by none but such as were crowded out themselves."""
    around = [(k, m) for k in range(i - 1, i + 2) for m in range(j - 1, j + 2)]
    settled = np.concatenate([_drawn(plane, k, m)[:, _first(plane, k, m)] for k, m in around], axis=1)
    drawn = _drawn(plane, i, j)
    return ~_first(plane, i, j) & ~_crowded(drawn, settled, ranked=False)


@lru_cache(maxsize=4096)
def _first(plane: Plane, i: int, j: int) -> np.ndarray:
    """Say which tubules of a block give way to none."""
    around = [(k, m) for k in range(i - 1, i + 2) for m in range(j - 1, j + 2)]
    every = np.concatenate([_drawn(plane, k, m) for k, m in around], axis=1)
    return ~_crowded(_drawn(plane, i, j), every, ranked=True)


def _crowded(own: np.ndarray, others: np.ndarray, *, ranked: bool) -> np.ndarray:
    """Say which of `own` have their centre too close to one of the others, of a higher rank if `ranked`."""
    rank, row, column, half, turn, radius = (values[:, None] for values in others[:6])
    down, across = own[1] - row, own[2] - column
    sine, cosine = np.sin(turn), np.cos(turn)
    along = np.clip(down * sine + across * cosine, -half, half)
    away = (down - along * sine) ** 2 + (across - along * cosine) ** 2
    # Too close is where less than 9 um would be left of a small one, too.
    close = away < np.maximum(0.6 * (own[5] + radius), radius - own[5] + 18) ** 2
    return (close & ((rank > own[0]) if ranked else True)).any(axis=0)


@lru_cache(maxsize=4096)
def _drawn(plane: Plane, i: int, j: int) -> np.ndarray:
    """Get the tubules of a block that are wished for where no body is, `(9, N)`: rank, then the fields of `Tubules`."""
    habit, rng = habit_of(plane), plane.rng("tubules", f"{i}/{j}")
    count = _SITES**2
    places = np.stack(np.divmod(np.arange(count), _SITES)).astype(float) + 0.5 + rng.uniform(-0.4, 0.4, (2, count))
    row, column = (np.array([[i], [j]]) * _SITES + places) * _SITE
    kind = np.searchsorted(_KINDS, rng.uniform(size=count)).astype(float)
    kind = np.where((kind == PROXIMAL) & (rng.uniform(size=count) < 0.35 * habit.fibrosis), ATROPHIC, kind)
    radius = np.array([29.0, 22.0, 22.0, 15.0])[kind.astype(int)] * rng.lognormal(0, 0.1, count)
    half = np.where(rng.uniform(size=count) < 0.55, rng.uniform(0, 5, count), rng.uniform(8, 52, count))
    turn = rng.uniform(0, np.pi, count)
    if plane.inner is not None:  # tubules of the marrow are straight, and run towards its middle
        marrow = _inward(plane, row, column) < 1
        kind = np.where(marrow, rng.choice([DISTAL, COLLECTING], count), kind)
        radius = np.where(marrow, 20.0 * rng.lognormal(0, 0.15, count), radius)
        half = np.where(marrow, 52.0, half)
        inwards = np.arctan2(row - plane.inner[0], column - plane.inner[1]) + rng.normal(0, 0.1, count)
        turn = np.where(marrow, inwards, turn)
    tint, lumen = rng.standard_normal((2, count))
    if plane.inner is not None:
        lumen = np.where(_inward(plane, row, column) < 1, lumen - 1.5, lumen)
    # Long ones come first, or the short ones would leave them no room.
    rank = rng.uniform(size=count) + half / 60
    free = np.ones(count, bool)
    size = _SITE * _SITES
    for body in bodies_in(plane, (i * size, j * size, (i + 1) * size, (j + 1) * size), margin=LARGEST + 70):
        down, across = body.centre[0] - row, body.centre[1] - column
        along = np.clip(down * np.sin(turn) + across * np.cos(turn), -half, half)
        away = np.hypot(down - along * np.sin(turn), across - along * np.cos(turn))
        free &= away > body.radius + 0.42 * radius
    return np.stack([rank, row, column, half, turn, radius, kind, tint, lumen])[:, free]
