"""The score by which heads and depths are compared on images that were held out: one a kind of answer."""

from __future__ import annotations

import numpy as np

from medgraft.scores.numeric import r2
from medgraft.scores.ranking import auroc, auroc_cuts
from medgraft.scores.resample import Value
from medgraft.tasks.base import ImageTask

_OTHERS = {"ordinal": "auroc_cuts", "number": "r2"}


def score_name(task: ImageTask) -> str:
    """Get the score's name, as in the tables: AUROC, that over the cuts between grades, or explained variance."""
    return _OTHERS.get(task.answer_kind, "auroc")


def answers_of(task: ImageTask, logits: np.ndarray) -> np.ndarray:
    """Get what the score orders cases by, from `(N, K)` logits: `(N,)` numbers, or `(N, K)` a class or label."""
    if task.answer_kind in _OTHERS:
        return np.array([one.value for one in task.interpret(("",) * len(logits), logits)], dtype=np.float64)
    chances = task.probabilities(logits)
    return chances[:, 1] if task.answer_kind == "binary" else chances


def held_score(task: ImageTask, answers: np.ndarray, *, truth: np.ndarray, weights: np.ndarray | None = None) -> Value:
    """Get the score of answers; NaN where the truth has one answer alone.

    Args:
        task: says which score.
        answers: of `answers_of`.
        truth: what the task encoded.
        weights: `(B, N)` resamples, or None.
    """
    found = {"ordinal": auroc_cuts, "number": r2}.get(task.answer_kind, auroc)
    return found(truth, answers, weights=weights)
