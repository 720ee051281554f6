"""Maps of network pixels, each with what it is worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medgraft.explanation.methods import map_of, method_for
from medgraft.explanation.sanity import Sanity, alike, deletion_insertion, randomised
from medgraft.explanation.speech import answer_given
from medgraft.samples.loader import normalised
from medgraft.tasks.base import ImageTask
from medgraft.values import Batch


@dataclass(frozen=True, eq=False)
class Made:
    """A map `([D,] H, W)` float32 in network pixels, at least 0; the answer it is of; what it is worth."""

    map: np.ndarray
    answer: int
    sanity: Sanity


class MapMaker:
    """Makes maps of a task's answers, one image at a time, in float32.

    Args:
        task: it is put in eval mode, and its weights are no longer trained.
        device: where the task is.
        method: a word of `methods.METHODS`, or "auto".
        seed: of the random weights that maps are checked against.

    Raises:
        UnknownName: no such method.
    """

    def __init__(self, task: ImageTask, *, device: torch.device, method: str = "auto", seed: int = 0) -> None:
        self.task, self.device = task.eval().requires_grad_(False), device
        self.method = method_for(task, method)
        self.random = randomised(task, seed=seed)

    def make(self, rows: np.ndarray, *, answer: int | None = None) -> Made:
        """Make the map of one image.

        Args:
            rows: `(1, C, H, W)` network pixels, uint8 or uint16.
            answer: place of the class or label to explain; None takes the answer that is given.
        """
        entering = normalised(rows, self.task.backbone.spec).to(self.device)
        said = self._answer(entering, answer)
        found = map_of(self.task, entering, answer=said, method=self.method)[0].cpu()
        return Made(found.numpy(), int(said), self._sanity(entering, said, found))

    def _answer(self, entering: Tensor, answer: int | None) -> Tensor:
        if answer is not None:
            return torch.tensor([answer], device=self.device)
        with torch.no_grad():
            (prediction,) = self.task.predict(Batch(entering, keys=("",)))
        return torch.tensor([answer_given(self.task, prediction)], device=self.device)

    def _sanity(self, entering: Tensor, answer: Tensor, found: Tensor) -> Sanity:
        other = map_of(self.random, entering, answer=answer, method=self.method)[0].cpu()
        figures = deletion_insertion(self.task, entering, order=found, answer=answer)
        return Sanity(alike(found.numpy(), other.numpy()), *figures)
