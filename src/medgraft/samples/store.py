"""The store: decoded and resized images on disk, so that no image is decoded twice.

An image's identity is the sha256 of its file's bytes, its index in the file,
how its pixels are made, and the reader's version. So a changed file is decoded
again, an identical one never is, and runs on the same data share their rows.
Rows are read with `pread`, not mapped: resident memory does not grow with the
data.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from medgraft import storage
from medgraft.errors import BadImage, MedgraftError, RunLocked
from medgraft.samples import segments
from medgraft.samples.facts import image_facts
from medgraft.samples.identity import identify, identity
from medgraft.values import ImageRef

READER = 1  # raise it when the same file must give other pixels than before
GIGABYTE = 1_000_000_000


class Store:
    """Network pixels of a list of images, by position.

    Attributes:
        refs: the images, in order.
        network: size, channels, fit, interpolation and window that made the pixels.
        records: the facts of each image, in order (see `facts.image_facts`); `error` is set for a bad one.
        bad: (position, reason) of the images that could not be read.
        notes: what a person should know, such as that the budget was too small.
        shape: `(C, [D,] H, W)` of every row, or None when all images are bad.
        dtype: uint8, or uint16 as soon as one image has more than 8 bits.
    """

    def __init__(
        self, refs: Sequence[ImageRef], network: Mapping[str, Any], rows: Sequence[segments.Row | str]
    ) -> None:
        self.refs = list(refs)
        self.network = dict(network)
        self.notes: list[str] = []
        self._rows = list(rows)
        self.bad = [(index, row) for index, row in enumerate(rows) if isinstance(row, str)]
        good = [row for row in self._rows if isinstance(row, segments.Row)]
        self.shape = good[0].shape if good else None
        self.dtype = np.dtype("uint16" if any(row.dtype == "uint16" for row in good) else "uint8")
        self._start()

    @classmethod
    def open(
        cls,
        refs: Sequence[ImageRef],
        network: Mapping[str, Any],
        *,
        folder: Path | None = None,
        budget_bytes: int = 20 * GIGABYTE,
        workers: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> Store:
        """Find or make the rows of all images; those that are missing are decoded in worker processes.

        Args:
            refs: the images.
            network: size (H, W) or (D, H, W), channels, fit, and optionally interpolation and window.
            folder: where the cache lies; by default below `$MEDGRAFT_HOME`.
            budget_bytes: disk space for all stores together. Segments of other data go first, the least
                recently used first; what still does not fit is decoded on the fly, which `notes` says.
            workers: processes that decode.
            progress: called with (done, all) after each image, and with (0, all) while another process fills
                the same cache; may raise to stop, what is done is kept.

        Raises:
            DiskFull: no room on the disk; rows written before are kept.
        """
        plain = _plain(network)
        root = folder if folder is not None else storage.home() / "cache" / "images"
        here = root / storage.sha256_json({"network": plain, "reader": READER})[:20]
        identities = identify(refs)
        build = _Build(refs, identities, plain, here, budget_bytes)
        with _turn(here, lambda: progress(0, len(identities)) if progress else None):
            rows = build.run(workers, progress)
            store = cls(refs, plain, [rows[name] if name in rows else build.bad[name] for name in identities])
            store.hold()
        store.notes += build.notes()
        return store

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> np.ndarray:
        """Get one image, `(C, [D,] H, W)` of the store's dtype.

        Raises:
            BadImage: it could not be read; the reason is that of `bad`.
        """
        return self.rows([index])[0]

    def rows(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Get images stacked, `(N, C, [D,] H, W)` of the store's dtype.

        Raises:
            BadImage: one of them could not be read.
        """
        places = [int(index) for index in indices]
        if self.shape is None and places:
            raise BadImage(str(self._rows[places[0]]), where=self.refs[places[0]])
        out = np.empty((len(places), *(self.shape or ())), self.dtype)
        for slot, index in enumerate(places):
            row = self._rows[index]
            if isinstance(row, str):
                raise BadImage(row, where=self.refs[index])
            if row.dtype == str(self.dtype):
                self._fetch(index, row, out[slot])
            else:
                narrow = np.empty(row.shape, row.dtype)
                self._fetch(index, row, narrow)
                np.multiply(narrow, 257, out=out[slot], dtype=np.uint16)  # 255 -> 65535, exactly the same fraction
        return out

    @property
    def records(self) -> list[dict[str, Any]]:
        """The facts of every image, in order; their `key` is the reference as text."""
        found = []
        for ref, row in zip(self.refs, self._rows, strict=True):
            if isinstance(row, str):
                found.append({"key": str(ref), "sha256": "", "content": "", "error": row})
            else:
                found.append({**row.record, "key": str(ref)})
        return found

    @property
    def bytes(self) -> int:
        """Bytes of pixels on disk."""
        rows = {(row.file, row.offset): row.bytes for row in self._rows if isinstance(row, segments.Row) and row.file}
        return sum(rows.values())

    def _start(self) -> None:
        self._handles: dict[Path, int] = {}
        self._checked: set[int] = set()
        self._opening = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        for name in ("_handles", "_checked", "_opening"):
            del state[name]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()

    def hold(self) -> None:
        """Open the segments, so that no other process evicts them while this store is in use."""
        for path in {row.file for row in self._rows if isinstance(row, segments.Row) and row.file is not None}:
            with contextlib.suppress(OSError):  # just evicted: those rows are decoded on the fly
                self._handle(path)

    def close(self) -> None:
        """Let other processes evict the segments."""
        for handle in self._handles.values():
            os.close(handle)
        self._start()

    def _fetch(self, index: int, row: segments.Row, out: np.ndarray) -> None:
        """Fill one row from the disk; a row that is gone, damaged or was never kept is decoded here."""
        if row.file is not None:
            try:
                whole = _read_into(self._handle(row.file), row.offset, out)
            except OSError:
                whole = False
            if whole and (index in self._checked or segments.checksum(out) == row.checksum):
                self._checked.add(index)
                return
        pixels = decode(self.refs[index], self.network)
        same = pixels.shape == out.shape and pixels.dtype == out.dtype
        if not same or (index not in self._checked and segments.checksum(pixels) != row.checksum):
            raise BadImage("the file changed while it was in use", where=self.refs[index], do="Start again.")
        self._checked.add(index)
        out[:] = pixels

    def _handle(self, path: Path) -> int:
        with self._opening:
            if path not in self._handles:
                handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
                segments.hold(handle)
                self._handles[path] = handle
            return self._handles[path]


