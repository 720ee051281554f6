"""Frozen layers give the same activations each epoch, so they run once.

The activations of a stated number of augmented views of every training image
are kept in a memory-mapped file under the cache folder, named by everything
that decides them: pixels, augmentation, weights, precision. The loop then
trains only what is thawed.
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
    """

    stage: int
    shape: tuple[int, ...]
    dtype: torch.dtype

    def bytes_of(self, rows: int) -> int:
        """Get what `rows` activations take on disk."""
        return rows * math.prod(self.shape) * (4 if self.dtype == torch.float32 else 2)


def find_cut(task: ImageTask, pixels: Tensor, *, thawed: int) -> Cut:
    """Get where to cut so that the `thawed` last stages stay above.

    Args:
        task: the task whose stages are counted.
        pixels: one image `(1, C, H, W)` to measure the activation with.
        thawed: number of stages that learn.
    """
    stages = len(task.parts().stages)
    with torch.no_grad():
        raw = task.backbone.run(pixels, stop=stages - thawed)
        if thawed == 0:
            features = task.pooled(raw)
            return Cut(stages + 1, tuple(features.shape[1:]), torch.float32)
    return Cut(stages - thawed, tuple(raw.shape[1:]), torch.bfloat16)


class Frozen:
    """Cached activations as a source of batches.

    Args:
        rows: `(images * views, ...)` activations, image by image.
        targets: `(images, ...)`.
        keys: one an image.
    """

    def __init__(
        self,
        rows: Tensor,
        *,
        targets: Tensor,
        keys: Sequence[str],
        views: int,
        start: int,
        batch_size: int,
        seed: int,
        shuffle: bool,
        share: np.ndarray | None = None,
    ) -> None:
        self.rows, self.targets, self.keys = rows, targets, tuple(keys)
        self.views, self.start, self.batch_size = views, start, batch_size
        self.seed, self.shuffle, self.share = seed, shuffle, share

    def __len__(self) -> int:
        return len(batch_slices(len(self.keys), self.batch_size, training=self.shuffle))

    def epoch(self, epoch: int, *, start_step: int = 0) -> Iterator[Batch]:
        """Yield batches of one epoch, from `start_step` on; each image by one of its views."""
        count = len(self.keys)
        order, view = np.arange(count), np.zeros(count, dtype=np.int64)
        if self.shuffle:
            order = epoch_order(count, seed=self.seed, purpose="train", epoch=epoch, share=self.share)
            view = seeds.generator(self.seed, "view", epoch).integers(self.views, size=count)
        for part in batch_slices(count, self.batch_size, training=self.shuffle)[start_step:]:
            chosen = order[part]
            where = torch.from_numpy(chosen * self.views + view[part])
            yield Batch(
                pixels=self.rows[where].float(),
                keys=tuple(self.keys[i] for i in chosen),
                targets=self.targets[torch.from_numpy(chosen)],
                start=self.start,
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
        "views": views,
        "precision": [engine.precision, engine.channels_last, engine.device.type],
        "batch": loader.batch_size,
    }
    return storage.home() / "prefix" / storage.sha256_json(described)[:32]


def freeze_source(
    task: ImageTask,
    loader: Loader,
    *,
    engine: Engine,
    cut: Cut,
    views: int,
    place: Path,
    listen: Callable[[dict[str, Any]], None] = lambda event: None,
) -> Frozen:
    """Run the frozen stages once over every view of every image, or find that it was done before.

    Args:
        task: in eval mode below the cut.
        loader: gives the views; view 0 is the plain image.
        engine: device and precision.
        cut: where to stop.
        views: how many views an image.
        place: what `cache_place` gave for the same arguments.
        listen: gets progress events.

    Raises:
        Interrupted, DiskFull: the views that were completed are kept and used next time.
    """
    count = len(loader.keys)
    with _turn(place):
        rows = _open(place, count * views, cut)
        progress = place / _DONE
        done = json.loads(progress.read_text())["views"] if progress.exists() else 0
        for view in range(done, views):
            _fill_view(task, engine, loader, cut, rows, view, views, listen)
            with open(place / _ROWS, "rb+") as file:
                os.fsync(file.fileno())  # the rows are on the disk before the word that they are
            write_json(progress, {"views": view + 1, "of": views})
        os.utime(place / _ROWS)  # the time of last use, by which room is made
    return Frozen(
        rows,
        targets=torch.as_tensor(loader.targets),
        keys=loader.keys,
        views=views,
        start=cut.stage,
        batch_size=loader.batch_size,
        seed=loader.seed,
        shuffle=loader.shuffle,
        share=loader.share,
    )


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
def _fill_view(
    task: ImageTask,
    engine: Engine,
    loader: Loader,
    cut: Cut,
    rows: Tensor,
    view: int,
    views: int,
    listen: Callable[[dict[str, Any]], None],
) -> None:
    task.eval()
    stages, at = len(task.parts().stages), 0
    for batch in loader.view(view):
        stopping.check()
        batch = engine.move(batch)
        with engine.autocast():
            raw = task.backbone.run(batch.pixels, stop=min(cut.stage, stages))
            found = task.pooled(raw) if cut.stage > stages else raw
        where = torch.arange(at, at + len(batch.keys)) * views + view
        rows[where] = found.to("cpu", cut.dtype).contiguous()
        at += len(batch.keys)
        done = view * len(loader.keys) + at
        listen({"event": "prefix", "done": done, "of": views * len(loader.keys)})


def _open(place: Path, count: int, cut: Cut) -> Tensor:
    """Map the file, made full-sized first so that a full disk shows here and not as a crash in the map."""
    size, path = cut.bytes_of(count), place / _ROWS
    if not path.exists() or path.stat().st_size != size:
        (place / _DONE).unlink(missing_ok=True)
        storage.reserve(path, size)
    flat = torch.from_file(str(path), shared=True, size=count * math.prod(cut.shape), dtype=cut.dtype)
    return flat.view(count, *cut.shape)


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
