"""A slide written as a tiled pyramid: BigTIFF with JPEG tiles, each level half of the one before.

The pixels come in strips from top to bottom and leave as tiles, so that memory
holds a strip whatever the size of the slide. Smaller levels wait in files of
their own beside the slide until it is their turn.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from medgraft.storage import write_atomic

TILE = 256
STRIP = 512
"""Rows of a strip; the last one of a slide may be lower."""

_LEAST = 512  # the smallest level is no wider and no higher


def write_pyramid(
    path: Path,
    strips: Iterable[np.ndarray],
    *,
    size: tuple[int, int],
    um_per_px: float,
    description: str = "",
    quality: int = 85,
) -> None:
    """Write a slide, whole or not at all.

    Levels are pages of the file, the largest first, as OpenSlide, QuPath and `open_slide` read them.

    Args:
        path: the file to write, NAME.tif.
        strips: uint8 `(512, width, 3)` each, from the top down; the last has the rest of the rows.
        size: (width, height) in pixels.
        um_per_px: for the resolution tags.
        description: for the first page; ASCII.
        quality: 1 to 100, of the JPEG tiles.

    Raises:
        ValueError: a strip does not have its shape, or there are too few.
        DiskFull: there is no space; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        job = _Job(strips, size, um_per_px, description, quality, Path(folder))
        write_atomic(path, job.write)


class _Job:
    """One slide while it is written."""

    def __init__(
        self,
        strips: Iterable[np.ndarray],
        size: tuple[int, int],
        um_per_px: float,
        description: str,
        quality: int,
        folder: Path,
    ) -> None:
        self.strips, self.size, self.um_per_px = strips, size, um_per_px
        self.description, self.quality, self.folder = description, quality, folder

    def write(self, file: BinaryIO) -> None:
        """Write all levels."""
        import tifffile

        levels = [self.size]
        while max(levels[-1]) > _LEAST and min(levels[-1]) >= 4:
            levels.append((levels[-1][0] // 2, levels[-1][1] // 2))
        with tifffile.TiffWriter(file, bigtiff=True) as tiff:
            for number, (width, height) in enumerate(levels):
                source = iter(self.strips) if number == 0 else self._stored(number, width, height)
                pitch = self.um_per_px * self.size[0] / width
                more: dict[str, Any] = {"description": self.description} if number == 0 else {"subfiletype": 1}
                tiff.write(
                    self._tiles(source, number, size=(width, height), last=number == len(levels) - 1),
                    shape=(height, width, 3),
                    dtype=np.uint8,
                    tile=(TILE, TILE),
                    photometric="rgb",
                    compression="jpeg",
                    compressionargs={"level": self.quality},
                    resolution=(1e4 / pitch, 1e4 / pitch),
                    resolutionunit="CENTIMETER",
                    software="medgraft",
                    metadata=None,
                    maxworkers=1,
                    **more,
                )
                (self.folder / str(number)).unlink(missing_ok=True)

    def _tiles(
        self, strips: Iterator[np.ndarray], number: int, *, size: tuple[int, int], last: bool
    ) -> Iterator[np.ndarray]:
        """Yield tiles row by row, and keep the strips at half their size for the next level."""
        width, height = size
        done = 0
        with open(self.folder / str(number + 1), "wb") as smaller:
            for strip in strips:
                rows = min(STRIP, height - done)
                if strip.shape != (rows, width, 3) or strip.dtype != np.uint8:
                    raise ValueError(f"a strip has {strip.shape} {strip.dtype}, not {(rows, width, 3)} uint8")
                done += rows
                if not last:
                    smaller.write(_halved(strip).tobytes())
                    smaller.flush()  # who takes the tiles may stop after the last one, and never come back here
                for top in range(0, rows, TILE):
                    for left in range(0, width, TILE):
                        yield _filled(strip[top : top + TILE, left : left + TILE])
        if done != height:
            raise ValueError(f"the strips have {done} rows, not {height}")

    def _stored(self, number: int, width: int, height: int) -> Iterator[np.ndarray]:
        with open(self.folder / str(number), "rb") as file:
            for top in range(0, height, STRIP):
                rows = min(STRIP, height - top)
                yield np.frombuffer(file.read(rows * width * 3), np.uint8).reshape(rows, width, 3)


def _halved(strip: np.ndarray) -> np.ndarray:
    """Get the means of 2 x 2 pixels; an odd row or column at the end is left out."""
    height, width = strip.shape[0] // 2 * 2, strip.shape[1] // 2 * 2
    wide = strip[:height, :width].astype(np.uint16)
    total = wide[::2, ::2] + wide[1::2, ::2] + wide[::2, 1::2] + wide[1::2, 1::2] + np.uint16(2)
    return (total >> 2).astype(np.uint8)


def _filled(tile: np.ndarray) -> np.ndarray:
    """Get a whole tile; beyond the slide its last pixels go on, which costs JPEG the least."""
    down, across = TILE - tile.shape[0], TILE - tile.shape[1]
    return np.pad(tile, ((0, down), (0, across), (0, 0)), "edge")
