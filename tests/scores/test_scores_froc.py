"""Rules of a hit, FROC and what is called: against counting threshold by threshold, and LUNA16's way."""

from __future__ import annotations

import numpy as np
import pytest
from found_boxes import deepened, random_boxes
from hypothesis import given, settings
from hypothesis import strategies as st

from medgraft.errors import BadData, BadRecipe
from medgraft.scores.boxes import Detections
from medgraft.scores.calling import call, call_scores, choose_thresholds, patient_shares
from medgraft.scores.froc import NAMES, RATES, events, froc_band, froc_scores, sensitivity_at
from medgraft.scores.hits import ALARM, HIT, PASSED, REPEAT, HitRule, outcomes, rule_of, verdicts
from medgraft.values import Boxes

SEEDS = st.integers(0, 2**32 - 1)
RULES = st.sampled_from(["iou", "iou>=0.2", "centre"])


def one_image(truth: list[list[float]], found: list[list[float]], ignored: list[bool] | None = None) -> Detections:
    true = Boxes(np.array(truth).reshape(-1, 4), ("a",) * len(truth), None, np.array(ignored or [False] * len(truth)))
    scores = np.linspace(0.9, 0.1, len(found))
    return Detections(("x",), (true,), (Boxes(np.array(found).reshape(-1, 4), ("a",) * len(found), scores),), ("a",))


def reaching(found: Detections, least: float) -> Detections:
    """Only the found boxes of at least such a score."""
    kept = tuple(boxes.take(boxes.scores >= least) for boxes in found.found)
    return Detections(found.keys, found.truth, kept, found.classes, found.patients)


def test_each_rule_treats_a_second_find_in_its_way():
    case = one_image([[0, 0, 10, 10]], [[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10]])
    assert verdicts(case, hit="iou").verdict.tolist() == [HIT, ALARM, ALARM]
    assert verdicts(case, hit="centre").verdict.tolist() == [HIT, REPEAT, ALARM]
    small = one_image([[0, 0, 100, 100]], [[40, 40, 45, 45], [0, 0, 60, 100]])
    assert verdicts(small, hit="iou").verdict.tolist() == [ALARM, HIT]
    assert verdicts(small, hit="centre").verdict.tolist() == [HIT, REPEAT]
    assert verdicts(small, hit="iou>=0.7").verdict.tolist() == [ALARM, ALARM]


def test_ignored_truth_absorbs_finds_but_not_those_of_truth_that_counts():
    case = one_image(
        [[0, 0, 100, 100], [0, 0, 10, 10]], [[0, 0, 10, 10], [50, 50, 60, 60], [0, 0, 9, 10]], [True, False]
    )
    for rule in ("iou", "centre"):
        judged = verdicts(case, hit=rule)
        assert judged.verdict[:2].tolist() == [HIT, PASSED] and judged.finds.tolist() == [1, -1, -1]
        assert judged.verdict[2] in (PASSED, REPEAT)
        assert events(judged, images=1).truths.tolist() == [1]


def test_a_find_takes_the_nearest_truth_that_is_left():
    case = one_image([[0, 0, 20, 20], [8, 0, 28, 20]], [[8, 5, 18, 15], [9, 5, 19, 15], [10, 5, 20, 15]])
    judged = verdicts(case, hit="centre")  # centres at 13, 14, 15; of the truths at 10 and 18
    assert judged.finds.tolist() == [0, 1, -1] and judged.verdict.tolist() == [HIT, HIT, REPEAT]


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, rule=RULES)
def test_verdicts_hold_at_every_threshold_and_a_truth_is_found_once(seed: int, rule: str):
    found = random_boxes(np.random.default_rng(seed), 5)
    judged = verdicts(found, hit=rule)
    finds = judged.finds[judged.verdict == HIT]
    assert len(np.unique(finds)) == len(finds) and not judged.true.ignored[finds].any()
    assert (judged.finds[judged.verdict != HIT] == -1).all()
    for least in (0.3, 0.6):
        some = verdicts(reaching(found, least), hit=rule)
        kept = judged.called.scores >= least
        assert np.array_equal(some.verdict, judged.verdict[kept]) and np.array_equal(some.finds, judged.finds[kept])
    deep = verdicts(deepened(found), hit=rule)
    assert np.array_equal(deep.verdict, judged.verdict) and np.array_equal(deep.finds, judged.finds)


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, rule=RULES, digits=st.sampled_from([None, 1]))
def test_froc_is_what_counting_at_each_threshold_gives(seed: int, rule: str, digits: int | None):
    found = random_boxes(np.random.default_rng(seed), 8, digits=digits)
    truths = sum(int((~boxes.ignored).sum()) for boxes in found.truth)
    if truths == 0:
        return
    points = [(0.0, 0.0)]
    for least in np.unique(np.concatenate([boxes.scores for boxes in found.found]))[::-1]:
        verdict = verdicts(reaching(found, least), hit=rule).verdict
        points.append(((verdict == ALARM).sum() / 8, (verdict == HIT).sum() / truths))
    wanted = np.interp(RATES, *np.array(points).T)
    scores = froc_scores(events(verdicts(found, hit=rule), images=8), np.ones((1, 8)))
    assert [float(scores[name][0]) for name in NAMES] == pytest.approx(wanted, abs=1e-12)
    assert float(scores["froc"][0]) == pytest.approx(wanted.mean(), abs=1e-12)


