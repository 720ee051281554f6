"""A meter: collects predictions beside the truth and turns them into scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medgraft.scores.cases import decide
from medgraft.scores.decisions import confusion_matrix, quadratic_kappa
from medgraft.scores.numeric import mae
from medgraft.scores.probabilities import log_loss
from medgraft.scores.ranking import auroc
from medgraft.values import Prediction

# How much the log-loss counts beside the score of order: with few validation
# images many epochs tie in AUROC, and the more certain of them is the better.
# More of it would let mere overconfidence, which the temperature mends, rule the choice.
_LOSS_SHARE = 0.02


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
