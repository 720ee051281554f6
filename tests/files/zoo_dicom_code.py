"""DICOM animals: transfer syntaxes."""

from __future__ import annotations

import io

import imagecodecs
import numpy as np
from PIL import Image
from pydicom.encaps import encapsulate
from zoo_case import Case, planes, save
from zoo_dicom import (
    BYTES,
    FRAMES,
    HTJ2K,
    J2K,
    JLS,
    JPEG,
    JPEG12,
    JXL,
    LOSSLESS,
    RLE,
    SOFT,
    STORED,
    TWELVE,
    VALUES,
    dataset,
    packed,
    run_length,
    written,
)


def cases() -> list[Case]:
    """All animals of this module."""
    return coded_cases()


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
