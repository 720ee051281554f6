"""Candidates for nodules of the lung in CT, by classical filters: many places, nearly every nodule among them.

A net that looks at each candidate then throws out the false ones. Blobs are
found at several scales as maxima of the Laplacian; what is long (vessels) or
flat (fissures) is told by the eigenvalues of the Hessian there. Ground glass is
searched for a second time, after thin bright things were taken away.

Sources: Murphy et al., "A large-scale evaluation of automatic pulmonary nodule
detection in chest CT", Med Image Anal 2009; Jacobs et al., "Automatic detection
of subsolid pulmonary nodules", Med Image Anal 2014; van Ginneken et al.,
"Off-the-shelf convolutional neural network features for pulmonary nodule
detection", ISBI 2015, for the route from candidates to three planes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medgraft.samples.lungs import lung_mask
from medgraft.samples.resampling import resampled

GRID_MM = 1.5
_LUNG_HU = -860.0
_BRIGHT_HU = -370.0  # of vessels and solid nodules, which the search for ground glass leaves out
_WALL_HU = -650.0
_WALL_STEPS = 2  # voxels along the edge of the lung that are wall unless something reaches deeper
_FAR, _FAR_MM = 1.3, 1.0  # a nodule is looked at from all sides at this many radii and so many mm more
_SIDES = 150
_EXITS = 0.96  # share of the sides that may be bright before it counts: a vessel that passes or leaves is narrow
_ROUND = 3**0.5  # radius of a ball is this times the scale at which it answers most


@dataclass(frozen=True)
class Candidate:
    """A place that may be a nodule.

    Attributes:
        centre: (d, h, w) in voxels of the volume, 0 in the centre of the first.
        radius_mm: about its radius.
        score: 0..1, larger for what is rounder and stands out more; orders candidates and is no probability.
        kind: "solid" or "ground_glass", by the filter that found it.
    """

    centre: tuple[float, float, float]
    radius_mm: float
    score: float
    kind: str


@dataclass(frozen=True)
class Search:
    """One pass of the blob filter.

    Attributes:
        kind: what it looks for.
        scales_mm: standard deviations of the Gaussians.
        ends_hu: HU below and above are cut off.
        least_hu: least answer of the Laplacian.
        least_round: least ratio of the smallest curvature to the largest.
        weight: what scores are multiplied by.
    """

    kind: str
    scales_mm: tuple[float, ...]
    ends_hu: tuple[float, float]
    least_hu: float
    least_round: float
    weight: float


SOLID = Search("solid", (1.3, 1.9, 2.7, 3.9, 5.6, 8.0), (-860.0, 60.0), 90.0, 0.2, 1.0)
GROUND_GLASS = Search("ground_glass", (2.0, 2.9, 4.2, 6.0), (-860.0, -450.0), 45.0, 0.2, 0.55)


def candidates_of(hu: np.ndarray, spacing_mm: tuple[float, ...], *, most: int = 60) -> list[Candidate]:
    """Get the places of a chest CT that may be nodules, the highest score first.

    Args:
        hu: `(D, H, W)`, slices along the first axis.
        spacing_mm: (z, y, x) size of a voxel.
        most: how many to keep.

    The search runs on voxels of about 1.5 mm; centres come back in voxels of `hu`.
    """
    lung = lung_mask(hu, spacing_mm)
    if not lung.any():
        return []
    margin = [int(np.ceil(6 / step)) for step in spacing_mm]
    part = tuple(
        slice(max(0, int(k.min()) - room), int(k.max()) + room + 1)
        for k, room in zip(np.nonzero(lung), margin, strict=True)
    )
    small, way = resampled(hu[part], spacing_mm, to_mm=GRID_MM)
    inside = resampled(lung[part], spacing_mm, to_mm=GRID_MM)[0] > 0.5
    small[~_without_wall(small, inside)] = np.float32(_LUNG_HU)
    pale = _without_vessels(small, way.spacing_mm)
    blobs = [
        _blobs(small, small, spacing_mm=way.spacing_mm, search=SOLID),
        _blobs(pale, small, spacing_mm=way.spacing_mm, search=GROUND_GLASS),
    ]
    found = np.concatenate(blobs)
    found = _merged(found, most=most)
    centres = way.points_back(found[:, :3] / way.spacing_mm) + [cut.start for cut in part]
    return [
        Candidate(
            (float(centre[0]), float(centre[1]), float(centre[2])),
            float(row[3]),
            float(row[4]),
            (SOLID.kind, GROUND_GLASS.kind)[int(row[5])],
        )
        for centre, row in zip(centres, found, strict=True)
    ]


def _without_wall(hu: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Get the lung less the bits of chest wall along its edge, which would outshine what sits on it.

    A nodule on the wall reaches deeper than the bits do, and keeps its foot.
    """
    from scipy import ndimage

    deep = np.asarray(ndimage.binary_erosion(inside, iterations=_WALL_STEPS), dtype=bool)
    foot = np.asarray(ndimage.binary_dilation(deep & (hu > _WALL_HU), iterations=_WALL_STEPS), dtype=bool)
    return deep | (inside & (foot | (hu <= _WALL_HU)))


