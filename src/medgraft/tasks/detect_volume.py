"""Boxes around findings in volumes: learnt on patches, looked for in windows that lie over each other."""

from __future__ import annotations

from itertools import product
from typing import ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from medgraft.nets import VolumeBackbone
from medgraft.nets.volume_detector import VolumeBoxHead
from medgraft.scores.boxes import Detections
from medgraft.scores.froc import events, froc_scores
from medgraft.scores.hits import HitRule, verdicts
from medgraft.tasks.answers import Answers
from medgraft.tasks.box_meter import BoxMeter
from medgraft.tasks.detect import Detect
from medgraft.tasks.windows import starts_of
from medgraft.values import Batch, Prediction

_SAME_IOU = 0.15  # of two boxes that two windows found


class DetectVolume(Detect):
    """Boxes of several classes in a volume.

    Args:
        backbone: an encoder of volumes.
        head: pyramid and detector.
        answers: the classes.
        window: (D, H, W) in voxels of what is looked at at once.
        lap: (D, H, W) voxels that neighbouring windows share.
        hit: the rule by which an epoch is judged.

    Attributes:
        mirrored: True looks at a volume four times, mirrored along each axis once, and takes the mean of what is said.
    """

    edges: ClassVar[int] = 6

    def __init__(
        self,
        backbone: VolumeBackbone,
        head: VolumeBoxHead,
        answers: Answers,
        *,
        window: tuple[int, int, int],
        lap: tuple[int, int, int],
        hit: HitRule,
    ) -> None:
        super().__init__(backbone, head, answers)
        self.window, self.lap, self.hit = window, lap, hit
        self.mirrored = False  # while it learns: each epoch is judged, and four looks cost four times as much

    @torch.no_grad()
    def predict(self, batch: Batch) -> list[Prediction]:
        """Get one prediction a volume `(C, D, H, W)` of any size, its boxes in network voxels."""
        return [self.told(key, self._looks(pixels[None])) for key, pixels in zip(batch.keys, batch.pixels, strict=True)]

    def _looks(self, pixels: Tensor) -> dict[str, Tensor]:
        if not self.mirrored:
            return self._whole(pixels)
        views = []
        for axis in (None, 0, 1, 2):
            one = self._whole(pixels if axis is None else pixels.flip(axis + 2))
            if axis is not None:
                ends = [2 - axis, 5 - axis]
                one["boxes"][:, ends] = pixels.shape[axis + 2] - one["boxes"][:, ends[::-1]]
            views.append(one)
        return agreed(views, most=self.head.form.most)

    def _whole(self, pixels: Tensor) -> dict[str, Tensor]:
        found: dict[str, list[Tensor]] = {"boxes": [], "labels": [], "scores": []}
        shape = (int(pixels.shape[2]), int(pixels.shape[3]), int(pixels.shape[4]))
        for start in product(*self.begins(shape)):
            part = self.part(pixels, start=start, size=self.window)
            one = self.head.found(self.levels(part), part)[0]
            own = self._own(one["boxes"], start, shape)
            shift = torch.tensor(start[::-1] * 2, device=pixels.device)
            found["boxes"].append(one["boxes"][own].float() + shift)
            found["labels"].append(one["labels"][own])
            found["scores"].append(one["scores"][own].float())
        joined = {name: torch.cat(parts) for name, parts in found.items()}
        kept = once(joined["boxes"], joined["labels"], joined["scores"], most=self.head.form.most)
        return {name: values[kept] for name, values in joined.items()}

    def begins(self, shape: tuple[int, int, int]) -> list[list[int]]:
        """Get where windows begin along each axis of a volume (D, H, W)."""
        return [starts_of(*one) for one in zip(shape, self.window, self.lap, strict=True)]

    @property
    def steps(self) -> tuple[int, int, int]:
        """Get (D, H, W) voxels of a place of the coarsest map."""
        return cast("VolumeBackbone", self.backbone).strides[self.head.reads - 1]

    def part(self, pixels: Tensor, *, start: tuple[int, ...], size: tuple[int, int, int]) -> Tensor:
        """Cut out a window, filled up with its darkest to whole places of the coarsest map.

        Args:
            pixels: `(1, C, D, H, W)`.
            start: (d, h, w) of its first voxel.
            size: (D, H, W); less where the volume ends before.
        """
        d, h, w = start
        part = pixels[:, :, d : d + size[0], h : h + size[1], w : w + size[2]]
        missing = [-has % step for has, step in zip(part.shape[2:], self.steps, strict=True)]
        if any(missing):
            low = part.amin(dim=(2, 3, 4), keepdim=True)
            sizes = [has + more for has, more in zip(part.shape[2:], missing, strict=True)]
            whole = low.expand(1, part.shape[1], *sizes).clone()
            whole[:, :, : part.shape[2], : part.shape[3], : part.shape[4]] = part
            part = whole
        return part.contiguous(memory_format=torch.channels_last_3d)

    def _own(self, boxes: Tensor, start: tuple[int, ...], shape: tuple[int, int, int]) -> Tensor:
        """Tell which boxes of a window are its own: the outer half of what it shares belongs to its neighbours."""
        kept = torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
        for axis in range(3):
            middle = (boxes[:, 2 - axis] + boxes[:, 5 - axis]) / 2
            first = 0.0 if start[axis] == 0 else self.lap[axis] / 2
            ends = start[axis] + self.window[axis] >= shape[axis]
            last = float(shape[axis] - start[axis] if ends else self.window[axis] - self.lap[axis] / 2)
            kept &= (middle >= first) & (middle < last)
        return kept

    def meter(self) -> VolumeMeter:
        return VolumeMeter(self)


