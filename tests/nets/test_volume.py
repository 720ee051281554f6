"""A volume that is the same in every slice comes out as the picture does; what cannot be inflated is refused."""

from __future__ import annotations

import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from medgraft.errors import BadRecipe
from medgraft.nets import LinearHead, freeze, parameter_groups, train_mode
from medgraft.nets.backbone import Backbone, backbone
from medgraft.nets.depth import DepthPlan, plan_depth, window
from medgraft.nets.norms import recalibrate
from medgraft.nets.request import Opened, Stage
from medgraft.nets.solid import BUILDERS, SolidConv, SolidPool, kind
from medgraft.nets.volume import VolumeBackbone, inflate, pooled, volume_backbone
from medgraft.values import InputSpec

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:.*random numbers")
NETS = ["timm:resnet10t", "timm:resnet18", "torchvision:mobilenet_v2", "torchvision:squeezenet1_1"]
# Same padding and squeeze-and-excitation; norms that activate; blurs; a maximum with a border that is not counted.
MORE = ["timm:tf_efficientnetv2_b0", "timm:resnetblur18", "torchvision:googlenet"]
HEAVY = [
    "timm:densenet121",
    "timm:ecaresnet26t",
    "timm:mixnet_s",
    "timm:dla34",
    "timm:ghostnet_050",
    "torchvision:efficientnet_v2_s",
]


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def measured(name: str, channels: int = 3) -> Backbone:
    """Get a net whose norms have seen images, so that they do something."""
    net = backbone(f"none:{name}", image_size=64, channels=channels)
    if any(isinstance(module, nn.BatchNorm2d) for module in net.modules()):
        recalibrate(net, [noise(4, channels, 64, 64, seed=9)])
    return net


def of(module: nn.Module, *, channels: int = 3) -> Backbone:
    return Backbone("own", Opened("own", InputSpec((64, 64), channels), (Stage("stem", module),))).eval()


def check_same_slices(flat: Backbone, solid: VolumeBackbone, slices: int = 5) -> None:
    x = noise(2, flat.spec.channels, 64, 48)
    with torch.no_grad():
        wanted = flat(x)
        found = solid(x[:, :, None].expand(-1, -1, slices, -1, -1).contiguous())
    assert len(found) == len(wanted)
    for level, picture in zip(found, wanted, strict=True):
        tolerance = 1e-4 * float(picture.abs().max())
        torch.testing.assert_close(level, picture[:, :, None].expand_as(level), rtol=1e-3, atol=tolerance)


@pytest.mark.parametrize("name", NETS)
def test_equal_slices_give_the_picture_in_every_slice(name):
    flat = measured(name)
    check_same_slices(flat, inflate(flat))


@pytest.mark.parametrize("how", ["binomial", "centre"])
def test_they_do_however_kernels_are_spread(how):
    flat = measured("timm:resnet10t")
    check_same_slices(flat, inflate(flat, how=how))


@pytest.mark.parametrize("name", NETS)
def test_random_weights_as_they_come_do_too(name):
    flat = backbone(f"none:{name}", image_size=64, channels=1)
    check_same_slices(flat, inflate(flat, spacing_mm=(3.0, 1.0, 1.0)))


@pytest.mark.parametrize("name", [*MORE, *(pytest.param(name, marks=pytest.mark.slow) for name in HEAVY)])
def test_other_families_do_too(name):
    flat = measured(name)
    check_same_slices(flat, inflate(flat))


def test_real_weights_do_too(shared):
    flat = backbone(f"file:{shared('weights/mobilenet_v2.safetensors')}", channels=1, offline=True)
    solid = inflate(flat)
    check_same_slices(flat, solid, slices=3)
    assert (solid.sha256, solid.licence, solid.spec) == (flat.sha256, "Apache-2.0", flat.spec)


def test_a_kernel_is_spread_as_a_volume_convolution_has_it():
    flat = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
    x = noise(2, 4, 7, 9, 8)
    for how in ("spread", "binomial", "centre"):
        conv = SolidConv(flat, DepthPlan((2,)).at(0), how)
        assert conv.weight.shape == (6, 2, 3, 3, 3)
        torch.testing.assert_close(conv.weight.sum(2), flat.weight)
        whole = F.pad(F.pad(x, (0, 0, 0, 0, 1, 1), mode="replicate"), (1, 1, 1, 1, 0, 0))
        torch.testing.assert_close(conv(x), F.conv3d(whole, conv.weight, flat.bias, stride=2, groups=2))
    torch.testing.assert_close(conv.weight[:, :, 1], flat.weight)
    assert not conv.weight[:, :, ::2].any()


