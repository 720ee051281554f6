"""Grade: one of several ordered grades, such as 0 to 4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from medgraft.errors import BadData
from medgraft.nets import Backbone, LinearHead
from medgraft.scores.cases import decide
from medgraft.tasks.base import Answers, ImageTask, log_odds


class Grade(ImageTask):
    """Ordinal grades by cumulative logits with one shared slope.

    The head gives one score; grade > k has the logit `score - cut[k]`.

    Source: Cao, Mirjalili, Raschka, "Rank consistent ordinal regression for neural
    networks with application to age estimation" (CORAL), 2020.
    """

    kind: ClassVar[str] = "ordinal"

    def __init__(self, backbone: Backbone, head: LinearHead, answers: Answers) -> None:
        super().__init__(backbone, head, answers)
        steps = len(answers.classes) - 1
        self.register_buffer("class_weights", torch.ones(steps + 1))
        self.register_buffer("adjust", torch.zeros(steps))
        # Held by the head, so that they are trained and saved with it at every depth.
        self.head.register_parameter("cuts", nn.Parameter(torch.linspace(-1.0, 1.0, steps)))

    @classmethod
    def read_answers(cls, labels: Sequence[str], positive: str | None = None) -> Answers:
        del positive
        strange = sorted({label for label in labels if not _is_number(label)})
        if strange:
            raise BadData(f"grade {strange[0]!r} is not a number", do="Grades are ordered numbers such as 0 to 4.")
        classes = sorted(set(labels), key=float)
        if len({float(name) for name in classes}) != len(classes):
            raise BadData(f"the same grade is written in two ways among {', '.join(classes)}")
        if len(classes) < 2:
            raise BadData("there is one grade only", do="Grading needs two or more grades among the training images.")
        return Answers(tuple(classes), None)

    @classmethod
    def outputs(cls, answers: Answers) -> int:
        return 1

    def encode(self, labels: Sequence[str]) -> np.ndarray:
        index = {float(name): i for i, name in enumerate(self.answers.classes)}
        strange = sorted({label for label in labels if not _is_number(label) or float(label) not in index})
        if strange:
            raise BadData(f"grade {strange[0]!r} is not among those of the training images")
        return np.array([index[float(label)] for label in labels], dtype=np.int64)

    def answer(self, features: Tensor) -> Tensor:
        """Get cumulative logits `(N, K - 1)`: entry k for "grade above the k-th"."""
        return super().answer(features) - torch.sort(self.head.get_parameter("cuts")).values

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        steps = torch.arange(logits.shape[1], device=logits.device)
        above = (targets[:, None] > steps).to(logits.dtype)
        above = above * (1 - self.label_smoothing) + 0.5 * self.label_smoothing
        each = functional.binary_cross_entropy_with_logits(logits, above, reduction="none").mean(1)
        return each * self.class_weights[targets]  # type: ignore[index]

    def begin(self, targets: np.ndarray) -> None:
        """Start the cuts where the training grades put them, so that the head has only the images to learn."""
        steps = np.arange(len(self.answers.classes) - 1)
        above = np.clip((targets[:, None] > steps).mean(axis=0), 0.01, 0.99)
        with torch.no_grad():
            self.head.get_parameter("cuts").copy_(torch.from_numpy(np.log(1 - above) - np.log(above)).float())

    def balance(self, targets: np.ndarray, mode: str) -> np.ndarray | None:
        if mode == "none":
            return None
        # The square root: full weights would make the rarest grade rule the shared slope.
        counts = np.bincount(targets, minlength=len(self.answers.classes))
        weights = np.sqrt(counts.sum() / (len(counts) * np.maximum(counts, 1.0)))
        share = weights[targets] / weights[targets].sum()
        # Either way the grades are learnt with other odds at each cut; taking that back keeps probabilities honest.
        above = targets[:, None] > np.arange(len(counts) - 1)
        change = log_odds(share @ above) - log_odds(above.mean(axis=0))
        self.adjust.copy_(torch.from_numpy(-change).float())  # type: ignore[operator]
        if mode == "weights":
            self.class_weights.copy_(torch.from_numpy(weights).float())  # type: ignore[operator]
            return None
        return share

    def word(self, probabilities: np.ndarray, logits: np.ndarray) -> tuple[str, float | None]:
        grade = int(decide(self.kind, probabilities[None])[0])
        numbers = np.array([float(name) for name in self.answers.classes])
        return self.answers.classes[grade], float(probabilities @ numbers)


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False
