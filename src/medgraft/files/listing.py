"""Which images a file or a folder holds."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from medgraft.errors import BadImage
from medgraft.files.form import MAX_BYTES, hush
from medgraft.files.sniff import JUNK_NAMES, show, sniff
from medgraft.values import ImageRef

_SMALLEST_SERIES = 3
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
_SPLITTERS = ("AcquisitionNumber", "TriggerTime", "InversionTime", "FlipAngle")
_NOT_IMAGES = {
    "1.2.840.10008.5.1.4.1.1.66.4": "a segmentation (DICOM SEG), not an image",
    "1.2.840.10008.5.1.4.1.1.66.7": "a label map segmentation (DICOM SEG), not an image",
}
Problem = Callable[[Path, str], None]


class _Slice(NamedTuple):
    """One file of a series: where its corner lies, and what may tell phases apart."""

    path: Path
    corner: tuple[float, ...]
    moments: dict[str, str]


def list_images(
    path: Path | str, *, on_problem: Problem | None = None, series: bool = True, frames: bool = False
) -> list[ImageRef]:
    """List the images of a file, or of a folder and all folders below it, sorted by path.

    Args:
        path: a file or a folder.
        on_problem: called with (path, reason) for every file that is no image.
        series: True to join the slices of a DICOM series that form a volume into one reference.
        frames: True to get one reference a frame for a file with many frames that is no volume.

    Raises:
        BadImage: `path` does not exist, or is one file and no image.
    """
    path = Path(path)
    if not path.is_dir():
        kind = sniff(path)
        return _expand([(ImageRef(path), kind.format)], frames)
    said: Problem = on_problem or (lambda _path, _reason: None)
    plain: list[tuple[ImageRef, str]] = []
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
            plain.append((ImageRef(file), kind.format))
    plain += [(ref, "dicom") for ref in _group(dicom, said, series)]
    plain.sort(key=lambda pair: (str(pair[0].path), str(pair[0].files[:1])))
    return _expand(plain, frames)


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


def _expand(found: Sequence[tuple[ImageRef, str]], frames: bool) -> list[ImageRef]:
    if not frames:
        return [ref for ref, _ in found]
    from medgraft.files.read import header

    out: list[ImageRef] = []
    for ref, format_ in found:
        count = 1
        if not ref.files and not _is_volume_file(ref.path, format_):
            try:
                count = header(ref.path).frames
            except BadImage:
                count = 1
        out += [ref] if count == 1 else [ImageRef(ref.path, index=k) for k in range(count)]
    return out


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


def _group(files: Sequence[Path], on_problem: Problem, series: bool) -> list[ImageRef]:
    """Join DICOM files to series where they form a volume."""
    groups: dict[Any, list[_Slice]] = defaultdict(list)
    out: list[ImageRef] = []
    for path in files:
        try:
            with hush():
                found, key = _key(path)
        except Exception as error:
            on_problem(path, getattr(error, "what", None) or f"damaged DICOM file ({error})")
            continue
        if key is None or not series:
            out.append(ImageRef(path))
        else:
            groups[key].append(found)
    for members in groups.values():
        out += _series(members)
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
        return _Slice(path, (), {}), None
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
