"""Multilabel: any number of findings for an image, each yes or no."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from medgraft.errors import BadData
from medgraft.scores.cases import decide
from medgraft.tasks.base import Answers, ImageTask, log_odds

_LARGEST_WEIGHT = 10.0  # a label seen once must not outweigh all others


class Multilabel(ImageTask):
    """Independent findings by sigmoid and binary cross-entropy; a label is `a|b`, empty = none."""

    kind: ClassVar[str] = "labels"

    @classmethod
    def read_answers(cls, labels: Sequence[str], positive: str | None = None) -> Answers:
        del positive
        classes = sorted({name for label in labels for name in split_labels(label)})
        if not classes:
            raise BadData("no training image has a label", do="Write findings as a|b in the label column.")
        return Answers(tuple(classes), None)

    def encode(self, labels: Sequence[str]) -> np.ndarray:
        index = {name: i for i, name in enumerate(self.answers.classes)}
        targets = np.zeros((len(labels), len(index)), dtype=np.float32)
        for row, label in enumerate(labels):
            for name in split_labels(label):
                if name not in index:
                    known = ", ".join(self.answers.classes)
                    raise BadData(f"label {name!r} is not among the findings of the training images ({known})")
                targets[row, index[name]] = 1.0
        return targets

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        soft = targets * (1 - self.label_smoothing) + 0.5 * self.label_smoothing
        weights: Tensor = self.class_weights  # type: ignore[assignment]
        return functional.binary_cross_entropy_with_logits(logits, soft, reduction="none", pos_weight=weights).mean(1)

    def rarity(self, targets: np.ndarray) -> float | None:
        positive = np.maximum(targets.sum(axis=0), 1.0)
        return float(((len(targets) - positive) / positive).max())

    def balance(self, targets: np.ndarray, mode: str) -> np.ndarray | None:
        positive = targets.sum(axis=0).astype(np.float64)
        ratio = np.clip((len(targets) - positive) / np.maximum(positive, 1.0), 1.0, _LARGEST_WEIGHT)
        if mode == "weights":
            self.class_weights.copy_(torch.from_numpy(ratio).float())  # type: ignore[operator]
            self.adjust.copy_(torch.from_numpy(-np.log(ratio)).float())  # type: ignore[operator]
        if mode == "sampling":
            share = np.maximum((targets * ratio).max(axis=1), 1.0)
            share = share / share.sum()
            # Drawing more of a label tilts its odds; taking that back keeps the probabilities honest.
            change = log_odds(share @ targets) - log_odds(targets.mean(axis=0))
            self.adjust.copy_(torch.from_numpy(-change).float())  # type: ignore[operator]
            return share
        return None

    def word(self, probabilities: np.ndarray, logits: np.ndarray) -> tuple[str, float | None]:
        called = decide(self.kind, probabilities[None], threshold=np.asarray(self.threshold))[0]
        found = [name for name, yes in zip(self.answers.classes, called, strict=True) if yes]
        return "|".join(found), None


def split_labels(label: str) -> list[str]:
    """Get the findings of `a|b`; empty text is none.

    Example:
        >>> split_labels("edema | effusion")
        ['edema', 'effusion']
    """
    return [name.strip() for name in label.split("|") if name.strip()]
