"""Which images a file or a folder holds."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from medgraft.errors import BadImage
from medgraft.files.form import MAX_BYTES, UNLIKE, hush
from medgraft.files.sniff import JUNK_NAMES, Kind, show, sniff
from medgraft.values import ImageRef

_SMALLEST_SERIES = 3
_ONE_PICTURE = ("jpeg", "bmp")
_TAGS = [
    "SOPClassUID",
    "Modality",
    "SeriesInstanceUID",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "Rows",
    "Columns",
    "ImageType",
    "EchoTime",
    "TemporalPositionIdentifier",
    "DiffusionBValue",
    "AcquisitionNumber",
    "TriggerTime",
    "NumberOfFrames",
    "PixelSpacing",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PerFrameFunctionalGroupsSequence",
    "SharedFunctionalGroupsSequence",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "InversionTime",
    "FlipAngle",
]
FRAME = re.compile(r"(.+)#(\d{1,9})", re.DOTALL | re.ASCII)
"""A frame as `ImageRef` prints it: the file, and the index."""

_SPLITTERS = ("AcquisitionNumber", "TriggerTime", "InversionTime", "FlipAngle")
_NOT_IMAGES = {
    "1.2.840.10008.5.1.4.1.1.66.4": "a segmentation (DICOM SEG), not an image",
    "1.2.840.10008.5.1.4.1.1.66.7": "a label map segmentation (DICOM SEG), not an image",
}
Problem = Callable[[Path, str], None]


class _Slice(NamedTuple):
    """One file of a series: where its corner lies, what may tell phases apart, and how many frames it holds."""

    path: Path
    corner: tuple[float, ...]
    moments: dict[str, str]
    frames: int = 1


class _Found(NamedTuple):
    """An image or a file of several, its format, and how many frames it holds where that is known already."""

    ref: ImageRef
    format: str
    frames: int | None = None


def ref_named(path: Path | str) -> ImageRef:
    """Get what a path means: `cine.dcm#2` is frame 2 of cine.dcm where no file has the name cine.dcm#2.

    Example:
        >>> str(ref_named("no/such/file#2"))
        'no/such/file#2'
        >>> ref_named("no/such/file#2").index is None
        True
    """
    match = None if os.path.lexists(path) else FRAME.fullmatch(str(path))
    if match is None or not is_there(Path(match[1])) or Path(match[1]).is_dir():
        return ImageRef(Path(path))
    return ImageRef(Path(match[1]), index=int(match[2]))


def is_there(path: Path) -> bool:
    """Tell whether a path is a file, a folder, or an array named as if its npz were a folder."""
    return os.path.exists(path) or _in_archive(path)  # noqa: PTH110 - a name too long is not there, and no error


def _in_archive(path: Path) -> bool:
    return path.parent.suffix.lower() == ".npz" and os.path.isfile(path.parent)  # noqa: PTH113


def list_images(
    path: Path | str, *, on_problem: Problem | None = None, series: bool = True, frames: bool = False
) -> list[ImageRef]:
    """List the images of a file, or of a folder and all folders below it, sorted by path.

    Args:
        path: a file, a folder, a frame as `FILE#2`, or an array as `FILE.npz/NAME`.
        on_problem: called with (path, reason) for every file that is no image.
        series: True to keep volumes whole: the slices of a DICOM series that form one are joined into one reference,
            and neither the frames of a multi-frame volume nor the slices of an array are taken apart by `frames`.
        frames: True to get one reference a frame for a file with many frames.

    Raises:
        BadImage: `path` does not exist, or is one file and no image.
    """
    asked = ref_named(path)
    path = asked.path
    if not path.is_dir():
        found = _Found(asked, "array") if _in_archive(path) else _found(path, sniff(path))
        return [asked] if asked.index is not None else _expand([found], frames, series)
    said: Problem = on_problem or (lambda _path, _reason: None)
    plain: list[_Found] = []
    dicom: list[Path] = []
    for file in walk(path, said):
        try:
            kind = sniff(file)
        except BadImage as error:
            said(file, error.what)
            continue
        if kind.format == "dicom":
            dicom.append(file)
        elif kind.format != "nifti" or not _second_half(file):
            plain.append(_found(file, kind))
    plain += _group(dicom, said, series)
    plain.sort(key=lambda found: (str(found.ref.path), str(found.ref.files[:1])))
    return _expand(plain, frames, series)


def _found(path: Path, kind: Kind) -> _Found:
    # A second picture in a photograph (MPO) is a preview or a map of depth: no frame, so such a file stays refused.
    return _Found(ImageRef(path), kind.format, 1 if kind.word in _ONE_PICTURE else None)


def walk(folder: Path, on_problem: Problem) -> Iterator[Path]:
    """Get every file below a folder in sorted order, without hidden and system files; links that loop are named."""
    yield from _walk(folder, on_problem, (os.path.realpath(folder),))


def _walk(folder: Path, on_problem: Problem, above: tuple[str, ...]) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        on_problem(folder, f"cannot be listed ({error.strerror})")
        return
    for entry in entries:
        place = Path(entry.path)
        if entry.name.startswith(".") or entry.name.lower() in JUNK_NAMES or entry.name == "__MACOSX":
            continue
        try:
            is_folder = entry.is_dir()
        except OSError:
            is_folder = False
        if not is_folder:
            yield place
            continue
        real = os.path.realpath(entry.path)
        if real in above:
            on_problem(place, "a symlink that leads back to a folder above it")
            continue
        yield from _walk(place, on_problem, (*above, real))


def _second_half(path: Path) -> bool:
    """Tell whether a file is the .img of a pair whose .hdr is listed."""
    lower = path.name.lower().removesuffix(".gz")
    if not lower.endswith(".img"):
        return False
    stem = path.name[: len(lower) - 4]
    return any((path.parent / (stem + end)).is_file() for end in (".hdr", ".hdr.gz", ".HDR"))


def _expand(found: Sequence[_Found], frames: bool, volumes: bool) -> list[ImageRef]:
    out: list[ImageRef] = []
    for one in found:
        count = _frames_of(one, volumes) if frames and not one.ref.files else 1
        out += [one.ref] if count == 1 else [ImageRef(one.ref.path, index=k) for k in range(count)]
    return out


def _frames_of(found: _Found, volumes: bool) -> int:
    """Count the images of a file that can be read one by one; 1 where it is one image, or reading it says why not."""
    from medgraft.files.read import header

    path = found.ref.path
    if found.frames is not None and (found.frames == 1 or not volumes):
        return found.frames
    if volumes and _is_volume_file(path, found.format):
        return 1
    try:
        held = header(path)
    except BadImage:
        return 1
    if held.facts.get("pages") == UNLIKE:
        return 1
    if volumes or len(held.shape) == 3:
        return held.frames
    return held.shape[1] if found.format == "array" else 1  # the slices of a NIfTI volume have no names


def _is_volume_file(path: Path, format_: str) -> bool:
    if format_ != "dicom":
        return False
    from medgraft.files import dicom_volume
    from medgraft.files.dicom_open import open_dataset
    from medgraft.files.dicom_pixels import layout_of

    try:
        dataset, _ = open_dataset(path, pixels=False, max_bytes=MAX_BYTES)
        layout = layout_of(dataset, path, with_pixels=False)
        return layout.frames > 1 and dicom_volume.is_volume(dataset, layout)
    except Exception:
        return False


def _group(files: Sequence[Path], on_problem: Problem, series: bool) -> list[_Found]:
    """Join DICOM files to series where they form a volume."""
    groups: dict[Any, list[_Slice]] = defaultdict(list)
    out: list[_Found] = []
    for path in files:
        try:
            with hush():
                found, key = _key(path)
        except Exception as error:
            on_problem(path, getattr(error, "what", None) or f"damaged DICOM file ({error})")
            continue
        if key is None or not series:
            out.append(_Found(ImageRef(path), "dicom", found.frames))
        else:
            groups[key].append(found)
    for members in groups.values():
        out += [_Found(ref, "dicom", 1) for ref in _series(members)]
    return out


def _key(path: Path) -> tuple[_Slice, Any]:
    """Get a file as a slice, and what slices of one volume share; None for an image that stands alone.

    Raises:
        BadImage: it is no image.
    """
    from pydicom.datadict import tag_for_keyword

    from medgraft.files import dicom_volume
    from medgraft.files.dicom_open import open_dataset
    from medgraft.files.dicom_pixels import layout_of

    tags = [tag for tag in (tag_for_keyword(word) for word in _TAGS) if tag is not None]
    dataset, _ = open_dataset(path, pixels=False, max_bytes=MAX_BYTES, tags=tags)
    reason = _NOT_IMAGES.get(str(dataset.get("SOPClassUID", "")))
    if reason:
        raise BadImage(reason, where=show(path))
    layout = layout_of(dataset, path, with_pixels=False)
    if dicom_volume.is_localizer(dataset):
        raise BadImage("a localizer (scout), left out", where=show(path))
    place = dicom_volume.place_of(dataset, 0, path.name)
    if place is None or layout.frames > 1 or layout.samples > 1 or not dataset.get("SeriesInstanceUID"):
        return _Slice(path, (), {}, layout.frames), None
    corner = tuple(round(float(v), 3) for v in place.corner)
    found = _Slice(path, corner, {word: str(dataset.get(word, "")) for word in _SPLITTERS})
    ways = tuple(round(float(v), 2) + 0.0 for v in (*place.along_row, *place.along_column))
    kind = tuple(str(word) for word in dataset.get("ImageType") or ())
    moments = tuple(
        str(dataset.get(word, "")) for word in ("EchoTime", "TemporalPositionIdentifier", "DiffusionBValue")
    )
    key = (str(path.parent), str(dataset.SeriesInstanceUID), ways, layout.rows, layout.columns, kind, moments)
    return found, key


def _series(members: Sequence[_Slice]) -> list[ImageRef]:
    """Get one reference a volume, or one a file when there are too few places for one."""
    places = {member.corner for member in members}
    if len(places) < _SMALLEST_SERIES:
        return [ImageRef(member.path) for member in members]
    if len(places) < len(members):
        for word in _SPLITTERS:
            parts: dict[str, list[_Slice]] = defaultdict(list)
            for member in members:
                parts[member.moments[word]].append(member)
            if len(parts) > 1 and all(len({m.corner for m in part}) == len(part) for part in parts.values()):
                return [ref for part in parts.values() for ref in _series(part)]
    files = tuple(sorted(member.path for member in members))
    return [ImageRef(files[0].parent, files=files)]
