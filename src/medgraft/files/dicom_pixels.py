"""Stored pixels of DICOM frames: sizes checked, streams checked, then decoded once and masked to the bits stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import convert_color_space
from pydicom.uid import UID, RLELossless

from medgraft.errors import BadImage, MissingExtra
from medgraft.files import dicom_codecs
from medgraft.files.codestream import frame_of, is_cut
from medgraft.files.form import check_size, hush
from medgraft.files.sniff import show

_SPREADING = 66  # two bytes of PackBits make at most 128
_J2K = {f"1.2.840.10008.1.2.4.{n}" for n in (90, 91, 92, 93, 201, 202, 203)}
_CONVERT = "Convert it, for example with dcmconv or gdcmconv."
_RETIRED_COLOURS = ("HSV", "ARGB", "CMYK", "YBR_PARTIAL_420", "YBR_PARTIAL_422")
_BIG = {"DoubleFloatPixelData": 64, "FloatPixelData": 32}


@dataclass(frozen=True)
class Layout:
    """The image pixel module, checked.

    Attributes:
        rows, columns, frames, samples: sizes; frames is 1 when the file does not say.
        allocated, stored, high: bits; `stored` of float pixels is their width.
        signed: pixel representation.
        photometric: "MONOCHROME2", "RGB" and so on.
        keyword: the element that holds the pixels.
    """

    rows: int
    columns: int
    frames: int
    samples: int
    allocated: int
    stored: int
    high: int
    signed: bool
    photometric: str
    keyword: str

    @property
    def bytes_a_frame(self) -> int:
        """Get what one frame takes decoded."""
        return self.rows * self.columns * self.samples * max(1, self.allocated // 8)


def layout_of(dataset: Any, path: Path, *, with_pixels: bool = True) -> Layout:
    """Check that a data set is an image and get its layout.

    Raises:
        BadImage: it is no image (its SOP class is named), or its pixel module contradicts itself.
    """
    keyword = next((k for k in ("PixelData", "FloatPixelData", "DoubleFloatPixelData") if k in dataset), None)
    rows, columns = _number(dataset, "Rows"), _number(dataset, "Columns")
    if keyword is None and (with_pixels or rows is None):
        name = sop_name(dataset)
        raise BadImage(f"not an image: {name}{' without pixels' if 'Image' in name else ''}", where=show(path))
    if not rows or not columns:
        raise BadImage("its Rows or Columns are missing or zero", where=show(path))
    keyword = keyword or "PixelData"
    allocated = _BIG.get(keyword) or _number(dataset, "BitsAllocated")
    if allocated is None or allocated not in (1, 8, 16, 32, 64):
        raise BadImage(f"its BitsAllocated is {allocated}, which no image may have", where=show(path))
    floating = keyword in _BIG
    stored = allocated if floating else (_number(dataset, "BitsStored") or allocated)
    if not 1 <= stored <= allocated:
        raise BadImage(f"its BitsStored ({stored}) does not fit BitsAllocated ({allocated})", where=show(path))
    high = stored - 1 if floating else _number(dataset, "HighBit")
    high = stored - 1 if high is None or not stored - 1 <= high < allocated else high
    samples = _number(dataset, "SamplesPerPixel") or 1
    photometric = str(
        dataset.get("PhotometricInterpretation", "") or ("RGB" if samples == 3 else "MONOCHROME2")
    ).strip()
    if samples not in (1, 3):
        raise BadImage(f"has {samples} samples a pixel ({photometric}), only 1 or 3 are read", where=show(path))
    if photometric in _RETIRED_COLOURS:
        raise BadImage(f"its colours are {photometric}, a retired kind that is not read", where=show(path))
    frames = _number(dataset, "NumberOfFrames") or 1
    signed = _number(dataset, "PixelRepresentation") == 1
    return Layout(rows, columns, max(1, frames), samples, allocated, stored, high, signed, photometric, keyword)


def _number(dataset: Any, keyword: str) -> int | None:
    """Get a whole number, or None when it is absent; what is no number is refused, for pixels depend on it."""
    try:
        value = dataset.get(keyword)
        if value is not None and not isinstance(value, (str, int, float)):
            value = value[0] if len(value) else None
        return None if value is None or value == "" else int(value)
    except (TypeError, ValueError) as error:
        raise BadImage(f"its {keyword} is no number ({error})") from error


def sop_name(dataset: Any) -> str:
    """Get the name of a data set's SOP class, such as "Enhanced SR Storage"."""
    uid = str(dataset.get("SOPClassUID", "") or dataset.file_meta.get("MediaStorageSOPClassUID", ""))
    if uid == "1.2.840.10008.1.3.10":
        return "Media Storage Directory (DICOMDIR)"
    if not uid:
        return f"a {dataset.get('Modality', 'DICOM')} object without pixels"
    name = UID(uid).name
    return name if name != uid else f"SOP class {uid}"


