"""Volumes on another grid, with the exact way back for places and boxes; and windows of HU.

Both grids share their outer edges: a volume of n voxels becomes one of m voxels
that covers the same millimetres, so an edge e of the one is the edge e * m / n
of the other, and nothing is lost on the way there and back but rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Centre and width in HU, as radiologists set them.
WINDOWS_HU = {
    "lung": (-600.0, 1500.0),
    "soft_tissue": (40.0, 400.0),
    "mediastinum": (50.0, 350.0),
    "bone": (400.0, 1800),
}
_MOST_VOXELS = 2**31


@dataclass(frozen=True)
class Regrid:
    """How the voxels of two grids over the same space answer to each other.

    Attributes:
        shape: (D, H, W) of the grid that one comes from.
        to_shape: (D, H, W) of the grid that one goes to.
        spacing_mm: (z, y, x) size of a voxel of the grid that one goes to.
    """

    shape: tuple[int, int, int]
    to_shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]

    @property
    def ratio(self) -> np.ndarray:
        """Get how many new voxels an old one is, along d, h and w."""
        return np.array(self.to_shape) / np.array(self.shape)

    def points(self, places: np.ndarray) -> np.ndarray:
        """Get `(N, 3)` places (d, h, w), 0 in the centre of the first voxel, in the new grid."""
        return (np.asarray(places, np.float64) + 0.5) * self.ratio - 0.5

    def points_back(self, places: np.ndarray) -> np.ndarray:
        """Undo `points`."""
        return (np.asarray(places, np.float64) + 0.5) / self.ratio - 0.5

    def boxes(self, corners: np.ndarray) -> np.ndarray:
        """Get `(M, 6)` edges x0, y0, z0, x1, y1, z1 in the new grid."""
        return np.asarray(corners, np.float64) * np.tile(self.ratio[::-1], 2)

    def boxes_back(self, corners: np.ndarray) -> np.ndarray:
        """Undo `boxes`."""
        return np.asarray(corners, np.float64) / np.tile(self.ratio[::-1], 2)


def regrid(shape: tuple[int, ...], spacing_mm: tuple[float, ...], *, to_mm: float | tuple[float, ...]) -> Regrid:
    """Get the grid whose voxels come nearest to a size.

    Args:
        shape: (D, H, W).
        spacing_mm: (z, y, x) size of a voxel.
        to_mm: wanted size, of all axes or of each; what comes out differs a little, for a whole number of voxels.

    Raises:
        ValueError: a size that is not above 0, or a grid too large to be.
    """
    spacing = np.array(spacing_mm, np.float64)
    wanted = np.broadcast_to(np.asarray(to_mm, np.float64), 3)
    if len(shape) != 3 or (spacing <= 0).any() or (wanted <= 0).any() or not np.isfinite([*spacing, *wanted]).all():
        raise ValueError(f"a grid needs three sizes above 0, not {tuple(spacing_mm)} mm to {to_mm} mm")
    whole = np.array(shape) * spacing
    counts = np.maximum(1, np.rint(whole / wanted))
    if counts.prod() > _MOST_VOXELS:
        raise ValueError(f"{whole.round().tolist()} mm at {to_mm} mm would be {counts.prod():.0f} voxels")
    steps = whole / counts
    to_shape = (int(counts[0]), int(counts[1]), int(counts[2]))
    first = (int(shape[0]), int(shape[1]), int(shape[2]))
    return Regrid(first, to_shape, (float(steps[0]), float(steps[1]), float(steps[2])))


def resampled(
    volume: np.ndarray, spacing_mm: tuple[float, ...], *, to_mm: float | tuple[float, ...]
) -> tuple[np.ndarray, Regrid]:
    """Get a volume with voxels of about `to_mm`, float32 `(D, H, W)`, and the way there and back.

    Linear between voxels; where the new ones are larger each is a weighted mean of all that it covers, so that nothing
    small is skipped.

    Args:
        volume: `(D, H, W)` in HU or any other unit, which stays.
        spacing_mm: (z, y, x) size of a voxel.
        to_mm: wanted size.

    Raises:
        ValueError: see `regrid`.
    """
    way = regrid(volume.shape, spacing_mm, to_mm=to_mm)
    return stretched(volume, way.to_shape), way


def stretched(volume: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Get a volume as `resampled` does, with as many voxels as asked for along each axis."""
    out = np.asarray(volume, np.float32)
    # The axes that lose most go first: less is left for the others.
    for axis in np.argsort(np.array(shape) / volume.shape, kind="stable"):
        out = _along(out, int(axis), shape[axis])
    return np.ascontiguousarray(out)


