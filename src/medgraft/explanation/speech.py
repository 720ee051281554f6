"""What a map explains: one number an image, the larger the more the net holds to an answer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medgraft.errors import BadRecipe
from medgraft.tasks.base import ImageTask
from medgraft.tasks.localise import Localise

SEVERITY = "severity"  # what the sum of the zones is called where a class is asked for


def spoken(task: ImageTask, logits: Tensor, answer: Tensor) -> Tensor:
    """Get how much each image speaks for an answer, `(N,)`, differentiable.

    Classes: the log-odds of the class against all others. Labels: the label's log-odds. Grades: the expected grade.
    Numbers: the number. Where zones have severities, the answer after the last class is their sum.

    Args:
        task: what the logits mean.
        logits: `(N, K)`.
        answer: `(N,)` int64, of classes or labels; not looked at for grades and numbers.
    """
    if task.answer_kind in ("ordinal", "number"):
        return torch.sigmoid(logits).sum(dim=1) if task.answer_kind == "ordinal" else logits[:, 0]
    if isinstance(task, Localise) and bool((answer == len(task.answers.classes)).any()):
        return _severity(task, logits)
    logits = task.named_logits(logits)
    own = logits.gather(1, answer[:, None])[:, 0]
    if task.answer_kind == "labels" or logits.shape[1] == 1:
        return own
    others = logits.masked_fill(torch.nn.functional.one_hot(answer, logits.shape[1]).bool(), -torch.inf)
    return own - others.logsumexp(dim=1)


def _severity(task: Localise, logits: Tensor) -> Tensor:
    if logits.shape[1] == len(task.answers.classes):
        raise BadRecipe("this method explains classes alone", do="Use --method severity, occlusion or attention.")
    return task.severities(logits).sum(dim=1)


def most_likely(task: ImageTask, logits: Tensor) -> Tensor:
    """Get the answer that a net gives, `(N,)`; of labels, the most likely one."""
    return (
        torch.zeros(len(logits), dtype=torch.int64)
        if task.answer_kind in ("ordinal", "number")
        else task.named_logits(logits).argmax(1)
    )


def answer_named(task: ImageTask, word: str) -> int:
    """Get the place of a class or label; "severity" is the sum of the zones, where there are zones.

    Raises:
        BadRecipe: there is none of this name; names those there are.
    """
    names: Sequence[str] = task.answers.classes
    if word == SEVERITY and task.answers.zones and word not in names:
        return len(names)
    if word not in names or task.answer_kind in ("ordinal", "number"):
        what = "answers of this run are numbers, and the map is of the number" if not names else f"no class {word!r}"
        raise BadRecipe(what, do=f"Known: {', '.join(names)}." if names else "Leave the class out.")
    return names.index(word)
