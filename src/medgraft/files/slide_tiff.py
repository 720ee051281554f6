"""Slides in TIFF files: the pages that are levels of one picture, and their tiles or strips one by one."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from medgraft.errors import BadImage
from medgraft.files.codestream import frame_of
from medgraft.files.form import check_size, hush
from medgraft.files.sniff import show

_CACHE = 96 << 20  # bytes of decoded tiles that are kept
# None, old and new JPEG, LZW, deflate, PackBits, zstd, JPEG 2000 of three makers.
_CODINGS = {1, 5, 6, 7, 8, 32773, 32946, 33003, 33004, 33005, 34712, 50000}
_STREAMS = {6, 7, 33003, 33004, 33005, 34712}  # those that carry a size of their own
_MINISWHITE, _MINISBLACK, _RGB, _YCBCR = 0, 1, 2, 6
_SAMPLES = {_MINISWHITE: (1, 2), _MINISBLACK: (1, 2), _RGB: (3, 4), _YCBCR: (3, 3)}
_MPP = re.compile(r"\bMPP\s*=\s*([0-9.]+)")
_OME = re.compile(r'PhysicalSizeX="([0-9.eE+-]+)"')
_OME_UNIT = re.compile(r'PhysicalSizeXUnit="([^"]+)"')
_UM = {"nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6}
_PLAUSIBLE = (0.02, 30.0)  # um a pixel; 72 dots an inch would be 353
_DEEP = 4096  # 16-bit samples that all lie below have 12 bits, as `read_image` takes them
_LOOKED_AT = 1024  # pixels of the longer side of the level that says so
_CONVERT = "Write it as a tiled pyramid: vips tiffsave IN OUT.tif --tile --pyramid --compression jpeg."


class TiffSource:
    """A TIFF file whose tiles or strips are decoded when they are looked at; the last ones are kept."""

    def __init__(self, path: Path, *, max_bytes: int) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()
        self._held = 0
        self._shift: int | None = None
        with hush():
            try:
                self._tiff = tifffile.TiffFile(path)
            except Exception as error:
                raise BadImage(f"damaged TIFF file ({error})", where=show(path)) from error
            try:
                self._pages = _levels(self._tiff, path)
                self._grids = [_Grid(page, path, max_bytes) for page in self._pages]
                self.um_per_px: float | None = _pitch(self._tiff, self._pages[0])
                makers = (word for word in ("svs", "ndpi", "ome") if getattr(self._tiff, f"is_{word}"))
                self.maker: str = next(makers, "tiff")
            except BadImage:
                self._tiff.close()
                raise
            except Exception as error:  # whatever a damaged file makes a library say
                self._tiff.close()
                raise BadImage(f"damaged TIFF file ({error})", where=show(path)) from error
        self.sizes = [(grid.width, grid.height) for grid in self._grids]

    def rectangle(self, level: int, box: tuple[int, int, int, int]) -> np.ndarray:
        """Get a part out of the tiles that it touches."""
        grid = self._grids[level]
        x0, y0, x1, y1 = box
        found = np.empty((y1 - y0, x1 - x0, 3), np.uint8)
        for row in range(y0 // grid.high, (y1 - 1) // grid.high + 1):
            for column in range(x0 // grid.wide, (x1 - 1) // grid.wide + 1):
                left, top = column * grid.wide, row * grid.high
                tile = self._tile(level, row * grid.across + column)
                a, b = max(x0, left), max(y0, top)
                c, d = min(x1, left + tile.shape[1]), min(y1, top + tile.shape[0])
                found[b - y0 : d - y0, a - x0 : c - x0] = tile[b - top : d - top, a - left : c - left]
        return found

    def _tile(self, level: int, number: int) -> np.ndarray:
        """Get a tile or strip, uint8 `(h, w, 3)`."""
        key = (level, number)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        tile = self._decoded(level, number)
        with self._lock:
            if key not in self._kept and tile.nbytes <= _CACHE:
                self._kept[key] = tile
                self._held += tile.nbytes
                while self._held > _CACHE:
                    self._held -= self._kept.popitem(last=False)[1].nbytes
        return tile

    def _decoded(self, level: int, number: int) -> np.ndarray:
        samples = self._samples(level, number)
        if samples is None:
            high, wide = self._grids[level].size_of(number)
            return np.full((high, wide, 3), 255, np.uint8)
        if samples.dtype != np.uint8:
            samples = np.minimum(samples >> self._deep_shift(), 255).astype(np.uint8)
        return np.repeat(samples, 3, axis=-1) if samples.shape[-1] == 1 else np.ascontiguousarray(samples)

    def _deep_shift(self) -> int:
        """Get by how many bits 16-bit samples are shifted into 8: by 4 where they have 12 bits, else by 8.

        The smallest level that still shows something says so; it is read until one sample is larger.
        """
        if self._shift is None:
            large = [k for k, size in enumerate(self.sizes) if k == 0 or max(size) >= _LOOKED_AT]
            self._shift = 8 if any(self._is_deep(large[-1], k) for k in range(self._grids[large[-1]].tiles)) else 4
        return self._shift

    def _is_deep(self, level: int, number: int) -> bool:
        try:
            samples = self._samples(level, number)
        except BadImage:  # it is told when it is looked at
            return False
        return samples is not None and int(samples.max(initial=0)) >= _DEEP

    def _samples(self, level: int, number: int) -> np.ndarray | None:
        """Get the samples of a tile, `(h, w, 1 or 3)`, high ones bright; None of one that was never written."""
        page, grid = self._pages[level], self._grids[level]
        high, wide = grid.size_of(number)
        if grid.flat is not None:
            top = number * grid.high
            return _upright(np.array(grid.flat[top : top + high]), page)
        planes = []
        for plane in range(grid.planes):
            index = plane * grid.across * grid.down + number
            data = self._bytes(page, index)
            if data is None:  # scanners leave out empty glass
                return None
            planes.append(self._opened(page, grid, data=data, index=index)[:high, :wide])
        whole = planes[0] if len(planes) == 1 else np.concatenate(planes, axis=-1)
        if whole.shape[:2] != (high, wide):
            raise self._damage(page, number, f"it has {whole.shape[1]} x {whole.shape[0]} pixels")
        return _upright(whole, page)

    def _bytes(self, page: Any, index: int) -> bytes | None:
        offset, count = page.dataoffsets[index], page.databytecounts[index]
        if not offset or not count:
            return None
        handle = self._tiff.filehandle
        if offset + count > handle.size:
            raise self._damage(page, index, "it lies past the end of the file")
        with self._lock:
            handle.seek(offset)
            return handle.read(count)

    def _opened(self, page: Any, grid: _Grid, *, data: bytes, index: int) -> np.ndarray:
        if int(page.compression) in _STREAMS:
            frame = frame_of(data)
            # A small file must not unfold into more than its header promised.
            if frame is not None and frame.height * frame.width > 4 * grid.wide * grid.high + 4096:
                raise self._damage(page, index, f"it says that it has {frame.width} x {frame.height} pixels")
        try:
            array = page.decode(data, index, jpegtables=page.jpegtables, jpegheader=page.jpegheader)[0]
        except Exception as error:  # a codec may raise anything of damaged bytes
            raise self._damage(page, index, str(error)) from error
        if array is None:
            raise self._damage(page, index, "it holds nothing")
        return array.reshape(array.shape[-3:])

    def _damage(self, page: Any, number: int, why: str) -> BadImage:
        word = "tile" if page.is_tiled else "strip"
        return BadImage(f"{word} {number} of page {page.index} is damaged: {why}", where=show(self._path))

    def close(self) -> None:
        """Let go of the file."""
        self._tiff.close()
        self._kept.clear()


class _Grid:
    """How the pixels of a page are cut up; `flat` is the page on disk where it is stored plain, in one piece."""

    def __init__(self, page: Any, path: Path, max_bytes: int) -> None:
        self.width, self.height = int(page.imagewidth), int(page.imagelength)
        if self.width < 1 or self.height < 1:
            raise BadImage("damaged TIFF file: it has no pixels", where=show(path))
        tiled = bool(page.is_tiled)
        self.wide = int(page.tilewidth) if tiled else self.width
        self.high = int(page.tilelength) if tiled else min(int(page.rowsperstrip or self.height), self.height)
        if self.wide < 1 or self.high < 1:
            raise BadImage("damaged TIFF file: its tiles have no pixels", where=show(path))
        self.across, self.down = -(-self.width // self.wide), -(-self.height // self.high)
        self.planes = int(page.samplesperpixel) if int(page.planarconfig) == 2 else 1
        self.flat: np.ndarray | None = None
        _check(page, path)
        sample = page.dtype.itemsize
        if not tiled and int(page.compression) == 1 and self.planes == 1 and page.is_memmappable:
            shape = (self.height, self.width, int(page.samplesperpixel))
            dtype = np.dtype(page.parent.byteorder + page.dtype.char)
            self.flat = np.memmap(path, dtype, mode="r", offset=page.dataoffsets[0], shape=shape)
            self.high = max(1, min(self.height, (4 << 20) // (self.width * shape[2] * sample)))
            self.down = -(-self.height // self.high)
            return
        try:
            check_size(self.wide * self.high * int(page.samplesperpixel) * sample, max_bytes, path)
        except BadImage as error:
            word = "tile" if tiled else "strip"
            what = f"each {word} has {self.wide} x {self.high} pixels, too many to decode at once"
            raise BadImage(what, where=show(path), do=_CONVERT) from error
        if len(page.dataoffsets) < self.across * self.down * self.planes or len(page.databytecounts) < len(
            page.dataoffsets
        ):
            raise BadImage("an incomplete TIFF file: it does not say where all its tiles are", where=show(path))

    @property
    def tiles(self) -> int:
        """How many tiles or strips there are."""
        return self.across * self.down

    def size_of(self, number: int) -> tuple[int, int]:
        """Get (h, w) of a tile or strip: less at the right and lower edge."""
        row, column = divmod(number, self.across)
        return min(self.high, self.height - row * self.high), min(self.wide, self.width - column * self.wide)


def _check(page: Any, path: Path) -> None:
    """Refuse pages that are no picture of light."""
    kind, samples = int(page.photometric), int(page.samplesperpixel)
    least, most = _SAMPLES.get(kind, (1, 0))
    if not least <= samples <= most:
        name = getattr(page.photometric, "name", kind)
        raise BadImage(f"its colours ({name}, {samples} channels) are not those of a slide", where=show(path))
    if page.dtype is None or page.dtype not in (np.uint8, np.uint16) or int(np.max(page.bitspersample)) not in (8, 16):
        raise BadImage(f"its samples are {page.dtype or 'odd'} numbers, not 8 or 16 bits", where=show(path))
    if int(page.compression) not in _CODINGS:
        name = getattr(page.compression, "name", page.compression)
        raise BadImage(f"its compression ({name}) is not read", where=show(path), do=_CONVERT)
    if getattr(page, "imagedepth", 1) > 1:
        raise BadImage("its page is a volume, not one picture", where=show(path))


def _upright(array: np.ndarray, page: Any) -> np.ndarray:
    """Get gray `(h, w, 1)` or colours `(h, w, 3)` of samples as they are stored, high ones bright."""
    if int(page.photometric) in (_MINISWHITE, _MINISBLACK):
        gray = array[..., :1]
        return np.iinfo(array.dtype).max - gray if int(page.photometric) == _MINISWHITE else gray
    return array[..., :3]


def _levels(tiff: tifffile.TiffFile, path: Path) -> list[Any]:
    """Get the pages that are one picture in several sizes, the largest first."""
    if not len(tiff.pages):
        raise BadImage("holds no image: damaged or truncated TIFF file", where=show(path))
    series: Any = tiff.series[0]
    spare = [int(n) for n, axis in zip(series.shape, series.axes, strict=True) if axis not in "YXS" and n > 1]
    if spare:
        planes = int(np.prod(spare, dtype=object))
        raise BadImage(
            f"holds {planes} planes (axes {series.axes}), not one picture",
            where=show(path),
            do="Save the plane to look at as its own file.",
        )
    pages = [level.pages[0].aspage() for level in series.levels]
    if len(pages) == 1 and not (tiff.is_svs or tiff.is_ndpi or tiff.is_ome):
        pages = [tiff.pages[0].aspage()]  # type: ignore[union-attr]
        for other in [tiff.pages[k].aspage() for k in range(1, min(len(tiff.pages), 64))]:  # type: ignore[union-attr]
            if other.is_tiled and _smaller(other, pages[-1], whole=pages[0]):
                pages.append(other)
    return pages


def _smaller(page: Any, last: Any, *, whole: Any) -> bool:
    """Say whether a page is the whole picture at a smaller size, as far as its shape can tell."""
    if page.imagewidth >= last.imagewidth or page.imagelength >= last.imagelength or page.imagewidth < 1:
        return False
    if page.samplesperpixel != whole.samplesperpixel or page.dtype != whole.dtype:
        return False
    scale = whole.imagewidth / page.imagewidth
    # Half sizes are rounded at each level, so a row more or less for each is no other shape.
    return abs(whole.imagelength / scale - page.imagelength) <= 2


def _pitch(tiff: tifffile.TiffFile, page: Any) -> float | None:
    """Get micrometres a pixel, as far as the file says what can be."""
    text = page.description or ""
    found = None
    if match := _MPP.search(text):
        found = float(match[1])
    elif match := _OME.search(text) if tiff.is_ome else None:
        unit = _OME_UNIT.search(text)
        found = float(match[1]) * _UM.get(unit[1] if unit else "um", 1.0)
    else:
        unit, tag = page.tags.valueof("ResolutionUnit"), page.tags.valueof("XResolution")
        if tag and tag[0] and tag[1] and int(unit or 0) in (2, 3):
            found = (25400.0 if int(unit) == 2 else 1e4) * tag[1] / tag[0]
    return found if found is not None and _PLAUSIBLE[0] <= found <= _PLAUSIBLE[1] else None
