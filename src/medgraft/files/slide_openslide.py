"""Slides by OpenSlide: MRXS, VMS, DICOM and others that are no TIFF, or no TIFF that tifffile can read in parts."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import openslide  # pyright: ignore[reportMissingImports]

from medgraft.errors import BadImage
from medgraft.files.sniff import show


class OpenSlideSource:
    """Whatever OpenSlide opens. Transparent pixels, which no tile covers, are white."""

    def __init__(self, path: Path, reason: BadImage | None) -> None:
        try:
            self._slide = openslide.OpenSlide(str(path))
        except (openslide.OpenSlideError, OSError) as error:
            if reason is not None:
                raise reason from None
            raise BadImage(f"OpenSlide cannot read it ({error})", where=show(path)) from error
        self._path = path
        self.sizes = [(int(w), int(h)) for w, h in self._slide.level_dimensions]
        self.maker = str(self._slide.properties.get("openslide.vendor", "openslide"))
        found = self._slide.properties.get("openslide.mpp-x")
        self.um_per_px = float(found) if found else None
        self._lock = threading.Lock()

    def rectangle(self, level: int, box: tuple[int, int, int, int]) -> np.ndarray:
        """Get a part; OpenSlide wants its corner in pixels of level 0."""
        x0, y0, x1, y1 = box
        scale = self._slide.level_downsamples[level]
        try:
            with self._lock:
                tile = self._slide.read_region((round(x0 * scale), round(y0 * scale)), level, (x1 - x0, y1 - y0))
        except openslide.OpenSlideError as error:
            raise BadImage(f"a part of it is damaged ({error})", where=show(self._path)) from error
        pixels = np.asarray(tile)
        alpha = pixels[..., 3:].astype(np.uint16)
        if int(alpha.min()) == 255:
            return np.ascontiguousarray(pixels[..., :3])
        return ((pixels[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)

    def close(self) -> None:
        """Let go of the file."""
        self._slide.close()
