"""Pictures of drawn label maps for the page: those that agree least with the truth, and some that agree."""

from __future__ import annotations

from typing import Any

import numpy as np

from medgraft.gallery import picture_of
from medgraft.report.outlines import agreement, beside, classes, things
from medgraft.samples.mask_grid import GridFrame, SolidFrame
from medgraft.samples.picture_grid import UNKNOWN
from medgraft.segmentation.judge import Judged, Rules

_WORST, _BEST = 8, 4
_SIDE = 480  # pixels of a picture on the page


class Gallery:
    """Keeps pictures of the images whose Dice is lowest and highest, so that no more are held than are shown.

    Args:
        rules: how label maps are scored.
    """

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._kept: list[tuple[float, dict[str, Any]]] = []

    def add(self, judged: Judged, pixels: np.ndarray, truth: np.ndarray, drawn: np.ndarray, frame: GridFrame) -> None:
        """Show the image that was judged last, where it is among those.

        Args:
            judged: holds its scores.
            pixels: `(C, [D,] h, w)` network pixels.
            truth: label map on the grid of the file.
            drawn: the same.
            frame: where network pixels are in the file.
        """
        dice = float(judged.dice()[-1])
        if not np.isfinite(dice):
            return
        ranks = [value for value, _ in self._kept]
        if len(ranks) >= _WORST + _BEST and sorted(ranks)[_WORST - 1] <= dice <= sorted(ranks)[-_BEST]:
            return
        row = _entry(self.rules, judged, pixels, truth, drawn, frame)
        self._kept.append((dice, {**row, "dice": dice}))
        self._kept.sort(key=lambda one: one[0])
        if len(self._kept) > _WORST + _BEST:
            self._kept = [*self._kept[:_WORST], *self._kept[-_BEST:]]

    def rows(self) -> list[dict[str, Any]]:
        """Get what the page shows: the worst first, then the best."""
        rows = [row for _, row in self._kept]
        cut = min(_WORST, max(1, len(rows) - _BEST)) if rows else 0
        best = [{**row, "kind": "right"} for row in rows[cut:][::-1]]
        return [{**row, "kind": "mistake"} for row in rows[:cut]] + best


def _entry(
    rules: Rules, judged: Judged, pixels: np.ndarray, truth: np.ndarray, drawn: np.ndarray, frame: GridFrame
) -> dict[str, Any]:
    image, true, found, place = _plane(pixels, truth, drawn, frame)
    if rules.apart:
        picture = beside(things(image, true), things(image, found))
    elif len(rules.classes) == 1:
        known = true != UNKNOWN
        picture = agreement(image, (true > 0) & known, (found > 0) & known)
    else:
        picture = classes(image, true, found, count=len(rules.classes))
    own, sample = judged.masks[-1], judged.samples[-1]
    each = ", ".join(
        f"{name} {value:.2f}" for name, value in zip(rules.classes, own["dice"].tolist(), strict=True) if value == value
    )
    return {
        "image": picture,
        "most": 2 * _SIDE,
        "key": sample.key,
        "patient": sample.patient,
        "truth": sample.label or "nothing",
        "predicted": f"Dice {each}" if len(rules.classes) > 1 else f"Dice {float(own['dice'][0]):.2f}",
        "note": place or None,
    }


def _plane(
    pixels: np.ndarray, truth: np.ndarray, drawn: np.ndarray, frame: GridFrame
) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """Get picture, truth and find in network pixels; of a volume in the slice with most mistakes."""
    if not isinstance(frame, SolidFrame):
        return picture_of(pixels), frame.numbered(truth), frame.numbered(drawn), ""
    true, found = frame.laid(truth), frame.laid(drawn)
    wrong = ((true != found) & (true != UNKNOWN)).sum(axis=(1, 2))
    shown = (true > 0).sum(axis=(1, 2))
    place = int(wrong.argmax() if wrong.any() else shown.argmax())
    return (
        picture_of(pixels[:, place]),
        true[place],
        found[place],
        f"slice {place + 1} of {len(true)} on the net's grid",
    )
