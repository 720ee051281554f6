"""How far an image lies from those of the training."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf, ledoit_wolf_shrinkage
from sklearn.metrics import roc_auc_score

from medgraft.scores.novelty import Familiar, familiar, limit_of, shrinkage

RNG = np.random.default_rng(0)
MIXED = np.linalg.qr(RNG.normal(size=(20, 20)))[0] * np.geomspace(2, 0.3, 20)


def images(n: int, shift: float = 0.0, seed: int = 1) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(n, 20))
    return (rows + shift) @ MIXED.T * np.geomspace(1, 1000, 20) + 5


def test_it_is_mahalanobis_when_all_directions_are_kept() -> None:
    train, test = images(400), images(50, seed=2)
    centre, spread = train.mean(axis=0), train.std(axis=0)
    covariance, _ = ledoit_wolf((train - centre) / spread, assume_centered=True)
    rows = (test - centre) / spread
    wanted = np.sqrt(np.einsum("ni,ij,nj->n", rows, np.linalg.inv(covariance), rows) / 20)
    assert familiar(train).distances(test) == pytest.approx(wanted, rel=1e-6)


def test_units_of_features_do_not_matter() -> None:
    train, test, units = images(100), images(9, seed=3), np.geomspace(1e-3, 1e3, 20)
    assert familiar(train * units).distances(test * units) == pytest.approx(familiar(train).distances(test), rel=1e-6)


def test_of_more_features_the_last_are_taken() -> None:
    known, test = familiar(images(50)), images(9, seed=3)
    assert np.array_equal(known.distances(np.concatenate([images(9, seed=4), test], axis=1)), known.distances(test))


def test_a_shift_in_a_quiet_direction_is_seen() -> None:
    """Along the direction of least variance a shift is small in pixels and large in standard deviations."""
    known = familiar(images(400))
    ordinary, strange = known.distances(images(300, seed=4)), known.distances(images(300, shift=1.5, seed=5))
    assert roc_auc_score(np.repeat([0, 1], 300), np.concatenate([ordinary, strange])) > 0.95
    assert np.median(ordinary) == pytest.approx(1, abs=0.2)


def test_more_features_than_images() -> None:
    rng = np.random.default_rng(7)
    low = rng.normal(size=(4, 500))
    draw = lambda n: rng.normal(size=(n, 4)) @ low + 0.05 * rng.normal(size=(n, 500))  # noqa: E731
    known = familiar(draw(30))
    ordinary, strange = known.distances(draw(100)), known.distances(draw(100) + 0.3 * rng.normal(size=(100, 500)))
    assert strange.min() > ordinary.max()


def test_features_that_never_vary_are_no_trouble() -> None:
    train = images(50)
    train[:, 3] = 7.0
    test = images(5, seed=8)
    test[:, 3] = 7.0
    assert np.isfinite(familiar(train).distances(test)).all()
    assert np.isfinite(familiar(np.ones((5, 4))).distances(np.ones((2, 4)))).all()


def test_what_cannot_be_compared_is_refused() -> None:
    for rows in (images(1), np.full((5, 3), np.nan)):
        with pytest.raises(ValueError, match="two images"):
            familiar(rows)


def test_the_limit_is_an_order_statistic() -> None:
    distances = np.arange(1.0, 100.0)  # 99 of them
    assert limit_of(distances, share=0.95) == 95
    assert limit_of(distances[:5], share=0.95) == 5
    assert limit_of(np.zeros(0), share=0.95) == np.inf


def test_new_images_of_the_kind_stay_below_it_as_often_as_said() -> None:
    below = []
    for seed in range(60):
        known = familiar(images(60, seed=100 + seed))
        limit = limit_of(known.distances(images(60, seed=300 + seed)), share=0.9)
        below.append((known.distances(images(200, seed=500 + seed)) <= limit).mean())
    assert np.mean(below) == pytest.approx(0.9, abs=0.02)


def test_nothing_is_strange_before_a_limit_is_chosen() -> None:
    assert isinstance(familiar(images(10)), Familiar)
    assert familiar(images(10)).limit == np.inf


def test_variances_are_drawn_to_their_mean_as_ledoit_and_wolf_say() -> None:
    for count in (15, 60, 600):
        rows = images(count, seed=count)
        rows = (rows - rows.mean(axis=0)) / rows.std(axis=0)
        assert shrinkage(rows) == pytest.approx(ledoit_wolf_shrinkage(rows, assume_centered=True), rel=1e-9)
    assert shrinkage(np.zeros((4, 3))) == 1.0
