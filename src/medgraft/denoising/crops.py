"""Parts of noisy planes in memory, and patches of them by epoch: each a function of seed, epoch and place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from medgraft import seeds
from medgraft.denoising.planes import levels_of, solids_of
from medgraft.samples.order import batch_slices, epoch_order
from medgraft.values import Batch, Image

_TRIED = 4  # places, of which the one that shows most is kept


@dataclass(frozen=True, eq=False)
class Crop:
    """A part of a plane.

    Attributes:
        key: of the image, and which part of it.
        pixels: `(h, w)` float32, in standard deviations of the image around its mean.
    """

    key: str
    pixels: np.ndarray


def crops_of(image: Image, key: str, *, side: int, each: int, seed: int) -> list[Crop]:
    """Cut parts out of an image, twice as wide as a patch where it is wide enough; flat ones only where all are.

    Args:
        image: noisy.
        key: of it.
        side: of a patch, in pixels.
        each: how many.
        seed: of the run.
    """
    levels, planes = levels_of(image, noise=0.0), np.concatenate(solids_of(image.pixels))
    dice, found = seeds.generator(seed, "crops", 0, key), []
    for number in range(each):
        tried = []
        for _ in range(_TRIED):
            plane = planes[int(dice.integers(len(planes)))]
            starts = [int(dice.integers(max(0, own - 2 * side) + 1)) for own in plane.shape]
            tried.append(plane[starts[0] : starts[0] + 2 * side, starts[1] : starts[1] + 2 * side])
        best = max(tried, key=lambda one: float(one.std()))
        pixels = ((best - levels.mean) / levels.spread).astype(np.float32)
        found.append(Crop(f"{key} {number}", _at_least(pixels, side)))
    return found


def _at_least(pixels: np.ndarray, side: int) -> np.ndarray:
    """A plane mirrored at its last pixels where it is smaller than a patch; copies are hidden with their pixels."""
    missing = [(0, max(0, side - own)) for own in pixels.shape]
    return np.pad(pixels, missing, mode="reflect") if any(after for _, after in missing) else pixels.copy()


class Patches:
    """Batches of patches in random order, turned and mirrored; of validation the middle of each part, as it is.

    Args:
        crops: at least as wide as a patch.
        side: pixels of a patch.
        batch_size: patches a step.
        looks: how often an epoch shows each part.
        seed: of the run; None keeps the order and takes the middle.
    """

    def __init__(
        self, crops: Sequence[Crop], *, side: int, batch_size: int, looks: int = 1, seed: int | None = None
    ) -> None:
        self.crops, self.side, self.batch_size, self.looks, self.seed = crops, side, batch_size, looks, seed

    def _slices(self) -> list[slice]:
        return list(batch_slices(self.looks * len(self.crops), self.batch_size, training=self.seed is not None))

    def __len__(self) -> int:
        return len(self._slices())

    def epoch(self, epoch: int, *, start_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of one epoch, from `start_step` on."""
        total = self.looks * len(self.crops)
        order = np.arange(total)
        if self.seed is not None:
            order = epoch_order(total, seed=self.seed, purpose="crops", epoch=epoch)
        for part in self._slices()[start_step:]:
            places = [divmod(int(row), len(self.crops)) for row in order[part]]
            planes = [self._patch(self.crops[place], look, epoch) for look, place in places]
            keys = tuple(self.crops[place].key for _, place in places)
            yield Batch(torch.from_numpy(np.stack(planes)[:, None]), keys, torch.zeros(len(keys)))

    def _patch(self, crop: Crop, look: int, epoch: int) -> np.ndarray:
        room = [own - self.side for own in crop.pixels.shape]
        if self.seed is None:
            top, left = (one // 2 for one in room)
            return crop.pixels[top : top + self.side, left : left + self.side]
        dice = seeds.generator(self.seed, "patch", epoch, f"{crop.key} {look}")
        top, left = (int(dice.integers(one + 1)) for one in room)
        patch = np.rot90(crop.pixels[top : top + self.side, left : left + self.side], int(dice.integers(4)))
        return np.ascontiguousarray(patch[:, ::-1] if dice.random() < 0.5 else patch)
