"""DICOM animals: values, windows, bits and colours."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydicom.sequence import Sequence as Items
from zoo_case import Case, noise, planes, save
from zoo_dicom import (
    BIG,
    BYTES,
    CTFACTS,
    DEFLATED,
    HU,
    IMPLICIT,
    RGB,
    SOFT,
    STORED,
    TWELVE,
    VALUES,
    WINDOWED,
    dataset,
    dcm,
    item,
    linear,
    run_length,
    written,
)


def cases() -> list[Case]:
    """All animals of this module."""
    return value_cases() + display_cases() + bit_cases() + colour_cases()


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
