"""NIfTI-1, NIfTI-2 and Analyze pairs, gzipped or not.

The header is read by nibabel, the voxels here, so that sizes are checked
before anything is inflated. Array axes `(i, j, k)` become `(k, j, i)` =
`(D, H, W)`, and the affine follows. Space: the sform when its code is set,
else the qform; both set and pointing different ways is refused.
"""

from __future__ import annotations

import gzip
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.orientations import aff2axcodes

from medgraft.errors import BadImage
from medgraft.files.form import Format, Header, Wish, check_size, finite, pick, robust_range
from medgraft.files.sniff import is_nifti, show
from medgraft.values import Image, ImageRef

_MOST_INFLATION = 1032  # the best that deflate can do
_WAYS_DIFFER = 0.2  # difference of direction cosines that no rounding makes
_MILLIMETRES = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}


@dataclass(frozen=True)
class _Found:
    """A parsed header and where the voxels are."""

    header: Any
    voxels: Path
    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]
    notes: tuple[str, ...]


def read(ref: ImageRef, wish: Wish) -> Image:
    """Read one volume as float32 `(C, D, H, W)`, or `(C, H, W)` when it has one slice."""
    found = _find(ref.path)
    shape, volumes = _axes(found.shape)
    index = pick(ref.index, volumes, ref.path, word="volume")
    one = int(np.prod(shape, dtype=object)) * found.dtype.itemsize
    check_size(one, wish.max_bytes, ref.path)
    if found.offset + index * one > wish.max_bytes:
        check_size(found.offset + (index + 1) * one, wish.max_bytes, ref.path)
    stored = np.frombuffer(_bytes(found, index * one, one, ref.path), dtype=found.dtype).reshape(shape, order="F")
    planes, colour_notes = _planes(stored, found.dtype)
    values, scale_notes = _scale(planes, found.header)
    values, bad_notes = finite(values)
    affine, spacing, space_notes = _space(found.header, show(ref.path))
    if planes.shape[1] == 1:
        values, spacing = values[:, 0], None if spacing is None else spacing[1:]
    colour = len(planes) == 3
    return Image(
        pixels=np.ascontiguousarray(values, dtype=np.float32),
        range=(0.0, 255.0) if colour else _range(values, found.header, wish),
        source=str(ref),
        unit="stored" if colour else "value",
        bits=8 if colour else 8 * found.dtype.itemsize,
        spacing_mm=spacing,
        affine=affine,
        notes=(*found.notes, *colour_notes, *scale_notes, *bad_notes, *space_notes),
        facts={"container": "nifti", "dtype": str(found.dtype)},
    )


def affine_of(path: Path) -> np.ndarray | None:
    """Get the affine of a file, 4 x 4, index `(d, h, w)` -> RAS millimetres, from its header; None where it has none.

    Raises:
        BadImage: damaged, or its two affines point different ways.
    """
    return _space(_find(path).header, show(path))[0]


def _find(path: Path) -> _Found:
    """Parse the header of a single file or of a pair."""
    head_path, voxel_path = _pair(path)
    raw = _head(head_path)
    if len(raw) < 348:
        raise BadImage(f"truncated: its header has {len(raw)} of 348 bytes", where=show(head_path))
    if is_nifti(raw):
        second = raw[4:8] in (b"n+2\0", b"ni2\0")
        kind = nibabel.Nifti2Header if second else nibabel.Nifti1Header
        single = (raw[4:8] == b"n+2\0") if second else raw[344:348] == b"n+1\0"
        voxel_path = head_path if single else voxel_path
        notes: tuple[str, ...] = ()
    else:
        kind, single = nibabel.AnalyzeHeader, False
        notes = ("an Analyze file: it says no orientation, left and right are unknown",)
    if not single and voxel_path == head_path:
        raise BadImage("its voxels (.img) are missing", where=show(path), do="Put the .img file beside the .hdr file.")
    header = _header(kind, raw, head_path)
    if "intent_code" in header.structarr.dtype.names and 3000 <= int(header["intent_code"]) < 3100:
        raise BadImage("a CIFTI file (values on brain surfaces), not an image", where=show(path))
    dtype = header.get_data_dtype()
    shape = tuple(int(n) for n in header.get_data_shape())
    if dtype.kind not in "iufV" or (dtype.kind == "V" and dtype.names is None):
        raise BadImage(f"holds {dtype}, not real numbers", where=show(path))
    if not shape or any(n < 1 for n in shape):
        raise BadImage(f"has no voxels: its shape is {shape}", where=show(path))
    offset = int(header.get_data_offset())
    return _Found(header, voxel_path, offset, dtype, shape, notes)