def decode(ref: ImageRef, network: Mapping[str, Any]) -> np.ndarray:
    """Get network pixels of one image in this process: the same bits as the store keeps.

    Raises:
        BadImage: the file cannot be read as an image.
    """
    from medgraft import files

    wanted: dict[str, Any] = {**network, "size": tuple(network["size"])}
    return files.read_pixels(ref, **wanted)


class _Build:
    """One opening of a store: finds rows, decodes the missing ones within the budget."""

    def __init__(
        self, refs: Sequence[ImageRef], identities: Sequence[str], network: dict[str, Any], here: Path, budget: int
    ) -> None:
        self.first: dict[str, ImageRef] = {}  # identical files are decoded once
        for name, ref in zip(identities, refs, strict=True):
            self.first.setdefault(name, ref)
        self.network = network
        self.here = here
        self.budget = budget
        self.bad: dict[str, str] = {}
        self.over = 0
        self.count = len(self.first)

    def run(self, workers: int, progress: Callable[[int, int], None] | None) -> dict[str, segments.Row]:
        rows = segments.read_rows(self.here, set(self.first))
        self.used = {row.file for row in rows.values() if row.file is not None}
        for path in self.used:
            with contextlib.suppress(OSError):
                os.utime(path)  # the time of last use
        self._account()
        missing = [name for name in self.first if name not in rows] + self._homeless(rows)
        if missing:
            rows |= self._decode(missing, workers, progress)
        return rows

    def _homeless(self, rows: dict[str, segments.Row]) -> list[str]:
        """Rows whose facts alone are known: those that fit into the budget now are decoded again to be kept."""
        names = [name for name, row in rows.items() if row.file is None]
        room = self.budget - self.total + sum(size for size, _ in self.others)
        fit = 0
        for name in names:
            room -= rows[name].bytes
            if room < 0:
                break
            fit += 1
        self.over = len(names) - fit
        return names[:fit]

    def _decode(
        self, missing: list[str], workers: int, progress: Callable[[int, int], None] | None
    ) -> dict[str, segments.Row]:
        from medgraft import files

        made: dict[str, segments.Row] = {}
        done = self.count - len(missing)
        refs = [self.first[name] for name in missing]
        with segments.Writer(self.here) as writer:
            self.used.add(writer.path)
            for index, result in files.read_many(refs, partial(image_facts, network=self.network), workers=workers):
                if isinstance(result, MedgraftError):
                    self.bad[missing[index]] = _reason(result)
                else:
                    record = cast("dict[str, Any]", result)
                    made[missing[index]] = self._keep(writer, missing[index], record)
                if progress is not None:
                    progress(done + index + 1, self.count)
        return made

    def _keep(self, writer: segments.Writer, name: str, record: dict[str, Any]) -> segments.Row:
        pixels = record["pixels"]
        fits = self._make_room(pixels.nbytes)
        self.total += pixels.nbytes if fits else 0
        self.over += not fits
        now = identity(
            self.first[name], record["sha256"]
        )  # differs from `name` when the file changed since it was hashed
        return writer.add(now, pixels, record=record, keep=fits)

    def _account(self) -> None:
        """Note what all stores take, and what may be evicted, the least recently used last."""
        found = sorted(segments.segments(self.here.parent), reverse=True)
        self.total = sum(size for _, size, _ in found)
        self.others = [(size, path) for _, size, path in found if path not in self.used]

    def _make_room(self, size: int) -> bool:
        while self.total + size > self.budget and self.others:
            gone, path = self.others.pop()
            if segments.evict(path):
                self.total -= gone
        return self.total + size <= self.budget

    def notes(self) -> list[str]:
        if not self.over:
            return []
        return [
            f"The cache of decoded images is limited to {self.budget / GIGABYTE:.3g} GB, so {self.over} of "
            f"{self.count} images are decoded again each time they are used. This is slower and changes no "
            "result. A larger machine.cache_gb avoids it."
        ]


