"""Which found boxes are called: a threshold for each class, chosen on validation images and judged on others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medgraft.scores.boxes import Detections
from medgraft.scores.hits import ALARM, HIT, PASSED, HitRule, Verdicts, above, verdicts
from medgraft.scores.operating import between
from medgraft.scores.ranking import tally
from medgraft.scores.resample import ratio

_PLAIN = 0.5


@dataclass(frozen=True)
class BoxThresholds:
    """From what score on a found box is called, and how that was chosen.

    Attributes:
        each: class -> least score.
        why: class -> said where the rule could not be followed.
        rule: "f1", the largest F1 of the class.
        chosen_on: the split the thresholds were chosen on.
    """

    each: Mapping[str, float]
    why: Mapping[str, str] = field(default_factory=dict)
    rule: str = "f1"
    chosen_on: str = "val"

    def to_dict(self) -> dict[str, Any]:
        """Get plain JSON values; `why` is there only when it says something."""
        row: dict[str, Any] = {"thresholds": dict(self.each), "chosen_on": self.chosen_on, "rule": self.rule}
        return {**row, "why": dict(self.why)} if self.why else row


def choose_thresholds(val: Detections, *, hit: HitRule | str) -> BoxThresholds:
    """Choose thresholds on validation images; never give it test images.

    For each class the one with the largest F1; of equally good ones the highest. It lies midway between two
    neighbouring scores.

    Args:
        val: truth and finds of validation images.
        hit: the rule of a hit.

    Raises:
        BadRecipe: there is no such rule.
    """
    judged = verdicts(val, hit=hit)
    each, why = {}, {}
    for kind, name in enumerate(val.classes):
        own = judged.called.kinds == kind
        truths = int((~judged.true.ignored & (judged.true.kinds == kind)).sum())
        scores, verdict = judged.called.scores[own], judged.verdict[own]
        each[name] = _PLAIN
        if truths == 0:
            why[name] = f"validation has no true box of {name}, so the threshold is {_PLAIN}"
        elif not (verdict == HIT).any():
            why[name] = f"nothing that was found on validation is a {name}, so the threshold is {_PLAIN}"
        else:
            each[name] = _best(scores, verdict, truths)
    return BoxThresholds(each, why)


def _best(scores: np.ndarray, verdict: np.ndarray, truths: int) -> float:
    """The threshold of the largest F1."""
    one = np.ones((1, len(scores)))
    values, hits, _ = tally(verdict == HIT, scores, rows=one)
    _, alarms, _ = tally(verdict == ALARM, scores, rows=one)
    # Cut c calls what scores values[c] or more; hits + alarms + truths is never 0.
    right, wrong = (np.cumsum(part[0, ::-1])[::-1] for part in (hits, alarms))
    gain = 2 * right / (right + wrong + truths)
    return between(values, int(np.flatnonzero(gain == gain.max())[-1]))


@dataclass(frozen=True, eq=False)
class Called:
    """How many boxes of each class in each of n images, at the thresholds.

    Attributes:
        hits: (n, K) called boxes that find a truth.
        alarms: (n, K) called boxes that find nothing.
        counted: (n, K) all called boxes but those that find an ignored truth.
        truths: (n, K) true boxes that count.
        ignored: (n,) booleans: the image has ignored truth.
    """

    hits: np.ndarray
    alarms: np.ndarray
    counted: np.ndarray
    truths: np.ndarray
    ignored: np.ndarray


def call(found: Detections, judged: Verdicts, *, thresholds: Mapping[str, float]) -> Called:
    """Count what is called at the thresholds.

    Args:
        found: truth and finds.
        judged: their verdicts.
        thresholds: class -> least score.

    Raises:
        BadData: a class has no threshold.
    """
    n, kinds = len(found), len(found.classes)
    there = above(judged.called, classes=found.classes, thresholds=thresholds)
    called = [
        judged.called.per_image(there & some, images=n, classes=kinds)
        for some in (judged.verdict == HIT, judged.verdict == ALARM, judged.verdict != PASSED)
    ]
    truths = judged.true.per_image(~judged.true.ignored, images=n, classes=kinds)
    ignored = np.bincount(judged.true.images[judged.true.ignored], minlength=n) > 0
    return Called(called[0], called[1], called[2], truths, ignored)


def call_scores(called: Called, weights: np.ndarray, *, kind: int | None = None) -> dict[str, np.ndarray]:
    """Get f1, precision and recall, of one class or of the boxes of all (micro): name -> (B,).

    Of all classes also count_mae: how many boxes an image's count is off, each class counted for itself and summed.

    Args:
        called: from `call`.
        weights: (B, n).
        kind: number of the class; None for all.
    """
    columns = slice(None) if kind is None else [kind]
    hits, alarms, truths = (
        weights @ part[:, columns].sum(axis=1) for part in (called.hits, called.alarms, called.truths)
    )
    found = {
        "f1": ratio(2 * hits, hits + alarms + truths),
        "precision": ratio(hits, hits + alarms),
        "recall": ratio(hits, truths),
    }
    if kind is None:
        off = np.abs(called.counted - called.truths).sum(axis=1)
        found["count_mae"] = ratio(weights @ off, weights.sum(axis=1))
    return found


def patient_shares(called: Called, codes: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Get who counts for the scores of whole patients, and who of them is right: name -> (P,) booleans, twice.

    patient_sensitivity: of those who have anything, who has at least one hit. patient_specificity: of those who have
    nothing (nor anything ignored), in whom nothing is called.

    Args:
        called: from `call`.
        codes: (n,) patient numbers, 0..P-1.
    """
    people = int(codes.max(initial=-1)) + 1

    def any_of(part: np.ndarray) -> np.ndarray:
        return np.bincount(codes, weights=part, minlength=people) > 0

    ill, ignored = any_of(called.truths.sum(axis=1)), any_of(called.ignored)
    hit, said = any_of(called.hits.sum(axis=1)), any_of(called.counted.sum(axis=1))
    return {"patient_sensitivity": (ill, hit), "patient_specificity": (~ill & ~ignored, ~said)}
