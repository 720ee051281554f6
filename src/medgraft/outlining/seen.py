"""A file as a model sees it: a picture, or an upright volume slice by slice, always as colours of 8 bits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from medgraft import files
from medgraft.errors import BadData
from medgraft.files.listing import is_there, ref_named
from medgraft.outlining.form import AXES
from medgraft.samples.measures import Grid
from medgraft.samples.scan import Turn, upright
from medgraft.values import Image, ImageRef


@dataclass(frozen=True, eq=False)
class Seen:
    """An image that was read.

    Attributes:
        image: as it is shown.
        values: `(C, [D,] H, W)` of the same, in `unit`.
        unit: of the values: "HU", "stored" (integers of the file), "value" (what the file says).
    """

    image: Image
    values: np.ndarray
    unit: str

    @property
    def flat(self) -> bool:
        """Whether it is a picture and no volume."""
        return self.image.pixels.ndim == 3

    @property
    def shape(self) -> tuple[int, ...]:
        """`([D,] H, W)` of the file."""
        return self.image.pixels.shape[1:]

    @property
    def grid(self) -> Grid:
        """Where its pixels or voxels are."""
        return Grid(self.image.spacing_mm, self.image.affine)

    @cached_property
    def turn(self) -> Turn:
        """The turn that brings a volume upright."""
        return upright(self.image.affine)

    @property
    def picture(self) -> np.ndarray:
        """The picture, `(H, W, 3)` uint8."""
        return self._coloured(self.image.pixels)

    def levels(self, axis: str) -> int:
        """Count the slices of the upright volume along an axis."""
        return self.shape[self.turn.order[AXES.index(axis)]]

    def slice(self, level: int, axis: str) -> np.ndarray:
        """Get a slice of the upright volume, `(h, w, 3)` uint8."""
        planes = [np.take(self.turn.volume(channel), level, AXES.index(axis)) for channel in self.image.pixels]
        return self._coloured(np.stack(planes))

    def in_file(self, slices: np.ndarray, axis: str) -> np.ndarray:
        """Get what belongs to slices `(N, h, w)` along an axis of the upright volume on the grid of the file."""
        return self.turn.volume_back(np.moveaxis(slices, 0, AXES.index(axis)))

    def along(self, values: np.ndarray, axis: str) -> np.ndarray:
        """Undo `in_file`: `(D, H, W)` of the file as slices `(N, h, w)` along an axis of the upright volume."""
        return np.moveaxis(self.turn.volume(values), AXES.index(axis), 0)

    def _coloured(self, pixels: np.ndarray) -> np.ndarray:
        """Values `(C, h, w)` as colours of 8 bits, black to white as the file is shown."""
        low, high = self.image.range
        chosen = pixels if len(pixels) == 3 else np.repeat(pixels[:1], 3, axis=0)
        shown = np.clip((chosen - np.float32(low)) / np.float32(max(high - low, 1e-12)), 0, 1)
        return np.ascontiguousarray(np.moveaxis(np.rint(shown * np.float32(255)).astype(np.uint8), 0, -1))


def seen(path: str | Path, *, window: tuple[float, float] | None = None) -> Seen:
    """Read a picture, or a volume: a NIfTI file, a folder with one DICOM series, `FILE#2` of several frames.

    Raises:
        BadData: there is no such file.
        BadImage: it cannot be read.
    """
    ref = ref_named(path)
    if not is_there(ref.path):
        raise BadData("there is no such file or folder", where=path)
    return seen_ref(ref, window=window)


def seen_ref(ref: ImageRef, *, window: tuple[float, float] | None = None) -> Seen:
    """Read a picture or a volume by where it is.

    Raises:
        BadImage: it cannot be read.
    """
    image = files.read_image(ref, window=window)
    measured = image
    if image.unit == "display" and len(image.pixels) == 1:
        # A frame of DICOM is shown as a monitor does, and measured in what the scanner meant.
        measured = files.read_image(ref, values=True)
    return Seen(image, measured.pixels, measured.unit)
