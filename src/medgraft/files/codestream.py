"""What a JPEG, JPEG-LS or JPEG 2000 stream says of itself, read without decoding it."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_PROCESSES = {
    0xC0: "baseline",
    0xC1: "extended",
    0xC2: "progressive",
    0xC3: "lossless",
    0xC5: "hierarchical",
    0xC6: "hierarchical progressive",
    0xC7: "hierarchical lossless",
    0xC9: "extended arithmetic",
    0xCA: "progressive arithmetic",
    0xCB: "lossless arithmetic",
    0xCD: "hierarchical arithmetic",
    0xCE: "hierarchical progressive arithmetic",
    0xCF: "hierarchical lossless arithmetic",
    0xF7: "JPEG-LS",
}


@dataclass(frozen=True)
class Frame:
    """Size and coding of one compressed frame.

    Attributes:
        process: "baseline", "lossless", "JPEG-LS", "JPEG 2000" and so on.
        height: rows.
        width: columns.
        components: samples a pixel.
        precision: bits a sample.
        signed: True when a JPEG 2000 stream holds signed samples.
        transformed: True when a JPEG 2000 stream's colour transform makes it decode to RGB.
    """

    process: str
    height: int
    width: int
    components: int
    precision: int
    signed: bool = False
    transformed: bool = False


def frame_of(data: bytes) -> Frame | None:
    """Get what a compressed frame says of itself, or None when it is no JPEG of any kind."""
    if data[:2] == b"\xff\xd8":
        return jpeg_frame(data)
    if data[:4] == b"\xff\x4f\xff\x51":
        return j2k_frame(data)
    if data[:12] == b"\x00\x00\x00\x0cjP  \r\n\x87\n":
        start = data.find(b"\xff\x4f\xff\x51")
        return None if start < 0 else j2k_frame(data[start:])
    return None


def jpeg_frame(data: bytes) -> Frame | None:
    """Get size and coding of a JPEG or JPEG-LS stream from its SOF marker (ITU-T T.81, T.87)."""
    place = 2
    while place + 4 <= len(data):
        if data[place] != 0xFF:
            return None
        marker = data[place + 1]
        if marker == 0xFF:
            place += 1
            continue
        if marker in (0x01, *range(0xD0, 0xD9)):
            place += 2
            continue
        (length,) = struct.unpack_from(">H", data, place + 2)
        if marker in _PROCESSES and place + 10 <= len(data):
            precision, height, width, components = struct.unpack_from(">BHHB", data, place + 4)
            return Frame(_PROCESSES[marker], height, width, components, precision)
        if marker in (0xDA, 0xD9) or length < 2:
            return None
        place += 2 + length
    return None


def jpeg_colour(data: bytes) -> str | None:
    """Get the colour space of a JPEG stream as its own markers say: "RGB", "YBR_FULL", or None when they say nothing.

    An Adobe marker wins, then component names R G B, then a JFIF marker.
    """
    place, jfif, adobe, named = 2, False, None, False
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:
            place += 1
            continue
        if marker in (0xDA, 0xD9):
            break
        (length,) = struct.unpack_from(">H", data, place + 2)
        body = data[place + 4 : place + 2 + length]
        jfif |= marker == 0xE0 and body.startswith(b"JFIF")
        if marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12:
            adobe = body[11]
        if marker in _PROCESSES and len(body) >= 15:
            named = bytes(body[6:15:3]).upper() == b"RGB"
        place += 2 + max(length, 2)
    if adobe is not None:
        return "RGB" if adobe == 0 else "YBR_FULL"
    return "RGB" if named else "YBR_FULL" if jfif else None


def j2k_frame(data: bytes) -> Frame | None:
    """Get size and coding of a JPEG 2000 codestream from its SIZ and COD markers (ITU-T T.800)."""
    if len(data) < 48:
        return None
    right, bottom, left, top = struct.unpack_from(">IIII", data, 8)
    (components,) = struct.unpack_from(">H", data, 40)
    depth = data[42]
    transformed = False
    place = 4 + struct.unpack_from(">H", data, 4)[0]
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != 0x90:
        (length,) = struct.unpack_from(">H", data, place + 2)
        if data[place + 1] == 0x52 and place + 9 <= len(data):
            transformed = data[place + 8] == 1
        place += 2 + length
    return Frame(
        "JPEG 2000", bottom - top, right - left, components, (depth & 0x7F) + 1, bool(depth & 0x80), transformed
    )


def is_cut(data: bytes) -> bool:
    """Tell whether a stream lacks its end marker (FF D9), padding allowed for."""
    tail = data[-1024:].rstrip(b"\x00")
    return b"\xff\xd9" not in tail[-64:]
