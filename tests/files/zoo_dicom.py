"""DICOM animals: single frames."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import imagecodecs
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, generate_uid
from zoo_case import Case, noise, planes, save, smooth

EXPLICIT, IMPLICIT, BIG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
DEFLATED, RLE = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5"
JPEG, JPEG12, LOSSLESS = (f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 70))
JLS, J2K, HTJ2K, JXL = (f"1.2.840.10008.1.2.4.{n}" for n in (80, 90, 201, 110))
FRAMES = "1.2.840.10008.1.2.8.1"
CT, SC, SR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.88.11"

_STAND_INS = {JXL: "1.2.840.10008.1.2.4.100", FRAMES: J2K}

BYTES = noise(14, 18)
RGB = noise(14, 18, 3, seed=41)
TWELVE = noise(14, 18, seed=42, top=4095, dtype=np.uint16)
STORED = (noise(14, 18, seed=43, top=3000, dtype=np.int16) - 1000).astype(np.int16)
HU = STORED * 1.0 - 24.0
SOFT = smooth(32, 40)


def dataset(pixels: np.ndarray, **facts: Any) -> Dataset:
    """Get a data set with an image pixel module; `facts` win."""
    ds = Dataset()
    ds.SOPClassUID = CT if pixels.ndim == 2 else SC
    ds.SOPInstanceUID = generate_uid(entropy_srcs=[str(pixels.sum()), str(facts)])
    ds.SeriesInstanceUID = generate_uid(entropy_srcs=["series"])
    ds.Modality = "CT"
    colour = pixels.ndim == 3 and pixels.shape[-1] == 3
    ds.Rows, ds.Columns = pixels.shape[:2] if colour else pixels.shape[-2:]
    if pixels.ndim == 3 and not colour:
        ds.NumberOfFrames = len(pixels)
    ds.SamplesPerPixel = 3 if colour else 1
    ds.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        ds.PlanarConfiguration = 0
    bits = 8 * pixels.dtype.itemsize
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits, bits, bits - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    for keyword, value in facts.items():
        setattr(ds, keyword, value)
    return ds


def written(
    ds: Dataset, data: bytes | None, syntax: str = EXPLICIT, *, meta: bool = True, keyword: str = "PixelData"
) -> bytes:
    """Get the bytes of a file. `data` are the raw or encapsulated pixels."""
    if data is not None:
        data += b"\0" * (len(data) % 2)
        setattr(ds, keyword, data)
        if keyword == "PixelData":
            ds[keyword].VR = "OB" if ds.get("BitsAllocated", 8) <= 8 or UID(syntax).is_encapsulated else "OW"
            ds[keyword].is_undefined_length = syntax in (RLE, JPEG, JPEG12, LOSSLESS, JLS, J2K, HTJ2K, JXL, FRAMES)
    buffer = io.BytesIO()
    if not meta:
        ds.save_as(buffer, implicit_vr=syntax == IMPLICIT, little_endian=True)
        return buffer.getvalue()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = UID(ds.SOPClassUID)
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    if not UID(syntax).is_transfer_syntax:
        ds.save_as(buffer, implicit_vr=False, little_endian=True, enforce_file_format=True)
    else:
        ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def dcm(pixels: np.ndarray, syntax: str = EXPLICIT, **facts: Any) -> bytes:
    """Get a plain uncompressed file."""
    order = ">" if syntax == BIG else "<"
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    if syntax == BIG and pixels.dtype.itemsize == 1:
        padded = data + b"\0" * (len(data) % 2)
        return written(dataset(pixels, **facts), padded, syntax)
    return written(dataset(pixels, **facts), data, syntax)


def packed(pixels: np.ndarray, streams: Sequence[bytes], syntax: str, **facts: Any) -> bytes:
    """Get a file with compressed frames."""
    data = encapsulate([s + b"\0" * (len(s) % 2) for s in streams])
    known = _STAND_INS.get(syntax, syntax)  # pydicom does not write syntaxes it does not know
    return written(dataset(pixels, **facts), data, known).replace(_even(known), _even(syntax), 1)


def _even(uid: str) -> bytes:
    return uid.encode() + b"\0" * (len(uid) % 2)


def run_length(ds: Dataset, pixels: np.ndarray) -> bytes:
    """Compress a data set by pydicom's run-length encoder."""
    ds.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    ds["PixelData"].VR = "OW" if pixels.dtype.itemsize > 1 else "OB"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(EXPLICIT)
    ds.compress(UID(RLE), generate_instance_uid=False)
    ds.file_meta.MediaStorageSOPClassUID = UID(ds.SOPClassUID)
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def linear(values: np.ndarray, center: float, width: float) -> np.ndarray:
    """The window of PS3.3 C.11.2.1.2, written as the standard writes it (0 to 1)."""
    out = np.zeros(values.shape)
    for place, x in np.ndenumerate(values):
        if x <= center - 0.5 - (width - 1) / 2:
            out[place] = 0
        elif x > center - 0.5 + (width - 1) / 2:
            out[place] = 1
        else:
            out[place] = (x - (center - 0.5)) / (width - 1) + 0.5
    return out


