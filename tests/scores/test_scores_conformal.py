"""Sets of answers: do they hold the truth as often as they say, in each class, and by hand?"""

from __future__ import annotations

import numpy as np
import pytest

from medgraft.scores.cases import Cases
from medgraft.scores.conformal import Conformal, calibrate, coverage_table

CLASSES = ("a", "b", "c")


def cases(n: int, seed: int, kind: str = "multiclass", sharp: float = 1.5) -> Cases:
    """Classes of unequal size; the answers to the rare one are worse."""
    rng = np.random.default_rng(seed)
    targets = rng.choice(3, size=n, p=(0.6, 0.3, 0.1))
    logits = rng.normal(size=(n, 3))
    logits[np.arange(n), targets] += np.array([sharp, sharp, sharp / 3])[targets]
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Cases(kind, targets, chances, CLASSES)


def test_limits_are_interpolated_order_statistics_by_hand() -> None:
    """Nine errors at .9: the ninth. Ten: rank 9.9, nine tenths of the way from the ninth to the tenth."""
    for errors, wanted in ((np.arange(1, 10), 9.0), (np.arange(1, 11), 9.9)):
        found = calibrate(Cases("number", np.zeros(len(errors)), errors.astype(float)), coverage=0.9)
        assert found.limits == pytest.approx((wanted,))
        assert found.counts == (len(errors),)


def test_too_few_numbers_give_no_interval() -> None:
    found = calibrate(Cases("number", np.zeros(8), np.ones(8)), coverage=0.9)
    assert found.limits == (np.inf,)
    assert np.isinf(found.interval(np.zeros(2))).all()
    assert Conformal.from_dict(found.to_dict()) == found
    assert found.to_dict()["limits"] == [None]


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
@pytest.mark.parametrize("n", [97, 300])
def test_each_class_is_covered_as_stated_on_average(coverage: float, n: int) -> None:
    held = []
    for seed in range(300):
        found = calibrate(cases(n, seed), coverage=coverage)
        test = cases(400, 10_000 + seed)
        inside = found.members(test.probabilities)[np.arange(400), test.targets]
        held.append([inside[test.targets == k].mean() if not found.pooled[k] else np.nan for k in range(3)])
    often = np.isfinite(held).mean(axis=0) > 0.9  # where a class seldom has enough cases, those times are no sample
    assert often[:2].all()
    assert np.nanmean(held, axis=0)[often] == pytest.approx(coverage, abs=0.015)


def test_a_marginal_limit_would_fail_the_rare_class() -> None:
    """So the test above tests something: with one limit for all, the rare class is covered far too seldom."""
    test = cases(20_000, 1)
    own = 1 - test.probabilities[np.arange(len(test)), test.targets]
    limit = np.quantile(own, 0.9)
    assert (own[test.targets == 2] <= limit).mean() < 0.85


def test_rare_classes_borrow_the_limit_of_all() -> None:
    few = Cases("multiclass", np.array([0] * 30 + [1] * 3), np.tile([[0.7, 0.3]], (33, 1)), ("a", "b"))
    found = calibrate(few, coverage=0.9)
    assert found.pooled == (False, True)
    assert found.limits[0] == pytest.approx(0.3)
    assert 0.3 <= found.limits[1] <= 0.7
    alone = calibrate(few.take(np.arange(3)), coverage=0.9)
    assert alone.limits == (1.0, 1.0)
    assert alone.members(np.array([[1.0, 0.0]])).all()


def test_grades_have_no_gaps_and_keep_what_was_in() -> None:
    found = Conformal("ordinal", 0.9, (0.7,) * 4, (20,) * 4, (False,) * 4)
    chances = np.array([[0.4, 0.1, 0.4, 0.1], [0.05, 0.9, 0.05, 0.0], [0.25, 0.25, 0.25, 0.25]])
    assert found.members(chances).tolist() == [
        [True, True, True, False],
        [False, True, False, False],
        [False, False, False, False],
    ]


def test_labels_that_are_true_are_seldom_excluded() -> None:
    rng = np.random.default_rng(0)

    def draw(n: int) -> Cases:
        targets = (rng.random((n, 2)) < (0.4, 0.2)).astype(int)
        return Cases("labels", targets, 1 / (1 + np.exp(-rng.normal(targets * 2.0 - 1, 1))), ("x", "y"))

    held = []
    for _ in range(150):
        found, test = calibrate(draw(200), coverage=0.9), draw(500)
        held.append([found.members(test.probabilities)[test.targets[:, k] > 0, k].mean() for k in range(2)])
    assert np.mean(held, axis=0) == pytest.approx(0.9, abs=0.015)


@pytest.mark.parametrize("positive", ["no", "yes"])
def test_one_column_means_the_positive_class(positive: str) -> None:
    rng = np.random.default_rng(3)
    targets = rng.integers(2, size=200)
    chance = np.clip(rng.normal(0.3 + 0.4 * (targets == ("no", "yes").index(positive)), 0.2), 0, 1)
    one = Cases("binary", targets, chance, (), positive=None) if positive == "yes" else None
    columns = np.stack([1 - chance, chance][:: 1 if positive == "yes" else -1], axis=1)
    two = Cases("binary", targets, columns, ("no", "yes"), positive=positive)
    found = calibrate(two, coverage=0.9)
    if one is not None:
        assert calibrate(one, coverage=0.9).limits == found.limits
    assert len(found.limits) == 2


def test_the_table_counts_by_hand() -> None:
    found = Conformal("multiclass", 0.9, (0.6, 0.6), (20, 20), (False, False))
    chances = np.array([[0.9, 0.1], [0.5, 0.5], [0.3, 0.7], [0.35, 0.65]])
    test = Cases("multiclass", np.array([0, 1, 0, 1]), chances, ("a", "b"))
    table = coverage_table(test, found, seed=0, count=100)
    assert table["coverage"].value == 0.75
    assert table["per_class"]["a"].value == 0.5
    assert table["per_class"]["b"].value == 1.0
    assert table["size"].value == 1.25
    assert table["single"].value == 0.75
    assert table["single_right"].value == pytest.approx(2 / 3)
    assert table["coverage"].n_patients is None


def test_images_of_one_patient_do_not_count_as_many() -> None:
    found = Conformal("multiclass", 0.9, (0.6, 0.6), (20, 20), (False, False))
    rng = np.random.default_rng(0)
    right = rng.random(40) < 0.8
    chances = np.where(right[:, None], (0.9, 0.1), (0.1, 0.9)).repeat(5, axis=0)
    words = {"seed": 0, "count": 500}
    alone = Cases("multiclass", np.zeros(200, int), chances, ("a", "b"))
    grouped = Cases("multiclass", np.zeros(200, int), chances, ("a", "b"), patients=np.arange(40).repeat(5).tolist())
    narrow, wide = (coverage_table(one, found, **words)["coverage"] for one in (alone, grouped))
    assert narrow.value == wide.value
    assert wide.high - wide.low > 1.8 * (narrow.high - narrow.low)
    assert wide.n_patients == 40


def test_a_coverage_beyond_reason_is_refused() -> None:
    for coverage in (0.5, 1.0):
        with pytest.raises(ValueError, match="between"):
            calibrate(cases(50, 0), coverage=coverage)
