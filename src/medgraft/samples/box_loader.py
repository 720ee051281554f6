"""Batches of images with boxes: whatever moves the pixels moves the boxes with them, exactly.

Boxes stay boxes under mirrors, quarter turns, zoom, stretch and shift; a turn by some degrees, a shear or a local
displacement would leave room around what they enclose. So images with boxes are changed by the former alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from medgraft import seeds
from medgraft.samples import augment
from medgraft.samples.loader import Items, Loader, Recall, Step, normalised
from medgraft.samples.presets import Preset
from medgraft.samples.store import Store
from medgraft.values import InputSpec

_SEEN = 0.3  # a box of which less than this is left in the picture is neither to be found nor wrong to find
_AROUND_A_BOX = 0.7  # of the windows; the others lie anywhere


def exact(preset: Preset) -> Preset:
    """Get a preset without the changes that a box cannot follow exactly, and with nothing erased or mirrored in."""
    return preset.with_(rotation=0.0, shear=0.0, elastic=0.0, elastic_p=0.0, erase=0.0, erase_p=0.0, border="zeros")


def moved(corners: np.ndarray, drawn: Mapping[str, float], *, height: int, width: int) -> np.ndarray:
    """Get where boxes are after an augmentation; nothing is cut off at the borders.

    Args:
        corners: `(M, 4)` x0, y0, x1, y1, edges of pixels.
        drawn: the numbers of the image, from `augment.draw`.
        height: of the image in pixels.
        width: of the image in pixels.

    Returns:
        `(M, 4)` the smallest upright boxes around them: exact where the image was turned by quarters alone.
    """
    back = augment.matrix(dict(drawn), height, width)
    forward = np.linalg.inv(back[:, :2])
    middle = np.array([width / 2, height / 2])
    x, y = corners[:, [0, 2]], corners[:, [1, 3]]
    points = np.stack([np.stack([x[:, i], y[:, j]], axis=1) for i in (0, 1) for j in (0, 1)], axis=1)  # (M, 4, 2)
    there = (points - middle - back[:, 2]) @ forward.T + middle
    return np.concatenate([there.min(axis=1), there.max(axis=1)], axis=1)


def cut(corners: np.ndarray, *, height: float, width: float) -> np.ndarray:
    """Cut boxes off at the borders of an image; one that lies outside has no area."""
    return np.clip(corners, 0.0, np.array([width, height, width, height], dtype=np.float64))


def _area(corners: np.ndarray) -> np.ndarray:
    return np.prod(np.maximum(corners[:, 2:] - corners[:, :2], 0.0), axis=1)


@dataclasses.dataclass(frozen=True, eq=False)
class BoxRecall(Recall):
    """What makes a batch's pixels and boxes; travels to worker processes.

    Attributes:
        boxes: `(M, 6)` of each item: corners in network pixels, class, 1 for an ignored one.
        crop: side of the windows that training looks at, in network pixels; 0 for the whole image.
    """

    boxes: tuple[np.ndarray, ...] = ()
    crop: int = 0

    def windows(self, step: Step) -> list[tuple[int, int]]:
        """Get the left and upper edge of the window that is cut from each image of a batch."""
        assert self.store.shape is not None and step.epoch is not None
        height, width = self.store.shape[-2:]
        side = self.crop
        found = []
        for position, name in zip(step.positions, self.names(step), strict=True):
            random = seeds.generator(self.seed, "crop", step.epoch, name)
            x, y = (int(random.integers(0, max(0, size - side) + 1)) for size in (width, height))
            boxes = self.boxes[position]
            if len(boxes) and random.random() < _AROUND_A_BOX:
                one = boxes[int(random.integers(len(boxes)))]
                middle, places = ((one[0] + one[2]) / 2, (one[1] + one[3]) / 2), random.random(2)
                x, y = (
                    int(np.clip(round(m - side * p), 0, max(0, size - side)))
                    for m, p, size in zip(middle, places, (width, height), strict=True)
                )
            found.append((x, y))
        return found

    def pixels(self, step: Step) -> torch.Tensor:
        """Get `(N, C, H, W)` float32, normalised, channels last; windows of it where training cuts them."""
        if step.epoch is None or not self.crop:
            return super().pixels(step)
        rows = self.store.rows([self.indices[position] for position in step.positions])
        side = self.crop
        rows = np.stack(
            [row[:, y : y + side, x : x + side] for row, (x, y) in zip(rows, self.windows(step), strict=True)]
        )
        if self.preset is None or not self.preset.active:
            return normalised(rows, self.spec)
        return normalised(
            augment.augment(rows, self.preset, keys=self.names(step), seed=self.seed, epoch=step.epoch), self.spec
        )

    def told(self, step: Step) -> list[np.ndarray]:
        """Get the boxes `(M, 6)` of each image of a batch as its pixels show them."""
        assert self.store.shape is not None
        own = [self.boxes[position] for position in step.positions]
        if step.epoch is None:
            return own
        height, width = (self.crop, self.crop) if self.crop else self.store.shape[-2:]
        windows = self.windows(step) if self.crop else [(0, 0)] * len(own)
        active = self.preset is not None and self.preset.active
        drawn: list[dict[str, float] | None] = [None] * len(own)
        if active and self.preset is not None:
            drawn = list(augment.drawn_for(self.preset, self.names(step), seed=self.seed, epoch=step.epoch))
        return [
            _shown(rows, window, numbers, height=height, width=width)
            for rows, window, numbers in zip(own, windows, drawn, strict=True)
        ]


def _shown(
    rows: np.ndarray, window: tuple[int, int], drawn: Mapping[str, float] | None, *, height: int, width: int
) -> np.ndarray:
    """Get what is left of boxes in a window that was then changed; one that is hardly seen is ignored from then on."""
    corners = rows[:, :4].astype(np.float64) - np.tile(np.array(window, dtype=np.float64), 2)
    whole, left = corners, cut(corners, height=height, width=width)
    if drawn is not None:
        words: dict[str, Any] = {"height": height, "width": width}
        whole, left = moved(whole, drawn, **words), moved(left, drawn, **words)
    left = cut(left, height=height, width=width)
    seen = _area(left) / np.maximum(_area(whole), 1e-9)
    ignored = (rows[:, 5] > 0) | (seen < _SEEN)
    found = np.column_stack([left, rows[:, 4], ignored]).astype(np.float32)
    return found[(found[:, 2:4] - found[:, :2] > 0).all(axis=1)]  # as float32 has them, too


class BoxLoader(Loader):
    """Batches of images and their boxes by epoch; arguments as of `Loader`, where not said.

    Args:
        items: their targets are `(N, M, 6)` as `Batch` says, in network pixels.
        preset: its changes that boxes cannot follow exactly are left out, see `exact`.
        crop: side of the square windows that training (where items are shuffled) looks at; 0 for whole images.
    """

    def __init__(
        self, store: Store, items: Items, *, spec: InputSpec, crop: int = 0, preset: Preset | None = None, **words: Any
    ) -> None:
        super().__init__(store, items, spec=spec, preset=None if preset is None else exact(preset), **words)
        plain = self._recall
        targets = np.zeros((0, 1, 6), np.float32) if self.targets is None else self.targets.numpy()
        boxes = tuple(rows[np.isfinite(rows[:, 0])] for rows in targets)
        given = {field.name: getattr(plain, field.name) for field in dataclasses.fields(Recall)}
        self._recall = BoxRecall(**given, boxes=boxes, crop=crop if self.shuffle else 0)

    def part(self, places: Any, *, share: np.ndarray | None = None, shuffle: bool | None = None) -> Loader:
        """As of `Loader`."""
        found = super().part(places, share=share, shuffle=shuffle)
        recall = self._recall
        assert isinstance(recall, BoxRecall)
        found._recall = dataclasses.replace(found._recall, boxes=tuple(recall.boxes[i] for i in places))  # type: ignore[call-arg]
        return found

    def _told(self, step: Step, targets: torch.Tensor) -> torch.Tensor:
        recall = self._recall
        assert isinstance(recall, BoxRecall)
        return filled(recall.told(step))


def filled(boxes: list[np.ndarray]) -> torch.Tensor:
    """Put boxes `(M, 6)`, of volumes `(M, 8)`, of several images into one tensor `(N, M, 6)`, filled up with NaN."""
    most = max((len(rows) for rows in boxes), default=0)
    found = torch.full((len(boxes), max(1, most), boxes[0].shape[1] if boxes else 6), torch.nan)
    for own, rows in zip(found, boxes, strict=True):
        own[: len(rows)] = torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float32))
    return found
