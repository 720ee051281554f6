"""Boxes around findings: an encoder under a detector whose classes are the user's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from medgraft.errors import BadData
from medgraft.nets import Backbone, freeze, train_mode
from medgraft.nets.detector import BoxHead
from medgraft.tasks.answers import Answers, Parts
from medgraft.tasks.base import Task, unknown_answers
from medgraft.tasks.box_calls import BoxCalls
from medgraft.tasks.box_meter import BoxMeter
from medgraft.values import Batch, Boxes, Prediction, Sample


class Detect(BoxCalls, Task):
    """Boxes of several classes in an image.

    Attributes:
        backbone: the encoder, a `Backbone`.
        head: pyramid and detector, a `BoxHead`.
        answers: its classes.
        thawed: stages that learn, from the head down.
        learning: how many numbers learn.
        threshold: of each class, the score from which a box counts as found; chosen on validation only.
    """

    wants: ClassVar[frozenset[str]] = frozenset({"boxes"})
    places: ClassVar[str] = "boxes"
    edges: ClassVar[int] = 4  # numbers of a box

    def __init__(self, backbone: Any, head: Any, answers: Answers) -> None:
        super().__init__()
        self.backbone: Backbone = backbone
        self.head: BoxHead = head
        self.answers = answers
        self.thawed, self.learning = len(backbone.stages), 0
        self.threshold: tuple[float, ...] = (0.5,) * len(answers.classes)

    @classmethod
    def answers_of(cls, samples: Sequence[Sample]) -> Answers:
        """Learn the classes from the boxes of the training samples.

        Raises:
            BadData: there is no box in any of them.
        """
        names = {name for sample in samples if sample.boxes is not None for name in sample.boxes.labels}
        if not names:
            raise BadData(
                "no training image has a box", do="Give images with boxes: COCO JSON, Pascal VOC XML or YOLO text."
            )
        return Answers(classes=tuple(sorted(names)))

    def encode(self, boxes: Sequence[Boxes]) -> np.ndarray:
        """Turn boxes in network pixels into targets `(N, M, edges + 2)` float32, filled up with NaN.

        Raises:
            BadData: a class that training did not know.
        """
        known = {name: number for number, name in enumerate(self.answers.classes)}
        named = [name for one in boxes for name in one.labels]
        strange = sorted({name for name in named if name not in known})
        if strange:
            raise BadData(
                unknown_answers(strange, named, known=self.answers.classes, what="class").replace("image", "box", 1)
            )
        most = max((len(one) for one in boxes), default=0)
        found = np.full((len(boxes), max(1, most), self.edges + 2), np.nan, np.float32)
        for row, one in zip(found, boxes, strict=True):
            if len(one):
                row[: len(one), :-2] = one.corners
                row[: len(one), -2] = [known[name] for name in one.labels]
                row[: len(one), -1] = one.ignored
        return found

    def decode(self, targets: np.ndarray) -> list[Boxes]:
        """Get the boxes, in network pixels, that `encode` put into `(N, M, edges + 2)`."""
        found = []
        for rows in targets:
            known = rows[np.isfinite(rows[:, 0])]
            labels = tuple(self.answers.classes[int(number)] for number in known[:, -2])
            found.append(Boxes(known[:, :-2], labels, ignored=known[:, -1] > 0))
        return found

    def thaw(self, stages: int) -> None:
        """Let the last `stages` stages and the head learn; freeze the rest, BatchNorm statistics included.

        Raises:
            BadRecipe: the backbone has fewer stages.
        """
        freeze(self.backbone, thawed=stages)
        self.thawed = stages
        self.learning = sum(one.numel() for one in self.parameters() if one.requires_grad)

    def train(self, mode: bool = True) -> Detect:
        super().train(mode)
        if mode:  # a step sees a few images: too few for statistics of its own
            train_mode(self.backbone, thawed=self.thawed, frozen_norms=True)
        return self

    def parts(self) -> Parts:
        return Parts(tuple(self.backbone.stages), self.head)

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        assert batch.targets is not None
        yield "all", self.head.losses(self.levels(batch.pixels), batch.pixels, targets=apart(batch.targets))

    def levels(self, pixels: Tensor) -> list[Tensor]:
        """Get the levels of the encoder that the head looks at; the stages above them would run for nothing."""
        return self.backbone(pixels, 0, self.head.reads)

    @torch.no_grad()
    def predict(self, batch: Batch) -> list[Prediction]:
        """Get one prediction a sample, its boxes in network pixels."""
        found = self.head.found(self.levels(batch.pixels), batch.pixels)
        return [self.told(key, one) for key, one in zip(batch.keys, found, strict=True)]

    def told(self, key: str, found: dict[str, Tensor]) -> Prediction:
        """Get the prediction of what a head found: `boxes`, `labels` and `scores` of one image."""
        scores = found["scores"].double().cpu().numpy()
        order = np.argsort(-scores, kind="stable")
        labels = tuple(self.answers.classes[number] for number in found["labels"].cpu().numpy()[order].tolist())
        boxes = Boxes(found["boxes"].double().cpu().numpy()[order], labels, scores[order])
        return Prediction(key, scores[order], np.zeros(0), self.said(boxes), boxes=boxes)

    def meter(self) -> BoxMeter:
        return BoxMeter(self)


def apart(targets: Tensor) -> list[dict[str, Tensor]]:
    """Take targets `(N, M, edges + 2)` apart as the detectors want them."""
    found = []
    for rows in targets:
        known = rows[torch.isfinite(rows[:, 0])]
        seen = known[:, -1] == 0
        found.append(
            {
                "boxes": known[seen, :-2].float(),
                "labels": known[seen, -2].long(),
                "ignored": known[~seen, :-2].float(),
            }
        )
    return found
