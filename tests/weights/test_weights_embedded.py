"""The encoders that come with medgraft: whole, honest about where they came from, and better than random numbers."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from medgraft.files import read_pixels
from medgraft.nets.backbone import Backbone, backbone
from medgraft.nets.norms import recalibrate
from medgraft.values import ImageRef
from medgraft.weights import catalogue
from medgraft.weights.tensors import load, metadata
from pretraining.export import fingerprint

ROWS = catalogue.embedded()
NAMES = [str(row["name"]) for row in ROWS]


def test_there_is_one_and_auto_takes_the_best() -> None:
    assert ROWS
    assert catalogue.default_name() == min(ROWS, key=lambda row: row["rank"])["name"]


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_the_header_says_where_the_weights_came_from(row: dict) -> None:
    told = json.loads(metadata(row["path"])["provenance"])
    assert told["tensors_sha256"] == fingerprint(load(row["path"]))
    assert told["views"] > 100_000
    assert isinstance(told["seed"], int)
    assert row["licence"] == "Apache-2.0"
    assert "no photograph" in row["source"]
    log = row["path"].with_suffix(".log.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(log[0])["event"] == "begin"


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_half_precision_holds_them(row: dict) -> None:
    state = load(row["path"])
    assert all(bool(tensor.isfinite().all()) for tensor in state.values())
    assert all(tensor.dtype == torch.float32 for name, tensor in state.items() if "running" in name)


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_the_list_counts_what_can_be_trained(row: dict) -> None:
    net = backbone(str(row["name"]), channels=3, image_size=128, offline=True)
    assert row["parameters"] == sum(p.numel() for p in net.parameters())


def test_all_of_them_fit_into_a_small_wheel() -> None:
    assert sum(row["path"].stat().st_size for row in ROWS) < 19e6


def features(net: Backbone, pixels: torch.Tensor) -> np.ndarray:
    recalibrate(net, pixels[:120].split(60))
    with torch.no_grad():
        found = [torch.cat([level.mean((2, 3)) for level in net(part)[-3:]], 1) for part in pixels.split(60)]
    return torch.cat(found).numpy()


@pytest.mark.parametrize("name", NAMES)
def test_a_probe_on_real_images_beats_random_numbers(name: str, shared: Callable[[str], Path]) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    table = shared("data/brain_tumor_mri/manifest.csv")
    with open(table, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["label"] in ("no_tumor", "glioma_tumor")]
    rows = [rows[k] for k in np.random.default_rng(0).permutation(len(rows))[:240]]
    words = {"size": (96, 96), "channels": 1, "fit": "pad"}
    images = np.stack([read_pixels(ImageRef(table.parent / row["path"]), **words) for row in rows])
    truth = np.array([row["label"] == "glioma_tumor" for row in rows])
    scores = []
    for word in (name, f"none:{name}"):
        net = backbone(word, channels=1, image_size=96, offline=True)
        scale = np.float32(np.iinfo(images.dtype).max)
        pixels = (torch.from_numpy(images.astype(np.float32) / scale) - net.spec.mean[0]) / net.spec.std[0]
        found = features(net, pixels)
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
        chances = model.fit(found[:120], truth[:120]).predict_proba(found[120:])[:, 1]
        scores.append(roc_auc_score(truth[120:], chances))
    assert scores[0] > scores[1] + 0.02
