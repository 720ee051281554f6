"""The way to noise and back, against Gaussians of which the best answer is known."""

from __future__ import annotations

import pytest
import torch

from medgraft.nets.denoiser import Denoiser, DenoiserForm, folded, unfolded
from medgraft.nets.diffusing import SAMPLERS, go_back, log_snr, parts, q_sample, split_v

MEAN, SPREAD = 0.3, 0.2


def best(x_t: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
    """The v of least error for pixels that are Gaussian and know nothing of each other."""
    alpha, sigma = parts(time, side=64, ndim=x_t.ndim)
    image = MEAN + alpha * SPREAD**2 / (alpha**2 * SPREAD**2 + sigma**2) * (x_t - alpha * MEAN)
    return (alpha * x_t - image) / sigma


def test_an_image_and_its_noise_follow_from_what_is_said():
    draw = torch.Generator().manual_seed(0)
    image, noise = (torch.randn(5, 1, 4, 4, generator=draw) for _ in range(2))
    time = torch.tensor([0.02, 0.3, 0.5, 0.8, 0.99])
    noisy, v = q_sample(image, time, eps=noise, side=64)
    again = split_v(noisy, v, time, side=64)
    torch.testing.assert_close(again[0], image, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(again[1], noise, atol=1e-4, rtol=1e-4)
    ends = log_snr(torch.tensor([0.0, 1.0]))
    assert ends.tolist() == pytest.approx([10.0, -10.0], abs=1e-3)
    assert log_snr(torch.tensor(0.5), side=128) < log_snr(torch.tensor(0.5), side=64)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_way_back_ends_in_the_distribution_that_was_learnt(sampler):
    draw = torch.Generator().manual_seed(1)
    noise = torch.randn(16, 1, 32, 32, generator=draw)
    steps = {"ddpm": 200, "ddim": 100, "dpm": 20}[sampler]
    *_, made = go_back(
        noise, best, side=64, steps=steps, sampler=sampler, noises=lambda k: torch.randn(noise.shape, generator=draw)
    )
    assert made.mean() == pytest.approx(MEAN, abs=0.01)
    assert made.std() == pytest.approx(SPREAD, rel=0.06)


def test_the_second_order_needs_fewer_steps_than_the_first():
    noise = torch.randn(8, 1, 16, 16, generator=torch.Generator().manual_seed(2))
    ends = {}
    for sampler, steps in (("ddim", 400), ("ddim", 12), ("dpm", 12)):
        *_, ends[sampler, steps] = go_back(noise, best, side=64, steps=steps, sampler=sampler, clip=False)
    exact = ends["ddim", 400]
    assert (ends["dpm", 12] - exact).abs().mean() < 0.5 * (ends["ddim", 12] - exact).abs().mean()


@pytest.mark.parametrize("shape", [(2, 3, 8, 12), (2, 1, 4, 8, 6)])
def test_folding_is_undone(shape):
    x = torch.arange(torch.Size(shape).numel(), dtype=torch.float32).reshape(shape)
    small = folded(x, 2)
    assert small.shape == (2, shape[1] * 2 ** (len(shape) - 2), *(side // 2 for side in shape[2:]))
    corner = x[0, 0][tuple(slice(0, 2) for _ in shape[2:])]
    assert small[0, : corner.numel()].flatten(1)[:, 0].tolist() == corner.flatten().tolist()
    torch.testing.assert_close(unfolded(small, 2), x)


@pytest.mark.parametrize(("axes", "shape"), [(2, (3, 16, 24)), (3, (1, 8, 16, 8))])
def test_a_denoiser_begins_at_zero_and_knows_time_and_class(axes, shape):
    form = DenoiserForm(axes, shape[0], (16, 32), blocks=1, classes=2, fold=2)
    torch.manual_seed(0)
    net = Denoiser(form)
    noisy, time = torch.randn(2, *shape), torch.tensor([0.2, 0.7])
    assert not net(noisy, time).any()
    for one in net.parameters():
        torch.nn.init.normal_(one, std=0.05)
    said = net(noisy, time, torch.tensor([0, 1]))
    assert said.shape == noisy.shape
    assert not torch.allclose(said, net(noisy, time.flip(0), torch.tensor([0, 1])))
    assert not torch.allclose(said, net(noisy, time, torch.tensor([1, 1])))
    torch.testing.assert_close(net(noisy, time), net(noisy, time, torch.tensor([2, 2])))
    assert DenoiserForm.from_dict(form.to_dict()) == form
