"""Files that are whole or absent: atomic writes, hashes, locks.

A temporary file in the same folder, fsync, replace, fsync of the folder: a
reader sees the old file or the new one, never half of either, also when the
disk is full or the process is killed at any instant.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from medgraft.errors import DiskFull, MedgraftError, RunLocked, UserError

_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would be larger than this system allows",
}
_NOT_THERE = {
    errno.EACCES: "you may not write here, or not read",
    errno.EPERM: "this is not permitted",
    errno.EROFS: "this disk can only be read",
    errno.ENOENT: "there is no such file or folder, and it cannot be made",
    errno.ENOTDIR: "a part of this path is a file, not a folder",
    errno.EISDIR: "this is a folder, not a file",
    errno.EEXIST: "this is a file, not a folder",
    errno.ENAMETOOLONG: "this name is too long",
}
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def write_atomic(path: Path, write: Callable[[BinaryIO], None], *, needed_bytes: int = 0) -> None:
    """Write a file whole or not at all.

    Args:
        path: the final name; its folder is made.
        write: gets a binary file to fill.
        needed_bytes: what the file will take, when known; checked before writing.

    Raises:
        DiskFull: there is no space; the former file is intact.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(path.parent).free
        if needed_bytes > free:
            raise OSError(errno.ENOSPC, "not enough space")
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        written = temporary.stat().st_size if temporary.exists() else 0
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise explained(error, path, needed_bytes=max(needed_bytes, written + 1)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def explained(error: OSError, path: Path, *, needed_bytes: int) -> OSError | MedgraftError:
    """Get what it means for the user that there was no room, or that a path is not to be had; else the error itself."""
    if error.errno in _NOT_THERE:
        return UserError(_NOT_THERE[error.errno], where=path, do="Give another path.")
    if error.errno not in _FULL:
        return error
    there = next((folder for folder in path.parents if folder.is_dir()), Path(path.anchor))
    free = shutil.disk_usage(there).free
    return DiskFull(
        f"{_FULL[error.errno]}: this file needs {_megabytes(needed_bytes)}, {_megabytes(free)} are free",
        where=path,
        do="What was saved before is intact. Free some space, then go on with --resume.",
    )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count} bytes"


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    data = text.encode("utf-8")
    write_atomic(path, lambda file: _write_all(file, data), needed_bytes=len(data))


def _write_all(file: BinaryIO, data: bytes) -> None:
    file.write(data)


def write_json(path: Path, values: Any) -> None:
    """Write strict JSON atomically (no NaN; keys keep their order)."""
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_table(path: Path, rows: Iterable[Mapping[str, object]], *, columns: Sequence[str]) -> None:
    """Write a CSV atomically; text that a spreadsheet would run as a formula gets a leading apostrophe."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([inert(name) for name in columns])
    for row in rows:
        writer.writerow([inert(row.get(name)) for name in columns])
    write_text(path, buffer.getvalue())


def inert(cell: object) -> object:
    """Get a table cell that no spreadsheet runs as a formula: such text gets a leading apostrophe. Numbers stay.

    Example:
        >>> inert("=1+1"), inert("-4.5")
        ("'=1+1", '-4.5')
    """
    if cell is None:
        return ""
    if isinstance(cell, str) and cell.startswith(_FORMULA_STARTS) and not _NUMBER.fullmatch(cell):
        return "'" + cell
    return cell


def as_written(cell: str) -> str:
    """Get the text of which `inert` made a cell.

    Example:
        >>> as_written("'=1+1"), as_written("'tis"), as_written("-4.5")
        ('=1+1', "'tis", '-4.5')
    """
    return cell[1:] if cell.startswith("'") and inert(cell[1:]) == cell else cell


def sha256_file(path: Path) -> str:
    """Get the sha256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(values: Any) -> str:
    """Get the sha256 of plain values, independent of the order of keys."""
    text = json.dumps(values, sort_keys=True, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold a folder for this process; the kernel lets go even after kill -9.

    Raises:
        RunLocked: another process holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = open(folder / ".lock", "a+b")  # noqa: SIM115
    except OSError as error:
        raise explained(error, folder, needed_bytes=1) from error
    with handle as file:
        if not _try_lock(file):
            raise RunLocked(
                "another process is working in this folder", where=folder, do="Wait for it, or give another --out."
            )
        yield


def _try_lock(file: BinaryIO) -> bool:
    if os.name != "posix":
        import msvcrt

        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise
    return True


def home() -> Path:
    """Get the folder of caches and downloaded weights: `$MEDGRAFT_HOME`, or the platform's cache folder."""
    named = os.environ.get("MEDGRAFT_HOME")
    if named:
        return Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or ("~/AppData/Local" if os.name == "nt" else "~/.cache")
    return Path(base).expanduser() / "medgraft"


def reserve(path: Path, size: int) -> None:
    """Make a file of `size` bytes whose space is really there.

    Raises:
        DiskFull: there is no such space; nothing is left behind.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            if size and hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
    except OSError as error:
        if error.errno in _FULL:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        raise explained(error, path, needed_bytes=size) from error
