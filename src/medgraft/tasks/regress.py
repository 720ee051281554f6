"""Regress: a number for an image, such as an age or an ejection fraction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from torch import Tensor
from torch.nn import functional

from medgraft.errors import BadData
from medgraft.tasks.base import Answers, ImageTask


class Regress(ImageTask):
    """A number by Huber loss on standardised labels; the standard deviation comes from training images."""

    kind: ClassVar[str] = "number"

    @classmethod
    def read_answers(cls, labels: Sequence[str], positive: str | None = None) -> Answers:
        del positive
        values = _numbers(labels)
        if len(values) < 2 or float(values.std()) == 0.0:
            raise BadData("all training labels are the same number", do="Regression needs labels that differ.")
        return Answers((), None, float(values.mean()), float(values.std()))

    @classmethod
    def outputs(cls, answers: Answers) -> int:
        return 1

    def encode(self, labels: Sequence[str]) -> np.ndarray:
        return _numbers(labels).astype(np.float32)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        standard = (targets - self.answers.centre) / self.answers.scale
        return functional.smooth_l1_loss(logits[:, 0], standard.to(logits.dtype), reduction="none")

    def mixed_loss(self, logits: Tensor, targets: tuple[Tensor, Tensor], *, share: Tensor) -> Tensor:
        """Numbers mix themselves: the Huber loss is not linear in its target."""
        first, second = targets
        return self.loss(logits, share * first + (1 - share) * second)

    def word(self, probabilities: np.ndarray, logits: np.ndarray) -> tuple[str, float | None]:
        value = float(logits[0]) * self.answers.scale + self.answers.centre
        return f"{value:.6g}", value


def _numbers(labels: Sequence[str]) -> np.ndarray:
    values = np.empty(len(labels))
    for row, label in enumerate(labels):
        try:
            values[row] = float(label)
        except ValueError:
            raise BadData(f"label {label!r} is not a number", do="Choose --task classify for names.") from None
    if not np.isfinite(values).all():
        raise BadData("a label is not a finite number")
    return values
