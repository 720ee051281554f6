"""Learning curves: laws that are known are found again, and nothing is foretold that was not seen."""

from __future__ import annotations

import numpy as np
import pytest

from medgraft.scores.learning import Law, cases_for_width, learning_curve

COUNTS = (25, 50, 100, 200, 400)
APART = tuple(range(10))  # every draw judged on cases of its own


def draws(law: Law, noise: float, seed: int = 0, count: int = 10) -> np.ndarray:
    random = np.random.default_rng(seed)
    sizes = np.array(COUNTS)
    return law.at(sizes) + random.normal(size=(count, len(sizes))) * noise / np.sqrt(sizes / 100)


@pytest.mark.parametrize("law", [Law(0.95, 1.0, 0.5), Law(0.85, 3.0, 0.9), Law(0.99, 0.5, 0.25)])
def test_a_law_without_noise_is_found_again(law: Law) -> None:
    found = learning_curve(COUNTS, draws(law, 0.0), folds=APART)
    assert found is not None
    assert (found.law.rate, found.law.ceiling) == pytest.approx((law.rate, law.ceiling), abs=0.03)
    assert found.at(1600)[0] == pytest.approx(law.at(1600), abs=0.004)
    wanted = law.needed(float(law.at(400)) + 0.01) - 400
    assert found.more_for(0.01)[0] == pytest.approx(wanted, rel=0.1)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    law, hits = Law(0.93, 1.2, 0.5), 0
    for seed in range(60):
        found = learning_curve(COUNTS, draws(law, 0.02, seed), folds=APART, seed=seed)
        assert found is not None
        _, low, high = found.at(800)
        hits += low <= law.at(800) <= high
    assert hits >= 50


def test_draws_that_fail_on_the_same_cases_are_not_counted_as_many() -> None:
    law, folds = Law(0.93, 0.9, 0.5), [draw // 2 for draw in range(10)]
    hits, flat = 0, 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        shared = random.normal(size=(5, 1)) * 0.08 + random.normal(size=(5, 5)) * 0.04  # of the held cases of a fold
        values = law.at(COUNTS) + np.repeat(shared, 2, axis=0) + random.normal(size=(10, 5)) * 0.02
        found = learning_curve(COUNTS, values, folds=folds, seed=seed)
        assert found is not None
        _, low, high = found.at(1600)
        hits += low <= law.at(1600) <= high
        flat += found.flat
    assert hits >= 53  # as ten that know nothing of each other they give 49
    assert flat <= 3  # four times as many bring .02


def test_what_cannot_be_told_is_not_called_flat() -> None:
    found = learning_curve(COUNTS, draws(Law(0.9, 0.0, 0.5), 0.05), folds=APART)
    assert found is not None and not found.flat
    value, low, high = found.gain(400)
    assert low <= 0 <= value <= high and high > 0.01


def test_a_flat_curve_is_called_flat() -> None:
    found = learning_curve(COUNTS, draws(Law(0.9, 0.0, 0.5), 0.002), folds=APART)
    assert found is not None and found.flat
    assert found.more_for(0.05)[0] is None
    steep = learning_curve(COUNTS, draws(Law(0.95, 1.0, 0.4), 0.005), folds=APART)
    assert steep is not None and not steep.flat


def test_a_gain_beyond_the_ceiling_is_not_promised() -> None:
    found = learning_curve(COUNTS, draws(Law(0.9, 2.0, 0.8), 0.0), folds=APART)
    assert found is not None
    assert found.more_for(0.2) == (None, None, None)


def test_a_score_never_passes_one() -> None:
    random = np.random.default_rng(1)
    found = learning_curve(
        COUNTS, 0.8 + 0.19 * np.array(COUNTS) / 400 + random.normal(size=(6, 5)) * 0.002, folds=range(6)
    )
    assert found is not None
    assert found.at(10_000)[0] <= 1.0


def test_missing_scores_and_too_few_sizes() -> None:
    values = draws(Law(0.9, 1.0, 0.5), 0.01)
    values[:4, 0] = np.nan
    values[:, 1] = np.nan
    found = learning_curve(COUNTS, values, folds=APART)
    assert found is not None and found.counts == (25, 100, 200, 400)
    values[:, :3] = np.nan
    assert learning_curve(COUNTS, values, folds=APART) is None


def test_cases_for_a_width() -> None:
    assert cases_for_width(0.1, now=0.1, count=80) == 80
    assert cases_for_width(0.02, now=0.1, count=80) == 2000