def stretched_part(
    values: np.ndarray, *, at: tuple[int, int, int], shape: tuple[int, int, int], to_shape: tuple[int, int, int]
) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Get what `stretched` makes of a volume that is 0 but for a part: the part that comes of it, and where it begins.

    Args:
        values: `(d, h, w)`, the part.
        at: (d, h, w) of its first voxel in the volume.
        shape: (D, H, W) of the volume.
        to_shape: (D, H, W) that the volume is brought to.
    """
    out, first = np.asarray(values, np.float32), []
    for axis in range(3):
        if shape[axis] == to_shape[axis]:
            first.append(at[axis])
            continue
        index, weight = _taps(shape[axis], to_shape[axis])
        own = index - at[axis]
        weight = np.where((own >= 0) & (own < out.shape[axis]), weight, 0)
        rows = np.flatnonzero(weight.any(axis=1))
        shares = np.zeros((len(rows), out.shape[axis]), np.float32)
        places = np.clip(own[rows], 0, out.shape[axis] - 1)
        np.add.at(shares, (np.arange(len(rows))[:, None], places), weight[rows])
        out = np.moveaxis(np.tensordot(shares, out, axes=(1, axis)), 0, axis)
        first.append(int(rows[0]))
    return np.ascontiguousarray(out), (first[0], first[1], first[2])


def _taps(size: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of `size` places each of `count` new ones is a mean of, `(count, taps)`, and their weights."""
    step = size / count
    half = max(1.0, step)
    centre = (np.arange(count) + 0.5) * step - 0.5
    first = np.floor(centre - half).astype(int) + 1
    index = first[:, None] + np.arange(int(np.ceil(2 * half)) + 1)
    weight = np.clip(1 - np.abs(index - centre[:, None]) / half, 0, None)
    weight = (weight / weight.sum(axis=1, keepdims=True)).astype(np.float32)
    return np.clip(index, 0, size - 1), weight


def _along(volume: np.ndarray, axis: int, count: int) -> np.ndarray:
    size = volume.shape[axis]
    if count == size:
        return volume
    index, weight = _taps(size, count)
    shape = [-1 if k == axis else 1 for k in range(3)]
    out = np.zeros([count if k == axis else n for k, n in enumerate(volume.shape)], np.float32)
    for tap in range(index.shape[1]):
        if weight[:, tap].any():
            out += np.take(volume, index[:, tap], axis=axis) * weight[:, tap].reshape(shape)
    return out


def windowed(hu: np.ndarray, window_hu: str | tuple[float, float]) -> np.ndarray:
    """Get HU as 0..1, float32: 0 at and below the lower end of the window, 1 at and above the upper.

    Args:
        hu: any shape.
        window_hu: a name in `WINDOWS_HU`, or (centre, width).

    Raises:
        ValueError: an unknown name, or a width that is not above 0.

    Example:
        >>> windowed(np.array([-1350.0, -600.0, 150.0, 900.0]), "lung").tolist()
        [0.0, 0.5, 1.0, 1.0]
    """
    if isinstance(window_hu, str) and window_hu not in WINDOWS_HU:
        raise ValueError(f"no window is called {window_hu!r}: there are {', '.join(WINDOWS_HU)}")
    centre, width = WINDOWS_HU[window_hu] if isinstance(window_hu, str) else window_hu
    if not width > 0:
        raise ValueError(f"a window has a width above 0, not {width}")
    low = np.float32(centre - width / 2)
    return np.clip((np.asarray(hu, np.float32) - low) / np.float32(width), 0, 1)
