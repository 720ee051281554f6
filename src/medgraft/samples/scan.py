"""A scan of a body as a volume that lies as anatomy books show it, and where its voxels are in the scanner.

Files keep their slices in any of 48 orders. What looks at a scan (where is the
lung, what is an axial plane) wants one: slices from the feet to the head, rows
from front to back, columns from right to left. Places go back to the file's
own voxels exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import Any

import numpy as np

from medgraft.errors import BadImage
from medgraft.samples.resampling import WINDOWS_HU
from medgraft.values import ImageRef

_AIR_HU = -500.0
_LOW, _HIGH = 0.5, 99.5  # of a hundred voxels
_AXES = ((2, 1.0), (1, -1.0), (0, -1.0))  # of RAS, and their sign: to the head, to the back, to the left


@dataclass(frozen=True)
class Space:
    """Where the voxels of a file are.

    Attributes:
        shape: (D, H, W) of the file.
        spacing_mm: (z, y, x) size of a voxel along the file's own axes d, h, w.
        affine: 4 x 4, index `(d, h, w)` -> RAS millimetres, as rows; None where the file does not say.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    affine: tuple[tuple[float, ...], ...] | None

    def ras_mm(self, corners: np.ndarray) -> np.ndarray | None:
        """Get centres of boxes `(M, 6)` in RAS millimetres: `(M, 3)` x to the right, y to the front, z to the head."""
        if self.affine is None:
            return None
        centre = (corners[:, :3] + corners[:, 3:]) / 2 - 0.5  # edges count from the outer side of the first voxel
        index = np.column_stack([centre[:, ::-1], np.ones(len(corners))])
        return (index @ np.array(self.affine).T)[:, :3]

    def diameter_mm(self, corners: np.ndarray) -> np.ndarray:
        """Get of each box `(M, 6)` the side of the cube of its volume, `(M,)`."""
        sides = (corners[:, 3:] - corners[:, :3]) * np.array(self.spacing_mm[::-1])
        return np.cbrt(np.prod(sides, axis=1))

    def around(self, centres: np.ndarray, radius_mm: np.ndarray) -> np.ndarray:
        """Get boxes `(M, 6)` around places (d, h, w), `(M, 3)`; what lies outside of the volume is cut off."""
        middle = centres[:, ::-1] + 0.5
        half = radius_mm[:, None] / np.array(self.spacing_mm[::-1])
        ends = np.tile(np.array(self.shape[::-1], np.float64), 2)
        return np.clip(np.concatenate([middle - half, middle + half], axis=1), 0, ends)

    def to_dict(self) -> dict[str, Any]:
        """Get plain JSON values."""
        affine = None if self.affine is None else [list(row) for row in self.affine]
        return {"shape": list(self.shape), "spacing_mm": list(self.spacing_mm), "affine": affine}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Space:
        """Read what `to_dict` wrote."""
        affine, (depth, height, width), (z, y, x) = values["affine"], values["shape"], values["spacing_mm"]
        rows = None if affine is None else tuple(tuple(float(v) for v in row) for row in affine)
        return cls((int(depth), int(height), int(width)), (float(z), float(y), float(x)), rows)