def frames(
    dataset: Any, layout: Layout, path: Path, wanted: Sequence[int], limit: int
) -> Iterator[tuple[np.ndarray, str]]:
    """Decode frames one by one.

    Yields:
        stored pixels `(H, W)` or `(H, W, 3)` in whole numbers (or floats), masked to the bits stored
        and signed as the file says, and their photometric interpretation after decoding (YBR is RGB by then).

    Raises:
        BadImage: too large, truncated, or a stream that contradicts the header.
        MissingExtra: the decoder is not installed.
    """
    check_size(layout.bytes_a_frame * max(len(wanted), 1), limit, path)
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    ours = dicom_codecs.owns(syntax, layout)
    if not ours and (syntax.is_private or not syntax.is_transfer_syntax):
        raise BadImage(f"its transfer syntax {syntax} is not known", where=show(path), do=_CONVERT)
    encapsulated = ours or syntax.is_encapsulated
    streams = _streams(dataset, layout, path, syntax) if encapsulated else None
    if streams is None:
        _whole(dataset, layout, path)
    for index in wanted:
        yield _decode(dataset, layout, path, index, None if streams is None else streams[index])


def _whole(dataset: Any, layout: Layout, path: Path) -> None:
    """Check that uncompressed pixels are all there."""
    needed = _needed(layout)
    found = len(dataset[layout.keyword].value or b"")
    if found < needed:
        raise BadImage(f"truncated: {found} of {needed} bytes of pixel data are there", where=show(path))


def trailing(dataset: Any, layout: Layout) -> list[str]:
    """Get a note when uncompressed pixel data are longer than the image."""
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    if not syntax.is_transfer_syntax or syntax.is_encapsulated:
        return []
    extra = len(dataset[layout.keyword].value or b"") - _needed(layout)
    return [f"{extra} bytes after the pixel data were ignored"] if extra > 1 else []


def _needed(layout: Layout) -> int:
    """Get how many bytes uncompressed pixels take."""
    bits = layout.rows * layout.columns * layout.samples * layout.allocated * layout.frames
    if layout.photometric == "YBR_FULL_422":
        bits = bits // 3 * 2
    return (bits + 7) // 8


def _streams(dataset: Any, layout: Layout, path: Path, syntax: UID) -> list[bytes]:
    """Split compressed pixel data into frames and check each one's own header against the data set's."""
    value = dataset[layout.keyword].value
    if not isinstance(value, bytes) or value[:4] != b"\xfe\xff\x00\xe0":
        raise BadImage("its pixel data are not the compressed items that its transfer syntax says", where=show(path))
    offsets = None
    if "ExtendedOffsetTable" in dataset and "ExtendedOffsetTableLengths" in dataset:
        offsets = (dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths)
    found = list(generate_frames(value, number_of_frames=layout.frames, extended_offsets=offsets))
    if len(found) < layout.frames:
        raise BadImage(f"truncated: {len(found)} of {layout.frames} frames are there", where=show(path))
    for stream in found[: layout.frames]:
        if syntax == RLELossless:
            _check_rle(stream, layout, path)
        elif syntax in dicom_codecs.JPEG or syntax in dicom_codecs.JPEG_LS or syntax in _J2K:
            _check_stream(stream, layout, path)
    return found


