"""Downloads, from a hub on loopback with the real client code, and their absence."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from medgraft.errors import BadWeights, Offline
from medgraft.nets.backbone import backbone
from medgraft.storage import home
from medgraft.weights import hub as downloads
from medgraft.weights import tensors

torch.set_num_threads(1)


def publish(folder: Path, *, name: str = "resnet10t", **changes: object) -> dict[str, torch.Tensor]:
    """Write a net the way timm writes it for the hub; get its weights."""
    import timm
    from timm.models import save_for_hf

    torch.manual_seed(5)
    net = timm.create_model(name, num_classes=4, **changes)  # type: ignore[arg-type]
    net.pretrained_cfg["license"] = "cc-by-4.0"
    config = {"label_names": ["a", "b", "c", "d"]}
    save_for_hf(net, folder, model_config=config, safe_serialization=True)
    return net.state_dict()


def same_stem(net: torch.nn.Module, state: dict[str, torch.Tensor]) -> bool:
    return torch.equal(net.get_parameter("encoder.stem.conv1_0.weight"), state["conv1.0.weight"])


def test_a_net_of_the_hub_is_loaded_and_stays_for_offline(hub, request):
    state = publish(hub.root / "owner" / "tiny")
    net = backbone("hf-hub:owner/tiny", image_size=32)
    assert same_stem(net, state)
    assert net.architecture == "timm:resnet10t"
    assert net.licence == "cc-by-4.0"
    assert net.source == "hf-hub:owner/tiny"
    file = (hub.root / "owner" / "tiny" / "model.safetensors").read_bytes()
    assert net.sha256 == hashlib.sha256(file).hexdigest()
    assert any((home() / "hub").rglob("model.safetensors"))
    request.getfixturevalue("no_sockets")
    asked = len(hub.asked)
    again = backbone("hf-hub:owner/tiny", image_size=32, offline=True)
    assert len(hub.asked) == asked
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))
    assert downloads.repositories() == {"owner/tiny"}


def test_the_head_of_a_net_of_the_hub_answers_with_its_own_classes(hub):
    from medgraft.nets import classifier

    state = publish(hub.root / "owner" / "tiny")
    net, classes, spec = classifier("hf-hub:owner/tiny")
    assert classes == ("a", "b", "c", "d")
    assert torch.equal(net.state_dict()["fc.weight"], state["fc.weight"])
    assert spec.size == (176, 176)


@pytest.mark.filterwarnings("ignore:.*random numbers")
def test_random_numbers_of_a_net_of_the_hub_read_no_weights(hub):
    state = publish(hub.root / "owner" / "tiny")
    net = backbone("none:hf-hub:owner/tiny", image_size=32)
    assert not same_stem(net, state)
    assert not any("safetensors" in path for path in hub.asked)


def test_timm_weights_come_from_the_hub_by_the_same_way(hub):
    state = publish(hub.root / "timm" / "resnet10t.c3_in1k")
    net = backbone("timm:resnet10t", image_size=32)
    assert same_stem(net, state)
    assert net.source == "hf-hub:timm/resnet10t.c3_in1k"


def test_a_vit_whose_first_weights_were_no_tensors_comes_from_the_hub_too(hub):
    state = publish(hub.root / "timm" / "vit_tiny_patch16_224.augreg_in21k_ft_in1k", name="vit_tiny_patch16_224")
    net = backbone("timm:vit_tiny_patch16_224", image_size=32)
    assert torch.equal(net.get_parameter("encoder.embed.net.cls_token"), state["cls_token"])


def test_offline_opens_no_socket_and_says_how_to_bring_the_weights(no_sockets):
    with pytest.raises(Offline, match="timm:resnet10t.*--offline.*file:"):
        backbone("timm:resnet10t", offline=True)
    with pytest.raises(Offline, match="hf-hub:owner/absent"):
        backbone("hf-hub:owner/absent", offline=True)
    with pytest.raises(Offline, match="torchvision:resnet18"):
        backbone("torchvision:resnet18", offline=True)


@pytest.mark.filterwarnings("ignore:.*random numbers")
def test_random_numbers_open_no_socket(no_sockets):
    assert backbone("none:timm:resnet10t", image_size=32, offline=True).channels[-1] == 512
    assert backbone("none:torchvision:squeezenet1_1", image_size=32).channels[-1] == 512


def test_what_the_hub_does_not_have_is_said(hub):
    (hub.root / "owner" / "empty").mkdir(parents=True)
    with pytest.raises(BadWeights, match=r"hf-hub:owner/empty: the hub has no config.json"):
        backbone("hf-hub:owner/empty")
    with pytest.raises(BadWeights, match="hf-hub:owner/nobody"):
        backbone("hf-hub:owner/nobody")


def test_a_hub_that_cannot_be_reached_is_said(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(Offline, match="cannot be reached"):
        downloads.fetch("owner/tiny", "config.json", name="hf-hub:owner/tiny", offline=False)


def test_a_damaged_file_of_the_hub_is_refused(hub):
    publish(hub.root / "owner" / "tiny")
    file = hub.root / "owner" / "tiny" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(BadWeights, match="damaged|cut short"):
        backbone("hf-hub:owner/tiny")


def test_torchvision_weights_come_from_their_address(hub, monkeypatch, request):
    import torchvision
    from torchvision.models import squeezenet1_1

    torch.manual_seed(6)
    state = squeezenet1_1(weights=None).state_dict()
    folder = hub.root / "plain"
    folder.mkdir()
    torch.save(state, folder / "raw.pth")
    digest = hashlib.sha256((folder / "raw.pth").read_bytes()).hexdigest()
    name = f"squeezenet1_1-{digest[:8]}.pth"
    (folder / "raw.pth").rename(folder / name)
    real = torchvision.models.SqueezeNet1_1_Weights.DEFAULT
    entry = SimpleNamespace(url=f"{hub.address}/plain/{name}", meta=real.meta, transforms=real.transforms)
    monkeypatch.setattr("medgraft.nets.torchvision_nets._weights_entry", lambda *_: entry)
    net = backbone("torchvision:squeezenet1_1", image_size=64)
    assert torch.equal(net.get_parameter("encoder.stem.features_0.weight"), state["features.0.weight"])
    assert net.sha256 == digest
    request.getfixturevalue("no_sockets")
    assert backbone("torchvision:squeezenet1_1", image_size=64, offline=True).sha256 == digest


def test_a_download_whose_hash_differs_is_thrown_away(hub):
    folder = hub.root / "plain"
    folder.mkdir()
    torch.save({"w": torch.ones(3)}, folder / "net-00000000.pth")
    address = f"{hub.address}/plain/net-00000000.pth"
    with pytest.raises(BadWeights, match="damaged"):
        downloads.fetch_url(address, name="torchvision:net", offline=False)
    assert not downloads.has_url(address)


def test_a_saved_file_is_loaded_with_its_architecture(tmp_path):
    import timm

    torch.manual_seed(7)
    state = timm.create_model("resnet10t").state_dict()
    tensors.save(tmp_path / "w.safetensors", state=state, words={})
    net = backbone(f"file:{tmp_path}/w.safetensors,arch=timm:resnet10t", image_size=32)
    assert same_stem(net, state)