def _header(kind: Any, raw: bytes, path: Path) -> Any:
    try:
        header = kind(raw[: kind.template_dtype.itemsize], check=False)
        header.get_data_dtype()
        header.get_data_shape()
    except Exception as error:
        raise BadImage(f"damaged NIfTI header ({error})", where=show(path)) from error
    return header


def _pair(path: Path) -> tuple[Path, Path]:
    """Get (header file, voxel file) that a path means; equal when there is no second file."""
    name = path.name
    lower = name.lower()
    for mine, other, is_head in ((".hdr", ".img", True), (".img", ".hdr", False)):
        for packed in ("", ".gz"):
            if not lower.endswith(mine + packed):
                continue
            stem = name[: len(name) - len(mine + packed)]
            beside = next(
                (p for end in (other, other + ".gz", other.upper()) if (p := path.parent / (stem + end)).is_file()),
                None,
            )
            if beside is None:
                if is_head:
                    return path, path
                raise BadImage("its header (.hdr) is missing", where=show(path), do="Put the .hdr file beside it.")
            return (path, beside) if is_head else (beside, path)
    return path, path


def _open(path: Path) -> Any:
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if packed else open(path, "rb")


def _head(path: Path) -> bytes:
    try:
        with _open(path) as file:
            return file.read(544)
    except (OSError, EOFError, zlib.error) as error:
        raise BadImage(f"damaged gzip archive ({error})", where=show(path)) from error


