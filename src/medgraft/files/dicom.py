"""DICOM: single frames, multi-frame files and series.

Parts: `dicom_open`, `dicom_pixels`, `dicom_values`, `dicom_volume`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from medgraft.files import dicom_values as stage
from medgraft.files.dicom_open import open_dataset
from medgraft.files.dicom_pixels import Layout, frames, layout_of, trailing
from medgraft.files.form import Format, Header, Wish, hush, pick, robust_range, window_range
from medgraft.values import Image, ImageRef

FACTS = [
    "SOPClassUID",
    "SOPInstanceUID",
    "Modality",
    "PatientID",
    "PatientSex",
    "PatientAge",
    "PatientBirthDate",
    "StudyInstanceUID",
    "StudyDate",
    "SeriesInstanceUID",
    "SeriesDescription",
    "SeriesNumber",
    "InstanceNumber",
    "BodyPartExamined",
    "ViewPosition",
    "Laterality",
    "ImageLaterality",
    "Manufacturer",
    "ManufacturerModelName",
    "InstitutionName",
    "PhotometricInterpretation",
    "BurnedInAnnotation",
    "LossyImageCompression",
    "ConversionType",
]
_REFERRED = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
_GEOMETRY = {
    "PixelSpacing": "PixelMeasuresSequence",
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
}


def facts_of(dataset: Any) -> dict[str, str]:
    """Get the header facts the survey uses, as one-line texts; absent and empty ones are left out."""
    found = {}
    for keyword in FACTS:
        try:
            value = dataset.get(keyword)
        except Exception:  # a damaged element of metadata costs that element alone
            continue
        text = " ".join(str(value if value is not None else "").split())
        if text:
            found[keyword] = text[:200]
    if "ICCProfile" in dataset:
        found["icc_profile"] = f"{len(dataset.ICCProfile or b'')} bytes"
    found["TransferSyntaxUID"] = str(dataset.file_meta.get("TransferSyntaxUID", ""))
    return found


def read(ref: ImageRef, wish: Wish) -> Image:
    """Read a frame as it is shown, a frame's values, or a volume; see `read_image`."""
    with hush():
        return _read(ref, wish)


def _read(ref: ImageRef, wish: Wish) -> Image:
    from medgraft.files import dicom_volume

    if ref.files:
        return dicom_volume.read_series(ref, wish)
    dataset, notes = open_dataset(ref.path, pixels=True, max_bytes=wish.max_bytes)
    layout = layout_of(dataset, ref.path)
    if ref.index is None and layout.frames > 1 and dicom_volume.is_volume(dataset, layout):
        return dicom_volume.read_frames(ref, dataset, layout, wish, notes)
    index = pick(ref.index, layout.frames, ref.path, word="frame")
    return _single(ref, dataset, layout, index, wish, notes)


def _single(ref: ImageRef, dataset: Any, layout: Layout, index: int, wish: Wish, notes: list[str]) -> Image:
    from medgraft.files import dicom_volume

    stored, photometric = next(iter(frames(dataset, layout, ref.path, [index], wish.max_bytes)))
    notes += trailing(dataset, layout)
    facts = facts_of(dataset)
    spacing, affine = spacing_of(dataset, index), dicom_volume.plane_affine(dataset, layout, index)
    if layout.samples == 3 or photometric == "PALETTE COLOR":
        pixels, bits = colour(stored, dataset, layout, photometric)
        return Image(pixels, (0.0, 1.0), str(ref), "display", bits, spacing, affine, tuple(notes), facts)
    values, unit, empty, more = values_of(stored, dataset, layout, index)
    notes += more
    if "MOSAIC" in str(dataset.get("ImageType", "")):
        notes.append("a mosaic: many slices side by side in one picture")
    if wish.values:
        low_high = value_range(values, dataset, index, wish)
        if stage.inverted(dataset, layout):
            notes.append("low values are white in this file; values are not inverted")
        pixels = values.astype(np.float32)[None]
        return Image(pixels, low_high, str(ref), unit, layout.stored, spacing, affine, tuple(notes), facts)
    shown, more = stage.displayed(values, empty, dataset, layout, index, wish.window)
    notes += more
    return Image(shown[None], (0.0, 1.0), str(ref), "display", layout.stored, spacing, affine, tuple(notes), facts)


