"""Severities of zones in a run: their intervals settled on validation, their scores and pictures on test images.

What is said of diagnoses comes from `judge`, as for any other run; here is what comes beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from medgraft.explanation.cams import severity_map
from medgraft.gallery import picture_of
from medgraft.judge import Predicted
from medgraft.nets.zones import cell_of
from medgraft.samples.loader import normalised
from medgraft.scores.severity import Severities, covered, each_zone, grade_matrix, reach_of, severity_table
from medgraft.tasks.base import ImageTask
from medgraft.tasks.localise import Localise

_SHOWN = 6


def of(task: ImageTask, found: Predicted) -> Severities | None:
    """Get truth and predictions of the zones; None where the task has none."""
    if not isinstance(task, Localise):
        return None
    numbers = found.targets[:, 1:].astype(np.float64)
    known, truth = np.isfinite(numbers), numbers
    if task.answers.grades:
        grades = np.asarray(task.answers.grades)
        truth = np.where(known, grades[np.where(known, numbers, 0).astype(np.int64)], np.nan)
    rows = [list(one.zones.values()) for one in task.interpret(found.keys, found.logits)]
    said = np.array(rows, dtype=np.float64).reshape(truth.shape)
    return Severities(truth, said, task.answers.grades, found.patients)


def settle(task: ImageTask, val: Predicted, *, coverage: float) -> None:
    """Set the widths of the intervals around zones and sums in the task, from validation images."""
    found = of(task, val)
    if found is not None:
        task.reach = reach_of(found, coverage=coverage)


def entry(task: ImageTask, test: Predicted, *, coverage: float, seed: int, resamples: int) -> dict[str, Any]:
    """Get `severity` of report.json; empty where the task has no zones."""
    found = of(task, test)
    if found is None:
        return {}
    words: dict[str, Any] = {"seed": seed, "count": resamples}
    answers = task.answers
    zones = [
        {"name": name, "cell": list(cell_of(place, answers.grid)), "score": score.to_dict()}
        for place, (name, score) in enumerate(zip(answers.zones, each_zone(found, **words), strict=True))
    ]
    told: dict[str, Any] = {
        "grid": list(answers.grid),
        "grades": list(answers.grades),
        "scores": {name: score.to_dict() for name, score in severity_table(found, **words).items()},
        "score": "quadratic_kappa" if answers.grades else "spearman",
        "zones": zones,
    }
    if answers.grades:
        told["matrix"] = grade_matrix(found).astype(int).tolist()
    if len(task.reach) == 2:
        reach = (task.reach[0], task.reach[1])
        checked = covered(found, reach, **words)
        widths = zip(checked, reach, strict=True)
        told["intervals"] = {
            "coverage": coverage,
            "fitted_on": "val",
            "reach": {name: width if math.isfinite(width) else None for name, width in widths},
            "covered": {name: score.to_dict() for name, score in checked.items()},
        }
    return told


def curves(task: ImageTask, test: Predicted) -> dict[str, Any]:
    """Get what the page draws of the sums: true and predicted ones; empty where none is known."""
    found = of(task, test)
    if found is None:
        return {}
    truth, said, _ = found.sums()
    return {"sums": {"true": truth.tolist(), "predicted": said.tolist()}} if len(truth) else {}


def shown(task: ImageTask, test: Predicted, *, pixels: Callable[[int], np.ndarray]) -> list[dict[str, Any]]:
    """Get maps of some test images, evenly spread from the least to the most severe.

    Args:
        task: in eval mode.
        test: predictions.
        pixels: place in `test` -> network pixels `(C, H, W)`.

    Returns:
        "key", "true" sum (None where it is unknown), "predicted" sum, "image" `(H, W)` or `(H, W, 3)` uint8, and
        "map" `(H, W)` in 0..1 of the largest of all.
    """
    found = of(task, test)
    if found is None or not len(found.said):
        return []
    assert isinstance(task, Localise)
    sums = np.where(found.known.all(axis=1), found.truth.sum(axis=1), np.nan)
    ranked = np.argsort(np.where(np.isfinite(sums), sums, found.said.sum(axis=1)), kind="stable")
    chosen = ranked[np.unique(np.linspace(0, len(ranked) - 1, min(_SHOWN, len(ranked))).astype(int))].tolist()
    rows = np.stack([pixels(place) for place in chosen])
    entering = normalised(rows, task.backbone.spec).to(next(task.parameters()).device)
    maps = severity_map(task, entering).cpu().numpy()
    maps = maps / max(float(maps.max()), 1e-12)
    return [
        {
            "key": test.keys[place],
            "true": float(sums[place]) if math.isfinite(sums[place]) else None,
            "predicted": float(found.said[place].sum()),
            "image": picture_of(row),
            "map": one,
        }
        for place, row, one in zip(chosen, rows, maps, strict=True)
    ]


def names_of(task: ImageTask) -> Sequence[str]:
    """Get the columns of predictions.csv about zones; empty where the task has none."""
    if not task.answers.zones:
        return ()
    return (*(f"zone_{name}" for name in task.answers.zones), "severity", "severity_low", "severity_high")
