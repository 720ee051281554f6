"""Rows of pixels on disk, keyed by content: segments that are only ever appended to.

A pool is one folder for one way of making network pixels. A segment is what
one build added to it: `NAME.bin` holds the rows, `NAME.jsonl` one line a row
with its identity, place, checksum and the facts of its image. The line is
written after the row, so that a killed build leaves whole rows and at most
one torn line, which is skipped; the next build goes on from there.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import io
import json
import os
import shutil
import uuid
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from medgraft.errors import DiskFull, UserError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_SYNC_BYTES = 64 << 20
_SYNC_LINES = 256


@dataclass(frozen=True)
class Row:
    """Where one image lies.

    Attributes:
        file: the segment's `.bin`; None when only the facts were kept, for want of room.
        offset: bytes from the file's start.
        shape: `(C, [D,] H, W)`.
        dtype: "uint8" or "uint16".
        checksum: crc32 of the row's bytes.
        record: the facts of the image, without pixels; `thumbnail` is an array again.
    """

    file: Path | None
    offset: int
    shape: tuple[int, ...]
    dtype: str
    checksum: int
    record: dict[str, Any]

    @property
    def bytes(self) -> int:
        """Bytes of the pixels."""
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


def read_rows(folder: Path, wanted: set[str]) -> dict[str, Row]:
    """Get the rows of a pool by identity, only those in `wanted`; torn and foreign lines are skipped."""
    found: dict[str, Row] = {}
    for index in sorted(folder.glob("*.jsonl")):
        data = index.with_suffix(".bin")
        with contextlib.suppress(OSError):  # another process is removing it
            size = data.stat().st_size
            with open(index, "rb") as lines:
                for line in lines:
                    identity, row = _parse(line, data, size, wanted)
                    if row is not None and (identity not in found or found[identity].file is None):
                        found[identity] = row
    return found


def _parse(line: bytes, data: Path, size: int, wanted: set[str]) -> tuple[str, Row | None]:
    if line[:14] == b'{"identity": "' and line[14 : line.find(b'"', 14)].decode("ascii", "replace") not in wanted:
        return "", None  # spares parsing the rows of other data
    try:
        entry = json.loads(line)
        identity, shape = entry["identity"], tuple(int(v) for v in entry["shape"])
        kept = entry["offset"] is not None
        row = Row(
            data if kept else None,
            entry["offset"] or 0,
            shape,
            entry["dtype"],
            entry["crc"],
            _unpacked(entry["record"]),
        )
    except (ValueError, KeyError, TypeError):
        return "", None
    if identity not in wanted or (kept and row.offset + row.bytes > size):
        return identity, None
    return identity, row


def checksum(pixels: np.ndarray) -> int:
    """Get the crc32 of contiguous pixels."""
    return zlib.crc32(pixels.data.cast("B"))


def _packed(record: Mapping[str, Any]) -> dict[str, Any]:
    plain = {name: value for name, value in record.items() if name not in ("pixels", "thumbnail")}
    thumbnail = record.get("thumbnail")
    if thumbnail is not None:
        small = np.ascontiguousarray(thumbnail, np.uint8)
        plain["thumbnail"] = {"shape": list(small.shape), "base64": base64.b64encode(small.tobytes()).decode("ascii")}
    return plain


def _unpacked(record: dict[str, Any]) -> dict[str, Any]:
    small = record.get("thumbnail")
    if small is not None:
        data = np.frombuffer(base64.b64decode(small["base64"]), np.uint8)
        record["thumbnail"] = data.reshape(small["shape"])
    return record


class Writer:
    """A new segment: rows are appended, then their lines; both reach the disk at least every 64 MB.

    Use as a context; a segment without rows leaves no files.

    Raises:
        DiskFull: from `add` and at the end, when the disk has no room; rows written before stay valid.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{uuid.uuid4().hex}.bin"
        self._held = contextlib.ExitStack()
        self._files: tuple[BinaryIO, BinaryIO] | None = None
        self._offset = 0
        self._waiting: list[bytes] = []
        self._unsynced = 0

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with self._held:
            try:
                self._flush()
            except OSError as error:
                if kind is None:
                    raise explained(error, self.path.parent) from error

    def add(self, identity: str, pixels: np.ndarray, *, record: Mapping[str, Any], keep: bool = True) -> Row:
        """Append one image.

        Args:
            identity: its key by content.
            pixels: `(C, [D,] H, W)`.
            record: the facts; `pixels` in it is left out.
            keep: False keeps the facts and the checksum only.
        """
        row = np.ascontiguousarray(pixels)
        entry = {
            "identity": identity,
            "offset": self._offset if keep else None,
            "shape": list(row.shape),
            "dtype": str(row.dtype),
            "crc": checksum(row),
            "record": _packed(record),
        }
        made = Row(self.path if keep else None, self._offset, row.shape, str(row.dtype), entry["crc"], _facts(record))
        try:
            if keep:
                self._append(row)
            self._waiting.append(json.dumps(entry, default=_number).encode() + b"\n")
            if self._unsynced >= _SYNC_BYTES or len(self._waiting) >= _SYNC_LINES:
                self._flush()
        except OSError as error:
            raise explained(error, self.path.parent) from error
        return made

    def _append(self, row: np.ndarray) -> None:
        data, _ = self._open()
        try:
            _write_whole(data, row.data.cast("B"))
        except OSError:
            with contextlib.suppress(OSError):
                data.truncate(self._offset)  # half a row helps nobody, and the lines of the others need room
            raise
        self._offset += row.nbytes
        self._unsynced += row.nbytes

    def _open(self) -> tuple[BinaryIO, BinaryIO]:
        if self._files is None:
            data = self._held.enter_context(io.FileIO(self.path, "x"))
            hold(data.fileno())
            lines = self._held.enter_context(io.FileIO(self.path.with_suffix(".jsonl"), "x"))
            self._files = cast("tuple[BinaryIO, BinaryIO]", (data, lines))
        return self._files

    def _flush(self) -> None:
        """Rows first, then their lines: a line on disk means that its row is."""
        if not self._waiting:
            return
        data, lines = self._open()
        os.fsync(data.fileno())
        _write_whole(lines, memoryview(b"".join(self._waiting)))
        os.fsync(lines.fileno())
        self._waiting, self._unsynced = [], 0


