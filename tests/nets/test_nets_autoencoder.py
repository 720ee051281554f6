"""An autoencoder: what its latents are, what keeps them near to standard ones, and that it learns to give back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from medgraft.nets.autoencoder import Autoencoder, CoderForm, gaussian_excess
from medgraft.tasks.code import Code
from medgraft.values import Batch


@pytest.mark.parametrize(("form", "shape"), [(CoderForm(2, 3, 8, 4, 4), (3, 16, 24)), (CoderForm(3, 1, 8, 6, 2), None)])
def test_latents_are_small_and_come_back(form, shape):
    shape = shape or (1, 8, 16, 8)
    torch.manual_seed(0)
    net = Autoencoder(form).eval()
    images = torch.randn(2, *shape)
    with torch.no_grad():
        latents = net.folded(images)
        assert latents.shape == (2, *form.places(shape)) and latents.shape[1] == form.latent
        assert latents.shape[2:] == tuple(side // form.step for side in shape[1:])
        plain = net.unfolded(latents)
        net.centre.fill_(0.4)
        net.scale.fill_(2.5)
        torch.testing.assert_close(net.folded(images), (latents - 0.4) / 2.5)
        torch.testing.assert_close(net.unfolded((latents - 0.4) / 2.5), plain, atol=1e-5, rtol=1e-4)
    assert plain.shape == images.shape
    assert CoderForm.from_dict(form.to_dict()) == form


def test_the_excess_is_the_divergence_from_a_standard_gaussian():
    mean, spread = torch.tensor([0.0, 1.5, -2.0]), torch.tensor([0.0, -1.0, 0.7])
    known = kl_divergence(Normal(mean, (0.5 * spread).exp()), Normal(torch.zeros(3), torch.ones(3))).mean()
    torch.testing.assert_close(gaussian_excess(mean, spread), known)
    assert gaussian_excess(torch.zeros(4), torch.zeros(4)) == 0


def test_it_learns_to_give_images_back():
    torch.manual_seed(0)
    y, x = np.mgrid[:16, :16]
    discs = [np.where((y - 8) ** 2 + (x - place) ** 2 < 20, 0.8, -0.6) for place in range(3, 13)]
    batch = Batch(torch.tensor(np.array(discs), dtype=torch.float32)[:, None], tuple("abcdefghij"))
    task = Code(Autoencoder(CoderForm(2, 1, 8, 4, 2)))
    optimiser = torch.optim.AdamW(task.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        ((name, loss),) = task.losses(batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    meter = task.meter()
    meter.update(task.eval().predict(batch), np.zeros(10))
    spread = float((batch.pixels - batch.pixels.mean(dim=0)).abs().mean())  # what the mean image would leave
    assert name == "all" and losses[-1] < 0.3 * losses[0]
    assert meter.watch()[0] < spread
