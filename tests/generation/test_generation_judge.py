"""How well images come back of their latents, in decibels, by patients."""

from __future__ import annotations

import numpy as np
import pytest

from medgraft.generation.judge import fidelity_of_latents


def test_it_is_the_mean_psnr_with_an_interval_over_patients():
    images = np.random.default_rng(0).uniform(-1, 1, (12, 1, 8, 8))
    errors = np.repeat([0.02, 0.2], 6)
    back = images + errors[:, None, None, None]
    score = fidelity_of_latents(images, back, patients=[f"p{k // 2}" for k in range(12)])
    known = np.mean(20 * np.log10(2 / errors))
    assert score.value == pytest.approx(known, abs=1e-6) and (score.n, score.n_patients) == (12, 6)
    assert score.low is not None and score.high is not None and score.low < known < score.high


def test_an_image_that_comes_back_whole_has_no_ratio():
    images = np.random.default_rng(0).uniform(-1, 1, (5, 1, 8, 8))
    back = images + np.array([0, 0.1, 0.1, 0.2, 0.2])[:, None, None, None]
    score = fidelity_of_latents(images, back, patients=list("abcde"))
    assert (score.n, score.n_patients) == (4, 4) and score.value is not None and np.isfinite(score.value)
