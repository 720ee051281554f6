"""TIFF and BigTIFF by tifffile: tiled, planar, compressed, float, palettes, several pages.

A whole-slide image or a stack has several pages; it is refused with its pages
named unless the caller names one. Values come back as stored; white-is-zero is
inverted, colour maps and CMYK, YCbCr and Lab become RGB.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from medgraft.errors import BadImage
from medgraft.files.form import UNLIKE, Header, Wish, check_size, finite, hush, pick, robust_range
from medgraft.files.raster import Photo, finish, on_black, orient
from medgraft.files.sniff import show
from medgraft.values import ImageRef

_MOST_PAGES = 8
_MOST_COMPARED = 64
_MOST_PIXELS = 1 << 28
_YCBCR, _CIELAB, _ICCLAB, _ITULAB, _CMYK, _PALETTE, _RGB = 6, 8, 9, 10, 5, 3, 2
_MINISWHITE, _MINISBLACK, _MASK = 0, 1, 4
_READ = {_MINISWHITE, _MINISBLACK, _RGB, _PALETTE, _MASK, _CMYK, _YCBCR, _CIELAB, _ICCLAB}
_JPEGS = {6, 7, 33007, 34892}
_WHITE_D65 = np.array([0.95047, 1.0, 1.08883])
_XYZ_TO_RGB = np.array(
    [[3.2404542, -1.5371385, -0.4985314], [-0.969266, 1.8760108, 0.041556], [0.0556434, -0.2040259, 1.0572252]]
)


def decode(ref: ImageRef, wish: Wish, *, indexes: bool = False) -> Photo:
    """Decode one page; `indexes` keeps the numbers of a palette instead of its colours.

    Raises:
        BadImage: truncated, too large, several pages and none named.
    """
    with hush() as said, tifffile.TiffFile(ref.path) as tiff:
        page, count = _page(tiff, ref)
        _check(page, ref.path, wish.max_bytes)
        notes: list[str] = []
        if count > 1 and ref.index is None:
            notes.append(f"its {count - 1} further pages are thumbnails or masks and were left out")
        array = _array(page, ref.path)
        photo = _photo(array, page, notes, path=ref.path, indexes=indexes)
    return Photo(photo.array, photo.range, photo.bits, (*photo.notes, *said[:3]), photo.facts)


def _page(tiff: tifffile.TiffFile, ref: ImageRef) -> tuple[Any, int]:
    try:
        count = len(tiff.pages)
    except Exception as error:
        raise BadImage(f"damaged TIFF file ({error})", where=show(ref.path)) from error
    if count == 0:
        raise BadImage("holds no image: damaged or truncated TIFF file", where=show(ref.path))
    hidden = _hidden_planes(tiff, count)
    if hidden > count:
        raise BadImage(
            f"holds {hidden} planes behind one page (ImageJ stack)", where=show(ref.path), do="Save one plane."
        )
    if ref.index is not None:
        return tiff.pages[pick(ref.index, count, ref.path)], count
    full = [k for k in range(count) if not _is_side(tiff.pages[k])] if count <= 64 else list(range(count))
    if len(full) == 1 and full[0] == 0:
        return tiff.pages[0], count
    if count == 1:
        return tiff.pages[0], 1
    sizes = ", ".join(f"{k}: {_size(tiff.pages[k])}" for k in range(min(count, _MOST_PAGES)))
    kind = "a whole-slide image with" if tiff.is_svs or _is_tall_pyramid(tiff, count) else "holds"
    raise BadImage(
        f"{kind} {count} pages ({sizes}{', ...' if count > _MOST_PAGES else ''}), not one image",
        where=show(ref.path),
        do=f"Name the page to read (FILE#0 to FILE#{count - 1}), or cut it into tiles.",
    )


def _hidden_planes(tiff: tifffile.TiffFile, count: int) -> int:
    """Count the planes that an ImageJ file keeps behind its only page."""
    if not tiff.is_imagej or count != 1:
        return count
    return int((tiff.imagej_metadata or {}).get("images", 1))


def _is_side(page: Any) -> bool:
    """Tell whether a page is a thumbnail or a mask of another."""
    return bool(int(getattr(page, "subfiletype", 0) or 0) & 0x5)


def _is_tall_pyramid(tiff: tifffile.TiffFile, count: int) -> bool:
    first: Any = tiff.pages[0]
    return count > 2 and bool(first.is_tiled) and first.imagelength > 8192


def _size(page: Any) -> str:
    return f"{page.imagelength} x {page.imagewidth}"


def _check(page: Any, path: Path, limit: int) -> None:
    """Check size and completeness before anything is decoded."""
    count = int(np.prod(page.shape, dtype=object))
    if page.imagewidth < 1 or page.imagelength < 1 or count < 1:
        raise BadImage("damaged TIFF file: it has no pixels", where=show(path))
    bits = int(np.max(page.bitspersample))
    check_size(count * max(1, bits // 8), limit, path)
    if page.imagewidth * page.imagelength > _MOST_PIXELS:
        raise BadImage(f"too large: {_size(page)} pixels", where=show(path), do="Cut it into tiles.")
    if len(page.shape) > 3 or getattr(page, "imagedepth", 1) > 1:
        raise BadImage(f"its page has {len(page.shape)} axes ({page.axes}), not one image", where=show(path))
    if page.dtype is None or page.dtype.kind not in "buif":
        kind = page.dtype or f"{bits}-bit"
        raise BadImage(f"its samples are {kind} numbers, which are not read", where=show(path))
    if int(page.photometric) not in _READ:
        raise BadImage(
            f"its colours ({getattr(page.photometric, 'name', page.photometric)}) are not read", where=show(path)
        )
    if len(page.dataoffsets) < int(np.prod(page.chunked)) or len(page.databytecounts) < len(page.dataoffsets):
        raise BadImage("an incomplete TIFF file: it does not say where all its strips or tiles are", where=show(path))
    size = path.stat().st_size
    for offset, length in zip(page.dataoffsets, page.databytecounts, strict=False):
        if length == 0:
            raise BadImage("an incomplete TIFF file: a strip or tile is empty", where=show(path))
        if offset + length > size:
            raise BadImage("truncated TIFF file: a strip or tile lies past its end", where=show(path))


def _array(page: Any, path: Path) -> np.ndarray:
    """Get `(H, W)` or `(H, W, S)` as stored."""
    compression = int(page.compression)
    if int(page.photometric) == _YCBCR and compression not in _JPEGS:
        return _by_pillow(page, path)
    array = page.asarray()
    if array.ndim == 3 and page.axes.startswith("S"):
        array = np.moveaxis(array, 0, -1)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    return array


def _by_pillow(page: Any, path: Path) -> np.ndarray:
    """Uncompressed YCbCr with its subsampling is what Pillow (libtiff) does well."""
    from PIL import Image as Pillow

    with Pillow.open(path, formats=("TIFF",)) as picture:
        picture.seek(page.index)
        return np.asarray(picture.convert("RGB"))


def _photo(array: np.ndarray, page: Any, notes: list[str], *, path: Path, indexes: bool) -> Photo:
    kind = _MINISBLACK if indexes and int(page.photometric) == _PALETTE else int(page.photometric)
    bits = int(np.max(page.bitspersample))
    facts = {"container": "tiff", "compression": getattr(page.compression, "name", str(page.compression))}
    if array.dtype == bool:
        array = array.astype(np.uint8) * np.uint8(255)
        bits = 1
    if kind == _PALETTE and page.colormap is not None:
        array, bits = _mapped(array, page)
    array, bits, more = _extra(array, page, bits, path=path, kind=kind)
    notes += more
    if kind == _CMYK:
        array = _cmyk(array)
        notes.append("CMYK colours were turned into RGB")
    elif kind in (_CIELAB, _ICCLAB):
        array = _lab(array, kind, path)
        notes.append("Lab colours were turned into RGB")
    if kind == _MINISWHITE:
        array = _inverted(array, bits)
        notes.append("inverted, for low values are white in this file")
    tag = page.tags.get("Orientation")
    if tag is not None and isinstance(tag.value, int) and 2 <= int(tag.value) <= 8:
        array = orient(array, int(tag.value))
        notes.append(f"turned upright as its orientation {int(tag.value)} says")
    return _ranged(array, bits, notes, facts)


def _mapped(array: np.ndarray, page: Any) -> tuple[np.ndarray, int]:
    """Turn palette indices into RGB; a colour map of whole bytes gives 8 bits."""
    colours = np.asarray(page.colormap)
    mapped = np.moveaxis(colours[:, array], 0, -1)
    if int(colours.max()) <= 255:
        return mapped.astype(np.uint8), 8
    if (colours % 257 == 0).all() or (colours % 256 == 0).all():
        return (mapped >> 8).astype(np.uint8), 8
    return mapped.astype(np.uint16), 16


def _extra(array: np.ndarray, page: Any, bits: int, *, path: Path, kind: int) -> tuple[np.ndarray, int, list[str]]:
    """Lay alpha on black and drop samples that mean nothing; other channels are refused."""
    if array.ndim == 2:
        return array, bits, []
    colours = {_CMYK: 4, _RGB: 3, _YCBCR: 3, _CIELAB: 3, _ICCLAB: 3, _PALETTE: 3}.get(kind, 1)
    spare = array.shape[-1] - colours
    if spare < 0 or (colours == 1 and spare > 1):
        raise BadImage(f"has {array.shape[-1]} channels, which are not one gray or colour image", where=show(path))
    if spare == 0:
        return array, bits, []
    named = [int(word) for word in (page.extrasamples or ())]
    kept = array[..., :colours] if colours > 1 else array[..., 0]
    if named[:1] == [1]:
        return np.ascontiguousarray(kept), bits, ["its premultiplied alpha was dropped: it lies on black already"]
    if named[:1] == [2] and colours in (1, 3) and array.dtype in (np.uint8, np.uint16):
        return on_black(np.ascontiguousarray(array[..., : colours + 1]), bits)
    return np.ascontiguousarray(kept), bits, [f"{spare} extra channels without a meaning were dropped"]


def _cmyk(array: np.ndarray) -> np.ndarray:
    top = np.iinfo(array.dtype).max
    inks = array[..., :4].astype(np.uint64)
    rgb = (top - inks[..., :3]) * (top - inks[..., 3:]) + top // 2
    return (rgb // top).astype(array.dtype)


def _lab(array: np.ndarray, kind: int, path: Path) -> np.ndarray:
    """Turn 8-bit CIE L*a*b* (D65) into sRGB."""
    if array.dtype not in (np.uint8, np.int8) or array.ndim != 3:
        raise BadImage("its Lab colours do not have 8 bits", where=show(path))
    raw = array.view(np.uint8)
    light = raw[..., 0].astype(np.float64) * (100 / 255)
    if kind == _ICCLAB:
        a, b = (raw[..., k].astype(np.float64) - 128 for k in (1, 2))
    else:
        a, b = (raw[..., k].view(np.int8).astype(np.float64) for k in (1, 2))
    y = (light + 16) / 116
    root = np.stack([y + a / 500, y, y - b / 200], axis=-1)
    xyz = np.where(root > 6 / 29, root**3, 3 * (6 / 29) ** 2 * (root - 4 / 29)) * _WHITE_D65
    linear = np.clip(xyz @ _XYZ_TO_RGB.T, 0, 1)
    rgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(rgb * 255).astype(np.uint8)


def _inverted(array: np.ndarray, bits: int) -> np.ndarray:
    if array.dtype.kind == "u":
        return array.dtype.type((1 << (8 if bits == 1 else bits)) - 1) - array
    if array.dtype.kind == "f":
        return array.max() - array
    return np.invert(array)


def _ranged(array: np.ndarray, bits: int, notes: list[str], facts: dict[str, str]) -> Photo:
    """Choose black and white by number type."""
    if array.dtype == np.uint8 and bits in (1, 8):
        return finish(array, bits, notes, facts)
    if array.dtype == np.uint16 and bits == 16:
        return finish(array, bits, notes, facts)
    if array.dtype in (np.uint8, np.uint16):
        return Photo(array, (0.0, float((1 << bits) - 1)), bits, tuple(notes), facts)
    values, more = finite(array)
    low, high = float(values.min()), float(values.max())
    if array.dtype.kind == "f" and low >= 0 and high <= 1:
        return Photo(values.astype(np.float32), (0.0, 1.0), 32, (*notes, *more), facts)
    span = robust_range(values)
    note = f"shown from {span[0]:g} to {span[1]:g}, its 0.5 and 99.5 percentiles"
    return Photo(values.astype(np.float32), span, max(bits, 16), (*notes, *more, note), facts)


def header(path: Path) -> Header:
    """Get size, pages and bits of a TIFF file from its tags."""
    with hush(), tifffile.TiffFile(path) as tiff:
        count = len(tiff.pages)
        if count == 0:
            raise BadImage("holds no image: damaged or truncated TIFF file", where=show(path))
        page: Any = tiff.pages[0]
        side = count > 1 and count <= 64 and all(_is_side(tiff.pages[k]) for k in range(1, count))
        frames = 1 if side else max(count, _hidden_planes(tiff, count))
        gray = int(page.photometric) in (_MINISWHITE, _MINISBLACK, _MASK)
        bits = int(np.max(page.bitspersample))
        height, width = page.imagelength, page.imagewidth
        tag = page.tags.get("Orientation")
        if tag is not None and isinstance(tag.value, int) and 5 <= int(tag.value) <= 8:
            height, width = width, height
        size = int(np.prod(page.shape, dtype=object)) * max(1, bits // 8) * frames
        unlike = frames > count or len({_size(tiff.pages[k]) for k in range(min(count, _MOST_COMPARED))}) > 1
    facts = {"container": "tiff"} | ({"pages": UNLIKE} if unlike and frames > 1 else {})
    return Header("tiff", (1 if gray else 3, height, width), frames, bits, size, facts)
