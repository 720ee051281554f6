"""A label map as large as a slide, written as tiled TIFF from strips, so that memory holds a row of tiles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from medgraft.storage import write_atomic

TILE = 256
_CENTIMETRE_UM = 10_000.0


def write_label_tiff(
    path: Path,
    strips: Iterable[np.ndarray],
    *,
    size: tuple[int, int],
    kind: np.dtype | type[np.unsignedinteger] = np.uint8,
    um_per_px: float | None = None,
    note: str = "",
) -> None:
    """Write a label map, whole or not at all: one page, tiles of 256 pixels, lossless (deflate), BigTIFF.

    Args:
        path: the file to write, NAME.tif.
        strips: `(h, width)` each, of any heights, from the top down.
        size: (width, height) in pixels.
        kind: of its numbers: uint8, uint16 or uint32.
        um_per_px: for the resolution tags.
        note: for the description; ASCII.

    Raises:
        ValueError: the strips do not fill the size, or their numbers do not fit the kind.
        DiskFull: there is no space; nothing is left behind.
    """
    import tifffile

    width, height = size
    per_cm = None if um_per_px is None else _CENTIMETRE_UM / um_per_px
    resolution = None if per_cm is None else (per_cm, per_cm)

    def write(file: object) -> None:
        with tifffile.TiffWriter(file, bigtiff=True) as writer:  # type: ignore[arg-type]
            writer.write(
                _tiles(strips, width, height, np.dtype(kind)),
                shape=(height, width),
                dtype=kind,
                tile=(TILE, TILE),
                compression="zlib",
                photometric="minisblack",
                resolution=resolution,
                resolutionunit="CENTIMETER" if resolution else None,
                description=note,
                metadata=None,
            )

    write_atomic(path, write)


def _tiles(strips: Iterable[np.ndarray], width: int, height: int, kind: np.dtype) -> Iterator[np.ndarray]:
    """Yield tiles row by row; the last of a row and of a column are filled up with 0."""
    wide = -(-width // TILE) * TILE
    done, held = 0, np.zeros((0, wide), kind)
    for strip in strips:
        if strip.shape[1] != width or done + len(held) + len(strip) > height:
            raise ValueError(f"a strip of {strip.shape} does not fit a label map of {height} x {width}")
        if not np.can_cast(strip.dtype, kind):
            raise ValueError(f"numbers of {strip.dtype} do not fit a label map of {kind}")
        filled = np.zeros((len(strip), wide), kind)
        filled[:, :width] = strip
        held = np.concatenate([held, filled])
        while len(held) >= TILE:
            yield from _row(held[:TILE])
            held, done = held[TILE:], done + TILE
    if done + len(held) != height:
        raise ValueError(f"the strips have {done + len(held)} of {height} rows")
    if len(held):
        last = np.zeros((TILE, wide), kind)
        last[: len(held)] = held
        yield from _row(last)


def _row(rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, rows.shape[1], TILE):
        yield rows[:, start : start + TILE]
