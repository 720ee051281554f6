"""Differences of two models on the same cases, and what is more than chance."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medgraft.scores.cases import Cases
from medgraft.scores.paired import differences, highest_mean, losses
from medgraft.scores.ranking import auroc


def two(n: int = 200, *, patients: int | None = None, shift: float = 1.0) -> tuple[Cases, Cases]:
    random = np.random.default_rng(4)
    truth = np.arange(n) % 2
    noise = random.normal(size=n)
    names = None if patients is None else [f"p{k % patients}" for k in range(n)]
    chances = [1 / (1 + np.exp(-(gain * (2 * truth - 1) + noise))) for gain in (1 + shift, 1.0)]
    one, other = (
        Cases("binary", truth, np.stack([1 - p, p], axis=1), ("well", "ill"), "ill", patients=names) for p in chances
    )
    return one, other


def test_a_difference_is_that_of_the_scores_and_pairs_make_it_narrow():
    better, plain = two(shift=0.3)
    found = differences(better, plain, seed=0, count=500)
    own = auroc(better.targets, better.chance) - auroc(plain.targets, plain.chance)
    assert found["auroc"].value == pytest.approx(own)
    assert found["log_loss"].value == pytest.approx(losses(better).mean() - losses(plain).mean())
    low, high = found["auroc"].low, found["auroc"].high
    assert low is not None and high is not None and 0 < low < own < high
    # The same two models on other cases each would give an interval that holds zero.
    assert high - low < 0.1


def test_a_model_against_itself_differs_by_nothing():
    plain, _ = two()
    found = differences(plain, plain, seed=0, count=200)
    assert all(score.value == 0 for score in found.values())


def test_patients_of_several_images_count_once():
    few, many = (differences(*two(patients=count), seed=0, count=500)["log_loss"] for count in (10, 200))
    assert few.n_patients == 10 and many.n_patients == 200
    assert few.low is not None and few.high is not None


def test_the_upper_end_rises_with_the_tries_and_is_above_the_mean():
    values = np.random.default_rng(0).normal(-0.1, 0.4, 60)
    ends = [highest_mean(values, patients=None, seed=0, tries=tries) for tries in (1, 4, 20)]
    assert values.mean() < ends[0] < ends[1] < ends[2]


def test_nothing_that_is_there_seldom_seems_to_be_there():
    """Four differences of noise: one of them is called a gain in about one of twenty sets, or less."""
    random = np.random.default_rng(1)
    called = 0
    for number in range(50):
        gaps = random.standard_t(5, size=(4, 25)) * 0.3
        called += any(highest_mean(gap, patients=None, seed=number, tries=4) < 0 for gap in gaps)
    assert called <= 4  # one side of 5 %: of 50 about one


def test_one_patient_settles_nothing():
    assert highest_mean(np.full(9, -1.0), patients=["p"] * 9, seed=0) == math.inf
