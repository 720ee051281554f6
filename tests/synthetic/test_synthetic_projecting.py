"""Images that a generator drew are found again; the same ones each time; noise hides nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medgraft.generation.features import Features
from medgraft.nets.stylegan import Generator, StyleForm
from medgraft.synthetic.found_again import Search, _colour, _white, drawn_of, find_again

FORM = StyleForm(side=16, channels=1, width=8, widest=32, latent=16, layers=2, classes=2)


@pytest.fixture(scope="module")
def maker() -> Generator:
    torch.manual_seed(3)
    net = Generator(FORM)
    with torch.no_grad():
        for layer in net.mapping:  # a slow mapping that has learnt nothing yet would give one style for all
            layer.bias.normal_()
        for layer in net.layers:
            layer.strength.fill_(0.05)
        scale = net.drawn(net.styled(torch.randn(64, 16), torch.arange(64) % 2), None).std()
        for shown in net.shown:
            shown.weight.mul_(0.4 / scale)
    return net.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def features() -> Features:
    return Features(channels=1, offline=True)


def image_of(maker: Generator, seed: int, kind: int) -> np.ndarray:
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        style = maker.styled(torch.randn(1, 16, generator=draw), torch.tensor([kind]))
        noises = [torch.randn(shape, generator=draw) for shape in maker.noise_shapes(1)]
        return maker.drawn(style, noises)[0].clamp(-1, 1).numpy()


def test_what_was_drawn_is_found_again(maker: Generator, features: Features):
    image = image_of(maker, 5, 1)
    found = find_again(maker, features, image, search=Search(steps=25, kinds=(0, 1)), name="x")
    assert found.pixels[1] < 0.5 * found.pixels[0] and found.features[1] < 0.5 * found.features[0]
    measured = float(np.sqrt(np.mean((found.image - image) ** 2))) / 2
    assert measured == pytest.approx(found.pixels[1], rel=1e-3)
    np.testing.assert_allclose(drawn_of(maker, found.style, found.noises), found.image, atol=1e-6)
    assert found.style.shape == (16,) and [one.shape for one in found.noises] == [
        shape[2:] for shape in maker.noise_shapes(1)
    ]


def test_the_same_name_and_seed_find_the_same(maker: Generator, features: Features):
    image = image_of(maker, 6, 0)
    ends = [
        find_again(maker, features, image, search=Search(steps=4, seed=seed), name=name)
        for seed, name in ((0, "a"), (0, "a"), (0, "b"), (1, "a"))
    ]
    np.testing.assert_array_equal(ends[0].style, ends[1].style)
    np.testing.assert_array_equal(ends[0].noises[2], ends[1].noises[2])
    assert not np.array_equal(ends[0].style, ends[2].style) and not np.array_equal(ends[0].style, ends[3].style)


def test_a_search_may_begin_with_one_class_or_the_nearest(maker: Generator, features: Features):
    image = image_of(maker, 7, 1)
    alone = [find_again(maker, features, image, search=Search(steps=1, kinds=(kind,)), name="x") for kind in (0, 1)]
    free = find_again(maker, features, image, search=Search(steps=1, kinds=(0, 1)), name="x")
    begun = [one.features[0] + (2 * one.pixels[0]) ** 2 for one in alone]
    assert free.kind == int(np.argmin(begun)) and alone[1].kind == 1


def test_noise_is_kept_white():
    plain = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    slope = torch.linspace(-1, 1, 32).expand(1, 1, 32, 32)
    assert _colour(_white(slope)) > 50 * _colour(_white(plain))
    white = _white(3 * plain + 1)
    assert float(white.mean()) == pytest.approx(0, abs=1e-5)
    assert float(white.var(correction=0)) == pytest.approx(1, abs=1e-5)
