"""A scan on the grid of a net: turned upright, cut to where findings can be, resampled, windowed; and the way back.

Every step is undone exactly: a box of the net is a box of the file's voxels, whichever of the 48 orders its axes have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from medgraft.errors import BadImage
from medgraft.samples.lungs import lung_mask
from medgraft.samples.resampling import Regrid, regrid, stretched, stretched_part, windowed
from medgraft.samples.scan import Scan, Space, Turn, read_scan
from medgraft.values import ImageRef

_AROUND_LUNGS_MM = 8.0
_LOW, _HIGH = 0.5, 99.5  # of a hundred voxels: what is black and white where there are no Hounsfield units
_MOST_VOXELS = 400_000_000
LUNGS = "lungs"
Three = tuple[int, int, int]


@dataclass(frozen=True)
class FrameForm:
    """How scans become the voxels of a net.

    Attributes:
        spacing_mm: (z, y, x) that a voxel of the net has, nearly.
        region: "lungs" for the box around the lungs, or "all".
        windows_hu: (centre, width) of each channel; none for scans without Hounsfield units, whose darkest and
            brightest voxels are black and white.
    """

    spacing_mm: tuple[float, float, float]
    region: Literal["lungs", "all"] = "all"
    windows_hu: tuple[tuple[float, float], ...] = ()

    @property
    def channels(self) -> int:
        """Get how many channels a voxel has."""
        return max(1, len(self.windows_hu))

    def to_dict(self) -> dict[str, Any]:
        """Get plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FrameForm:
        """Read what `to_dict` wrote."""
        z, y, x = values["spacing_mm"]
        windows = tuple((float(centre), float(width)) for centre, width in values["windows_hu"])
        return cls((float(z), float(y), float(x)), values["region"], windows)


@dataclass(frozen=True)
class Frame:
    """Where the voxels of a net are in a file.

    Attributes:
        space: of the file.
        turn: from the file's axes to upright ones.
        start: (d, h, w) of the first upright voxel that was kept.
        way: from the upright voxels that were kept to those of the net.
    """

    space: Space
    turn: Turn
    start: tuple[int, int, int]
    way: Regrid

    def boxes(self, corners: np.ndarray) -> np.ndarray:
        """Get boxes `(M, 6)` of the file in the net's voxels; nothing is cut off."""
        return self.way.boxes(_turned(corners, self.turn.places, self.space.shape) - self._start())

    def boxes_back(self, corners: np.ndarray) -> np.ndarray:
        """Get boxes `(M, 6)` of the net in the file's voxels, cut off at its edges."""
        upright = self.way.boxes_back(corners) + self._start()
        ends = np.tile(np.array(self.space.shape[::-1], np.float64), 2)
        return np.clip(_turned(upright, self.turn.back, self.space.shape), 0.0, ends)

    def part_back(self, values: np.ndarray, at: Three) -> tuple[np.ndarray, Three]:
        """Get numbers that belong to a part of the net's voxels in the file's, and where they begin; else all is 0.

        Linear between voxels, as scans are brought to the net.

        Args:
            values: `(d, h, w)`, a number a voxel of the net.
            at: (d, h, w) of the first of them.

        Returns:
            float32 along the axes of the file, and (d, h, w) of its first voxel in the file.
        """
        part, first = stretched_part(values, at=at, shape=self.way.to_shape, to_shape=self.way.shape)
        low = np.array(first) + self.start
        corners = np.stack([low, low + part.shape - 1])  # a file's axis may run the other way
        begin = self.turn.back(corners, self.space.shape).min(axis=0).astype(int)
        return self.turn.volume_back(part), (int(begin[0]), int(begin[1]), int(begin[2]))

    def _start(self) -> np.ndarray:
        return np.tile(np.array(self.start[::-1], np.float64), 2)

    def to_dict(self) -> dict[str, Any]:
        """Get plain JSON values."""
        return {
            "space": self.space.to_dict(),
            "order": list(self.turn.order),
            "flipped": list(self.turn.flipped),
            "start": list(self.start),
            "shape": list(self.way.shape),
            "to_shape": list(self.way.to_shape),
            "spacing_mm": list(self.way.spacing_mm),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Frame:
        """Read what `to_dict` wrote."""

        def three(name: str) -> Any:
            first, second, third = values[name]
            return (first, second, third)

        turn = Turn(three("order"), three("flipped"))
        way = Regrid(three("shape"), three("to_shape"), three("spacing_mm"))
        return cls(Space.from_dict(values["space"]), turn, three("start"), way)


@dataclass(frozen=True, eq=False)
class Framed:
    """A scan as a net sees it.

    Attributes:
        voxels: uint8 `(C, D, H, W)`.
        frame: where they are.
    """

    voxels: np.ndarray
    frame: Frame


def framed(ref: ImageRef, form: FrameForm) -> Framed:
    """Read a scan and bring it onto the grid of a net.

    Raises:
        BadImage: it cannot be read, or would have too many voxels.
    """
    scan = read_scan(ref)
    start, stop = region_of(scan) if form.region == LUNGS else ((0, 0, 0), scan.hu.shape)
    kept = scan.hu[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
    count = np.prod(np.array(kept.shape) * scan.spacing_mm / form.spacing_mm)
    if count > _MOST_VOXELS:
        raise BadImage(f"would be {count:.0f} voxels of {form.spacing_mm} mm", where=ref, do="Cut the scan smaller.")
    way = regrid(kept.shape, scan.spacing_mm, to_mm=form.spacing_mm)
    small = stretched(kept, way.to_shape)
    voxels = np.stack([np.rint(255 * one).astype(np.uint8) for one in _channels(small, form)])
    return Framed(voxels, Frame(scan.space, scan.turn, start, way))


def _channels(volume: np.ndarray, form: FrameForm) -> list[np.ndarray]:
    if form.windows_hu:
        return [windowed(volume, window) for window in form.windows_hu]
    low, high = np.percentile(volume, (_LOW, _HIGH))
    return [windowed(volume, (float(low + high) / 2, max(float(high - low), 1e-6)))]


def region_of(scan: Scan) -> tuple[Three, Three]:
    """Get (start, stop) of the box around the lungs in upright voxels; the whole scan where there are none."""
    lungs = lung_mask(scan.hu, scan.spacing_mm)
    depth, height, width = scan.hu.shape
    if not lungs.any():
        return (0, 0, 0), (depth, height, width)
    start, stop = [], []
    for axis, step in enumerate(scan.spacing_mm):
        places = np.flatnonzero(lungs.any(axis=tuple(k for k in range(3) if k != axis)))
        room = int(np.ceil(_AROUND_LUNGS_MM / step))
        start.append(max(0, int(places[0]) - room))
        stop.append(min(lungs.shape[axis], int(places[-1]) + 1 + room))
    return (start[0], start[1], start[2]), (stop[0], stop[1], stop[2])


def _turned(corners: np.ndarray, turn: Any, shape: tuple[int, int, int]) -> np.ndarray:
    """Turn both corners of boxes x0, y0, z0, x1, y1, z1 by a map of places (d, h, w)."""
    corners = np.asarray(corners, np.float64).reshape(-1, 6)
    ends = [turn(corners[:, own][:, ::-1] - 0.5, shape)[:, ::-1] + 0.5 for own in (slice(0, 3), slice(3, 6))]
    return np.concatenate([np.minimum(*ends), np.maximum(*ends)], axis=1)
