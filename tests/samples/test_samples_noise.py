"""How much noise there is, and noise of fewer photons, against formulas."""

from __future__ import annotations

import numpy as np
import pytest

from medgraft.samples.dose import few_counts, low_dose
from medgraft.samples.noise import neighbours_of, noise_of


def slope(side: int = 128) -> np.ndarray:
    down, across = np.mgrid[:side, :side] / side
    return 100 + 50 * across + 80 * (down > 0.5)


def test_the_noise_of_a_known_image_is_found():
    dice = np.random.default_rng(0)
    for sigma in (1.0, 12.0):
        noisy = slope() + sigma * dice.standard_normal((128, 128))
        assert noise_of(noisy[None]) == pytest.approx(sigma, rel=0.05)
    assert noise_of(slope()[None]) == 0.0


def test_noise_that_bright_places_have_more_of_is_told_as_its_power():
    clean = np.full((1, 128, 128), 0.2)
    clean[..., 64:] = 0.9
    noisy = low_dose(clean, photons=300, electronic=0.0, seed=0)
    assert noise_of(noisy) == pytest.approx(float(np.sqrt(np.mean((noisy - clean) ** 2))), rel=0.08)


def test_a_border_without_noise_does_not_count_nor_do_planes_without():
    noisy = slope() + 5 * np.random.default_rng(0).standard_normal((128, 128))
    bordered = np.pad(noisy, 100)
    assert noise_of(bordered[None]) == pytest.approx(5, rel=0.08)
    solid = np.stack([np.zeros_like(noisy), noisy, noisy])
    assert noise_of(solid[None]) == pytest.approx(5, rel=0.05)


def test_noise_that_neighbours_share_is_told():
    white = np.random.default_rng(0).standard_normal((1, 64, 64))
    shared = (white[..., 1:] + white[..., :-1]) / 2
    assert abs(neighbours_of(white)) < 0.05
    assert neighbours_of(shared) == pytest.approx(0.25, abs=0.06)  # a half along one axis, none along the other
    assert neighbours_of(np.zeros((1, 8, 8))) == 0.0


def test_fewer_photons_bring_the_noise_that_counting_gives():
    gray = np.full((1, 200, 200), 0.0)
    noisy = low_dose(gray, photons=10_000, electronic=0.0, seed=1)
    # The logarithm of a count of N has the deviation 1 / sqrt(N); three logarithms are white.
    assert noisy.std() == pytest.approx(0.01 / 3, rel=0.03)
    assert noisy.mean() == pytest.approx(0.0, abs=1e-4)
    white = low_dose(gray + 1.0, photons=10_000, electronic=0.0, seed=1)
    assert white.std() == pytest.approx(0.01 * np.exp(1.5) / 3, rel=0.03)
    counted = few_counts(gray + 0.5, counts=100, seed=1)
    assert counted.std() == pytest.approx(np.sqrt(50) / 100, rel=0.03)


def test_noise_is_a_function_of_seed_and_key():
    gray = np.full((1, 8, 8), 0.5)
    one = low_dose(gray, photons=100, seed=1, key="a")
    assert np.array_equal(one, low_dose(gray, photons=100, seed=1, key="a"))
    assert not np.array_equal(one, low_dose(gray, photons=100, seed=1, key="b"))
    assert not np.array_equal(one, low_dose(gray, photons=100, seed=2, key="a"))
    assert np.isfinite(low_dose(gray + 0.5, photons=0.1, seed=1)).all()
