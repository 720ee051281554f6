"""Every family is cut exactly: the stages in a row give what the net's own feature extractor gives."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from medgraft.nets import LinearHead, timm_cut, torchvision_nets
from medgraft.nets.backbone import Backbone, backbone
from medgraft.nets.request import Opened
from medgraft.nets.stages import chain
from medgraft.values import InputSpec

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:.*random numbers")

TIMM = {
    "inception_v3": 96,
    "inception_v4": 96,
    "inception_resnet_v2": 96,
    "vgg11": 32,
    "resnet18": 64,
    "resnet10t": 64,
    "resnext26ts": 64,
    "densenet121": 64,
    "mobilenetv2_050": 64,
    "mobilenetv3_small_050": 64,
    "mobilenetv4_conv_small_035": 64,
    "efficientnet_lite0": 64,
    "tf_efficientnetv2_b0": 64,
    "convnext_atto": 64,
    "regnetx_002": 64,
    "vit_tiny_patch16_224": 64,
    "deit_tiny_patch16_224": 64,
    "deit_tiny_distilled_patch16_224": 64,
    "swin_tiny_patch4_window7_224": 64,
    "vit_small_patch14_dinov2": 56,
    "maxvit_rmlp_pico_rw_256": 64,
}
TIMM_HEAVY = {"swinv2_tiny_window8_256": 64, "vit_small_patch14_reg4_dinov2": 56, "vit_small_patch16_dinov3": 64}
TORCHVISION = {
    "googlenet": 64,
    "resnet18": 64,
    "resnext50_32x4d": 64,
    "densenet121": 64,
    "mobilenet_v2": 64,
    "mobilenet_v3_small": 64,
    "efficientnet_b0": 64,
    "convnext_tiny": 64,
    "regnet_x_400mf": 64,
    "squeezenet1_1": 64,
}
TORCHVISION_HEAVY = {
    "inception_v3": 96,
    "vgg11": 32,
    "vit_b_16": 32,
    "swin_t": 64,
    "maxvit_t": 224,
    "efficientnet_v2_s": 64,
}
# Compared when they are opened: families the cut does not know by name.
OTHERS = {"ghostnet_050": 64, "mixer_s32_224": 64, "levit_128s": 224}
OTHERS_HEAVY = {"hrnet_w18_small": 64, "beit_base_patch16_224": 64}


def pixels(size: int, channels: int = 3) -> torch.Tensor:
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(1))


def slow(*names: str) -> list[object]:
    return [pytest.param(name, marks=pytest.mark.slow) for name in names]


def opened(source: str, name: str, size: int) -> tuple[nn.Module, Backbone]:
    """Build a net and cut a copy of it, as opening it does: (whole, backbone)."""
    torch.manual_seed(3)
    if source == "timm":
        import timm

        cfg = timm.get_pretrained_cfg(name)
        spec = InputSpec((size, size), fixed_size=cfg.fixed_input_size)  # type: ignore[union-attr]
        whole = timm.create_model(name, num_classes=0, **({"img_size": size} if spec.fixed_size else {})).eval()
        stages = timm_cut.cut(copy.deepcopy(whole), spec)
    else:
        spec = InputSpec((size, size), fixed_size=name.startswith(("vit", "maxvit")))
        whole = torchvision_nets.build(name, (size, size), 10).eval()
        stages = torchvision_nets.cut(copy.deepcopy(whole), spec)
    return whole, Backbone(name, Opened(f"{source}:{name}", spec, tuple(stages))).eval()


def check_shapes(net: Backbone, size: int) -> None:
    levels = net(pixels(size))
    assert len(levels) == len(net.stages) == len(net.channels) == len(net.strides)
    for level, channels, stride in zip(levels, net.channels, net.strides, strict=True):
        assert level.ndim == 4
        assert level.shape[:2] == (2, channels)
        assert abs(level.shape[2] - size / stride) <= max(2.0, 0.4 * size / stride)
    assert net.strides == sorted(net.strides)
    logits = LinearHead(net.channels, 3)(levels)
    assert logits.shape == (2, 3)
    logits.square().sum().backward()
    assert all(p.grad is not None for p in dict(net.stages)[net.stages[-1][0]].parameters() if p.requires_grad)


def without_late_norm(net: Backbone) -> nn.Module:
    """Get the encoder without the norm that belongs between pooling and head."""
    parts = [(name, module) for name, module in net.stages[-1][1].named_children() if name not in ("head_norm", "norm")]
    return chain([(name, module) for name, module in net.stages[:-1]] + [("last", chain(parts))])


@pytest.mark.parametrize("name", [*TIMM, *slow(*TIMM_HEAVY)])
@torch.no_grad()
def test_timm_families_are_cut_exactly(name):
    size = (TIMM | TIMM_HEAVY)[name]
    whole, net = opened("timm", name, size)
    encoder = without_late_norm(net) if name.startswith("convnext") else net.run
    torch.testing.assert_close(encoder(pixels(size)), whole.forward_features(pixels(size)), rtol=1e-4, atol=1e-4)  # type: ignore[operator]
    assert 4 <= len(net.stages) <= 7
    with torch.enable_grad():
        check_shapes(net, size)


@pytest.mark.parametrize("name", [*TORCHVISION, *slow(*TORCHVISION_HEAVY)])
@torch.no_grad()
def test_torchvision_families_are_cut_exactly(name):
    size = (TORCHVISION | TORCHVISION_HEAVY)[name]
    whole, net = opened("torchvision", name, size)
    seen: list[torch.Tensor] = []
    head = next(getattr(whole, part) for part in ("fc", "heads", "head", "classifier") if hasattr(whole, part))
    before = whole.avgpool if name == "convnext_tiny" else head
    before.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    whole(pixels(size))
    level = net(pixels(size))[-1]
    wanted = head[0](seen[0]) if name == "convnext_tiny" else seen[0]
    if name == "vit_b_16":
        level = level[:, wanted.shape[1] :, 0, 0]
    if name.startswith("vgg"):
        level = nn.functional.adaptive_avg_pool2d(level, 7).flatten(1)
    if wanted.ndim == 2 and level.ndim == 4:
        level = level.mean((2, 3))
    torch.testing.assert_close(level, wanted, rtol=1e-4, atol=1e-4)
    assert 4 <= len(net.stages) <= 7
    with torch.enable_grad():
        check_shapes(net, size)


@pytest.mark.parametrize("name", [*OTHERS, *slow(*OTHERS_HEAVY)])
@torch.no_grad()
def test_other_families_work_in_stages_or_as_one(name):
    size = (OTHERS | OTHERS_HEAVY)[name]
    whole, net = opened("timm", name, size)
    if name != "beit_base_patch16_224":
        torch.testing.assert_close(net.run(pixels(size)), whole.forward_features(pixels(size)), rtol=1e-4, atol=1e-4)  # type: ignore[operator]
    assert all(level.shape[:2] == (2, count) for level, count in zip(net(pixels(size)), net.channels, strict=True))


def test_inception_v2_is_the_net_of_the_paper():
    from medgraft.nets.own_nets import InceptionV2

    net = backbone("none:inception_v2", image_size=64)
    assert net.architecture == "medgraft:inception_v2"
    assert (net.channels, net.strides) == ([64, 192, 320, 576, 1024], [2, 4, 8, 16, 32])
    # Table 1 of Szegedy et al. 2016 and the Caffe model give 11.2 million weights.
    assert sum(p.numel() for p in InceptionV2().parameters()) == 11_194_984
    check_shapes(net, 64)


@pytest.mark.parametrize("name", ["torchvision:mobilenet_v2", "timm:vit_tiny_patch16_224"])
@torch.no_grad()
def test_a_net_can_be_entered_at_any_stage(name):
    net = backbone(f"none:{name}", image_size=64)
    levels = net(pixels(64))
    for start in range(1, len(net.stages)):
        raw = net.run(pixels(64), stop=start)
        for got, wanted in zip(net(raw, start), levels[start:], strict=True):
            torch.testing.assert_close(got, wanted, rtol=0, atol=0)
        assert torch.equal(net.level(raw, start - 1), levels[start - 1])


def test_the_cut_does_not_depend_on_the_size_of_the_images():
    for name in ("timm:inception_v3", "torchvision:densenet121"):
        small, large = (backbone(f"none:{name}", image_size=size) for size in (96, 299))
        assert [list(m.state_dict()) for _, m in small.stages] == [list(m.state_dict()) for _, m in large.stages]
        assert (small.strides, small.channels) == (large.strides, large.channels)


def test_a_net_with_several_feature_maps_is_refused():
    from medgraft.errors import BadRecipe

    with pytest.raises(BadRecipe, match="several feature maps"):
        backbone("none:timm:crossvit_tiny_240")


def test_a_size_a_net_cannot_take_is_refused():
    from medgraft.errors import BadRecipe

    with pytest.raises(BadRecipe, match="maxvit"):
        backbone("none:torchvision:maxvit_t", image_size=100)
