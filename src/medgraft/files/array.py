"""npy and npz. Never unpickled; the header's size is checked before anything is read.

Axes: `(H, W)` gray, `(H, W, 1 or 3)` or `(1 or 3, H, W)` an image, `(D, H, W)`
a volume. With an index the first axis counts images: `array[index]` is then
read by the same rules. One array of an npz is named as if the npz were a
folder: `data.npz/train_images`.
"""

from __future__ import annotations

import functools
import io
import os
import zipfile
from pathlib import Path
from typing import IO, cast

import numpy as np

from medgraft.errors import BadImage
from medgraft.files.form import Format, Header, Wish, check_size, finite, robust_range
from medgraft.files.sniff import show
from medgraft.values import Image, ImageRef

_MOST_RATIO = 2000
_KEEP_BYTES = 256 << 20


def _split(path: Path) -> tuple[Path, str | None]:
    if path.parent.suffix.lower() == ".npz" and path.parent.is_file():
        return path.parent, path.name
    return path, None


def _numpy_header(file: IO[bytes], path: Path) -> tuple[tuple[int, ...], bool, np.dtype]:
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except (ValueError, EOFError, SyntaxError) as error:
        raise BadImage(f"damaged numpy header ({error})", where=show(path)) from error
    if dtype.hasobject:
        raise BadImage(
            "holds Python objects, which are never unpickled",
            where=show(path),
            do="Save plain numbers: np.save(path, array.astype(np.float32)).",
        )
    if dtype.kind not in "buif":
        raise BadImage(f"holds {dtype}, not real numbers", where=show(path))
    if any(n < 0 for n in shape):
        raise BadImage("damaged numpy header (negative size)", where=show(path))
    return shape, fortran, dtype


def _member(archive: zipfile.ZipFile, name: str | None, path: Path) -> zipfile.ZipInfo:
    members = {
        info.filename.removesuffix(".npy"): info for info in archive.infolist() if info.filename.endswith(".npy")
    }
    if not members:
        raise BadImage("an archive that holds no array", where=show(path))
    if name is None and len(members) == 1:
        return next(iter(members.values()))
    if name is None:
        known = ", ".join(sorted(members)[:12])
        raise BadImage(
            f"holds {len(members)} arrays ({known}), not one image",
            where=show(path),
            do="Name one as path.npz/NAME.",
        )
    if name.removesuffix(".npy") not in members:
        raise BadImage(f"holds no array {name!r}; it holds {', '.join(sorted(members)[:12])}", where=show(path))
    return members[name.removesuffix(".npy")]


def _describe(path: Path) -> tuple[tuple[int, ...], np.dtype]:
    """Get shape and number type from the header alone."""
    place, name = _split(path)
    if not _is_zip(place):
        with open(place, "rb") as file:
            shape, _, dtype = _numpy_header(file, path)
            _whole(os.fstat(file.fileno()).st_size - file.tell(), shape, dtype, path)
        return shape, dtype
    with _open_zip(place) as archive:
        info = _member(archive, name, path)
        with archive.open(info) as file:
            shape, _, dtype = _numpy_header(cast(IO[bytes], file), path)
        needed = int(np.prod(shape, dtype=object)) * dtype.itemsize
        if needed > info.file_size or info.file_size > max(info.compress_size, 1) * _MOST_RATIO + 4096:
            raise BadImage("the sizes in the archive contradict each other", where=show(path))
    return shape, dtype


