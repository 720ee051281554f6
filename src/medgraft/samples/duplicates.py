"""Images that are in a data set twice: the same pixels, or a copy that was recompressed, resized, flipped or turned.

Exact: the hash of the decoded pixels. Near, in two steps on 64 x 64 thumbnails:

1. A perceptual descriptor, the low frequencies of the locally contrast-normalised thumbnail. Flips and quarter
   turns only change signs and order of its numbers, so all eight are compared by one matrix product each.
   What all images of the set share (the rim of a fundus photograph) is taken off first.
2. Candidates are compared pixel by pixel, over the whole and over the middle alone: two chest X-rays of two
   people look alike from afar, and two fundus photographs share their rim, but neither holds in the middle.

Measured on real sets: see the docstring of `find`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

NEAR = 0.9  # correlation of the whole picture from which two thumbnails may be copies
NEAR_MIDDLE = 0.93  # and of their middles
FLAT = 1.0  # gray levels of detail below which a middle says nothing
NEAR_FLAT = 0.98  # then the whole has to agree this well
_CANDIDATE = 0.8
_BAND = 12  # frequencies of the descriptor along each axis
_CHUNK = 1024
_SIDE = 64
_TURNS = ("as it is", "turned by 90 degrees", "turned by 180 degrees", "turned by 270 degrees") + (
    "flipped left-right",
    "flipped and turned by 90 degrees",
    "flipped top-bottom",
    "flipped and turned by 270 degrees",
)


@dataclass(frozen=True)
class Pair:
    """Two samples that show the same picture.

    Attributes:
        first: key.
        second: key.
        kind: "exact" (the same decoded pixels) or "near".
        score: correlation of the thumbnails, 1 for the same pixels.
        how: how the second lies on the first, such as "flipped left-right".
    """

    first: str
    second: str
    kind: str
    score: float = 1.0
    how: str = _TURNS[0]


@dataclass(frozen=True)
class Duplicates:
    """What was found.

    Attributes:
        pairs: exact ones first; a group of n equal images gives n - 1 pairs.
        exact: key -> number of its group of equal pixels; keys alone are left out.
        near: key -> number of its group of equal or near pictures; keys alone are left out.
    """

    pairs: tuple[Pair, ...] = ()
    exact: Mapping[str, int] = field(default_factory=dict)
    near: Mapping[str, int] = field(default_factory=dict)

    def count(self, kind: str) -> int:
        """Get how many pairs are "exact" or "near"."""
        return sum(pair.kind == kind for pair in self.pairs)


def find(records: Sequence[Mapping[str, Any]], *, near: bool = True) -> Duplicates:
    """Find exact and near duplicates among the records of `facts.image_facts`.

    Args:
        records: one an image; those with an `error` are passed over.
        near: False looks for exact ones only.

    Source:
        thresholds from five sets of 624 to 1,329 images with planted copies; tests/samples/test_samples_duplicates.py
        holds the figures.
    """
    good = [record for record in records if not record.get("error")]
    keys = [str(record["key"]) for record in good]
    same: dict[str, list[int]] = defaultdict(list)
    for index, record in enumerate(good):
        same[str(record["content"])].append(index)
    pairs = [
        Pair(keys[members[0]], keys[other], "exact")
        for members in same.values()
        if len(members) > 1
        for other in members[1:]
    ]
    exact = groups_of(keys, [(pair.first, pair.second) for pair in pairs])
    if near:
        # one of each exact group is enough: equal pixels have equal thumbnails
        heads = [members[0] for members in same.values()]
        thumbnails = np.stack([np.asarray(good[index]["thumbnail"]) for index in heads]) if heads else _no_thumbnails()
        pairs += [
            Pair(keys[heads[i]], keys[heads[j]], "near", round(score, 4), _TURNS[turn])
            for i, j, score, turn in near_pairs(thumbnails)
        ]
    return Duplicates(tuple(pairs), exact, groups_of(keys, [(pair.first, pair.second) for pair in pairs]))


def _no_thumbnails() -> np.ndarray:
    return np.zeros((0, _SIDE, _SIDE), np.uint8)


def groups_of(keys: Sequence[str], pairs: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Get the number of the group of every key that is linked to another, groups numbered in the order of keys.

    Example:
        >>> groups_of(["a", "b", "c", "d"], [("c", "a")])
        {'a': 0, 'c': 0}
    """
    roots = unite(keys, pairs)
    sizes: dict[str, int] = defaultdict(int)
    for root in roots.values():
        sizes[root] += 1
    numbers: dict[str, int] = {}
    return {key: numbers.setdefault(roots[key], len(numbers)) for key in keys if sizes[roots[key]] > 1}


