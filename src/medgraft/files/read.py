"""`read_image` and `header`: one door to every format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from medgraft.errors import BadImage, MedgraftError
from medgraft.files import FORMATS
from medgraft.files.form import MAX_BYTES, Format, Header, Wish
from medgraft.files.sniff import show, sniff
from medgraft.values import Image, ImageRef

_T = TypeVar("_T")


def read_image(
    source: ImageRef | Path | str,
    *,
    window: tuple[float, float] | None = None,
    values: bool = False,
    max_bytes: int = MAX_BYTES,
    at_least: tuple[int, int] | None = None,
    allow_gaps: bool = False,
) -> Image:
    """Read one image, pixels float32 `(C, H, W)`, or `(C, D, H, W)` for a volume.

    Photographs keep their stored numbers (0..255, or 0..65535 for 16 bits). A
    single DICOM frame comes as a monitor shows it: rescale, window, inversion
    of MONOCHROME1 last, unit "display", range (0, 1). Volumes (DICOM series,
    multi-frame volumes, NIfTI) carry modality values such as HU, and the range
    of their window.

    Args:
        source: a file, a folder with one DICOM series, or an `ImageRef` (which can name a frame).
        window: (center, width) in modality units instead of the file's own window.
        values: True to get modality values of a single DICOM frame too.
        max_bytes: refuse what decodes to more, before decoding it.
        at_least: (H, W) that is enough: a JPEG may be decoded at a fraction of its size. Pixels then
            differ from a full decode, so give the same hint in training and prediction or none.
        allow_gaps: True to resample a series with missing slices instead of refusing it.

    Raises:
        BadImage: it cannot be read right; the sentence says why.
        MissingExtra: a decoder package is not installed; the sentence names it.
    """
    ref = source if isinstance(source, ImageRef) else ImageRef(Path(source))
    wish = Wish(window=window, values=values, max_bytes=max_bytes, at_least=at_least, allow_gaps=allow_gaps)
    return read_ref(ref, wish)


def read_ref(ref: ImageRef, wish: Wish) -> Image:
    """Read one image as a `Wish` says; see `read_image`."""
    if ref.files:
        return guarded("dicom", ref.path, lambda: FORMATS["dicom"].read(ref, wish))
    if ref.path.is_dir():
        return read_ref(_only_image(ref.path), wish)
    word, format_ = _find(ref.path)
    return guarded(word, ref.path, lambda: format_.read(ref, wish))


def header(path: ImageRef | Path | str) -> Header:
    """Get what a file says of itself: format, shape, frames, bits, decoded bytes and facts. Nothing is decoded.

    Raises:
        BadImage: it is not an image; the sentence says what it is.
    """
    place = path.files[0] if isinstance(path, ImageRef) and path.files else path
    place = place.path if isinstance(place, ImageRef) else Path(place)
    word, format_ = _find(place)
    return guarded(word, place, lambda: format_.header(place))


def _find(path: Path) -> tuple[str, Format]:
    if path.parent.suffix.lower() == ".npz" and path.parent.is_file():
        return "npz", FORMATS["array"]
    kind = sniff(path)
    return kind.word, FORMATS[kind.format]


def _only_image(folder: Path) -> ImageRef:
    from medgraft.files.listing import list_images

    found = list_images(folder)
    if len(found) != 1:
        raise BadImage(
            f"is a folder with {len(found)} images, not one",
            where=show(folder),
            do="Name one of them, or list them with list_images.",
        )
    return found[0]


def guarded(word: str, path: Path, act: Callable[[], _T]) -> _T:
    """Turn whatever a decoder raises into one sentence about the file."""
    try:
        return act()
    except MedgraftError as error:
        if error.where is None:
            error = type(error)(error.what, where=show(path), do=error.do)
        raise error from None
    except MemoryError as error:
        raise BadImage("decoding it needs more memory than there is", where=show(path)) from error
    except RecursionError as error:
        raise BadImage("nested too deeply to be read", where=show(path)) from error
    except Exception as error:
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise BadImage(f"damaged or unusual {word.upper()} file ({said})", where=show(path)) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # what a decoder written in Rust raises; no Exception
            raise
        raise BadImage(f"damaged {word.upper()} file: its decoder gave up ({error})", where=show(path)) from error
