"""What is chosen on validation: temperatures and operating points."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.special import expit, softmax

from medgraft.errors import BadRecipe
from medgraft.scores.calibration import BOUNDS, fit_temperature, reliability, to_probabilities
from medgraft.scores.cases import Cases
from medgraft.scores.delong import Z95
from medgraft.scores.operating import choose_point, choose_threshold, judge
from medgraft.scores.probabilities import ece


def drawn(seed: int, n: int, classes: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Classes drawn from the logits, which are then given as if the model were `temperature` times as sure."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, classes)) * 1.5
    chances = softmax(logits, axis=1)
    return (chances.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1), logits * temperature


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_true_temperature_is_found(temperature: float):
    label, logits = drawn(0, 4000, 4, temperature)
    found = fit_temperature("multiclass", label, logits=logits)
    assert found.temperature[0] == pytest.approx(temperature, rel=0.08) and found.why is None
    assert found.nll_after <= found.nll_before and found.n == 4000
    if temperature != 1.0:
        assert found.nll_after < found.nll_before - 0.01 and found.ece_after < found.ece_before / 2
    two, logit = drawn(1, 4000, 2, temperature)
    as_pair = fit_temperature("binary", two, logits=logit)
    as_one = fit_temperature("binary", two, logits=(logit[:, 1] - logit[:, 0])[:, None])
    assert as_pair.temperature[0] == pytest.approx(as_one.temperature[0], rel=1e-3)
    assert as_pair.temperature[0] == pytest.approx(temperature, rel=0.12)


def test_the_temperature_is_the_best_of_a_grid():
    label, logits = drawn(2, 300, 3, 2.0)
    found = fit_temperature("multiclass", label, logits=logits)
    grid = np.exp(np.linspace(math.log(BOUNDS[0]), math.log(BOUNDS[1]), 4001))
    losses = [
        -np.log(to_probabilities("multiclass", logits, temperature=t)[np.arange(300), label]).mean() for t in grid
    ]
    assert found.nll_after <= min(losses) + 1e-9
    assert found.temperature[0] == pytest.approx(grid[int(np.argmin(losses))], rel=2e-3)


def test_each_label_has_its_own_temperature():
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(3000, 2)) * 2
    truth = (rng.random((3000, 2)) < expit(logits)).astype(int)
    found = fit_temperature("labels", truth, logits=logits * [1.0, 4.0])
    assert found.temperature == pytest.approx((1.0, 4.0), rel=0.12)
    truth[:, 0] = 1
    one = fit_temperature("labels", truth, logits=logits * [1.0, 4.0])
    assert one.temperature[0] == 1.0 and one.why == "label 0: all validation cases are of one class"


def test_grades_come_from_ordered_cuts():
    chances = to_probabilities("ordinal", np.array([[2.0, 0.0, -2.0], [0.0, 1.0, -9.0]]))
    np.testing.assert_allclose(chances.sum(axis=1), 1)
    assert (chances >= 0).all() and chances.shape == (2, 4)
    assert chances[0] == pytest.approx([1 - expit(2), expit(2) - 0.5, 0.5 - expit(-2), expit(-2)])
    assert chances[1, 1] == 0  # a later cut cannot be likelier than an earlier one
    rng = np.random.default_rng(4)
    level = rng.normal(size=4000) * 2
    logits = level[:, None] - np.array([-1.0, 0.0, 1.5])
    # One uniform number a case against its falling cut probabilities gives grades of exactly that law.
    grade = (rng.random((4000, 1)) < expit(logits)).sum(axis=1)
    found = fit_temperature("ordinal", grade, logits=logits * 2.5)
    assert found.temperature[0] == pytest.approx(2.5, rel=0.1) and found.nll_after < found.nll_before


def test_a_temperature_that_cannot_be_fitted_stays_one():
    few = fit_temperature("binary", np.array([0, 1, 0]), logits=np.array([-1.0, 1.0, 0.0]))
    assert few.temperature == (1.0,) and "too few" in few.why and few.nll_before == few.nll_after
    same = fit_temperature("binary", np.ones(30, dtype=int), logits=np.linspace(-1, 1, 30))
    assert same.temperature == (1.0,) and same.why == "all validation cases are of one class"
    truth = np.repeat([0, 1], 20)
    perfect = fit_temperature("binary", truth, logits=np.where(truth, 2.0, -2.0))
    assert perfect.temperature == (1.0,) and "without error" in perfect.why
    useless = fit_temperature("binary", np.tile([0, 1], 20), logits=np.repeat([-9.0, 9.0], 20))
    assert useless.temperature == (BOUNDS[1],) and useless.why
    broken = fit_temperature("binary", truth, logits=np.full(40, np.nan))
    assert broken.temperature == (1.0,) and broken.nll_before is None and "not finite" in broken.why
    nothing = fit_temperature("multiclass", np.zeros(0, dtype=int), logits=np.zeros((0, 3)))
    assert nothing.temperature == (1.0,) and nothing.n == 0
    json.dumps([part.to_dict() for part in (few, same, perfect, useless, broken, nothing)], allow_nan=False)


@pytest.mark.parametrize("patients", [False, True])
def test_reliability_adds_up_to_the_calibration_error(patients: bool):
    rng = np.random.default_rng(5)
    chance = rng.random(400)
    truth = (rng.random(400) < chance**2).astype(int)
    people = np.repeat(np.arange(100), 4) if patients else None
    table = reliability(truth, chance, patients=people, count=200)
    gap = sum(row.n * abs(row.confidence - row.observed) for row in table if row.n) / 400
    assert gap == pytest.approx(ece(truth, chance)) and sum(row.n for row in table) == 400
    for row in table:
        assert row.n == 0 or (row.low < row.high and row.low <= row.observed <= row.high)
        assert row.n == 0 or row.start <= row.confidence <= row.stop
    empty = reliability(np.array([1]), np.array([0.97]))
    assert empty[0].n == 0 and empty[0].observed is None and empty[-1].observed == 1.0
    assert empty[-1].low < 0.5
    json.dumps([row.to_dict() for row in [*table, *empty]], allow_nan=False)


def brute_force(truth: np.ndarray, scores: np.ndarray) -> float:
    """The largest sensitivity + specificity over all thresholds."""
    cuts = [*np.unique(scores), np.inf]
    return max((scores[truth == 1] >= cut).mean() + (scores[truth == 0] < cut).mean() for cut in cuts)


@pytest.mark.parametrize("seed", range(6))
def test_thresholds_keep_their_word(seed: int):
    rng = np.random.default_rng(seed)
    truth = np.r_[0, 1, rng.integers(0, 2, 60)]
    scores = np.round(np.clip(0.3 * truth + 0.7 * rng.random(62), 0, 1), 1 + seed % 3)

    def at(threshold: float) -> tuple[float, float]:
        return (scores[truth == 1] >= threshold).mean(), (scores[truth == 0] < threshold).mean()

    threshold, why = choose_threshold(truth, scores)
    assert why is None and sum(at(threshold)) == pytest.approx(brute_force(truth, scores))
    threshold, _ = choose_threshold(truth, scores, rule="sensitivity>=0.9")
    others = [at(cut) for cut in [*np.unique(scores), 2.0]]
    assert at(threshold)[0] >= 0.9
    assert at(threshold)[1] == max(spec for sens, spec in others if sens >= 0.9)
    threshold, _ = choose_threshold(truth, scores, rule=" specificity >= .8")
    assert at(threshold)[1] >= 0.8
    assert at(threshold)[0] == max(sens for sens, spec in others if spec >= 0.8)


def test_wanted_shares_are_met_to_the_case():
    truth, scores = np.repeat([0, 1], 20), np.linspace(0, 1, 40)
    exact, _ = choose_threshold(truth, scores[::-1], rule="sensitivity>=0.95")
    assert (scores[::-1][truth == 1] >= exact).sum() == 19  # 0.95 x 20, although 0.95 * 20 is no whole number in binary
    every, note = choose_threshold(truth, scores, rule="sensitivity>=1")
    assert (scores[truth == 1] >= every).all() and note is None
    assert scores[19] < every < scores[20]  # midway, not on a case


def test_thresholds_of_awkward_cases():
    for truth, scores, word in (
        (np.ones(4), np.arange(4.0), "lacks"),
        (np.zeros(0), np.zeros(0), "lacks"),
        (np.array([0, 1]), np.array([0.3, 0.3]), "same probability"),
        (np.array([0, 1]), np.array([0.3, np.nan]), "not finite"),
    ):
        threshold, why = choose_threshold(truth, scores)
        assert threshold == 0.5 and word in why
    inverted = np.repeat([0, 1], 5), np.linspace(0.9, 0.1, 10)
    threshold, why = choose_threshold(*inverted)
    assert threshold == 0.5 and "no threshold tells the classes apart" in why
    threshold, note = choose_threshold(*inverted, rule="sensitivity>=1")
    assert (inverted[1][5:] >= threshold).all() and "every case" in note
    threshold, note = choose_threshold(*inverted, rule="specificity>=1")
    assert (inverted[1] < threshold).all() and threshold <= 1 and "no case" in note
    close = np.array([0.5, np.nextafter(0.5, 1)])
    threshold, _ = choose_threshold(np.array([0, 1]), close)
    assert close[0] < threshold <= close[1]
    for rule in ("sensitivity>0.9", "sensitivity>=2", "precision>=0.5", ""):
        with pytest.raises(BadRecipe, match="no rule"):
            choose_threshold(np.array([0, 1]), np.array([0.1, 0.9]), rule=rule)


def test_points_of_every_kind():
    truth = np.tile([0, 1], 20)
    many = Cases("labels", np.stack([truth, 1 - truth], axis=1), np.stack([truth * 0.6 + 0.1] * 2, axis=1), ("a", "b"))
    point = choose_point(many)
    assert len(point.threshold) == 2 and point.threshold[0] == pytest.approx(0.4)
    entry = judge(point, many, seed=0, count=50)
    assert entry["classes"]["a"]["sensitivity"]["value"] == 1.0
    several = Cases("multiclass", truth, np.eye(3)[truth] * 0.4 + 0.2, ("a", "b", "c"))
    assert choose_point(several).rule == "argmax" and choose_point(several).threshold is None
    assert judge(choose_point(several), several, seed=0, count=50)["classes"]["c"]["sensitivity"]["why"]
    assert choose_point(Cases("ordinal", truth, np.eye(2)[truth])).rule == "median grade"
    assert judge(choose_point(Cases("number", truth, truth)), Cases("number", truth, truth), seed=0)["rule"] == "value"


def halves(patients: bool = False) -> Cases:
    rng = np.random.default_rng(6)
    truth = rng.integers(0, 2, 300)
    people = np.repeat(np.arange(100), 3).tolist() if patients else None
    return Cases("binary", truth, expit(2 * truth - 1 + rng.normal(size=300)), ("healthy", "ill"), "ill", people)


@pytest.mark.parametrize("patients", [False, True])
def test_a_point_is_judged_on_other_cases(patients: bool):
    cases = halves(patients)
    rows = np.arange(300)
    point = choose_point(cases.take(rows[:150]), rule="sensitivity>=0.9")
    entry = judge(point, cases.take(rows[150:]), seed=0, prevalence=0.05, count=400)
    assert entry["chosen_on"] == "val" and entry["rule"] == "sensitivity>=0.9"
    test = cases.take(rows[150:])
    called = test.chance >= entry["threshold"]
    assert entry["sensitivity"]["value"] == pytest.approx(called[test.truth].mean())
    assert entry["ppv"]["value"] == pytest.approx(test.truth[called].mean())
    rare = entry["at_prevalence"]
    assert rare["prevalence"] == 0.05 and rare["ppv"]["value"] < entry["ppv"]["value"]
    assert rare["npv"]["value"] > entry["npv"]["value"]
    for row in (entry["sensitivity"], entry["specificity"], entry["ppv"], entry["npv"], rare["ppv"], rare["npv"]):
        assert row["low"] < row["value"] < row["high"] and ("patients" in row["method"]) == patients
    json.dumps(entry, allow_nan=False)
    with pytest.raises(BadRecipe, match="not between"):
        judge(point, test, seed=0, prevalence=5)


def test_predictive_values_by_hand():
    # 45 of 50 ill called ill, 40 of 50 healthy called healthy; Mercaldo's adjusted logit interval written out.
    truth = np.repeat([1, 0], 50)
    chance = np.r_[np.full(45, 0.9), np.full(5, 0.1), np.full(10, 0.9), np.full(40, 0.1)]
    cases = Cases("binary", truth, chance, ("healthy", "ill"))
    entry = judge(choose_point(cases), cases, seed=0, prevalence=0.1)["at_prevalence"]
    assert entry["ppv"]["value"] == pytest.approx(0.9 * 0.1 / (0.9 * 0.1 + 0.2 * 0.9))
    square = Z95**2
    sens, spec = (45 + square / 2) / (50 + square), (40 + square / 2) / (50 + square)
    centre = math.log(sens * 0.1 / ((1 - spec) * 0.9))
    half = Z95 * math.sqrt((1 - sens) / (sens * (50 + square)) + spec / ((1 - spec) * (50 + square)))
    assert entry["ppv"]["low"] == pytest.approx(expit(centre - half))
    assert entry["ppv"]["high"] == pytest.approx(expit(centre + half))


def test_a_perfect_point_is_not_certain():
    truth = np.repeat([0, 1], 10)
    for people in (None, np.repeat(np.arange(10), 2).tolist()):
        cases = Cases("binary", truth, 0.1 + 0.8 * truth, ("healthy", "ill"), "ill", people)
        entry = judge(choose_point(cases), cases, seed=0, prevalence=0.02, count=100)
        for row in (entry["sensitivity"], entry["ppv"], entry["at_prevalence"]["ppv"], entry["at_prevalence"]["npv"]):
            assert row["value"] == 1 and row["low"] < 0.999 and row["high"] == 1
        assert entry["at_prevalence"]["ppv"]["low"] < 0.2  # few negatives say little of a rare finding