def values_of(
    stored: np.ndarray, dataset: Any, layout: Layout, index: int
) -> tuple[np.ndarray, str, np.ndarray | None, list[str]]:
    """Get modality values `(H, W)` of a gray frame, their unit, where padding is, and notes."""
    empty = stage.padding(stored, dataset, layout)
    values, unit, notes = stage.modality(stored, dataset, index)
    values, more = stage.dose(values, dataset)
    notes += more
    values, more = stage.cleaned(values)
    notes += more
    values, more = stage.fill(values, empty)
    return values, unit, empty, notes + more


def value_range(values: np.ndarray, dataset: Any, index: int, wish: Wish) -> tuple[float, float]:
    """Get black and white for values: the caller's window, the file's, or percentiles."""
    if wish.window is not None:
        return window_range(wish.window)
    window, _, _ = stage.window_of(dataset, index)
    if window is not None:
        return window_range((window.center, window.width))
    return robust_range(values)


def colour(stored: np.ndarray, dataset: Any, layout: Layout, photometric: str) -> tuple[np.ndarray, int]:
    """Get `(3, H, W)` in 0..1 and bits of a colour frame (RGB after decoding, or palette indices)."""
    bits = layout.stored
    if photometric == "PALETTE COLOR":
        from pydicom.pixels.processing import apply_color_lut

        stored = apply_color_lut(stored, dataset)
        bits = 8 * stored.dtype.itemsize
        if bits == 16 and int(dataset.RedPaletteColorLookupTableDescriptor[2]) <= 8:
            bits = 8
    elif photometric != "RGB":
        from medgraft.errors import BadImage

        raise BadImage(f"its colours ({photometric}) could not be turned into RGB")
    planes = np.moveaxis(stored, -1, 0).astype(np.float32) / np.float32(2**bits - 1)
    return np.ascontiguousarray(planes), bits


def spacing_of(dataset: Any, index: int) -> tuple[float, ...] | None:
    """Get (row, column) spacing in millimetres of a frame, or None where the file does not say."""
    macro = stage.from_groups(dataset, index, "PixelMeasuresSequence")
    for source, keyword in ((macro, "PixelSpacing"), (dataset, "PixelSpacing"), (dataset, "ImagerPixelSpacing")):
        value = None if source is None else source.get(keyword)
        try:
            pair = tuple(float(v) for v in value) if value is not None else ()
        except (TypeError, ValueError):
            continue
        if len(pair) == 2 and all(np.isfinite(v) and v > 0 for v in pair):
            return pair
    return None


def referred(ref: ImageRef) -> dict[str, Any]:
    """Get what an object derived from a frame needs to refer to it and to lie on it, DICOM keyword -> value.

    The UIDs that are there, the geometry that is there (numbers as floats), `Rows`, `Columns`, `NumberOfFrames` of
    the file, and `frame`, counted from 1 as DICOM does. Nothing of the patient.

    Raises:
        BadImage: the header cannot be read.
    """
    from medgraft.files.form import MAX_BYTES

    with hush():
        dataset, _ = open_dataset(ref.path, pixels=False, max_bytes=MAX_BYTES)
        layout = layout_of(dataset, ref.path, with_pixels=False)
        index = pick(ref.index, layout.frames, ref.path, word="frame")
        found: dict[str, Any] = {name: str(dataset.get(name)) for name in _REFERRED if dataset.get(name)}
        for keyword, sequence in _GEOMETRY.items():
            numbers = _numbers(stage.from_groups(dataset, index, sequence), keyword) or _numbers(dataset, keyword)
            if numbers:
                found[keyword] = numbers
    size = {"Rows": layout.rows, "Columns": layout.columns, "NumberOfFrames": layout.frames}
    return {**found, **size, "frame": index + 1}


def _numbers(source: Any, keyword: str) -> list[float]:
    """Get the finite numbers of an element, or none at all."""
    try:
        found = [float(value) for value in source.get(keyword)] if source is not None else []
    except (TypeError, ValueError):
        return []
    return found if np.isfinite(found).all() else []


def header(path: Path) -> Header:
    """Get layout and facts of a DICOM file without its pixels."""
    from medgraft.files.form import MAX_BYTES

    with hush():
        dataset, _ = open_dataset(path, pixels=False, max_bytes=MAX_BYTES)
        layout = layout_of(dataset, path, with_pixels=False)
        facts = facts_of(dataset)
    channels = 3 if layout.samples == 3 or layout.photometric == "PALETTE COLOR" else 1
    shape = (channels, layout.rows, layout.columns)
    size = layout.bytes_a_frame * layout.frames
    return Header("dicom", shape, layout.frames, layout.stored, size, facts)


FORMAT = Format("dicom", header, read)
