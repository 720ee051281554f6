"""The facts of boxes that a survey tells: how many of what, how large, and what was left out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from medgraft.samples.dataset import Problem
from medgraft.values import Sample


def box_facts(samples: Sequence[Sample], problems: Sequence[Problem]) -> dict[str, Any] | None:
    """Get the facts of boxes; None where no sample has any known.

    Args:
        samples: of the data set.
        problems: of the data set; those of a part of a file are boxes.

    Returns:
        `count`; `classes`: class -> {"all": n, "train": n, ...}; `images` that are annotated and those `without` a
        box; `per_image`: smallest, median and largest number; `sides`: width and height together in pixels, "low" and
        "high" are the percentiles 5 and 95; `ignored` boxes; `left_out`: how many cannot be used.
    """
    known = [(sample, sample.boxes) for sample in samples if sample.boxes is not None]
    if not known:
        return None
    classes: dict[str, Counter[str]] = defaultdict(Counter)
    for sample, boxes in known:
        for label in boxes.labels:
            classes[label]["all"] += 1
            if sample.split:
                classes[label][sample.split] += 1
    counts = [len(boxes) for _, boxes in known]
    sides = np.concatenate([_sides(boxes.corners) for _, boxes in known])
    return {
        "count": sum(counts),
        "classes": {name: dict(classes[name]) for name in sorted(classes)},
        "images": len(known),
        "without": counts.count(0),
        "per_image": _spread(np.array(counts), (0, 50, 100)),
        "sides": _spread(sides, (5, 50, 95)) if sides.size else None,
        "ignored": sum(int(boxes.ignored.sum()) for _, boxes in known),
        "left_out": sum(problem.part for problem in problems),
    }


def _sides(corners: np.ndarray) -> np.ndarray:
    half = corners.shape[1] // 2
    return (corners[:, half:] - corners[:, :half]).reshape(-1)


def _spread(values: np.ndarray, percentiles: tuple[int, int, int]) -> dict[str, float]:
    low, median, high = np.percentile(values, percentiles)
    return {"low": float(low), "median": float(median), "high": float(high)}
