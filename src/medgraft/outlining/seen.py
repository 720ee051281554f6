"""A file as a model sees it: a picture, or an upright volume slice by slice, always as colours of 8 bits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from medgraft import files
from medgraft.errors import BadData
from medgraft.files.form import window_range
from medgraft.files.listing import is_there, ref_named
from medgraft.outlining.form import AXES
from medgraft.samples.measures import Grid
from medgraft.samples.picture_grid import levels_of
from medgraft.samples.scan import Turn, upright
from medgraft.values import Image, ImageRef

_UNSAID = ((0.0, 4095.0), (0.0, 65535.0))  # ranges of pictures of 16 bits, which do not say how many are used
_FILLED = 0.5  # of the range: less than that is shown by its own pixels


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
        return self.coloured(self.image.pixels)

    def coloured(self, pixels: np.ndarray) -> np.ndarray:
        """Get values `(C, h, w)` of the file as it is shown, black to white in 8 bits, `(h, w, 3)`."""
        low, high = self.image.range
        chosen = pixels if len(pixels) == 3 else np.repeat(pixels[:1], 3, axis=0)
        shown = np.clip((chosen - np.float32(low)) / np.float32(max(high - low, 1e-12)), 0, 1)
        return np.ascontiguousarray(np.moveaxis(np.rint(shown * np.float32(255)).astype(np.uint8), 0, -1))

    def levels(self, axis: str) -> int:
        """Count the slices of the upright volume along an axis."""
        return self.shape[self.turn.order[AXES.index(axis)]]

    def slice(self, level: int, axis: str) -> np.ndarray:
        """Get a slice of the upright volume, `(h, w, 3)` uint8."""
        planes = [np.take(self.turn.volume(channel), level, AXES.index(axis)) for channel in self.image.pixels]
        return self.coloured(np.stack(planes))

    def in_file(self, slices: np.ndarray, axis: str) -> np.ndarray:
        """Get what belongs to slices `(N, h, w)` along an axis of the upright volume on the grid of the file."""
        return self.turn.volume_back(np.moveaxis(slices, 0, AXES.index(axis)))

    def along(self, values: np.ndarray, axis: str) -> np.ndarray:
        """Undo `in_file`: `(D, H, W)` of the file as slices `(N, h, w)` along an axis of the upright volume."""
        return np.moveaxis(self.turn.volume(values), AXES.index(axis), 0)


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

    Args:
        ref: where it is.
        window: (centre, width) in the unit of the file; None as the file says, and what fills little of its 16 bits
            from the darkest to the brightest that it holds.

    Raises:
        BadImage: it cannot be read.
    """
    image = files.read_image(ref, window=window)
    measured = image
    if image.unit == "display" and len(image.pixels) == 1:
        # A frame of DICOM is shown as a monitor does, and measured in what the scanner meant.
        measured = files.read_image(ref, values=True)
    return Seen(_ranged(image, window), measured.pixels, measured.unit)


def _ranged(image: Image, window: tuple[float, float] | None) -> Image:
    """An image with black and white by the window, which readers of pictures do not look at, or by its own pixels."""
    if image.unit == "display":  # the reader has applied the window
        return image
    if window is not None:
        return replace(image, range=window_range(window))
    if image.unit == "stored" and "container" in image.facts and image.bits == 16 and image.range in _UNSAID:
        low, high = levels_of(image)
        if high < _FILLED * image.range[1]:
            return replace(image, range=(low, high))
    return image
