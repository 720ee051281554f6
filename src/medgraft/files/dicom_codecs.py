"""Compressed DICOM frames that imagecodecs decodes: every JPEG, JPEG-LS, JPEG XL, deflated frames, one-bit run lengths.

JPEG goes through libjpeg-turbo whatever else is installed, so the same file
gives the same pixels everywhere; it also reads 12-bit and lossless JPEG. The
colour transform is undone once, by what the stream's own markers say, else by
the header's photometric interpretation.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medgraft.errors import BadImage, MissingExtra
from medgraft.files.codestream import Frame, jpeg_colour
from medgraft.files.sniff import show

if TYPE_CHECKING:
    from medgraft.files.dicom_pixels import Layout

JPEG = {
    "1.2.840.10008.1.2.4.50": "JPEG Baseline",
    "1.2.840.10008.1.2.4.51": "JPEG Extended",
    "1.2.840.10008.1.2.4.57": "JPEG Lossless",
    "1.2.840.10008.1.2.4.70": "JPEG Lossless SV1",
}
JPEG_LS = {
    "1.2.840.10008.1.2.4.80": "JPEG-LS Lossless",
    "1.2.840.10008.1.2.4.81": "JPEG-LS Near-lossless",
}
JPEG_XL = {
    "1.2.840.10008.1.2.4.110": "JPEG XL Lossless",
    "1.2.840.10008.1.2.4.111": "JPEG XL JPEG Recompression",
    "1.2.840.10008.1.2.4.112": "JPEG XL",
}
DEFLATED_FRAME = "1.2.840.10008.1.2.8.1"
RUN_LENGTH = "1.2.840.10008.1.2.5"
OWN = {**JPEG, **JPEG_LS, **JPEG_XL, DEFLATED_FRAME: "Deflated Image Frame"}


def owns(syntax: str, layout: Layout) -> bool:
    """Tell whether frames of this transfer syntax are decoded here and not by pydicom's plug-ins."""
    return syntax in OWN or _is_bit_runs(syntax, layout)


def _is_bit_runs(syntax: str, layout: Layout) -> bool:
    return syntax == RUN_LENGTH and layout.allocated == 1


def decode(stream: bytes, frame: Frame | None, layout: Layout, syntax: str, path: Path) -> tuple[np.ndarray, str]:
    """Decode one compressed frame.

    Returns:
        `(H, W)` or `(H, W, 3)` stored numbers, signed as the file says, and their photometric interpretation.

    Raises:
        BadImage: the stream does not decode to what the header says.
        MissingExtra: imagecodecs was built without this codec; the package is named.
    """
    if syntax == DEFLATED_FRAME:
        return _deflated(stream, layout, path), layout.photometric
    if _is_bit_runs(syntax, layout):
        return _bit_runs(stream, layout, path), layout.photometric
    if syntax in JPEG_XL:
        return _sized(_call("jpegxl_decode", stream, syntax, path), layout, path), _after(layout)
    assert frame is not None
    if syntax in JPEG_LS:  # CharLS as imagecodecs has it reads streams with padding before their end; pyjpegls does not
        array = _sized(_call("jpegls_decode", stream, syntax, path), layout, path)
        return _signed(array, frame, layout), layout.photometric
    if "lossless" in frame.process:
        array = _sized(_jpeg(stream, syntax, path, "RGB" if layout.samples == 3 else None), layout, path)
        return _signed(array, frame, layout), layout.photometric
    colour = jpeg_colour(stream) or layout.photometric
    array = _jpeg(stream, syntax, path, None if layout.samples == 1 else "RGB" if colour == "RGB" else "YCBCR")
    return _signed(_sized(array, layout, path), frame, layout), _after(layout)


def _after(layout: Layout) -> str:
    return "RGB" if layout.samples == 3 else layout.photometric


def _jpeg(stream: bytes, syntax: str, path: Path, colour: str | None) -> np.ndarray:
    options = {} if colour is None else {"colorspace": colour, "outcolorspace": "RGB"}
    return _call("jpeg8_decode", stream, syntax, path, **options)


def _call(name: str, stream: bytes, syntax: str, path: Path, **options: Any) -> np.ndarray:
    import imagecodecs

    word = OWN.get(syntax, syntax)
    try:
        return np.asarray(getattr(imagecodecs, name)(stream, **options))
    except (ImportError, AttributeError) as error:
        raise MissingExtra(
            f"no decoder for {word} ({syntax}) is installed",
            where=show(path),
            do="Install a full imagecodecs: pip install --force-reinstall imagecodecs.",
        ) from error
    except RuntimeError as error:
        raise BadImage(f"a damaged {word} frame ({' '.join(str(error).split())[:200]})", where=show(path)) from error


def _sized(array: np.ndarray, layout: Layout, path: Path) -> np.ndarray:
    wanted = (layout.rows, layout.columns) if layout.samples == 1 else (layout.rows, layout.columns, 3)
    if array.shape == (*wanted, 1):
        array = array[..., 0]
    if array.shape != wanted:
        raise BadImage(f"a frame decodes to {array.shape}, the header says {wanted}", where=show(path))
    return array


def _signed(array: np.ndarray, frame: Frame, layout: Layout) -> np.ndarray:
    """Give two's complement numbers their sign; JPEG itself knows none."""
    if not layout.signed:
        return array
    bits = max(frame.precision, layout.stored)
    wide = array.astype(f"u{2 if bits <= 16 else 4}")
    spare = 8 * wide.dtype.itemsize - bits
    return (wide << wide.dtype.type(spare)).view(f"i{wide.dtype.itemsize}") >> spare


def _deflated(stream: bytes, layout: Layout, path: Path) -> np.ndarray:
    """Inflate a Deflated Image Frame; what is longer than the frame is cut, what is shorter is refused."""
    needed = _packed_bytes(layout)
    try:
        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(stream, needed)
    except zlib.error as error:
        raise BadImage(f"a damaged deflated frame ({error})", where=show(path)) from error
    return _native(data, layout, path)


def _packed_bytes(layout: Layout) -> int:
    cells = layout.rows * layout.columns * layout.samples
    return (cells + 7) // 8 if layout.allocated == 1 else cells * (layout.allocated // 8)


def _native(data: bytes, layout: Layout, path: Path) -> np.ndarray:
    from medgraft.files.dicom_pixels import mask

    needed = _packed_bytes(layout)
    if len(data) < needed:
        raise BadImage(f"truncated: a frame has {len(data)} of {needed} bytes", where=show(path))
    if layout.allocated == 1:
        bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8, count=needed), bitorder="little")
        return bits[: layout.rows * layout.columns].reshape(layout.rows, layout.columns)
    kind = f"<{'i' if layout.signed else 'u'}{layout.allocated // 8}"
    array = np.frombuffer(data, dtype=kind, count=layout.rows * layout.columns * layout.samples)
    shape = (layout.rows, layout.columns, 3) if layout.samples == 3 else (layout.rows, layout.columns)
    return mask(array.reshape(shape), layout)


def _bit_runs(stream: bytes, layout: Layout, path: Path) -> np.ndarray:
    """Undo PackBits over eight pixels a byte."""
    (start,) = struct.unpack_from("<I", stream, 4)
    data = np.frombuffer(_call("packbits_decode", stream[start:], RUN_LENGTH, path), dtype=np.uint8)
    return _native(data.tobytes(), layout, path)