def test_poolings_are_those_of_volumes():
    x = noise(2, 3, 8, 9, 8)
    one = DepthPlan((2,)).at(0)
    for flat, wanted in (
        (nn.MaxPool2d(3, 2, 1), nn.MaxPool3d(3, 2, 1)),
        (nn.AvgPool2d(2), nn.AvgPool3d(2)),
        (nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False), nn.AvgPool3d(2, ceil_mode=True)),
        (nn.AdaptiveAvgPool2d(1), nn.AdaptiveAvgPool3d(1)),
    ):
        solid = BUILDERS[kind(flat)](flat, one, "spread")
        torch.testing.assert_close(solid(x), wanted(x))
    whole = SolidPool(nn.Identity(), shares=window("spread", 3), extent=3, stride=1, front=1)(x)
    torch.testing.assert_close(whole[:, :, 1:-1], (x[:, :, :-2] + x[:, :, 1:-1] + x[:, :, 2:]) / 3)
    torch.testing.assert_close(whole[:, :, 0], (2 * x[:, :, 0] + x[:, :, 1]) / 3)


@pytest.mark.parametrize("name", ["timm:resnet10t", "torchvision:squeezenet1_1"])
@torch.no_grad()
def test_centre_without_depth_strides_is_the_net_slice_by_slice(name):
    flat = measured(name)
    solid = inflate(flat, how="centre", depth_stride=[1] * (4 if "squeeze" in name else 5))
    x = noise(1, 3, 6, 64, 48)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    slices = flat(x[0].transpose(0, 1))
    for level, turned, wanted in zip(solid(x), solid(x[:, :, order]), slices, strict=True):
        tolerance = 1e-4 * float(wanted.abs().max())
        torch.testing.assert_close(level[0].transpose(0, 1), wanted, rtol=1e-3, atol=tolerance)
        torch.testing.assert_close(turned, level[:, :, order], rtol=1e-3, atol=tolerance)


@torch.no_grad()
def test_a_spread_net_sees_the_order_of_slices_but_not_the_direction():
    solid = inflate(measured("timm:resnet10t"), depth_stride=(1,) * 5)
    x = noise(1, 3, 6, 64, 48)
    wanted = solid(x)[-1]
    torch.testing.assert_close(solid(x.flip(2))[-1].flip(2), wanted, rtol=1e-3, atol=1e-4 * float(wanted.max()))
    turned = solid(x[:, :, [3, 0, 5, 1, 4, 2]])[-1]
    assert float((turned[:, :, [1, 3, 5, 0, 4, 2]] - wanted).abs().max()) > 0.01 * float(wanted.max())


