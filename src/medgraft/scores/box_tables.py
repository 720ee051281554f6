"""The tables of found boxes: every score, of all classes and of each, with intervals from one set of resamples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from medgraft.scores.boxes import Detections
from medgraft.scores.calling import Called, call, call_scores, patient_shares
from medgraft.scores.froc import NAMES, events, froc_scores, sensitivity_at
from medgraft.scores.hits import HitRule, rule_of, verdicts
from medgraft.scores.intervals import COUNT, proportion
from medgraft.scores.joint_rows import JointRow, fill_together
from medgraft.scores.matching import LOOSE, match_boxes, match_by_rule, most_looked_at
from medgraft.scores.precision import average_precision, precision_scores
from medgraft.scores.resample import mean_known, patient_codes
from medgraft.scores.score import Score

_NO_TRUTH = "no image has a true box"
_IOUS = "mean over IoU .50 to .95"
_AREAS = {"small": "up to 32 x 32 pixels", "medium": "from 32 x 32 to 96 x 96 pixels", "large": "from 96 x 96 pixels"}


def box_table(
    found: Detections, *, thresholds: Mapping[str, float], hit: HitRule | str, seed: int, count: int = COUNT
) -> dict[str, Score | dict[str, Score]]:
    """Get every score of found boxes, by the names of report.json.

    Of COCO: map, map50, map75, map_small, map_medium, map_large, recall100; of volumes also map10 and map25, at an
    IoU that a box of a few voxels can reach. By the rule of a hit: sensitivity_at_fp
    (a dict of "0.125" to "8" false alarms an image), froc (their mean), and at the thresholds f1, precision, recall,
    count_mae, patient_sensitivity, patient_specificity. A score that cannot be computed is there without a value and
    says why.

    Args:
        found: truth and finds of images that the thresholds were not chosen on.
        thresholds: class -> least score of a box that is called.
        hit: the rule of a hit.
        seed: the run's seed; the same seed gives the same intervals.
        count: resamples of patients, or of images where patients are unknown.

    Raises:
        BadData: a class has no threshold.
        BadRecipe: there is no such rule.
    """
    rule, n = rule_of(hit), len(found)
    judged, matches = verdicts(found, hit=rule), match_boxes(found, by_size=True)
    some, called = events(judged, images=n), call(found, judged, thresholds=thresholds)

    loose = match_by_rule(found, ranges=[(0.0, np.inf)], limits=LOOSE) if found.axes == 3 else []

    def joint(rows: np.ndarray) -> dict[str, np.ndarray]:
        table = precision_scores(matches, rows) | froc_scores(some, rows) | call_scores(called, rows)
        if loose:
            areas = np.stack([average_precision(each, rows)[0][0] for each in loose], axis=-1)
            table |= {f"map{round(100 * limit)}": mean_known(area) for limit, area in zip(LOOSE, areas, strict=True)}
        return table

    people = _people(found, called)
    rows = _coco_rows(found, called, people[0]) | _rule_rows(rule, people)
    table = fill_together(joint, rows, n=n, patients=found.patients, seed=seed, count=count)
    at = {name: table.pop(name) for name in NAMES}
    whole: dict[str, Score | dict[str, Score]] = {}
    for name, score in table.items():
        whole[name] = score
        if name == "recall100":
            whole["sensitivity_at_fp"] = at
    return whole | _patient_rows(found, called, rule)


def box_class_table(
    found: Detections, *, thresholds: Mapping[str, float], hit: HitRule | str, seed: int, count: int = COUNT
) -> dict[str, dict[str, Score]]:
    """Get the scores of each class: class -> name -> score.

    Names: ap50, ap, f1, precision, recall, sensitivity_at_1_fp (false alarms of this class alone). Arguments and
    errors as in `box_table`.
    """
    rule, n = rule_of(hit), len(found)
    judged, matches = verdicts(found, hit=rule), match_boxes(found, by_size=False)
    called = call(found, judged, thresholds=thresholds)
    kinds = range(len(found.classes))
    some = [events(judged, images=n, kind=kind) for kind in kinds]

    def joint(rows: np.ndarray) -> dict[str, np.ndarray]:
        table = {}
        for kind in kinds:
            area = average_precision(matches[kind], rows)[0][0]
            one = {"ap50": area[0], "ap": area.mean(axis=0)} | call_scores(called, rows, kind=kind)
            one["sensitivity_at_1_fp"] = sensitivity_at(some[kind], [1.0], weights=rows)[:, 0]
            table |= {f"{kind} {word}": values for word, values in one.items()}
        return table

    rows = {}
    for kind, name in enumerate(found.classes):
        one = _class_rows(rule, name, _people(found, called, kind=kind), coco=_limit(found))
        rows |= {f"{kind} {word}": row for word, row in one.items()}
    table: dict[str, dict[str, Score]] = {name: {} for name in found.classes}
    for label, score in fill_together(joint, rows, n=n, patients=found.patients, seed=seed, count=count).items():
        kind, _, word = label.partition(" ")
        table[found.classes[int(kind)]][word] = score
    return table


def _people(found: Detections, called: Called, kind: int | None = None) -> tuple[int, int]:
    """How many patients have a true box, and in how many something is called."""
    codes, _ = patient_codes(found.patients, len(found))
    columns = slice(None) if kind is None else [kind]
    parts = (called.truths, called.counted)
    true, said = (len(np.unique(codes[part[:, columns].sum(axis=1) > 0])) for part in parts)
    return true, said


def _coco_rows(found: Detections, called: Called, people: int) -> dict[str, JointRow]:
    absent = [name for name, some in zip(found.classes, called.truths.sum(axis=0), strict=True) if not some]
    without = f"; mean without {', '.join(absent)}: no true box" if absent else ""
    coco = _limit(found)
    rows = {
        "map": JointRow(f"{coco}, {_IOUS}{without}", _NO_TRUTH, people),
        "map50": JointRow(f"{coco}, IoU .50{without}", _NO_TRUTH, people),
        "map75": JointRow(f"{coco}, IoU .75{without}", _NO_TRUTH, people),
    }
    for name, area in _AREAS.items():
        why = f"no true box has an area {area}" if found.axes == 2 else "COCO's sizes are areas; these are volumes"
        rows[f"map_{name}"] = JointRow(f"{coco}, {_IOUS}, areas {area}", why, people)
    if found.axes == 3:
        for limit in LOOSE:
            rows[f"map{round(100 * limit)}"] = JointRow(f"{coco}, IoU {limit:.2f}{without}", _NO_TRUTH, people)
    return rows | {"recall100": JointRow(f"{coco}, {_IOUS}{without}", _NO_TRUTH, people)}


def _limit(found: Detections) -> str:
    return f"COCO, at most {most_looked_at(found)} found boxes of a class in an image"


def _rule_rows(rule: HitRule, people: tuple[int, int]) -> dict[str, JointRow]:
    froc, point = f"FROC; {rule.words}", f"at the thresholds chosen on validation; {rule.words}"
    at = {name: JointRow(f"at {name} false alarms an image, {froc}", _NO_TRUTH, people[0]) for name in NAMES}
    mean = {
        "froc": JointRow(f"mean sensitivity at {', '.join(NAMES)} false alarms an image, {froc}", _NO_TRUTH, people[0])
    }
    counts = JointRow(
        "boxes too many or too few an image, summed over classes, at the thresholds", "there are no images"
    )
    return at | mean | _point_rows(point, "", people) | {"count_mae": counts}


def _class_rows(rule: HitRule, name: str, people: tuple[int, int], *, coco: str) -> dict[str, JointRow]:
    no_truth, point = f"{_NO_TRUTH} of {name}", f"at the threshold chosen on validation; {rule.words}"
    return {
        "ap50": JointRow(f"{coco}, IoU .50", no_truth, people[0]),
        "ap": JointRow(f"{coco}, {_IOUS}", no_truth, people[0]),
        **_point_rows(point, f" of {name}", people),
        "sensitivity_at_1_fp": JointRow(f"at 1 false alarm an image, FROC; {rule.words}", no_truth, people[0]),
    }


def _point_rows(point: str, of: str, people: tuple[int, int]) -> dict[str, JointRow]:
    return {
        "f1": JointRow(point, f"no box{of} is true or called", max(people)),
        "precision": JointRow(point, f"no box{of} is called that counts", people[1]),
        "recall": JointRow(point, f"{_NO_TRUTH}{of}", people[0]),
    }


def _patient_rows(found: Detections, called: Called, rule: HitRule) -> dict[str, Score]:
    """Shares of whole patients; each is one trial, so no resampling is needed."""
    codes, _ = patient_codes(found.patients, len(found))
    known, each = found.patients is not None, "patient" if found.patients is not None else "image"
    say = {
        "patient_sensitivity": (f"{each}s with a true box that have a hit", f"no {each} has a true box"),
        "patient_specificity": (f"{each}s without any in whom nothing is called", f"no {each} is without any true box"),
    }
    table = {}
    for name, (who, right) in patient_shares(called, codes).items():
        note, why = say[name]
        n, people = int(who[codes].sum()), int(who.sum())
        if people == 0:
            table[name] = Score.missing(why, n=0, n_patients=0 if known else None)
            continue
        share = proportion(right[who])
        method = f"{share.method}; {note}, at the thresholds chosen on validation; {rule.words}"
        table[name] = replace(share, n=n, n_patients=people if known else None, method=method)
    return table
