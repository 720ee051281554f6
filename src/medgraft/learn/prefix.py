"""Frozen layers give the same activations each epoch, so they run once.

The activations of a stated number of augmented views of every training image
are kept in a memory-mapped file under the cache folder, named by everything
that decides them: pixels, augmentation, weights, precision. The loop then
trains only what is thawed. A head that looks at levels below the cut finds
their pooled features beside the activations, in the same file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medgraft import seeds, storage
from medgraft.errors import RunLocked
from medgraft.learn import stopping
from medgraft.learn.engine import Engine
from medgraft.samples.loader import Loader
from medgraft.samples.order import batch_slices, epoch_order
from medgraft.samples.store import READER
from medgraft.storage import write_json
from medgraft.tasks.base import ImageTask
from medgraft.values import Batch
from medgraft.version import VERSION

_ROWS, _DONE = "rows.bin", "done.json"


@dataclass(frozen=True)
class Cut:
    """Where the encoder is cut.

    Attributes:
        stage: number of frozen stages below the cut; one more than all stages = pooled features.
        shape: of one activation.
        dtype: float32 for pooled features, bfloat16 for maps.
        beside: float32 pooled features of lower levels that are kept beside one map.
    """

    stage: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    beside: int = 0

    def bytes_of(self, rows: int) -> int:
        """Get what `rows` activations take on disk."""
        return rows * (4 * self.beside + math.prod(self.shape) * self.dtype.itemsize)


def find_cuts(task: ImageTask, pixels: Tensor, *, thawed: Sequence[int]) -> list[Cut]:
    """Get where to cut so that so many last stages stay above, for each of these depths.

    Args:
        task: the task whose stages are counted.
        pixels: one image `(1, C, H, W)` to measure the activations with.
        thawed: numbers of stages that learn; 0 cuts above the pooled features.
    """
    stages = len(task.parts().stages)
    stops = [stages - count if count else stages + 1 for count in thawed]
    with torch.no_grad():
        found = {
            stop: (raw.shape[1:], 0 if beside is None else beside.shape[1])
            for stop, (raw, beside) in zip(sorted(stops), task.cuts(pixels, stops), strict=True)
        }
    kinds = [torch.bfloat16 if stop <= stages else torch.float32 for stop in stops]
    return [Cut(stop, tuple(found[stop][0]), kind, found[stop][1]) for stop, kind in zip(stops, kinds, strict=True)]


class Frozen:
    """Cached activations as a source of batches.

    Args:
        rows: `(images * views, ...)` activations, image by image.
        beside: `(images * views, F)` pooled features of lower levels, or None.
        loader: the images they are of: keys, targets, order and size of batches are its own.
        views: how many an image.
        start: the stage that the activations enter.
        places: which of the rows' images these are; None for all in order.
    """

    def __init__(
        self,
        rows: Tensor,
        beside: Tensor | None,
        *,
        loader: Loader,
        views: int,
        start: int,
        places: np.ndarray | None = None,
    ) -> None:
        self.rows, self.beside, self.views, self.start = rows, beside, views, start
        self.places = np.arange(len(loader.keys)) if places is None else places
        self.targets, self.keys, self.share = torch.as_tensor(loader.targets), loader.keys, loader.share
        self.batch_size, self.seed, self.shuffle = loader.batch_size, loader.seed, loader.shuffle

    def __len__(self) -> int:
        return len(self._slices())

    def _slices(self) -> list[slice]:
        return batch_slices(len(self.keys), self.batch_size, training=self.shuffle)

    def epoch(self, epoch: int, *, start_step: int = 0) -> Iterator[Batch]:
        """Yield batches of one epoch, from `start_step` on; each image by one of its views."""
        count = len(self.keys)
        order, view = np.arange(count), np.zeros(count, dtype=np.int64)
        if self.shuffle:
            order = epoch_order(count, seed=self.seed, purpose="train", epoch=epoch, share=self.share)
            view = seeds.generator(self.seed, "view", epoch).integers(self.views, size=count)
        for part in self._slices()[start_step:]:
            yield self._batch(order[part], view[part])

    def view(self, view: int) -> Iterator[Batch]:
        """Yield every image once, in order, by one of its views; view 0 is the plain image."""
        for part in self._slices():
            chosen = np.arange(part.start, part.stop)
            yield self._batch(chosen, np.full(len(chosen), view))

    def part(self, places: np.ndarray, loader: Loader) -> Frozen:
        """Get the same activations of some of the images; the loader is that of these images."""
        words = {"loader": loader, "views": self.views, "start": self.start}
        return Frozen(self.rows, self.beside, **words, places=self.places[places])

    def _batch(self, chosen: np.ndarray, view: np.ndarray) -> Batch:
        where = torch.from_numpy(self.places[chosen] * self.views + view)
        return Batch(
            pixels=self.rows[where].float(),
            keys=tuple(self.keys[i] for i in chosen),
            targets=self.targets[torch.from_numpy(chosen)],
            start=self.start,
            beside=None if self.beside is None else self.beside[where],
        )


def cache_place(task: ImageTask, loader: Loader, *, engine: Engine, cut: Cut, views: int, identity: Any) -> Path:
    """Get the folder that holds, or will hold, these activations: its name is the hash of all that decides them.

    Args:
        task: its frozen stages count by their weights.
        loader: gives the images, by whose keys their augmentation is drawn.
        engine: precision and memory layout.
        cut: where to stop.
        views: how many views an image.
        identity: plain values that decide pixels and augmentation.
    """
    described = {
        "medgraft": [VERSION, READER],
        "identity": identity,
        "keys": list(loader.keys),
        "net": [task.backbone.architecture, task.backbone.spec.to_dict(), _weights_sha256(task, cut.stage)],
        "cut": [cut.stage, *cut.shape],
        # Below a cut at a map that the head looks at from above alone, how it looks changes nothing.
        "pooled": [task.head.pooling, cut.beside] if cut.beside or cut.stage > len(task.parts().stages) else [],
        "views": views,
        "precision": [engine.precision, engine.channels_last, engine.device.type],
        "batch": loader.batch_size,
    }
    return storage.home() / "prefix" / storage.sha256_json(described)[:32]


def freeze_sources(
    task: ImageTask,
    loader: Loader,
    *,
    engine: Engine,
    caches: Sequence[tuple[Cut, Path]],
    views: int,
    listen: Callable[[dict[str, Any]], None] = lambda event: None,
) -> list[Frozen]:
    """Run the frozen stages once over every view of every image, or find that it was done before.

    Args:
        task: in eval mode below the cuts.
        loader: gives the views; view 0 is the plain image.
        engine: device and precision.
        caches: where to stop, and what `cache_place` gave for the same arguments. Several are filled at once.
        views: how many views an image.
        listen: gets progress events.

    Raises:
        Interrupted, DiskFull: the views that were completed are kept and used next time.
    """
    count = len(loader.keys)
    caches = sorted(caches, key=lambda one: one[0].stage)
    with contextlib.ExitStack() as turns:
        for place in sorted(place for _, place in caches):  # in one order, so that two processes never wait for another
            turns.enter_context(_turn(place))
        files = [_open(place, count * views, cut) for cut, place in caches]
        task.eval()
        for view in range(min(_done(place) for _, place in caches), views):
            at = 0
            for batch in loader.view(view):
                stopping.check()
                where = torch.arange(at, at + len(batch.keys)) * views + view
                _fill(task, engine, engine.move(batch).pixels, [cut for cut, _ in caches], files=files, where=where)
                at += len(batch.keys)
                listen({"event": "prefix", "done": view * count + at, "of": views * count})
            for _, place in caches:
                with open(place / _ROWS, "rb+") as file:
                    os.fsync(file.fileno())  # the rows are on the disk before the word that they are
                write_json(place / _DONE, {"views": view + 1, "of": views})
        for _, place in caches:
            os.utime(place / _ROWS)  # the time of last use, by which room is made
    return [
        Frozen(rows, beside, loader=loader, views=views, start=cut.stage)
        for (cut, _), (rows, beside) in zip(caches, files, strict=True)
    ]


def _done(place: Path) -> int:
    """How many views a cache holds already."""
    progress = place / _DONE
    return json.loads(progress.read_text())["views"] if progress.exists() else 0


@contextlib.contextmanager
def _turn(place: Path) -> Iterator[None]:
    """Wait for another process that fills the same cache: its rows are ours too."""
    with contextlib.ExitStack() as held:
        while True:
            try:
                held.enter_context(storage.lock(place))
                break
            except RunLocked:
                stopping.check()
                time.sleep(0.2)
        yield


@torch.no_grad()
def _fill(
    task: ImageTask,
    engine: Engine,
    pixels: Tensor,
    cuts: Sequence[Cut],
    *,
    files: Sequence[tuple[Tensor, Tensor | None]],
    where: Tensor,
) -> None:
    """Keep what comes out at the cuts, and what is kept beside it."""
    with engine.autocast():
        found = task.cuts(pixels, [cut.stage for cut in cuts])
        for cut, (rows, more), (raw, beside) in zip(cuts, files, found, strict=True):
            rows[where] = raw.to("cpu", cut.dtype).contiguous()
            if more is not None and beside is not None:
                more[where] = beside.float().cpu()


def _open(place: Path, count: int, cut: Cut) -> tuple[Tensor, Tensor | None]:
    """Map the file, made full-sized first so that a full disk shows here and not as a crash in the map.

    What is kept beside the activations comes first in it, so that each part begins where its numbers may.
    """
    size, path = cut.bytes_of(count), place / _ROWS
    if not path.exists() or path.stat().st_size != size:
        (place / _DONE).unlink(missing_ok=True)
        storage.reserve(path, size)
    flat = torch.from_file(str(path), shared=True, size=size, dtype=torch.uint8)
    first = 4 * count * cut.beside
    rows = flat[first:].view(cut.dtype).view(count, *cut.shape)
    return rows, flat[:first].view(torch.float32).view(count, cut.beside) if cut.beside else None


def _weights_sha256(task: ImageTask, stage: int) -> str:
    digest = hashlib.sha256()
    for name, module in task.parts().stages[:stage]:
        for key, tensor in module.state_dict().items():
            digest.update(f"{name}.{key}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def make_room(budget_bytes: int, needed_bytes: int, *, keep: Sequence[Path] = ()) -> bool:
    """Delete the least recently used caches of frozen layers until `needed_bytes` fit into the budget.

    Args:
        budget_bytes: for all of them.
        needed_bytes: what the caches in `keep` take together, made or not.
        keep: not deleted. Neither is a cache that another process is filling.

    Returns:
        False when they do not fit.
    """
    if needed_bytes > budget_bytes:
        return False
    folder = storage.home() / "prefix"
    found = [(path.stat(), path.parent) for path in folder.glob(f"*/{_ROWS}") if path.parent not in keep]
    total = sum(status.st_size for status, _ in found)
    for status, place in sorted(found, key=lambda item: item[0].st_mtime_ns):
        if total + needed_bytes <= budget_bytes:
            break
        with contextlib.suppress(RunLocked), storage.lock(place):
            (place / _DONE).unlink(missing_ok=True)
            (place / _ROWS).unlink()
            total -= status.st_size
    return total + needed_bytes <= budget_bytes
