"""What every backbone does: stages in order, one level each, as stated."""

from __future__ import annotations

import pytest
import torch

from medgraft.errors import UnknownName
from medgraft.nets.backbone import Backbone, backbone
from medgraft.values import InputSpec

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:.*starts from random numbers")
SIZE = 64
NETS = ["none:timm:resnet10t", "none:timm:mobilenetv3_small_050", "none:torchvision:mobilenet_v2"]
each_net = pytest.mark.parametrize("name", NETS)


@pytest.fixture(scope="module")
def nets() -> dict[tuple[str, int], Backbone]:
    """Every net, for 1 and for 3 channels."""
    return {(name, count): backbone(name, channels=count, image_size=SIZE, seed=3) for name in NETS for count in (1, 3)}


def _pixels(channels: int, count: int = 2) -> torch.Tensor:
    return torch.randn(count, channels, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


@each_net
@pytest.mark.parametrize("channels", [1, 3])
def test_levels_are_as_stated(nets, name: str, channels: int):
    net = nets[name, channels]
    with torch.no_grad():
        levels = net(_pixels(channels))
    assert len(levels) == len(net.stages) == len(net.channels) == len(net.strides)
    for level, depth, stride in zip(levels, net.channels, net.strides, strict=True):
        assert level.shape == (2, depth, SIZE // stride, SIZE // stride)
    assert list(net.strides) == sorted(net.strides)


@each_net
def test_stages_can_be_run_in_pieces(nets, name: str):
    net = nets[name, 3]
    pixels = _pixels(3)
    with torch.no_grad():
        whole = net.run(pixels)
        for cut in range(len(net.stages) + 1):
            assert torch.equal(net.run(net.run(pixels, stop=cut), start=cut), whole)


@each_net
def test_stages_hold_every_parameter_once(nets, name: str):
    net = nets[name, 3]
    held = [id(p) for _, module in net.stages for p in module.parameters()]
    assert len(held) == len(set(held))
    assert set(held) == {id(p) for p in net.parameters()}
    assert net.parameters_count == sum(p.numel() for p in net.parameters())


@each_net
@pytest.mark.parametrize("channels", [1, 3])
def test_it_says_what_it_eats_and_where_it_came_from(nets, name: str, channels: int):
    net = nets[name, channels]
    assert isinstance(net.spec, InputSpec)
    assert net.spec.channels == channels and net.spec.size == (SIZE, SIZE)
    assert len(net.spec.mean) == len(net.spec.std) == channels
    assert net.name == name and net.architecture and net.source
    assert net.licence == "", "random numbers have no licence"
    assert not net.training


@each_net
def test_gray_is_the_same_as_three_equal_channels(nets, name: str):
    """One channel, folded into the first layer, gives what the gray image copied to RGB gives."""
    gray, colour = nets[name, 1], nets[name, 3]
    raw = torch.rand(2, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        one = gray.run(_normalised(raw, gray.spec))
        three = colour.run(_normalised(raw.expand(-1, 3, -1, -1), colour.spec))
    assert torch.allclose(one, three, atol=1e-3 * float(three.abs().max()))


@each_net
def test_the_seed_decides_random_weights(nets, name: str):
    again = backbone(name, image_size=SIZE, seed=3)
    other = backbone(name, image_size=SIZE, seed=4)
    mine = nets[name, 3].state_dict()
    assert all(torch.equal(tensor, mine[key]) for key, tensor in again.state_dict().items())
    assert any(not torch.equal(tensor, mine[key]) for key, tensor in other.state_dict().items())


@each_net
def test_opening_leaves_the_global_stream_alone(name: str):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    backbone(name, image_size=SIZE)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("name", ["timm:resnet1Ot", "torchvision:mobilnet_v2", "tim:resnet10t", "resnett10"])
def test_a_wrong_name_is_told_the_right_one(name: str):
    with pytest.raises(UnknownName) as caught:
        backbone(name, offline=True)
    assert caught.value.do


def _normalised(pixels: torch.Tensor, spec: InputSpec) -> torch.Tensor:
    shape = (1, spec.channels, 1, 1)
    return (pixels - torch.tensor(spec.mean).view(shape)) / torch.tensor(spec.std).view(shape)
