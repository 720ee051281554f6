"""The tables of found boxes: values, intervals, and what is said where there is none."""

from __future__ import annotations

import json

import numpy as np
import pytest
from found_boxes import CLASSES, deepened, random_boxes

from medgraft.scores.box_tables import box_class_table, box_table
from medgraft.scores.boxes import Detections
from medgraft.scores.calling import choose_thresholds
from medgraft.scores.score import Score
from medgraft.values import Boxes

NAMES = ["map", "map50", "map75", "map_small", "map_medium", "map_large", "recall100", "sensitivity_at_fp", "froc"]
NAMES += ["f1", "precision", "recall", "count_mae", "patient_sensitivity", "patient_specificity"]
HALF = dict.fromkeys(CLASSES, 0.5)


@pytest.fixture(scope="module")
def found() -> Detections:
    return random_boxes(np.random.default_rng(0), 40, patients=20)


def flat(table: dict[str, Score | dict[str, Score]]) -> dict[str, Score]:
    """Every score under one name."""
    whole = {}
    for name, score in table.items():
        whole |= {name: score} if isinstance(score, Score) else {f"{name} {key}": each for key, each in score.items()}
    return whole


def test_every_score_has_an_interval_and_says_how(found: Detections):
    chosen = choose_thresholds(random_boxes(np.random.default_rng(1), 40), hit="iou>=0.3").each
    table = box_table(found, thresholds=chosen, hit="iou>=0.3", seed=0, count=300)
    assert list(table) == NAMES and list(table["sensitivity_at_fp"]) == ["0.125", "0.25", "0.5", "1", "2", "4", "8"]
    for name, score in flat(table).items():
        assert score.low <= score.value <= score.high and score.low < score.high, name
        if not name.startswith("patient"):
            assert score.n_patients == 20 and score.n == 40, name
        assert "300 bootstrap resamples of patients, BCa" in score.method or "Wilson" in score.method, name
        if not name.startswith(("map", "recall100", "count")):
            assert "IoU of at least 0.3" in score.method, name
    assert "mean without c, d" in table["map"].method
    at = [score.value for score in table["sensitivity_at_fp"].values()]
    assert at == sorted(at) and table["froc"].value == pytest.approx(np.mean(at))
    again = box_table(found, thresholds=chosen, hit="iou>=0.3", seed=0, count=300)
    assert again == table and box_table(found, thresholds=chosen, hit="iou>=0.3", seed=1, count=300) != table
    json.dumps({name: score.to_dict() for name, score in flat(table).items()}, allow_nan=False)


def test_classes_have_their_own_and_average_to_the_whole(found: Detections):
    classes = box_class_table(found, thresholds=HALF, hit="iou", seed=0, count=100)
    whole = box_table(found, thresholds=HALF, hit="iou", seed=0, count=100)
    assert list(classes) == list(CLASSES)
    names = ["ap50", "ap", "f1", "precision", "recall", "sensitivity_at_1_fp"]
    assert all(list(row) == names for row in classes.values())
    for name, each in (("map", "ap"), ("map50", "ap50")):
        assert whole[name].value == pytest.approx(np.mean([classes[kind][each].value for kind in "ab"]), abs=1e-12)
    assert all(score.low < score.value < score.high for kind in "ab" for score in classes[kind].values())
    nothing = classes["c"]
    assert nothing["ap"].value is None and nothing["ap"].why == "no image has a true box of c"
    assert nothing["recall"].value is None and nothing["precision"].value == 0 and nothing["precision"].high > 0
    assert all(score.value is None and score.why for score in classes["d"].values())


def test_a_perfect_result_of_few_patients_is_not_called_certain():
    box = np.array([[0.0, 0, 40, 40]])
    true, right = Boxes(box, ("a",)), Boxes(box, ("a",), np.array([0.9]))
    none = Boxes(np.zeros((0, 4)), ())
    case = Detections(tuple("abcdefghijkl"), (true,) * 8 + (none,) * 4, (right,) * 8 + (none,) * 4, ("a",))
    table = flat(box_table(case, thresholds={"a": 0.5}, hit="centre", seed=0, count=100))
    perfect = {name: score for name, score in table.items() if score.value == 1.0}
    assert set(table) - set(perfect) == {"map_small", "map_large", "count_mae"}
    for name, score in perfect.items():
        low = 0.51 if name == "patient_specificity" else 0.631  # of 4 images, of 8
        assert score.high == 1.0 and score.low == pytest.approx(low, abs=0.05), name
        assert score.n_patients is None and "patients" not in score.method.replace("8 patients", ""), name
    assert table["count_mae"].value == 0 and table["count_mae"].low is None and table["count_mae"].why
    assert table["patient_specificity"].n == 4 and table["patient_sensitivity"].n == 8


def test_what_cannot_be_computed_says_why(found: Detections):
    volumes = box_table(deepened(found), thresholds=HALF, hit="centre", seed=0, count=60)
    planes = box_table(found, thresholds=HALF, hit="centre", seed=0, count=60)
    for name, score in flat(volumes).items():
        if name in ("map_small", "map_medium", "map_large"):
            assert score.value is None and "volumes" in score.why
        elif name not in ("map10", "map25"):  # of volumes alone
            assert score == flat(planes)[name], name
    loose = [flat(volumes)[name].value for name in ("map10", "map25", "map50")]
    assert None not in loose and loose == sorted(loose, reverse=True) and loose[0] > loose[-1]
    single = flat(box_table(found.take(np.arange(1)), thresholds=HALF, hit="iou", seed=0, count=60))
    assert all(score.value is not None or score.why for score in single.values())
    assert all(score.why for name, score in single.items() if not name.startswith("patient") and score.low is None)
    nobody = flat(box_table(found.take(np.zeros(0, dtype=int)), thresholds=HALF, hit="iou", seed=0, count=60))
    assert all(score.value is None and score.why and score.n == 0 for score in nobody.values())
    ill = found.take(np.array([bool((~boxes.ignored).any()) for boxes in found.truth]))
    table = box_table(ill, thresholds=HALF, hit="iou", seed=0, count=60)
    assert table["patient_specificity"].value is None and "without any true box" in table["patient_specificity"].why


@pytest.mark.slow
def test_intervals_hold_the_value_of_the_population():
    names = ("map50", "froc", "f1", "precision", "recall", "count_mae")
    many = random_boxes(np.random.default_rng(7), 2500)
    people = box_table(many, thresholds=HALF, hit="iou", seed=0, count=2)
    held = dict.fromkeys(names, 0)
    for run in range(100):
        some = random_boxes(np.random.default_rng(1000 + run), 50)
        table = box_table(some, thresholds=HALF, hit="iou", seed=run, count=250)
        for name in names:
            held[name] += table[name].low <= people[name].value <= table[name].high
    assert all(88 <= count <= 99 for count in held.values()), held


def test_in_a_crowd_more_than_a_hundred_boxes_are_looked_at():
    corners = np.array([[10.0 * k, 0, 10.0 * k + 8, 8] for k in range(150)])
    truth = Boxes(corners, ("cell",) * 150)
    found = Detections(("a",), (truth,), (Boxes(corners, ("cell",) * 150, np.linspace(1, 0.5, 150)),), ("cell",))
    score = box_table(found, thresholds={"cell": 0.1}, hit="iou", seed=0, count=100)["map50"]
    assert score.value == pytest.approx(1.0) and "at most 300 found boxes" in score.method
