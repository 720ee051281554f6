"""Batches for training, validation and the cache of frozen layers.

What a batch holds is a function of (seed, epoch, step): an epoch may start at
any step, and worker processes change the speed alone.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from medgraft.errors import BadImage
from medgraft.samples import augment
from medgraft.samples.order import batch_slices, epoch_order, occurrences
from medgraft.samples.presets import Preset
from medgraft.values import Batch, ImageRef, InputSpec

if TYPE_CHECKING:
    from medgraft.samples.crew import Crew


class Rows(Protocol):
    """What batches are made of: a `store.Store`, or arrays that are in memory."""

    @property
    def refs(self) -> Sequence[ImageRef]:
        """The images, in order."""
        ...

    @property
    def bad(self) -> Sequence[tuple[int, str]]:
        """(position, reason) of those that could not be read."""
        ...

    @property
    def shape(self) -> tuple[int, ...] | None:
        """`(C, [D,] H, W)` of each, or None where none could be read."""
        ...

    def rows(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Get images stacked, `(N, C, [D,] H, W)`."""
        ...


@dataclass(frozen=True, eq=False)
class Items:
    """Which images of a store are shown, and what is known of them.

    Attributes:
        indices: positions in the store, N.
        keys: N sample keys, unique.
        targets: `(N,)` or `(N, K)` what the task encoded, or None.
        weights: `(N,)` weight of each sample in the loss, or None.
        share: `(N,)` how often each is wanted in an epoch, in any scale; None shows each once.
    """

    indices: Sequence[int]
    keys: Sequence[str]
    targets: np.ndarray | torch.Tensor | None = None
    weights: np.ndarray | torch.Tensor | None = None
    share: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Recall:
    """What makes a batch's pixels; travels to worker processes.

    Attributes:
        epoch: the epoch or view whose augmentation is drawn; None shows the images as they are.
    """

    store: Rows
    indices: tuple[int, ...]
    keys: tuple[str, ...]
    spec: InputSpec
    preset: Preset | None
    seed: int

    def pixels(self, step: Step) -> torch.Tensor:
        """Get `(N, C, [D,] H, W)` float32, normalised, channels last."""
        rows = self.store.rows([self.indices[position] for position in step.positions])
        if step.epoch is None or self.preset is None or not self.preset.active:
            return normalised(rows, self.spec)
        moved = augment.augment(rows, self.preset, keys=self.names(step), seed=self.seed, epoch=step.epoch)
        return normalised(moved, self.spec)

    def names(self, step: Step) -> list[str]:
        """Get what the random numbers of each sample of a batch are drawn by."""
        return [
            self.keys[position] if again == 0 else f"{self.keys[position]}\x1f{again}"
            for position, again in zip(step.positions, step.again, strict=True)
        ]


@dataclass(frozen=True)
class Step:
    """One batch to make.

    Attributes:
        positions: which items.
        again: how often each was shown before in this epoch.
        epoch: whose augmentation; None for none.
    """

    positions: tuple[int, ...]
    again: tuple[int, ...]
    epoch: int | None


