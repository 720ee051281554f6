"""A meter: collects predictions beside the truth and turns them into scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from medgraft.scores.cases import decide
from medgraft.scores.decisions import confusion_matrix, quadratic_kappa
from medgraft.scores.numeric import mae, spearman
from medgraft.scores.probabilities import log_loss
from medgraft.scores.ranking import auroc
from medgraft.values import Prediction

# How much the log-loss counts beside the score of order: with few validation
# images many epochs tie in AUROC, and the more certain of them is the better.
# More of it would let mere overconfidence, which the temperature mends, rule the choice.
_LOSS_SHARE = 0.02


class Watch(Protocol):
    """What the training loop asks of a meter."""

    def update(self, predictions: Sequence[Prediction], targets: np.ndarray) -> None:
        """Add predictions and their encoded truth, in the same order."""
        ...

    def watch(self) -> tuple[float, float]:
        """Get (loss, score) to choose the best epoch by; a higher score is better, both are finite."""
        ...


class Meter:
    """Predictions and truth of one data set.

    Args:
        kind: what the answers are: "binary", "multiclass", "labels", "ordinal" or "number".
        classes: names of the outputs.
        positive: the positive one of two classes.
        scale: spread of numeric labels, so that their score is free of units.
    """

    def __init__(self, *, kind: str, classes: Sequence[str], positive: str | None = None, scale: float = 1.0) -> None:
        self.kind, self.classes, self.positive, self.scale = kind, tuple(classes), positive, scale
        self._probabilities: list[np.ndarray] = []
        self._logits: list[np.ndarray] = []
        self._values: list[float] = []
        self._targets: list[np.ndarray] = []
        self.keys: list[str] = []

    def update(self, predictions: Sequence[Prediction], targets: np.ndarray) -> None:
        """Add predictions and their encoded truth, in the same order."""
        for prediction in predictions:
            self.keys.append(prediction.key)
            self._probabilities.append(prediction.probabilities)
            self._logits.append(prediction.logits)
            self._values.append(np.nan if prediction.value is None else prediction.value)
        self._targets.append(np.asarray(targets))

    @property
    def targets(self) -> np.ndarray:
        """Encoded truth, `(N,)` or `(N, K)`."""
        return np.concatenate(self._targets)

    @property
    def probabilities(self) -> np.ndarray:
        """`(N, K)` float64."""
        return np.stack(self._probabilities)

    @property
    def logits(self) -> np.ndarray:
        """`(N, K)` float64."""
        return np.stack(self._logits)

    @property
    def values(self) -> np.ndarray:
        """`(N,)` numbers predicted; NaN for tasks without."""
        return np.array(self._values)

    def watch(self) -> tuple[float, float]:
        """Get (loss, score) to choose the best epoch by; a higher score is better, both are finite."""
        targets = self.targets
        if self.kind == "number":
            error = float(mae(targets, self.values)) / self.scale
            return error, -error
        probabilities = self.probabilities
        loss = float(log_loss(targets, probabilities))
        if self.kind == "ordinal":
            matrix = confusion_matrix(targets, decide(self.kind, probabilities), classes=len(self.classes))
            order = float(np.ravel(quadratic_kappa(matrix))[0])
        elif self.kind == "binary":
            order = float(auroc(targets, probabilities[:, 1]))
        else:
            order = float(auroc(targets, probabilities))
        order = order if np.isfinite(order) else 0.0
        return loss, order - _LOSS_SHARE * loss


class ZoneMeter(Meter):
    """Diagnoses and severities of zones beside the truth, each where it is known.

    Args:
        grades: the severities that a zone may have; empty where they are shares.
    """

    def __init__(
        self, *, kind: str, classes: Sequence[str], positive: str | None = None, grades: Sequence[float] = ()
    ) -> None:
        super().__init__(kind=kind, classes=classes, positive=positive)
        self.grades = np.asarray(grades, dtype=np.float64)
        self._zones: list[np.ndarray] = []
        self._truth: list[np.ndarray] = []

    def update(self, predictions: Sequence[Prediction], targets: np.ndarray) -> None:
        rows = np.flatnonzero(targets[:, 0] >= 0)
        keys = [*self.keys, *(prediction.key for prediction in predictions)]
        super().update([predictions[row] for row in rows.tolist()], targets[rows, 0].astype(np.int64))
        self.keys = keys
        self._zones += [np.array(list(prediction.zones.values())) for prediction in predictions]
        self._truth += list(targets[:, 1:])

    def watch(self) -> tuple[float, float]:
        """Get (loss, score): the mean of the scores of both questions; one that cannot be scored counts as chance."""
        loss, score = super().watch() if self._probabilities else (0.0, 0.0)
        truth, said = np.concatenate(self._truth).astype(np.float64), np.concatenate(self._zones)
        seen = np.isfinite(truth)
        truth, said = truth[seen], said[seen]
        if not len(truth):
            return loss, score
        if len(self.grades):
            called = nearest(said, self.grades)
            order = float(quadratic_kappa(confusion_matrix(truth, called, classes=len(self.grades))))
            error = float(np.abs(self.grades[truth.astype(np.int64)] - said).mean()) / float(np.ptp(self.grades))
        else:
            order, error = float(spearman(truth, said)), float(np.abs(truth - said).mean())
        order = order if np.isfinite(order) else 0.0
        return loss + error, (score + order - _LOSS_SHARE * error) / 2


def nearest(values: np.ndarray, grades: np.ndarray) -> np.ndarray:
    """Get the number of the grade that each value is nearest to, int64.

    Example:
        >>> nearest(np.array([0.4, 2.6]), np.array([0.0, 1.0, 3.0])).tolist()
        [0, 2]
    """
    return np.abs(np.asarray(values)[..., None] - grades).argmin(axis=-1).astype(np.int64)
