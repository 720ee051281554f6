"""Random true and found boxes for the tests of their scores."""

from __future__ import annotations

import numpy as np

from medgraft.scores.boxes import Detections
from medgraft.values import Boxes

CLASSES = ("a", "b", "c", "d")


def random_boxes(
    random: np.random.Generator,
    images: int,
    *,
    digits: int | None = None,
    ignored: float = 0.2,
    most: int = 6,
    patients: int | None = None,
) -> Detections:
    """Images of which some are empty; found boxes around true ones, doubled ones, of another class, and of nothing.

    Of the four classes "c" is found but never true, "d" is neither. `digits` rounds scores so that some are equal.
    """
    truth, found = [], []
    for _ in range(images):
        count = int(random.integers(0, most))
        low = random.uniform(0, 200, (count, 2))
        true = np.concatenate([low, low + random.choice([12.0, 20.0, 32.0, 60.0, 96.0, 130.0], (count, 2))], axis=1)
        kinds = random.integers(0, 2, count)
        again = random.integers(0, max(count, 1), random.integers(0, 2 * most) if count else 0)
        shifts = random.normal(0, 0.08, (len(again), 4)) * np.tile(true[again, 2:] - true[again, :2], 2)
        near = true[again] + shifts
        low = random.uniform(0, 200, (int(random.integers(0, most)), 2))
        far = np.concatenate([low, low + random.uniform(5, 90, low.shape)], axis=1)
        # A shift may have turned a box inside out.
        corners = np.sort(np.concatenate([near, far]).reshape(-1, 2, 2), axis=1).reshape(-1, 4)
        called = np.r_[kinds[again], random.integers(0, 3, len(far))]
        scores = random.random(len(corners))
        scores = scores if digits is None else np.round(scores, digits)
        truth.append(Boxes(true, tuple(CLASSES[k] for k in kinds), None, random.random(count) < ignored))
        found.append(Boxes(corners, tuple(CLASSES[k] for k in called), scores))
    names = None if patients is None else [f"p{row % patients}" for row in range(images)]
    return Detections(tuple(str(row) for row in range(images)), tuple(truth), tuple(found), CLASSES, names)


def deepened(found: Detections) -> Detections:
    """The same boxes as volumes of one layer: every IoU stays what it was."""

    def lift(boxes: Boxes) -> Boxes:
        flat, zero = boxes.corners, np.zeros((len(boxes), 1))
        corners = np.concatenate([flat[:, :2], zero, flat[:, 2:], zero + 1], axis=1)
        return Boxes(corners, boxes.labels, boxes.scores, boxes.ignored)

    truth, finds = (tuple(lift(boxes) for boxes in part) for part in (found.truth, found.found))
    return Detections(found.keys, truth, finds, found.classes, found.patients)
