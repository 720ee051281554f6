"""PNG, JPEG, BMP, WEBP and GIF by Pillow; TIFF is handed to `tiff.py`.

Nothing is converted by Pillow that Pillow would clip: 16-bit files go through
numpy. EXIF orientation is applied, transparency is laid on black, and a file
with several frames is refused unless the caller names one.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow
from PIL import ImageFile

from medgraft.errors import BadImage
from medgraft.files.form import Format, Header, Wish, check_size, hush, pick
from medgraft.files.sniff import HEAD_BYTES, open_regular, show, sniff
from medgraft.values import Image, ImageRef

FORMATS_READ = ("PNG", "JPEG", "BMP", "WEBP", "GIF")
TRANSPARENT = "its transparent parts were laid on black"
_ORIENTATION_TAG = 0x0112
_GRAY_STRIDE = 17


@dataclass(frozen=True)
class Photo:
    """Decoded pixels of a plain image, before they become an `Image`.

    Attributes:
        array: `(H, W)` or `(H, W, 3)`, uint8, uint16 or float32.
        range: values that mean black and white.
        bits: bits stored a sample.
        notes: what was noticed.
        facts: header facts.
    """

    array: np.ndarray
    range: tuple[float, float] = (0.0, 255.0)
    bits: int = 8
    notes: tuple[str, ...] = ()
    facts: dict[str, str] = field(default_factory=dict)


def read(ref: ImageRef, wish: Wish) -> Image:
    """Read one plain image as float32 `(C, H, W)` in its stored numbers."""
    return to_image(decode(ref, wish), str(ref))


def to_image(photo: Photo, source: str) -> Image:
    """Get the `Image` of decoded pixels."""
    array = photo.array
    planes = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
    return Image(
        pixels=np.ascontiguousarray(planes, dtype=np.float32),
        range=photo.range,
        source=source,
        bits=photo.bits,
        notes=photo.notes,
        facts=photo.facts,
    )


def decode(ref: ImageRef, wish: Wish) -> Photo:
    """Decode one plain image.

    Raises:
        BadImage: truncated, too large, several frames and none named.
    """
    with open_regular(ref.path) as file:
        head = file.read(HEAD_BYTES)
        kind = sniff(ref.path, head)
        if kind.format != "raster":
            raise BadImage(f"is a {kind.word} file", where=show(ref.path))
        if kind.word == "tiff":
            from medgraft.files import tiff

            return tiff.decode(ref, wish)
        return finished(_opened(head + file.read(), kind.word, ref, wish))


@dataclass(frozen=True)
class Opened:
    """A picture whose header was read and found sound, and what is known of it so far."""

    picture: ImageFile.ImageFile
    data: bytes
    word: str
    orientation: int
    notes: list[str]

    @property
    def plain(self) -> bool:
        """Tell whether its pixels need nothing more: 8-bit gray or RGB, upright, opaque."""
        return (
            self.picture.mode in ("L", "RGB")
            and self.orientation == 1
            and "transparency" not in self.picture.info
            and not _is_deep(self.data)
        )


def open_picture(ref: ImageRef, wish: Wish) -> Opened | None:
    """Open a plain image without decoding it; None when it is no PNG, JPEG, BMP, WEBP or GIF."""
    with open_regular(ref.path) as file:
        head = file.read(HEAD_BYTES)
        kind = sniff(ref.path, head)
        if kind.format != "raster" or kind.word == "tiff":
            return None
        return _opened(head + file.read(), kind.word, ref, wish)


def _opened(data: bytes, word: str, ref: ImageRef, wish: Wish) -> Opened:
    notes = check_png(data, ref.path) if word == "png" else []
    picture, warned, orientation = _open(data, word, ref.path)
    _check(picture, data, wish, ref.path)
    index = pick(ref.index, getattr(picture, "n_frames", 1), ref.path, word="frame")
    if index:
        picture.seek(index)
    if wish.at_least and word == "jpeg":
        _draft(picture, wish.at_least, orientation)
    return Opened(picture, data, word, orientation, notes + warned)


def finished(opened: Opened) -> Photo:
    """Decode a picture that was opened."""
    array, bits, more = _pixels(opened.picture, opened.data)
    notes = opened.notes + more
    if opened.orientation > 1:
        array = orient(array, opened.orientation)
        notes.append(f"turned upright as its EXIF orientation {opened.orientation} says")
    facts = {"container": opened.word}
    if profile := opened.picture.info.get("icc_profile"):
        facts["icc_profile"] = f"{len(profile)} bytes"
    return finish(array, bits, notes, facts)


def finish(array: np.ndarray, bits: int, notes: list[str], facts: dict[str, str]) -> Photo:
    """Choose the range of integer pixels and note what a person should know."""
    if array.ndim == 3 and _is_gray(array):
        notes.append("a colour file whose three channels are equal: gray")
    if array.dtype == np.uint16:
        high = 65535.0
        if array.size and int(array.max()) < 4096:
            high = 4095.0
            notes.append("16 bits stored, but no value above 4095: taken as 12 bits")
        return Photo(array, (0.0, high), bits, tuple(notes), facts)
    return Photo(array, (0.0, 255.0), min(bits, 8), tuple(notes), facts)


def _is_gray(array: np.ndarray) -> bool:
    few = array[::_GRAY_STRIDE, ::_GRAY_STRIDE]
    if not (few[..., 0] == few[..., 1]).all() or not (few[..., 1] == few[..., 2]).all():
        return False
    return bool((array[..., 0] == array[..., 1]).all() and (array[..., 1] == array[..., 2]).all())


def _open(data: bytes, word: str, path: Path) -> tuple[ImageFile.ImageFile, list[str], int]:
    orientation = 1
    with hush() as said:
        try:
            picture = Pillow.open(BytesIO(data), formats=FORMATS_READ)
            orientation = _orientation(picture)
        except Pillow.DecompressionBombError as error:
            raise BadImage(f"too large: {error}", where=show(path)) from error
        except Pillow.UnidentifiedImageError as error:
            if word == "jpeg":
                return _unusual_jpeg(data, path), [], 1
            raise BadImage(f"a damaged {word.upper()} file: its header does not parse", where=show(path)) from error
    return (
        picture,
        [text for text in said if "DecompressionBomb" not in text and "exceeds limit" not in text],
        orientation,
    )


def _orientation(picture: Pillow.Image) -> int:
    try:
        value = picture.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _check(picture: ImageFile.ImageFile, data: bytes, wish: Wish, path: Path) -> None:
    width, height = picture.size
    limit = Pillow.MAX_IMAGE_PIXELS or 0
    if limit and width * height > limit:
        raise BadImage(
            f"too large: {width} x {height} is {width * height / 1e6:.0f} million pixels, "
            f"the limit is {limit / 1e6:.0f} million",
            where=show(path),
            do="Shrink it or cut it into tiles.",
        )
    check_size(width * height * max(len(picture.getbands()), 1) * (2 if _is_deep(data) else 1), wish.max_bytes, path)


def _is_deep(data: bytes) -> bool:
    return data[:4] == b"\x89PNG" and data[24:25] == b"\x10"


def _unusual_jpeg(data: bytes, path: Path) -> ImageFile.ImageFile:
    """JPEG with 12 bits or lossless coding, which Pillow cannot decode, is named."""
    from medgraft.files.codestream import jpeg_frame

    frame = jpeg_frame(data)
    if frame is None:
        raise BadImage("a damaged JPEG file: its header does not parse", where=show(path))
    raise BadImage(
        f"a JPEG of a kind that plain viewers do not read ({frame.process}, {frame.precision} bits)",
        where=show(path),
        do="Convert it to PNG.",
    )


def _draft(picture: ImageFile.ImageFile, at_least: tuple[int, int], orientation: int) -> None:
    height, width = at_least if orientation < 5 else at_least[::-1]
    picture.draft(None, (width, height))


def _pixels(picture: ImageFile.ImageFile, data: bytes) -> tuple[np.ndarray, int, list[str]]:
    """Get `(H, W)` or `(H, W, 3)` pixels, bits stored and notes."""
    if _is_deep(data):
        return _deep_png(picture, data)
    mode = picture.mode
    if mode in ("P", "PA"):
        picture = picture.convert("RGBA" if "transparency" in picture.info or mode == "PA" else "RGB")  # type: ignore[assignment]
    elif "transparency" in picture.info and mode in ("1", "L", "RGB"):
        picture = picture.convert("RGBA" if mode == "RGB" else "LA")  # type: ignore[assignment]
    elif mode == "1":
        return np.asarray(picture, dtype=np.uint8) * np.uint8(255), 1, []
    elif mode in ("CMYK", "YCbCr", "LAB", "HSV", "RGBX"):
        array = np.asarray(picture.convert("RGB"))
        return array, 8, [f"{mode} colours were turned into RGB"]
    elif mode.startswith("I;16"):
        return np.asarray(picture).astype(np.uint16), 16, []
    elif mode not in ("L", "LA", "RGB", "RGBA"):
        raise BadImage(f"has an unusual pixel mode ({mode})", do="Convert it to PNG.")
    array = np.asarray(picture)
    if picture.mode in ("LA", "RGBA"):
        return on_black(array, 8)
    return array, 8, []


def _deep_png(picture: ImageFile.ImageFile, data: bytes) -> tuple[np.ndarray, int, list[str]]:
    """Decode a 16-bit PNG whole: Pillow would cut colour to 8 bits."""
    key = picture.info.get("transparency")
    if picture.mode.startswith("I") and data[25] == 0:
        array = np.asarray(picture).astype(np.uint16)
    else:
        import imagecodecs

        array = np.asarray(imagecodecs.png_decode(data))
    if array.ndim == 3 and array.shape[-1] in (2, 4):
        return on_black(array, 16)
    if key is not None:
        clear = (array == np.asarray(key)).all(-1) if array.ndim == 3 else array == key
        if clear.any():
            array = array.copy()
            array[clear] = 0
            return array, 16, [TRANSPARENT]
    return array, 16, []


def on_black(array: np.ndarray, bits: int) -> tuple[np.ndarray, int, list[str]]:
    """Lay `(H, W, 2 or 4)` integer pixels on black by their last channel; gray comes back as `(H, W)`."""
    top = np.iinfo(array.dtype).max
    alpha = array[..., -1]
    colour = array[..., :-1]
    colour = colour[..., 0] if colour.shape[-1] == 1 else colour
    if (alpha == top).all():
        return np.ascontiguousarray(colour), bits, []
    weight = alpha.astype(np.uint32) if colour.ndim == 2 else alpha.astype(np.uint32)[..., None]
    laid = (colour.astype(np.uint64) * weight + top // 2) // top
    note = "it is wholly transparent: every pixel became black" if not alpha.any() else TRANSPARENT
    return laid.astype(array.dtype), bits, [note]


def orient(array: np.ndarray, orientation: int) -> np.ndarray:
    """Turn stored rows and columns upright by an EXIF (or TIFF) orientation 1 to 8."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)


