"""The files of a map: numbers in the file's own rows and columns, for programs that lay them on the image."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medgraft import storage
from medgraft.errors import BadImage
from medgraft.explanation.explainer import Explained
from medgraft.files import referred, save_nifti
from medgraft.values import ImageRef

_STEPS = 10_000  # stored numbers of a DICOM map: its slope, 0.0001, is exact in DICOM's decimal texts


def save_numbers(found: Explained, ref: ImageRef, *, stem: Path, nifti: bool = False) -> dict[str, Path]:
    """Write a map in the forms that suit its file, and get them: form -> path.

    Args:
        found: the map.
        ref: its image.
        stem: folder and beginning of the names. STEM.npy is the map as float32. Of a NIfTI file STEM.nii.gz follows,
            on the file's grid with its affine; of a DICOM file STEM.dicom.npy (uint16, what pixel data would hold)
            and STEM.dicom.json (what an object derived from the file has to say).
        nifti: True writes STEM.nii.gz of every file.
    """
    written = {"npy": stem.with_name(f"{stem.name}.npy")}
    storage.write_atomic(written["npy"], lambda file: np.save(file, found.map))
    source = found.source
    if nifti or source.facts.get("container") == "nifti":
        written["nifti"] = stem.with_name(f"{stem.name}.nii.gz")
        note = f"medgraft {found.method} {found.answer}".strip()
        save_nifti(written["nifti"], found.map, affine=source.affine, spacing_mm=source.spacing_mm, note=note)
    if "TransferSyntaxUID" in source.facts:
        written |= _save_dicom_ready(found, ref, stem)
    return written


def _save_dicom_ready(found: Explained, ref: ImageRef, stem: Path) -> dict[str, Path]:
    """Write what a writer of DICOM objects needs: stored numbers, and the elements that go with them."""
    place = referred(ref)
    if found.map.shape != (place["Rows"], place["Columns"]):
        raise BadImage(f"its map has {found.map.shape}, its frame {place['Rows']} x {place['Columns']}", where=ref.path)
    pixels, words = stem.with_name(f"{stem.name}.dicom.npy"), stem.with_name(f"{stem.name}.dicom.json")
    stored = np.rint(np.clip(found.map, 0, 1) * _STEPS).astype(np.uint16)
    storage.write_atomic(pixels, lambda file: np.save(file, stored))
    references = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "frame")
    told = {
        "source": {name: place[name] for name in references if name in place},
        **{name: place[name] for name in place if name not in references and name != "NumberOfFrames"},
        "NumberOfFrames": 1,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        "RescaleSlope": 1 / _STEPS,
        "RescaleIntercept": 0,
        "DerivationDescription": f"medgraft {found.method}{f' of {found.answer}' if found.answer else ''}",
        "faults": list(found.sanity.faults),
    }
    storage.write_json(words, told)
    return {"dicom": pixels, "dicom_words": words}