@pytest.mark.parametrize(
    ("options", "deep"),
    [
        ({}, (2, 4, 8, 16, 32)),
        ({"depth_stride": (1, 1, 2, 2, 1)}, (1, 1, 2, 4, 4)),
        ({"spacing_mm": (5.0, 1.0, 1.0)}, (1, 1, 2, 4, 8)),
        ({"spacing_mm": (100.0, 1.0, 1.0)}, (1, 1, 1, 1, 1)),
    ],
)
def test_strides_are_as_stated(options, deep):
    net = volume_backbone("none:timm:resnet10t", size=(13, 64, 96), **options)
    assert net.strides == [(d, s, s) for d, s in zip(deep, (2, 4, 8, 16, 32), strict=True)]
    assert net.size == (13, 64, 96)
    assert net.spec.size == (64, 96)
    with torch.no_grad():
        levels = net(noise(1, 1, 13, 64, 96))
    for level, channels, (d, h, w) in zip(levels, net.channels, net.strides, strict=True):
        assert level.shape == (1, channels, -(-13 // d), 64 // h, 96 // w)


def test_a_single_slice_is_a_volume():
    net = volume_backbone("none:torchvision:googlenet", size=(1, 64, 64))
    assert all(level.shape[2] == 1 for level in net(noise(1, 1, 1, 64, 64)))


def test_depth_joins_in_as_nnunet_has_it():
    """By hand: at each halving the depth is halved if its spacing is below twice the finest."""
    for spacing, strides, reach in (
        ((1, 1, 1), (2, 2, 2, 2, 2), 0),
        ((1.9, 1, 1), (2, 2, 2, 2, 2), 0),
        ((2, 1, 1), (1, 2, 2, 2, 2), 1),
        ((5, 0.8, 1.6), (1, 1, 2, 2, 2), 2),
        ((0.5, 1, 1), (2, 2, 2, 2, 2), 0),
        ((40, 1, 1), (1, 1, 1, 1, 1), 5),
        ((64, 1, 1), (1, 1, 1, 1, 1), 6),
    ):
        assert plan_depth(5, spacing_mm=spacing) == DepthPlan(strides, reach), spacing


@torch.no_grad()
def test_far_slices_are_left_alone_until_depth_joins_in():
    flat = measured("timm:resnet10t")
    solid = inflate(flat, spacing_mm=(5.0, 1.0, 1.0))
    depths = {
        name: {m.kernel_size[0] for m in stage.modules() if isinstance(m, nn.Conv3d) and m.kernel_size[1] > 1}
        for name, stage in solid.stages
    }
    # The blocks of layer1 see pictures of 4 mm, so 5 mm between slices are near; nearer the pixels they are far.
    assert depths == {"stem": {1}, "layer1": {3}, "layer2": {3}, "layer3": {3}, "layer4": {3}}
    x = noise(1, 3, 6, 64, 64)
    found, wanted = solid(x)[0][0].transpose(0, 1), flat(x[0].transpose(0, 1))[0]
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"how": "smear"}, "smear"),
        ({"depth_stride": (1, 2)}, "5 times"),
        ({"depth_stride": (1, 2, 3, 2, 2)}, "each 1 or 2"),
        ({"spacing_mm": (1.0, 1.0)}, "spacing"),
        ({"spacing_mm": (0.0, 1.0, 1.0)}, "spacing"),
        ({"spacing_mm": (1.0,) * 3, "depth_stride": (2,) * 5}, "one of them"),
        ({"size": (16, 32)}, "size of a volume"),
    ],
)
def test_wrong_options_are_refused(options, said):
    with pytest.raises(BadRecipe, match=said):
        volume_backbone("none:timm:resnet10t", **options)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("timm:vit_tiny_patch16_224", "embed .TimmEmbed"),
        ("timm:convnext_atto", "ConvNeXtBlock"),
        ("torchvision:shufflenet_v2_x0_5", "stage2_0 .InvertedResidual. works on pictures only"),
        ("timm:skresnet18", r"conv1.attn .SelectiveKernelAttn"),
    ],
)
def test_a_net_that_cannot_be_inflated_is_refused_with_the_module(name, module):
    with pytest.raises(BadRecipe, match=module) as caught:
        inflate(backbone(f"none:{name}", channels=1))
    assert "slice by slice" in str(caught.value)


