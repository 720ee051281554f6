"""From a file to a parsed DICOM data set, without trusting its sizes."""

from __future__ import annotations

import mmap
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
from pydicom import filereader
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from medgraft.errors import BadImage
from medgraft.files.form import check_size, hush
from medgraft.files.sniff import open_regular, show

_PIXEL_TAGS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
_FOREIGN_STARTS = (b"mz", b"\x7felf", b"<html", b"<!doc", b"#!")
_CHUNK = 1 << 20


def open_dataset(path: Path, *, pixels: bool, max_bytes: int, tags: list[int] | None = None) -> tuple[Any, list[str]]:
    """Parse a file.

    Args:
        path: the file.
        pixels: False to stop before the pixel data.
        max_bytes: limit for the file and for what it inflates to.
        tags: read only these (fast, for lists); None reads all.

    Returns:
        A pydicom data set whose `file_meta.TransferSyntaxUID` is always set, and notes.

    Raises:
        BadImage: no DICOM, truncated, or its transfer syntax would have to be guessed for compressed pixels.
    """
    check_size(path.stat().st_size, 2 * max_bytes, path)
    notes: list[str] = []
    with open_regular(path) as whole, mmap.mmap(whole.fileno(), 0, access=mmap.ACCESS_READ) as file:
        # Reading from the map never gives more than the file holds, whatever lengths its elements claim.
        head = file.read(132)
        file.seek(0)
        preamble = head[128:132] == b"DICM"
        if preamble and head[:128].lstrip().lower().startswith(_FOREIGN_STARTS):
            notes.append("its preamble looks like a program or a web page")
        if not preamble:
            notes.append("no DICOM preamble: parsed from its first tag")
        with hush():
            dataset = _parse(file, path, pixels, max_bytes, tags)
        if pixels:
            _check_length(dataset, path)
    _settle_syntax(dataset, path, notes)
    return dataset, notes


def _parse(file: Any, path: Path, pixels: bool, max_bytes: int, tags: list[int] | None) -> Any:
    try:
        with hush():
            meta = _meta(file)
        file.seek(0)
        if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            return _inflate(file, path, pixels, max_bytes)
        return pydicom.dcmread(file, stop_before_pixels=not pixels, force=True, specific_tags=tags)
    except (InvalidDicomError, EOFError, zlib.error) as error:
        raise BadImage(f"damaged or truncated DICOM file ({error})", where=show(path)) from error


def _meta(file: Any) -> FileMetaDataset:
    """Read the file meta group alone; empty when it is damaged or absent."""
    if file.read(132)[128:] != b"DICM":
        file.seek(0)
        if file.read(2) != b"\x02\x00":
            return FileMetaDataset()
        file.seek(0)
    try:
        return filereader._read_file_meta_info(file)
    except Exception:
        return FileMetaDataset()


def _inflate(file: Any, path: Path, pixels: bool, max_bytes: int) -> Any:
    """Inflate a deflated data set with a cap; pydicom itself has none."""
    preamble = file.read(128)
    file.seek(132)
    meta = filereader._read_file_meta_info(file)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    parts: list[bytes] = []
    total = 0
    while chunk := file.read(_CHUNK):
        while chunk:
            parts.append(inflater.decompress(chunk, _CHUNK))
            total += len(parts[-1])
            check_size(total, max_bytes, path)
            chunk = inflater.unconsumed_tail
        if inflater.eof:
            break
    if not inflater.eof:
        raise BadImage("truncated: its deflated data end too early", where=show(path))
    body = filereader.read_dataset(
        BytesIO(b"".join(parts)),
        is_implicit_VR=False,
        is_little_endian=True,
        stop_when=None if pixels else _at_pixels,
    )
    dataset = FileDataset(str(path), body, preamble, meta, is_implicit_VR=False, is_little_endian=True)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def _at_pixels(tag: Any, _vr: Any, _length: int) -> bool:
    return int(tag) in _PIXEL_TAGS


def _check_length(dataset: Any, path: Path) -> None:
    """Refuse pixel data that claim more bytes than the file has."""
    for tag in _PIXEL_TAGS:
        element = dataset.get_item(tag) if tag in dataset else None
        length, value = getattr(element, "length", None), getattr(element, "value", None)
        if length not in (None, 0xFFFFFFFF) and isinstance(value, bytes) and length > len(value):
            raise BadImage(f"truncated: {len(value)} of {length} bytes of pixel data are there", where=show(path))


def _settle_syntax(dataset: Any, path: Path, notes: list[str]) -> None:
    """Set the transfer syntax where the file does not say it; compressed pixels are never guessed."""
    if len(dataset) == 0:
        raise BadImage("holds no DICOM elements: truncated or no DICOM file", where=show(path))
    if not hasattr(dataset, "file_meta") or dataset.file_meta is None:
        dataset.file_meta = FileMetaDataset()
    if dataset.file_meta.get("TransferSyntaxUID"):
        return
    element = dataset.get_item(0x7FE00010) if 0x7FE00010 in dataset else None
    if element is not None and getattr(element, "length", 0) == 0xFFFFFFFF:
        raise BadImage(
            "its pixels are compressed, but it does not say how (no TransferSyntaxUID)",
            where=show(path),
            do="Export it again with its file meta information.",
        )
    implicit, little = dataset.original_encoding
    uid = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little is not False else ExplicitVRBigEndian
    dataset.file_meta.TransferSyntaxUID = UID(uid)
    notes.append(f"no TransferSyntaxUID: read as {uid.name}")
