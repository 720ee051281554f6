"""One animal of the zoo: a file that is made, and what reading it must give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Case:
    """A tricky or malformed file.

    Attributes:
        name: file name (or folder name, for a series).
        make: writes it at the path it is given.
        pixels: what `read_image` must give, or None when it must refuse.
        refused: words that the refusal must hold.
        index: frame, page or row to ask for.
        within: how far pixels may be off (lossy codes).
        note: words that the notes must hold.
        options: further arguments of `read_image`.
        range: the expected range, when it matters.
        series: True to read all files of the folder as one series.
    """

    name: str
    make: Callable[[Path], Any]
    pixels: np.ndarray | None = None
    refused: str = ""
    index: int | None = None
    within: float = 0.0
    note: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    range: tuple[float, float] | None = None
    series: bool = False

    def __str__(self) -> str:
        return self.name.encode("ascii", "backslashreplace").decode() + ("" if self.index is None else f"#{self.index}")


def noise(*shape: int, seed: int = 0, top: int = 255, dtype: Any = np.uint8) -> np.ndarray:
    """Get repeatable random whole numbers from 0 to `top`."""
    return np.random.default_rng(seed).integers(0, top + 1, shape).astype(dtype)


def smooth(rows: int, columns: int, top: float = 255) -> np.ndarray:
    """Get a soft picture that lossy codes keep well."""
    y, x = np.mgrid[0:rows, 0:columns]
    return (top * (0.5 + 0.25 * np.sin(x / 5) + 0.25 * np.cos(y / 4))).astype(np.uint8)


def planes(array: np.ndarray) -> np.ndarray:
    """Turn `(H, W)` or `(H, W, 3)` into `(C, H, W)` float32."""
    out = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
    return np.ascontiguousarray(out, dtype=np.float32)


def save(data: bytes) -> Callable[[Path], None]:
    """Make a file of these bytes."""
    return lambda path: path.write_bytes(data) and None


def tiny_png(rows: int, columns: int, bits: int, colour: int, data: bytes, *, extra: bytes = b"") -> bytes:
    """Write a PNG by hand: scan lines with their filter bytes come in `data`."""
    import struct
    import zlib

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def chunk(name: bytes, body: bytes) -> bytes:
    """Get one PNG chunk with its checksum."""
    import struct
    import zlib

    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def lines(array: np.ndarray) -> bytes:
    """Get PNG scan lines (filter 0) of big-endian samples."""
    wide = array.astype(array.dtype.newbyteorder(">"))
    return b"".join(b"\0" + wide[k].tobytes() for k in range(len(wide)))