def test_froc_is_that_of_luna16_where_nodules_lie_apart():
    """Each nodule has the score of the surest mark in it; marks in no nodule are false alarms; the rest is left out."""
    random = np.random.default_rng(4)
    truth, found, best, alarms = [], [], [], []
    for scan in range(12):
        corners = np.concatenate([spots := np.arange(scan % 4)[:, None] * 40 + np.zeros(3), spots + 20], axis=1)
        marks = np.concatenate(
            [random.uniform(0, 160, (5, 1)) + np.zeros(3), corners[:, :3] + random.uniform(2, 18, (scan % 4, 3))]
        )
        scores = random.random(len(marks))
        inside = ((marks[:, None] >= corners[:, :3]) & (marks[:, None] <= corners[:, 3:])).all(axis=2)
        best += [scores[column].max() if column.any() else -np.inf for column in inside.T]
        alarms += scores[~inside.any(axis=1)].tolist()
        truth.append(Boxes(corners, ("nodule",) * len(corners)))
        found.append(Boxes(np.concatenate([marks - 3, marks + 3], axis=1), ("nodule",) * len(marks), scores))
    case = Detections(tuple("abcdefghijkl"), tuple(truth), tuple(found), ("nodule",))
    levels = np.sort(np.r_[np.array(best), alarms])[::-1]
    levels = levels[np.isfinite(levels)]
    along = np.r_[0, [(np.array(alarms) >= level).sum() / 12 for level in levels]]
    up = np.r_[0, [(np.array(best) >= level).sum() / len(best) for level in levels]]
    scores = froc_scores(events(verdicts(case, hit="centre"), images=12), np.ones((1, 12)))
    assert float(scores["froc"][0]) == pytest.approx(np.interp(RATES, along, up).mean(), abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, rule=RULES, digits=st.sampled_from([None, 1]))
def test_weights_are_repeated_images_here_too(seed: int, rule: str, digits: int | None):
    random = np.random.default_rng(seed)
    found = random_boxes(random, 6, digits=digits)
    weights = random.integers(0, 4, (3, 6))
    thresholds = dict.fromkeys(found.classes, 0.4)

    def scores(of: Detections, rows: np.ndarray) -> dict[str, np.ndarray]:
        judged = verdicts(of, hit=rule)
        called = call(of, judged, thresholds=thresholds)
        return froc_scores(events(judged, images=len(of)), rows) | call_scores(called, rows)

    many = scores(found, weights.astype(np.float64))
    for row, times in enumerate(weights):
        one = scores(found.take(np.repeat(np.arange(6), times)), np.ones((1, int(times.sum()))))
        for name, values in one.items():
            assert float(many[name][row]) == pytest.approx(float(values[0]), abs=1e-12, nan_ok=True), name


def test_images_without_truth_count_for_false_alarms():
    truth, none = Boxes(np.array([[0.0, 0, 10, 10]]), ("a",)), Boxes(np.zeros((0, 4)), ())
    sure = Boxes(np.array([[50.0, 50, 60, 60]]), ("a",), np.array([0.9]))
    hit = Boxes(truth.corners, ("a",), np.array([0.5]))
    found = Detections(("x", "y"), (truth, none), (hit, sure), ("a",))
    some = events(verdicts(found, hit="iou"), images=2)
    at = sensitivity_at(some, [0.25, 0.5, 8], weights=np.array([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0]]))
    assert at[0].tolist() == [0, 1, 1] and at[1].tolist() == [1, 1, 1] and np.isnan(at[2]).all()


