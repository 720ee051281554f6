"""A format as another package would add it: six bytes of signature, rows, columns, pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medgraft.files import Format, Header, Wish
from medgraft.values import Image, ImageRef


def _array(path: Path) -> np.ndarray:
    data = path.read_bytes()
    return np.frombuffer(data[9:], np.uint8).reshape(data[7], data[8])


def read(ref: ImageRef, wish: Wish) -> Image:
    """Read it."""
    return Image(_array(ref.path)[None].astype(np.float32), (0, 255), str(ref))


def header(path: Path) -> Header:
    """Read its head."""
    array = _array(path)
    return Header("plain", (1, *array.shape), 1, 8, array.size)


FORMAT = Format("plain", header, read, lambda head, _path: head.startswith(b"\x01PLAIN"))