class Loader:
    """Batches by epoch.

    Args:
        store: the pixels.
        items: which of them, with keys and targets.
        spec: mean and std to normalise with.
        batch_size: images a batch; the last one may be smaller.
        seed: of order and augmentation.
        shuffle: another order each epoch (and `items.share` is followed); without it items come in their order.
        preset: augmentation; None shows the images as they are.
        workers: processes that prepare batches ahead; 0 prepares them when they are asked for.
        drop_last: leave out a last batch that is not full.

    Raises:
        BadImage: an item is an image that could not be read.
    """

    def __init__(
        self,
        store: Rows,
        items: Items,
        *,
        spec: InputSpec,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = False,
        preset: Preset | None = None,
        workers: int = 0,
        drop_last: bool = False,
    ) -> None:
        if batch_size < 1 or len(items.indices) != len(items.keys):
            raise ValueError("a batch holds at least one image, and every image has a key")
        bad = dict(store.bad)
        for index in items.indices:
            if int(index) in bad:
                raise BadImage(bad[int(index)], where=store.refs[int(index)], do="Leave out what store.bad lists.")
        self.keys = tuple(items.keys)
        self.targets = None if items.targets is None else torch.as_tensor(items.targets)
        self.weights = None if items.weights is None else torch.as_tensor(items.weights)
        self.share = items.share
        self.batch_size, self.seed, self.shuffle, self.drop_last = batch_size, seed, shuffle, drop_last
        self.workers = workers
        indices = tuple(int(index) for index in items.indices)
        self._recall = Recall(store, indices, self.keys, spec, preset, seed)
        self._crew: Crew | None = None

    def __len__(self) -> int:
        """Batches in an epoch."""
        parts = batch_slices(len(self.keys), self.batch_size, training=self.shuffle)
        return sum(part.stop - part.start >= self.batch_size for part in parts) if self.drop_last else len(parts)

    def epoch(self, epoch: int, *, start_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of one epoch from `start_step` on; the earlier ones are not drawn."""
        if not self.shuffle:
            return self._batches(np.arange(len(self.keys)), epoch, start_step, len(self))
        order = epoch_order(len(self.keys), seed=self.seed, purpose="train", epoch=epoch, share=self.share)
        return self._batches(order, epoch, start_step, len(self))

    def view(self, view: int) -> Iterator[Batch]:
        """Yield every item once, in order: as it is for view 0, else augmented as in epoch `view`."""
        return self._batches(np.arange(len(self.keys)), view if view else None, 0, len(self.keys))

    def plain(self, parts: Sequence[np.ndarray]) -> Iterator[Batch]:
        """Yield the items at these positions as they are, a batch for each part."""
        return self._made([Step(tuple(map(int, part)), (0,) * len(part), None) for part in parts])

    def sample_sheet(self, count: int = 16, *, epoch: int = 1) -> tuple[np.ndarray, list[str]]:
        """Get a few augmented images to look at, as training sees them.

        Returns:
            uint8 `(count, C, H, W)` (the middle slice of volumes), and their keys.
        """
        total = len(self.keys)
        order = epoch_order(total, seed=self.seed, purpose="sheet")[:count]
        recall = self._recall
        rows = recall.store.rows([recall.indices[i] for i in order])
        keys = [self.keys[i] for i in order]
        preset = recall.preset if recall.preset is not None else Preset()
        shown = augment.augment(rows, preset, keys=keys, seed=self.seed, epoch=epoch).numpy()
        if shown.ndim == 5:
            shown = shown[:, :, shown.shape[2] // 2]
        return np.rint(shown * np.float32(255)).astype(np.uint8), keys

    def part(
        self, places: Sequence[int] | np.ndarray, *, share: np.ndarray | None = None, shuffle: bool | None = None
    ) -> Loader:
        """Get a loader of some of the items that shows the same views of them.

        Args:
            places: which items.
            share: as `Items.share`, of these items.
            shuffle: None as here.
        """
        found = copy.copy(self)
        where = torch.as_tensor(np.asarray(places))
        found.keys = tuple(self.keys[i] for i in places)
        found.targets = None if self.targets is None else self.targets[where]
        found.weights = None if self.weights is None else self.weights[where]
        found.share, found.shuffle = share, self.shuffle if shuffle is None else shuffle
        found._recall = replace(self._recall, indices=tuple(self._recall.indices[i] for i in places), keys=found.keys)
        found._crew = None
        return found

    def close(self) -> None:
        """End the worker processes; a later epoch starts them again."""
        if self._crew is not None:
            self._crew.close()
            self._crew = None

    def _batches(self, order: np.ndarray, epoch: int | None, start: int, stop: int) -> Iterator[Batch]:
        again = occurrences(order) if self.shuffle and self.share is not None else [0] * len(order)
        steps = []
        for part in batch_slices(len(order), self.batch_size, training=self.shuffle)[start:stop]:
            steps.append(Step(tuple(int(i) for i in order[part]), tuple(again[part]), epoch))
        return self._made(steps)

    def _made(self, steps: list[Step]) -> Iterator[Batch]:
        for step, pixels in zip(steps, self._pixels(steps), strict=True):
            where = torch.tensor(step.positions, dtype=torch.int64)
            yield Batch(
                pixels=pixels,
                keys=tuple(self.keys[position] for position in step.positions),
                targets=None if self.targets is None else self._told(step, self.targets[where]),
                weights=None if self.weights is None else self.weights[where],
            )

    def _told(self, step: Step, targets: torch.Tensor) -> torch.Tensor:
        """Get the targets of a batch; those of places change with the pixels."""
        del step
        return targets

    def _pixels(self, steps: list[Step]) -> Iterator[torch.Tensor]:
        if self.workers == 0 or len(steps) == 0:
            return map(self._recall.pixels, steps)
        if self._crew is None or self._crew.closed:
            from medgraft.samples.crew import Crew

            self._crew = Crew(self._recall.pixels, self.workers)
        return self._crew.run(steps)


def normalised(pixels: np.ndarray | torch.Tensor, spec: InputSpec) -> torch.Tensor:
    """Get network input: (x - mean) / std a channel, float32, channels last for images.

    Args:
        pixels: `(N, C, [D,] H, W)` uint8, uint16, or float32 in 0..1.
        spec: mean and std for pixels in 0..1.
    """
    found = torch.as_tensor(pixels)
    scale = {torch.uint8: 255.0, torch.uint16: 65535.0}.get(found.dtype, 1.0)
    shape = (1, -1) + (1,) * (found.ndim - 2)
    mean = torch.tensor(spec.mean).view(shape) * scale
    std = torch.tensor(spec.std).view(shape) * scale
    if len(spec.mean) != found.shape[1]:
        raise ValueError(f"pixels have {found.shape[1]} channels, the mean has {len(spec.mean)}")
    layout = torch.channels_last if found.ndim == 4 else torch.channels_last_3d
    out = torch.empty(found.shape, dtype=torch.float32, memory_format=layout)
    for index in range(len(found)):  # image by image: each stays in the processor's cache
        row = found[index : index + 1].to(torch.float32)
        out[index : index + 1].copy_((row - mean).div_(std))
    return out
