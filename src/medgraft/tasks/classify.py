"""Classify: one of two or more classes for an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from medgraft.errors import BadData, BadRecipe
from medgraft.tasks.base import Answers, ImageTask, inverse_frequency, unknown_answers

_KNOWN_ONLY = "Name them as in training, or leave these images out."
# Words that say "nothing found": the other of two classes is then the positive one.
_NEGATIVE = {
    "0", "absent", "benign", "clear", "control", "false", "healthy", "neg", "negative", "no", "no finding",
    "no_disease", "no_finding", "no_findings", "no_tumor", "nodisease", "non", "none", "normal", "normals",
    "sane", "uninfected", "unremarkable", "well",
}  # fmt: skip


class Classify(ImageTask):
    """Binary or multi-class classification by softmax and cross-entropy."""

    kind: ClassVar[str] = "multiclass"

    @classmethod
    def read_answers(cls, labels: Sequence[str], positive: str | None = None) -> Answers:
        classes = sorted(set(labels), key=_natural)
        several = [name for name in classes if "|" in name or not name]
        if several:
            named = f"label {several[-1]!r} holds several classes" if several[-1] else "some labels are empty"
            raise BadData(f"{named}, and classify takes one class an image", do="Choose --task multilabel.")
        if len(classes) < 2:
            raise BadData(
                f"there is one class only ({classes[0] if classes else 'none'})",
                do="Classification needs two or more classes among the training images.",
            )
        if positive is not None and positive not in classes:
            raise BadRecipe(f"scores.positive is {positive!r}, but the classes are {', '.join(classes)}")
        if len(classes) == 2:
            positive = positive or _guess_positive(classes)
            classes = [name for name in classes if name != positive] + [positive]
            return Answers(tuple(classes), positive)
        return Answers(tuple(classes), None)

    def encode(self, labels: Sequence[str]) -> np.ndarray:
        index = {name: i for i, name in enumerate(self.answers.classes)}
        strange = sorted({label for label in labels if label not in index})
        if strange:
            raise BadData(unknown_answers(strange, labels, known=self.answers.classes, what="class"), do=_KNOWN_ONLY)
        return np.array([index[label] for label in labels], dtype=np.int64)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        each = functional.cross_entropy(logits, targets, reduction="none", label_smoothing=self.label_smoothing)
        return each * self.class_weights[targets]  # type: ignore[index]

    def rarity(self, targets: np.ndarray) -> float | None:
        counts = np.bincount(targets, minlength=len(self.answers.classes))
        return float(counts.max() / max(1, counts[counts > 0].min()))

    def balance(self, targets: np.ndarray, mode: str) -> np.ndarray | None:
        counts = np.bincount(targets, minlength=len(self.answers.classes))
        if mode == "none":
            return None
        weights = inverse_frequency(counts)
        # Weighting tilts the odds by the ratio of weights; taking it back keeps the probabilities honest.
        self.adjust.copy_(torch.from_numpy(-np.log(weights)).float())  # type: ignore[operator]
        if mode == "weights":
            self.class_weights.copy_(torch.from_numpy(weights).float())  # type: ignore[operator]
            return None
        share = weights[targets]
        return share / share.sum()

    def word(self, probabilities: np.ndarray, logits: np.ndarray) -> tuple[str, float | None]:
        classes = self.answers.classes
        if len(classes) == 2:
            return classes[int(probabilities[1] >= self.threshold[0])], None
        return classes[int(probabilities.argmax())], None


def _guess_positive(classes: Sequence[str]) -> str:
    sane = [name for name in classes if name.strip().lower() in _NEGATIVE]
    if len(sane) == 1:
        return next(name for name in classes if name != sane[0])
    return classes[-1]


def _natural(name: str) -> tuple[float, str]:
    try:
        return float(name), name
    except ValueError:
        return float("inf"), name
