"""What a format offers, and what a caller may wish for."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from medgraft.errors import BadImage
from medgraft.files.sniff import show
from medgraft.values import Image, ImageRef

MAX_BYTES = 2 << 30
"""Default limit of decoded bytes of one image: 2 GiB, about 4000 CT slices."""

UNLIKE = "unlike"
"""The fact `pages` of a file whose pages are no frames: levels of a pyramid, or planes that cannot be named."""

_ONE_AT_A_TIME = threading.RLock()
_SAMPLE_LIMIT = 1 << 20


@dataclass(frozen=True)
class Header:
    """What a file says of itself before anything is decoded.

    Attributes:
        format: "png", "jpeg", "tiff", "dicom", "nifti", "npy" and so on.
        shape: `(C, H, W)` or `(C, D, H, W)` of one image.
        frames: frames, pages or rows that the file holds; 1 when the file is one image.
        bits: bits stored a sample.
        decoded_bytes: what all frames take in memory in the file's own number type.
        facts: further facts as text, such as `Modality` or `PatientID`.
    """

    format: str
    shape: tuple[int, ...]
    frames: int
    bits: int
    decoded_bytes: int
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Wish:
    """What the caller wants of one image.

    Attributes:
        window: (center, width) in the modality's units, or None for the file's own.
        values: True to get modality values (HU) of a single DICOM frame, not display values.
        max_bytes: refuse what decodes to more.
        at_least: (H, W) that is enough; a JPEG may then be decoded at 1/2, 1/4 or 1/8 of its size.
        allow_gaps: True to resample a series with missing slices instead of refusing it.
    """

    window: tuple[float, float] | None = None
    values: bool = False
    max_bytes: int = MAX_BYTES
    at_least: tuple[int, int] | None = None
    allow_gaps: bool = False


@dataclass(frozen=True)
class Format:
    """One row of `FORMATS`.

    Attributes:
        name: the row's name.
        header: path -> Header, without decoding.
        read: (ref, wish) -> Image.
        claims: (first 1024 bytes, path) -> True when the file is of this format; asked only of plug-ins,
            built-in formats are told apart in `sniff.py`.
    """

    name: str
    header: Callable[[Path], Header]
    read: Callable[[ImageRef, Wish], Image]
    claims: Callable[[bytes, Path], bool] | None = None


def check_size(count: int, limit: int, path: object) -> None:
    """Refuse what would decode to more than `limit` bytes.

    Raises:
        BadImage: it is too large; nothing was decoded yet.
    """
    if count > limit:
        raise BadImage(
            f"too large: it would decode to {_amount(count)}, the limit is {_amount(limit)}",
            where=show(path),
            do="Shrink it, or raise the limit (max_bytes) when you trust the file.",
        )


def _amount(count: int) -> str:
    for name, unit in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count} bytes"


def pick(index: int | None, count: int, path: object, *, word: str = "page") -> int:
    """Get which of `count` pages to read: the one the caller named, or the only one.

    Raises:
        BadImage: there are several and none was named, or the named one does not exist.
    """
    if index is None:
        if count == 1:
            return 0
        raise BadImage(
            f"holds {count} {word}s, not one image",
            where=show(path),
            do=f"Name the {word} to read (FILE#0 to FILE#{count - 1}), or save each {word} as its own file.",
        )
    if not 0 <= index < count:
        raise BadImage(f"{word} {index} was asked for, but it holds {word}s 0 to {count - 1}", where=show(path))
    return index


def finite(values: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Get float values with NaN and infinities replaced by the smallest finite one, and a note that counts them."""
    if values.dtype.kind != "f":
        return values, ()
    with np.errstate(invalid="ignore", over="ignore"):
        good = np.isfinite(values.astype(np.float32, copy=False))
    bad = int(values.size - np.count_nonzero(good))
    if not bad:
        return values, ()
    lowest = values[good].min() if bad < values.size else values.dtype.type(0)
    cleaned = np.where(good, values, lowest)
    return cleaned, (f"{bad} values were NaN or infinite and became {float(lowest):g}, the lowest value",)


def robust_range(values: np.ndarray) -> tuple[float, float]:
    """Get the 0.5 and 99.5 percentiles (of a regular subset when there are more than a million values)."""
    flat = values.reshape(-1)
    if flat.size > _SAMPLE_LIMIT:
        flat = flat[:: -(-flat.size // _SAMPLE_LIMIT) | 1]
    low, high = (float(v) for v in np.percentile(flat, (0.5, 99.5)))
    if high <= low:
        low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low, low + 1.0)


def window_range(window: tuple[float, float]) -> tuple[float, float]:
    """Get (low, high) of a (center, width) window."""
    center, width = window
    return center - width / 2, center + width / 2


class _Ear(logging.Handler):
    """Keeps what a library logs instead of printing it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record."""
        self.heard.append(record.getMessage())


@contextmanager
def hush() -> Iterator[list[str]]:
    """Collect the warnings and log lines of the reading libraries as text.

    One thread at a time, for Python's warning filters are global.
    """
    said: list[str] = []
    ear = _Ear()
    loggers = [logging.getLogger(name) for name in ("tifffile", "pydicom", "PIL", "nibabel")]
    with _ONE_AT_A_TIME, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        before = [logger.propagate for logger in loggers]
        for logger in loggers:
            logger.addHandler(ear)
            logger.propagate = False
        try:
            yield said
        finally:
            for logger, propagate in zip(loggers, before, strict=True):
                logger.removeHandler(ear)
                logger.propagate = propagate
            texts = [str(w.message) for w in caught] + ear.heard
            said.extend(dict.fromkeys(" ".join(text.split())[:300] for text in texts))
