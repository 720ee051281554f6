"""Weight files as backbones, and the pre-trained head before any grafting."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from medgraft.errors import BadWeights
from medgraft.nets import classifier
from medgraft.nets.backbone import backbone
from medgraft.weights import tensors

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    from torchvision.models import squeezenet1_1

    torch.manual_seed(8)
    return squeezenet1_1(weights=None, num_classes=3).state_dict()


@pytest.mark.parametrize("name", ["mobilenet_v2", "squeezenet1_1"])
@torch.no_grad()
def test_the_head_it_came_with_names_photographs(shared, name):
    net, classes, spec = classifier(f"file:{shared(f'weights/{name}.safetensors')}", offline=True)
    assert len(classes) == 1000
    mean, std = torch.tensor(spec.mean).view(3, 1, 1), torch.tensor(spec.std).view(3, 1, 1)
    photographs = {"bird": "chickadee", "cat": "Egyptian cat", "dragonfly": "dragonfly", "sunflower": "daisy"}
    for photograph, wanted in photographs.items():
        with Image.open(shared(f"weights/check_images/{photograph}_224.png")) as image:
            pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1) / 255
        top = net(((pixels - mean) / std)[None]).softmax(1)[0].topk(5).indices.tolist()
        assert classes[top[0]].startswith(wanted)


def test_a_file_says_what_it_is(shared):
    path = shared("weights/mobilenet_v2.safetensors")
    net = backbone(f"file:{path}", image_size=96, offline=True)
    assert (net.architecture, net.licence) == ("torchvision:mobilenet_v2", "Apache-2.0")
    assert net.sha256 == tensors.sha256_file(path)
    assert (net.spec.mean, net.spec.size) == ((0.5, 0.5, 0.5), (96, 96))
    assert net.parameters_count == 2_223_872
    with pytest.warns(UserWarning, match="random numbers"):
        fresh = backbone(f"none:file:{path}", image_size=96)
    assert fresh.architecture == net.architecture
    assert fresh.spec == net.spec
    assert not torch.equal(next(fresh.parameters()), next(net.parameters()))


def test_the_head_of_another_number_of_classes_is_dropped_or_kept(tmp_path, state):
    spec = {"arch": "torchvision:squeezenet1_1", "size": [64, 64], "classes": ["x", "y", "z"]}
    tensors.save(tmp_path / "w.safetensors", state=state, words={"input_spec": json.dumps(spec)})
    assert backbone(str(tmp_path / "w.safetensors")).channels[-1] == 512
    net, classes, _ = classifier(f"file:{tmp_path / 'w.safetensors'}")
    assert classes == ("x", "y", "z")
    assert torch.equal(net.state_dict()["classifier.1.weight"], state["classifier.1.weight"])


def test_pth_files_are_opened_too(tmp_path, state):
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "w.pth")
    net = backbone(f"file:{tmp_path}/w.pth,arch=squeezenet1_1", image_size=64)
    assert torch.equal(net.get_parameter("encoder.stem.features_0.weight"), state["features.0.weight"])


def test_a_timm_file_is_stretched_to_another_image_size(tmp_path):
    import timm

    whole = timm.create_model("vit_tiny_patch16_224", img_size=96)
    tensors.save(tmp_path / "w.safetensors", state=whole.state_dict(), words={"arch": "timm:vit_tiny_patch16_224"})
    net = backbone(f"file:{tmp_path}/w.safetensors", image_size=64)
    assert dict(net.stages)["embed"].get_parameter("net.pos_embed").shape[1] == 17
    assert torch.equal(dict(net.stages)["embed"].get_parameter("net.cls_token"), whole.get_parameter("cls_token"))


def test_what_does_not_fit_is_named(tmp_path, state):
    def refuse(changed: dict[str, torch.Tensor], words: str) -> None:
        tensors.save(tmp_path / "w.safetensors", state=changed, words={"arch": "torchvision:squeezenet1_1"})
        with pytest.raises(BadWeights, match=words):
            backbone(f"file:{tmp_path}/w.safetensors", image_size=64)

    refuse(
        {k: v for k, v in state.items() if k != "features.0.weight"}, r"1 of 50 weights are missing, first features.0"
    )
    refuse(state | {"features.0.bias": torch.zeros(7)}, r"another shape, first features.0.bias: \(7,\) in the file")
    refuse(state | {"layer9.weight": torch.zeros(1)}, "1 do not belong to the net, first layer9.weight")
    refuse(
        state | {"features.0.bias": torch.full((64,), torch.nan)}, "features.0.bias hold numbers that are not finite"
    )


def test_a_file_without_architecture_asks_for_it(tmp_path, state):
    tensors.save(tmp_path / "w.safetensors", state=state, words={})
    with pytest.raises(BadWeights, match="arch="):
        backbone(f"file:{tmp_path}/w.safetensors")
    with pytest.raises(BadWeights, match="there is no such file"):
        backbone(f"file:{tmp_path}/absent.safetensors")


def test_random_numbers_have_no_classes():
    with pytest.raises(BadWeights, match="no classes"):
        classifier("none:timm:resnet10t")
