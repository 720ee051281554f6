"""What structures of a label map measure: how much, how long, where, how bright."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import cdist

_CHUNK = 512  # points whose distances to all others are held at once
_COLOURS = ("red", "green", "blue")


@dataclass(frozen=True, eq=False)
class Grid:
    """Where pixels or voxels are.

    Attributes:
        spacing_mm: size along each axis of the array, in its order; None where it is not known.
        affine: 4 x 4, array index `(d, h, w)` -> RAS millimetres; None where no space is known.
    """

    spacing_mm: tuple[float, ...] | None = None
    affine: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Surface:
    """The boundary of a structure halfway between what is in it and what is not.

    Attributes:
        points: `(N, axes)` in units of the spacing.
        area: of the surface; None of a flat structure.
        volume: that it encloses; None of a flat structure.
    """

    points: np.ndarray
    area: float | None = None
    volume: float | None = None


def measured(labels: np.ndarray, values: np.ndarray, *, grid: Grid) -> list[dict[str, Any]]:
    """Get a row for each number above 0 of a label map.

    Args:
        labels: `([D,] H, W)` whole numbers.
        values: `(C, [D,] H, W)` of the image, in its own unit.
        grid: of both.

    Returns:
        `structure` (the number), `pixels` or `voxels`; where sizes are known `area_mm2`, or `volume_mm3` and
        `volume_ml`; `perimeter_px` and `perimeter_mm`, or `surface_mm2`; the box `x0` ... (edges); the centroid `x`,
        `y`, `z` (0 is the centre of the first) and `ras_x_mm` ...; `mean`, `sd` of the values (of colours each);
        `equivalent_diameter_*` (of the disc or ball as large) and `feret_*` (the longest distance), in mm or pixels.
    """
    rows = []
    for number, part in enumerate(ndimage.find_objects(labels), start=1):
        if part is None:
            continue
        mask = labels[part] == number
        starts = [cut.start for cut in part]
        row: dict[str, Any] = {"structure": number, **_size(mask, grid)}
        rows.append(row | _place(mask, starts, grid) | _brightness(values[(slice(None), *part)], mask))
    return rows


def columns_of(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Get the columns of rows in the order in which they first appear."""
    return list(dict.fromkeys(name for row in rows for name in row))


def _size(mask: np.ndarray, grid: Grid) -> dict[str, Any]:
    count, flat = int(mask.sum()), mask.ndim == 2
    known = None if grid.spacing_mm is None else tuple(grid.spacing_mm[-mask.ndim :])
    steps = known or (1.0,) * mask.ndim
    unit = "px" if known is None else "mm"
    one = math.prod(steps)
    surface = surface_of(mask, steps)
    found: dict[str, Any] = {"pixels" if flat else "voxels": count}
    if flat:
        found |= {} if known is None else {"area_mm2": count * one}
        found["perimeter_px"] = perimeter(mask)
        found |= {} if known is None else {"perimeter_mm": perimeter(mask, steps)}
        found[f"equivalent_diameter_{unit}"] = 2 * math.sqrt(count * one / math.pi)
    else:
        if known is not None:
            found |= {"volume_mm3": count * one, "volume_ml": count * one / 1000, "surface_mm2": surface.area}
        found[f"equivalent_diameter_{unit}"] = (6 * count * one / math.pi) ** (1 / 3)
    return found | {f"feret_{unit}": longest(surface.points)}


def _place(mask: np.ndarray, starts: Sequence[int], grid: Grid) -> dict[str, Any]:
    names = "xyz"[: mask.ndim]
    low, high = starts[::-1], [start + size for start, size in zip(starts, mask.shape, strict=True)][::-1]
    centre = [float(np.mean(index)) + start for index, start in zip(np.nonzero(mask), starts, strict=True)]
    found: dict[str, Any] = {f"{name}0": value for name, value in zip(names, low, strict=True)}
    found |= {f"{name}1": value for name, value in zip(names, high, strict=True)}
    found |= dict(zip(names, centre[::-1], strict=True))
    if grid.affine is not None:
        index = [0.0] * (3 - len(centre)) + centre
        place = np.asarray(grid.affine, np.float64) @ np.array([*index, 1.0])
        found |= {f"ras_{name}_mm": float(value) for name, value in zip("xyz", place, strict=False)}
    return found


def _brightness(values: np.ndarray, mask: np.ndarray) -> dict[str, Any]:
    inside = values[:, mask].astype(np.float64)
    names = [""] if len(inside) == 1 else [f"_{colour}" for colour in _COLOURS[: len(inside)]]
    found: dict[str, Any] = {}
    for name, channel in zip(names, inside, strict=False):
        found |= {f"mean{name}": float(channel.mean()), f"sd{name}": float(channel.std())}
    return found


def perimeter(mask: np.ndarray, spacing: Sequence[float] = (1.0, 1.0)) -> float:
    """Get how long the boundary of a mask `(H, W)` is, by how often lines in four directions cross it.

    Args:
        mask: what is in.
        spacing: (y, x) of a pixel; they may differ.

    Source: Cauchy and Crofton; Legland et al., "Computation of Minkowski measures on 2D and 3D binary images", Image
    Anal Stereol 2007;26:83.
    """
    whole = np.pad(np.asarray(mask, bool), 1)
    dy, dx = (float(step) for step in spacing)
    slope = math.atan2(dy, dx)
    # How many angles each direction stands for: half of the way to its neighbours on either side.
    across = (slope, math.pi / 4, math.pi / 2 - slope, math.pi / 4)
    pairs = (
        (whole[:, 1:], whole[:, :-1], dx),
        (whole[1:, 1:], whole[:-1, :-1], math.hypot(dx, dy)),
        (whole[1:], whole[:-1], dy),
        (whole[1:, :-1], whole[:-1, 1:], math.hypot(dx, dy)),
    )
    total = 0.0
    for (one, other, step), angle in zip(pairs, across, strict=True):
        total += angle * int(np.count_nonzero(one != other)) * dx * dy / step
    return total / 2


def surface_of(mask: np.ndarray, spacing: Sequence[float]) -> Surface:
    """Get the boundary of a mask by marching squares or cubes at one half.

    Source: IBSI reference manual, 3.1 (arXiv 1612.07003): the mesh of the morphological features.
    """
    from skimage import measure

    whole = np.pad(np.asarray(mask, np.float32), 1)
    if mask.ndim == 2:
        lines = measure.find_contours(whole, 0.5)
        return Surface(np.concatenate(lines) * np.array(spacing))
    points, faces, _, _ = measure.marching_cubes(whole, 0.5, spacing=tuple(spacing), allow_degenerate=False)
    a, b, c = (points[faces[:, k]].astype(np.float64) for k in range(3))
    area = float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)
    volume = abs(float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6))
    return Surface(points.astype(np.float64), area, volume)


def longest(points: np.ndarray) -> float:
    """Get the longest distance between two of the points `(N, axes)`."""
    try:
        corners = points[ConvexHull(points).vertices]
    except (QhullError, ValueError):
        corners = points
    parts = (corners[start : start + _CHUNK] for start in range(0, len(corners), _CHUNK))
    return max((float(cdist(part, corners).max()) for part in parts), default=0.0)
