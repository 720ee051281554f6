"""The Gaussian under a diffusion net: against the closed form, and against images that are one."""

from __future__ import annotations

import numpy as np
import torch

from medgraft.nets.diffusing import parts, q_sample
from medgraft.nets.gaussian import Gaussian


def _images(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images `(N, 1, 4, 4)` of a Gaussian with a mean and three wide directions, and both."""
    dice = np.random.default_rng(seed)
    ways, _ = np.linalg.qr(np.random.default_rng(9).normal(size=(16, 16)))
    variances = np.array([4.0, 2.0, 1.0, *[0.01] * 13])
    mean = np.random.default_rng(8).normal(size=16)
    rows = mean + dice.normal(size=(count, 16)) * np.sqrt(variances) @ ways.T
    cover = ways @ np.diag(variances) @ ways.T
    found = (torch.from_numpy(one.astype(np.float32)) for one in (rows.reshape(-1, 1, 4, 4), mean, cover))
    return tuple(found)  # type: ignore[return-value]


def _learnt(count: int = 20_000, directions: int = 3) -> Gaussian:
    gaussian = Gaussian((1, 4, 4), directions)
    assert gaussian.learn(_images(count)[0].split(500), most=4000) == 4000
    return gaussian


def test_what_it_foresees_is_the_closed_form():
    gaussian, (images, mean, cover) = _learnt(directions=16), _images(64, seed=3)
    time = torch.linspace(0.1, 0.98, 64)
    x_t, _ = q_sample(images, time, eps=torch.randn(images.shape, generator=torch.Generator().manual_seed(1)), side=64)
    alpha, sigma = parts(time, side=64, ndim=4)
    said = gaussian.v(x_t, alpha=alpha, sigma=sigma).flatten(1)
    for row in range(64):
        a, s = float(alpha[row]), float(sigma[row])
        off = x_t[row].flatten() - a * mean
        image = mean + a * cover @ torch.linalg.solve(a * a * cover + s * s * torch.eye(16), off)
        noise = (x_t[row].flatten() - a * image) / s
        assert torch.allclose(said[row], a * noise - s * image, atol=0.1)


def test_no_other_line_errs_less_on_images_of_that_kind():
    gaussian, (images, _, _) = _learnt(), _images(2000, seed=5)
    time = torch.full((2000,), 0.6)
    x_t, v = q_sample(images, time, eps=torch.randn(images.shape, generator=torch.Generator().manual_seed(2)), side=64)
    alpha, sigma = parts(time, side=64, ndim=4)
    own = (gaussian.v(x_t, alpha=alpha, sigma=sigma) - v).square().mean()
    rows = torch.cat([x_t.flatten(1), torch.ones(2000, 1)], dim=1)
    best = torch.linalg.lstsq(rows, v.flatten(1)).solution
    fitted = (rows @ best - v.flatten(1)).square().mean()
    assert fitted < own < 1.05 * fitted and own < 0.5 * v.square().mean()


def test_directions_that_few_images_do_not_have_change_nothing():
    few = Gaussian((1, 4, 4), 8)
    assert few.learn([_images(6)[0]], most=100) == 6
    assert (few.ways[:, 5:] == 0).all() and (few.ways[:, :5].norm(dim=0) - 1).abs().max() < 1e-4
    half = torch.full((2, 1, 1, 1), 0.7)
    assert torch.isfinite(few.v(torch.randn(2, 1, 4, 4), alpha=half, sigma=half)).all()
    none = Gaussian((1, 4, 4), 2)
    assert none.learn([_images(3)[0]], most=9) == 3
    assert (none.v(torch.randn(2, 1, 4, 4), alpha=half, sigma=half).abs() < 1e-6).all()


def test_images_that_are_all_alike_are_foreseen_as_they_are():
    gaussian, image = Gaussian((1, 4, 4), 2), torch.linspace(-1, 1, 16).view(1, 1, 4, 4)
    gaussian.learn([image.repeat(5, 1, 1, 1)], most=5)
    time = torch.tensor([0.5])
    x_t, v = q_sample(image, time, eps=torch.ones_like(image), side=64)
    alpha, sigma = parts(time, side=64, ndim=4)
    assert torch.allclose(gaussian.v(x_t, alpha=alpha, sigma=sigma), v, atol=1e-3)