def unite(keys: Sequence[str], pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Get one representative a connected set of keys (union-find); a key alone represents itself."""
    parent = {key: key for key in keys}

    def root(key: str) -> str:
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for one, other in pairs:
        a, b = root(one), root(other)
        if a != b:
            parent[b] = a
    return {key: root(key) for key in keys}


def near_pairs(thumbnails: np.ndarray) -> list[tuple[int, int, float, int]]:
    """Get (i, j, score, turn) of all near duplicates with i < j, sorted.

    Args:
        thumbnails: uint8 `(N, 64, 64)`.

    Returns:
        score: correlation of the whole, 0.9 to 1; turn: 0 to 3 quarter turns, 4 to 7 after a left-right flip,
        which lay the second on the first.
    """
    count = len(thumbnails)
    if count < 2:
        return []
    waves, shared = _descriptors(thumbnails)
    found = []
    for i, j, turn in _candidates(waves):
        # made anew for the few candidates: kept for all, they would take 32 KB an image
        places, where = np.unique(np.concatenate([i, j]), return_inverse=True)
        local, detail = _features(thumbnails[places])
        one, other = where[: len(i)], where[len(i) :]
        score = _whole(local, shared, one, other, turn)
        keep = score >= NEAR
        i, j, one, other, turn, score = i[keep], j[keep], one[keep], other[keep], turn[keep], score[keep]
        middle, contrast = _middle(detail, one, other, turn)
        keep = np.where(contrast >= FLAT, middle >= NEAR_MIDDLE, score >= NEAR_FLAT)
        found += [
            (int(a), int(b), float(s), int(t))
            for a, b, s, t in zip(i[keep], j[keep], score[keep], turn[keep], strict=True)
        ]
    return sorted(found)


def _features(thumbnails: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Local contrast and plain detail, float32 `(N, 64, 64)`: brightness and slow shading are gone from both."""
    fine, middle, wide = _blur(0.7), _blur(1.0), _blur(4.0)
    gray = thumbnails.astype(np.float32)
    around = wide @ gray @ wide.T
    spread = np.sqrt(np.maximum(wide @ np.square(gray - around) @ wide.T, 0))
    local = (fine @ gray @ fine.T - around) / (spread + 4.0)  # 4 gray levels: noise stays small
    return local, middle @ gray @ middle.T - around


@cache
def _blur(sigma: float) -> np.ndarray:
    """The matrix that blurs along an axis of 64 by a Gaussian, mirrored at the ends."""
    reach = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    matrix = np.zeros((_SIDE, _SIDE))
    for row in range(_SIDE):
        for step, weight in zip(range(row - reach, row + reach + 1), weights / weights.sum(), strict=True):
            place = step % (2 * _SIDE)
            matrix[row, min(place, 2 * _SIDE - 1 - place)] += weight
    return matrix.astype(np.float32)


def _cosines() -> np.ndarray:
    """The first rows of the orthonormal DCT-II of length 64, `(12, 64)`."""
    waves = np.cos(np.pi * np.outer(np.arange(_BAND), 2 * np.arange(_SIDE) + 1) / (2 * _SIDE)) * np.sqrt(2 / _SIDE)
    waves[0] /= np.sqrt(2)
    return waves.astype(np.float32)


def _descriptors(thumbnails: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The low frequencies `(N, 12, 12)` without what all images share, and that shared part `(64, 64)`.

    The shared part is the mean over images and all eight orientations: rims, borders, burnt-in frames.
    """
    cosines = _cosines()
    waves = np.empty((len(thumbnails), _BAND, _BAND), np.float32)
    total = np.zeros((_SIDE, _SIDE))
    for start in range(0, len(thumbnails), _CHUNK):
        local, _ = _features(thumbnails[start : start + _CHUNK])
        waves[start : start + _CHUNK] = cosines @ local @ cosines.T
        total += local.sum(axis=0, dtype=np.float64)
    shared = np.mean([turned(total / len(thumbnails), turn) for turn in range(8)], axis=0).astype(np.float32)
    return waves - cosines @ shared @ cosines.T, shared


def turned(pictures: np.ndarray, turn: int) -> np.ndarray:
    """Get `(..., H, W)` flipped left-right when `turn` is 4 or more, then turned by `turn % 4` quarters."""
    flipped = pictures[..., ::-1] if turn >= 4 else pictures
    return np.rot90(flipped, turn % 4, axes=(-2, -1))


def _candidates(waves: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Chunks of (i, j, turn) whose descriptors correlate, the best turn of each pair."""
    count = len(waves)
    base = _unit(waves.reshape(count, -1))
    others = [_unit(_turned_waves(waves, turn).reshape(count, -1)) for turn in range(8)]
    for start in range(0, count, _CHUNK):
        rows = base[start : start + _CHUNK]
        best = np.full((len(rows), count - start), _CANDIDATE, np.float32)
        which = np.full(best.shape, -1, np.int8)
        for turn, other in enumerate(others):
            likeness = rows @ other[start:].T
            better = likeness > best
            best[better] = likeness[better]
            which[better] = turn
        i, j = np.nonzero(which >= 0)
        later = j > i
        i, j = i[later], j[later]
        for part in range(0, len(i), _CHUNK):
            cut = slice(part, part + _CHUNK)
            yield i[cut] + start, j[cut] + start, which[i[cut], j[cut]]


def _turned_waves(waves: np.ndarray, turn: int) -> np.ndarray:
    """The cosine waves of the turned picture: a flip changes the sign of odd ones, a quarter turn swaps the axes."""
    signs = np.where(np.arange(waves.shape[-1]) % 2, -1.0, 1.0).astype(np.float32)
    out = waves * signs[None, None, :] if turn >= 4 else waves
    for _ in range(turn % 4):  # rot90 = swap the axes, then flip top-bottom
        out = out.transpose(0, 2, 1) * signs[None, :, None]
    return out


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)


def _correlate(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Correlation of rows, and the larger of their two spreads."""
    area = one.shape[1] * one.shape[2]
    a, b = one.reshape(len(one), area), other.reshape(len(other), area)
    a = a - a.mean(axis=1, keepdims=True)
    b = b - b.mean(axis=1, keepdims=True)
    spread_a, spread_b = a.std(axis=1), b.std(axis=1)
    return (a * b).mean(axis=1) / np.maximum(spread_a * spread_b, 1e-6), np.maximum(spread_a, spread_b)


def _lay(pictures: np.ndarray, j: np.ndarray, turn: np.ndarray) -> np.ndarray:
    out = np.empty((len(j), *pictures.shape[1:]), np.float32)
    for which in np.unique(turn):
        mine = turn == which
        out[mine] = turned(pictures[j[mine]], int(which))
    return out


def _whole(local: np.ndarray, shared: np.ndarray, i: np.ndarray, j: np.ndarray, turn: np.ndarray) -> np.ndarray:
    return _correlate(local[i] - shared, _lay(local, j, turn) - shared)[0]


def _middle(detail: np.ndarray, i: np.ndarray, j: np.ndarray, turn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    inner = slice(_SIDE // 4, -_SIDE // 4)
    return _correlate(detail[i][:, inner, inner], _lay(detail, j, turn)[:, inner, inner])
