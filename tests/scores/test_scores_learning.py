"""Learning curves: laws that are known are found again, and nothing is foretold that was not seen."""

from __future__ import annotations

import numpy as np
import pytest

from medgraft.scores.learning import Law, cases_for_width, learning_curve

COUNTS = (25, 50, 100, 200, 400)


def draws(law: Law, noise: float, seed: int = 0, count: int = 10) -> np.ndarray:
    random = np.random.default_rng(seed)
    sizes = np.array(COUNTS)
    return law.at(sizes) + random.normal(size=(count, len(sizes))) * noise / np.sqrt(sizes / 100)


@pytest.mark.parametrize("law", [Law(0.95, 1.0, 0.5), Law(0.85, 3.0, 0.9), Law(0.99, 0.5, 0.25)])
def test_a_law_without_noise_is_found_again(law: Law) -> None:
    found = learning_curve(COUNTS, draws(law, 0.0))
    assert found is not None
    assert (found.law.rate, found.law.ceiling) == pytest.approx((law.rate, law.ceiling), abs=0.03)
    assert found.at(1600)[0] == pytest.approx(law.at(1600), abs=0.004)
    wanted = law.needed(float(law.at(400)) + 0.01) - 400
    assert found.more_for(0.01)[0] == pytest.approx(wanted, rel=0.1)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    law, hits = Law(0.93, 1.2, 0.5), 0
    for seed in range(60):
        found = learning_curve(COUNTS, draws(law, 0.02, seed), seed=seed)
        assert found is not None
        _, low, high = found.at(800)
        hits += low <= law.at(800) <= high
    assert hits >= 50


def test_a_flat_curve_is_called_flat() -> None:
    found = learning_curve(COUNTS, draws(Law(0.9, 0.0, 0.5), 0.01))
    assert found is not None and found.flat
    assert found.more_for(0.05)[0] is None
    steep = learning_curve(COUNTS, draws(Law(0.95, 1.0, 0.4), 0.005))
    assert steep is not None and not steep.flat


def test_a_gain_beyond_the_ceiling_is_not_promised() -> None:
    found = learning_curve(COUNTS, draws(Law(0.9, 2.0, 0.8), 0.0))
    assert found is not None
    assert found.more_for(0.2) == (None, None, None)


def test_a_score_never_passes_one() -> None:
    random = np.random.default_rng(1)
    found = learning_curve(COUNTS, 0.8 + 0.19 * np.array(COUNTS) / 400 + random.normal(size=(6, 5)) * 0.002)
    assert found is not None
    assert found.at(10_000)[0] <= 1.0


def test_missing_scores_and_too_few_sizes() -> None:
    values = draws(Law(0.9, 1.0, 0.5), 0.01)
    values[:4, 0] = np.nan
    values[:, 1] = np.nan
    found = learning_curve(COUNTS, values)
    assert found is not None and found.counts == (25, 100, 200, 400)
    values[:, :3] = np.nan
    assert learning_curve(COUNTS, values) is None


def test_cases_for_a_width() -> None:
    assert cases_for_width(0.1, now=0.1, count=80) == 80
    assert cases_for_width(0.02, now=0.1, count=80) == 2000