class VolumeMeter(BoxMeter):
    """Found boxes of volumes beside the truth: an epoch is judged by the FROC score."""

    task: DetectVolume

    def watch(self) -> tuple[float, float]:
        """Get (loss, score): the mean sensitivity at 1/8 to 8 false alarms a scan, and what it lacks to one."""
        found = Detections(tuple(self.keys), tuple(self._truth), tuple(self._found), self.task.answers.classes)
        some = events(verdicts(found, hit=self.task.hit), images=len(found))
        score = float(np.nan_to_num(froc_scores(some, np.ones((1, len(found))))["froc"][0]))
        return 1.0 - score, score


def once(boxes: Tensor, labels: Tensor, scores: Tensor, *, most: int) -> Tensor:
    """Get which boxes are kept where several windows found the same: the surest of those that overlap, of each class.

    Args:
        boxes: `(M, 6)`.
        labels: `(M,)`.
        scores: `(M,)`.
        most: how many at most.
    """
    order, kept = torch.argsort(scores, descending=True, stable=True), []
    while len(order) and len(kept) < most:
        first, others = order[0], order[1:]
        kept.append(first)
        same = (_iou(boxes[first], boxes[others]) > _SAME_IOU) & (labels[others] == labels[first])
        order = others[~same]
    return torch.stack(kept) if kept else torch.zeros(0, dtype=torch.int64, device=boxes.device)


def agreed(views: list[dict[str, Tensor]], *, most: int) -> dict[str, Tensor]:
    """Get what several looks at one volume say together: boxes that overlap are one, with the mean of their scores.

    A look that did not find a box counts with 0.

    Args:
        views: `boxes` `(M, 6)`, `labels` `(M,)` and `scores` `(M,)` of each look, in the same voxels.
        most: how many boxes at most.

    Source: Jaeger et al., Retina U-Net, ML4H 2020, weighted box clustering.
    """
    boxes, labels, scores = (torch.cat([one[name] for one in views]) for name in ("boxes", "labels", "scores"))
    view = torch.cat([torch.full_like(one["labels"], number) for number, one in enumerate(views)])
    left, found = torch.argsort(scores, descending=True, stable=True), []
    while len(left):
        first = left[0]
        same = (_iou(boxes[first], boxes[left]) > _SAME_IOU) & (labels[left] == labels[first])
        same[0] = True
        own = left[same]
        best = scores.new_zeros(len(views)).scatter_reduce(0, view[own], scores[own], "amax")
        share = (scores[own] / scores[own].sum())[:, None]
        found.append(((boxes[own] * share).sum(dim=0), labels[first], best.mean()))
        left = left[~same]
    if not found:
        return {"boxes": boxes, "labels": labels, "scores": scores}
    joined = [torch.stack(part) for part in zip(*found, strict=True)]
    order = torch.argsort(joined[2], descending=True, stable=True)[:most]
    return dict(zip(("boxes", "labels", "scores"), (part[order] for part in joined), strict=True))


def _iou(one: Tensor, others: Tensor) -> Tensor:
    """Get the IoU `(M,)` of a box `(6,)` with each of `(M, 6)`."""
    shared = (torch.minimum(one[3:], others[:, 3:]) - torch.maximum(one[:3], others[:, :3])).clamp_min(0).prod(dim=1)
    sizes = (others[:, 3:] - others[:, :3]).prod(dim=1) + (one[3:] - one[:3]).prod()
    return shared / (sizes - shared).clamp_min(1e-6)
