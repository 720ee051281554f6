"""What stands in the way of inflation is named rightly, however a net is wired, and nothing passes unheard."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

from medgraft.errors import BadData, BadRecipe
from medgraft.nets import train_mode
from medgraft.nets.backbone import Backbone, backbone
from medgraft.nets.depth import DepthPlan, Site, depth_padding
from medgraft.nets.request import Opened, Stage
from medgraft.nets.solid import BUILDERS, SolidConv, kind
from medgraft.nets.volume import inflate, volume_backbone
from medgraft.values import InputSpec

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:.*random numbers")


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def of(*modules: nn.Module) -> Backbone:
    stages = tuple(Stage(f"stage{k}", module) for k, module in enumerate(modules))
    return Backbone("own", Opened("own", InputSpec((64, 64), 3), stages)).eval()


class _Gate(nn.Module):
    """Squeeze-and-excitation written for pictures, in a module with a part."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.inside(x)
        return x * torch.sigmoid(x.mean((2, 3), keepdim=True))


class _Unpack(nn.Module):
    """A pooling that gives two results."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv2d(3, 4, 3), nn.MaxPool2d(2, return_indices=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pool(self.conv(x))[0]


class _OneRelu(nn.Module):
    """A block that uses one activation twice, with the culprit in between."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate, self.last = nn.Conv2d(3, 3, 3, padding=1), _Gate(), nn.Conv2d(3, 3, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.last(self.gate(self.relu(self.conv(x)))))


