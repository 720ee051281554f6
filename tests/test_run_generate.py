"""Images drawn end to end: learnt, judged, audited, written; by diffusion in planes and volumes, by StyleGAN."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

import medgraft as mg
from medgraft.errors import BadData, BadRecipe, RunRefused
from medgraft.files import read_image
from medgraft.generation.opened import GeneratorRun
from medgraft.report.schema import problems
from tiny_data import make_tiny_data
from tiny_masks import make_volumes

OPTIONS: dict[str, Any] = {"device": "cpu", "offline": True, "image_size": 16, "batch_size": 8, "epochs": 2}
SETTINGS: dict[str, Any] = {"generator.looks": 1, "generator.widths": [8], "generator.steps": 4, "generator.sheet": 1}
DIFFUSE = {**SETTINGS, "generator.widths": [8, 16, 16], "generator.fold": 2}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_data(tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture(scope="module", params=["diffuse", "stylegan"])
def run(request: pytest.FixtureRequest, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / request.param
    settings = DIFFUSE if request.param == "diffuse" else SETTINGS
    mg.train(data, out=out, task=request.param, label_column="label", settings=settings, **OPTIONS)
    return out


def test_the_report_is_whole_and_says_what_can_be_reached(run: Path):
    report = json.loads((run / "report.json").read_text())
    assert problems(report) == [] and report["classes"] == ["ill", "well"]
    test, floors = report["scores"]["test"], report["generation"]["floors"]
    for name in ("fid_embedded", "kid_embedded", "precision", "recall", "ms_ssim", "nearest_copy", "histogram"):
        assert test[name]["low"] <= test[name]["value"] <= test[name]["high"]
    assert floors["training"]["fid_embedded"]["value"] < test["fid_embedded"]["value"]
    assert report["generation"]["audit"]["verdict"] in ("pass", "fail")
    page = (run / "report.html").read_text()
    assert "None of them is of a patient" in page and "Are they copies?" in page
    names = {path.name for path in (run / "samples").iterdir()}
    assert {"epoch-0001.png", "epoch-0002.png", "drawn.png", "turing.png", "turing-key.csv"} <= names
    with open(run / "samples" / "turing-key.csv", newline="") as file:
        kinds = [row["kind"] for row in csv.DictReader(file)]
    assert kinds.count("real") == kinds.count("drawn") and kinds != sorted(kinds)


def test_an_image_depends_on_seed_and_number_alone(run: Path):
    opened = mg.open_run(run, device="cpu")
    assert isinstance(opened, GeneratorRun)
    many = [image for _, image in opened.draw(5, label="ill", seed=3)]
    (alone,) = [image for _, image in opened.draw(1, label="ill", seed=3, first=2)]
    np.testing.assert_allclose(alone, many[2], atol=1e-5)
    other = next(iter(opened.draw(1, label="ill", seed=4)))[1]
    assert np.abs(other - many[0]).max() > 1e-3
    assert [kind for kind, _ in opened.draw(4)] == ["ill", "ill", "well", "well"]
    with pytest.raises(BadRecipe, match="no class"):
        list(opened.draw(1, label="elsewhere"))


def test_what_is_written_says_that_it_is_synthetic(run: Path, tmp_path: Path):
    done = mg.generate(run, count=3, out=tmp_path / "made", despite_audit=True)
    with open(done.table, newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 and all(row["synthetic"] == "yes" for row in rows)
    picture = Pillow.open(tmp_path / "made" / rows[0]["path"])
    assert "synthetic" in picture.text["Comment"] and picture.size == (16, 16)  # type: ignore[attr-defined]
    with pytest.raises(BadData, match="holds something"):
        mg.generate(run, count=1, out=tmp_path / "made", despite_audit=True)


def test_a_run_that_failed_its_audit_writes_nothing_unless_told(run: Path, tmp_path: Path):
    opened = mg.open_run(run, device="cpu")
    assert isinstance(opened, GeneratorRun)
    opened.card["audit"] = "fail"
    with pytest.raises(RunRefused, match="failed its audit"):
        mg.generate(opened, count=1, out=tmp_path / "made")
    assert not (tmp_path / "made").exists()
    assert mg.generate(opened, count=1, out=tmp_path / "made", despite_audit=True).verdict == "fail"


def test_an_audit_of_data_knows_what_was_learnt_from(run: Path, data: Path, tmp_path: Path):
    opened = mg.open_run(run, device="cpu")
    counts = opened.report["data"]["images"]
    try:
        told = mg.audit(opened, data, out=tmp_path / "audit", count=20)
    except BadData as error:
        assert counts["test"] < 10 and "that it did not see" in str(error)
        return
    assert (told["training"], told["held_out"]) == (counts["train"], counts["test"])
    assert (tmp_path / "audit" / "audit.json").exists() and (tmp_path / "audit" / "nearest-pixels.png").exists()


def test_other_verbs_refuse_it_in_words(run: Path, data: Path, tmp_path: Path):
    with pytest.raises(RunRefused, match="draws images"):
        mg.predict(run, [data.parent / "p00_0.png"], out=tmp_path / "p.csv")
    with pytest.raises(RunRefused, match="draws images"):
        mg.evaluate(run, data, out=tmp_path / "e")
    with pytest.raises(RunRefused, match="draws images"):
        mg.explain(run, [data.parent / "p00_0.png"], out=tmp_path / "x")


def test_volumes_are_drawn_too(tmp_path: Path):
    data = make_volumes(tmp_path / "volumes", count=40)
    settings = {**DIFFUSE, "generator.shape": [16, 16, 16], "fit.batch_size": 4}
    options = {**OPTIONS, "image_size": None, "batch_size": None, "epochs": 1}
    mg.train(data, out=tmp_path / "run", task="diffuse", settings=settings, patients_unknown=True, **options)
    done = mg.generate(tmp_path / "run", count=1, out=tmp_path / "made", despite_audit=True)
    image = read_image(next((tmp_path / "made" / "images").iterdir()))
    assert image.pixels.shape == (1, 16, 16, 16) and done.count == 1
    with pytest.raises(BadRecipe, match="draws flat images"):
        mg.train(data, out=tmp_path / "other", task="stylegan", patients_unknown=True, **options)