def item(**facts: Any) -> Dataset:
    """Get a sequence item."""
    ds = Dataset()
    for keyword, value in facts.items():
        setattr(ds, keyword, value)
    return ds


CTFACTS: dict[str, Any] = {"RescaleSlope": 1, "RescaleIntercept": -24}
WINDOWED: dict[str, Any] = {**CTFACTS, "WindowCenter": 40, "WindowWidth": 400}
VALUES: dict[str, Any] = {"values": True}


def cases() -> list[Case]:
    """All animals of this module."""
    return meta_cases() + broken_cases()


def meta_cases() -> list[Case]:
    """File meta information, preambles, trailing bytes, damaged metadata."""
    good = dcm(STORED, **CTFACTS)
    want = {"pixels": planes(HU), "options": VALUES}
    no_syntax = dcm(STORED, **CTFACTS).replace(b"\x02\x00\x10\x00UI\x14\x00" + EXPLICIT.encode() + b"\0", b"")
    jpeg = bytes(imagecodecs.jpeg8_encode(SOFT, level=95))
    lost = packed(SOFT, [jpeg], JPEG).replace(b"\x02\x00\x10\x00UI\x16\x00" + JPEG.encode(), b"")
    bad_frames = written(dataset(STORED), STORED.tobytes()).replace(b"\x20\x00", b"\x20\x00")
    return [
        Case("no-preamble.dcm", save(good[132:]), note="no DICOM preamble", **want),
        Case(
            "no-meta.dcm",
            save(written(dataset(STORED, **CTFACTS), STORED.tobytes(), meta=False)),
            note="no TransferSyntaxUID",
            **want,
        ),
        Case(
            "no-meta-implicit.dcm",
            save(written(dataset(STORED, **CTFACTS), STORED.tobytes(), IMPLICIT, meta=False)),
            note="Implicit",
            **want,
        ),
        Case("no-syntax.dcm", save(no_syntax), note="no TransferSyntaxUID", **want),
        Case("no-syntax-jpeg.dcm", save(lost), refused="does not say how"),
        Case(
            "trailing.dcm",
            save(written(dataset(STORED, **CTFACTS), STORED.tobytes() + b"\0" * 400)),
            note="400 bytes after",
            **want,
        ),
        Case("junk-tail.dcm", save(good + b"\0" * 64), **want),
        Case("program.dcm", save(b"MZ" + good[2:]), note="looks like a program", **want),
        Case("page-polyglot.dcm", save((b"<html>" + b" " * 122) + good[128:]), note="web page", **want),
        Case("dicom.png", save(good), **want),
        Case("dicom-no-name", save(bad_frames), planes(STORED), options=VALUES),
        Case("long-uid.dcm", save(dcm(STORED, **CTFACTS, StudyInstanceUID="1." + "9" * 80)), **want),
        Case(
            "strange-names.dcm",
            save(dcm(STORED, **CTFACTS, PatientName="\u738b^\u5c0f\u6771", SpecificCharacterSet="GB18030")),
            **want,
        ),
        Case(
            "unknown-charset.dcm",
            save(dcm(STORED, **CTFACTS, PatientName="A^B", SpecificCharacterSet="ISO_IR 999")),
            **want,
        ),
        Case("sr.dcm", save(written(report(SR), None)), refused="not an image: Basic Text SR Storage"),
        Case(
            "ko.dcm",
            save(written(report("1.2.840.10008.5.1.4.1.1.88.59"), None)),
            refused="Key Object Selection Document",
        ),
        Case(
            "pr.dcm", save(written(report("1.2.840.10008.5.1.4.1.1.11.1"), None)), refused="Softcopy Presentation State"
        ),
        Case("pdf.dcm", save(written(report("1.2.840.10008.5.1.4.1.1.104.1"), None)), refused="Encapsulated PDF"),
        Case("plan.dcm", save(written(report("1.2.840.10008.5.1.4.1.1.481.5"), None)), refused="RT Plan"),
        Case("no-pixels.dcm", save(written(dataset(STORED), None)), refused="not an image: CT Image Storage"),
    ]


