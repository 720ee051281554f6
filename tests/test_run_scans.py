"""Boxes in volumes from end to end: train, report, predict, evaluate; what cannot be is said; a stopped run goes on."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import medgraft as mg
from medgraft.detection.scans import seen
from medgraft.errors import BadData, BadRecipe, Leak, RunRefused
from medgraft.files import save_nifti, write_series
from medgraft.report.schema import problems
from tiny_boxes import make_boxed_data
from tiny_scans import AFFINE, SHAPE, draw, make_scans

OPTIONS: dict[str, Any] = {
    "backbone": "none:timm:resnet10t",
    "image_size": 32,
    "device": "cpu",
    "settings": {"scores.resamples": 100, "boxes.candidates": 12, "boxes.views": 3, "boxes.sides_mm": [40.0]}
    | {"split.val": 0.2, "split.test": 0.3},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDGRAFT_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def scans(home: Path) -> Path:
    return make_scans(home / "scans", count=20)


@pytest.fixture(scope="module")
def run(scans: Path, home: Path) -> Path:
    mg.train(scans, out=home / "run", **OPTIONS)
    return home / "run"


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_it_learns_and_the_report_is_whole(run: Path):
    report = json.loads((run / "report.json").read_text())
    assert (report["task"], report["arm"], report["classes"]) == ("detect", "candidates", ["nodule"])
    assert problems(report) == []
    test = report["scores"]["test"]
    assert test["froc"]["value"] > 0.8 and test["map10"]["value"] > 0.8
    assert test["map10"]["value"] >= test["map25"]["value"] >= test["map50"]["value"]
    assert set(report["search"]) >= {"froc"}
    assert [row["group"] for row in report["subgroups"] if row["covariate"] == "size"]
    for field in ("boxes.arm", "boxes.hit", "boxes.windows_hu", "input.image_size", "depth.thaw"):
        assert f"{field}:" in report["recipe_yaml"] or field == "input.image_size"
    assert report["operating_point"]["rule"].endswith("do not count")


def test_the_folder_and_the_page_tell_of_volumes(run: Path):
    names = {path.name for path in run.iterdir()}
    assert {"recipe.yaml", "survey.json", "samples.csv", "quarantine.csv", "model.safetensors"} <= names
    assert {"calibration.json", "predictions.csv", "boxes.csv", "report.json", "report.html", "model-card.md"} <= names
    assert not (run / "resume").exists()
    page = (run / "report.html").read_text()
    for words in ("What was found", "FROC", "gallery close planes", "True boxes with a candidate", "van Ginneken"):
        assert words in page
    for row in table(run / "boxes.csv"):
        corners = np.array([[float(row[name]) for name in ("x0", "y0", "z0", "x1", "y1", "z1")]])
        middle = (corners[0, :3] + corners[0, 3:]) / 2 - 0.5
        expected = (AFFINE @ [middle[2], middle[1], middle[0], 1])[:3]
        ras = [float(row[f"{axis}_ras_mm"]) for axis in "xyz"]
        np.testing.assert_allclose(ras, expected, atol=0.05)
        assert [float(row[f"{axis}_lps_mm"]) for axis in "xyz"] == [-ras[0], -ras[1], ras[2]]


def test_boxes_are_in_the_files_own_voxels_whatever_their_order(run: Path, tmp_path: Path):
    opened = mg.open_run(run)
    paths, truth = [], []
    for index in range(100, 104):
        hu, boxes = draw(index)
        # The same scan with its axes in another order and one of them backwards.
        order, turned = [2, 0, 1], np.flip(hu.transpose(2, 0, 1), 1)
        affine = AFFINE[:, [*order, 3]].copy()
        affine[:, 3] += affine[:, 1] * (turned.shape[1] - 1)
        affine[:, 1] *= -1
        paths += [tmp_path / f"{index}.nii.gz", tmp_path / f"{index}-turned.nii.gz"]
        save_nifti(paths[-2], hu, affine=AFFINE)
        save_nifti(paths[-1], turned, affine=affine)
        truth.append(boxes)
    told = opened.predict(paths)
    hits = truths = 0
    for plain, other, boxes in zip(told[::2], told[1::2], truth, strict=True):
        assert plain.boxes is not None and other.boxes is not None and len(other.boxes) == len(plain.boxes)
        # x, y, z there are h, d, w here, and d runs backwards.
        there = plain.boxes.corners[:, [1, 2, 0, 4, 5, 3]].copy()
        there[:, [1, 4]] = SHAPE[0] - there[:, [4, 1]]
        np.testing.assert_allclose(other.boxes.corners, there, atol=1e-4)
        np.testing.assert_allclose(other.boxes.scores, plain.boxes.scores, atol=1e-4)
        called = opened.task.called(plain.boxes)
        for low, high in zip(boxes.corners[:, :3], boxes.corners[:, 3:], strict=True):
            centres = (called.corners[:, :3] + called.corners[:, 3:]) / 2
            truths += 1
            hits += bool(((centres >= low) & (centres <= high)).all(axis=1).any())
    assert hits >= 0.7 * truths


def test_predict_writes_voxels_and_millimetres_of_files_and_series(run: Path, scans: Path, tmp_path: Path):
    hu, _ = draw(5)
    save_nifti(tmp_path / "in" / "a.nii.gz", hu, affine=AFFINE)
    facts = {"Modality": "CT", "RescaleIntercept": "-1024", "RescaleSlope": "1", "PatientID": "p"}
    write_series(tmp_path / "in" / "series", (hu + 1024).astype(np.uint16), affine=AFFINE, facts=facts)
    (tmp_path / "in" / "broken.nii.gz").write_bytes(b"\x1f\x8b" + b"0" * 40)
    done = mg.predict(run, tmp_path / "in", out=tmp_path / "found")
    assert (done.count, done.failed) == (3, 1)
    rows = table(tmp_path / "found" / "predictions.csv")
    by_kind = {name: [row for row in rows if name in row["path"] and row["label"]] for name in ("a.nii", "series")}
    assert len(by_kind["a.nii"]) == len(by_kind["series"]) > 0
    for one, other in zip(by_kind["a.nii"], by_kind["series"], strict=True):
        for name in ("x_ras_mm", "y_ras_mm", "z_ras_mm", "diameter_mm"):
            assert abs(float(one[name]) - float(other[name])) < 0.1
    told = json.loads((tmp_path / "found" / "predictions.json").read_text())
    assert len(told["scans"]) == 2 and all(np.shape(one["affine"]) == (4, 4) for one in told["scans"])
    assert len(list((tmp_path / "found" / "overlays").glob("*.png"))) == 2
    with pytest.raises(BadData, match="geojson"):
        mg.predict(run, tmp_path / "in", out=tmp_path / "x.geojson")


def test_maps_are_refused_where_no_layer_has_learnt(run: Path, scans: Path, tmp_path: Path):
    with pytest.raises(RunRefused, match="candidates tunes none"):
        mg.explain(run, scans.parent / "images" / "scan_000.nii.gz", out=tmp_path / "maps")
    assert not (tmp_path / "maps").exists()


def test_evaluation_uses_the_runs_thresholds_and_refuses_its_scans(run: Path, scans: Path, tmp_path: Path):
    other = make_scans(tmp_path / "other", count=6, first=200)
    report = mg.evaluate(run, other, out=tmp_path / "eval")
    assert report["evaluated_run"] == "run" and report["data"]["images"] == {"test": 6}
    assert report["operating_point"]["threshold"] == json.loads((run / "calibration.json").read_text())["threshold"]
    assert report["scores"]["test"]["froc"]["n"] == 6 and "val" not in report["scores"]
    page = (tmp_path / "eval" / "report.html").read_text()
    wrong = page.count('<li class="wrong')
    assert 0 < wrong == page.count('<li class="wrong stack">') == page.count("<template>")
    assert page.count("data-level=") == wrong * SHAPE[0] and page.count("<script") == 1 and len(page) < 4_000_000
    with pytest.raises(Leak):
        mg.evaluate(run, scans, out=tmp_path / "same")


def test_what_cannot_be_is_said(run: Path, scans: Path, tmp_path: Path):
    with pytest.raises(RunRefused, match="finds boxes"):
        mg.export(run, out=tmp_path / "x.onnx")
    with pytest.raises(BadRecipe, match="for flat images"):
        mg.plan(scans, settings={"boxes.arm": "fcos"})
    with pytest.raises(BadRecipe, match="asks for tuning"):
        mg.plan(scans, depth="all")
    with pytest.raises(BadRecipe, match="1 or 3 channels"):
        mg.plan(scans, settings={"boxes.windows_hu": [[0, 100], [0, 200]]})
    with pytest.raises(BadRecipe, match="is for volumes"):
        mg.plan(make_boxed_data(tmp_path / "flat", count=4), settings={"boxes.arm": "candidates"})


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_from_the_scans_that_were_done(
    run: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def listen(event: dict[str, Any]) -> None:
        if event["event"] == "features" and event["done"] == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mg.train(scans, out=tmp_path / "cut", listen=listen, **OPTIONS)
    assert len(list((tmp_path / "cut" / "resume").glob("*.npz"))) == 9
    written: list[Path] = []
    plain = seen._write
    monkeypatch.setattr(seen, "_write", lambda path, one: (written.append(path), plain(path, one)))
    mg.train(scans, out=tmp_path / "cut", resume=True, **OPTIONS)
    assert len(written) == 20 - 9
    for name in ("model.safetensors", "boxes.csv", "calibration.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (run / name).read_bytes()