def _reason(error: MedgraftError) -> str:
    return f"{error.what.rstrip('.')}. {error.do}" if error.do else error.what


def _plain(network: Mapping[str, Any]) -> dict[str, Any]:
    """Spell out the defaults, so that the same pixels always have the same name."""
    plain: dict[str, Any] = {"fit": "pad", "interpolation": "bilinear", "window": None, **network}
    plain["size"] = [int(v) for v in plain["size"]]
    if plain["window"] is not None:
        plain["window"] = [float(v) for v in plain["window"]]
    return plain


@contextlib.contextmanager
def _turn(folder: Path, poll: Callable[[], None]) -> Iterator[None]:
    """Wait for other processes that fill the same pool: their rows are ours too.

    Raises:
        UserError: the folder cannot be written.
    """
    with contextlib.ExitStack() as held:
        while True:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                held.enter_context(storage.lock(folder))
                break
            except RunLocked:
                poll()  # may raise to stop
                time.sleep(0.2)
            except OSError as error:
                raise segments.explained(error, folder) from error
        yield


def _read_into(handle: int, offset: int, out: np.ndarray) -> bool:
    """Fill `out` from a file; False when the file is too short."""
    view = out.data.cast("B")
    while view:
        if hasattr(os, "preadv"):
            count = os.preadv(handle, [view], offset)
        else:
            data = _seek_read(handle, offset, len(view))
            view[: len(data)] = data
            count = len(data)
        if count <= 0:
            return False
        view, offset = view[count:], offset + count
    return True


def _seek_read(handle: int, offset: int, count: int) -> bytes:
    with _SEEKING:
        os.lseek(handle, offset, os.SEEK_SET)
        return os.read(handle, count)


_SEEKING = threading.Lock()
