"""Names a user types: what they open, and what is said when they open nothing."""

from __future__ import annotations

import json

import pytest
import torch

from medgraft.errors import BadRecipe, BadWeights, UnknownName
from medgraft.nets import default_backbone, list_backbones
from medgraft.nets.backbone import backbone
from medgraft.nets.sources import resolve
from medgraft.weights import catalogue, tensors

torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("typed", "full"),
    [
        ("resnet18", "timm:resnet18"),
        ("resnet18.a1_in1k", "timm:resnet18.a1_in1k"),
        ("squeezenet1_1", "torchvision:squeezenet1_1"),
        ("inception_v1", "torchvision:googlenet"),
        ("none:inception_v2", "none:medgraft:inception_v2"),
        ("none:mobilenet_v2", "none:torchvision:mobilenet_v2"),
        ("hf-hub:owner/name", "hf-hub:owner/name"),
    ],
)
def test_names_resolve(typed, full):
    assert resolve(typed) == full


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("resnet_18", "Did you mean timm:resnet"),
        ("timm:resnet_18", "Did you mean resnet"),
        ("torchvision:mobilenetv2", "Did you mean mobilenet_v2"),
        ("tim:resnet18", "Known: timm"),
        ("timm:resnet18.nobody", "Leave the tag out"),
        ("torchvision:resnet18.NOBODY", "Known: IMAGENET1K_V1"),
        ("medgraft:inception_v9", "Known: inception_v2"),
        ("embedded:nobody", "there is no embedded encoder"),
    ],
)
def test_a_name_that_opens_nothing_gets_a_hint(typed, hint):
    with pytest.raises(UnknownName, match=hint):
        backbone(typed, offline=True)


def test_random_numbers_depend_on_the_seed_alone():
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    with pytest.warns(UserWarning, match="random numbers"):
        one = backbone("none:timm:resnet10t", image_size=32, seed=1)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(12)
    with pytest.warns(UserWarning, match="random numbers"):
        same, other = (backbone("none:timm:resnet10t", image_size=32, seed=seed) for seed in (1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert (one.licence, one.sha256, one.source) == ("", "", "random numbers")


def test_channels_other_than_one_and_three_are_refused():
    with pytest.raises(BadRecipe, match="not 2"):
        backbone("none:timm:resnet10t", channels=2)


def test_inception_v2_says_that_nobody_has_weights_of_it():
    with pytest.raises(BadWeights, match="no trained weights"):
        backbone("inception_v2")


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """Put an encoder where a release would ship it."""
    import timm

    torch.manual_seed(4)
    spec = {"arch": "timm:resnet10t", "image_size": 128, "mean": [0.5] * 3, "std": [0.25] * 3, "licence": "Apache-2.0"}
    words = {"input_spec": json.dumps(spec | {"source": "made here", "rank": 1})}
    net = timm.create_model("resnet10t", num_classes=0)
    tensors.save(tmp_path / "tiny.safetensors", state=net.state_dict(), words=words)
    words = {"input_spec": json.dumps(spec | {"rank": 2})}
    tensors.save(tmp_path / "another.safetensors", state=net.state_dict(), words=words)
    monkeypatch.setattr(catalogue, "EMBEDDED", tmp_path)
    return net.state_dict()


def test_a_shipped_encoder_becomes_the_default(shipped):
    assert resolve("auto") == "embedded:tiny"
    net = backbone("auto", image_size=32, offline=True)
    assert (net.name, net.architecture, net.source) == ("embedded:tiny", "timm:resnet10t", "made here")
    assert (net.spec.mean, net.spec.std) == ((0.5,) * 3, (0.25,) * 3)
    assert torch.equal(net.get_parameter("encoder.stem.conv1_0.weight"), shipped["conv1.0.weight"])
    assert default_backbone() == {"name": "embedded:tiny", "architecture": "timm:resnet10t"}
    assert [row["name"] for row in list_backbones("embedded")] == ["embedded:tiny", "embedded:another"]


def test_without_a_shipped_encoder_auto_starts_from_random_numbers_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "EMBEDDED", tmp_path)
    assert default_backbone() == {"name": "none:timm:resnet10t", "architecture": "timm:resnet10t"}
    with pytest.warns(UserWarning, match="random numbers, not from trained weights"):
        backbone("auto", image_size=32, offline=True)


def test_the_list_states_what_the_libraries_state():
    rows = {row["name"]: row for row in list_backbones()}
    assert len(rows) > 1000
    assert rows["torchvision:mobilenet_v2"]["top1"] == 72.154
    assert rows["torchvision:mobilenet_v2"]["parameters"] == 3_504_872
    assert rows["torchvision:mobilenet_v2"]["input"] == [224, 224]
    assert rows["timm:resnet18"]["parameters"] == 11_689_512
    assert rows["timm:resnet18"]["licence"] == "apache-2.0"
    assert rows["timm:resnet18"]["top1"] is None
    assert not rows["timm:resnet18"]["offline"]
    assert {row["name"] for row in list_backbones("inception_v1")} == {"torchvision:googlenet"}
    json.dumps(list(rows.values()), allow_nan=False)


def test_counts_of_parameters_are_those_of_the_nets():
    import timm

    rows = {row["name"]: row for row in list_backbones("timm:")}
    for name in ("resnet10t", "vit_tiny_patch16_224", "mobilenetv4_conv_small", "convnext_atto"):
        with torch.device("meta"):
            net = timm.create_model(name)
        assert rows[f"timm:{name}"]["parameters"] == sum(p.numel() for p in net.parameters())
