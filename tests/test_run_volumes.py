"""A detector that learns in volumes, end to end: train, report, predict, evaluate; killed and resumed alike."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import medgraft as mg
from medgraft.detection import arms
from medgraft.detection.arms import in_volumes
from medgraft.errors import BadRecipe, Leak
from medgraft.files import save_nifti
from medgraft.recipe import Recipe
from medgraft.report.schema import problems
from medgraft.samples.dataset import read_samples
from tiny_boxes import make_boxed_data
from tiny_scans import AFFINE, SHAPE, draw, make_scans

pytest.importorskip("monai", reason="boxes.arm retinanet needs the extra volume")
SETTINGS: dict[str, Any] = {
    "boxes.arm": "retinanet",
    "boxes.width": 64,
    "boxes.maps": 2,
    "boxes.patch": [8, 16, 16],
    "boxes.patches": 24,
    "fit.batch_size": 8,
    "scores.resamples": 100,
    "split.val": 0.15,
    "split.test": 0.25,
}
OPTIONS: dict[str, Any] = {"backbone": "embedded:resnet10t_small", "epochs": 5, "device": "cpu", "settings": SETTINGS}


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scans(tmp_path_factory.mktemp("scans"), count=24)


@pytest.fixture(scope="module")
def run(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    mg.train(scans, out=out, **OPTIONS)
    return out


def test_it_learns_and_the_report_is_whole(run: Path):
    report = json.loads((run / "report.json").read_text())
    assert (report["task"], report["arm"], report["classes"]) == ("detect", "retinanet", ["nodule"])
    assert problems(report) == []
    test = report["scores"]["test"]
    assert test["froc"]["value"] > 0.7 and test["froc"]["n"] == 5
    assert len(report["training"]["facts"]) > 5 and report["depth"]["of"] == report["depth"]["thawed_stages"] == 5
    for field in ("spacing_mm", "region", "windows_hu", "anchors_mm"):
        assert f"boxes.{field}:" in report["recipe_yaml"]
    assert 'region: "lungs"' in report["recipe_yaml"]


def test_the_folder_is_whole_and_what_was_kept_on_the_way_is_gone(run: Path):
    names = {path.name for path in run.iterdir()}
    assert {"recipe.yaml", "survey.json", "samples.csv", "quarantine.csv", "model.safetensors"} <= names
    assert {"calibration.json", "predictions.csv", "boxes.csv", "report.json", "report.html", "model-card.md"} <= names
    assert not (run / "resume").exists() and not (run / "frames").exists()
    page = (run / "report.html").read_text()
    for words in ("What was found", "FROC", "gallery close planes", "RetinaNet in volumes", "Carreira"):
        assert words in page


def test_boxes_are_in_the_files_own_voxels_whatever_their_order(run: Path, tmp_path: Path):
    opened = mg.open_run(run)
    hits = truths = 0
    for index in range(100, 104):
        hu, boxes = draw(index)
        order, turned = [2, 0, 1], np.flip(hu.transpose(2, 0, 1), 1)
        affine = AFFINE[:, [*order, 3]].copy()
        affine[:, 3] += affine[:, 1] * (turned.shape[1] - 1)
        affine[:, 1] *= -1
        save_nifti(tmp_path / f"{index}.nii.gz", hu, affine=AFFINE)
        save_nifti(tmp_path / f"{index}-turned.nii.gz", turned, affine=affine)
        plain, other = opened.predict([tmp_path / f"{index}.nii.gz", tmp_path / f"{index}-turned.nii.gz"])
        assert plain.boxes is not None and other.boxes is not None
        there = plain.boxes.corners[:, [1, 2, 0, 4, 5, 3]].copy()  # x, y, z there are h, d, w here, d runs backwards
        there[:, [1, 4]] = SHAPE[0] - there[:, [4, 1]]
        np.testing.assert_allclose(other.boxes.corners, there, atol=1e-3)
        np.testing.assert_allclose(other.boxes.scores, plain.boxes.scores, atol=1e-4)  # type: ignore[arg-type]
        called = opened.task.called(plain.boxes)
        for low, high in zip(boxes.corners[:, :3], boxes.corners[:, 3:], strict=True):
            centres = (called.corners[:, :3] + called.corners[:, 3:]) / 2
            truths += 1
            hits += bool(((centres >= low) & (centres <= high)).all(axis=1).any())
    assert hits >= 0.5 * truths


def test_predictions_are_written_and_a_broken_scan_is_named(run: Path, tmp_path: Path):
    hu, _ = draw(5)
    save_nifti(tmp_path / "in" / "a.nii.gz", hu, affine=AFFINE)
    (tmp_path / "in" / "broken.nii.gz").write_bytes(b"\x1f\x8b" + b"0" * 40)
    done = mg.predict(run, tmp_path / "in", out=tmp_path / "found.csv")
    assert (done.count, done.failed) == (2, 1)
    with open(tmp_path / "found.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["error"] != "" for row in rows if "broken" in row["path"]] == [True]
    assert any(row["label"] == "nodule" and row["z_ras_mm"] and row["diameter_mm"] for row in rows)


def test_evaluation_uses_the_runs_thresholds_and_refuses_its_scans(run: Path, scans: Path, tmp_path: Path):
    report = mg.evaluate(run, make_scans(tmp_path / "other", count=4, first=200), out=tmp_path / "eval")
    assert report["arm"] == "retinanet" and report["scores"]["test"]["froc"]["n"] == 4
    assert report["operating_point"]["threshold"] == json.loads((run / "calibration.json").read_text())["threshold"]
    with pytest.raises(Leak):
        mg.evaluate(run, scans, out=tmp_path / "same")


def test_the_arm_follows_from_how_many_scans_there_are_and_what_cannot_be_is_said(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    samples = read_samples(scans)
    assert in_volumes(samples, Recipe()) == "candidates"
    monkeypatch.setattr(arms, "_ENOUGH", 18)  # of 24 scans every fourth has no box
    assert in_volumes(samples, Recipe()) == "retinanet"
    with pytest.raises(BadRecipe, match="is for volumes"):
        mg.plan(make_boxed_data(tmp_path / "flat", count=4), settings={"boxes.arm": "retinanet"})
    with pytest.raises(BadRecipe, match="not searched for boxes in volumes"):
        mg.depth(scans, out=tmp_path / "depth", task="detect")
    with pytest.raises(BadRecipe, match="adapters"):
        mg.plan(scans, depth="lora", settings=SETTINGS)
    with pytest.raises(BadRecipe, match="1 or 3 channels"):
        mg.plan(scans, settings={**SETTINGS, "boxes.windows_hu": [[0, 100], [0, 200]]})


@pytest.mark.slow
def test_killed_and_resumed_it_ends_with_the_same_bits(scans: Path, tmp_path: Path):
    from whole_runs import finish, result, start, wait_for_step

    settings = {name: json.dumps(value) if isinstance(value, list) else value for name, value in SETTINGS.items()}
    words: dict[str, Any] = {"epochs": 2, "more": ["--task", "detect"], "settings": settings}
    finish(start(scans, tmp_path / "whole", **words))
    process = start(scans, tmp_path / "cut", **words)
    wait_for_step(process, 3)
    process.kill()
    process.wait()
    assert process.stderr is not None
    process.stderr.close()
    finish(start(scans, tmp_path / "cut", resume=True, **words))
    assert result(tmp_path / "whole") == result(tmp_path / "cut")