class _Gate(nn.Module):
    """What squeeze-and-excitation does, written for pictures."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(x.mean((2, 3), keepdim=True))


class _Block(nn.Module):
    """A block whose last norm is zero, as residual blocks start: the gate before it cannot be heard."""

    def __init__(self, gate: nn.Module) -> None:
        super().__init__()
        self.conv, self.gate, self.norm = nn.Conv2d(3, 3, 3, padding=1), gate, nn.BatchNorm2d(3)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.norm(self.gate(self.conv(x)))


class _Wrap(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _Gate()(self.inside(x))


def test_an_unknown_module_is_refused_by_name():
    with pytest.raises(BadRecipe, match=r"stem.gate .* has no form for volumes"):
        inflate(of(_Block(_Gate())))


def test_a_step_for_pictures_is_found_though_nothing_fails_and_its_norm_is_zero():
    net = of(_Block(_Wrap()))
    with pytest.raises(BadRecipe, match=r"stem.gate \(_Wrap\) gives something else"):
        inflate(net)
    assert not net.get_submodule("encoder.stem.norm").weight.any()


def test_strange_padding_is_refused():
    with pytest.raises(BadRecipe, match="reflect"):
        inflate(of(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), nn.ReLU())))


@pytest.mark.parametrize("gray", ["folded", "repeated"])
@torch.no_grad()
def test_gray_volumes_give_what_their_rgb_copies_give(gray):
    rgb = volume_backbone("none:timm:resnet10t", channels=3, size=(4, 64, 64))
    one = inflate(backbone("none:timm:resnet10t", channels=1, image_size=64, gray=gray))
    assert one.gray == gray
    raw = torch.rand(1, 1, 4, 64, 64, generator=torch.Generator().manual_seed(2))
    mean, std = torch.tensor(rgb.spec.mean).view(1, 3, 1, 1, 1), torch.tensor(rgb.spec.std).view(1, 3, 1, 1, 1)
    wanted = rgb((raw - mean) / std)[-1]
    got = one((raw - one.spec.mean[0]) / one.spec.std[0])[-1]
    torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


def test_halves_of_precision_do_not_spoil_the_trial():
    net = inflate(backbone("none:timm:resnet10t", image_size=64).bfloat16())
    assert {p.dtype for p in net.parameters()} == {torch.bfloat16}


def test_the_backbone_is_left_as_it_was_and_so_is_the_global_stream():
    flat = measured("timm:resnet10t")
    before = {name: value.clone() for name, value in flat.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    solid = inflate(flat)
    assert torch.equal(torch.rand(3), expected)
    recalibrate(solid, [noise(2, 3, 8, 64, 64)])
    assert flat.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in flat.state_dict().items())
    assert all(len(module._forward_pre_hooks) == 0 for module in flat.modules())
    assert not solid.training
    assert not {id(p) for p in solid.parameters()} & {id(p) for p in flat.parameters()}


def test_the_same_name_gives_the_same_net():
    one, two = (volume_backbone("none:timm:resnet10t", size=(8, 32, 32), seed=4) for _ in range(2))
    state = two.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in one.state_dict().items())
    x = noise(1, 1, 8, 32, 32)
    assert torch.equal(one.run(x), two.run(x))
    assert torch.equal(one.run(one.run(x, stop=2), start=2), one.run(x))


def test_frozen_stages_stay_what_they_were():
    net = volume_backbone("none:timm:resnet10t", size=(8, 32, 32))
    assert freeze(net, thawed=2) == 3
    train_mode(net, thawed=2)
    head = nn.Linear(sum(net.channels[-3:]) + net.channels[-1], 2)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    optimiser = torch.optim.AdamW(parameter_groups(net, head, thawed=2, lr=0.1, weight_decay=0.1))
    head(pooled(net(noise(4, 1, 8, 32, 32)))).square().sum().backward()
    optimiser.step()
    changed = {name.split(".")[1] for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"layer3", "layer4"}
    train_mode(net, thawed=5, frozen_norms=True)
    assert not any(module.training for module in net.modules() if isinstance(module, nn.BatchNorm3d))


def test_every_slice_of_every_kernel_learns():
    net = volume_backbone("none:timm:resnet10t", how="centre").train()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.weight, 0.5, 1.5)  # a norm that starts at zero lets nothing through
    pooled(net(noise(2, 1, 40, 40, 40))).square().mean().backward()
    for path, parameter in net.named_parameters():
        assert parameter.grad is not None, path
        if parameter.ndim == 5:
            assert bool((parameter.grad.abs().sum((0, 1, 3, 4)) > 0).all()), path


def test_a_linear_head_takes_volumes():
    net = volume_backbone("none:timm:resnet10t", size=(8, 32, 32))
    levels = net(noise(2, 1, 8, 32, 32))
    head = LinearHead(net.channels, 3, pooling="levels")
    assert head(levels).shape == (2, 3)
    torch.testing.assert_close(head.features(levels), pooled(levels))


def test_features_are_the_averages_and_the_largest_values():
    levels = [
        torch.full((1, 9, 4, 4, 4), 7.0),
        torch.ones(1, 2, 2, 2, 2),
        torch.zeros(1, 1, 2, 1, 1),
        torch.zeros(1, 2, 1, 1, 2),
    ]
    levels[3][0, 1] = torch.tensor([3.0, 5.0])
    assert pooled(levels).tolist() == [[1.0, 1.0, 0.0, 0.0, 4.0, 0.0, 5.0]]
    assert torch.equal(pooled([level[:, :, 0] for level in levels]), pooled(levels))


def test_the_example_of_the_guide_runs(monkeypatch, tmp_path):
    page = Path(__file__).resolve().parents[2] / "docs" / "guide" / "volumes.md"
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert blocks
    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(0).random((6, 20, 30, 28)).astype(np.float32)
    for k, row in enumerate(rows):
        _write_nifti(tmp_path / f"scan{k}.nii.gz", row)
    scope: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(page), "exec"), scope)
    assert scope["features"].shape[0] == 6  # type: ignore[attr-defined]


def _write_nifti(path: Path, volume: np.ndarray) -> None:
    nibabel.save(nibabel.Nifti1Image(volume.T, np.diag([1.0, 1.0, 3.0, 1.0])), path)