def report(sop_class: str) -> Dataset:
    """Get an object without pixels."""
    return item(SOPClassUID=sop_class, SOPInstanceUID="1.2.3.4", Modality="SR", PatientID="p")


def broken_cases() -> list[Case]:
    """Files that must be refused."""
    good = dcm(STORED, **CTFACTS)
    jpeg = bytes(imagecodecs.jpeg8_encode(SOFT, level=95))
    j2k = bytes(imagecodecs.jpeg2k_encode(SOFT, level=0, codecformat="j2k"))
    tiny = np.array([1, 64] + [0] * 14, "<u4").tobytes() + b"\x81\0\x81\0"
    huge = {"Rows": 60000, "Columns": 60000}
    few = np.array([3, 64, 66, 68] + [0] * 12, "<u4").tobytes() + b"\x81\0" * 3
    outside = np.array([1, 9999] + [0] * 14, "<u4").tobytes() + b"\x81\0"
    frames = noise(3, 14, 18)
    small = dataset(BYTES)
    return [
        Case("cut-pixels.dcm", save(good[:-62]), refused="truncated"),
        Case("cut-header.dcm", save(good[:400]), refused="not an image"),
        Case("preamble-only.dcm", save(b"\0" * 128 + b"DICM"), refused="no DICOM elements"),
        Case("short-pixels.dcm", save(written(small, BYTES.tobytes()[:100])), refused="truncated: 100 of 252 bytes"),
        Case("no-rows.dcm", save(dcm(BYTES, Rows=0)), refused="Rows or Columns"),
        Case(
            "private-syntax.dcm",
            save(written(dataset(BYTES), BYTES.tobytes(), "1.2.3.4.5")),
            refused="1.2.3.4.5 is not known",
        ),
        Case(
            "mpeg.dcm",
            save(packed(BYTES, [b"\0\0\1\xb3" * 9], "1.2.840.10008.1.2.4.100")),
            refused="1.2.840.10008.1.2.4.100",
        ),
        Case("cut-jpeg.dcm", save(packed(SOFT, [jpeg[: len(jpeg) // 2]], JPEG)), refused="lacks its end"),
        Case("cut-j2k.dcm", save(packed(SOFT, [j2k[: len(j2k) // 2]], J2K)), refused="lacks its end"),
        Case("no-jpeg.dcm", save(packed(SOFT, [b"\1\2\3\4" * 40], JPEG)), refused="no readable header"),
        Case(
            "jpeg-other-size.dcm",
            save(packed(SOFT, [jpeg], JPEG, Rows=99)),
            refused="is 32 x 40, but the header says 99 x 40",
        ),
        Case("jpeg-other-colour.dcm", save(packed(np.stack([SOFT] * 3, -1), [jpeg], JPEG)), refused="1 components"),
        Case(
            "raw-claims-jpeg.dcm",
            save(dcm(BYTES).replace(EXPLICIT.encode() + b"\0", b"1.2.840.10008.1.2.4.50"[:20])),
            refused="is not known",
        ),
        Case("rle-bomb.dcm", save(packed(BYTES, [tiny], RLE, **huge)), refused="too large"),
        Case(
            "rle-liar.dcm", save(packed(BYTES, [tiny], RLE, Rows=9000, Columns=9000)), refused="cannot make 9000 x 9000"
        ),
        Case("rle-segments.dcm", save(packed(BYTES, [few], RLE)), refused="3 segments, 1 are needed"),
        Case("rle-outside.dcm", save(packed(BYTES, [outside], RLE)), refused="outside the frame"),
        Case("rle-short.dcm", save(packed(BYTES, [b"\1\0"], RLE)), refused="has no header"),
        Case("huge-claim.dcm", save(dcm(BYTES, **huge)), refused="too large"),
        Case("frames-claim.dcm", save(dcm(BYTES, NumberOfFrames=7)), refused="holds 7 frames"),
        Case("frames-claim.dcm", save(dcm(BYTES, NumberOfFrames=7)), refused="truncated", index=2),
        Case("cine.dcm", save(dcm(frames)), refused="holds 3 frames"),
        Case("cine.dcm", save(dcm(frames)), planes(frames[2] / np.float32(255)), index=2, within=1e-6),
        Case("cine.dcm", save(dcm(frames)), refused="frames 0 to 2", index=3),
        Case(
            "missing-frames.dcm",
            save(packed(np.stack([SOFT] * 3), [jpeg, jpeg], JPEG)),
            refused="2 of 3 frames",
            index=0,
        ),
    ]
