"""Small writers that other rooms need: PNG, NIfTI and DICOM."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo

from medgraft.storage import write_atomic

_LONGEST_NIFTI_1 = 32767  # sides are 16-bit numbers there
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_CLASSES = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "CR": "1.2.840.10008.5.1.4.1.1.1",
    "DX": "1.2.840.10008.5.1.4.1.1.1.1",
    "US": "1.2.840.10008.5.1.4.1.1.6.1",
}


def save_png(path: Path, array: np.ndarray, *, text: Mapping[str, str] | None = None, effort: int = 6) -> None:
    """Write `(H, W)` or `(H, W, 3)` uint8, or `(H, W)` uint16, as a PNG, whole or not at all.

    Args:
        path: the file to write.
        array: the pixels.
        text: PNG text chunks, keyword -> words, such as `{"Comment": "..."}`.
        effort: 0 to 9; of a noisy photograph 6 takes three times as long as 2 and saves a tenth of the bytes.

    Raises:
        ValueError: another shape or number type.
    """
    deep = array.dtype == np.uint16 and array.ndim == 2
    if not deep and (array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] != 3)):
        raise ValueError(f"a PNG takes (H, W) or (H, W, 3) uint8, not {array.shape} {array.dtype}")
    buffer, chunks = BytesIO(), PngInfo()
    for keyword, words in (text or {}).items():
        chunks.add_text(keyword, words)
    Pillow.fromarray(np.ascontiguousarray(array)).save(buffer, format="PNG", pnginfo=chunks, compress_level=effort)
    data = buffer.getvalue()
    write_atomic(Path(path), lambda file: _write(file, data), needed_bytes=len(data))


def save_nifti(
    path: Path,
    values: np.ndarray,
    *,
    affine: np.ndarray | None = None,
    spacing_mm: tuple[float, ...] | None = None,
    note: str = "",
    shown: tuple[float, float] | None = None,
    effort: int = 6,
) -> None:
    """Write numbers as a gzipped NIfTI file that lies on an image of the same grid, whole or not at all.

    Args:
        path: the file to write, NAME.nii.gz.
        values: `(H, W)` or `(D, H, W)`, as `read_image` lays out the axes; int16, int32 and uint8 are written as they
            are, everything else as float32.
        affine: of the image, array index `(d, h, w)` -> RAS millimetres; None says that no space is known.
        spacing_mm: of the image, in the order of the axes; not looked at where there is an affine.
        note: at most 79 characters that the header carries.
        shown: (black, white), by which the file is then shown, here and by others.
        effort: 0 to 9; of a noisy scan 6 takes four times as long as 1 and saves a tenth of the bytes.
    """
    import nibabel

    solid = values[None] if values.ndim == 2 else values
    space = None if affine is None else np.asarray(affine, np.float64)[:, [2, 1, 0, 3]]
    kind = nibabel.Nifti2Image if max(solid.shape) > _LONGEST_NIFTI_1 else nibabel.Nifti1Image
    number = solid.dtype.newbyteorder("=") if solid.dtype in (np.int16, np.int32, np.uint8) else np.float32
    made = kind(np.ascontiguousarray(solid.T, dtype=number), space)
    header: Any = made.header
    if space is None:
        # Without a code readers know that directions are not known; a false "left" would be worse.
        steps = spacing_mm or (1.0,) * values.ndim
        header.set_zooms(tuple((1.0,) * (3 - len(steps)) + tuple(steps))[::-1])
        header.set_sform(None, code=0)
        header.set_qform(None, code=0)
    if space is not None or spacing_mm:
        header.set_xyzt_units("mm")
    if shown is not None:
        header["cal_min"], header["cal_max"] = shown
    header["descrip"] = note.encode("ascii", "replace")[:79]
    data = gzip.compress(made.to_bytes(), compresslevel=effort, mtime=0)
    write_atomic(Path(path), lambda file: _write(file, data), needed_bytes=len(data))


def _write(file: Any, data: bytes) -> None:
    file.write(data)


def write_dicom(path: Path, pixels: np.ndarray, **facts: Any) -> None:
    """Write pixels as an uncompressed DICOM file.

    Args:
        path: the file to write.
        pixels: `(H, W)` or frames `(N, H, W)` of uint8, uint16 or int16, or `(H, W, 3)` uint8.
        **facts: any DICOM keyword, such as `PatientID="p1"`, `Modality="CT"`, `RescaleIntercept=-1024`;
            they win over what follows from the pixels. UIDs that are not given follow from path and pixels,
            so the same call writes the same file.
    """
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

    colour = pixels.ndim == 3 and pixels.shape[-1] == 3
    if pixels.dtype not in (np.uint8, np.uint16, np.int16) or pixels.ndim not in (2, 3):
        raise ValueError(
            f"DICOM takes (H, W), (N, H, W) or (H, W, 3) of 8 or 16 bits, not {pixels.shape} {pixels.dtype}"
        )
    seeds = [str(path), str(sorted(facts.items())), pixels.tobytes().hex()[:4096], str(pixels.sum())]
    dataset = Dataset()
    modality = str(facts.get("Modality", "OT"))
    dataset.SOPClassUID = _CLASSES.get(modality, _SECONDARY_CAPTURE)
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        setattr(dataset, keyword, generate_uid(entropy_srcs=[keyword, *seeds]))
    dataset.Modality = modality
    if not colour and pixels.ndim == 3:
        dataset.NumberOfFrames = len(pixels)
    dataset.Rows, dataset.Columns = pixels.shape[:2] if colour else pixels.shape[-2:]
    dataset.SamplesPerPixel = 3 if colour else 1
    dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        dataset.PlanarConfiguration = 0
    bits = 8 * pixels.dtype.itemsize
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    for keyword, value in facts.items():
        setattr(dataset, keyword, value)
    data = np.ascontiguousarray(pixels).astype(pixels.dtype.newbyteorder("<")).tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = UID(dataset.SOPClassUID)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = UID(ExplicitVRLittleEndian)
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    whole = buffer.getvalue()
    write_atomic(Path(path), lambda file: _write(file, whole), needed_bytes=len(whole))
