"""StyleGAN2's nets: what a modulated convolution is, styles, classes, and the changes a discriminator sees."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from medgraft.nets.ada import changed
from medgraft.nets.stylegan import Discriminator, Generator, Styled, StyleForm, _halved

SMALL = StyleForm(side=16, channels=3, width=8, widest=16, latent=16, layers=2)


def test_weighing_inputs_and_outputs_is_a_kernel_of_each_images_own():
    torch.manual_seed(0)
    layer = Styled(6, 4, 3, 5)
    x, style = torch.randn(2, 6, 8, 8), torch.randn(2, 5)
    own = layer.style(style)
    for row in range(2):
        kernel = layer.weight * layer.scale * own[row][None, :, None, None]
        kernel = kernel / (kernel.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        torch.testing.assert_close(layer(x, style)[row], F.conv2d(x[row : row + 1], kernel, padding=1)[0])


def test_a_generator_draws_by_style_and_noise():
    torch.manual_seed(0)
    net = Generator(SMALL).eval()
    assert net.styles == len(net.noise_shapes(1)) == 5
    z = torch.randn(3, 16)
    styles = net.styled(z)
    plain = net.drawn(styles, None)
    assert plain.shape == (3, 3, 16, 16)
    torch.testing.assert_close(net.drawn(styles[:, None].expand(-1, 5, -1), None), plain)
    noises = [torch.randn(shape) for shape in net.noise_shapes(3)]
    torch.testing.assert_close(net.drawn(styles, noises), plain)  # its strength begins at zero
    for layer in net.layers:
        torch.nn.init.ones_(layer.strength)
    assert not torch.allclose(net.drawn(styles, noises), plain)
    mixed = torch.stack([*styles[0][None].expand(3, -1), *styles[1][None].expand(2, -1)])[None]
    assert not torch.allclose(net.drawn(mixed, None), plain[:1])
    torch.testing.assert_close(net.truncated(styles, 0.0), net.usual.expand(3, -1))
    torch.testing.assert_close(net.truncated(styles, 1.0), styles)


def test_classes_reach_both_nets():
    torch.manual_seed(0)
    form = StyleForm(**{**SMALL.to_dict(), "classes": 2})
    maker, judge = Generator(form), Discriminator(form)
    z, kinds = torch.randn(1, 16).expand(2, -1), torch.tensor([0, 1])
    images = maker.drawn(maker.styled(z, kinds), None)
    assert not torch.allclose(images[0], images[1])
    same = images[:1].expand(2, -1, -1, -1)
    told = judge(same, kinds)
    assert told.shape == (2,) and not torch.allclose(told[0], told[1])
    assert StyleForm.from_dict(form.to_dict()) == form


def test_halving_keeps_what_is_even_and_takes_the_mean_of_the_finest_grain():
    flat = torch.full((1, 2, 8, 8), 0.7)
    torch.testing.assert_close(_halved(flat), torch.full((1, 2, 4, 4), 0.7))
    board = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(4, 4)[None, None]
    assert _halved(board)[..., 1:-1, 1:-1].abs().max() < 1e-6


@pytest.mark.parametrize("channels", [1, 3])
def test_changes_come_by_chance_and_let_gradients_through(channels):
    torch.manual_seed(0)
    images = torch.rand(64, channels, 16, 16) * 2 - 1
    torch.testing.assert_close(changed(images, 0.0), images, atol=1e-5, rtol=1e-5)
    touched = (changed(images, 0.1) - images).flatten(1).abs().amax(dim=1) > 1e-3
    assert 0.3 < touched.float().mean() < 0.95
    wanted = images.clone().requires_grad_()
    changed(wanted, 0.8).sum().backward()
    assert wanted.grad is not None and wanted.grad.abs().sum() > 0


def test_what_has_an_upper_side_is_not_turned_around():
    torch.manual_seed(0)
    images = torch.full((200, 1, 16, 16), -1.0)
    images[:, :, :6] = 1.0
    kept = changed(images, 0.9, turns=False, mirror=False)
    above, below = kept[:, :, :8].mean(dim=(1, 2, 3)), kept[:, :, 8:].mean(dim=(1, 2, 3))
    assert (above >= below - 1e-4).float().mean() > 0.9
    free = changed(images, 0.9)
    assert (free[:, :, :8].mean(dim=(1, 2, 3)) < free[:, :, 8:].mean(dim=(1, 2, 3))).float().mean() > 0.2


def _bands(count: int, seed: int) -> torch.Tensor:
    """Images `(N, 1, 16, 16)` that vary along three wide directions, beside a little noise."""
    dice = torch.Generator().manual_seed(seed)
    rows = torch.linspace(-1, 1, 16)
    ways = torch.stack([rows[:, None].expand(16, 16), rows[None].expand(16, 16), rows[:, None] * rows[None]])
    lengths = torch.randn(count, 3, generator=dice) * torch.tensor([0.4, 0.2, 0.1])
    noise = 0.02 * torch.randn(count, 256, generator=dice)
    return (0.3 + lengths @ ways.flatten(1) + noise).view(count, 1, 16, 16)


@pytest.mark.parametrize("classes", [0, 2])
def test_what_has_learnt_nothing_draws_from_the_gaussian_of_the_images(classes):
    torch.manual_seed(0)
    net = Generator(StyleForm(16, 1, 8, 16, 16, 2, classes, directions=3)).eval()
    assert net.under is not None
    images = _bands(800, seed=1)
    kinds = torch.arange(4000) % 2 if classes else None
    given = {"styled": lambda z: net.styled(z, None if kinds is None else kinds.new_zeros(len(z))), "seed": 3}
    assert net.under.learn(iter(images.split(100)), **given) == 800
    with torch.no_grad():
        z = torch.randn(4000, 16)
        styles = net.styled(z, None if kinds is None else torch.zeros_like(kinds))
        noises = [torch.randn(shape) for shape in net.noise_shapes(4000)]
        drawn, plain = net.drawn(styles, noises).flatten(1), net.drawn(styles, None).flatten(1)
    real = _bands(4000, seed=2).flatten(1)
    torch.testing.assert_close(drawn.mean(dim=0), real.mean(dim=0), atol=0.08, rtol=0)
    spread, own = (torch.linalg.eigvalsh(torch.cov(one.T)).flip(0) for one in (real, drawn))
    torch.testing.assert_close(own[:3], spread[:3], atol=0, rtol=0.2)
    torch.testing.assert_close(own[3:].mean(), spread[3:].mean(), atol=0, rtol=0.15)
    assert torch.linalg.eigvalsh(torch.cov(plain.T)).flip(0)[3:].abs().max() < 1e-4  # what no direction tells is noise


def test_fewer_than_four_images_tell_nothing():
    torch.manual_seed(0)
    net = Generator(StyleForm(16, 1, 8, 16, 16, 2, directions=3))
    assert net.under is not None and net.under.learn([_bands(3, seed=1)], styled=net.styled, seed=0) == 3
    noises = [torch.randn(shape) for shape in net.noise_shapes(2)]
    assert not net.drawn(net.styled(torch.randn(2, 16)), noises).any()
    net.drawn(net.styled(torch.randn(2, 16)), noises).sum().backward()
    assert all(one.weight.grad.abs().sum() > 0 for one in net.shown)  # and it learns none the less
