"""Pictures at the resolution that a net draws label maps at, and label maps back in the pixels of the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from medgraft.errors import BadImage
from medgraft.values import Image, ImageRef

UNKNOWN = 255
_MOST_PIXELS = 64_000_000
_DARK, _BRIGHT = 1.0, 99.9  # percentiles of its pixels that are black and white of a picture
_LEAST_RANGE = 1 / 64  # of the file's own range: an empty picture stays dark
_LOOKED_AT = 1_000_000  # pixels, evenly spread


@dataclass(frozen=True)
class PictureForm:
    """How pictures become the pixels of a net: one of `scale`, `side` and `um_per_px` says how large they get.

    Attributes:
        channels: 1 or 3.
        scale: network pixels for a pixel of the file.
        side: network pixels of the longer side of every picture.
        um_per_px: micrometres of a network pixel, where files say how large theirs are.
        window: (centre, width) in the file's unit, or None.
        own_levels: black and white are of each picture's own pixels, not of its file's format.
    """

    channels: int
    scale: float | None = 1.0
    side: int | None = None
    um_per_px: float | None = None
    window: tuple[float, float] | None = None
    own_levels: bool = False

    def shape_for(self, shape: tuple[int, int], spacing_mm: tuple[float, ...] | None) -> tuple[int, int]:
        """Get (H, W) in network pixels of a picture of (H, W) pixels.

        Raises:
            BadImage: its pixels have no known size, and one is needed; or it would be too large.
        """
        if self.side is not None:
            ways = (self.side / max(shape),) * 2
        elif self.um_per_px is not None:
            if spacing_mm is None:
                raise BadImage("does not say how large its pixels are, as the images of the training did")
            ways = tuple(1000 * step / self.um_per_px for step in spacing_mm[-2:])
        else:
            ways = (self.scale or 1.0,) * 2
        height, width = (max(1, round(size * way)) for size, way in zip(shape, ways, strict=True))
        if height * width > _MOST_PIXELS:
            raise BadImage(f"would be {height} x {width} pixels", do="Cut it into parts.")
        return height, width

    def to_dict(self) -> dict[str, Any]:
        """Get plain JSON values."""
        return {"kind": "picture", **asdict(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PictureForm:
        """Read what `to_dict` wrote."""
        known = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        if known.get("window") is not None:
            centre, width = known["window"]
            known["window"] = (float(centre), float(width))
        return cls(**known)


@dataclass(frozen=True)
class PictureFrame:
    """Where the pixels of a net are in a file.

    Attributes:
        shape: (H, W) of the file.
        to_shape: (H, W) of the net.
        spacing_mm: (y, x) of a pixel of the file, or None.
    """

    shape: tuple[int, int]
    to_shape: tuple[int, int]
    spacing_mm: tuple[float, float] | None = None

    def laid(self, labels: np.ndarray) -> np.ndarray:
        """Get a label map `(H, W)` uint8 of the file in network pixels: each is of the class that covers most of it."""
        if self.shape == self.to_shape:
            return labels
        names = np.unique(labels)
        shares = np.stack([stretched_plane((labels == name).astype(np.float32), self.to_shape) for name in names])
        return names[shares.argmax(axis=0)].astype(labels.dtype)

    def numbered(self, things: np.ndarray) -> np.ndarray:
        """Get a map of things that are told apart in network pixels: each is of the thing at its centre."""
        if self.shape == self.to_shape:
            return things
        rows, columns = (
            np.minimum(((np.arange(to) + 0.5) * has / to).astype(int), has - 1)
            for has, to in zip(self.shape, self.to_shape, strict=True)
        )
        return things[rows[:, None], columns]

    def back(self, chances: np.ndarray) -> np.ndarray:
        """Get numbers `(K, h, w)` of network pixels in the file's, `(K, H, W)` float32: stretched once, linear."""
        if self.shape == self.to_shape:
            return chances
        return np.stack([stretched_plane(plane, self.shape) for plane in chances])

    def ways_back(self, ways: np.ndarray) -> np.ndarray:
        """Get ways `(2, h, w)` in network pixels in the file's pixels, `(2, H, W)`."""
        steps = np.array([has / to for has, to in zip(self.shape, self.to_shape, strict=True)], np.float32)
        return self.back(ways) * steps[:, None, None]

    def drawn(self, chances: np.ndarray) -> np.ndarray:
        """Get the label map `(H, W)` uint8 of the file from probabilities `(K, h, w)` of background and classes.

        Class by class, so that never more than two numbers a pixel of the file are held.
        """
        if self.shape == self.to_shape:
            return chances.argmax(axis=0).astype(np.uint8)
        best = stretched_plane(chances[0], self.shape)
        found = np.zeros(self.shape, np.uint8)
        for number in range(1, len(chances)):
            one = stretched_plane(chances[number], self.shape)
            found[one > best] = number  # of two that are equal the first stays
            best = np.maximum(best, one)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Get plain JSON values."""
        spacing = None if self.spacing_mm is None else list(self.spacing_mm)
        return {"kind": "picture", "shape": list(self.shape), "to_shape": list(self.to_shape), "spacing_mm": spacing}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PictureFrame:
        """Read what `to_dict` wrote."""
        (height, width), (rows, columns), spacing = values["shape"], values["to_shape"], values["spacing_mm"]
        known = None if spacing is None else (float(spacing[0]), float(spacing[1]))
        return cls((int(height), int(width)), (int(rows), int(columns)), known)


def stretched_plane(plane: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Get a plane `(H, W)` of numbers at another size, float32: linear, and a mean of all where it shrinks."""
    from medgraft.files import way_back

    return way_back(np.asarray(plane, np.float32), size=shape)


def levels_of(image: Image) -> tuple[float, float]:
    """Get which values are black and white of a picture by its own pixels: their 1st and 99.9th percentile.

    All channels share them, so that colours stay what they are.
    """
    values = image.pixels.reshape(len(image.pixels), -1)
    some = values[:, :: max(1, values.shape[1] // _LOOKED_AT)]
    low, high = np.percentile(some, [_DARK, _BRIGHT])
    least = (image.range[1] - image.range[0]) * _LEAST_RANGE
    return float(low), float(max(high, low + least))


def laid_picture(ref: ImageRef, form: PictureForm) -> tuple[np.ndarray, PictureFrame]:
    """Read a picture at the resolution of a net.

    Returns:
        `(C, H, W)` uint8, or uint16 where the file has more than 8 bits, and where they are in the file.

    Raises:
        BadImage: it cannot be read, is a volume, or its pixels have no known size where one is needed.
    """
    from medgraft import files

    image = files.read_image(ref, window=form.window)
    if image.pixels.ndim != 3:
        raise BadImage("is a volume, and the images of the training were flat", where=ref, do="Name one slice of it.")
    shape = (int(image.pixels.shape[1]), int(image.pixels.shape[2]))
    try:
        to_shape = form.shape_for(shape, image.spacing_mm)
    except BadImage as error:
        raise BadImage(error.what, where=ref, do=error.do) from None
    if form.own_levels:
        image = replace(image, range=levels_of(image))
    pixels = files.network_pixels(image, size=to_shape, channels=form.channels, fit="stretch")
    steps = image.spacing_mm
    spacing = None if steps is None else (float(steps[-2]), float(steps[-1]))
    return pixels, PictureFrame(shape, to_shape, spacing)
