"""Patches of volumes with boxes: around findings and anywhere else, mirrored, stretched, brightened; whole volumes.

Every patch is a function of (seed, epoch, scan, its number), so a resumed epoch shows the same ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from medgraft import seeds
from medgraft.samples.box_loader import filled
from medgraft.samples.loader import normalised
from medgraft.samples.order import batch_slices, epoch_order
from medgraft.values import Batch, InputSpec

_AROUND_A_BOX = 0.5  # of the patches of a scan that has boxes
_SEEN = 0.3  # a box of which less than this is left in a patch is neither to be found nor wrong to find
_CONTRAST, _BRIGHTNESS = 0.1, 0.06  # of white
_ZOOM, _STRETCH = 0.16, 0.06  # logarithms of sizes: of all axes together, and of each


@dataclass(frozen=True, eq=False)
class Volumes:
    """Scans on the grid of a net, and what is in them.

    Attributes:
        keys: one a scan.
        voxels: uint8 `(C, D, H, W)` each, mapped from files.
        boxes: `(M, 8)` float32 each: x0, y0, z0, x1, y1, z1 in voxels, class, 1 for an ignored one.
    """

    keys: tuple[str, ...]
    voxels: Sequence[np.ndarray]
    boxes: Sequence[np.ndarray]

    def __len__(self) -> int:
        return len(self.keys)


class Patches:
    """Batches of patches by epoch, for learning.

    Args:
        volumes: of the training.
        spec: mean and deviation that the net wants.
        shape: (D, H, W) of a patch in voxels.
        each: patches a scan and epoch.
        batch_size: patches a step.
        seed: of the run.
    """

    def __init__(
        self,
        volumes: Volumes,
        *,
        spec: InputSpec,
        shape: tuple[int, int, int],
        each: int = 8,
        batch_size: int = 4,
        seed: int = 0,
    ) -> None:
        self.volumes, self.spec, self.shape = volumes, spec, shape
        self.each, self.batch_size, self.seed = each, batch_size, seed

    def __len__(self) -> int:
        return len(batch_slices(self.each * len(self.volumes), self.batch_size, training=True))

    def epoch(self, epoch: int, *, start_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of one epoch from `start_step` on."""
        total = self.each * len(self.volumes)
        order = epoch_order(total, seed=self.seed, purpose="patches", epoch=epoch)
        keys = self.volumes.keys
        for part in batch_slices(total, self.batch_size, training=True)[start_step:]:
            places = [divmod(int(row), len(keys)) for row in order[part]]
            rows = [self.patch(place, number=number, epoch=epoch) for number, place in places]
            yield Batch(
                torch.cat([pixels for pixels, _ in rows]).contiguous(memory_format=torch.channels_last_3d),
                tuple(keys[place] for _, place in places),
                filled([boxes for _, boxes in rows]),
            )

    def patch(self, place: int, *, number: int, epoch: int) -> tuple[torch.Tensor, np.ndarray]:
        """Get a patch `(1, C, D, H, W)`, normalised, and the boxes `(M, 8)` in it."""
        voxels, boxes = self.volumes.voxels[place], self.volumes.boxes[place]
        rng = seeds.generator(self.seed, "patch", epoch, f"{self.volumes.keys[place]} {number}")
        zoom = rng.uniform(-_ZOOM, _ZOOM) + rng.uniform(-_STRETCH, _STRETCH, 3)
        wide = np.maximum(1, np.rint(np.array(self.shape) * np.exp(zoom))).astype(int)
        start = _place(rng, np.array(voxels.shape[1:]), wide, boxes)
        pixels, boxes = cut_out(voxels, boxes, start=start, shape=(int(wide[0]), int(wide[1]), int(wide[2])))
        pixels, boxes = _mirrored(rng, pixels, boxes)
        values = torch.from_numpy(pixels)[None].float() / 255
        if tuple(wide) != self.shape:
            values = F.interpolate(values, size=self.shape, mode="trilinear", align_corners=False)
            boxes[:, :6] *= np.tile((np.array(self.shape) / wide)[::-1], 2)
        contrast, brightness = 1 + rng.uniform(-_CONTRAST, _CONTRAST), rng.uniform(-_BRIGHTNESS, _BRIGHTNESS)
        return normalised((values * contrast + brightness).clamp_(0, 1), self.spec), boxes


class Wholes:
    """Whole volumes one by one, in order: for validation and for answers.

    Args:
        volumes: the scans.
        spec: mean and deviation that the net wants.
    """

    def __init__(self, volumes: Volumes, *, spec: InputSpec) -> None:
        self.volumes, self.spec = volumes, spec

    def __len__(self) -> int:
        return len(self.volumes)

    def epoch(self, epoch: int = 0, *, start_step: int = 0) -> Iterator[Batch]:
        """Yield a batch a scan, the same ones in every epoch."""
        del epoch
        for place in range(start_step, len(self)):
            pixels = normalised(np.array(self.volumes.voxels[place])[None], self.spec)
            yield Batch(pixels, (self.volumes.keys[place],), filled([self.volumes.boxes[place]]))


def _place(rng: np.random.Generator, whole: np.ndarray, shape: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Get the first voxel (d, h, w) of a patch: around a box that counts, or anywhere."""
    room = np.maximum(whole - shape, 0)
    real = boxes[boxes[:, 7] == 0]
    near = len(real) > 0 and rng.random() < _AROUND_A_BOX
    chances = rng.random(3)
    if not near:
        return np.floor(chances * (room + 1)).astype(int)
    box = real[int(rng.integers(len(real)))]
    low, high = box[:3][::-1], box[3:6][::-1]
    first, last = high - shape, low  # so that the whole box is inside, where it fits
    start = np.where(first <= last, first + chances * (last - first), (low + high - shape) / 2)
    return np.clip(np.rint(start).astype(int), 0, room)


def cut_out(
    voxels: np.ndarray, boxes: np.ndarray, *, start: np.ndarray, shape: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Cut a patch out of a volume; what is hardly seen of a box is ignored from then on.

    Args:
        voxels: `(C, D, H, W)`; a volume smaller than the patch is filled up with its darkest.
        boxes: `(M, 8)`.
        start: (d, h, w) of its first voxel.
        shape: (D, H, W).

    Returns:
        `(C, D, H, W)` and `(M, 8)`, boxes that are not in it left out.
    """
    stop = start + np.array(shape)
    part = np.array(voxels[:, start[0] : stop[0], start[1] : stop[1], start[2] : stop[2]])
    missing = [(0, 0)] + [(0, wanted - has) for wanted, has in zip(shape, part.shape[1:], strict=True)]
    if any(after for _, after in missing):
        part = np.pad(part, missing)
    corners = boxes[:, :6] - np.tile(start[::-1], 2)
    ends = np.tile(np.array(shape[::-1]), 2)
    left = np.clip(corners, 0, ends)
    whole, seen = (np.prod(np.maximum(one[:, 3:] - one[:, :3], 0), axis=1) for one in (corners, left))
    ignored = (boxes[:, 7] > 0) | (seen < _SEEN * whole)
    found = np.column_stack([left, boxes[:, 6], ignored]).astype(np.float32)
    return part, found[seen > 0]


def _mirrored(rng: np.random.Generator, pixels: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    boxes = boxes.copy()
    for axis in range(3):
        if rng.random() < 0.5:
            pixels = np.flip(pixels, axis + 1)
            low, high = 2 - axis, 5 - axis
            size = pixels.shape[axis + 1]
            boxes[:, [low, high]] = size - boxes[:, [high, low]]
    return np.ascontiguousarray(pixels), boxes
