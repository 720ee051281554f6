"""Segment: which class every pixel or voxel belongs to, the same task for pictures and volumes.

Learnt on patches, drawn in windows that slide over the image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medgraft.nets import freeze, train_mode
from medgraft.nets.backbone import Encoder
from medgraft.nets.decoder import MaskHead
from medgraft.samples.mask_edges import AT_SEAM, NEAR
from medgraft.samples.things import Parting, told_apart
from medgraft.scores.instances import instance_scores
from medgraft.tasks.answers import Answers, Parts
from medgraft.tasks.base import Task
from medgraft.tasks.mask_meter import UNKNOWN, MaskMeter
from medgraft.tasks.windows import Sweep, slabs
from medgraft.values import Batch, Prediction

_GAP = 5.0  # how much more a pixel between two things that touch weighs, where things are told apart
_SMOOTH = 1.0  # pixels added to both sides of the soft Dice, so that an absent class has a gradient that is finite


def watched(apart: bool) -> str:
    """Get the score of validation images that chooses the best epoch: of things told apart, one that counts things."""
    return "ap50" if apart else "dice"


@dataclass(frozen=True)
class Losses:
    """What the loss is made of.

    Attributes:
        dice: weight of the soft Dice loss beside the cross-entropy.
        boundary: how much more a pixel at the boundary of a class weighs in the cross-entropy; 0 for no more.
        reach: pixels that the boundary is wide to either side.
    """

    dice: float = 1.0
    boundary: float = 0.0
    reach: int = 2


class Segment(Task):
    """Label maps of images `(C, [D,] H, W)` of any size.

    Args:
        backbone: an encoder of pictures or of volumes.
        head: the decoder; its first outputs are background and classes, then, where things are told apart, the seam
            between two of them, and the way to the middle of each, down and across.
        answers: the classes.
        sweep: how windows lie over an image.
        losses: what the loss is made of.

    Attributes:
        mirrored: axes ([D,] H, W as 0, 1 ...) along which an image is looked at mirrored as well.
        apart: True where things of one class are told apart: the head gives seams and ways to the middle, too.
        parting: what it takes to part two things; chosen on validation.
    """

    wants: ClassVar[frozenset[str]] = frozenset({"mask"})
    places: ClassVar[str] = "masks"

    def __init__(
        self, backbone: Encoder, head: MaskHead, answers: Answers, *, sweep: Sweep, losses: Losses, apart: bool = False
    ) -> None:
        super().__init__()
        self.backbone: Any = backbone
        self.head, self.answers = head, answers
        self.sweep, self.weighed, self.apart = sweep, losses, apart
        self.mirrored: tuple[int, ...] = ()
        self.parting = Parting()
        self.thawed, self.rank, self.learning = len(backbone.stages), 0, 0
        self.stored_norms = True

    @classmethod
    def outputs(cls, answers: Answers, *, apart: bool = False) -> int:
        """Get how many numbers the head gives a pixel."""
        return 1 + len(answers.classes) + 3 * int(apart)

    def thaw(self, stages: int) -> None:
        """Let the last `stages` stages that the head looks at and the head learn; freeze the rest.

        Raises:
            BadRecipe: the backbone has fewer stages.
        """
        freeze(self.backbone, thawed=stages)
        for _, module in self.backbone.stages[self.head.reads :]:
            module.requires_grad_(False)  # it does not run
        self.thawed = stages
        self.learning = sum(one.numel() for one in self.parameters() if one.requires_grad)

    def train(self, mode: bool = True) -> Segment:
        super().train(mode)
        if mode:
            train_mode(self.backbone, thawed=self.thawed, frozen_norms=self.stored_norms)
        return self

    def parts(self) -> Parts:
        return Parts(tuple(self.backbone.stages), self.head)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Get logits `(N, outputs, [D,] H, W)`; while it learns those of coarser maps follow."""
        return self.head(self.backbone(pixels, 0, self.head.reads), pixels)

    # ---- learning ---------------------------------------------------------------------------------------

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        assert batch.targets is not None
        targets = (batch.targets[:, 0] if self.apart else batch.targets).long()
        apart = batch.targets[:, 1:] if self.apart else None
        found = self(batch.pixels)
        with torch.autocast(batch.pixels.device.type, enabled=False):
            total = self._loss(found[0].float(), targets, apart)
            for number, logits in enumerate(found[1:], start=1):
                shape = logits.shape[2:]
                small = coarser(targets, shape)
                reduced = None if apart is None else F.adaptive_avg_pool2d(apart, tuple(shape))
                total = total + self._loss(logits.float(), small, reduced) / 2**number
            yield "all", total / sum(0.5**number for number in range(len(found)))

    def _loss(self, logits: Tensor, targets: Tensor, apart: Tensor | None) -> Tensor:
        count = 1 + len(self.answers.classes)
        known = targets != UNKNOWN
        safe = torch.where(known, targets, 0)
        each = F.cross_entropy(logits[:, :count], safe, reduction="none")
        weight = known.float()
        if self.weighed.boundary:
            weight = weight * (1 + self.weighed.boundary * edges(safe, self.weighed.reach))
        if apart is not None:
            weight = weight * (1 + _GAP * apart[:, 0])
        loss = (each * weight).sum() / weight.sum().clamp_min(1)
        if self.weighed.dice:
            loss = loss + self.weighed.dice * soft_dice(logits[:, :count].softmax(dim=1), safe, known)
        if apart is not None:
            off = (logits[:, -2:] - apart[:, 1:]).abs().sum(dim=1)
            inside = weight * (safe > 0)  # where there is no thing there is no middle
            loss = loss + (off * inside).sum() / inside.sum().clamp_min(1)
            loss = loss + seam_loss(logits[:, count], apart[:, 0], inside=safe > 0, known=known)
        return loss

    # ---- drawing ----------------------------------------------------------------------------------------

    @torch.no_grad()
    def chances(self, pixels: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Yield slabs along the first axis of an image `(C, [D,] H, W)`: (where it begins, `(outputs, d, ...)`).

        Probabilities of background and classes; where things are told apart, that of a seam and the way to the middle
        in network pixels.
        """
        yield from slabs(pixels, self.sweep, self.told)

    def told(self, windows: Tensor) -> Tensor:
        """Get what is said of windows `(N, C, [D,] H, W)` whose sides the net can halve: `(N, outputs, ...)`."""
        found = self._once(windows)
        for axis in self.mirrored:
            other = self._once(windows.flip(axis + 2)).flip(axis + 2)
            if self.apart:
                other[:, axis - 2].neg_()  # a way down in a mirrored window is one up
            found = found + other
        return found / (1 + len(self.mirrored))

    def _once(self, windows: Tensor) -> Tensor:
        layout = torch.channels_last if windows.ndim == 4 else torch.channels_last_3d
        logits = self(windows.contiguous(memory_format=layout))[0].float()
        count = 1 + len(self.answers.classes)
        chances = logits[:, :count].softmax(dim=1)
        if not self.apart:
            return chances
        return torch.cat([chances, logits[:, count : count + 1].sigmoid(), in_pixels(logits[:, -2:])], dim=1)

    @torch.no_grad()
    def predict(self, batch: Batch) -> list[Prediction]:
        """Get one prediction an image `(C, [D,] H, W)` of any size, its label map in network pixels.

        Of things told apart it holds their numbers.
        """
        found = []
        for key, pixels in zip(batch.keys, batch.pixels, strict=True):
            mask = self._things(pixels) if self.apart else self._classes(pixels)
            said = self.said((mask > 0).astype(np.uint8) if self.apart else mask)
            found.append(Prediction(key, np.zeros(0), np.zeros(0), said, mask=mask))
        return found

    def _classes(self, pixels: Tensor) -> np.ndarray:
        count = 1 + len(self.answers.classes)
        return torch.cat(
            [part[:count].max(dim=0).indices.to(torch.uint8).cpu() for _, part in self.chances(pixels)]
        ).numpy()

    def _things(self, pixels: Tensor) -> np.ndarray:
        whole = torch.cat([part.float().cpu() for _, part in self.chances(pixels)], dim=1).numpy()
        return told_apart(1 - whole[0], whole[-2:], seams=whole[-3], parting=self.parting)

    def said(self, mask: np.ndarray) -> str:
        """Get the classes that a label map shows, `a|b`; "" where it shows none."""
        shown = np.flatnonzero(np.bincount(mask.ravel(), minlength=len(self.answers.classes) + 1)[1:])
        return "|".join(self.answers.classes[place] for place in shown.tolist())

    def meter(self) -> MaskMeter | ThingMeter:
        return ThingMeter() if self.apart else MaskMeter(len(self.answers.classes))

    def settle(self) -> None:
        """Nothing is left to settle: adapters are not for it."""


class ThingMeter:
    """Things told apart beside the true ones, both in network pixels."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self._ap: list[float] = []

    def update(self, predictions: Sequence[Prediction], targets: np.ndarray) -> None:
        """Add predictions and their truth `(N, 4, H, W)`, the last plane numbers of things, -1 where unknown."""
        for one, planes in zip(predictions, targets, strict=True):
            assert one.mask is not None
            true = np.rint(planes[-1]).astype(np.int32)
            found = np.where(true < 0, 0, one.mask)
            self.keys.append(one.key)
            self._ap.append(float(instance_scores(np.maximum(true, 0), found, key=one.key).ap[0]))

    def watch(self) -> tuple[float, float]:
        """Get (loss, score): the mean over images of the average precision at an IoU of .50, and what it lacks."""
        score = float(np.mean(self._ap)) if self._ap else 0.0
        return 1.0 - score, score


def in_pixels(ways: Tensor) -> Tensor:
    """Get the pixels again that `mask_edges.compressed` was given."""
    return ways.sign() * NEAR * ways.abs().expm1()


def seam_loss(logits: Tensor, nearness: Tensor, *, inside: Tensor, known: Tensor) -> Tensor:
    """Get the cross-entropy of seams, of the pixels in things and between them, and their soft Dice.

    Args:
        logits: `(N, H, W)` of a seam.
        nearness: `(N, H, W)` to a gap, as `mask_edges.thing_planes` tells it.
        inside: `(N, H, W)` booleans, pixels in things.
        known: `(N, H, W)` booleans; the others do not count.
    """
    seam = nearness >= AT_SEAM
    there = known & (inside | seam)
    each = F.binary_cross_entropy_with_logits(logits, seam.float(), reduction="none")
    chance = logits.sigmoid()
    overlap = soft_dice(torch.stack([1 - chance, chance], dim=1), seam.long(), there)
    return (each * there).sum() / there.sum().clamp_min(1) + overlap


def soft_dice(chances: Tensor, targets: Tensor, known: Tensor) -> Tensor:
    """Get one minus the mean over classes of the soft Dice of a whole batch; the background is not counted.

    Args:
        chances: `(N, K + 1, ...)` probabilities.
        targets: `(N, ...)` classes.
        known: `(N, ...)` booleans; the others do not count.

    Source: Milletari et al., V-Net, 3DV 2016; over the batch as in Isensee et al., Nat Methods 2021.
    """
    truth = F.one_hot(targets, chances.shape[1]).movedim(-1, 1).to(chances.dtype)
    keep = known[:, None]
    own = (0, *range(2, chances.ndim))
    shared = (chances * truth * keep).sum(dim=own)[1:]
    both = ((chances + truth) * keep).sum(dim=own)[1:]
    return 1 - ((2 * shared + _SMOOTH) / (both + _SMOOTH)).mean()


def edges(targets: Tensor, reach: int) -> Tensor:
    """Get `(N, ...)` float: 1 where another class is within so many pixels, else 0."""
    pool = F.max_pool2d if targets.ndim == 3 else F.max_pool3d
    whole = targets[:, None].float()
    wide = 2 * reach + 1
    high, low = pool(whole, wide, 1, reach), -pool(-whole, wide, 1, reach)
    return (high != low)[:, 0].float()


def coarser(targets: Tensor, shape: Sequence[int]) -> Tensor:
    """Get classes `(N, ...)` at a lower resolution, each place that of the pixel nearest to its centre."""
    return F.interpolate(targets[:, None].float(), size=tuple(shape), mode="nearest-exact")[:, 0].long()
