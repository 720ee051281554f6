"""Images with label maps on the grid of a net, flat or deep alike, and label maps back on the grid of the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from medgraft.samples.framing import Frame, FrameForm, framed
from medgraft.samples.picture_grid import PictureForm, PictureFrame, laid_picture
from medgraft.samples.resampling import stretched
from medgraft.values import ImageRef

GridForm = PictureForm | FrameForm


@dataclass(frozen=True)
class SolidFrame:
    """Where the voxels of a net are in a volume's file.

    Attributes:
        frame: the way there and back.
    """

    frame: Frame

    @property
    def shape(self) -> tuple[int, int, int]:
        """Get (D, H, W) of the file."""
        return self.frame.space.shape

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Get (z, y, x) along the file's own axes."""
        return self.frame.space.spacing_mm

    def laid(self, labels: np.ndarray) -> np.ndarray:
        """Get a label map `(D, H, W)` of the file in the net's voxels: each is of the class that covers most of it."""
        upright = self._kept(labels)
        way = self.frame.way
        if way.shape == way.to_shape:
            return np.ascontiguousarray(upright)
        best = np.zeros(way.to_shape, np.float32)
        found = np.zeros(way.to_shape, labels.dtype)
        for name in np.unique(upright):
            share = stretched((upright == name).astype(np.float32), way.to_shape)
            more = share > best
            best[more], found[more] = share[more], name
        return found

    def _kept(self, labels: np.ndarray) -> np.ndarray:
        part = zip(self.frame.start, self.frame.way.shape, strict=True)
        return self.frame.turn.volume(labels)[tuple(slice(start, start + size) for start, size in part)]

    def drawn(self, chances: np.ndarray) -> np.ndarray:
        """Get the label map `(D, H, W)` uint8 of the file from probabilities `(K, d, h, w)`: stretched once, linear.

        Class by class, so that never more than two numbers a voxel of the file are held.
        """
        way = self.frame.way
        if way.shape == way.to_shape:
            upright = chances.argmax(axis=0).astype(np.uint8)
        else:
            best = stretched(chances[0], way.shape)
            upright = np.zeros(way.shape, np.uint8)
            for number in range(1, len(chances)):
                one = stretched(chances[number], way.shape)
                more = one > best
                upright[more] = number
                np.maximum(best, one, out=best)
        return self.placed(upright)

    def placed(self, upright: np.ndarray) -> np.ndarray:
        """Get a label map `(d, h, w)` of the upright voxels that were kept as one of the file, `(D, H, W)`."""
        whole = np.zeros(self.shape, upright.dtype)
        self._kept(whole)[...] = upright  # a view of it: turned and cut, nothing is copied
        return whole

    def to_dict(self) -> dict[str, Any]:
        """Get plain JSON values."""
        return {"kind": "volume", **self.frame.to_dict()}


GridFrame = PictureFrame | SolidFrame


@dataclass(frozen=True, eq=False)
class Laid:
    """An image as a net sees it.

    Attributes:
        pixels: `(C, [D,] H, W)` uint8 or uint16.
        frame: where they are in the file.
    """

    pixels: np.ndarray
    frame: GridFrame


def laid(ref: ImageRef, form: GridForm) -> Laid:
    """Read an image and bring it onto the grid of a net.

    Raises:
        BadImage: it cannot be read, or is flat where the net wants depth, or the other way round.
    """
    if isinstance(form, PictureForm):
        pixels, frame = laid_picture(ref, form)
        return Laid(pixels, frame)
    one = framed(ref, form)
    return Laid(one.voxels, SolidFrame(one.frame))


def form_from(values: Mapping[str, Any]) -> GridForm:
    """Read what `to_dict` of a form wrote."""
    return PictureForm.from_dict(values) if values.get("kind") == "picture" else FrameForm.from_dict(values)


def frame_from(values: Mapping[str, Any]) -> GridFrame:
    """Read what `to_dict` of a frame wrote."""
    return PictureFrame.from_dict(values) if values["kind"] == "picture" else SolidFrame(Frame.from_dict(values))