def _without_vessels(hu: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """Get the volume without what is bright or thin: vessels go with their edges, pale round things stay."""
    from scipy import ndimage

    calm = np.asarray(ndimage.gaussian_filter(hu, 1.0 / np.asarray(spacing), truncate=3.0))
    bright = np.asarray(ndimage.binary_dilation(calm > _BRIGHT_HU, iterations=1), dtype=bool)
    calm[bright] = np.float32(_LUNG_HU)
    return ndimage.maximum_filter(ndimage.minimum_filter(calm, 3), 3)


def _blobs(hu: np.ndarray, around: np.ndarray, *, spacing_mm: tuple[float, ...], search: Search) -> np.ndarray:
    """Get `(N, 6)` centre (z, y, x) in mm, radius in mm, score, number of the search.

    Blobs are sought in `hu`; what surrounds them is looked at in `around`.
    """
    from scipy import ndimage

    cut = np.clip(hu, *search.ends_hu).astype(np.float32)
    half = _halved(cut)
    near = ndimage.gaussian_filter(np.clip(around, *search.ends_hu), 1.0 / np.asarray(spacing_mm), truncate=3.0)
    rows = []
    for scale in search.scales_mm:
        step = 2 if scale >= 3.5 else 1  # large blobs are as well seen on a coarse grid
        sizes = np.asarray(spacing_mm) * step
        smooth = ndimage.gaussian_filter(half if step == 2 else cut, scale / sizes, truncate=3.0)
        answer = np.float32(-(scale**2)) * _laplacian(smooth, sizes)
        places = _peaks(answer, search.least_hu)
        roundness = _roundness(smooth, places, sizes)
        places, roundness = places[roundness >= search.least_round], roundness[roundness >= search.least_round]
        # The centre of a coarse voxel lies between two fine ones.
        centre = (_refined(answer, places) + 0.5) * step - 0.5
        alone = _alone(near, centre, spacing_mm, scale * _ROUND, search)
        strength = np.clip(answer[tuple(places.T)] / (0.5 * (search.ends_hu[1] - search.ends_hu[0])), 0, 1)
        score = search.weight * strength**0.6 * np.clip(roundness, 0, 1) ** 1.5 * np.exp(1.5 * (alone - 1))
        size, number = np.full(len(places), scale * _ROUND), np.full(len(places), float(search is GROUND_GLASS))
        rows.append(np.column_stack([centre * spacing_mm, size, score, number]))
    return np.concatenate(rows)


def _alone(
    near: np.ndarray, centre: np.ndarray, spacing: tuple[float, ...], radius: float, search: Search
) -> np.ndarray:
    """Get how dark it is round each place, 0..1: 1 is lung on nearly all sides, 0 as bright as the place itself."""
    from scipy import ndimage

    places = centre[:, None] + _directions(_SIDES) * ((_FAR * radius + _FAR_MM) / np.asarray(spacing))
    shell = ndimage.map_coordinates(near, places.reshape(-1, 3).T, order=1, mode="nearest").reshape(-1, _SIDES)
    here = ndimage.map_coordinates(near, centre.T, order=1, mode="nearest")
    low = search.ends_hu[0]
    bright = np.clip((shell - low) / np.maximum(here - low, 50.0)[:, None], 0, 1)
    return 1 - np.sort(bright, axis=1)[:, int(_EXITS * _SIDES)]


def _directions(count: int) -> np.ndarray:
    """Get directions spread evenly over a sphere (a Fibonacci lattice), `(count, 3)`."""
    height = 1 - (2 * np.arange(count) + 1) / count
    turn = np.pi * (1 + 5**0.5) * np.arange(count)
    ring = np.sqrt(1 - height**2)
    return np.stack([height, ring * np.sin(turn), ring * np.cos(turn)], axis=1)


def _halved(volume: np.ndarray) -> np.ndarray:
    """Get the means of 2 x 2 x 2 voxels; an odd last slice is repeated."""
    wide = np.pad(volume, [(0, n % 2) for n in volume.shape], mode="edge")
    depth, height, width = (n // 2 for n in wide.shape)
    return wide.reshape(depth, 2, height, 2, width, 2).mean(axis=(1, 3, 5), dtype=np.float32)


def _laplacian(smooth: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Get the sum of the second derivatives, 0 along the border."""
    out = np.zeros_like(smooth)
    weights = (1 / np.square(sizes)).astype(np.float32)
    core = smooth[1:-1, 1:-1, 1:-1]
    inner = out[1:-1, 1:-1, 1:-1]
    np.multiply(core, -2 * weights.sum(), out=inner)
    inner += weights[0] * (smooth[2:, 1:-1, 1:-1] + smooth[:-2, 1:-1, 1:-1])
    inner += weights[1] * (smooth[1:-1, 2:, 1:-1] + smooth[1:-1, :-2, 1:-1])
    inner += weights[2] * (smooth[1:-1, 1:-1, 2:] + smooth[1:-1, 1:-1, :-2])
    return out


def _peaks(answer: np.ndarray, least: float) -> np.ndarray:
    """Get the voxels inside the border that are at least `least` and no less than their 26 neighbours, `(N, 3)`."""
    places = np.argwhere(answer >= least)
    places = places[np.all((places > 0) & (places < np.array(answer.shape) - 1), axis=1)]
    for step in np.argwhere(np.ones((3, 3, 3))) - 1:
        places = places[answer[tuple(places.T)] >= answer[tuple((places + step).T)]]
    return places


def _roundness(smooth: np.ndarray, places: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Get the least curvature over the greatest at each place: 1 for a ball, 0 for a tube, below 0 for a saddle."""
    bends = -np.linalg.eigvalsh(_hessian(smooth, places, sizes))
    return bends.min(axis=1) / np.maximum(bends.max(axis=1), 1e-6)


def _hessian(smooth: np.ndarray, places: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Get second derivatives at places inside the border, `(N, 3, 3)` a square mm."""

    def at(*shift: int) -> np.ndarray:
        return smooth[tuple((places + shift).T)].astype(np.float64)

    out = np.empty((len(places), 3, 3))
    unit = np.eye(3, dtype=int)
    for a in range(3):
        out[:, a, a] = (at(*unit[a]) + at(*-unit[a]) - 2 * at(0, 0, 0)) / sizes[a] ** 2
        for b in range(a):
            plus, minus = unit[a] + unit[b], unit[a] - unit[b]
            mixed = (at(*plus) + at(*-plus) - at(*minus) - at(*-minus)) / (4 * sizes[a] * sizes[b])
            out[:, a, b] = out[:, b, a] = mixed
    return out


def _refined(answer: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Move each peak to the top of the parabola through its neighbours, by at most half a voxel."""
    out = places.astype(np.float64)
    for axis, unit in enumerate(np.eye(3, dtype=int)):
        low, here, high = (answer[tuple((places + k * unit).T)].astype(np.float64) for k in (-1, 0, 1))
        bend = low + high - 2 * here
        out[:, axis] += np.clip(np.where(bend < 0, 0.5 * (low - high) / np.where(bend < 0, bend, 1), 0), -0.5, 0.5)
    return out


def _merged(rows: np.ndarray, *, most: int) -> np.ndarray:
    """Let the best of each cluster stand for it, the best first."""
    rows = rows[np.argsort(-rows[:, 4], kind="stable")]
    kept = np.empty((0, 6))
    for row in rows:
        if len(kept) == most:
            break
        away = np.sqrt(np.square(kept[:, :3] - row[:3]).sum(axis=1))
        if (away > np.maximum(3.0, 0.8 * kept[:, 3])).all():
            kept = np.concatenate([kept, row[None]])
    return kept


def patches_of(
    volume: np.ndarray, candidate: Candidate, *, spacing_mm: tuple[float, ...], side_mm: float = 50.0, pixels: int = 64
) -> np.ndarray:
    """Get three planes through a candidate, float32 `(3, pixels, pixels)` in the unit of the volume.

    The first is of rows h and columns w (axial in a scan of axial slices), the second of rows d and columns w
    (coronal), the third of rows d and columns h (sagittal). What lies outside the volume is air, -1000.

    Args:
        volume: `(D, H, W)` in HU.
        candidate: whose centre is the middle of each plane.
        spacing_mm: (z, y, x) size of a voxel.
        side_mm: width and height of a plane.
        pixels: width and height of a plane.
    """
    from scipy import ndimage

    line = ((np.arange(pixels) + 0.5) / pixels - 0.5) * side_mm
    planes: Sequence[tuple[int, int]] = ((1, 2), (0, 2), (0, 1))
    out = np.empty((3, pixels, pixels), np.float32)
    for number, (down, right) in enumerate(planes):
        places = np.empty((3, pixels, pixels))
        for axis in range(3):
            offset = line[:, None] if axis == down else line[None, :] if axis == right else 0.0
            places[axis] = candidate.centre[axis] + offset / spacing_mm[axis]
        ndimage.map_coordinates(volume, places, output=out[number], order=1, mode="constant", cval=-1000.0)
    return out