def _check_rle(stream: bytes, layout: Layout, path: Path) -> None:
    """A run-length stream can grow 64-fold at most; what declares more would make the decoder abort."""
    if len(stream) < 64:
        raise BadImage(f"truncated: a run-length frame of {len(stream)} bytes has no header", where=show(path))
    numbers = np.frombuffer(stream[:64], dtype="<u4")
    expected = layout.samples * max(1, layout.allocated // 8)
    if int(numbers[0]) != expected:
        raise BadImage(f"its run-length frame has {numbers[0]} segments, {expected} are needed", where=show(path))
    edges = [int(n) for n in numbers[1 : expected + 1]] + [len(stream)]
    cells = layout.rows * layout.columns if layout.allocated > 1 else (layout.rows * layout.columns + 7) // 8
    for start, end in zip(edges, edges[1:], strict=False):
        if not 64 <= start <= end <= len(stream):
            raise BadImage("its run-length segments lie outside the frame", where=show(path))
        if cells > (end - start) * _SPREADING + 128:
            raise BadImage(
                f"truncated: {end - start} run-length bytes cannot make {layout.rows} x {layout.columns} pixels",
                where=show(path),
            )


def _check_stream(stream: bytes, layout: Layout, path: Path) -> None:
    frame = frame_of(stream)
    if frame is None:
        raise BadImage("a compressed frame has no readable header", where=show(path))
    if (frame.height, frame.width) != (layout.rows, layout.columns) and frame.height:
        raise BadImage(
            f"a compressed frame is {frame.height} x {frame.width}, "
            f"but the header says {layout.rows} x {layout.columns}",
            where=show(path),
        )
    if frame.components != layout.samples:
        raise BadImage(
            f"a compressed frame has {frame.components} components, but the header says {layout.samples}",
            where=show(path),
        )
    if is_cut(stream):
        raise BadImage("truncated: a compressed frame lacks its end", where=show(path))


def _decode(dataset: Any, layout: Layout, path: Path, index: int, stream: bytes | None) -> tuple[np.ndarray, str]:
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    options: dict[str, Any] = {}
    frame = None if stream is None or syntax == RLELossless else frame_of(stream)
    if stream is not None and dicom_codecs.owns(syntax, layout):
        array, photometric = dicom_codecs.decode(stream, frame, layout, syntax, path)
        return _rgb(array, photometric)
    if frame is not None and frame.transformed and layout.photometric.startswith("YBR_FULL"):
        options["photometric_interpretation"] = "RGB"  # the codec already undid its own colour transform
    shift_ourselves = stream is None or syntax == RLELossless
    if shift_ourselves:
        options["correct_unused_bits"] = False
    decoder = _decoder(syntax, path)
    with hush():
        array, properties = decoder.as_array(dataset, index=index, **options)
    photometric = str(properties.get("photometric_interpretation", layout.photometric))
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if shift_ourselves and layout.keyword == "PixelData" and layout.allocated > 1:
        array = mask(array, layout)
    return array, photometric


def mask(array: np.ndarray, layout: Layout) -> np.ndarray:
    """Keep the stored bits alone (overlays may lie in the others) and give them their sign."""
    if layout.stored == layout.allocated:
        return array
    plain = array.view(f"u{array.dtype.itemsize}")
    low = layout.high + 1 - layout.stored
    kept = (plain >> plain.dtype.type(low)) & plain.dtype.type((1 << layout.stored) - 1)
    if not layout.signed:
        return kept
    spare = 8 * array.dtype.itemsize - layout.stored
    return (kept << kept.dtype.type(spare)).view(f"i{array.dtype.itemsize}") >> spare


def _rgb(array: np.ndarray, photometric: str) -> tuple[np.ndarray, str]:
    if photometric not in ("YBR_FULL", "YBR_FULL_422") or array.ndim != 3:
        return array, photometric
    return convert_color_space(array, "YBR_FULL", "RGB"), "RGB"


def _decoder(syntax: UID, path: Path) -> Any:
    """Get pydicom's decoder.

    Raises:
        BadImage: no package reads this transfer syntax.
        MissingExtra: one does and is not installed; it is named.
    """
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise BadImage(
            f"its transfer syntax {syntax} ({syntax.name}) is not supported", where=show(path), do=_CONVERT
        ) from error
    if not decoder.is_available:
        package = "pylibjpeg pylibjpeg-openjpeg" if syntax in _J2K else None
        raise MissingExtra(
            f"no decoder for {syntax.name} ({syntax}) is installed",
            where=show(path),
            do=f"Install it: pip install {package}." if package else _CONVERT,
        )
    return decoder


def codecs() -> list[tuple[str, str, bool]]:
    """List (transfer syntax UID, name, can be read here) of everything this reader knows."""
    from pydicom.pixels.decoders.base import _PIXEL_DATA_DECODERS

    known = {str(uid): (uid.name, decoder.is_available) for uid, (decoder, _) in _PIXEL_DATA_DECODERS.items()}
    known |= {uid: (name, True) for uid, name in dicom_codecs.OWN.items()}
    return [(uid, *known[uid]) for uid in sorted(known)]
