"""TIFF animals."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import tifffile
from PIL import Image
from zoo_case import Case, noise, planes, save, smooth
from zoo_raster import ALPHA, CMYK, DEEP, GRAY, RGB, SOFT, SOFT_RGB, TWELVE, on_black

UNIT = np.random.default_rng(7).random((12, 17)).astype(np.float32)
HU = (np.random.default_rng(8).normal(0, 300, (12, 17))).astype(np.float32)
BIG = noise(40, 56, seed=11)


def tiff(array: np.ndarray, **options: Any) -> bytes:
    """Get the bytes tifffile writes."""
    buffer = io.BytesIO()
    kind = {key: options.pop(key) for key in ("bigtiff", "byteorder", "ome", "imagej") if key in options}
    with tifffile.TiffWriter(buffer, **kind) as writer:
        writer.write(array, **options)
    return buffer.getvalue()


def pages(*arrays: np.ndarray, thumbnail: bool = False) -> bytes:
    """Get a file with several pages; all but the first are marked as thumbnails if asked."""
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for k, array in enumerate(arrays):
            writer.write(array, subfiletype=1 if thumbnail and k else 0, contiguous=False, metadata=None)
    return buffer.getvalue()


def by_pillow(array: np.ndarray, mode: str | None = None, **options: Any) -> bytes:
    """Get the bytes Pillow (libtiff) writes."""
    buffer = io.BytesIO()
    picture = Image.fromarray(array) if mode is None else Image.fromarray(array).convert(mode)
    picture.save(buffer, format="TIFF", **options)
    return buffer.getvalue()


def with_tag(data: bytes, code: int, value: int) -> bytes:
    """Change the value of a SHORT or LONG tag in the first directory of a little-endian TIFF."""
    out = bytearray(data)
    (place,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, place)
    for k in range(count):
        entry = place + 2 + 12 * k
        if struct.unpack_from("<H", data, entry)[0] == code:
            struct.pack_into("<I", out, entry + 8, value)
            return bytes(out)
    raise KeyError(code)


def from_lab(lab: np.ndarray) -> np.ndarray:
    """Turn L*a*b* (as TIFF CIELAB bytes) into sRGB with Pillow's colour management: an independent reference."""
    from PIL import ImageCms

    picture = Image.frombytes("LAB", (lab.shape[1], lab.shape[0]), lab.tobytes())
    way = ImageCms.buildTransform(ImageCms.createProfile("LAB", 6504), ImageCms.createProfile("sRGB"), "LAB", "RGB")
    return np.asarray(ImageCms.applyTransform(picture, way))


def lab_bytes() -> np.ndarray:
    """Get soft colours inside sRGB as L (0..255), a and b (signed bytes)."""
    y, x = np.mgrid[0:12, 0:17]
    a, b = np.rint(20 * np.sin(x / 4)).astype(np.int8), np.rint(20 * np.cos(y / 3)).astype(np.int8)
    return np.dstack([(90 + 6 * y).astype(np.uint8), a.view(np.uint8), b.view(np.uint8)])


def ink_rgb() -> np.ndarray:
    """The expected colours of CMYK inks."""
    inks = CMYK.astype(np.int64)
    return ((255 - inks[..., :3]) * (255 - inks[..., 3:]) + 127) // 255


def cases() -> list[Case]:
    """All animals of this module."""
    return plain_cases() + number_cases() + colour_cases() + page_cases() + broken_cases()


