"""What a map explains: one number an image, the larger the more the net holds to an answer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medgraft.errors import BadRecipe
from medgraft.tasks.base import ImageTask


def spoken(task: ImageTask, logits: Tensor, answer: Tensor) -> Tensor:
    """Get how much each image speaks for an answer, `(N,)`, differentiable.

    Classes: the log-odds of the class against all others. Labels: the label's log-odds. Grades: the expected grade.
    Numbers: the number.

    Args:
        task: what the logits mean.
        logits: `(N, K)`.
        answer: `(N,)` int64, of classes or labels; not looked at for grades and numbers.
    """
    if task.answer_kind in ("ordinal", "number"):
        return torch.sigmoid(logits).sum(dim=1) if task.answer_kind == "ordinal" else logits[:, 0]
    own = logits.gather(1, answer[:, None])[:, 0]
    if task.answer_kind == "labels" or logits.shape[1] == 1:
        return own
    others = logits.masked_fill(torch.nn.functional.one_hot(answer, logits.shape[1]).bool(), -torch.inf)
    return own - others.logsumexp(dim=1)


def most_likely(task: ImageTask, logits: Tensor) -> Tensor:
    """Get the answer that a net gives, `(N,)`; of labels, the most likely one."""
    return (
        torch.zeros(len(logits), dtype=torch.int64) if task.answer_kind in ("ordinal", "number") else logits.argmax(1)
    )


def answer_named(task: ImageTask, word: str) -> int:
    """Get the place of a class or label.

    Raises:
        BadRecipe: there is none of this name; names those there are.
    """
    names: Sequence[str] = task.answers.classes
    if word not in names or task.answer_kind in ("ordinal", "number"):
        what = "answers of this run are numbers, and the map is of the number" if not names else f"no class {word!r}"
        raise BadRecipe(what, do=f"Known: {', '.join(names)}." if names else "Leave the class out.")
    return names.index(word)
