"""Maps computed again on the way back: the same gradients for less memory; and how much memory a plan foresees."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medgraft.nets.autoencoder import Autoencoder, CoderForm, coder_bytes
from medgraft.nets.denoiser import Denoiser, DenoiserForm, kept_bytes

FLAT = DenoiserForm(2, 1, (16, 32), blocks=1, classes=2, dropout=0.3)
SOLID = DenoiserForm(3, 2, (8, 16, 16), blocks=2, dropout=0.2, fold=2)


def stirred(form: DenoiserForm) -> Denoiser:
    torch.manual_seed(0)
    net = Denoiser(form)
    for one in net.parameters():
        nn.init.normal_(one, std=0.05)
    return net.train()


def gradients(net: Denoiser, x: torch.Tensor, *, again: bool) -> list[torch.Tensor]:
    net.again = again
    net.zero_grad()
    torch.manual_seed(7)  # dropout draws
    kinds = torch.tensor([0, 1]) if net.form.classes else None
    net(x, torch.tensor([0.2, 0.7]), kinds).square().mean().backward()
    return [one.grad.clone() for one in net.parameters() if one.grad is not None]


def kept(net: nn.Module, run) -> int:
    """Bytes that autograd keeps for the way back, each storage once, parameters left out."""
    own = {one.untyped_storage().data_ptr() for one in (*net.parameters(), *net.buffers())}
    seen: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        held = run()
    del held
    return sum(seen.values())


@pytest.mark.parametrize(("form", "shape"), [(FLAT, (1, 16, 16)), (SOLID, (2, 16, 16, 8))])
def test_computed_again_gradients_are_the_same_with_dropout(form, shape):
    net, x = stirred(form), torch.randn(2, *shape)
    plain, again = gradients(net, x, again=False), gradients(net, x, again=True)
    assert len(plain) == len(again) > 10 and any(one.abs().max() > 0 for one in plain)
    for one, two in zip(plain, again, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0)
    torch.manual_seed(8)
    net.again = False
    other = net(x, torch.tensor([0.2, 0.7]))
    torch.manual_seed(9)
    assert not torch.equal(other, net(x, torch.tensor([0.2, 0.7])))  # so dropout did draw


@pytest.mark.parametrize(("form", "shape"), [(FLAT, (1, 32, 32)), (SOLID, (2, 16, 16, 16))])
def test_less_is_kept_and_a_plan_knows_how_much(form, shape):
    net, x = stirred(form), torch.randn(2, *shape)
    bytes_ = {}
    for again in (False, True):
        net.again = again
        bytes_[again] = kept(net, lambda: net(x, torch.tensor([0.2, 0.7])))
    assert bytes_[True] < 0.5 * bytes_[False]
    assert 0.5 < kept_bytes(form, shape[1:], batch=2) / bytes_[False] < 1.5


@pytest.mark.parametrize(("form", "shape"), [(CoderForm(2, 3, 16, 4, 4), (3, 32, 32)), (CoderForm(3, 1, 8), (1,) * 4)])
def test_the_same_of_an_autoencoder(form, shape):
    torch.manual_seed(0)
    net = Autoencoder(form).train()
    x = torch.randn(2, *(shape if len(shape) == 3 else (1, 16, 16, 16)))
    found, bytes_ = {}, {}
    for again in (False, True):
        net.again = again
        net.zero_grad()
        bytes_[again] = kept(net, lambda: net.raw_back(net(x)[0]))
        net.raw_back(net(x)[0]).square().mean().backward()
        found[again] = [one.grad.clone() for one in net.parameters() if one.grad is not None]
    for one, two in zip(found[False], found[True], strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0)
    assert bytes_[True] < 0.6 * bytes_[False]
    assert 0.5 < coder_bytes(form, tuple(x.shape[2:]), batch=2) / bytes_[False] < 1.5


@pytest.mark.parametrize("width", [80, 100, 112])
def test_any_width_can_look_at_places(width):
    net = Denoiser(DenoiserForm(widths=(8, width), blocks=1))
    assert net(torch.zeros(2, 1, 16, 16), torch.rand(2)).shape == (2, 1, 16, 16)
