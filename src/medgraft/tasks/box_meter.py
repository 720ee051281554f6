"""A meter of boxes: how well the validation images' boxes are found, for the choice of the best epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from medgraft.scores.boxes import Detections
from medgraft.scores.matching import Matches, match_boxes
from medgraft.scores.precision import precision_scores
from medgraft.values import Boxes, Prediction

if TYPE_CHECKING:
    from medgraft.tasks.detect import Detect


class BoxMeter:
    """Found boxes beside the truth, both in network pixels.

    Args:
        task: takes targets apart.
    """

    def __init__(self, task: Detect) -> None:
        self.task = task
        self.keys: list[str] = []
        self._truth: list[Boxes] = []
        self._found: list[Boxes] = []

    def update(self, predictions: Sequence[Prediction], targets: np.ndarray) -> None:
        """Add predictions and their encoded truth, in the same order."""
        self.keys += [one.key for one in predictions]
        self._found += [one.boxes for one in predictions if one.boxes is not None]
        self._truth += self.task.decode(targets)

    def watch(self) -> tuple[float, float]:
        """Get (loss, score): COCO's mean of average precision at IoU .50 and .75, and what it lacks to one."""
        classes = self.task.answers.classes
        found = Detections(tuple(self.keys), tuple(self._truth), tuple(self._found), classes)
        score = float(np.nan_to_num(both_limits(match_boxes(found, by_size=False), np.ones((1, len(found))))[0]))
        return 1.0 - score, score


def both_limits(matches: Sequence[Matches], weights: np.ndarray) -> np.ndarray:
    """Get the mean of average precision at IoU .50 and .75: `(B,)`; NaN where no truth counts.

    Args:
        matches: one a class, of `match_boxes`.
        weights: `(B, n)` of the images.
    """
    scores = precision_scores(matches, weights)
    return (scores["map50"] + scores["map75"]) / 2
