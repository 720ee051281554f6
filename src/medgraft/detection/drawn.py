"""Pictures of what was found: whole images with boxes, and single hits, misses and false alarms close up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from medgraft.files import network_corners
from medgraft.gallery import picture_of
from medgraft.learn.model import Pixels
from medgraft.report.boxes import ALARM, HIT, MISSED, close_up, with_boxes
from medgraft.scores.boxes import Detections
from medgraft.scores.hits import HitRule, Outcome, outcomes
from medgraft.values import Boxes

_WHOLE = {"mistake": 8, "right": 4}
_CLOSE = 12  # close-ups of each kind


def gallery(
    found: Detections,
    thresholds: Mapping[str, float],
    rule: HitRule,
    *,
    picture: Callable[[str], np.ndarray],
    pixels: Pixels,
    sizes: Mapping[str, tuple[int, int]],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Get images with most mistakes and some without, boxes drawn in; and close-ups of single boxes.

    Args:
        found: test images.
        thresholds: class -> least score of a box that is called.
        rule: when a found box is a hit.
        picture: key -> network pixels.
        pixels: how a file becomes them.
        sizes: (H, W) of each file by its key.
    """
    told = outcomes(found, thresholds, hit=rule)
    wrong = np.array([len(one.alarms) + len(one.missed) for one in told])
    order = np.argsort(-wrong, kind="stable").tolist()
    right = [row for row in order[::-1] if wrong[row] == 0 and len(told[row].hits)]
    chosen = [("mistake", row) for row in order[: _WHOLE["mistake"]] if wrong[row]]
    chosen += [("right", row) for row in right[: _WHOLE["right"]]]

    def inside(row: int, boxes: Boxes) -> np.ndarray:
        words: dict[str, Any] = {"size": sizes[found.keys[row]], "network": pixels.size, "fit": pixels.fit}
        return network_corners(boxes.corners, **words)

    shown = []
    for kind, row in chosen:
        one, key = told[row], found.keys[row]
        image = with_boxes(
            picture_of(picture(key)), _marks(one, inside(row, found.truth[row]), inside(row, found.found[row]))
        )
        counts = f"{len(one.hits)} hits, {len(one.alarms)} false alarms, {len(one.missed)} missed"
        shown.append(
            {
                "kind": kind,
                "image": image,
                "most": 480,
                "key": key,
                "truth": f"{len(found.truth[row])} boxes",
                "predicted": counts,
            }
        )
    return shown, _close_ups(found, told, inside, picture)


def _marks(one: Outcome, truth: np.ndarray, found: np.ndarray) -> list[tuple[np.ndarray, tuple[int, int, int]]]:
    marks = [(found[row], HIT) for row in one.hits[:, 0].tolist()]
    marks += [(truth[row], MISSED) for row in one.missed.tolist()]
    return marks + [(found[row], ALARM) for row in one.alarms.tolist()]


def _close_ups(
    found: Detections,
    told: Sequence[Outcome],
    inside: Callable[[int, Boxes], np.ndarray],
    picture: Callable[[str], np.ndarray],
) -> list[dict[str, Any]]:
    """The surest hits and false alarms, and misses of all images in turn."""
    rows: dict[str, list[tuple[float, int, int]]] = {"hit": [], "missed": [], "alarm": []}
    for image, one in enumerate(told):
        scores = found.found[image].scores
        assert scores is not None or not len(found.found[image])
        rows["hit"] += (
            [(-float(scores[row]), image, row) for row in one.hits[:, 0].tolist()] if scores is not None else []
        )
        rows["alarm"] += (
            [(-float(scores[row]), image, row) for row in one.alarms.tolist()] if scores is not None else []
        )
        rows["missed"] += [(float(turn), image, row) for turn, row in enumerate(one.missed.tolist())]
    shown = []
    for kind, colour in (("hit", HIT), ("missed", MISSED), ("alarm", ALARM)):
        for rank, image, row in sorted(rows[kind])[:_CLOSE]:
            boxes = found.truth[image] if kind == "missed" else found.found[image]
            key = found.keys[image]
            near = close_up(picture_of(picture(key)), inside(image, boxes)[row], colour)
            words = {"kind": kind, "key": key, "label": boxes.labels[row], "image": near}
            shown.append({**words, "score": None if kind == "missed" else -rank})
    return shown
