"""Patches of images with label maps: around what is drawn and anywhere else, changed together; and whole images.

Every patch is a function of (seed, epoch, image, its number), so a resumed epoch shows the same ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from medgraft import seeds
from medgraft.samples import augment
from medgraft.samples.loader import normalised
from medgraft.samples.mask_edges import thing_planes
from medgraft.samples.order import batch_slices, epoch_order
from medgraft.samples.picture_grid import UNKNOWN
from medgraft.samples.presets import Preset
from medgraft.values import Batch, InputSpec

_PLACES = 512  # of each class in an image, to cut patches around
_CONTRAST, _BRIGHTNESS = 0.15, 0.1  # of white, in volumes
_ZOOM, _STRETCH = 0.2, 0.06  # logarithms of sizes, in volumes: of all axes together, and of each
_GAMMA = 0.3  # its logarithm, in volumes


@dataclass(frozen=True, eq=False)
class MaskCases:
    """Images on the grid of a net, and what is drawn on them.

    Attributes:
        keys: one an image.
        pixels: `(C, [D,] H, W)` uint8 or uint16 each, mapped from files.
        masks: `([D,] H, W)` each: uint8 classes and 255 where unknown; or, of things told apart, their numbers, -1
            where unknown.
        apart: True where things are told apart.
    """

    keys: tuple[str, ...]
    pixels: Sequence[np.ndarray]
    masks: Sequence[np.ndarray]
    apart: bool = False

    def __len__(self) -> int:
        return len(self.keys)

    def part(self, places: Sequence[int]) -> MaskCases:
        """Get some of the images."""
        keys = tuple(self.keys[place] for place in places)
        return MaskCases(keys, [self.pixels[k] for k in places], [self.masks[k] for k in places], self.apart)


@dataclass(frozen=True)
class Cut:
    """How patches are cut.

    Attributes:
        shape: ([D,] H, W) of a patch in network pixels.
        each: patches an image and epoch.
        around: share of the patches that lie around a pixel of a class, all classes equally often.
        mirrors: axes (of [D,] H, W: 0, 1 ...) along which patches of volumes are mirrored.
    """

    shape: tuple[int, ...]
    each: int = 8
    around: float = 0.5
    mirrors: tuple[int, ...] = ()


class MaskPatches:
    """Batches of patches by epoch, for learning.

    Args:
        cases: of the training.
        spec: mean and deviation that the net wants.
        cut: how patches are cut.
        batch_size: patches a step.
        preset: changes of pictures; volumes are stretched, mirrored and brightened.
        seed: of the run.
    """

    def __init__(
        self,
        cases: MaskCases,
        *,
        spec: InputSpec,
        cut: Cut,
        batch_size: int = 8,
        preset: Preset | None = None,
        seed: int = 0,
    ) -> None:
        self.cases, self.spec, self.cut = cases, spec, cut
        self.batch_size, self.seed = batch_size, seed
        self.preset = preset if preset is not None and preset.active else None
        self._places = [_places_of(mask, seed, key) for key, mask in zip(cases.keys, cases.masks, strict=True)]

    @property
    def keys(self) -> tuple[str, ...]:
        """Get the keys of the images."""
        return self.cases.keys

    def part(self, places: Sequence[int]) -> MaskPatches:
        """Get the batches of patches of some images alone."""
        words: dict[str, Any] = {"spec": self.spec, "cut": self.cut, "preset": self.preset}
        return MaskPatches(self.cases.part(places), batch_size=self.batch_size, seed=self.seed, **words)

    def __len__(self) -> int:
        return len(batch_slices(self.cut.each * len(self.cases), self.batch_size, training=True))

    def epoch(self, epoch: int, *, start_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of one epoch from `start_step` on."""
        total = self.cut.each * len(self.cases)
        order = epoch_order(total, seed=self.seed, purpose="patches", epoch=epoch)
        keys = self.cases.keys
        for part in batch_slices(total, self.batch_size, training=True)[start_step:]:
            places = [divmod(int(row), len(keys)) for row in order[part]]
            rows = [self.patch(place, number=number, epoch=epoch) for number, place in places]
            pixels = torch.cat([one for one, _ in rows])
            layout = torch.channels_last if pixels.ndim == 4 else torch.channels_last_3d
            targets = torch.from_numpy(np.stack([target for _, target in rows]))
            yield Batch(
                normalised(pixels, self.spec).contiguous(memory_format=layout),
                tuple(keys[place] for _, place in places),
                targets,
            )

    def patch(self, place: int, *, number: int, epoch: int) -> tuple[torch.Tensor, np.ndarray]:
        """Get a patch `(1, C, [D,] H, W)` float32 in 0..1, and its target.

        The target is `([D,] H, W)` uint8; of things told apart `(4, H, W)` float32, see `mask_edges.thing_planes`.
        """
        name = f"{self.cases.keys[place]} {number}"
        rng = seeds.generator(self.seed, "patch", epoch, name)
        if len(self.cut.shape) == 2:
            pixels, mask = self._flat(place, rng, name, epoch)
        else:
            pixels, mask = self._deep(place, rng)
        return pixels, thing_planes(mask) if self.cases.apart else mask.astype(np.uint8)

    def _flat(self, place: int, rng: np.random.Generator, name: str, epoch: int) -> tuple[torch.Tensor, np.ndarray]:
        pixels, mask = self._cut(place, rng, np.array(self.cut.shape))
        if self.preset is None:
            return torch.from_numpy(_share(pixels))[None], mask
        drawn = augment.drawn_for(self.preset, [name], seed=self.seed, epoch=epoch)
        moved = augment.apply(pixels[None], drawn)
        return moved, augment.moved_labels(mask, drawn[0], unknown=_unknown(mask))

    def _deep(self, place: int, rng: np.random.Generator) -> tuple[torch.Tensor, np.ndarray]:
        zoom = rng.uniform(-_ZOOM, _ZOOM) + rng.uniform(-_STRETCH, _STRETCH, 3)
        wide = np.maximum(1, np.rint(np.array(self.cut.shape) * np.exp(zoom))).astype(int)
        pixels, mask = self._cut(place, rng, wide)
        chances = rng.random(3)
        for axis in self.cut.mirrors:
            if chances[axis] < 0.5:
                pixels, mask = np.flip(pixels, axis + 1), np.flip(mask, axis)
        values = torch.from_numpy(_share(np.ascontiguousarray(pixels)))[None]
        if tuple(wide) != self.cut.shape:
            values = F.interpolate(values, size=self.cut.shape, mode="trilinear", align_corners=False)
            whole = torch.from_numpy(np.ascontiguousarray(mask))[None, None].float()
            mask = F.interpolate(whole, size=self.cut.shape, mode="nearest-exact")[0, 0].numpy()
        gain, more = 1 + rng.uniform(-_CONTRAST, _CONTRAST), rng.uniform(-_BRIGHTNESS, _BRIGHTNESS)
        values = (values * gain + more).clamp_(0, 1) ** float(np.exp(rng.uniform(-_GAMMA, _GAMMA)))
        return values, np.ascontiguousarray(mask)

    def _cut(self, place: int, rng: np.random.Generator, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pixels, mask = self.cases.pixels[place], self.cases.masks[place]
        room = np.maximum(np.array(mask.shape) - shape, 0)
        near, chances, known = rng.random() < self.cut.around, rng.random(len(shape)), self._places[place]
        start = np.floor(chances * (room + 1)).astype(int)
        if near and known:
            spots = known[int(rng.integers(len(known)))]
            spot = spots[int(rng.integers(len(spots)))]
            start = np.clip(np.rint(spot - chances * shape).astype(int), 0, room)
        return cut_out(pixels, mask, start=start, shape=shape)

    def sample_sheet(self, count: int = 16) -> np.ndarray:
        """Get a few patches as training sees them: uint8 `(count, C, H, W)`, of volumes the middle slice."""
        order = epoch_order(len(self.cases), seed=self.seed, purpose="sheet")[:count]
        rows = torch.cat([self.patch(int(place), number=0, epoch=1)[0] for place in order])
        shown = rows if rows.ndim == 4 else rows[:, :, rows.shape[2] // 2]
        return np.rint(shown.numpy() * np.float32(255)).astype(np.uint8)


class MaskWholes:
    """Whole images one by one, in order: for validation.

    Args:
        cases: the images.
        spec: mean and deviation that the net wants.
    """

    def __init__(self, cases: MaskCases, *, spec: InputSpec) -> None:
        self.cases, self.spec = cases, spec

    def __len__(self) -> int:
        return len(self.cases)

    def epoch(self, epoch: int = 0, *, start_step: int = 0) -> Iterator[Batch]:
        """Yield a batch an image, the same ones in every epoch; targets of things told apart end with their numbers."""
        del epoch
        for place in range(start_step, len(self)):
            pixels = normalised(np.array(self.cases.pixels[place])[None], self.spec)
            mask = np.array(self.cases.masks[place])
            target = mask.astype(np.uint8)
            if self.cases.apart:
                target = np.concatenate([thing_planes(mask), mask[None].astype(np.float32)])
            yield Batch(pixels, (self.cases.keys[place],), torch.from_numpy(target)[None])


def cut_out(
    pixels: np.ndarray, mask: np.ndarray, *, start: np.ndarray, shape: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Cut a patch out of an image and its label map; outside of the image there is black, and nothing is known.

    Args:
        pixels: `(C, [D,] H, W)`.
        mask: `([D,] H, W)`.
        start: of its first pixel along each axis.
        shape: of the patch.
    """
    part = tuple(slice(int(first), int(first + size)) for first, size in zip(start, shape, strict=True))
    inside, drawn = np.array(pixels[(slice(None), *part)]), np.array(mask[part])
    missing = [(0, int(wanted - has)) for wanted, has in zip(shape, drawn.shape, strict=True)]
    if any(after for _, after in missing):
        inside = np.pad(inside, [(0, 0), *missing])
        drawn = np.pad(drawn, missing, constant_values=_unknown(mask))
    return inside, drawn


def _unknown(mask: np.ndarray) -> int:
    return UNKNOWN if mask.dtype == np.uint8 else -1


def _share(pixels: np.ndarray) -> np.ndarray:
    """Get whole numbers as shares of white, float32."""
    return pixels.astype(np.float32) / np.float32(65535 if pixels.dtype == np.uint16 else 255)


def _places_of(mask: np.ndarray, seed: int, key: str) -> list[np.ndarray]:
    """Get places of each class that is drawn, `(n, axes)`, evenly spread over those it has; of things, of all."""
    rng, found = seeds.generator(seed, "places", 0, key), []
    kinds = [None] if mask.dtype != np.uint8 else [int(one) for one in np.unique(mask) if 0 < one < UNKNOWN]
    for kind in kinds:
        flat = np.flatnonzero(mask > 0 if kind is None else mask == kind)
        if len(flat):
            some = flat[np.sort(rng.integers(0, len(flat), min(_PLACES, len(flat))))]
            found.append(np.stack(np.unravel_index(some, mask.shape), axis=1))
    return found
