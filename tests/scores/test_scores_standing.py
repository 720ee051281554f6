"""Candidates on the same cases: the error of a difference, and the simplest that is as good as one can tell."""

from __future__ import annotations

import numpy as np
import pytest

from medgraft.scores.standing import Standing, stand


def shares(**right: np.ndarray) -> Standing:
    statistics = {name: lambda rows, hits=hits: rows @ hits / rows.sum(axis=1) for name, hits in right.items()}
    return stand(statistics, n=len(next(iter(right.values()))), patients=None, seed=0, count=2000)


def test_the_error_is_that_of_the_paired_difference() -> None:
    random = np.random.default_rng(0)
    first = (random.random(400) < 0.8).astype(float)
    second = first.copy()
    second[np.flatnonzero(first)[:8]] = 0  # right where the other is, but for eight
    found = shares(first=first, second=second)
    gap, error = found.behind("second")
    apart = first - second
    assert found.best == "first" and gap == pytest.approx(apart.mean())
    assert error == pytest.approx(apart.std() / np.sqrt(400), rel=0.1)
    assert error < found.drawn["first"].found.std() / 2


def test_the_simplest_within_one_error_is_taken() -> None:
    base = np.tile([1.0, 1.0, 1.0, 0.0], 100)
    a_little, much = base.copy(), base.copy()
    a_little[np.flatnonzero(base)[:5]], a_little[np.flatnonzero(base == 0)[:4]] = 0, 1
    much[np.flatnonzero(base)[:40]] = 0
    found = shares(much=much, a_little=a_little, base=base)
    assert found.best == "base"
    assert found.simplest(["much", "a_little", "base"]) == "a_little"
    assert found.simplest(["base", "a_little", "much"]) == "base"
    assert found.simplest(["much"]) == found.best


def test_equal_candidates_are_no_reason_to_go_deeper() -> None:
    same = np.tile([1.0, 0.0], 30)
    assert shares(head=same, all=same.copy()).simplest(["head", "all"]) == "head"


def test_one_that_failed_is_behind_all_others() -> None:
    n = 50
    good = np.tile([1.0, 0.0], n // 2)
    statistics = {
        "failed": lambda rows: np.full(len(rows), np.nan),
        "good": lambda rows: rows @ good / rows.sum(axis=1),
    }
    found = stand(statistics, n=n, patients=None, seed=0, count=200)
    assert found.best == found.simplest(["failed", "good"]) == "good"
    assert found.scores["failed"].value is None and found.scores["failed"].why


def test_patients_are_drawn_whole_and_a_single_one_gives_no_interval() -> None:
    hits = np.repeat([1.0, 0.0, 1.0, 1.0], 25)
    statistic = {"one": lambda rows: rows @ hits / rows.sum(axis=1)}
    whole = stand(statistic, n=100, patients=[f"p{k // 25}" for k in range(100)], seed=0)
    apart = stand(statistic, n=100, patients=None, seed=0)
    assert whole.scores["one"].n_patients == 4 and apart.scores["one"].n_patients is None
    assert whole.drawn["one"].found.std() > 2 * apart.drawn["one"].found.std()
    single = stand(statistic, n=100, patients=["same"] * 100, seed=0)
    assert single.scores["one"].value == 0.75 and single.scores["one"].low is None
    assert single.simplest(["one"]) == "one"
