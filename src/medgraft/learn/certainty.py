"""How sure a model is of one image: the set of answers that cannot be excluded, and how familiar the image looks.

Both are settled on validation images, after temperature and threshold. A model
that cannot narrow its answer down to one, or that is shown what it never saw,
says so and abstains; the probabilities are given all the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medgraft import seeds
from medgraft.learn import stopping
from medgraft.learn.engine import Engine
from medgraft.samples.loader import Loader
from medgraft.scores.cases import Cases
from medgraft.scores.conformal import Conformal, calibrate
from medgraft.scores.novelty import Familiar, familiar, limit_of
from medgraft.tasks.base import ImageTask
from medgraft.values import Prediction

MOST_IMAGES = 1024
_PREFIX = "certainty."
_ROUNDING = 1.0005  # the image that the limit is taken from is familiar in a batch of another size too
_NARROWED = ("binary", "multiclass", "ordinal")  # kinds of which one answer alone is wanted
_ARRAYS = ("centre", "spread", "axes", "variances")


@dataclass(frozen=True, eq=False)
class Certainty:
    """What validation images say of single answers.

    Attributes:
        classes: names of the answers; empty for numbers.
        conformal: limits of the sets of answers.
        familiar: where the features of the training images lie.
        share: of the validation images that count as familiar.
    """

    classes: tuple[str, ...]
    conformal: Conformal
    familiar: Familiar
    share: float

    def judged(self, predictions: Sequence[Prediction], features: np.ndarray) -> list[Prediction]:
        """Give each prediction its set, its distance and, where the model should abstain, the reason.

        Args:
            predictions: N of them.
            features: `(N, F)` the pooled features that they came from.
        """
        if not predictions:
            return []
        distances = self.familiar.distances(features) / self.familiar.limit
        if self.conformal.kind == "number":
            ends = self.conformal.interval(np.array([one.value for one in predictions], dtype=np.float64))
            sets = [tuple(f"{end:.6g}" for end in pair) for pair in ends]
        else:
            members = self.conformal.members(np.stack([one.probabilities for one in predictions]))
            sets = [tuple(np.array(self.classes, dtype=object)[row].tolist()) for row in members]
        return [
            replace(one, answers=answers, ood=float(far), why=self._why(one.predicted, answers, far))
            for one, answers, far in zip(predictions, sets, distances, strict=True)
        ]

    def _why(self, predicted: str, answers: tuple[str, ...], far: float) -> str:
        """The reason to abstain, in words; empty where there is none."""
        if not far <= 1:
            return f"it does not look like the training images ({far:.2f} times as far away as most of their kind)"
        if self.conformal.kind not in _NARROWED or answers == (predicted,):
            return ""
        if len(answers) == 1:
            return f"the answer is {predicted}, and the one that cannot be excluded is {answers[0]}"
        if not answers:
            return "no answer fits as well as it mostly does"
        return f"{len(answers)} answers cannot be told apart: {', '.join(answers)}"

    def tensors(self) -> dict[str, Tensor]:
        """Get the arrays as they go into the file of a model."""
        values = {name: torch.from_numpy(getattr(self.familiar, name).astype(np.float32)) for name in _ARRAYS}
        return {_PREFIX + name: value for name, value in values.items()}

    def card(self) -> dict[str, Any]:
        """Get what is no array, as plain JSON values."""
        return {"sets": self.conformal.to_dict(), "ood": {"limit": self.familiar.limit, "share": self.share}}


@torch.inference_mode()
def features_of(task: ImageTask, loader: Loader, *, engine: Engine) -> tuple[np.ndarray, np.ndarray]:
    """Get (places `(M,)`, pooled features `(M, F)`) of training images as they are, at most `MOST_IMAGES` of them.

    Raises:
        Interrupted: the run was asked to stop.
    """
    chosen = np.sort(seeds.permutation(len(loader.keys), seed=loader.seed, purpose="familiar")[:MOST_IMAGES])
    found = []
    for batch in loader.plain(np.array_split(chosen, max(1, math.ceil(len(chosen) / loader.batch_size)))):
        stopping.check()
        with engine.autocast():
            found.append(task.seen(engine.move(batch))[1])
    return chosen, np.concatenate(found)


def settle(
    val: Cases, *, coverage: float, share: float, train_features: np.ndarray, val_features: np.ndarray
) -> Certainty | None:
    """Settle both on validation images; None where there are none, or too few training images to compare with.

    Args:
        val: truth and calibrated predictions of the validation images.
        coverage: share of the sets that are to hold the truth.
        share: of the validation images that are to count as familiar.
        train_features: `(M, F)` pooled features of training images.
        val_features: `(N, F)` those of the validation images.
    """
    if not len(val) or len(train_features) < 2:
        return None
    known = rounded(familiar(train_features))
    limit = _ROUNDING * limit_of(known.distances(val_features), share=share)
    return Certainty(val.classes, calibrate(val, coverage=coverage), replace(known, limit=limit), share)


def rounded(known: Familiar) -> Familiar:
    """Get it in the precision of the file, so that a saved model says what this one says."""
    return replace(known, **{name: getattr(known, name).astype(np.float32).astype(np.float64) for name in _ARRAYS})


def take(state: dict[str, Tensor], card: Mapping[str, Any]) -> tuple[dict[str, Tensor], Certainty | None]:
    """Part the arrays of a saved model from its weights: (weights, certainty; None where the model is older).

    Raises:
        KeyError, TypeError: they do not fit the card.
    """
    own = {name: tensor for name, tensor in state.items() if name.startswith(_PREFIX)}
    rest = {name: tensor for name, tensor in state.items() if name not in own}
    told = card.get("certainty")
    if not told:
        return rest, None
    arrays = {name: own[_PREFIX + name].double().numpy() for name in _ARRAYS}
    known = Familiar(**arrays, limit=float(told["ood"]["limit"]))
    conformal = Conformal.from_dict(told["sets"])
    return rest, Certainty(tuple(card["classes"]), conformal, known, float(told["ood"]["share"]))
