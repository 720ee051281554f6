"""PNG, JPEG, BMP, GIF and WEBP animals."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from PIL import Image
from zoo_case import Case, chunk, lines, noise, planes, save, smooth, tiny_png

GRAY = noise(12, 17)
RGB = noise(12, 17, 3, seed=1)
DEEP = noise(12, 17, seed=2, top=65535, dtype=np.uint16)
TWELVE = noise(12, 17, seed=3, top=4095, dtype=np.uint16)
ALPHA = noise(12, 17, seed=4)
SOFT = smooth(40, 56)
SOFT_RGB = np.stack([SOFT, SOFT[::-1], SOFT[:, ::-1]], axis=-1)


def encoded(array: np.ndarray, format_: str, mode: str | None = None, **options: Any) -> bytes:
    """Get the bytes Pillow writes."""
    buffer = io.BytesIO()
    picture = Image.fromarray(array) if mode is None else Image.fromarray(array).convert(mode)
    picture.save(buffer, format=format_, **options)
    return buffer.getvalue()


def moving(format_: str, **options: Any) -> bytes:
    """Get an animation of two frames."""
    buffer = io.BytesIO()
    first, second = Image.fromarray(RGB), Image.fromarray(RGB[::-1].copy())
    first.save(buffer, format=format_, save_all=True, append_images=[second], **options)
    return buffer.getvalue()


def on_black(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The expected composite: integers rounded."""
    top = np.iinfo(colour.dtype).max
    a = alpha.astype(np.int64)
    a = a[..., None] if colour.ndim == 3 else a
    return (colour.astype(np.int64) * a + top // 2) // top


def decoded(data: bytes) -> np.ndarray:
    """Get what Pillow decodes of a JPEG: the truth for the same decoder."""
    return np.asarray(Image.open(io.BytesIO(data)))


def exif(orientation: int) -> bytes:
    """Get an EXIF block with one tag."""
    block = Image.Exif()
    block[0x0112] = orientation
    return block.tobytes()


def turned(orientation: int) -> np.ndarray:
    """Get the upright picture of a stored one, by the definition of the EXIF standard (row 0 and column 0 sides)."""
    stored = decoded(JPEG_SOFT)
    ways = {
        1: stored,
        2: np.fliplr(stored),
        3: np.rot90(stored, 2),
        4: np.flipud(stored),
        5: np.transpose(stored, (1, 0, 2)),
        6: np.rot90(stored, -1),
        7: np.rot90(np.transpose(stored, (1, 0, 2)), 2),
        8: np.rot90(stored, 1),
    }
    return ways[orientation]


def palette_png(transparent: bool) -> bytes:
    """Get a palette PNG, its entry 3 half transparent if asked."""
    picture = Image.fromarray(GRAY % 8)
    picture.putpalette(list(range(24)) + [0] * 744)
    picture = picture if picture.mode == "P" else picture.convert("P")
    options = {"transparency": bytes([255, 255, 255, 128, 255, 255, 255, 255])} if transparent else {}
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", **options)
    return buffer.getvalue()


def _palette_pixels() -> np.ndarray:
    index = (GRAY % 8).astype(np.int64)
    return np.stack([3 * index, 3 * index + 1, 3 * index + 2], axis=-1).astype(np.uint8)


PALETTE = _palette_pixels()
PALETTE_ALPHA = np.where(GRAY % 8 == 3, 128, 255).astype(np.uint8)
JPEG_SOFT = encoded(SOFT_RGB, "JPEG", quality=95)
PNG_RGB = encoded(RGB, "PNG")
CMYK = noise(12, 17, 4, seed=9)


def cmyk_jpeg() -> bytes:
    """Get a CMYK JPEG with an Adobe marker."""
    buffer = io.BytesIO()
    Image.fromarray(np.stack([SOFT, SOFT[::-1], SOFT[:, ::-1], SOFT // 3], -1), "CMYK").save(
        buffer, "JPEG", quality=100
    )
    return buffer.getvalue()


def mpo() -> bytes:
    """Get a two-picture MPO as 3-D cameras write it."""
    buffer = io.BytesIO()
    first, second = Image.fromarray(SOFT_RGB), Image.fromarray(SOFT_RGB[::-1].copy())
    first.save(buffer, format="MPO", save_all=True, append_images=[second])
    return buffer.getvalue()


def top_down_bmp() -> bytes:
    """Get a BMP whose rows run from the top (negative height)."""
    rows, columns = 12, 16
    picture = RGB[:, :16, ::-1]
    body = picture.tobytes()
    head = struct.pack("<IiiHHIIiiII", 40, columns, -rows, 1, 24, 0, len(body), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(body), 0, 0, 54) + head + body


def _pack_bits(values: np.ndarray, bits: int) -> bytes:
    out = []
    for row in values:
        line = "".join(format(int(v), f"0{bits}b") for v in row)
        line += "0" * (-len(line) % 8)
        out.append(b"\0" + int(line, 2).to_bytes(len(line) // 8, "big"))
    return b"".join(out)


def png_cases() -> list[Case]:
    """PNG."""
    cut = PNG_RGB[: len(PNG_RGB) // 2]
    bad_crc = bytearray(PNG_RGB)
    bad_crc[29] ^= 1
    bad_data = bytearray(PNG_RGB)
    bad_data[60] ^= 0x40
    deep_rgb = noise(12, 17, 3, seed=5, top=65535, dtype=np.uint16)
    deep_rgba = noise(12, 17, 4, seed=6, top=65535, dtype=np.uint16)
    deep_la = noise(12, 17, 2, seed=7, top=65535, dtype=np.uint16)
    key16 = DEEP.copy()
    key16[DEEP[0, 0] == DEEP] = 0
    cleared = RGB.copy()
    cleared[(RGB[2, 3] == RGB).all(-1)] = 0
    return [
        Case("gray.png", save(encoded(GRAY, "PNG")), planes(GRAY), range=(0, 255)),
        Case("rgb.png", save(PNG_RGB), planes(RGB), range=(0, 255)),
        Case(
            "equal-channels.png",
            save(encoded(np.stack([GRAY] * 3, -1), "PNG")),
            planes(np.stack([GRAY] * 3, -1)),
            note="gray",
        ),
        Case("one-bit.png", save(encoded(GRAY > 99, "PNG")), planes((GRAY > 99) * np.uint8(255))),
        Case("two-bit.png", save(tiny_png(12, 17, 2, 0, _pack_bits(GRAY % 4, 2))), planes((GRAY % 4) * 85)),
        Case("four-bit.png", save(tiny_png(12, 17, 4, 0, _pack_bits(GRAY % 16, 4))), planes((GRAY % 16) * 17)),
        Case("palette.png", save(palette_png(False)), planes(PALETTE)),
        Case("palette-alpha.png", save(palette_png(True)), planes(on_black(PALETTE, PALETTE_ALPHA)), note="black"),
        Case(
            "gray-alpha.png",
            save(encoded(np.stack([GRAY, ALPHA], -1), "PNG")),
            planes(on_black(GRAY, ALPHA)),
            note="black",
        ),
        Case("rgba.png", save(encoded(np.dstack([RGB, ALPHA]), "PNG")), planes(on_black(RGB, ALPHA)), note="black"),
        Case("rgba-opaque.png", save(encoded(np.dstack([RGB, np.full_like(ALPHA, 255)]), "PNG")), planes(RGB)),
        Case(
            "rgba-clear.png",
            save(encoded(np.dstack([RGB, np.zeros_like(ALPHA)]), "PNG")),
            planes(RGB * 0),
            note="wholly",
        ),
        Case(
            "rgb-key.png",
            save(encoded(RGB, "PNG", transparency=tuple(int(v) for v in RGB[2, 3]))),
            planes(cleared),
            note="black",
        ),
        Case("sixteen.png", save(encoded(DEEP, "PNG")), planes(DEEP), range=(0, 65535)),
        Case("sixteen-small.png", save(encoded(TWELVE, "PNG")), planes(TWELVE), range=(0, 4095), note="12 bits"),
        Case("sixteen-rgb.png", save(tiny_png(12, 17, 16, 2, lines(deep_rgb))), planes(deep_rgb), range=(0, 65535)),
        Case(
            "sixteen-rgba.png",
            save(tiny_png(12, 17, 16, 6, lines(deep_rgba))),
            planes(on_black(deep_rgba[..., :3], deep_rgba[..., 3])),
            note="black",
        ),
        Case(
            "sixteen-la.png",
            save(tiny_png(12, 17, 16, 4, lines(deep_la))),
            planes(on_black(deep_la[..., 0], deep_la[..., 1])),
            note="black",
        ),
        Case(
            "sixteen-key.png",
            save(tiny_png(12, 17, 16, 0, lines(DEEP), extra=chunk(b"tRNS", struct.pack(">H", int(DEEP[0, 0]))))),
            planes(key16),
            note="black",
        ),
        Case("turned.png", save(encoded(RGB, "PNG", exif=exif(6))), planes(np.rot90(RGB, -1)), note="orientation 6"),
        Case("trailing.png", save(PNG_RGB + b"\0" * 77), planes(RGB), note="77 bytes"),
        Case("png.jpg", save(PNG_RGB), planes(RGB)),
        Case("no-extension", save(PNG_RGB), planes(RGB)),
        Case("LOUD.PNG", save(PNG_RGB), planes(RGB)),
        Case("animated.png", save(moving("PNG")), refused="holds 2 frames"),
        Case("animated.png", save(moving("PNG")), planes(RGB[::-1]), index=1),
        Case("animated.png", save(moving("PNG")), refused="frames 0 to 1", index=2),
        Case("cut.png", save(cut), refused="truncated PNG"),
        Case("no-end.png", save(PNG_RGB[:-12]), refused="its end is missing"),
        Case("cut-in-end.png", save(PNG_RGB[:-3]), refused="cut off"),
        Case("wrong-checksum.png", save(bytes(bad_crc)), refused="checksum of its IHDR"),
        Case("flipped-bit.png", save(bytes(bad_data)), refused="checksum of its IDAT"),
        Case("signature-only.png", save(PNG_RGB[:8]), refused="truncated PNG"),
        Case("no-data.png", save(PNG_RGB[:33] + chunk(b"IEND", b"")), refused="no pixel data"),
        Case("too-few-rows.png", save(tiny_png(400, 170, 8, 0, lines(GRAY))), refused="truncated"),
        Case("zero-wide.png", save(tiny_png(12, 0, 8, 0, b"\0" * 12)), refused="header does not parse"),
        Case("bomb.png", save(tiny_png(30000, 30000, 8, 2, b"\0")), refused="too large"),
        Case("169-megapixels.png", save(tiny_png(13000, 13000, 8, 0, b"\0")), refused="too large"),
    ]


def jpeg_cases() -> list[Case]:
    """JPEG and its relatives."""
    gray = encoded(SOFT, "JPEG", quality=95)
    inks = np.asarray(Image.open(io.BytesIO(cmyk_jpeg())).convert("RGB"))
    broken_exif = JPEG_SOFT[:2] + b"\xff\xe1\x00\x10Exif\0\0II*\0\xff\xff\xff\xff" + JPEG_SOFT[2:]
    twelve = imagecodecs.jpeg8_encode((SOFT.astype(np.uint16) * 16), level=95, bitspersample=12)
    lossless = imagecodecs.ljpeg_encode(SOFT)
    left_right = planes(decoded(mpo()))
    turns = [
        Case(
            f"exif-{o}.jpg",
            save(encoded(SOFT_RGB, "JPEG", quality=95, exif=exif(o))),
            planes(turned(o)),
            note=f"orientation {o}" if o > 1 else "",
        )
        for o in range(1, 9)
    ]
    return turns + [
        Case("gray.jpg", save(gray), planes(decoded(gray))),
        Case("gray-near.jpg", save(gray), planes(SOFT), within=4),
        Case("colour.jpg", save(JPEG_SOFT), planes(decoded(JPEG_SOFT))),
        Case(
            "progressive.jpg",
            save(encoded(SOFT_RGB, "JPEG", quality=95, progressive=True)),
            planes(decoded(JPEG_SOFT)),
            within=1,
        ),
        Case("cmyk.jpg", save(cmyk_jpeg()), planes(inks), note="CMYK"),
        Case(
            "ycck.jpg",
            save(imagecodecs.jpeg8_encode(CMYK, level=100, colorspace="CMYK", outcolorspace="YCCK")),
            planes((255 - CMYK[..., :3].astype(int)) * 0),
            within=255,
            note="CMYK",
        ),
        Case("exif-broken.jpg", save(broken_exif), planes(decoded(JPEG_SOFT))),
        Case("tail.jpg", save(JPEG_SOFT + b"tail" * 9), planes(decoded(JPEG_SOFT))),
        Case("jpeg.png", save(JPEG_SOFT), planes(decoded(JPEG_SOFT))),
        Case("cut.jpg", save(JPEG_SOFT[: len(JPEG_SOFT) // 2]), refused="truncated"),
        Case("no-end.jpg", save(JPEG_SOFT[:-40]), refused="truncated"),
        Case("header-only.jpg", save(JPEG_SOFT[:100]), refused="Truncated"),
        Case("two-bytes.jpg", save(JPEG_SOFT[:4]), refused="header does not parse"),
        Case("twelve-bit.jpg", save(bytes(twelve)), refused="12 bits"),
        Case("lossless.jpg", save(bytes(lossless)), planes(SOFT)),
        Case("jpeg-ls.jpg", save(bytes(imagecodecs.jpegls_encode(SOFT))), refused="JPEG-LS"),
        Case("two-eyes.mpo", save(mpo()), refused="holds 2 frames"),
        Case("two-eyes.jpg", save(mpo()), left_right, index=0),
        Case("jpeg2000.jp2", save(bytes(imagecodecs.jpeg2k_encode(SOFT))), refused="JPEG 2000"),
    ]


def other_cases() -> list[Case]:
    """BMP, GIF and WEBP."""
    gif = encoded(GRAY, "GIF")
    few = (GRAY % 8) * 30
    webp = encoded(RGB, "WEBP", lossless=True)
    webp_alpha = encoded(np.dstack([RGB, np.maximum(ALPHA, 1)]), "WEBP", lossless=True, exact=True)
    bmp = encoded(RGB, "BMP")
    clear = Image.fromarray(few).convert("P")
    buffer = io.BytesIO()
    clear.save(buffer, format="GIF", transparency=int(np.asarray(clear)[0, 0]))
    seen = np.where(few == few[0, 0], 0, few)
    return [
        Case("rgb.bmp", save(bmp), planes(RGB)),
        Case("gray.bmp", save(encoded(GRAY, "BMP")), planes(GRAY)),
        Case("one-bit.bmp", save(encoded(GRAY > 99, "BMP")), planes((GRAY > 99) * np.uint8(255))),
        Case(
            "palette.bmp",
            save(encoded(RGB, "BMP", mode="P")),
            planes(np.asarray(Image.fromarray(RGB).convert("P").convert("RGB"))),
        ),
        Case("top-down.bmp", save(top_down_bmp()), planes(RGB[:, :16])),
        Case("cut.bmp", save(bmp[: len(bmp) // 2]), refused="truncated"),
        Case("bad-header.bmp", save(b"BM" + b"\xff" * 60), refused="no known kind"),
        Case("bm-text.bmp", save(b"BMI of the patients\n" * 9), refused="text"),
        Case("still.gif", save(gif), planes(np.stack([GRAY] * 3, -1)), note="gray"),
        Case("clear.gif", save(buffer.getvalue()), planes(np.stack([seen] * 3, -1)), note="black"),
        Case("moving.gif", save(moving("GIF")), refused="holds 2 frames"),
        Case("moving.gif", save(moving("GIF")), planes(RGB[::-1]), index=1, within=120),
        Case("cut.gif", save(gif[: len(gif) // 2]), refused="header does not parse"),
        Case("lossless.webp", save(webp), planes(RGB)),
        Case("alpha.webp", save(webp_alpha), planes(on_black(RGB, np.maximum(ALPHA, 1))), note="black"),
        Case("moving.webp", save(moving("WEBP", lossless=True)), refused="holds 2 frames"),
        Case("moving.webp", save(moving("WEBP", lossless=True)), planes(RGB[::-1]), index=1),
        Case("cut.webp", save(webp[: len(webp) // 2]), refused="damaged"),
    ]


def cases() -> list[Case]:
    """All animals of this module."""
    return png_cases() + jpeg_cases() + other_cases()


def write(folder: Path) -> None:
    """Write all files, for a look by eye."""
    for case in cases():
        case.make(folder / case.name)
