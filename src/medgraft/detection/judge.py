"""From found boxes to what the report says of them: thresholds from validation, scores and curves from test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medgraft.judge import groupable, known_patients
from medgraft.recipe import Recipe
from medgraft.scores.box_subgroups import box_subgroups
from medgraft.scores.box_tables import box_class_table, box_table
from medgraft.scores.boxes import Detections
from medgraft.scores.calling import choose_thresholds
from medgraft.scores.froc import froc_band
from medgraft.scores.hits import HitRule
from medgraft.scores.score import Score
from medgraft.tasks.box_calls import BoxCalls
from medgraft.values import Boxes, Prediction, Sample

_CURVE_RESAMPLES = 500  # bands are drawn, not quoted


def rule_of(recipe: Recipe) -> HitRule:
    """Get when a found box is a hit."""
    return HitRule("iou" if recipe.boxes.hit == "auto" else recipe.boxes.hit, recipe.boxes.iou)


def detections(task: BoxCalls, found: Sequence[Prediction], samples: Mapping[str, Sample]) -> Detections:
    """Lay found boxes on the true ones of the same images, both in the files' own pixels."""
    own = [samples[one.key] for one in found]
    return Detections(
        tuple(one.key for one in found),
        tuple(sample.boxes or Boxes(np.zeros((0, 4)), ()) for sample in own),
        tuple(one.boxes or Boxes(np.zeros((0, 4)), ()) for one in found),
        task.answers.classes,
        known_patients(own),
    )


def covariates_of(samples: Sequence[Sample]) -> dict[str, list[str | None]]:
    """Get each column of covariates with a value a sample."""
    columns = sorted({name for sample in samples for name in sample.covariates})
    return {name: [sample.covariates.get(name) or None for sample in samples] for name in columns}


def thresholds(val: Detections, rule: HitRule) -> tuple[float, ...]:
    """Choose of each class the score from which a box is called, on validation."""
    chosen = choose_thresholds(val, hit=rule)
    return tuple(float(chosen.each[name]) for name in val.classes)


def verdicts(
    task: BoxCalls,
    seen: Mapping[str, Detections],
    rule: HitRule,
    *,
    covariates: Mapping[str, Sequence[str | None]],
    seed: int,
    resamples: int,
) -> dict[str, Any]:
    """Get the report's keys about found boxes: tables of all and of each class, and the operating point.

    Args:
        task: with its thresholds.
        seen: by the part of the data, "test" and where there is one "val".
        rule: when a found box is a hit.
        covariates: column -> a value for each test image.
        seed: the run's seed.
        resamples: of patients.
    """
    limits = dict(zip(task.answers.classes, task.threshold, strict=True))
    words: dict[str, Any] = {"thresholds": limits, "hit": rule, "seed": seed, "count": resamples}
    return {
        "scores": {name: _plain(box_table(own, **words)) for name, own in seen.items()},
        "per_class": {name: _plain(row) for name, row in box_class_table(seen["test"], **words).items()},
        "subgroups": [row.to_dict() for row in box_subgroups(seen["test"], groupable(covariates), **words)],
        "operating_point": {
            "threshold": list(task.threshold),
            "chosen_on": "val",
            "rule": f"largest F1 of each class; {rule.words}",
        },
    }


def curves(test: Detections, rule: HitRule, *, seed: int) -> dict[str, Any]:
    """Get what the page draws: the FROC curve with its band."""
    band = froc_band(test, hit=rule, seed=seed, count=_CURVE_RESAMPLES)
    if not len(band.x):
        return {}
    rows = band.to_dict()
    return {"froc": {"x": rows["x"], "y": rows["middle"], "low": rows["low"], "high": rows["high"]}}


def _plain(table: Mapping[str, Any]) -> dict[str, Any]:
    return {name: one.to_dict() if isinstance(one, Score) else _plain(one) for name, one in table.items()}