def plain_cases() -> list[Case]:
    """Layouts and compressions that lose nothing."""
    gray = planes(BIG)
    same = [
        Case(f"{word}.tif", save(tiff(BIG, **options)), gray)
        for word, options in {
            "gray": {},
            "tiled": {"tile": (16, 16)},
            "strips": {"rowsperstrip": 7},
            "deflate": {"compression": "zlib"},
            "predictor": {"compression": "zlib", "predictor": True},
            "lzw": {"compression": "lzw", "predictor": True},
            "packbits": {"compression": "packbits"},
            "lzma": {"compression": "lzma"},
            "zstd": {"compression": "zstd"},
            "bigtiff": {"bigtiff": True},
            "bigtiff-be": {"bigtiff": True, "byteorder": ">"},
            "big-endian": {"byteorder": ">"},
            "jpeg2000": {"compression": "jpeg2000", "tile": (16, 16)},
            "webp-tiles-lzw": {"compression": "lzw", "tile": (32, 32)},
        }.items()
    ]
    return same + [
        Case("rgb.tif", save(tiff(RGB, photometric="rgb")), planes(RGB), range=(0, 255)),
        Case(
            "planar.tif",
            save(tiff(np.moveaxis(RGB, -1, 0).copy(), photometric="rgb", planarconfig="separate")),
            planes(RGB),
        ),
        Case(
            "planar-tiled.tif",
            save(
                tiff(
                    np.moveaxis(RGB, -1, 0).copy(),
                    photometric="rgb",
                    planarconfig="separate",
                    tile=(16, 16),
                    compression="zlib",
                )
            ),
            planes(RGB),
        ),
        Case(
            "rgb16-predictor.tif",
            save(tiff(RGB.astype(np.uint16) * 257, photometric="rgb", compression="zlib", predictor=True)),
            planes(RGB.astype(np.uint16) * 257),
        ),
        Case("pillow-lzw.tiff", save(by_pillow(RGB, compression="tiff_lzw")), planes(RGB)),
        Case("fax.tif", save(by_pillow(GRAY > 99, compression="group4")), planes((GRAY > 99) * np.uint8(255))),
        Case(
            "jpeg-inside.tif",
            save(tiff(SOFT_RGB, photometric="rgb", compression="jpeg", compressionargs={"level": 95})),
            planes(SOFT_RGB),
            within=12,
        ),
        Case(
            "jpeg-gray-tiles.tif",
            save(tiff(SOFT, tile=(16, 16), compression="jpeg", compressionargs={"level": 95})),
            planes(SOFT),
            within=6,
        ),
        Case("jpeg-ycbcr.tif", save(by_pillow(SOFT_RGB, compression="jpeg", quality=95)), planes(SOFT_RGB), within=14),
        Case(
            "turned.tif",
            save(tiff(RGB, photometric="rgb", extratags=[(274, 3, 1, 6, True)])),
            planes(np.rot90(RGB, -1)),
            note="orientation 6",
        ),
        Case("tiff.png", save(tiff(GRAY)), planes(GRAY)),
    ]


def number_cases() -> list[Case]:
    """Number types."""
    holes = HU.copy()
    holes[0, 0], holes[3, 3], holes[5, 5] = np.nan, np.inf, -np.inf
    filled = np.where(np.isfinite(holes), holes, holes[np.isfinite(holes)].min())
    signed = (noise(12, 17, top=60000, dtype=np.int64) - 30000).astype(np.int16)
    return [
        Case("sixteen.tif", save(tiff(DEEP)), planes(DEEP), range=(0, 65535)),
        Case("twelve-in-sixteen.tif", save(tiff(TWELVE)), planes(TWELVE), range=(0, 4095), note="12 bits"),
        Case("sixteen-be.tif", save(tiff(DEEP, byteorder=">")), planes(DEEP)),
        Case("signed.tif", save(tiff(signed)), planes(signed)),
        Case("signed8.tif", save(tiff((GRAY.astype(int) - 128).astype(np.int8))), planes(GRAY.astype(int) - 128)),
        Case("unsigned32.tif", save(tiff(DEEP.astype(np.uint32) * 7)), planes(DEEP.astype(np.uint32) * 7)),
        Case("signed32.tif", save(tiff(signed.astype(np.int32) * 9)), planes(signed.astype(np.int32) * 9)),
        Case("float-unit.tif", save(tiff(UNIT)), planes(UNIT), range=(0, 1)),
        Case("float-hu.tif", save(tiff(HU)), planes(HU), note="percentiles"),
        Case("float-predictor.tif", save(tiff(HU, compression="zlib", predictor=True)), planes(HU)),
        Case("half.tif", save(tiff(UNIT.astype(np.float16))), planes(UNIT.astype(np.float16)), range=(0, 1)),
        Case("double.tif", save(tiff(HU.astype(np.float64))), planes(HU)),
        Case("holes.tif", save(tiff(holes)), planes(filled), note="3 values were NaN"),
        Case("complex.tif", save(tiff(UNIT.astype(np.complex64))), refused="are not read"),
        Case("one-bit.tif", save(tiff(GRAY > 99, photometric="minisblack")), planes((GRAY > 99) * np.uint8(255))),
    ]


