"""Noise taken away end to end: learnt from noisy images, judged, written in the files' own forms, compared."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

import medgraft as mg
from medgraft.denoising.judge import cleaned
from medgraft.denoising.opened import DenoiseRun
from medgraft.denoising.references import references_of
from medgraft.errors import BadData, BadImage, BadRecipe, RunRefused
from medgraft.files import read_image, save_png, write_dicom
from medgraft.report.schema import problems
from medgraft.samples.dataset import read_samples
from tiny_noise import clean_plane, make_noisy, write_volume

OPTIONS: dict[str, Any] = {"device": "cpu", "offline": True, "epochs": 1}
SETTINGS: dict[str, Any] = {"denoise.widths": [8, 16], "denoise.patches": 1, "denoise.side": 16}
SETTINGS |= {"scores.resamples": 100}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_noisy(tmp_path_factory.mktemp("data") / "noisy", count=14, side=32)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    mg.train(data, out=out, task="denoise", settings={**SETTINGS, "denoise.clean_column": "clean"}, **OPTIONS)
    return out


def test_it_learns_from_noisy_images_alone_and_says_what_it_is_worth(run: Path):
    report = json.loads((run / "report.json").read_text())
    assert problems(report) == [] and report["task"] == "denoise"
    test, told = report["scores"]["test"], report["denoising"]
    for name in ("psnr", "ssim", "psnr_gain", "blind_error"):
        assert test[name]["low"] <= test[name]["value"] <= test[name]["high"] and test[name]["n"] >= 2
    assert test["psnr_gain"]["value"] > 4  # dB
    assert {"noisy", "neighbours", "nlmeans", "wavelet", "tv", "median", "bilateral"} <= set(told["methods"])
    assert told["noise"]["noise_before"]["median"] == pytest.approx(20, rel=0.15)
    page = (run / "report.html").read_text()
    assert "What noise was found" in page and "Can the noise" in page and "Noise2Void" in page
    assert (run / "before-after.png").exists() and (run / "noise.csv").exists()


def test_without_labels_and_clean_images_it_says_what_it_does_not_know(data: Path, tmp_path: Path):
    mg.train(
        data.parent / "noisy", out=tmp_path / "a", task="denoise", settings=SETTINGS, patients_unknown=True, **OPTIONS
    )
    report = json.loads((tmp_path / "a" / "report.json").read_text())
    assert not report["denoising"]["clean"] and "psnr" not in report["scores"]["test"]
    assert "No clean images were given" in (tmp_path / "a" / "report.html").read_text()


@pytest.mark.slow
def test_stopped_and_resumed_it_learns_the_same(data: Path, tmp_path: Path):
    words: dict[str, Any] = {"task": "denoise", **OPTIONS, "epochs": 2}
    words["settings"] = {**SETTINGS, "machine.save_seconds": 0}

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["epoch"] == 1 and event["step"] == 30:
            raise RuntimeError("as if killed")

    mg.train(data, out=tmp_path / "a", **words)
    with pytest.raises(RuntimeError, match="as if killed"):
        mg.train(data, out=tmp_path / "b", listen=stop, **words)
    mg.train(data, out=tmp_path / "b", resume=True, **words)
    image = read_image(data.parent / "noisy" / "00.png")
    first, second = (cleaned(image, DenoiseRun(tmp_path / name).way) for name in ("a", "b"))
    assert np.array_equal(first, second) and np.abs(first - image.pixels).max() > 1


def test_pictures_come_back_as_they_came_with_figures(run: Path, data: Path, tmp_path: Path):
    done = mg.denoise(data, out=tmp_path / "out", run=run, compare="clean")
    with open(tmp_path / "out" / "manifest.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 14 and {row["label"] for row in rows} == {"a", "b"} and "clean" not in rows[0]
    picture = Pillow.open(tmp_path / "out" / rows[0]["path"])
    assert picture.mode == "L" and picture.size == (32, 32)
    assert "derived" in picture.text["Comment"]  # type: ignore[attr-defined]
    compared = done.told["compared"]
    assert compared["blindspot"]["psnr"]["value"] > compared["noisy"]["psnr"]["value"] + 4
    assert compared["blindspot"]["psnr"]["n"] == 14
    assert (tmp_path / "out" / "compared.csv").exists()
    dataset = read_samples(data)
    by_name, column = references_of(dataset, str(data.parent / "clean"))
    by_column, named = references_of(dataset, "clean")
    assert (column, named) == (None, "clean") and len(by_name) == 14
    assert {key: path.resolve() for key, path in by_name.items()} == {k: p.resolve() for k, p in by_column.items()}


def test_forms_grids_and_units_are_kept(tmp_path: Path):
    volume = write_volume(tmp_path / "scan.nii.gz")
    deep = np.rint(100 * clean_plane(0, 24) + 900 * np.random.default_rng(0).standard_normal((24, 24)) + 5000)
    save_png(tmp_path / "deep.png", deep.astype(np.uint16))
    film = (8 * clean_plane(1, 24)).astype(np.uint16)
    write_dicom(tmp_path / "film.dcm", film, Modality="CR", PatientID="p")
    colour = np.stack([clean_plane(k, 24) for k in range(3)], axis=-1).astype(np.uint8)
    save_png(tmp_path / "colour.png", colour)
    paths = [tmp_path / name for name in ("scan.nii.gz", "deep.png", "film.dcm", "colour.png")]
    done = mg.denoise(paths, out=tmp_path / "out", method="tv")
    found = {Path(row["source"]).name: tmp_path / "out" / row["path"] for row in done.rows}
    before, after = read_image(tmp_path / "scan.nii.gz"), read_image(found["scan.nii.gz"])
    assert after.facts["dtype"] == "int16" and after.pixels.shape == before.pixels.shape
    np.testing.assert_allclose(after.affine, before.affine)
    assert 10 < np.abs(after.pixels[0] - volume).mean() < 150
    assert Pillow.open(found["deep.png"]).mode == "I;16" and read_image(found["deep.png"]).pixels.max() > 4000
    assert Pillow.open(found["colour.png"]).mode == "RGB"
    assert read_image(found["film.dcm"]).bits == 16
    assert next(row for row in done.rows if "film" in row["source"])["form"].startswith("as a monitor")


def test_without_a_run_the_filter_that_foretells_best_is_taken(data: Path, tmp_path: Path):
    done = mg.denoise(data.parent / "noisy", out=tmp_path / "out")
    errors = {name: one["error"] for name, one in done.told["strengths"].items()}
    assert done.method == min(errors, key=lambda name: errors[name])


def test_mistakes_are_said(run: Path, data: Path, tmp_path: Path):
    with pytest.raises(BadRecipe, match="needs a run"):
        mg.denoise(data, out=tmp_path / "a", method="blindspot")
    with pytest.raises(BadRecipe, match="no method"):
        mg.denoise(data, out=tmp_path / "a", method="magic")
    with pytest.raises(BadRecipe, match="method of this run is blindspot"):
        mg.denoise(data, out=tmp_path / "a", run=run, method="prior")
    with pytest.raises(BadRecipe, match="no option"):
        mg.denoise(data, out=tmp_path / "a", strength=2)
    with pytest.raises(BadData, match="no folder and no column"):
        mg.denoise(data, out=tmp_path / "a", run=run, compare="elsewhere")
    with pytest.raises(BadRecipe, match="no column"):
        mg.train(data, out=tmp_path / "b", task="denoise", settings={"denoise.clean_column": "purity"}, **OPTIONS)
    save_png(tmp_path / "clean" / "00.png", np.zeros((8, 8), np.uint8))
    with pytest.raises(BadData, match="clean images of the same size|failed"):
        mg.denoise(data.parent / "noisy", out=tmp_path / "c", method="tv", compare=tmp_path / "clean")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    with pytest.raises(RunRefused, match="not empty"):
        mg.denoise(data, out=tmp_path / "full", run=run)
    with pytest.raises(RunRefused, match="takes noise away"):
        mg.predict(run, [data.parent / "noisy" / "00.png"])
    with pytest.raises(RunRefused, match="takes noise away"):
        mg.evaluate(run, data, out=tmp_path / "e")


@pytest.mark.slow
def test_a_classifier_is_asked_before_and_after_on_images_that_are_new_to_it(data: Path, run: Path, tmp_path: Path):
    words: dict[str, Any] = {"device": "cpu", "offline": True, "depth": "head", "epochs": 0, "image_size": 32}
    judge = tmp_path / "judge"
    other = make_noisy(tmp_path / "other", count=40, side=32)
    mg.train(other, out=judge, label_column="label", settings={"scores.stress": False, "scores.maps": False}, **words)
    done = mg.denoise(data, out=tmp_path / "out", run=run, compare="clean", judge=judge, label_column="label")
    told = done.told["judged"]
    assert set(told["auroc"]) == {"noisy", "denoised", "clean", "denoised - noisy", "denoised - clean", "noisy - clean"}
    difference = told["auroc"]["denoised"]["value"] - told["auroc"]["noisy"]["value"]
    assert told["auroc"]["denoised - noisy"]["value"] == pytest.approx(difference)
    own = mg.denoise(other, out=tmp_path / "own", method="median", judge=judge, label_column="label").told["judged"]
    assert own["learnt_from"] > 0 and own["learnt_from"] + own["images"] == 40


def test_a_broken_image_is_left_out_of_the_comparison_too(data: Path, tmp_path: Path):
    own = make_noisy(tmp_path / "own", count=5, side=24)
    (tmp_path / "own" / "noisy" / "01.png").write_bytes(b"\x89PNG")
    done = mg.denoise(own, out=tmp_path / "out", method="median", compare="clean")
    assert len(done.rows) == 4 == done.told["compared"]["median"]["psnr"]["n"] and len(done.problems) == 1
    assert len(list((tmp_path / "out" / "images").iterdir())) == 4


def test_clean_images_of_another_scale_or_without_colour_are_refused(tmp_path: Path):
    for name, noisy in (
        ("deep", np.full((24, 24), 9000, np.uint16)),
        ("colour", np.stack([clean_plane(k, 24) for k in range(3)], axis=-1).astype(np.uint8)),
    ):
        (tmp_path / name / "clean").mkdir(parents=True)
        save_png(tmp_path / name / "noisy" / "a.png", noisy)
        save_png(tmp_path / name / "clean" / "a.png", clean_plane(0, 24).astype(np.uint8))
        with pytest.raises(BadData, match="from 0 to 65535|has colour and its clean one has none"):
            mg.denoise(
                tmp_path / name / "noisy", out=tmp_path / f"{name}-out", method="tv", compare=tmp_path / name / "clean",
                limit_bad=0,
            )  # fmt: skip


def test_a_judge_that_cannot_be_asked_is_refused_before_the_work(run: Path, data: Path, tmp_path: Path):
    with pytest.raises(RunRefused, match="takes noise away, and denoise --judge"):
        mg.denoise(data, out=tmp_path / "out", method="median", judge=run)
    assert not (tmp_path / "out").exists()


def test_a_clean_image_that_is_not_there_is_said_before_anything_is_learnt(tmp_path: Path):
    own = make_noisy(tmp_path / "own", count=14, side=24)
    for path in (tmp_path / "own" / "clean").iterdir():
        path.unlink()
    seen = []
    with pytest.raises(BadImage, match="no such file"):
        mg.train(
            own, out=tmp_path / "run", task="denoise", settings={**SETTINGS, "denoise.clean_column": "clean"},
            listen=lambda event: seen.append(event["event"]), **OPTIONS,
        )  # fmt: skip
    assert "step" not in seen and not (tmp_path / "run" / "recipe.yaml").exists()