def test_the_band_holds_the_curve_and_says_why_there_is_none():
    found = random_boxes(np.random.default_rng(2), 30, patients=15)
    band = froc_band(found, hit="iou", seed=0, count=200)
    assert band.why is None and len(band.x) == 97 and band.x[0] == 0.125 and band.x[-1] == pytest.approx(8)
    assert (band.low <= band.middle + 1e-12).all() and (band.high >= band.middle - 1e-12).all()
    assert (np.diff(band.middle) >= -1e-12).all() and (band.high - band.low).max() > 0.05
    assert froc_band(found.take(np.arange(1)), hit="iou", seed=0).why
    none = Detections(("x",), (Boxes(np.zeros((0, 4)), ()),), (Boxes(np.zeros((0, 4)), ()),), ("a",))
    assert "true box" in str(froc_band(none, hit="iou", seed=0).why)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, rule=RULES, digits=st.sampled_from([None, 1]))
def test_no_other_threshold_has_a_larger_f1(seed: int, rule: str, digits: int | None):
    found = random_boxes(np.random.default_rng(seed), 6, digits=digits)
    chosen = choose_thresholds(found, hit=rule)
    judged = verdicts(found, hit=rule)

    def f1(least: float, kind: int) -> float:
        called = call(found, judged, thresholds=dict.fromkeys(found.classes, least))
        return float(call_scores(called, np.ones((1, 6)), kind=kind)["f1"][0])

    for kind, name in enumerate(found.classes):
        if name in chosen.why:
            assert chosen.each[name] == 0.5 and name in chosen.why[name]
            continue
        least = chosen.each[name]
        best = f1(least, kind)
        others = [f1(score, kind) for boxes in found.found for score in boxes.scores]
        assert best == pytest.approx(max(others)) and best > 0
    assert {"c", "d"} <= set(chosen.why) and chosen.to_dict()["why"] == chosen.why


def test_counts_and_patients_at_thresholds():
    box, none = np.array([[0.0, 0, 10, 10]]), Boxes(np.zeros((0, 4)), ())
    far, sure = box + 50, np.array([0.9])
    true, hit, alarm = Boxes(box, ("a",)), Boxes(box, ("a",), sure), Boxes(far, ("b",), sure)
    ignored = Boxes(box, ("a",), None, np.array([True]))
    truth = (true, true, none, none, ignored)
    found = (hit, alarm, alarm, Boxes(box, ("a",), np.array([0.1])), hit)
    case = Detections(tuple("vwxyz"), truth, found, ("a", "b"), ["p", "p", "q", "r", "s"])
    called = call(case, verdicts(case, hit="iou"), thresholds={"a": 0.5, "b": 0.5})
    scores = {name: float(values[0]) for name, values in call_scores(called, np.ones((1, 5))).items()}
    assert scores == pytest.approx({"f1": 0.4, "precision": 1 / 3, "recall": 0.5, "count_mae": 3 / 5})
    shares = patient_shares(called, np.array([0, 0, 1, 2, 3]))
    assert [part.tolist() for part in shares["patient_sensitivity"]] == [
        [True, False, False, False],
        [True, False, False, False],
    ]
    who, right = shares["patient_specificity"]
    assert who.tolist() == [False, True, True, False] and right[who].tolist() == [False, True]
    with pytest.raises(BadData, match="'b'"):
        call(case, verdicts(case, hit="iou"), thresholds={"a": 0.5})


def test_outcomes_name_every_box_that_is_called_or_missed():
    random = np.random.default_rng(9)
    found = random_boxes(random, 20)
    thresholds = {"a": 0.2, "b": 0.6, "c": 0.5, "d": 0.5}
    for rule in ("iou", "centre"):
        judged = verdicts(found, hit=rule)
        table = outcomes(found, thresholds, hit=rule)
        called = call(found, judged, thresholds=thresholds)
        assert sum(len(each.hits) for each in table) == called.hits.sum() > 0
        assert sum(len(each.alarms) for each in table) == called.alarms.sum() > 0
        assert sum(len(each.missed) for each in table) == (called.truths - called.hits).sum()
        for each, truth, finds in zip(table, found.truth, found.found, strict=True):
            rows = np.r_[each.hits[:, 0], each.alarms, each.passed].tolist()
            reach = [k for k, label in enumerate(finds.labels) if finds.scores[k] >= thresholds[label]]
            assert sorted(rows) == reach
            seen = np.r_[each.hits[:, 1], each.missed].tolist()
            assert sorted(seen) == np.flatnonzero(~truth.ignored).tolist()
            assert all(finds.labels[f] == truth.labels[t] for f, t in each.hits)


def test_rules_have_names():
    assert (
        rule_of("iou") == HitRule("iou", 0.5)
        and rule_of(" iou >= 0.3 ").limit == 0.3
        and rule_of("centre").name == "centre"
    )
    assert "0.3" in rule_of("iou>=.3").words and "centre" in rule_of("centre").words
    for bad in ("dice", "iou>=2", "iou>0.5", "iou>=0.0"):
        with pytest.raises(BadRecipe):
            rule_of(bad)
