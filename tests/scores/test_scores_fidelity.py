"""FID, KID, precision and recall against closed forms and torchmetrics; MS-SSIM against torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import linalg

from medgraft.scores.fidelity import covered, fid, frechet, kid
from medgraft.scores.likeness import _maps, ms_ssim, pairs_of, psnr, scales_of, ssim


def rows(count: int, seed: int, *, width: int = 6, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, scale, (count, width))


@pytest.mark.parametrize(("count", "width"), [(40, 6), (12, 30)])
def test_the_frechet_distance_is_that_of_the_root_of_a_matrix(count, width):
    one, two = rows(count, 1, width=width), rows(count + 5, 2, width=width, shift=0.5, scale=2.0)
    root = linalg.sqrtm(np.cov(one.T) @ np.cov(two.T)).real
    wanted = ((one.mean(0) - two.mean(0)) ** 2).sum() + np.trace(np.cov(one.T) + np.cov(two.T) - 2 * root)
    assert frechet(one, two) == pytest.approx(wanted, rel=1e-4)
    assert frechet(one, one) == pytest.approx(0, abs=1e-9)


def test_intervals_hold_the_value_and_narrow_with_more_images():
    few = fid(rows(40, 1), rows(40, 2, shift=0.3))
    many = fid(rows(800, 1), rows(800, 2, shift=0.3))
    assert few.low <= few.value <= few.high and many.high - many.low < few.high - few.low  # type: ignore[operator]
    assert fid(rows(5, 1), rows(40, 2)).why is not None


def test_the_kernel_distance_is_without_bias_and_agrees_with_torchmetrics():
    from torchmetrics.image.kid import poly_mmd

    one, two = rows(50, 1), rows(50, 2, shift=0.4)
    one_t, two_t = (torch.from_numpy(part) for part in (one, two))
    tables = [(a @ b.T / a.shape[1] + 1) ** 3 for a, b in ((one_t, one_t), (one_t, two_t), (two_t, two_t))]
    from torchmetrics.image.kid import maximum_mean_discrepancy

    assert kid(one, two).value == pytest.approx(float(maximum_mean_discrepancy(*tables)), rel=1e-9)
    assert kid(one, two).value == pytest.approx(float(poly_mmd(one_t, two_t)), rel=1e-9)
    same = [float(kid(rows(30, seed), rows(30, 900 + seed), count=20).value or 0.0) for seed in range(40)]
    assert abs(np.mean(same)) < 2.5 * np.std(same) / np.sqrt(len(same))
    held = kid(one, two)
    assert held.low is not None and held.low > 0


def test_precision_and_recall_tell_missing_kinds_from_impossible_images():
    real = np.concatenate([rows(60, 1), rows(60, 2, shift=20.0)])
    narrow = rows(60, 3)  # one of both kinds alone
    assert covered(narrow, real).mean() > 0.8 and covered(real, narrow).mean() < 0.6
    far = rows(60, 4, shift=200.0)
    assert covered(far, real).mean() == 0


@pytest.mark.parametrize("side", [176, 64])
def test_ms_ssim_agrees_with_torchmetrics(side):
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as reference
    from torchmetrics.functional.image import structural_similarity_index_measure

    draw = np.random.default_rng(0)
    one = draw.random((2, side, side))
    two = np.clip(one + draw.normal(0, 0.2, one.shape), 0, 1)
    count = scales_of((side, side))
    betas = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)[:count]
    betas = tuple(beta / sum(betas) for beta in betas)
    pair = [torch.from_numpy(part)[:, None].float() for part in (one, two)]
    wanted = float(reference(*pair, data_range=1.0, betas=betas, normalize="relu"))
    # The reference takes the coarsest scale with a reflected border, and all others without.
    assert ms_ssim(one, two) == pytest.approx(wanted, abs=1e-2)
    _, contrast = structural_similarity_index_measure(*pair, data_range=1.0, return_contrast_sensitivity=True)
    own = np.mean([_maps(a, b, 1.0)[1].mean() for a, b in zip(one, two, strict=True)])
    assert own == pytest.approx(float(contrast.mean()), abs=1e-6)
    assert ms_ssim(one, one) == pytest.approx(1.0)


def test_volumes_have_a_likeness_and_small_images_none():
    draw = np.random.default_rng(0)
    one = draw.random((1, 24, 24, 24))
    assert ms_ssim(one, one) == pytest.approx(1.0) and ms_ssim(one, draw.random(one.shape)) < 0.3
    with pytest.raises(ValueError, match="smaller than the window"):
        scales_of((8, 40))
    assert psnr(np.zeros(4), np.full(4, 0.1)) == pytest.approx(20.0)
    assert ssim(one[0][:1], one[0][:1]) == pytest.approx(1.0)


def test_pairs_are_different_images_without_repeats():
    pairs = pairs_of(30, most=50, seed=0, purpose="test")
    assert len({tuple(pair) for pair in pairs.tolist()}) == 50 and (pairs[:, 0] < pairs[:, 1]).all()
    assert len(pairs_of(4, most=50, seed=0, purpose="test")) == 6


@pytest.mark.parametrize("patients", [["one"] * 12, ["one"] * 11 + ["two"]])
def test_without_patients_to_leave_out_a_distance_has_no_interval_and_says_why(patients):
    score = fid(rows(12, 1), rows(12, 2), patients=patients)
    assert score.value is not None and score.low is None and score.high is None and "patients" in str(score.why)