def _is_zip(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise BadImage(f"damaged npz archive ({error})", where=show(path)) from error


def _whole(found: int, shape: tuple[int, ...], dtype: np.dtype, path: Path) -> None:
    needed = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if found < needed:
        raise BadImage(f"truncated: {found} of {needed} bytes are there", where=show(path))


def _load(path: Path, index: int | None, limit: int) -> np.ndarray:
    shape, dtype = _describe(path)
    total = int(np.prod(shape, dtype=object)) * dtype.itemsize
    place, name = _split(path)
    if not _is_zip(place):
        check_size(total if index is None else total // max(shape[0], 1), limit, path)
        return np.load(place, mmap_mode="r", allow_pickle=False)
    check_size(total, limit, path)
    info = place.stat()
    key = (str(place), name, info.st_mtime_ns, info.st_size)
    return _cached_member(*key) if total <= _KEEP_BYTES else _read_member(place, name)


@functools.lru_cache(maxsize=3)
def _cached_member(place: str, name: str | None, _changed: int, _size: int) -> np.ndarray:
    """Keep the last arrays of npz files, so that reading row after row inflates each file once."""
    return _read_member(Path(place), name)


def _read_member(place: Path, name: str | None) -> np.ndarray:
    with _open_zip(place) as archive:
        info = _member(archive, name, place)
        data = archive.read(info)
    return np.load(io.BytesIO(data), allow_pickle=False)


def read(ref: ImageRef, wish: Wish) -> Image:
    """Read one array, or one row of it, as an image or a volume."""
    array = _load(ref.path, ref.index, wish.max_bytes)
    if ref.index is not None:
        if array.ndim < 3 or not 0 <= ref.index < len(array):
            raise BadImage(f"row {ref.index} was asked for, but its shape is {array.shape}", where=show(ref.path))
        array = array[ref.index]
    planes = _axes(np.asarray(array, dtype=array.dtype.newbyteorder("=")), ref)
    planes = planes.astype(np.uint8) if planes.dtype == bool else planes
    values, notes = finite(planes)
    bits = {1: 8, 2: 16}.get(planes.dtype.itemsize, 32)
    low_high = _range(values, bits, array.dtype)
    if array.dtype == bool:
        bits = 1
    return Image(
        pixels=np.ascontiguousarray(values, dtype=np.float32),
        range=low_high,
        source=str(ref),
        bits=bits,
        notes=notes,
        facts={"container": "npz" if _is_zip(_split(ref.path)[0]) else "npy", "dtype": str(array.dtype)},
    )


def _axes(array: np.ndarray, ref: ImageRef) -> np.ndarray:
    """Get `(C, H, W)` or `(C, D, H, W)`; see the rules at the top."""
    shape = array.shape
    if 0 in shape:
        raise BadImage(f"has no pixels: its shape is {shape}", where=show(ref.path))
    if array.ndim == 2:
        return array[None]
    if array.ndim == 3:
        first, last = shape[0] in (1, 3), shape[-1] in (1, 3)
        if first and last and shape[0] != shape[-1]:
            first, last = shape[0] == 3, shape[-1] == 3
        if first and last:
            raise BadImage(
                f"its shape {shape} can be read as channels first or last",
                where=show(ref.path),
                do="Save it as (H, W).",
            )
        if last:
            return np.moveaxis(array, -1, 0)
        return array if first else array[None]
    if array.ndim == 4 and shape[-1] == 1:
        return array[None, ..., 0]
    if array.ndim == 4 and shape[0] == 1:
        return array
    raise BadImage(
        f"its shape {shape} is not one image",
        where=show(ref.path),
        do="Name a row (index), or save (H, W), (H, W, 3), (3, H, W) or (D, H, W).",
    )


def _range(values: np.ndarray, bits: int, dtype: np.dtype) -> tuple[float, float]:
    if dtype.kind == "b":
        return 0.0, 1.0
    if values.dtype == np.uint8:
        return 0.0, 255.0
    if values.dtype == np.uint16:
        return (0.0, 4095.0) if int(values.max()) < 4096 else (0.0, 65535.0)
    if values.dtype.kind == "f" and values.min() >= 0 and values.max() <= 1:
        return 0.0, 1.0
    return robust_range(values)


def header(path: Path) -> Header:
    """Get shape and number type; an array with more than three axes counts rows on its first."""
    shape, dtype = _describe(path)
    one, frames = shape, 1
    if len(shape) == 4 and shape[-1] in (1, 3):
        one, frames = shape[1:], shape[0]
    if len(one) == 2:
        out = (1, *one)
    elif len(one) == 3 and one[-1] in (1, 3):
        out = (one[-1], *one[:2])
    elif len(one) == 3 and one[0] in (1, 3):
        out = one
    else:
        out = (1, *one)
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    return Header("npy", out, frames, 8 * dtype.itemsize, size, {"dtype": str(dtype)})


FORMAT = Format("array", header, read)
