"""Pyramids and detectors on encoders of every kind, and what ignored boxes teach: nothing."""

from __future__ import annotations

import pytest
import torch

from medgraft.errors import BadRecipe
from medgraft.nets.backbone import backbone
from medgraft.nets.detector import ARMS, BoxHead, FinderForm
from medgraft.nets.pyramid import Pyramid

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:.*starts from random numbers")
NETS = ["none:timm:resnet10t", "none:torchvision:mobilenet_v2", "none:timm:test_vit", "none:timm:test_convnext"]


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("wanted", [(8, 16, 32), (4, 8), (16, 32, 64)])
def test_a_pyramid_has_the_strides_that_were_asked_for(name: str, wanted: tuple[int, ...]):
    net = backbone(name, image_size=128)
    pyramid = Pyramid(net.channels, net.strides, wanted=wanted, width=32)
    maps = pyramid(net(torch.zeros(2, 3, 128, 128)))
    assert [tuple(one.shape) for one in maps] == [(2, 32, 128 // s, 128 // s) for s in wanted]
    assert all(one.dtype == torch.float32 for one in maps)


def test_strides_that_do_not_double_are_refused():
    with pytest.raises(ValueError, match="double"):
        Pyramid([8, 8], [8, 16], wanted=(8, 32))


def test_an_arm_that_is_not_there_is_refused():
    with pytest.raises(BadRecipe, match="yolo"):
        BoxHead([8], [8], outputs=1, form=FinderForm(arm="yolo"))


def head_of(arm: str, outputs: int = 2) -> tuple[torch.nn.Module, BoxHead]:
    net = backbone("none:timm:resnet10t", image_size=128, seed=1)
    torch.manual_seed(0)
    return net, BoxHead(net.channels, net.strides, outputs=outputs, form=FinderForm(arm=arm, strides=(8, 16), width=32))


def target(boxes: list[list[float]], labels: list[int], ignored: list[list[float]] | None = None) -> dict:
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "ignored": torch.tensor(ignored or [], dtype=torch.float32).reshape(-1, 4),
    }


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("bf16", [False, True])
def test_every_parameter_learns_and_empty_images_count(arm: str, bf16: bool):
    net, head = head_of(arm)
    pixels = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    head.train()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss = head.losses(net(pixels), pixels, targets=[target([[20, 20, 60, 60]], [1]), target([], [])])
    assert loss.dtype == torch.float32 and torch.isfinite(loss)
    loss.backward()
    still = [name for name, one in head.named_parameters() if one.grad is None or not one.grad.abs().sum() > 0]
    assert not still, f"never taught: {still}"


@pytest.mark.parametrize("arm", ARMS)
def test_what_is_found_lies_inside_has_a_class_and_comes_in_order(arm: str):
    net, head = head_of(arm)
    head.eval()
    pixels = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for found in head.found(net(pixels), pixels):
            assert (found["boxes"] >= 0).all() and (found["boxes"] <= 128).all()
            assert set(found["labels"].tolist()) <= {0, 1}
            assert (found["scores"].diff() <= 0).all()
            assert len(found["boxes"]) <= 100


def test_places_on_ignored_boxes_teach_nothing():
    """A one-stage net is deterministic: its loss with an ignored box is that without the background there."""
    net, head = head_of("fcos", outputs=1)
    head.train()
    pixels = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        levels = net(pixels)
        plain = head.losses(levels, pixels, targets=[target([[8, 8, 40, 40]], [0])])
        quiet = head.losses(levels, pixels, targets=[target([[8, 8, 40, 40]], [0], [[64, 64, 128, 128]])])
        everywhere = head.losses(levels, pixels, targets=[target([[8, 8, 40, 40]], [0], [[0, 0, 128, 128]])])
    assert everywhere < quiet < plain


def test_proposals_and_regions_pass_over_ignored_boxes():
    _, head = head_of("faster_rcnn", outputs=1)
    anchors = torch.tensor([[0.0, 0, 20, 20], [50, 50, 70, 70], [100, 100, 120, 120]])
    one = target([[0, 0, 20, 20]], [1], [[48, 48, 72, 72]])
    (labels,), _ = head.finder.proposals.assign_targets_to_anchors([anchors], [one])
    assert labels.tolist() == [1.0, -1.0, 0.0]
    head.train()
    torch.manual_seed(0)
    kept, _, marks, _ = head.finder.regions.select_training_samples([anchors], [one])
    assert [50.0, 50, 70, 70] not in kept[0].tolist() and marks[0].tolist().count(1) == 2
