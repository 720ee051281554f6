"""Slides: pictures too large for memory, read one rectangle at a time.

TIFF of any kind (SVS, OME, pyramids of QuPath and libvips, NDPI, plain strips) is
read by tifffile; what it cannot read goes to OpenSlide where that is installed;
ordinary pictures are read whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np

from medgraft.errors import BadImage, MissingExtra
from medgraft.files.sniff import show

MAX_BYTES = 1 << 29
"""Default limit of what is decoded in one piece, 512 MiB: a rectangle, a picture that is not tiled, a strip."""

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Formats that only OpenSlide reads, by the ends of their names, and one that looks like something else inside.
_OPENSLIDE = {".mrxs", ".vms", ".vmu", ".svslide", ".bif", ".dcm", ".czi"}
_INSTALL = 'Install OpenSlide: pip install "medgraft[slide]".'
_WHITE = 255


@dataclass(frozen=True)
class Level:
    """One size of a slide.

    Attributes:
        width: in pixels.
        height: in pixels.
        downsample: pixels of the whole slide that lie in one of this level, along a side.
    """

    width: int
    height: int
    downsample: float


class Source(Protocol):
    """What a reader of one kind of file offers a `Slide`."""

    sizes: list[tuple[int, int]]
    um_per_px: float | None
    maker: str

    def rectangle(self, level: int, box: tuple[int, int, int, int]) -> np.ndarray:
        """Get uint8 `(H, W, 3)` of x0, y0, x1, y1 in pixels of the level, all of it inside."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


class Slide:
    """An open slide. Threads may share one; every process opens its own.

    Attributes:
        path: the file.
        size: (width, height) in pixels at level 0.
        levels: the largest first.
        um_per_px: micrometres a pixel at level 0, or None where the file does not say, or says what cannot be.
        maker: what kind of file it is: "svs", "ome", "tiff", "picture", or OpenSlide's word.
    """

    def __init__(self, path: Path, source: Source, *, max_bytes: int = MAX_BYTES) -> None:
        self.path, self._source, self._limit = path, source, max_bytes
        self.size = source.sizes[0]
        self.levels = tuple(Level(w, h, (self.size[0] / w + self.size[1] / h) / 2) for w, h in source.sizes)
        self.um_per_px, self.maker = source.um_per_px, source.maker

    def read(self, x: int, y: int, *, width: int, height: int, level: int = 0) -> np.ndarray:
        """Get a rectangle, uint8 `(height, width, 3)`; only the tiles that it touches are decoded.

        Args:
            x: its first column, in pixels of the level; what lies outside the slide is white.
            y: its first row.
            width: in pixels of the level.
            height: in pixels of the level.
            level: 0 is the whole slide.

        Raises:
            BadImage: no such level, too large a rectangle, or a damaged tile, which is named.
        """
        if not 0 <= level < len(self.levels):
            raise BadImage(f"level {level} was asked for, but it has {len(self.levels)}", where=show(self.path))
        if width < 1 or height < 1 or width * height * 3 > self._limit:
            raise BadImage(
                f"a rectangle of {width} x {height} pixels cannot be read at once",
                where=show(self.path),
                do="Read it in parts, or at a higher level.",
            )
        wide, high = self._source.sizes[level]
        x0, y0, x1, y1 = max(0, x), max(0, y), min(wide, x + width), min(high, y + height)
        if (x0, y0, x1, y1) == (x, y, x + width, y + height):
            return self._source.rectangle(level, (x0, y0, x1, y1))
        found = np.full((height, width, 3), _WHITE, np.uint8)
        if x0 < x1 and y0 < y1:
            found[y0 - y : y1 - y, x0 - x : x1 - x] = self._source.rectangle(level, (x0, y0, x1, y1))
        return found

    def overview(self, longest: int = 1024) -> np.ndarray:
        """Get the whole slide small, uint8 `(H, W, 3)`; each pixel is the mean of those it stands for.

        The level that is just larger is read in bands, so that memory stays bounded where there is no small level.

        Args:
            longest: pixels of the longer side; a smaller slide is not enlarged.
        """
        fits = [k for k, level in enumerate(self.levels) if max(level.width, level.height) >= longest]
        number = fits[-1] if fits else 0
        level = self.levels[number]
        share = min(1.0, longest / max(level.width, level.height))
        wide, high = max(1, round(level.width * share)), max(1, round(level.height * share))
        columns = np.linspace(0, level.width, wide + 1).round().astype(int)
        rows = np.linspace(0, level.height, high + 1).round().astype(int)
        found = np.empty((high, wide, 3), np.uint8)
        most = max(1, self._limit // 24 // level.width)  # rows of a band: its sums take eight times as much
        start = 0
        while start < high:
            stop = start + 1
            while stop < high and rows[stop + 1] - rows[start] <= most:
                stop += 1
            found[start:stop] = self._band(number, rows[start : stop + 1], columns)
            start = stop
        return found

    def _band(self, level: int, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        top, high = int(rows[0]), int(rows[-1] - rows[0])
        band = self.read(0, top, width=self.levels[level].width, height=high, level=level)
        tall = np.add.reduceat(band, rows[:-1] - top, axis=0, dtype=np.uint32)
        total = np.add.reduceat(tall, columns[:-1], axis=1, dtype=np.uint64)
        count = np.diff(rows)[:, None, None] * np.diff(columns)[None, :, None]
        return ((total + count // 2) // count).astype(np.uint8)

    def close(self) -> None:
        """Let go of the file."""
        self._source.close()

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_slide(path: Path | str, *, max_bytes: int = MAX_BYTES) -> Slide:
    """Open a slide; its pixels stay in the file until they are read.

    Args:
        path: a TIFF of any kind, a file that OpenSlide reads, or an ordinary picture.
        max_bytes: limit of what is decoded in one piece, known from the header before anything is decoded.

    Raises:
        BadImage: no slide, damaged, or it must be decoded whole and is larger than the limit.
        MissingExtra: OpenSlide is needed and not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise BadImage("there is no such file", where=show(path))
    with open(path, "rb") as file:
        head = file.read(4)
    source: Source
    if path.suffix.lower() in _OPENSLIDE:
        source = _by_openslide(path, None)
    elif head in _TIFF:
        source = _by_tifffile(path, max_bytes)
    else:
        from medgraft.files.slide_picture import PictureSource

        source = PictureSource(path, max_bytes=max_bytes)
    return Slide(path, source, max_bytes=max_bytes)


def _by_tifffile(path: Path, max_bytes: int) -> Source:
    from medgraft.files.slide_tiff import TiffSource

    try:
        return TiffSource(path, max_bytes=max_bytes)
    except BadImage as error:
        return _by_openslide(path, error)


def _by_openslide(path: Path, reason: BadImage | None) -> Source:
    """Try OpenSlide; where it does not help, the first reason is the one to tell."""
    try:
        from medgraft.files.slide_openslide import OpenSlideSource
    except (ImportError, OSError) as error:
        if reason is not None:
            raise reason from None
        raise MissingExtra(f"{path.suffix} slides are read by OpenSlide", where=show(path), do=_INSTALL) from error
    return OpenSlideSource(path, reason)
