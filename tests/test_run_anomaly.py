"""Images unlike normal ones, end to end: learnt from normal images, judged, opened, evaluated, refused in words."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

import medgraft as mg
from medgraft.anomaly.opened import AnomalyRun
from medgraft.errors import BadRecipe, BadWeights, RunRefused, Stopped
from medgraft.report.schema import problems
from medgraft.weights.tensors import load_model, save_model

SIDE = 48
OPTIONS: dict[str, Any] = {"task": "anomaly", "device": "cpu", "offline": True, "image_size": 32}
SMALL = {"anomaly.maps": 10, "scores.resamples": 200, "backbone.name": "embedded:resnet10t_small"}
AGAIN = {
    "autoencoder": {"anomaly.method": "autoencoder", "anomaly.width": 4},
    "diffusion": {"anomaly.method": "diffusion", "generator.widths": [8, 8], "anomaly.steps": 2, "anomaly.noises": 1},
}


def _write(folder: Path, *, people: int = 30, first: int = 0) -> Path:
    """Write waves, and waves with a bright square whose mask is known; wider than high, so that they are padded."""
    rows = []
    y, x = np.mgrid[: SIDE - 12, :SIDE] / SIDE
    for person in range(first, first + people):
        for shot in range(2):
            dice = np.random.default_rng([41, person, shot])
            waves = 110 + 40 * np.sin(9 * x + dice.uniform(0, 6)) + dice.normal(0, 6, x.shape)
            mask = np.zeros(x.shape, np.uint8)
            if person % 3 == 0:
                top, left = dice.integers(2, SIDE - 28), dice.integers(2, SIDE - 16)
                mask[top : top + 12, left : left + 12] = 1
                waves[mask > 0] = 250
            name = f"p{person:02d}_{shot}.png"
            for kind, pixels in (("images", np.clip(waves, 0, 255).astype(np.uint8)), ("masks", mask)):
                (folder / kind).mkdir(parents=True, exist_ok=True)
                Pillow.fromarray(pixels).save(folder / kind / name)
            label = "square" if mask.any() else "normal"
            rows.append({"path": f"images/{name}", "label": label, "patient": f"p{person}", "mask": f"masks/{name}"})
    table = folder / "manifest.csv"
    with open(table, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return table


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write(tmp_path_factory.mktemp("data") / "waves")


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "patches"
    mg.train(data, out=out, settings=SMALL, **OPTIONS)
    return out


def _rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_the_report_is_whole_and_squares_are_found_where_they_are(run: Path):
    report = json.loads((run / "report.json").read_text())
    assert problems(report) == [] and report["classes"] == ["normal", "not normal"]
    assert report["positive"] == "not normal" and report["unlike"]["left_out"] > 0
    test = report["scores"]["test"]
    assert test["auroc"]["value"] > 0.9 and test["pixel_auroc"]["value"] > 0.85
    assert test["auroc"]["n_patients"] and report["operating_point"]["sensitivity"]["value"] is not None
    assert report["operating_point"]["rule"].startswith("the 95% quantile of")
    page = (run / "report.html").read_text()
    assert "How unlike normal images" in page and "Are maps warm where masks are?" in page
    assert "put into the normal training images" in report["methods"] and "cross-entropy" in report["training"]["loss"]
    assert "head that sees what does not belong" in dict(report["training"]["facts"])
    assert "its features are compared as they are" in page and "a new head grafted on" not in page
    assert "unlike images that are" in page and "anomaly" in (run / "recipe.yaml").read_text()
    names = {path.name for path in run.iterdir()}
    assert {"recipe.yaml", "survey.json", "samples.csv", "model.safetensors", "calibration.json"} <= names


def test_the_table_has_scores_and_maps_lie_in_the_pixels_of_the_file(run: Path):
    rows = [row for row in _rows(run / "predictions.csv") if row["split"] == "test"]
    rows = [row for row in rows if row["map"]]
    assert len(rows) == 10 == len(list((run / "maps").glob("*.npy")))
    found = 0
    for row in rows:
        values = np.load(run / row["map"])
        assert values.shape == (SIDE - 12, SIDE) and values.dtype == np.float32
        if row["target"] == "square":
            mask = np.asarray(Pillow.open(row["path"].replace("images", "masks"))) > 0
            found += bool(values[mask].mean() > values[~mask].mean())
    assert found >= 0.8 * sum(row["target"] == "square" for row in rows)
    over = np.asarray(Pillow.open(run / rows[0]["map"].replace(".npy", ".png")))
    assert over.shape == (SIDE - 12, SIDE, 3)


def test_a_run_opened_gives_the_scores_of_its_table(run: Path, tmp_path: Path):
    opened = mg.open_run(run, device="cpu")
    assert isinstance(opened, AnomalyRun)
    rows = [row for row in _rows(run / "predictions.csv") if row["split"] == "test"][:3]
    told = opened.predict([row["path"] for row in rows])
    for row, one in zip(rows, told, strict=True):
        assert one.value == pytest.approx(float(row["score"]), rel=1e-3) and one.predicted == row["predicted"]
    pixels = np.asarray(Pillow.open(rows[0]["path"]))
    assert opened.predict(pixels)[0].value == pytest.approx(told[0].value, rel=1e-5)
    assert opened.maps(pixels)[0].shape == pixels.shape
    bad = tmp_path / "bad.png"
    bad.write_bytes(Path(rows[0]["path"]).read_bytes()[:200])
    done = mg.predict(run, [rows[0]["path"], bad], out=tmp_path / "seen", device="cpu", workers=1)
    assert (done.count, done.failed) == (2, 1)
    assert (tmp_path / "seen" / _rows(done.out or tmp_path)[0]["map"]).exists()


def test_a_run_of_another_way_of_comparing_is_refused_in_words(run: Path, tmp_path: Path):
    older = tmp_path / "older"
    shutil.copytree(run, older)
    state, card = load_model(run / "model.safetensors")
    card["form"].pop("foreign")
    save_model(older / "model.safetensors", state=state, card=card)
    with pytest.raises(BadWeights, match=r"without a head.*Train it again"):
        mg.open_run(older)


def test_other_data_are_scored_at_the_same_threshold(run: Path, data: Path, tmp_path: Path):
    other = _write(tmp_path / "other", people=9, first=60)
    report = mg.evaluate(run, other, out=tmp_path / "scored", device="cpu")
    before = json.loads((run / "report.json").read_text())
    assert report["operating_point"]["threshold"] == before["operating_point"]["threshold"]
    assert report["scores"]["test"]["auroc"]["n"] == 18 and (tmp_path / "scored" / "report.html").exists()
    with pytest.raises(mg.UserError, match="were in the run's training"):
        mg.evaluate(run, data, out=tmp_path / "again", device="cpu")


def test_other_data_are_read_by_the_columns_of_the_training(data: Path, tmp_path: Path):
    for folder, first, people in (("a", 0, 30), ("b", 60, 9)):
        table = _write(tmp_path / folder, people=people, first=first)
        table.write_text(table.read_text().replace("path,label,patient", "path,finding,person"))
    columns: dict[str, Any] = {"label_column": "finding", "patient_column": "person"}
    mg.train(tmp_path / "a" / "manifest.csv", out=tmp_path / "run", settings=SMALL, **OPTIONS, **columns)
    report = mg.evaluate(tmp_path / "run", tmp_path / "b" / "manifest.csv", out=tmp_path / "scored", device="cpu")
    assert report["scores"]["test"]["auroc"]["n_patients"] == 9


def test_other_verbs_refuse_in_words(run: Path, data: Path, tmp_path: Path):
    image = next((data.parent / "images").iterdir())
    with pytest.raises(RunRefused, match="say themselves where"):
        mg.explain(run, image, out=tmp_path / "a")
    with pytest.raises(RunRefused, match="scores how unlike normal"):
        mg.export(run, out=tmp_path / "b.onnx")
    with pytest.raises(RunRefused, match="draws no images"):
        mg.generate(run, count=1, out=tmp_path / "c")
    with pytest.raises(BadRecipe, match="without tuning"):
        mg.depth(data, out=tmp_path / "d", **OPTIONS)
    with pytest.raises(BadRecipe, match="no image has the label 'fine'"):
        mg.train(data, out=tmp_path / "e", settings={"anomaly.normal": "fine"}, **OPTIONS)
    with pytest.raises(BadRecipe, match="has 5 stages"):
        mg.train(data, out=tmp_path / "f", settings={**SMALL, "anomaly.levels": [3, 7]}, **OPTIONS)


def test_the_plan_says_why(data: Path):
    recipe = mg.plan(data, settings=SMALL, **OPTIONS)
    assert recipe.anomaly.method == "patches" and recipe.anomaly.normal == "normal" and recipe.anomaly.levels
    assert "cells of" in recipe.reasons["anomaly.levels"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["autoencoder", "diffusion"])
def test_what_learns_in_steps_is_resumed_and_ends_with_the_same_scores(method: str, data: Path, tmp_path: Path):
    words = {**OPTIONS, "epochs": 3, "batch_size": 8}
    settings = {"scores.resamples": 200, "generator.looks": 1, **AGAIN[method]}
    whole = mg.train(data, out=tmp_path / "whole", settings=settings, **words)

    def stop(event: dict[str, Any]) -> None:
        if event.get("event") == "validate" and int(event.get("epoch", 0)) == 1:
            raise Stopped("enough", do="Go on with --resume.")

    with pytest.raises(Stopped):
        mg.train(data, out=tmp_path / "cut", settings=settings, listen=stop, **words)
    ended = mg.train(data, out=tmp_path / "cut", settings=settings, resume=True, **words)
    assert ended["scores"]["test"]["auroc"] == whole["scores"]["test"]["auroc"]
    first, second = (_rows(tmp_path / name / "predictions.csv") for name in ("cut", "whole"))
    assert [row["score"] for row in first] == [row["score"] for row in second]
    opened = mg.open_run(tmp_path / "cut", device="cpu")
    assert opened.predict(first[0]["path"])[0].value == pytest.approx(float(first[0]["score"]), rel=1e-3)
