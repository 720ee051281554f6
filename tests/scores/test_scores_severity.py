"""Scores of severities: against formulas, and with what is unknown left out."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from medgraft.scores.severity import Severities, covered, each_zone, grade_matrix, reach_of, severity_table


@pytest.fixture
def found() -> Severities:
    random = np.random.default_rng(0)
    truth = random.integers(0, 4, (60, 6)).astype(float)
    said = np.clip(truth + random.normal(0, 0.6, truth.shape), 0, 3)
    truth[5, 2] = truth[9, :] = np.nan
    return Severities(truth, said, (0.0, 1.0, 2.0, 3.0), tuple(f"p{row // 2}" for row in range(60)))


def test_kappa_is_that_of_another_library_and_unknown_zones_do_not_count(found: Severities):
    table = severity_table(found, seed=0, count=200)
    known = np.isfinite(found.truth)
    truth, said = found.truth[known].astype(int), np.rint(found.said[known]).astype(int)
    wanted = cohen_kappa_score(truth, said, weights="quadratic")
    assert table["zone_kappa"].value == pytest.approx(wanted)
    assert table["zone_kappa"].n == 60 * 6 - 7 and table["zone_kappa"].n_patients == 30
    assert table["zone_kappa"].low < table["zone_kappa"].value < table["zone_kappa"].high
    assert table["sum_mae"].n == 58
    sums = found.truth.sum(axis=1), found.said.sum(axis=1)
    assert table["sum_mae"].value == pytest.approx(np.nanmean(np.abs(sums[0] - sums[1])))


def test_each_zone_has_its_own_score(found: Severities):
    scores = each_zone(found, seed=0, count=200)
    column = np.isfinite(found.truth[:, 2])
    truth, said = found.truth[column, 2].astype(int), np.rint(found.said[column, 2]).astype(int)
    assert len(scores) == 6 and scores[2].n == 58
    assert scores[2].value == pytest.approx(cohen_kappa_score(truth, said, weights="quadratic"))
    assert grade_matrix(found).sum() == 60 * 6 - 7


def test_shares_have_correlations_and_no_kappa():
    random = np.random.default_rng(1)
    truth = random.random((40, 4))
    table = severity_table(Severities(truth, truth**2, (), None), seed=0, count=200)
    assert "zone_kappa" not in table
    assert table["zone_spearman"].value == pytest.approx(1) and table["zone_spearman"].n_patients is None


def test_what_cannot_be_judged_says_why():
    table = severity_table(Severities(np.full((3, 2), np.nan), np.ones((3, 2)), (0.0, 1.0), None), seed=0, count=200)
    assert all(score.value is None and score.why for score in table.values())


def test_intervals_hold_the_truth_as_often_as_they_should():
    random = np.random.default_rng(2)

    def drawn(count: int) -> Severities:
        truth = random.random((count, 6))
        return Severities(truth, truth + random.normal(0, 0.1, truth.shape), (), None)

    reach = reach_of(drawn(400), coverage=0.9)
    checked = covered(drawn(4000), reach, seed=0, count=100)
    assert checked["zone"].value == pytest.approx(0.9, abs=0.03)
    assert checked["sum"].value == pytest.approx(0.9, abs=0.05)
    assert reach_of(drawn(3), coverage=0.9)[1] == np.inf
