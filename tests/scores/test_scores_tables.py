"""The tables: names, values, reasons; perfect, empty and lopsided cases."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from sklearn import metrics as sk

from medgraft.errors import BadData, BadRecipe
from medgraft.scores.cases import Cases, decide
from medgraft.scores.patients import by_patient
from medgraft.scores.score import Score
from medgraft.scores.subgroups import band, subgroup_table
from medgraft.scores.summary import class_table, score_table

RNG = np.random.default_rng(8)
N, K = 150, 3
TRUTH = RNG.integers(0, 2, N)
CHANCE = np.round(0.35 * TRUTH + 0.6 * RNG.random(N), 3)
LABEL = RNG.integers(0, K, N)
CHANCES = RNG.dirichlet(np.ones(K), N) + np.eye(K)[LABEL] * RNG.integers(0, 2, (N, 1))
CHANCES /= CHANCES.sum(axis=1, keepdims=True)
MANY = (RNG.random((N, K)) < 0.4).astype(int)
MANY_CHANCES = 0.4 * MANY + 0.6 * RNG.random((N, K))
PATIENTS = [f"p{number}" for number in RNG.integers(0, 60, N)]
KINDS = {
    "binary": (TRUTH, CHANCE, ("healthy", "ill")),
    "multiclass": (LABEL, CHANCES, ("a", "b", "c")),
    "labels": (MANY, MANY_CHANCES, ("a", "b", "c")),
    "ordinal": (LABEL, CHANCES, ("0", "1", "2")),
    "number": (CHANCE, CHANCE + RNG.normal(size=N), ()),
}
PROMISED = {
    "binary": {"auroc", "auprc", "accuracy", "balanced_accuracy", "mcc", "f1", "brier", "ece", "sensitivity",
               "specificity", "ppv", "npv", "log_loss"},
    "multiclass": {"auroc", "auprc", "accuracy", "balanced_accuracy", "mcc", "f1", "brier", "ece", "ece_classwise",
                   "log_loss"},
    "labels": {"auroc", "auprc", "accuracy", "exact_match", "balanced_accuracy", "mcc", "f1", "brier", "ece",
               "log_loss"},
    "ordinal": {"quadratic_kappa", "mae", "spearman", "auroc_cuts", "auroc", "auprc", "accuracy",
                "balanced_accuracy", "mcc", "f1", "brier", "ece", "ece_classwise", "log_loss"},
    "number": {"mae", "rmse", "r2", "spearman", "bias"},
}  # fmt: skip


def made(kind: str, *, rows: np.ndarray | slice = slice(None), patients: bool = False) -> Cases:
    truth, chances, classes = KINDS[kind]
    people = np.array(PATIENTS)[rows].tolist() if patients else None
    return Cases(kind, truth[rows], chances[rows], classes, patients=people)


@pytest.mark.parametrize("patients", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_promised_score_has_value_and_interval(kind: str, patients: bool):
    table = score_table(made(kind, patients=patients), seed=0, count=300)
    assert set(table) == PROMISED[kind]
    for name, score in table.items():
        assert score.value is not None and score.low is not None and score.high is not None, (name, score)
        assert score.low <= score.value <= score.high and score.low < score.high, (name, score)
        assert score.why is None and score.method
        assert (score.n_patients is not None) == patients
    json.dumps({name: score.to_dict() for name, score in table.items()}, allow_nan=False)


def test_values_are_the_metrics_own():
    table = score_table(made("binary"), seed=0, count=50)
    called = CHANCE >= 0.5
    assert table["auroc"].value == pytest.approx(sk.roc_auc_score(TRUTH, CHANCE))
    assert table["f1"].value == pytest.approx(sk.f1_score(TRUTH, called))
    assert table["ppv"].value == pytest.approx(sk.precision_score(TRUTH, called))
    assert table["ppv"].n == called.sum() and table["sensitivity"].n == TRUTH.sum()
    assert "DeLong" in table["auroc"].method and "Wilson" in table["accuracy"].method
    grades = score_table(made("ordinal"), seed=0, count=50)
    middle = decide("ordinal", CHANCES)
    assert grades["quadratic_kappa"].value == pytest.approx(sk.cohen_kappa_score(LABEL, middle, weights="quadratic"))
    assert grades["mae"].value == pytest.approx(np.abs(LABEL - middle).mean())


def test_clustered_auroc_is_bootstrapped_by_patient():
    table = score_table(made("binary", patients=True), seed=0, count=200)
    for name in ("auroc", "accuracy", "sensitivity"):
        assert "resamples of patients" in table[name].method
    assert table["auroc"].n_patients == len(set(PATIENTS))
    one_each = Cases("binary", TRUTH, CHANCE, patients=[str(row) for row in range(N)])
    assert "DeLong" in score_table(one_each, seed=0, count=50)["auroc"].method


def test_positive_class_may_come_first():
    flipped = Cases("binary", 1 - TRUTH, np.stack([CHANCE, 1 - CHANCE], axis=1), ("ill", "healthy"), "ill")
    plain = Cases("binary", TRUTH, np.stack([1 - CHANCE, CHANCE], axis=1), ("healthy", "ill"), "ill")
    one, two = (score_table(cases, seed=0, count=100) for cases in (flipped, plain))
    for name in one:
        assert one[name] == two[name], name


@pytest.mark.parametrize("patients", [False, True])
def test_perfect_results_keep_a_width(patients: bool):
    truth = np.repeat([0, 1], [24, 16])
    chance = np.where(truth, 0.9, 0.2) + np.linspace(0, 0.05, 40)
    people = np.repeat(np.arange(10), 4).tolist() if patients else None
    table = score_table(Cases("binary", truth, chance, ("a", "b"), "b", people), seed=0, count=200)
    for name in ("auroc", "auprc", "accuracy", "balanced_accuracy", "mcc", "f1", "sensitivity", "ppv"):
        score = table[name]
        assert score.value == score.high == 1 and score.low is not None and score.low < 0.95, (name, score)
        assert "resamples of" not in score.method
    if patients:  # ten patients cannot say as much as forty
        alone = score_table(Cases("binary", truth, chance), seed=0, count=200)
        assert table["auroc"].low < alone["auroc"].low and table["accuracy"].low < alone["accuracy"].low
    label = np.arange(30) % 3
    several = score_table(Cases("multiclass", label, np.eye(3)[label] * 0.7 + 0.1), seed=0, count=100)
    for name in ("auroc", "auprc", "accuracy", "balanced_accuracy", "mcc", "f1"):
        assert several[name].value == 1 and several[name].low < 0.95 and several[name].high == 1, name


def test_one_class_says_why():
    table = score_table(Cases("binary", np.ones(12, dtype=int), np.linspace(0.2, 0.9, 12), ("healthy", "ill")), seed=0)
    for name in ("auroc", "balanced_accuracy", "mcc"):
        assert table[name].value is None and table[name].why == "all 12 cases are ill", name
    assert table["specificity"].value is None and table["specificity"].why == "no case is healthy"
    assert table["sensitivity"].value is not None and table["brier"].value is not None
    silent = score_table(Cases("binary", np.array([0, 1, 0, 1]), np.full(4, 0.1), ("healthy", "ill")), seed=0, count=50)
    assert silent["ppv"].why == "no case was called ill" and silent["auroc"].value == 0.5
    assert silent["auroc"].high - silent["auroc"].low > 0.3


@pytest.mark.parametrize("kind", KINDS)
def test_one_case_and_no_case(kind: str):
    lone = score_table(made(kind, rows=slice(0, 1)), seed=0, count=20)
    assert set(lone) == PROMISED[kind]
    for name, score in lone.items():
        assert score.why or score.low is not None, (name, score)
        assert score.value is None or score.low is not None or score.why == "a single patient gives no interval"
    empty = score_table(made(kind, rows=slice(0, 0)), seed=0, count=20)
    assert set(empty) == PROMISED[kind]
    assert all(score.value is None and score.why == "there are no cases" for score in empty.values())


def test_a_prediction_that_is_not_finite_is_not_dropped():
    broken = CHANCE.copy()
    broken[:2] = np.nan
    table = score_table(Cases("binary", TRUTH, broken), seed=0)
    assert all(score.value is None for score in table.values())
    assert table["auroc"].why == f"2 of {N} predictions are not finite"


def test_class_table_sets_each_class_against_the_rest():
    table = class_table(made("multiclass"), seed=0, count=100)
    called = CHANCES.argmax(axis=1)
    assert list(table) == ["a", "b", "c"]
    for k, name in enumerate(table):
        assert table[name]["sensitivity"].value == pytest.approx(sk.recall_score(k == LABEL, called == k))
        assert table[name]["ppv"].value == pytest.approx(sk.precision_score(k == LABEL, called == k))
        assert table[name]["auroc"].value == pytest.approx(sk.roc_auc_score(k == LABEL, CHANCES[:, k]))
        assert table[name]["f1"].value == pytest.approx(sk.f1_score(k == LABEL, called == k))
        assert table[name]["sensitivity"].n == (k == LABEL).sum()
    labels = class_table(made("labels", patients=True), seed=0, count=100)
    assert labels["b"]["auroc"].value == pytest.approx(sk.roc_auc_score(MANY[:, 1], MANY_CHANCES[:, 1]))
    two = class_table(made("binary"), seed=0, count=50)
    assert two["ill"]["sensitivity"].value == two["healthy"]["specificity"].value
    assert two["ill"]["specificity"].n == (TRUTH == 0).sum()
    absent = class_table(Cases("multiclass", LABEL % 2, CHANCES, ("a", "b", "c")), seed=0, count=50)
    assert absent["c"]["auroc"].why == f"all {N} cases are not c" and absent["c"]["sensitivity"].why == "no case is c"
    assert class_table(made("number"), seed=0) == {}


def test_a_class_without_cases_is_named():
    table = score_table(Cases("multiclass", LABEL % 2, CHANCES, ("a", "b", "c")), seed=0, count=50)
    for name in ("auroc", "auprc", "balanced_accuracy"):
        assert table[name].value is not None and table[name].method.endswith("; mean without c: no case"), name
    assert "without" not in table["accuracy"].method
    lone = class_table(Cases("binary", np.zeros(5), np.full(5, 0.2), ("healthy", "ill")), seed=0, count=20)
    assert lone["ill"]["auroc"].why == "all 5 cases are healthy"
    assert lone["healthy"]["specificity"].why == "no case is ill"


def test_cases_that_do_not_fit_are_refused():
    with pytest.raises(BadData, match="2 targets but 3 predictions"):
        Cases("binary", np.zeros(2), np.zeros(3))
    with pytest.raises(BadData, match="none of a, b"):
        Cases("binary", np.zeros(2), np.zeros(2), ("a", "b"), "c")
    with pytest.raises(BadData, match="3 classes but 2 columns"):
        Cases("multiclass", np.zeros(2), np.zeros((2, 2)), ("a", "b", "c"))
    with pytest.raises(BadData, match="Known: binary"):
        Cases("colours", np.zeros(2), np.zeros(2))


def test_decisions():
    assert decide("binary", np.array([[0.5, 0.5], [0.6, 0.4]])).tolist() == [1, 0]
    assert decide("binary", np.array([0.2, 0.3]), threshold=0.25).tolist() == [0, 1]
    assert decide("labels", np.array([[0.2, 0.8], [0.6, 0.4]]), threshold=[0.1, 0.5]).tolist() == [[1, 1], [1, 0]]
    assert decide("ordinal", np.array([[0.3, 0.2, 0.1, 0.4]])).tolist() == [1]
    assert decide("multiclass", np.array([[0.3, 0.2, 0.1, 0.4]])).tolist() == [3]


def test_images_become_patients():
    cases = Cases("binary", np.array([0, 1, 0, 0]), np.array([0.2, 0.6, 0.3, 0.5]), patients=["x", "x", "y", "y"])
    mean, largest = by_patient(cases), by_patient(cases, how="max")
    assert mean.cases.targets.tolist() == [1, 0] and mean.cases.patients == ["x", "y"]
    assert mean.cases.probabilities.tolist() == pytest.approx([0.4, 0.4])
    assert largest.cases.probabilities.tolist() == [0.6, 0.5] and "2 patients" in largest.note
    assert by_patient(made("binary")).cases is None and by_patient(made("binary")).note == "patients are not known"
    with pytest.raises(BadRecipe):
        by_patient(cases, how="median")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["mean", "max"])
def test_patients_of_every_kind_can_be_scored(kind: str, how: str):
    cases = made(kind, patients=True)
    whole = by_patient(cases, how=how).cases
    assert whole is not None and len(set(whole.patients)) == len(whole)
    if kind != "number" and whole.probabilities.ndim == 2 and kind != "labels":
        np.testing.assert_allclose(whole.probabilities.sum(axis=1), 1)
    first = whole.patients[0]
    mine = np.array(PATIENTS) == first
    if kind != "number" and how == "mean":
        np.testing.assert_allclose(whole.probabilities[0], cases.probabilities[mine].mean(axis=0))
    assert set(score_table(whole, seed=0, count=30)) == PROMISED[kind]


def test_patients_with_images_of_two_classes_are_left_out_and_counted():
    chances = np.eye(3)[[0, 1, 2, 2]]
    mixed = by_patient(Cases("multiclass", np.array([0, 1, 2, 2]), chances, patients=["x", "x", "y", "y"]))
    assert mixed.cases.patients == ["y"] and "1 left out" in mixed.note


def test_bands_of_covariates():
    assert band("sex", ["F", "M", ""]) == (["F", "M", "not stated"], "values")
    ages = [str(age) for age in range(5, 95, 5)]
    groups, how = band("Age", ages)
    assert how == "bands of age in years" and groups[0] == "below 20" and groups[-1] == "80 and above"
    assert groups[ages.index("45")] == "40 to below 50" and len(set(groups)) <= 8
    dicom, _ = band("PatientAge", [f"{age:03d}Y" for age in range(1, 90, 4)] + ["006M", ""])
    assert dicom[-2:] == ["below 20", "not stated"]
    images, how = band("image_size", [str(size) for size in range(100, 112)])
    assert how == "tertiles" and sorted(set(images)) and [images.count(group) for group in set(images)] == [4, 4, 4]
    few, how = band("stage", ["1", "2", "3"] * 4)
    assert how == "values" and few[0] == "1"
    many, how = band("site", [f"s{number % 12}" for number in range(60)] + ["s0"] * 5)
    assert len(set(many)) == 8 and "other" in many and "most frequent" in how


def test_subgroups():
    sex = ["F" if row % 2 else "M" for row in range(N)]
    site = ["small" if row < 6 else "large" for row in range(N)]
    table = subgroup_table(made("binary"), {"sex": sex, "site": site, "same": ["x"] * N}, seed=0, count=100)
    assert [(row.covariate, row.group) for row in table] == [
        ("sex", "F"), ("sex", "M"), ("site", "large"), ("site", "small"),
    ]  # fmt: skip
    women = np.arange(N) % 2 == 1
    assert table[0].scores["auroc"].value == pytest.approx(sk.roc_auc_score(TRUTH[women], CHANCE[women]))
    assert table[0].n == women.sum() and table[0].scores["auroc"].low is not None
    assert all(score.value is None and "6 cases are too few" in score.why for score in table[3].scores.values())
    json.dumps([row.to_dict() for row in table], allow_nan=False)
    of_one = subgroup_table(made("binary"), {"finding": [str(value) for value in TRUTH]}, seed=0, count=50)
    assert of_one[0].scores["auroc"].why.endswith("are healthy") and of_one[0].scores["specificity"].value is not None


@pytest.mark.parametrize("kind", KINDS)
def test_subgroups_of_every_kind(kind: str):
    groups = ["x" if row < 80 else "y" for row in range(N)]
    for row in subgroup_table(made(kind, patients=True), {"group": groups}, seed=0, count=50):
        assert row.n_patients and all(isinstance(score, Score) for score in row.scores.values())
        assert all(math.isfinite(score.value) for score in row.scores.values())


def test_long_identifiers_are_no_numbers_to_sort_groups_by():
    from medgraft.scores.subgroups import in_order

    uid = "1.2.826.0.1.3680043"
    assert in_order(["b", uid, "10 to below 20", "below 10", "other"]) == [
        uid,
        "b",
        "below 10",
        "10 to below 20",
        "other",
    ]
