"""Freezing, rates and the names of depths."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medgraft.errors import BadRecipe
from medgraft.nets import LinearHead, depth_names, freeze, parameter_groups, train_mode
from medgraft.nets.backbone import Backbone, backbone

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:.*random numbers")


@pytest.fixture
def net() -> Backbone:
    return backbone("none:timm:resnet10t", image_size=32)


def test_depths_are_named_from_the_head_down(net):
    assert depth_names(net) == ["head", "layer4", "layer3", "layer2", "layer1", "stem"]


def test_frozen_stages_stay_what_they_were(net):
    assert freeze(net, thawed=2) == 3
    train_mode(net, thawed=2)
    head = LinearHead(net.channels, 2)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    groups = parameter_groups(net, head, thawed=2, lr=0.1, weight_decay=0.1)
    optimiser = torch.optim.AdamW(groups)
    head(net(torch.randn(4, 3, 32, 32))).square().sum().backward()
    optimiser.step()
    changed = {name.split(".")[1] for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"layer3", "layer4"}
    statistics = {name for name, value in net.state_dict().items() if "running_mean" in name}
    moved = {name for name in statistics if not torch.equal(net.state_dict()[name], before[name])}
    assert {name.split(".")[1] for name in moved} == {"layer3", "layer4"}


def test_every_thawed_parameter_is_in_one_group(net):
    head = LinearHead(net.channels, 2)
    groups = parameter_groups(net, head, thawed=5, lr=1.0, head_lr=3.0, layer_decay=0.5, weight_decay=0.1)
    listed = [id(p) for group in groups for p in group["params"]]
    assert len(listed) == len(set(listed))
    assert set(listed) == {id(p) for p in [*net.parameters(), *head.parameters()]}
    rates = {group["name"].removesuffix(" (no decay)"): group["lr"] for group in groups}
    assert rates == {"head": 3.0, "layer4": 1.0, "layer3": 0.5, "layer2": 0.25, "layer1": 0.125, "stem": 0.0625}
    for group in groups:
        shapes = {p.ndim for p in group["params"]}
        assert shapes == {1} if group["weight_decay"] == 0.0 else 1 not in shapes


def test_class_tokens_and_positions_do_not_decay():
    net = backbone("none:timm:vit_tiny_patch16_224", image_size=32)
    groups = parameter_groups(net, nn.Identity(), thawed=5, lr=1.0, weight_decay=0.1)
    plain = {id(p) for group in groups if group["weight_decay"] == 0.0 for p in group["params"]}
    embed = dict(net.stages)["embed"]
    assert id(embed.get_parameter("net.cls_token")) in plain
    assert id(embed.get_parameter("net.pos_embed")) in plain
    assert id(embed.get_parameter("net.patch_embed.proj.weight")) not in plain


def test_the_head_alone_has_only_its_own_groups(net):
    freeze(net, thawed=0)
    train_mode(net, thawed=0)
    assert not any(p.requires_grad for p in net.parameters())
    assert not any(module.training for _, module in net.stages)
    groups = parameter_groups(net, LinearHead(net.channels, 2), thawed=0, lr=1.0)
    assert [group["name"] for group in groups] == ["head", "head (no decay)"]


def test_frozen_norms_keep_their_statistics_in_thawed_stages(net):
    train_mode(net, thawed=5, frozen_norms=True)
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert not any(m.training for m in norms)


def test_a_depth_beyond_the_net_is_refused(net):
    with pytest.raises(BadRecipe, match="has 5"):
        freeze(net, thawed=6)


@pytest.mark.parametrize("pooling", ["avg", "levels"])
def test_a_head_pools_as_asked(net, pooling):
    head = LinearHead(net.channels, 3, pooling=pooling)
    levels = net(torch.randn(2, 3, 64, 64))
    averages = [level.mean((2, 3)) for level in levels]
    wanted = {"avg": averages[-1:], "levels": [*averages[-3:], levels[-1].amax((2, 3))]}[pooling]
    assert torch.equal(head.features(levels), torch.cat(wanted, dim=1))
    assert head(levels).shape == (2, 3) and head.width == sum(head.widths) == sum(part.shape[1] for part in wanted)


def test_a_head_takes_what_levels_there_are():
    head = LinearHead([8, 4], 2, pooling="levels")
    assert head.widths == (8, 8) and LinearHead([8], 2, pooling="levels").widths == (16,)
    assert head([torch.randn(2, 8, 6, 6), torch.randn(2, 4, 3, 3)]).shape == (2, 2)


def test_features_are_standardised_before_they_are_weighed():
    head = LinearHead([4], 2)
    features = torch.randn(5, 4)
    plain = head.logits(features)
    assert torch.equal(plain, head.linear(features))  # until it is set, nothing changes
    head.standard.put(torch.full((4,), 3.0), torch.tensor([2.0, 0.0, 1.0, 4.0]))
    assert head.standard.spread.tolist() == [2, 1, 1, 4]
    torch.testing.assert_close(head.logits(features * torch.tensor([2.0, 1.0, 1.0, 4.0]) + 3), plain)
    assert {"standard.centre", "standard.spread"} <= set(head.state_dict())


def test_pooling_in_another_way_keeps_what_else_the_head_holds(net):
    head = LinearHead(net.channels, 1)
    head.register_parameter("cuts", nn.Parameter(torch.arange(3.0)))
    head.pool("levels")
    assert head.get_parameter("cuts").tolist() == [0, 1, 2]
    assert head(net(torch.randn(2, 3, 32, 32))).shape == (2, 1)


def test_an_unknown_pooling_is_refused():
    with pytest.raises(BadRecipe, match="median"):
        LinearHead([8], 2, pooling="median")
