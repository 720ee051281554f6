"""Pictures of what was found: whole images with boxes, and single hits, misses and false alarms close up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw

from medgraft.files import network_corners
from medgraft.gallery import picture_of
from medgraft.learn.model import Pixels
from medgraft.scores.boxes import Detections
from medgraft.scores.hits import HitRule, Outcome, outcomes
from medgraft.values import Boxes

# Told apart on dark films and on pink tissue, and by people with any common colour blindness.
HIT, MISSED, ALARM = (64, 224, 128), (255, 214, 0), (255, 64, 96)
_WHOLE = {"mistake": 8, "right": 4}
_CLOSE = 12  # close-ups of each kind
_CONTEXT = 2.0  # sides of a box that a close-up shows
_CLOSE_SIDE = 96


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


def with_boxes(
    image: np.ndarray, marks: Sequence[tuple[np.ndarray, tuple[int, int, int]]], *, least: int = 480
) -> np.ndarray:
    """Draw boxes into a picture.

    Args:
        image: uint8 `(H, W)` or `(H, W, 3)`.
        marks: corners x0, y0, x1, y1 in its pixels, and a colour.
        least: a smaller picture is magnified to this side, so that lines stay thin beside what they surround.

    Returns:
        uint8 `(H, W, 3)`.
    """
    paper = Pillow.fromarray(image).convert("RGB")
    scale = max(1.0, least / max(paper.size))
    paper = paper.resize((round(paper.width * scale), round(paper.height * scale)), Pillow.Resampling.BICUBIC)
    pen = ImageDraw.Draw(paper)
    for corners, colour in marks:
        x0, y0, x1, y1 = (np.asarray(corners) * scale).tolist()
        pen.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=colour, width=2)
    return np.asarray(paper)


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
            near = _close(picture_of(picture(key)), inside(image, boxes)[row], colour)
            words = {"kind": kind, "key": key, "label": boxes.labels[row], "image": near}
            shown.append({**words, "score": None if kind == "missed" else -rank})
    return shown


def _close(image: np.ndarray, corners: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Cut a square around a box, twice as wide as it is, the box drawn in."""
    side = max(8.0, _CONTEXT * float(max(corners[2] - corners[0], corners[3] - corners[1])))
    x, y = (float(corners[k] + corners[k + 2]) / 2 - side / 2 for k in (0, 1))
    paper = Pillow.fromarray(image).convert("RGB")
    near = paper.resize((_CLOSE_SIDE, _CLOSE_SIDE), Pillow.Resampling.BICUBIC, box=_within(x, y, side, paper.size))
    x, y, right, below = _within(x, y, side, paper.size)
    scale = np.array([_CLOSE_SIDE / (right - x), _CLOSE_SIDE / (below - y)] * 2)
    return with_boxes(np.asarray(near), [((corners - np.array([x, y, x, y])) * scale, colour)], least=_CLOSE_SIDE)


def _within(x: float, y: float, side: float, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """A square moved into the picture; smaller where the picture is."""
    side = min(side, *size)
    left, top = float(np.clip(x, 0, size[0] - side)), float(np.clip(y, 0, size[1] - side))
    return left, top, left + side, top + side