def colour_cases() -> list[Case]:
    """Photometric interpretations and extra samples."""
    colours = noise(3, 256, seed=12, top=255).astype(np.uint16) * 257
    rgba = np.dstack([RGB, ALPHA])
    lab = lab_bytes()
    mapped = np.moveaxis(colours[:, GRAY], 0, -1) >> 8
    return [
        Case("white-zero.tif", save(tiff(GRAY, photometric="miniswhite")), planes(255 - GRAY), note="inverted"),
        Case("white-zero16.tif", save(tiff(DEEP, photometric="miniswhite")), planes(65535 - DEEP), note="inverted"),
        Case(
            "white-zero-bit.tif", save(tiff(GRAY > 99, photometric="miniswhite")), planes((GRAY <= 99) * np.uint8(255))
        ),
        Case("palette.tif", save(tiff(GRAY, photometric="palette", colormap=colours)), planes(mapped)),
        Case(
            "rgba.tif",
            save(tiff(rgba, photometric="rgb", extrasamples=["unassalpha"])),
            planes(on_black(RGB, ALPHA)),
            note="black",
        ),
        Case(
            "rgba-laid.tif",
            save(tiff(rgba, photometric="rgb", extrasamples=["assocalpha"])),
            planes(RGB),
            note="premultiplied",
        ),
        Case(
            "rgb-spare.tif",
            save(tiff(rgba, photometric="rgb", extrasamples=["unspecified"])),
            planes(RGB),
            note="extra channels",
        ),
        Case(
            "gray-alpha.tif",
            save(
                tiff(
                    np.dstack([GRAY, ALPHA]),
                    photometric="minisblack",
                    planarconfig="contig",
                    extrasamples=["unassalpha"],
                )
            ),
            planes(on_black(GRAY, ALPHA)),
        ),
        Case("cmyk.tif", save(tiff(CMYK, photometric="separated")), planes(ink_rgb()), note="CMYK"),
        Case("lab.tif", save(tiff(lab, photometric="cielab")), planes(from_lab(lab)), within=10, note="Lab"),
        Case(
            "five-channels.tif",
            save(tiff(noise(5, 12, 17), photometric="minisblack", planarconfig="separate")),
            refused="channels",
        ),
    ]


def page_cases() -> list[Case]:
    """Several pages."""
    two = pages(GRAY, GRAY[::-1].copy())
    stack = noise(4, 12, 17)
    return [
        Case("two-pages.tif", save(two), refused="holds 2 pages (0: 12 x 17, 1: 12 x 17)"),
        Case("two-pages.tif", save(two), planes(GRAY[::-1]), index=1),
        Case("two-pages.tif", save(two), refused="pages 0 to 1", index=7),
        Case("thumbnail.tif", save(pages(BIG, BIG[::4, ::4].copy(), thumbnail=True)), planes(BIG), note="thumbnails"),
        Case(
            "ome.ome.tif",
            save(tiff(stack, ome=True, photometric="minisblack", metadata={"axes": "ZYX"})),
            refused="holds 4 pages",
        ),
        Case(
            "ome.ome.tif",
            save(tiff(stack, ome=True, photometric="minisblack", metadata={"axes": "ZYX"})),
            planes(stack[2]),
            index=2,
        ),
        Case("imagej.tif", save(tiff(stack, imagej=True, metadata={"axes": "ZYX"})), refused="holds 4"),
    ]


def broken_cases() -> list[Case]:
    """Malformed files."""
    good = tiff(BIG, rowsperstrip=8)
    loop = bytearray(tiff(GRAY))
    (first,) = struct.unpack_from("<I", loop, 4)
    (count,) = struct.unpack_from("<H", loop, first)
    struct.pack_into("<I", loop, first + 2 + 12 * count, first)
    packed = tiff(BIG, compression="zlib")
    return [
        Case("cut.tif", save(good[:-900]), refused="truncated"),
        Case("cut-deflate.tif", save(packed[:-200]), refused="truncated"),
        Case("header-only.tif", save(good[:8]), refused="truncated"),
        Case("far-directory.tif", save(b"II*\0\xff\xff\xff\x7f" + b"\0" * 40), refused="truncated"),
        Case("zero-directory.tif", save(b"II*\0" + b"\0" * 40), refused="truncated"),
        Case("loop.tif", save(bytes(loop)), planes(GRAY)),
        Case("bomb.tif", save(with_tag(with_tag(tiff(GRAY), 256, 60000), 257, 60000)), refused="too large"),
        Case("wide-claim.tif", save(with_tag(tiff(GRAY), 256, 4000)), refused="failed to read"),
        Case("empty-strip.tif", save(with_tag(tiff(GRAY), 279, 0)), refused="is empty"),
        Case("unknown-code.tif", save(with_tag(tiff(GRAY), 259, 12345)), refused="12345"),
        Case("smooth-claim.tif", save(with_tag(tiff(smooth(12, 17)), 258, 77)), refused="77-bit"),
    ]
