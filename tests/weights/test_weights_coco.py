"""torchvision's whole detector by the name `coco`: downloaded by the real code from a server on loopback, and kept."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torchvision

import medgraft as mg
from medgraft.errors import BadWeights, Offline
from medgraft.nets.coco import fetch_detector
from medgraft.storage import home
from medgraft.weights import hub as downloads
from tiny_boxes import make_boxed_data

torch.set_num_threads(1)
SMALL = {"backbone.body.conv1.weight": torch.ones(4, 3, 3, 3), "rpn.head.cls_logits.bias": torch.zeros(3)}


def offer(hub: Any, monkeypatch: pytest.MonkeyPatch, state: dict[str, torch.Tensor]) -> tuple[Path, str]:
    """Serve a detector under a name with its hash, as torchvision does; get the served file and the hash."""
    folder = hub.root / "plain"
    folder.mkdir(exist_ok=True)
    torch.save(state, folder / "raw.pth")
    digest = hashlib.sha256((folder / "raw.pth").read_bytes()).hexdigest()
    served = (folder / "raw.pth").rename(folder / f"fasterrcnn_resnet50_fpn_coco-{digest[:8]}.pth")
    known = SimpleNamespace(COCO_V1=SimpleNamespace(url=f"{hub.address}/plain/{served.name}"))
    monkeypatch.setattr(torchvision.models.detection, "FasterRCNN_ResNet50_FPN_Weights", known)
    return served, digest


def test_the_detector_is_downloaded_once_and_stays_for_offline(hub, monkeypatch, request):
    served, digest = offer(hub, monkeypatch, SMALL)
    found = fetch_detector("coco", offline=False)
    assert found.sha256 == digest and found.origin.endswith(served.name)
    kept = home() / "hub" / "checkpoints" / served.name
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == digest
    assert hub.asked == [f"GET /plain/{served.name}"]
    request.getfixturevalue("no_sockets")
    again = [fetch_detector("coco", offline=offline) for offline in (False, True)]
    assert len(hub.asked) == 1 and {one.sha256 for one in again} == {digest}
    for one in (found, *again):
        assert one.state.keys() == SMALL.keys()
        assert all(torch.equal(one.state[key], tensor) for key, tensor in SMALL.items())


def test_offline_it_is_refused_without_a_socket(tmp_path, no_sockets):
    with pytest.raises(Offline, match="fasterrcnn_resnet50_fpn.*--offline"):
        fetch_detector("coco", offline=True)
    boxed = make_boxed_data(tmp_path / "boxed", count=8)
    with pytest.raises(Offline, match="fasterrcnn_resnet50_fpn.*--offline"):
        mg.train(boxed, out=tmp_path / "run", offline=True, settings={"boxes.weights": "coco"})


def test_a_damaged_download_is_refused_and_thrown_away_and_a_sound_one_is_taken(hub, monkeypatch):
    served, digest = offer(hub, monkeypatch, SMALL)
    whole = served.read_bytes()
    served.write_bytes(whole[:-100] + bytes(100))
    with pytest.raises(BadWeights, match=r"fasterrcnn_resnet50_fpn: the download is damaged.*Try again"):
        fetch_detector("coco", offline=False)
    address = f"{hub.address}/plain/{served.name}"
    assert not downloads.has_url(address) and not any(one.is_file() for one in (home() / "hub").rglob("*"))
    served.write_bytes(whole)
    found = fetch_detector("coco", offline=False)
    assert found.sha256 == digest and torch.equal(found.state["backbone.body.conv1.weight"], torch.ones(4, 3, 3, 3))


def test_a_file_that_was_cut_short_on_the_disk_is_refused(hub, monkeypatch):
    served, _ = offer(hub, monkeypatch, SMALL)
    fetch_detector("coco", offline=False)
    kept = home() / "hub" / "checkpoints" / served.name
    kept.write_bytes(kept.read_bytes()[:-200])
    with pytest.raises(BadWeights, match=served.name):
        fetch_detector("coco", offline=True)


def test_a_server_that_is_not_there_is_said(hub, monkeypatch):
    served, _ = offer(hub, monkeypatch, SMALL)
    known = SimpleNamespace(COCO_V1=SimpleNamespace(url=f"http://127.0.0.1:9/{served.name}"))
    monkeypatch.setattr(torchvision.models.detection, "FasterRCNN_ResNet50_FPN_Weights", known)
    with pytest.raises(Offline, match="cannot be reached"):
        fetch_detector("coco", offline=False)
