"""An ordinary picture as a slide of one level: decoded whole, so its size is limited."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medgraft.errors import BadImage
from medgraft.files.form import check_size
from medgraft.files.read import header, read_image
from medgraft.files.sniff import show

_COPIES = 5  # bytes in memory for each byte of the picture while it is decoded, for values are float32


class PictureSource:
    """PNG, JPEG and whatever else `read_image` reads, of one gray or colour image."""

    um_per_px: float | None = None
    maker: str = "picture"

    def __init__(self, path: Path, *, max_bytes: int) -> None:
        about = header(path)
        if len(about.shape) != 3 or about.frames != 1:
            raise BadImage("is not one picture", where=show(path), do="Save it as a PNG, JPEG or TIFF file.")
        check_size(int(np.prod(about.shape, dtype=object)) * _COPIES, max_bytes * _COPIES, path)
        shown = read_image(path, max_bytes=max_bytes).display()
        pixels = np.rint(shown * np.float32(255)).astype(np.uint8).transpose(1, 2, 0)
        self._pixels = np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
        self.sizes = [(pixels.shape[1], pixels.shape[0])]

    def rectangle(self, level: int, box: tuple[int, int, int, int]) -> np.ndarray:
        """Get a part."""
        x0, y0, x1, y1 = box
        return self._pixels[y0:y1, x0:x1].copy()

    def close(self) -> None:
        """Let go of the pixels."""
        self._pixels = self._pixels[:0]
