"""DICOM animals: single frames."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import imagecodecs
import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence as Items
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
    return (
        value_cases() + display_cases() + bit_cases() + colour_cases() + coded_cases() + meta_cases() + broken_cases()
    )


def value_cases() -> list[Case]:
    """Modality values."""
    lut = Items(
        [
            item(
                LUTDescriptor=[4096, 0, 16],
                LUTData=(3 * np.arange(4096) + 7).astype("<u2").tobytes(),
                ModalityLUTType="US",
            )
        ]
    )
    pad = STORED.copy()
    pad[:5] = -2000
    bare = np.where(pad == -2000, pad[pad > -2000].min(), pad)
    span = STORED.copy()
    span[:2], span[2:4] = -2000, -1990
    covered = np.where(span < -1980, span[span > -1980].min(), span)
    dose = noise(14, 18, seed=50, top=2**31, dtype=np.uint32)
    unit = np.random.default_rng(51).normal(size=(14, 18))
    groups = Items(
        [item(PixelValueTransformationSequence=Items([item(RescaleSlope=2, RescaleIntercept=-100, RescaleType="HU")]))]
    )
    floating = dataset(STORED, BitsAllocated=32)
    del floating.BitsStored, floating.HighBit, floating.PixelRepresentation
    double = dataset(STORED, BitsAllocated=64)
    return [
        Case("hu.dcm", save(dcm(STORED, **CTFACTS)), planes(HU), options=VALUES),
        Case("hu-implicit.dcm", save(dcm(STORED, IMPLICIT, **CTFACTS)), planes(HU), options=VALUES),
        Case("hu-big-endian.dcm", save(dcm(STORED, BIG, **CTFACTS)), planes(HU), options=VALUES),
        Case("hu-deflated.dcm", save(dcm(STORED, DEFLATED, **CTFACTS)), planes(HU), options=VALUES),
        Case(
            "slope.dcm",
            save(dcm(STORED, RescaleSlope="0.5", RescaleIntercept="10")),
            planes(STORED * 0.5 + 10),
            options=VALUES,
        ),
        Case(
            "slope-zero.dcm",
            save(dcm(STORED, RescaleSlope=0, RescaleIntercept=5)),
            planes(STORED + 5),
            options=VALUES,
            note="slope is 0",
        ),
        Case(
            "given-window.dcm",
            save(dcm(STORED, **CTFACTS)),
            planes(HU),
            options={"values": True, "window": (40, 400)},
            range=(-160, 240),
        ),
        Case("own-window.dcm", save(dcm(STORED, **WINDOWED)), planes(HU), options=VALUES, range=(-160, 240)),
        Case(
            "modality-lut.dcm",
            save(dcm(TWELVE, ModalityLUTSequence=lut)),
            planes(3 * TWELVE.astype(int) + 7),
            options=VALUES,
            note="modality LUT",
        ),
        Case(
            "groups-rescale.dcm",
            save(dcm(STORED, SharedFunctionalGroupsSequence=groups)),
            planes(STORED * 2.0 - 100),
            options=VALUES,
        ),
        Case(
            "padding.dcm",
            save(dcm(pad, PixelPaddingValue=-2000)),
            planes(bare),
            options=VALUES,
            note="90 padding pixels",
        ),
        Case(
            "padding-range.dcm",
            save(dcm(span, PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1990)),
            planes(covered),
            options=VALUES,
            note="72 padding",
        ),
        Case(
            "dose.dcm",
            save(dcm(dose, Modality="RTDOSE", DoseGridScaling="0.001", DoseUnits="GY")),
            planes(dose * 0.001),
            within=0.2,
            options=VALUES,
            note="DoseGridScaling",
        ),
        Case(
            "float.dcm",
            save(written(floating, unit.astype("<f4").tobytes(), keyword="FloatPixelData")),
            planes(unit),
            within=1e-6,
            options=VALUES,
        ),
        Case(
            "double.dcm",
            save(written(double, unit.astype("<f8").tobytes(), keyword="DoubleFloatPixelData")),
            planes(unit),
            within=1e-6,
            options=VALUES,
        ),
        Case(
            "bad-slope-text.dcm",
            save(dcm(STORED, **CTFACTS).replace(b"DS\x02\x001 ", b"DS\x02\x00x ")),
            planes(HU),
            options=VALUES,
        ),
    ]


def display_cases() -> list[Case]:
    """What a monitor shows."""
    one = {"range": (0, 1), "within": 1e-6}
    shown = planes(linear(HU, 40, 400))
    voi = Items([item(LUTDescriptor=[256, -100, 8], LUTData=bytes((k * 7) % 256 for k in range(256)))])
    looked = (np.clip(STORED.astype(int) + 100, 0, 255) * 7) % 256 / 255
    two = {**CTFACTS, "WindowCenter": [40, -600], "WindowWidth": [400, 1500]}
    pad = STORED.copy()
    pad[:5] = -2000
    black = linear(pad.astype(float), 40, 400)
    inverse = np.where(pad == -2000, 0.0, 1 - black)
    frame = Items([item(FrameVOILUTSequence=Items([item(WindowCenter=0, WindowWidth=100)]))])
    return [
        Case("window.dcm", save(dcm(STORED, **WINDOWED)), shown, **one),
        Case(
            "window-exact.dcm",
            save(dcm(STORED, **WINDOWED, VOILUTFunction="LINEAR_EXACT")),
            planes(np.clip((HU - 40) / 400 + 0.5, 0, 1)),
            **one,
        ),
        Case(
            "window-sigmoid.dcm",
            save(dcm(STORED, **WINDOWED, VOILUTFunction="SIGMOID")),
            planes(1 / (1 + np.exp(-4 * (HU - 40) / 400))),
            **one,
        ),
        Case("two-windows.dcm", save(dcm(STORED, **two)), shown, note="first of 2 windows", **one),
        Case(
            "window-one.dcm",
            save(dcm(STORED, **CTFACTS, WindowCenter=40, WindowWidth=1)),
            planes((HU > 39.5) * 1.0),
            **one,
        ),
        Case(
            "window-zero.dcm",
            save(dcm(BYTES, WindowCenter=40, WindowWidth=0)),
            planes(BYTES / 255),
            note="ignored",
            **one,
        ),
        Case(
            "window-given.dcm",
            save(dcm(STORED, **WINDOWED)),
            planes(np.clip((HU - 0) / 100 + 0.5, 0, 1)),
            options={"window": (0, 100)},
            **one,
        ),
        Case("voi-lut.dcm", save(dcm(STORED, VOILUTSequence=voi)), planes(looked), note="VOI LUT", **one),
        Case(
            "frame-window.dcm",
            save(dcm(STORED, SharedFunctionalGroupsSequence=frame)),
            planes(linear(STORED.astype(float), 0, 100)),
            **one,
        ),
        Case("eight-bit.dcm", save(dcm(BYTES)), planes(BYTES / 255), **one),
        Case(
            "mono1.dcm",
            save(dcm(BYTES, PhotometricInterpretation="MONOCHROME1")),
            planes(1 - BYTES / 255),
            note="inverted",
            **one,
        ),
        Case(
            "mono1-window.dcm",
            save(dcm(STORED, **WINDOWED, PhotometricInterpretation="MONOCHROME1")),
            1 - shown,
            note="inverted",
            **one,
        ),
        Case(
            "inverse-shape.dcm",
            save(dcm(BYTES, PresentationLUTShape="INVERSE")),
            planes(1 - BYTES / 255),
            note="inverted",
            **one,
        ),
        Case(
            "mono1-inverse.dcm",
            save(dcm(BYTES, PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE")),
            planes(1 - BYTES / 255),
            **one,
        ),
        Case(
            "padding-shown.dcm",
            save(dcm(pad, PixelPaddingValue=-2000, WindowCenter=40, WindowWidth=400)),
            planes(np.where(pad == -2000, 0.0, black)),
            **one,
        ),
        Case(
            "padding-mono1.dcm",
            save(
                dcm(
                    pad,
                    PixelPaddingValue=-2000,
                    WindowCenter=40,
                    WindowWidth=400,
                    PhotometricInterpretation="MONOCHROME1",
                )
            ),
            planes(inverse),
            **one,
        ),
        Case("flat.dcm", save(dcm(np.full((14, 18), 7, np.uint16))), np.zeros((1, 14, 18)), note="no window", **one),
    ]


def bit_cases() -> list[Case]:
    """Bits stored, high bit, overlays in spare bits, one bit, 32 bits."""
    overlay = (TWELVE | (noise(14, 18, seed=44, top=15, dtype=np.uint16) << 12)).astype(np.uint16)
    facts = {"BitsStored": 12, "HighBit": 11}
    signed = (noise(14, 18, seed=45, top=4095, dtype=np.int32) - 2048).astype(np.int16)
    dirty = (signed.astype(np.uint16) & 0x0FFF).astype(np.uint16)
    shifted = ((TWELVE << 4) | 5).astype(np.uint16)
    bits = (BYTES > 99).astype(np.uint8)
    string = np.packbits(bits.reshape(-1), bitorder="little").tobytes()
    single = dataset(bits, BitsAllocated=1, BitsStored=1, HighBit=0)
    wide = noise(14, 18, seed=46, top=2**32 - 1, dtype=np.uint32)
    wide_signed = (noise(14, 18, seed=47, top=2**31, dtype=np.int64) - 2**30).astype(np.int32)
    low = dataset(dirty, **facts, PixelRepresentation=1)
    return [
        Case("twelve.dcm", save(dcm(TWELVE, **facts)), planes(TWELVE), options=VALUES),
        Case("overlay-bits.dcm", save(dcm(overlay, **facts)), planes(TWELVE), options=VALUES),
        Case("overlay-bits-be.dcm", save(dcm(overlay, BIG, **facts)), planes(TWELVE), options=VALUES),
        Case(
            "overlay-bits-rle.dcm", save(run_length(dataset(overlay, **facts), overlay)), planes(TWELVE), options=VALUES
        ),
        Case("signed-clean.dcm", save(dcm(signed, **facts)), planes(signed), options=VALUES),
        Case("signed-dirty.dcm", save(written(low, dirty.astype("<u2").tobytes())), planes(signed), options=VALUES),
        Case("high-bit.dcm", save(dcm(shifted, BitsStored=12, HighBit=15)), planes(TWELVE), options=VALUES),
        Case("signed8.dcm", save(dcm(BYTES.view(np.int8))), planes(BYTES.view(np.int8)), options=VALUES),
        Case("one-bit.dcm", save(written(single, string)), planes(bits), range=(0, 1)),
        Case("thirty-two.dcm", save(dcm(wide)), planes(wide), within=200, options=VALUES),
        Case("signed32.dcm", save(dcm(wide_signed)), planes(wide_signed), within=100, options=VALUES),
        Case("bits-wrong.dcm", save(dcm(TWELVE, BitsStored=17)), refused="BitsStored (17)"),
        Case("bits-odd.dcm", save(dcm(TWELVE, BitsAllocated=12)), refused="BitsAllocated is 12"),
    ]


def palette(entries: np.ndarray, bits: int) -> dict[str, Any]:
    """Get the LUT elements of a palette of shape (256, 3)."""
    facts: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for k, name in enumerate(("Red", "Green", "Blue")):
        facts[f"{name}PaletteColorLookupTableDescriptor"] = [len(entries), 0, bits]
        facts[f"{name}PaletteColorLookupTableData"] = entries[:, k].astype("<u2" if bits == 16 else "u1").tobytes()
    return facts


def ybr(rgb: np.ndarray) -> np.ndarray:
    """RGB to YBR_FULL (PS3.3 C.7.6.3.1.2)."""
    way = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    return np.clip(np.rint(rgb @ way.T + [0, 128, 128]), 0, 255).astype(np.uint8)


def colour_cases() -> list[Case]:
    """Colour spaces and planar configuration; all shown in 0..1."""
    near = {"range": (0, 1), "within": 1e-6}
    colours = noise(256, 3, seed=48, top=65535, dtype=np.uint16)
    small = noise(256, 3, seed=49)
    planar = dataset(RGB, PlanarConfiguration=1)
    deep = RGB.astype(np.uint16) * 257
    soft = np.stack([SOFT, SOFT[::-1], SOFT[:, ::-1]], -1)
    full = dataset(soft, PhotometricInterpretation="YBR_FULL")
    half = ybr(soft)
    pairs = half.reshape(32, 20, 2, 3)
    chroma = np.rint(pairs[..., 1:].mean(2)).astype(np.uint8)
    sampled = np.dstack([pairs[..., 0, 0], pairs[..., 1, 0], chroma[..., 0], chroma[..., 1]]).tobytes()
    halved = dataset(soft, PhotometricInterpretation="YBR_FULL_422")
    return [
        Case("rgb.dcm", save(dcm(RGB)), planes(RGB) / np.float32(255), **near),
        Case(
            "rgb-planar.dcm",
            save(written(planar, np.moveaxis(RGB, -1, 0).tobytes())),
            planes(RGB) / np.float32(255),
            **near,
        ),
        Case("rgb16.dcm", save(dcm(deep)), planes(RGB) / np.float32(255), **near),
        Case("rgb-rle.dcm", save(run_length(dataset(RGB), RGB)), planes(RGB) / np.float32(255), **near),
        Case(
            "ybr-full.dcm",
            save(written(full, half.tobytes())),
            planes(soft) / np.float32(255),
            range=(0, 1),
            within=3 / 255,
        ),
        Case("ybr-422.dcm", save(written(halved, sampled)), planes(soft) / np.float32(255), range=(0, 1), within=0.2),
        Case(
            "palette16.dcm",
            save(dcm(BYTES, **palette(colours, 16))),
            planes(colours[BYTES]) / np.float32(65535),
            **near,
        ),
        Case("palette8.dcm", save(dcm(BYTES, **palette(small, 8))), planes(small[BYTES]) / np.float32(255), **near),
        Case("hsv.dcm", save(dcm(RGB, PhotometricInterpretation="HSV")), refused="HSV"),
        Case("four-samples.dcm", save(dcm(RGB, SamplesPerPixel=4)), refused="4 samples a pixel"),
    ]


def coded_cases() -> list[Case]:
    """Compressed transfer syntaxes."""
    soft12 = SOFT.astype(np.uint16) * 16
    twelve = {"BitsStored": 12, "HighBit": 11}
    soft = np.stack([SOFT, SOFT[::-1], SOFT[:, ::-1]], -1)
    unsigned = STORED.view(np.uint16)
    jpeg = bytes(imagecodecs.jpeg8_encode(SOFT, level=95))
    colour = bytes(imagecodecs.jpeg8_encode(soft, level=95))
    untouched = bytes(imagecodecs.jpeg8_encode(soft, level=95, colorspace="RGB", outcolorspace="RGB"))
    ybr_facts = {"PhotometricInterpretation": "YBR_FULL_422"}
    bits = (BYTES > 99).astype(np.uint8)
    string = np.packbits(bits.reshape(-1), bitorder="little").tobytes()
    runs = np.array([1, 64] + [0] * 14, "<u4").tobytes() + bytes(imagecodecs.packbits_encode(string))
    one = {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}
    mismatch = bytes(imagecodecs.jpeg2k_encode(unsigned, level=0, codecformat="j2k"))
    flat = zlib_raw(STORED.astype("<i2").tobytes())
    shown = planes(soft) / np.float32(255)
    seen = planes(np.asarray(Image.open(io.BytesIO(colour)))) / np.float32(255)
    return [
        Case("rle.dcm", save(run_length(dataset(STORED), STORED)), planes(STORED), options=VALUES),
        Case(
            "jpeg.dcm",
            save(packed(SOFT, [jpeg], JPEG)),
            planes(imagecodecs.jpeg8_decode(jpeg)) / np.float32(255),
            within=1e-6,
        ),
        Case(
            "jpeg-12-bit.dcm",
            save(
                packed(soft12, [bytes(imagecodecs.jpeg8_encode(soft12, level=95, bitspersample=12))], JPEG12, **twelve)
            ),
            planes(soft12),
            within=24,
            options=VALUES,
        ),
        Case(
            "jpeg-lossless.dcm",
            save(packed(TWELVE, [bytes(imagecodecs.ljpeg_encode(TWELVE, bitspersample=12))], LOSSLESS, **twelve)),
            planes(TWELVE),
            options=VALUES,
        ),
        Case(
            "jpeg-lossless-signed.dcm",
            save(packed(STORED, [bytes(imagecodecs.ljpeg_encode(unsigned))], LOSSLESS)),
            planes(STORED),
            options=VALUES,
        ),
        Case("jpeg-ybr.dcm", save(packed(soft, [colour], JPEG, **ybr_facts)), seen, within=1.5 / 255),
        Case("jpeg-rgb.dcm", save(packed(soft, [untouched], JPEG)), shown, within=8 / 255),
        Case("jpeg-rgb-claims-ybr.dcm", save(packed(soft, [untouched], JPEG, **ybr_facts)), shown, within=8 / 255),
        Case("jpeg-ybr-claims-rgb.dcm", save(packed(soft, [colour], JPEG)), seen, within=1.5 / 255),
        Case(
            "jpeg-ls.dcm",
            save(packed(TWELVE, [bytes(imagecodecs.jpegls_encode(TWELVE))], JLS, **twelve)),
            planes(TWELVE),
            options=VALUES,
        ),
        Case(
            "jpeg2000.dcm",
            save(
                packed(
                    TWELVE,
                    [bytes(imagecodecs.jpeg2k_encode(TWELVE, level=0, codecformat="j2k", bitspersample=12))],
                    J2K,
                    **twelve,
                )
            ),
            planes(TWELVE),
            options=VALUES,
        ),
        Case("jpeg2000-sign.dcm", save(packed(STORED, [mismatch], J2K)), planes(STORED), options=VALUES),
        Case(
            "jpeg2000-rct.dcm",
            save(
                packed(
                    soft,
                    [bytes(imagecodecs.jpeg2k_encode(soft, level=0, codecformat="j2k", mct=True))],
                    J2K,
                    PhotometricInterpretation="YBR_RCT",
                )
            ),
            shown,
            within=1e-6,
        ),
        Case(
            "jpeg2000-rct-claims-ybr.dcm",
            save(
                packed(
                    soft,
                    [bytes(imagecodecs.jpeg2k_encode(soft, level=0, codecformat="j2k", mct=True))],
                    J2K,
                    PhotometricInterpretation="YBR_FULL",
                )
            ),
            shown,
            within=1e-6,
        ),
        Case(
            "htj2k.dcm",
            save(packed(BYTES, [bytes(imagecodecs.htj2k_encode(BYTES, reversible=True))], HTJ2K)),
            planes(BYTES),
            options=VALUES,
        ),
        Case(
            "jpeg-xl.dcm",
            save(packed(BYTES, [bytes(imagecodecs.jpegxl_encode(BYTES, lossless=True))], JXL)),
            planes(BYTES),
            options=VALUES,
        ),
        Case("deflated-frame.dcm", save(packed(STORED, [flat], FRAMES)), planes(STORED), options=VALUES),
        Case("one-bit-rle.dcm", save(packed(bits, [runs], RLE, **one)), planes(bits)),
        Case(
            "two-fragments.dcm",
            save(written(dataset(SOFT), encapsulate([jpeg + b"\0" * (len(jpeg) % 2)], fragments_per_frame=2), JPEG)),
            planes(imagecodecs.jpeg8_decode(jpeg)) / np.float32(255),
            within=1e-6,
        ),
    ]


def zlib_raw(data: bytes) -> bytes:
    """Deflate without a header."""
    import zlib

    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


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
        Case("trailing.dcm", save(written(dataset(STORED, **CTFACTS), STORED.tobytes() + b"\0" * 400)), **want),
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
        Case("cut-header.dcm", save(good[:400]), refused=""),
        Case("preamble-only.dcm", save(b"\0" * 128 + b"DICM"), refused=""),
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
            refused="",
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
        Case("missing-frames.dcm", save(packed(np.stack([SOFT] * 3), [jpeg, jpeg], JPEG)), refused="", index=0),
    ]
