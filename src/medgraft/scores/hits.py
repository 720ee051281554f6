"""What counts as a hit, by a rule with a name, and what becomes of every found and every true box under it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from medgraft.errors import BadData, BadRecipe
from medgraft.scores.boxes import Detections, Pile, both_piles
from medgraft.scores.overlap import greedy, iou, nearness

HIT, ALARM, REPEAT, PASSED = range(4)  # found: a truth, nothing, a truth that a surer box has found, an ignored truth
_IOU = re.compile(r"iou\s*(?:>=\s*(0?\.\d+|1(?:\.0*)?)\s*)?")


@dataclass(frozen=True)
class HitRule:
    """When a found box finds a true box of its class.

    "iou": they share at least `limit` of their union; a second find of the same truth is a false alarm.
    "centre": the centre of the found box lies within the true box, its edge included; a second find of the same truth
    is neither hit nor false alarm, as in LUNA16 (which asks for the nodule's radius).

    In both, found boxes of a class choose by falling score, each the best truth that is left (of the largest IoU, of
    the nearest centre); a truth is found once; a box that finds an ignored truth alone does not count.

    Attributes:
        name: "iou" or "centre".
        limit: least IoU, above 0 and at most 1; says nothing under "centre".

    Raises:
        BadRecipe: there is no such rule, or no such limit.

    Source: Setio et al., Med Image Anal 2017;42:1 (LUNA16).
    """

    name: str = "iou"
    limit: float = 0.5

    def __post_init__(self) -> None:
        if self.name not in ("iou", "centre"):
            raise BadRecipe(f"there is no rule for hits named {self.name!r}", do="Known: iou, centre.")
        if not 0 < self.limit <= 1:
            raise BadRecipe(f"a least IoU of {self.limit} is not above 0 and at most 1")

    @property
    def words(self) -> str:
        """Say the rule in words, as reports do."""
        if self.name == "centre":
            return "a hit is a centre inside the true box; further finds of it do not count"
        return f"a hit is an IoU of at least {self.limit:g}; further finds of it are false alarms"


def rule_of(hit: HitRule | str) -> HitRule:
    """Get a rule from its words: "iou", "iou>=0.3" or "centre".

    Raises:
        BadRecipe: it is none of these.
    """
    if isinstance(hit, HitRule):
        return hit
    wanted = _IOU.fullmatch(hit.strip())
    if wanted is None:
        return HitRule(hit)
    return HitRule() if wanted[1] is None else HitRule("iou", float(wanted[1]))


@dataclass(frozen=True, eq=False)
class Verdicts:
    """What became of each box. It holds at every threshold: surer boxes choose first, whoever comes after them.

    Attributes:
        true: the true boxes.
        called: the found boxes, F of them.
        verdict: (F,) `HIT`, `ALARM`, `REPEAT` or `PASSED`.
        finds: (F,) number of the true box that a hit finds; -1 for all others.
    """

    true: Pile
    called: Pile
    verdict: np.ndarray
    finds: np.ndarray


def verdicts(found: Detections, *, hit: HitRule | str) -> Verdicts:
    """Judge every found box.

    Args:
        found: truth and finds.
        hit: the rule.

    Raises:
        BadRecipe: there is no such rule.
    """
    rule = rule_of(hit)
    true, called = both_piles(found)
    truths = true.groups()
    verdict = np.full(len(called), ALARM, dtype=np.int8)
    finds = np.full(len(called), -1)
    for where, places in called.groups().items():
        there = truths.get(where)
        if there is None:
            continue
        corners, ignored = (called.corners[places], true.corners[there]), true.ignored[there]
        agreement = iou(*corners, crowd=ignored) if rule.name == "iou" else nearness(*corners)
        limit = rule.limit if rule.name == "iou" else 0.0
        match = greedy(agreement, np.array([limit]), ignored=ignored, crowd=ignored)[0]
        right = (match >= 0) & ~ignored[match]
        verdict[places[right]], finds[places[right]] = HIT, there[match[right]]
        if rule.name == "centre":
            again = ((agreement >= limit) & ~ignored).any(axis=1) & ~right
            verdict[places[again]] = REPEAT
        else:
            again = np.zeros(len(places), dtype=bool)
        verdict[places[(match >= 0) & ~right & ~again]] = PASSED
    return Verdicts(true, called, verdict, finds)


def above(called: Pile, *, classes: tuple[str, ...], thresholds: Mapping[str, float]) -> np.ndarray:
    """Tell which found boxes reach the threshold of their class: (F,) booleans.

    Raises:
        BadData: a class has no threshold.
    """
    missing = [name for name in classes if name not in thresholds]
    if missing:
        raise BadData(f"there is no threshold for the boxes of {missing[0]!r}", do="Give one for each class.")
    limits = np.array([thresholds[name] for name in classes], dtype=np.float64)
    return called.scores >= limits[called.kinds]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of the boxes of one image at the thresholds; rows count the boxes of its truth and of its finds.

    Attributes:
        hits: (H, 2) row of the found box, row of the true box that it finds.
        alarms: (A,) rows of found boxes that find nothing.
        passed: (P,) rows of found boxes that do not count: second finds under "centre", finds of ignored boxes.
        missed: (M,) rows of true boxes that nothing finds, ignored ones left out.
    """

    hits: np.ndarray
    alarms: np.ndarray
    passed: np.ndarray
    missed: np.ndarray


def outcomes(found: Detections, thresholds: Mapping[str, float], *, hit: HitRule | str) -> list[Outcome]:
    """Get what became of the boxes of each image: n of `Outcome`. Found boxes below the threshold are in none.

    Args:
        found: truth and finds.
        thresholds: class -> least score.
        hit: the rule.

    Raises:
        BadData: a class has no threshold.
        BadRecipe: there is no such rule.
    """
    judged = verdicts(found, hit=hit)
    called, true = judged.called, judged.true
    there = above(called, classes=found.classes, thresholds=thresholds)
    right = there & (judged.verdict == HIT)
    seen = true.ignored.copy()
    seen[judged.finds[right]] = True
    table = []
    for image in range(len(found)):
        here, own = there & (called.images == image), true.images == image
        hits = here & right
        pairs = np.stack([called.rows[hits], true.rows[judged.finds[hits]]], axis=1)
        alarms = called.rows[here & (judged.verdict == ALARM)]
        passed = called.rows[here & np.isin(judged.verdict, (REPEAT, PASSED))]
        table.append(Outcome(pairs, alarms, passed, true.rows[own & ~seen]))
    return table
