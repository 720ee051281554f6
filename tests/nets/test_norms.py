"""Statistics of BatchNorm measured anew: exact over all batches, and given back to a net that was folded."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medgraft.errors import BadData, BadRecipe
from medgraft.nets import has_folded_norms, recalibrate, unfold_norms
from medgraft.nets.backbone import Encoder, backbone

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:.*random numbers")


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def folded() -> Encoder:
    """Get a small net as a file of folded weights leaves it: mean 0, variance 1, and biases that say something."""
    torch.manual_seed(1)
    net = Encoder(
        "folded",
        {
            "one": nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()),
            "two": nn.Sequential(nn.Conv2d(4, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        },
    ).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias)
    return net


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, nn.BatchNorm3d])
def test_statistics_are_those_of_all_batches_together(norm):
    net = Encoder("norm", {"one": norm(3)})
    x = noise(7, 3, 4, 5, *([6] if norm is nn.BatchNorm3d else [])) * 3 + 100
    assert recalibrate(net, x.split([4, 2, 1])) == 7
    values = x.transpose(0, 1).flatten(1).double()
    stored = dict(net.named_buffers())
    torch.testing.assert_close(stored["encoder.one.running_mean"].double(), values.mean(1), rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(stored["encoder.one.running_var"].double(), values.var(1), rtol=1e-5, atol=1e-5)


def test_a_deep_net_is_measured_behind_its_new_statistics():
    net = backbone("none:timm:resnet10t", image_size=32)
    x = noise(8, 3, 64, 64) * 5 + 3
    recalibrate(net, [x])
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    seen: list[torch.Tensor] = []
    for module in norms:
        module.register_forward_hook(lambda norm, given, out: seen.append(out - norm.bias[:, None, None]))
        nn.init.ones_(module.weight)
    recalibrate(net, [x])
    seen.clear()
    with torch.no_grad():
        net.run(x)
    assert len(seen) == len(norms)
    for out in seen:
        out = out.transpose(0, 1).flatten(1)
        varied = out.std(1) > 1e-3
        torch.testing.assert_close(out.mean(1)[varied], torch.zeros(int(varied.sum())), rtol=0, atol=0.05)
        torch.testing.assert_close(out.std(1)[varied], torch.ones(int(varied.sum())), rtol=0.05, atol=0.05)


def test_modes_hooks_and_momenta_are_as_before():
    net = backbone("none:timm:resnet10t", image_size=32)
    stem = dict(net.stages)["stem"].train()
    modes = [module.training for module in net.modules()]
    recalibrate(net, [noise(2, 3, 64, 64)])
    assert [module.training for module in net.modules()] == modes
    assert any(module.training for module in stem.modules())
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {norm.momentum for norm in norms} == {0.1}
    assert not any(module._forward_pre_hooks for module in net.modules())


@torch.no_grad()
def test_a_folded_net_gets_statistics_and_does_what_it_did():
    net, x = folded(), noise(4, 1, 24, 24) * 2 + 1
    assert has_folded_norms(net)
    wanted = net.run(x)
    with pytest.raises(BadRecipe, match="folded"):
        recalibrate(net, [x])
    assert unfold_norms(net, x.split(3)) == 4
    assert not has_folded_norms(net)
    torch.testing.assert_close(net.run(x), wanted, rtol=1e-4, atol=1e-4)
    # Measured on the same images, the statistics are the same, so nothing changes; on others, something does.
    recalibrate(net, [x])
    torch.testing.assert_close(net.run(x), wanted, rtol=2e-3, atol=2e-3)
    recalibrate(net, [x * 5])
    torch.testing.assert_close(net.run(x * 5), wanted, rtol=2e-3, atol=2e-3)


def test_no_images_or_too_few_values_are_refused():
    net = backbone("none:timm:resnet10t", image_size=32)
    for act in (recalibrate, unfold_norms):
        with pytest.raises(BadData, match="no images"):
            act(net, [])
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(BadData, match="larger batches"):
        recalibrate(net, [noise(4, 3, 64, 64), noise(1, 3, 32, 32)])
    assert not net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
