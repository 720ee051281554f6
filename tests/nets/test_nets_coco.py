"""torchvision's whole detector taken over: the same numbers in, the same numbers out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models.detection import fasterrcnn_resnet50_fpn
from torchvision.models.detection.image_list import ImageList

from medgraft.errors import BadWeights, Offline
from medgraft.nets.backbone import backbone
from medgraft.nets.coco import ENCODER, coco_form, fetch_detector, transplant
from medgraft.nets.detector import BoxHead

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:.*starts from random numbers")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory):
    """A detector of torchvision with random numbers, and its file; no weights can be downloaded here."""
    torch.manual_seed(3)
    net = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91).eval()
    for part in net.modules():
        if hasattr(part, "running_var"):
            part.running_var.uniform_(0.5, 2.0)
            part.running_mean.normal_(0, 0.1)
    path = tmp_path_factory.mktemp("coco") / "detector.safetensors"
    save_file(net.state_dict(), path)
    return net, path


def ours(path: Path, outputs: int = 3):
    net = backbone(ENCODER, image_size=128)
    head = BoxHead(net.channels, net.strides, outputs=outputs, form=coco_form(100)).eval()
    transplant(net, head, trained=fetch_detector(str(path), offline=True))
    return net, head


def test_it_gives_what_torchvision_gives_up_to_the_class_layer(theirs):
    net, path = theirs
    own, head = ours(path)
    pixels = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    images = ImageList(pixels, [(128, 128)])
    with torch.no_grad():
        maps = head.pyramid(own(pixels))
        wanted = net.backbone(pixels)
        for one, other in zip(maps, wanted.values(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
        first = head.finder.proposals.head(list(wanted.values()))
        second = net.rpn.head(list(wanted.values()))
        for mine, other in zip((*first[0], *first[1]), (*second[0], *second[1]), strict=True):
            torch.testing.assert_close(mine, other)
        anchors = head.finder.proposals.anchor_generator(images, list(wanted.values()))[0]
        torch.testing.assert_close(anchors, net.rpn.anchor_generator(images, list(wanted.values()))[0])
        boxes = [torch.tensor([[5.0, 5, 80, 90], [20, 30, 40, 60]])]
        pooled = net.roi_heads.box_roi_pool(wanted, boxes, [(128, 128)])
        named = {str(k): one for k, one in enumerate(wanted.values())}
        seen = head.finder.regions.box_head(head.finder.regions.box_roi_pool(named, boxes, [(128, 128)]))
        torch.testing.assert_close(seen, net.roi_heads.box_head(pooled), rtol=1e-4, atol=1e-4)


def test_the_class_layer_is_the_users(theirs):
    _, head = ours(theirs[1], outputs=2)
    assert head.finder.regions.box_predictor.head.cls_score.out_features == 3


def test_where_the_weights_came_from_is_known(theirs):
    own, _ = ours(theirs[1])
    assert own.source == "file detector.safetensors" and len(own.sha256) == 64


def test_other_files_and_no_network_are_said(theirs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MEDGRAFT_HOME", str(tmp_path / "home"))
    save_file({"fc.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(BadWeights, match="fasterrcnn_resnet50_fpn"):
        fetch_detector(str(tmp_path / "other.safetensors"), offline=True)
    with pytest.raises(BadWeights, match="no such file"):
        fetch_detector(str(tmp_path / "none.pth"), offline=True)
    with pytest.raises(Offline):
        fetch_detector("coco", offline=True)
    state = {key: value for key, value in theirs[0].state_dict().items() if "layer3.0" not in key}
    save_file(state, tmp_path / "cut.safetensors")
    with pytest.raises(BadWeights, match=r"layer3\.0.*missing"):
        ours(tmp_path / "cut.safetensors")