@dataclass(frozen=True)
class Turn:
    """How a file's axes become upright ones.

    Attributes:
        order: the file's axis that each upright axis is.
        flipped: whether it is gone through backwards.
    """

    order: tuple[int, int, int] = (0, 1, 2)
    flipped: tuple[bool, bool, bool] = (False, False, False)

    def volume(self, values: np.ndarray) -> np.ndarray:
        """Get a volume `(D, H, W)` upright; a view, nothing is copied."""
        return np.flip(values.transpose(self.order), tuple(k for k in range(3) if self.flipped[k]))

    def volume_back(self, values: np.ndarray) -> np.ndarray:
        """Undo `volume`; a view, too."""
        turned = np.flip(values, tuple(k for k in range(3) if self.flipped[k]))
        return turned.transpose(np.argsort(self.order))

    def places(self, places: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        """Get places (d, h, w) of the file, `(M, 3)`, in the upright volume.

        Args:
            places: 0 is the centre of the first voxel.
            shape: (D, H, W) of the file.
        """
        out = np.asarray(places, np.float64)[:, list(self.order)]
        last = np.array(shape)[list(self.order)] - 1.0
        return np.where(self.flipped, last - out, out)

    def back(self, places: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        """Undo `places`."""
        last = np.array(shape)[list(self.order)] - 1.0
        turned = np.where(self.flipped, last - np.asarray(places, np.float64), places)
        out = np.empty_like(turned)
        out[:, list(self.order)] = turned
        return out


def upright(affine: np.ndarray | None) -> Turn:
    """Get the turn that brings a volume nearest to upright; none where its space is not known.

    Args:
        affine: 4 x 4, index `(d, h, w)` -> RAS millimetres.

    Example:
        >>> upright(np.array([[0.0, 0, 2, 0], [0, 1, 0, 0], [3, 0, 0, 0], [0, 0, 0, 1]])).flipped
        (False, True, True)
    """
    if affine is None:
        return Turn()
    ways = np.asarray(affine, np.float64)[:3, :3]
    ways = ways / np.linalg.norm(ways, axis=0)
    towards = np.array([sign * ways[row] for row, sign in _AXES])  # (upright axis, axis of the file)
    order = max(permutations(range(3)), key=lambda one: sum(abs(towards[k, one[k]]) for k in range(3)))
    first, second, third = order
    backwards = [bool(towards[k, order[k]] < 0) for k in range(3)]
    return Turn((first, second, third), (backwards[0], backwards[1], backwards[2]))


@dataclass(frozen=True, eq=False)
class Scan:
    """One scan.

    Attributes:
        hu: float32 `(D, H, W)`, upright.
        spacing_mm: (z, y, x) size of a voxel of `hu`.
        turn: from the file's axes to upright ones.
        space: of the file.
        facts: of its header.
    """

    hu: np.ndarray
    spacing_mm: tuple[float, float, float]
    turn: Turn
    space: Space
    facts: Mapping[str, str]

    @cached_property
    def window(self) -> tuple[float, float]:
        """Get (centre, width) that people see it through: of the lung where there is air in HU, else dark to bright."""
        some = self.hu[::2, ::2, ::2]
        if some.min() < _AIR_HU:
            return WINDOWS_HU["lung"]
        low, high = np.percentile(some, (_LOW, _HIGH)).tolist()
        return (low + high) / 2, max(high - low, 1e-6)


def read_scan(ref: ImageRef) -> Scan:
    """Read a volume in HU: NIfTI, a DICOM series, or whatever else has depth and a size of its voxels.

    Raises:
        BadImage: it cannot be read, is flat or in colour, or does not say how large a voxel is.
    """
    from medgraft import files

    image = files.read_image(ref)
    if image.pixels.ndim != 4 or len(image.pixels) != 1:
        what = "is flat" if image.pixels.ndim != 4 else "has colour"
        raise BadImage(f"{what}, and a scan is a gray volume", where=ref, do="Name a NIfTI file or a DICOM series.")
    if image.spacing_mm is None:
        raise BadImage("does not say how large its voxels are", where=ref, do="Convert it anew from the DICOM series.")
    depth, height, width = image.pixels.shape[1:]
    z, y, x = (float(step) for step in image.spacing_mm)
    affine = None if image.affine is None else tuple(tuple(float(v) for v in row) for row in image.affine)
    space = Space((depth, height, width), (z, y, x), affine)
    turn = upright(image.affine)
    first, second, third = (space.spacing_mm[axis] for axis in turn.order)
    hu = np.ascontiguousarray(turn.volume(image.pixels[0]), np.float32)
    return Scan(hu, (first, second, third), turn, space, image.facts)