def check_png(data: bytes, path: Path) -> list[str]:
    """Walk the chunks of a PNG: every critical chunk's checksum must hold, and the end must be there.

    Raises:
        BadImage: truncated or damaged.
    """
    place = 8
    seen_data = False
    while place + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, place)
        end = place + 12 + length
        if end > len(data):
            raise BadImage(f"truncated PNG file: its {_name(name)} part is cut off", where=show(path))
        if not name[0] & 0x20:
            (crc,) = struct.unpack_from(">I", data, end - 4)
            if zlib.crc32(memoryview(data)[place + 4 : end - 4]) != crc:
                raise BadImage(f"damaged PNG file: the checksum of its {_name(name)} part is wrong", where=show(path))
        seen_data |= name == b"IDAT"
        place = end
        if name == b"IEND":
            if not seen_data:
                raise BadImage("damaged PNG file: it holds no pixel data", where=show(path))
            extra = len(data) - place
            return [f"{extra} bytes after the end of the PNG were ignored"] if extra else []
    raise BadImage("truncated PNG file: its end is missing", where=show(path))


def _name(chunk: bytes) -> str:
    return chunk.decode("latin-1") if chunk.isalpha() else repr(chunk)


def header(path: Path) -> Header:
    """Get size, frames and bits of a plain image without decoding it."""
    kind = sniff(path)
    if kind.word == "tiff":
        from medgraft.files import tiff

        return tiff.header(path)
    with hush(), open(path, "rb") as file:
        try:
            picture = Pillow.open(file, formats=FORMATS_READ)
        except Pillow.DecompressionBombError as error:
            raise BadImage(f"too large: {error}", where=show(path)) from error
        except Pillow.UnidentifiedImageError as error:
            raise BadImage(
                f"a damaged {kind.word.upper()} file: its header does not parse", where=show(path)
            ) from error
        orientation = _orientation(picture)
        file.seek(0)
        deep = _is_deep(file.read(32))
        frames = int(getattr(picture, "n_frames", 1))
        width, height = picture.size if orientation < 5 else picture.size[::-1]
        channels = 1 if picture.mode in ("1", "L", "LA", "I", "F") or picture.mode.startswith("I;") else 3
    bits = 16 if deep or picture.mode.startswith("I") else 1 if picture.mode == "1" else 8
    facts: dict[str, Any] = {"container": kind.word, "mode": picture.mode}
    size = width * height * channels * frames * (2 if bits > 8 else 1)
    return Header(kind.word, (channels, height, width), frames, bits, size, facts)


FORMAT = Format("raster", header, read)
