"""The middle lines of thin structures, and whether two masks of vessels hold each other's."""

from __future__ import annotations

import math

import numpy as np

from medgraft.errors import BadData

# The 27 places of a neighbourhood of 3 x 3 x 3 are the bits of a number, 9 z + 3 y + x; the voxel itself is bit 13.
_PLACES = [(z, y, x) for z in (-1, 0, 1) for y in (-1, 0, 1) for x in (-1, 0, 1)]
_ITSELF = 1 << 13


def _bits(wanted: list[bool]) -> np.uint32:
    return np.uint32(sum(1 << bit for bit, want in enumerate(wanted) if want))


# Of each axis how far its next place is in bits, and which places are the first and the last along it.
_AXES = [
    (np.uint32(step), _bits([place[axis] == -1 for place in _PLACES]), _bits([place[axis] == 1 for place in _PLACES]))
    for axis, step in ((2, 1), (1, 3), (0, 9))
]
_FACES = _bits([sum(map(abs, place)) == 1 for place in _PLACES])
_NEAR = _bits([sum(map(abs, place)) in (1, 2) for place in _PLACES])  # all but the voxel and the eight corners


def cldice(truth: np.ndarray, found: np.ndarray) -> float:
    """Get the clDice of two masks of thin structures, from 0 to 1.

    The harmonic mean of two shares: of the middle line of what was found, how much lies in the truth; of the true one,
    how much lies in what was found. A vessel that is broken loses its gap, one that is drawn too thick or too thin
    loses nothing. 0 where one mask is empty, NaN where both are. Lines are counted in voxels, whatever their spacing.

    Args:
        truth: ([D,] H, W) booleans.
        found: the same shape.

    Source: Shit et al., CVPR 2021, p. 16560 (arXiv:2003.07311).
    """
    truth, found = np.asarray(truth, dtype=bool), np.asarray(found, dtype=bool)
    if not truth.any() or not found.any():
        return 0.0 if truth.any() or found.any() else math.nan
    right, held = float(truth[skeleton(found)].mean()), float(found[skeleton(truth)].mean())
    return 2 * right * held / (right + held) if right + held else 0.0


def skeleton(mask: np.ndarray) -> np.ndarray:
    """Get the middle line of a mask, booleans of its shape.

    Layer by layer, voxels are taken from the border as long as that changes neither what is connected (by faces, edges
    or corners) nor any hole or tunnel, and ends of lines stay. So each part keeps at least one voxel. The voxels of a
    layer are taken in eight turns, by whether their three numbers are odd; those of a turn do not touch.

    Args:
        mask: ([D,] H, W) booleans.

    Raises:
        BadData: the mask has other axes than two or three.

    Source: Bertrand and Aktouf, Proc SPIE 1995;2356:113 (eight subfields); Bertrand and Malandain, Pattern Recognit
        Lett 1994;15:169 (which voxels may go); Németh, Kardos and Palágyi, Graph Models 2011;73:75 (ends are those of
        the layer's beginning).
    """
    if mask.ndim not in (2, 3):
        raise BadData(f"a mask of shape {mask.shape} has no middle line", do="Give two or three axes.")
    solid = np.pad(np.asarray(mask, dtype=bool).reshape((1,) * (3 - mask.ndim) + mask.shape), 1)
    flat, shape = solid.reshape(-1), solid.shape
    strides = np.array([shape[1] * shape[2], shape[2], 1])
    steps = np.array(_PLACES) @ strides
    beside = np.concatenate([strides, -strides])
    layer = np.flatnonzero(flat)
    while len(layer):
        layer = layer[~flat[layer[:, None] + beside].all(axis=1)]
        around = _around(flat, layer, steps)
        layer = layer[(around & (around - np.uint32(1))) > 0]  # one neighbour or none: the end of a line
        turns = _turns(layer, shape)
        gone = np.concatenate([_taken(flat, layer[turns == turn], steps) for turn in range(8)])
        if not len(gone):
            break
        layer = np.unique(np.concatenate([layer, (gone[:, None] + beside).reshape(-1)]))
        layer = layer[flat[layer]]
    return solid[1:-1, 1:-1, 1:-1].reshape(mask.shape)


def _turns(places: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    z, y, x = np.unravel_index(places, shape)
    return (z & 1) * 4 + (y & 1) * 2 + (x & 1)


def _taken(flat: np.ndarray, places: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Take away those of some voxels, no two of which touch, that may go; get them."""
    gone = places[_simple(_around(flat, places, steps))]
    flat[gone] = False
    return gone


def _around(flat: np.ndarray, places: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """The neighbours of each place that are inside, (N,) uint32, a bit each; never the place itself."""
    bits = np.zeros(len(places), dtype=np.uint32)
    for bit, step in enumerate(steps.tolist()):
        if step:
            bits |= flat[places + step].astype(np.uint32) << np.uint32(bit)
    return bits


def _simple(around: np.ndarray) -> np.ndarray:
    """Whether taking the voxel changes no connection: (N,) booleans.

    The neighbours inside are one part; so are those outside that share a face with it, joined by faces among the
    neighbours that share a face or an edge with it.
    """
    outside = ~around & _NEAR
    faces = outside & _FACES
    one = (around > 0) & (faces > 0)
    one[one] = _grown(around[one], by_faces=False) == around[one]
    one[one] = (faces[one] & ~_grown(faces[one], by_faces=True, within=outside[one])) == 0
    return one


def _grown(bits: np.ndarray, *, by_faces: bool, within: np.ndarray | None = None) -> np.ndarray:
    """The part that holds the lowest bit: all that is joined to it among `within` (or the bits themselves)."""
    room = bits if within is None else within
    part = bits & (~bits + np.uint32(1))
    while True:
        more = part.copy()
        for step, first, last in _AXES:
            base = part if by_faces else more
            more = more | ((base & ~last) << step) | ((base & ~first) >> step)
        more &= room
        if np.array_equal(more, part):
            return part
        part = more
