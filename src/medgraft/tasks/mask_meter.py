"""A meter of label maps: how well those of validation images are drawn, for the choice of the best epoch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medgraft.values import Prediction

UNKNOWN = 255


class MaskMeter:
    """Drawn label maps beside the truth, both in network pixels.

    Args:
        classes: how many there are, the background not counted.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.keys: list[str] = []
        self._shared: list[np.ndarray] = []
        self._sizes: list[np.ndarray] = []

    def update(self, predictions: Sequence[Prediction], targets: np.ndarray) -> None:
        """Add predictions and their truth `(N, [D,] H, W)`, 255 where it is unknown, in the same order."""
        for one, truth in zip(predictions, targets, strict=True):
            assert one.mask is not None
            self.keys.append(one.key)
            known = truth != UNKNOWN
            true, drawn = truth[known].astype(np.int64), one.mask[known].astype(np.int64)
            count = self.classes + 1
            table = np.bincount(true * count + drawn, minlength=count**2).reshape(count, count)[:count, :count]
            self._shared.append(np.diag(table)[1:])
            self._sizes.append((table.sum(axis=0) + table.sum(axis=1))[1:])

    def watch(self) -> tuple[float, float]:
        """Get (loss, score): the mean over classes of the mean Dice of their images, and what it lacks to one.

        Images that neither have nor show a class do not count for it.
        """
        shared, sizes = np.array(self._shared, float), np.array(self._sizes, float)
        dice = np.divide(2 * shared, sizes, out=np.full(sizes.shape, np.nan), where=sizes > 0)
        each = [float(np.nanmean(column)) for column in dice.T if np.isfinite(column).any()]
        score = float(np.mean(each)) if each else 0.0
        return 1.0 - score, score