def explained(error: OSError, folder: Path) -> Exception:
    """Get what a failed write means for the user, or the error itself where it means a bug."""
    if error.errno in _FULL:
        free = shutil.disk_usage(folder.parent if folder.parent.is_dir() else folder.anchor).free
        return DiskFull(
            f"the disk is full: the cache of decoded images has no room for its next row ({free / 1e6:.1f} MB free)",
            where=folder,
            do="Rows written before are kept. Free some space, set MEDGRAFT_HOME to another disk, "
            "or decode on the fly with --set machine.cache_gb=0.",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
        return UserError(
            f"the cache of decoded images cannot be written ({error.strerror})",
            where=folder,
            do="Set MEDGRAFT_HOME to a folder that can.",
        )
    return error


def _facts(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != "pixels"}


def _number(value: Any) -> Any:
    """numpy scalars as plain numbers."""
    return value.item() if hasattr(value, "item") else str(value)


def _write_whole(file: BinaryIO, view: memoryview) -> None:
    while view:
        view = view[file.write(view) :]


def hold(handle: int) -> bool:
    """Mark an open segment as used by this process, so that no other process evicts it; False if it is going."""
    if os.name != "posix":
        return True
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def segments(root: Path) -> Iterator[tuple[float, int, Path]]:
    """Get (time of last use, bytes, `.bin`) of every segment of every pool below `root`."""
    for path in root.glob("*/*.bin"):
        try:
            status = path.stat()
            lines = path.with_suffix(".jsonl")
            extra = lines.stat().st_size if lines.exists() else 0
        except OSError:
            continue
        yield status.st_mtime, status.st_size + extra, path


def evict(path: Path) -> bool:
    """Remove a segment unless a process uses it; the lines go first, so that no line outlives its row."""
    try:
        with open(path, "rb") as file:
            if os.name == "posix":
                import fcntl

                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.with_suffix(".jsonl").unlink(missing_ok=True)
            path.unlink(missing_ok=True)
    except OSError:
        return False
    return True
