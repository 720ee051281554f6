"""What a map explains: one number an image, the larger the more the net holds to an answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from medgraft.errors import BadRecipe
from medgraft.explanation.names import SEVERITY
from medgraft.tasks.base import ImageTask
from medgraft.tasks.localise import Localise
from medgraft.values import Prediction


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


def answer_given(task: ImageTask, prediction: Prediction) -> int:
    """Get the place of the class that was predicted: not of the largest logit, for a threshold may say otherwise.

    Of labels the most likely one of those that were called, or of all where none was. Of grades and numbers 0.

    Args:
        task: what the prediction means.
        prediction: what the task said of an image.
    """
    if task.answer_kind in ("ordinal", "number"):
        return 0
    if task.answer_kind != "labels":
        return task.answers.classes.index(prediction.predicted)
    called = np.isin(task.answers.classes, prediction.predicted.split("|"))
    return int(np.argmax(prediction.probabilities + called))  # a chance is 1 at most: what was called comes first


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
