"""The boundary of a mask as polygons along the edges of its pixels: what is filled again is the very same mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

# Sides of a pixel in turn, each with the pixel on its right hand: up, right, down, left; (dx, dy) of where it starts.
_STARTS = ((0, 0), (1, 0), (1, 1), (0, 1))
_WAYS = ((1, 0), (0, 1), (-1, 0), (0, -1))


@dataclass(frozen=True, eq=False)
class Piece:
    """A part of a mask that hangs together by sides of pixels.

    Attributes:
        outer: `(N, 2)` x, y of its corners, edges as of `Boxes`; the first is not repeated, and none comes twice.
        holes: the same of each hole in it, turning the other way; rings meet in single points, if at all.
    """

    outer: np.ndarray
    holes: tuple[np.ndarray, ...] = ()


def pieces_of(mask: np.ndarray) -> list[Piece]:
    """Get the outlines of a mask `(H, W)`, a piece for each part; parts that touch at a corner alone are two.

    Example:
        >>> ring = np.ones((3, 3), bool)
        >>> ring[1, 1] = False
        >>> [(piece.outer.tolist(), len(piece.holes)) for piece in pieces_of(ring)]
        [([[0, 0], [3, 0], [3, 3], [0, 3]], 1)]
    """
    mask = np.asarray(mask, bool)
    parts, count = ndimage.label(mask)  # type: ignore[misc]
    places, ways, owners = _sides(mask, parts)
    outers: list[np.ndarray | None] = [None] * count
    holes: list[list[np.ndarray]] = [[] for _ in range(count)]
    for loop in _loops(places, ways, owners, width=mask.shape[1] + 1):
        corners = loop[ways[loop] != ways[np.roll(loop, 1)]]
        ring, part = places[corners], int(owners[loop[0]]) - 1
        x, y = ring.T
        if (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() > 0:
            outers[part] = ring
        else:
            holes[part].append(ring)
    return [Piece(outer, tuple(inner)) for outer, inner in zip(outers, holes, strict=True) if outer is not None]


def _sides(mask: np.ndarray, parts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every side of a pixel that leads out of the mask: where it starts, its way, and its part."""
    whole = np.pad(mask, 1)
    beyond = (whole[:-2, 1:-1], whole[1:-1, 2:], whole[2:, 1:-1], whole[1:-1, :-2])
    places, ways, owners = [], [], []
    for way, (other, (dx, dy)) in enumerate(zip(beyond, _STARTS, strict=True)):
        rows, columns = np.nonzero(mask & ~other)
        places.append(np.stack([columns + dx, rows + dy], axis=1))
        ways.append(np.full(len(rows), way))
        owners.append(parts[rows, columns])
    return np.concatenate(places), np.concatenate(ways), np.concatenate(owners)


def _loops(places: np.ndarray, ways: np.ndarray, owners: np.ndarray, *, width: int) -> list[np.ndarray]:
    """Sides one after the other, by number.

    Where two go on, pixels of the mask lie across from each other. If both are of one part, the way goes on to the
    other, a turn to the left, so that no ring comes to a corner twice; else it stays with its own pixel.
    """
    keys = (places[:, 1] * width + places[:, 0]) * 4 + ways
    order = np.argsort(keys)
    known = keys[order]
    ends = places + np.array(_WAYS)[ways]
    after = np.full(len(keys), -1)
    for turn in (0, 1, 3):  # the last that is there counts
        wanted = (ends[:, 1] * width + ends[:, 0]) * 4 + (ways + turn) % 4
        found = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        there = known[found] == wanted if len(known) else np.zeros(0, bool)
        there &= owners[order[found]] == owners
        after[there] = order[found[there]]
    follow, seen = after.tolist(), bytearray(len(keys))
    loops = []
    for first in range(len(keys)):
        loop = []
        while not seen[first]:
            seen[first] = 1
            loop.append(first)
            first = follow[first]
        if loop:
            loops.append(np.array(loop))
    return loops
