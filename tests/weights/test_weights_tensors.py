"""Tensors in files: what is written comes back, what is damaged is refused, nothing runs."""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path

import pytest
import torch

from medgraft.errors import BadWeights
from medgraft.weights import catalogue, tensors

STATE = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1], dtype=torch.int64)}


def raw(path: Path, header: bytes, body: bytes = b"", length: int | None = None) -> Path:
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + body)
    return path


def test_a_model_comes_back_with_its_card(tmp_path):
    card = {"task": "classify", "classes": ["ä", "b"], "temperature": 1.5}
    tensors.save_model(tmp_path / "model.safetensors", state=STATE, card=card)
    state, found = tensors.load_model(tmp_path / "model.safetensors")
    assert found == card
    assert all(torch.equal(state[name], STATE[name]) for name in STATE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.safetensors"]


def test_tensors_that_share_memory_or_are_views_are_written(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    tensors.save(tmp_path / "w.safetensors", state={"a": base, "b": base, "c": base.t()}, words={})
    assert torch.equal(tensors.load(tmp_path / "w.safetensors")["c"], base.t())


@pytest.mark.parametrize("keep", [0, 4, 8, 60, -1])
def test_a_file_cut_short_is_refused(tmp_path, keep):
    path = tmp_path / "w.safetensors"
    tensors.save(path, state=STATE, words={"x": "y"})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BadWeights):
        tensors.load(path)


def test_headers_that_lie_are_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    tensor = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    hostile = {
        "too long": (b"{}", 10**12),
        "no json": (b"{]", None),
        "no table": (b"[1, 2]", None),
        "deep": (b"[" * 100_000, None),
        "beyond the end": (json.dumps({"a": tensor | {"data_offsets": [0, 800]}}).encode(), None),
        "shape": (json.dumps({"a": tensor | {"shape": [2**40, 2**40]}}).encode(), None),
        "kind": (json.dumps({"a": tensor | {"dtype": "F33"}}).encode(), None),
    }
    for header, length in hostile.values():
        with pytest.raises(BadWeights):
            tensors.load(raw(path, header, b"\0" * 8, length))


def test_caps_hold(tmp_path, monkeypatch):
    monkeypatch.setattr(tensors, "MAX_TENSORS", 1)
    tensors.save(tmp_path / "w.safetensors", state=STATE, words={})
    with pytest.raises(BadWeights, match="2 tensors, more than the 1"):
        tensors.load(tmp_path / "w.safetensors")
    monkeypatch.setattr(tensors, "MAX_HEADER_BYTES", 10)
    with pytest.raises(BadWeights, match="more than the 10 allowed"):
        tensors.metadata(tmp_path / "w.safetensors")


class Bomb:
    """Unpickled without care, it makes a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return Path.touch, (self.canary,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", ["w.pth", "w.pt", "w.bin", "w.ckpt", "w.safetensors", "w.pkl"])
def test_no_pickle_runs(tmp_path, name):
    canary = tmp_path / "canary"
    for written in (
        lambda path: torch.save({"w": Bomb(canary)}, path),
        lambda p: p.write_bytes(pickle.dumps(Bomb(canary))),
    ):
        written(tmp_path / name)
        with pytest.raises(BadWeights):
            tensors.load(tmp_path / name)
        with pytest.raises(BadWeights):
            tensors.load_model(tmp_path / name)
        assert not canary.exists()


def test_a_pth_without_weights_is_refused(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(BadWeights, match="no weights"):
        tensors.load(tmp_path / "w.pth")


def test_a_file_of_foreign_weights_is_no_model(tmp_path):
    tensors.save(tmp_path / "w.safetensors", state=STATE, words={})
    with pytest.raises(BadWeights, match="no card"):
        tensors.load_model(tmp_path / "w.safetensors")
    with pytest.raises(BadWeights, match="no such file"):
        tensors.load_model(tmp_path / "absent.safetensors")


def test_the_header_of_a_weight_file_is_read(tmp_path):
    (tmp_path / "names.txt").write_text("cat\ndog\n", encoding="utf-8")
    spec = {
        "arch": "timm:resnet18",
        "image_size": 160,
        "mean": [0.1, 0.2, 0.3],
        "std": [1, 1, 1],
        "classes": "names.txt",
    }
    facts = catalogue.stated({"input_spec": json.dumps(spec)}, where=tmp_path / "w.safetensors")
    assert facts["classes"] == ["cat", "dog"]
    assert facts["input_spec"] == {"size": [160, 160], "mean": [0.1, 0.2, 0.3], "std": [1.0, 1.0, 1.0]}
    away = catalogue.stated({"input_spec": json.dumps(spec | {"classes": "../names.txt"})}, where=tmp_path / "w")
    assert "classes" not in away
    for bad in ("{", '"text"', '{"mean": [1, 2]}', '{"image_size": "wide"}'):
        with pytest.raises(BadWeights, match="input_spec"):
            catalogue.stated({"input_spec": bad}, where=tmp_path / "w.safetensors")