def _bytes(found: _Found, start: int, count: int, path: Path) -> bytes:
    """Get `count` bytes of voxels; what a gzip archive could never hold is refused before it is inflated."""
    size = os.path.getsize(found.voxels)  # noqa: PTH202
    needed = found.offset + start + count
    with open(found.voxels, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    most = size * _MOST_INFLATION if packed else size
    if needed > most:
        raise BadImage(
            f"truncated: its header declares {needed} bytes, the file can hold {most}", where=show(found.voxels)
        )
    try:
        with _open(found.voxels) as file:
            file.seek(found.offset + start)
            data = file.read(count)
            if packed and len(data) == count:
                _finish(file)
    except (OSError, EOFError, zlib.error) as error:
        raise BadImage(f"truncated or damaged gzip archive ({error})", where=show(path)) from error
    if len(data) < count:
        raise BadImage(f"truncated: {len(data)} of {count} bytes of voxels are there", where=show(found.voxels))
    return data


def _finish(file: Any) -> None:
    """Read a gzip stream to its end, at most 64 MiB more, so that its checksum is tested."""
    for _ in range(64):
        if not file.read(1 << 20):
            return


def _axes(shape: tuple[int, ...]) -> tuple[tuple[int, int, int], int]:
    """Get the three spatial sizes and how many volumes follow; axes of size 1 are dropped."""
    full = (*shape, 1, 1, 1)[: max(3, len(shape))]
    return (full[0], full[1], full[2]), int(np.prod(full[3:], dtype=object))


def _planes(stored: np.ndarray, dtype: np.dtype) -> tuple[np.ndarray, tuple[str, ...]]:
    """Get `(C, D, H, W)` in the file's number type."""
    if dtype.names is None:
        return stored.transpose(2, 1, 0)[None], ()
    colour = np.stack([stored[name].transpose(2, 1, 0) for name in ("R", "G", "B")])
    if "A" in dtype.names:
        alpha = stored["A"].transpose(2, 1, 0)
        if not (alpha == 255).all():
            laid = (colour.astype(np.uint32) * alpha + 127) // 255
            return laid.astype(np.uint8), ("its transparent parts were laid on black",)
    return colour, ()


def _scale(planes: np.ndarray, header: Any) -> tuple[np.ndarray, tuple[str, ...]]:
    """Apply scl_slope and scl_inter; a slope of 0 or NaN means none."""
    if "scl_slope" not in header.structarr.dtype.names or len(planes) == 3:
        return planes, ()
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not np.isfinite(slope):
        notes = () if slope == 0 or np.isnan(slope) else ("an infinite scale was ignored",)
        return planes, notes
    notes = ()
    if not np.isfinite(inter):
        inter, notes = 0.0, ("its intercept is not a number and was taken as 0",)
    if (slope, inter) == (1.0, 0.0):
        return planes, notes
    return planes.astype(np.float64) * slope + inter, notes


def _space(header: Any, path: str) -> tuple[np.ndarray | None, tuple[float, ...] | None, tuple[str, ...]]:
    """Get the affine for `(d, h, w)`, the spacing in that order, and notes.

    Raises:
        BadImage: sform and qform are both set and point different ways.
    """
    zooms = [float(z) for z in header.get_zooms()[:3]]
    zooms += [1.0] * (3 - len(zooms))
    factor = 1.0
    if "xyzt_units" in header.structarr.dtype.names:
        factor = _MILLIMETRES.get(int(header["xyzt_units"]) & 0x07, 1.0)
    notes: list[str] = [] if factor == 1.0 else ["its units are not millimetres and were converted"]
    spacing = tuple(abs(z) * factor for z in zooms[::-1])
    good = all(np.isfinite(s) and s > 0 for s in spacing)
    affine = _affine(header, path, notes)
    if affine is None:
        return None, spacing if good else None, tuple(notes)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        return None, spacing if good else None, (*notes, "its affine is degenerate: its space is unknown")
    affine = affine.copy()
    affine[:3] *= factor
    flipped = affine[:, [2, 1, 0, 3]]
    return flipped, tuple(float(n) for n in np.linalg.norm(flipped[:3, :3], axis=0)), tuple(notes)


def _affine(header: Any, path: str, notes: list[str]) -> np.ndarray | None:
    if "sform_code" not in header.structarr.dtype.names:
        return None
    sform = header.get_sform() if int(header["sform_code"]) > 0 else None
    qform = _qform(header, notes) if int(header["qform_code"]) > 0 else None
    if sform is None and qform is None:
        notes.append("neither sform nor qform is set: its space is unknown")
    if sform is None or qform is None:
        return qform if sform is None else sform
    ways = [_ways(matrix) for matrix in (sform, qform)]
    if ways[0] is None or ways[1] is None:
        return sform
    apart = float(np.abs(ways[0] - ways[1]).max())
    if apart > _WAYS_DIFFER and aff2axcodes(sform) != aff2axcodes(qform):
        names = ["".join(str(c) for c in aff2axcodes(matrix)) for matrix in (sform, qform)]
        raise BadImage(
            f"its sform ({names[0]}) and qform ({names[1]}) point different ways",
            where=path,
            do="Find out which one is right and clear the other (code 0).",
        )
    if apart > 1e-3 or float(np.abs(sform - qform).max()) > 1e-2:
        notes.append("sform and qform differ; the sform was used")
    return sform


def _qform(header: Any, notes: list[str]) -> np.ndarray | None:
    try:
        return header.get_qform()
    except Exception:
        notes.append("its qform does not parse and was ignored")
        return None


def _ways(matrix: np.ndarray) -> np.ndarray | None:
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    if not np.isfinite(matrix).all() or (lengths < 1e-9).any():
        return None
    return matrix[:3, :3] / lengths


def _range(values: np.ndarray, header: Any, wish: Wish) -> tuple[float, float]:
    from medgraft.files.form import window_range

    if wish.window is not None:
        return window_range(wish.window)
    if "cal_max" in header.structarr.dtype.names:
        low, high = float(header["cal_min"]), float(header["cal_max"])
        if np.isfinite((low, high)).all() and high > low:
            return low, high
    return robust_range(values)


def header(path: Path) -> Header:
    """Get shape, volumes and bits from the header."""
    found = _find(path)
    (i, j, k), volumes = _axes(found.shape)
    channels = 3 if found.dtype.names else 1
    shape = (channels, j, i) if k == 1 else (channels, k, j, i)
    bits = 8 if found.dtype.names else 8 * found.dtype.itemsize
    size = int(np.prod(found.shape, dtype=object)) * found.dtype.itemsize
    return Header("nifti", shape, volumes, bits, size, {"dtype": str(found.dtype)})


FORMAT = Format("nifti", header, read)
