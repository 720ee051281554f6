"""What the voxels of a drawn volume mean: their size, which way the axes run, and the unit of their values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medgraft.errors import MedgraftError
from medgraft.files import grid_of, read_many
from medgraft.values import ImageRef

RELATIVE = (0.0, 1000.0)  # black and white where no window is known
_SIDES = {"R": (0, 1.0), "L": (0, -1.0), "A": (1, 1.0), "P": (1, -1.0), "S": (2, 1.0), "I": (2, -1.0)}
_LOOKED_AT = 24  # training volumes whose axes are looked up


@dataclass(frozen=True)
class Meaning:
    """What is known of drawn volumes.

    Their axes are those of the files that were learnt from: volumes are learnt as they lie in their files, slices,
    rows and columns in that order, and nothing is turned. Where the training volumes all lie alike, `ways` says how,
    and a drawn volume says it too; where they do not, no side is known, and none is claimed.

    Attributes:
        spacing_mm: of a drawn voxel along d, h, w; None where too few files say theirs.
        ways: towards which side of the body d, h and w run, such as "SPL"; "" where files lie in different ways.
        window: (black, white) in the files' unit; None where each file was shown by a range of its own.
        unit: "HU", or "" where the files do not say.
    """

    spacing_mm: tuple[float, ...] | None = None
    ways: str = ""
    window: tuple[float, float] | None = None
    unit: str = ""

    @property
    def words(self) -> str:
        """Say what the numbers of a written volume are."""
        if self.window is None:
            return f"{RELATIVE[0]:g} black to {RELATIVE[1]:g} white"
        return self.unit or "unit of the files"

    def values(self, image: np.ndarray) -> np.ndarray:
        """Get voxels `(D, H, W)` of -1..1 in their unit: int16 where whole numbers are fine enough, else float32."""
        low, high = self.window or RELATIVE
        found = low + (np.clip(image, -1, 1) + 1) / 2 * (high - low)
        fits = high - low >= 200 and low >= -(2**15) and high < 2**15
        return np.rint(found).astype(np.int16) if fits else found.astype(np.float32)

    def affine(self, shape: Sequence[int]) -> np.ndarray | None:
        """Get the way from an index `(d, h, w)` to RAS millimetres, 4 x 4, the middle of the volume at zero.

        None where spacing or ways are not known. Where a drawn body lies in a scanner nobody can say.
        """
        if self.spacing_mm is None or not self.ways:
            return None
        found = np.eye(4)
        found[:3, :3] = 0
        for place, (letter, step) in enumerate(zip(self.ways, self.spacing_mm, strict=True)):
            axis, sign = _SIDES[letter]
            found[axis, place] = sign * step
        found[:3, 3] = -found[:3, :3] @ ((np.array(shape) - 1) / 2)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Get plain JSON values."""
        window = None if self.window is None else list(self.window)
        spacing = None if self.spacing_mm is None else list(self.spacing_mm)
        return {"spacing_mm": spacing, "ways": self.ways, "window": window, "unit": self.unit}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Meaning:
        """Read what `to_dict` wrote."""
        spacing, window = values.get("spacing_mm"), values.get("window")
        return cls(
            None if spacing is None else tuple(float(one) for one in spacing),
            str(values.get("ways", "")),
            None if window is None else (float(window[0]), float(window[1])),
            str(values.get("unit", "")),
        )


def spacing_drawn(records: Sequence[Mapping[str, Any]], shape: Sequence[int]) -> tuple[float, ...] | None:
    """Get the size of a drawn voxel along d, h, w: the median of what each volume's voxels become by its resizing.

    Args:
        records: facts of the training volumes.
        shape: (D, H, W) that is drawn.

    Returns:
        Millimetres, or None where fewer than half of the volumes say theirs.
    """
    solid = [one for one in records if len(one["shape"]) == 4]
    known = [one for one in solid if one.get("spacing_mm") and len(one["spacing_mm"]) == 3]
    if not known or 2 * len(known) < len(solid):
        return None
    sizes = np.array([np.array(one["spacing_mm"]) * one["shape"][1:] / np.array(shape) for one in known])
    return tuple(float(one) for one in np.round(np.median(sizes, axis=0), 6))


def ways_of(affine: np.ndarray | None) -> str:
    """Get towards which side of the body the axes `(d, h, w)` run, by the largest part of each: "SPL" and the like.

    "" where there is no affine, or two axes run along one.
    """
    steps = np.zeros((3, 3)) if affine is None else np.asarray(affine)[:3, :3]
    if abs(np.linalg.det(steps)) < 1e-12:
        return ""
    axes = np.abs(steps / np.linalg.norm(steps, axis=0)).argmax(axis=0)
    if len(set(axes.tolist())) != 3:
        return ""
    names = {key: letter for letter, key in _SIDES.items()}
    return "".join(names[int(axis), float(np.sign(steps[axis, place]))] for place, axis in enumerate(axes))


def shared_ways(refs: Sequence[ImageRef]) -> tuple[str, str]:
    """Get how volumes lie where all of some lie alike, else "", and what a person should know then.

    Args:
        refs: of the training; some of them, evenly spread, are looked up.
    """
    places = np.unique(np.linspace(0, len(refs) - 1, min(_LOOKED_AT, len(refs))).astype(int))
    found = Counter(
        "" if isinstance(one, MedgraftError) else one
        for _, one in read_many([refs[place] for place in places], _ways, workers=1)
    )
    if len(found) == 1:
        (only,) = found
        return only, "" if only else "no volume says how it lies: what is drawn says no side"
    told = ", ".join(f"{count} {way or 'unknown'}" for way, count in found.most_common())
    return "", f"volumes lie in different ways ({told}): what is drawn says no side. Turn them alike first"


def _ways(ref: ImageRef) -> str:
    return ways_of(grid_of(ref)[1])