class _ZeroNorm(nn.Module):
    """A block whose last norm starts at zero and is no BatchNorm."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.conv, self.gate, self.norm = nn.Conv2d(3, 3, 3, padding=1), _Gate(), norm
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.norm(self.gate(self.conv(x)))


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (_OneRelu(), r"stage0.gate \(_Gate\) gives something else"),
        (_ZeroNorm(nn.GroupNorm(1, 3)), r"stage0.gate \(_Gate\) gives something else"),
        (_Unpack(), r"stage0.pool \(MaxPool2d\) works on pictures only"),
    ],
)
def test_the_culprit_is_named(module, said):
    with pytest.raises(BadRecipe, match=said):
        inflate(of(module))


def test_a_pooling_in_several_stages_is_refused_where_depth_asks_different_of_it():
    """One MaxPool2d used at each level, as hand-written nets have it."""
    pool = nn.MaxPool2d(2)
    flat = of(*(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(), pool) for _ in range(3)))
    for options in ({}, {"depth_stride": (1, 1, 1)}):
        net = inflate(flat, **options)
        depths = [level.shape[2] for level in net(noise(1, 3, 16, 64, 64))]
        assert depths == [16 // deep for deep, _, _ in net.strides]
    with pytest.raises(BadRecipe, match="stage0.2 .MaxPool2d. is used at several resolutions"):
        inflate(flat, spacing_mm=(3.0, 1.0, 1.0))


def test_slices_too_small_for_the_net_are_refused():
    with pytest.raises(BadRecipe, match="own takes no slices of 64 x 64 pixels.*larger"):
        inflate(of(nn.Conv2d(3, 3, 65, stride=2)))


@pytest.mark.parametrize("name", ["timm:legacy_seresnet18", "timm:hgnetv2_b0"])
def test_more_gates_and_scales_are_known(name):
    assert inflate(backbone(f"none:{name}", channels=1)).channels


@pytest.mark.parametrize(
    ("kernel", "padding", "dilation", "reached"),
    [
        (3, 1, 1, [3, 4, 5]),
        (3, 0, 1, [3, 4, 5]),  # padded along depth though not in the plane
        (3, 2, 2, [2, 4, 6]),
        (2, 0, 1, [3, 4]),
        ((5, 3), (2, 1), 1, [3, 4, 5]),
        ((3, 5), (1, 2), 1, [3, 4, 5]),
        ((1, 7), (0, 3), 1, [4]),
        ((7, 1), (3, 0), 1, [4]),
    ],
)
@torch.no_grad()
def test_a_kernel_reaches_as_far_before_as_behind(kernel, padding, dilation, reached):
    flat = nn.Conv2d(2, 3, kernel, padding=padding, dilation=dilation, bias=False)
    nn.init.uniform_(flat.weight, 0.5, 1.0)
    x = torch.zeros(1, 2, 9, 12, 12)
    x[:, :, 4] = 1.0
    out = SolidConv(flat, DepthPlan(()).at(0), "spread")(x)
    assert out.shape[2] == 9
    assert out.sum((0, 1, 3, 4)).nonzero().flatten().tolist() == reached


def test_depth_is_padded_where_the_picture_is():
    for slices in range(1, 12):
        for extent, stride, front in ((3, 1, 1), (3, 2, 1), (7, 2, 3), (1, 2, 0), (2, 2, 0), (4, 2, 1), (3, 2, 0)):
            before, behind = depth_padding(slices, extent=extent, stride=stride, dilation=1, front=front)
            out = F.max_pool1d(torch.zeros(1, 1, before + slices + behind), extent, stride)
            assert out.shape[2] == -(-slices // stride)
            assert before == front or (front == 0 and before == (before + behind) // 2), (slices, extent, stride)


def _pooled_slices(flat: nn.Module, site: Site, values: torch.Tensor) -> list[float]:
    """Get what a pooling makes of slices of one value each."""
    x = values.view(1, 1, -1, 1, 1).expand(1, 3, -1, 8, 8)
    out = BUILDERS[kind(flat)](flat, site, "spread")(x)
    assert torch.equal(out.amax((0, 1, 3, 4)), out.amin((0, 1, 3, 4)))
    return out[0, 0, :, 0, 0].tolist()


def test_poolings_mix_slices_where_kernels_may():
    values = torch.tensor([8.0, 0.0, 4.0, 0.0, 0.0])
    halved, whole, inside = DepthPlan((2,)).at(0), DepthPlan((1,)).at(0), DepthPlan((1,), reach_from=1).at(0)
    keeps = nn.MaxPool2d(3, 1, 1)
    assert _pooled_slices(keeps, whole, values) == [8.0, 8.0, 4.0, 4.0, 0.0]
    assert _pooled_slices(keeps, inside, values) == values.tolist()
    blur = timm.layers.BlurPool2d(3, filt_size=3, stride=2)
    assert _pooled_slices(blur, halved, values) == [6.0, 2.0, 0.0]
    assert _pooled_slices(blur, halved, values[:4]) == [6.0, 2.0]
    assert _pooled_slices(blur, whole, values) == values.tolist()
    assert _pooled_slices(nn.MaxPool2d(2), whole, values) == values.tolist()
    assert _pooled_slices(nn.AdaptiveMaxPool2d(1), whole, values) == [8.0]


def test_strides_along_depth_follow_those_of_the_picture():
    assert [Site((2, 2, 2), True).stride(step) for step in (1, 2, 3, 4)] == [1, 2, 3, 4]
    assert [Site((1, 2, 2), True).stride(step) for step in (1, 2, 3, 4)] == [1, 1, 2, 2]


def test_norms_and_dropout_go_on_as_they_were():
    flat = timm.layers.BatchNormAct2d(3, eps=0.01, momentum=0.3, act_layer=nn.SiLU)
    flat.drop = nn.Dropout(1.0)
    site = DepthPlan(()).at(0)
    norm = BUILDERS[kind(flat)](flat, site, "spread")
    assert (norm.eps, norm.momentum, type(norm.act), norm.drop) == (0.01, 0.3, nn.SiLU, flat.drop)
    assert not norm(noise(2, 3, 4, 4, 4)).any()
    assert int(norm.num_batches_tracked) == int(flat.num_batches_tracked) == 1
    assert BUILDERS[kind(nn.Dropout2d())](nn.Dropout2d(0.3), site, "spread").p == 0.3


def test_modes_and_frozen_weights_are_kept():
    flat = backbone("none:timm:resnet10t", image_size=64)
    train_mode(flat, thawed=2)
    flat.encoder["layer4"].requires_grad_(False)
    net = inflate(flat)
    assert [{part.training for part in stage.modules()} for _, stage in net.stages] == [{False}] * 3 + [{True}] * 2
    learns = [{parameter.requires_grad for parameter in stage.parameters()} for _, stage in net.stages]
    assert learns == [{True}] * 4 + [{False}]
    assert not net.training
    assert inflate(flat.train()).training


@pytest.mark.parametrize("shape", [(1, 16, 32, 32), (1, 3, 16, 32, 32), (1, 1, 0, 32, 32)])
def test_what_is_no_batch_of_volumes_is_refused(shape: tuple[int, ...]) -> None:
    net = volume_backbone("none:timm:resnet10t", size=(16, 32, 32))
    for call in (net, net.run):
        with pytest.raises(BadData, match=r"takes \(N, 1, D, H, W\), not a tensor of shape"):
            call(torch.zeros(shape))


def test_wrong_options_are_refused_before_weights_are_looked_for() -> None:
    with pytest.raises(BadRecipe, match="no way to inflate"):
        volume_backbone("timm:no_such_net", how="sideways")
    with pytest.raises(BadRecipe, match="no spacing"):
        volume_backbone("timm:no_such_net", spacing_mm=(0.0, 1.0, 1.0))
