"""Nets that draw, in bfloat16 as an engine casts them: losses are finite, gradients flow, images stay images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from medgraft.learn.engine import Engine
from medgraft.nets.autoencoder import Autoencoder, CoderForm
from medgraft.nets.denoiser import DenoiserForm
from medgraft.nets.gaussian import Gaussian
from medgraft.nets.stylegan import StyleForm
from medgraft.tasks.answers import Answers
from medgraft.tasks.base import Task
from medgraft.tasks.code import Code
from medgraft.tasks.diffuse import Diffuse
from medgraft.tasks.stylegan import Play, Stylegan
from medgraft.values import Batch

CLASSES = Answers(classes=("a", "b"))


class Means(nn.Module):
    """Features of images that need no encoder."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.float().flatten(2).mean(dim=2)


def batch(shape: tuple[int, ...]) -> Batch:
    pixels = torch.rand(4, *shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return Batch(pixels, ("k", "l", "m", "n"), torch.tensor([0, 1, 0, 1]))


def diffuse(*, coder: Autoencoder | None = None, again: bool = False) -> Diffuse:
    channels = 1 if coder is None else coder.form.latent
    task = Diffuse(DenoiserForm(2, channels, (8, 16), 1, 1, 2, 0.1), CLASSES, side=16, coder=coder)
    task.net.again = again
    for one in task.net.parameters():  # its last layer would begin at zero
        nn.init.normal_(one, std=0.05)
    return task


def stylegan() -> Stylegan:
    return Stylegan(StyleForm(16, 1, 8, 16, 16, 2, 2), CLASSES, play=Play(gamma=1.0), features=Means())


def code() -> Code:
    return Code(Autoencoder(CoderForm(2, 1, 8, 4, 2)))


@pytest.mark.parametrize("made", [diffuse, lambda: diffuse(again=True), stylegan, code])
def test_losses_in_bfloat16_are_near_those_in_float32(made):
    losses: dict[str, list[float]] = {}
    for precision in ("fp32", "bf16"):
        torch.manual_seed(0)
        task: Task = made().train()
        engine = Engine("cpu", precision=precision)
        torch.manual_seed(1)
        found, steps = task.losses(batch((1, 16, 16))), []
        while True:
            with engine.autocast():
                named = next(found, None)
            if named is None:
                break
            engine.backward(named[1])
            steps.append(float(named[1].detach()))
        grads = [one.grad for one in task.parameters() if one.grad is not None]
        assert grads and all(torch.isfinite(one).all() for one in grads)
        assert any(bool(one.any()) for one in grads) and all(one.dtype == torch.float32 for one in grads)
        losses[precision] = steps
    np.testing.assert_allclose(losses["bf16"], losses["fp32"], rtol=0.05)


def test_images_drawn_in_bfloat16_are_near_those_in_float32():
    engine = Engine("cpu", precision="bf16")
    torch.manual_seed(0)
    task, noise, kinds = diffuse().eval(), torch.randn(2, 1, 16, 16), torch.tensor([0, 1])
    *_, plain = task.drawn(noise, kinds, steps=3, guidance=0.5)
    with engine.autocast():
        *_, made = task.drawn(noise, kinds, steps=3, guidance=0.5)
        predicted = task.predict(batch((1, 16, 16)))
    assert made.dtype == torch.float32 and (made - plain).abs().mean() < 0.02
    assert all(np.isfinite(one.logits).all() for one in predicted)
    plays = stylegan().eval()
    with engine.autocast():
        predicted = plays.predict(batch((1, 16, 16)))
    meter = plays.meter()
    meter.update(predicted, np.zeros(4))
    assert np.isfinite(meter.watch()).all()


def test_a_net_of_latents_goes_in_and_out():
    torch.manual_seed(0)
    coder = Autoencoder(CoderForm(2, 1, 8, 4, 4)).requires_grad_(False)
    coder.scale.fill_(3.0)
    task = diffuse(coder=coder)
    assert task.latent and task.shape_of((1, 16, 16)) == (4, 4, 4)
    images = batch((1, 16, 16)).pixels
    latents = task.inside(images)
    torch.testing.assert_close(latents, coder(images)[0] / 3)
    assert task.outside(latents).shape == images.shape
    *_, drawn = task.drawn(10 * torch.randn(2, 4, 4, 4), steps=2)
    assert drawn.abs().max() > 1  # latents are not kept in -1..1
    plain = diffuse()
    assert not plain.latent and plain.inside(images) is images and plain.outside(images) is images
    assert plain.shape_of((1, 16, 16)) == (1, 16, 16)


class _Marked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mark", torch.zeros(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert self.mark.device == images.device
        return torch.zeros(len(images), 3)


def test_what_judges_is_where_the_images_are():
    task = Stylegan(StyleForm(16, 1, 8, 16, 8, 2), Answers(), play=Play(), features=_Marked()).to("meta")
    batch = Batch(torch.zeros(2, 1, 16, 16, device="meta"), ("a", "b"), None)
    assert len(task.predict(batch)) == 2


def test_a_net_that_has_learnt_nothing_says_what_the_gaussian_foresees():
    form = DenoiserForm(2, 1, (8, 16), 1, 1, 2, 0.0)
    plain = Diffuse(form, CLASSES, side=16)
    told = Diffuse(form, CLASSES, side=16, gaussian=Gaussian((1, 16, 16), 4))
    images = torch.linspace(-1, 1, 16).expand(64, 1, 16, 16) * torch.linspace(-1, 1, 64).view(-1, 1, 1, 1)
    batches = [Batch(part, tuple("abcdefgh"), torch.zeros(8, dtype=torch.long)) for part in images.split(8)]
    assert plain.measure(batches) == 0 and told.measure(batches) == 64
    one = batches[2]
    errors = [np.mean([float(said.value or 0) for said in task.eval().predict(one)]) for task in (plain, told)]
    # One direction holds all that differs, and its variance is known: hardly any error is left.
    assert errors[1] < 0.05 * errors[0]
    torch.manual_seed(0)
    *_, drawn = told.drawn(torch.randn(64, 1, 16, 16), torch.zeros(64, dtype=torch.long), steps=32)
    slopes = (drawn[:, 0, :, -1] - drawn[:, 0, :, 0]).mean(dim=1) / 2
    assert float(drawn.std(dim=2).mean()) < 0.05  # every row of an image is alike
    assert float(slopes.std()) == pytest.approx(float(torch.linspace(-1, 1, 64).std()), rel=0.35)


@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_stylegan_begins_from_the_images_it_is_shown_and_its_slopes_are_finite(spread):
    torch.manual_seed(0)
    task = Stylegan(StyleForm(16, 1, 8, 16, 16, 2, 2, directions=3), CLASSES, play=Play(gamma=1.0), features=Means())
    pixels = 0.2 + spread * torch.randn(8, 1, 1, 1).expand(8, 1, 16, 16)  # alike, or brighter and darker
    batch = Batch(pixels, tuple("abcdefgh"), torch.arange(8) % 2)
    assert task.measure([batch]) == 8
    for _, loss in task.losses(batch):
        loss.backward()
    slopes = [one.grad for one in task.maker.parameters() if one.grad is not None]
    assert slopes and all(bool(torch.isfinite(one).all()) for one in slopes)
    (made, *_) = [task.maker.drawn(task.maker.styled(torch.randn(64, 16), torch.arange(64) % 2), None)]
    known = task.maker.under is not None and task.maker.under.gaussian.known
    assert known == (spread > 0) and bool((made.mean() - 0.2).abs() < 0.2)
