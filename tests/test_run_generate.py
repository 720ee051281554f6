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
from medgraft import recipe
from medgraft.errors import BadData, BadRecipe, RunRefused
from medgraft.files import read_image, save_nifti
from medgraft.generation.meaning import ways_of
from medgraft.generation.opened import GeneratorRun
from medgraft.report.schema import problems
from medgraft.values import ImageRef
from tiny_data import make_tiny_data
from tiny_masks import AFFINE, make_volumes

OPTIONS: dict[str, Any] = {"device": "cpu", "offline": True, "image_size": 16, "batch_size": 8, "epochs": 2}
SETTINGS: dict[str, Any] = {"generator.looks": 1, "generator.widths": [8], "generator.steps": 4, "generator.sheet": 1}
COUNTS = {"train": 24, "val": 8, "test": 12}
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
    audit = report["generation"]["audit"]
    assert audit["verdict"] in ("pass", "fail") and "held-out images are few" in audit["notes"][0]
    page = (run / "report.html").read_text()
    assert ("The audit for copies is weak" in page) == (audit["verdict"] == "pass")
    assert "None of them is of a patient" in page and "Are they copies?" in page
    names = {path.name for path in (run / "samples").iterdir()}
    assert {"epoch-0001.png", "epoch-0002.png", "drawn.png", "turing.png", "turing-key.csv"} <= names
    # What was measured to be fastest is written down, so that a resumed run goes on in it.
    fit = recipe.load(run / "recipe.yaml").fit
    assert fit.precision in ("fp32", "bf16") and fit.channels_last is not None
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
    mixed = list(opened.draw(4, seed=3))
    assert [kind for kind, _ in mixed] == ["ill", "well", "ill", "well"]
    (kind, third), *_ = opened.draw(2, seed=3, first=2)
    assert kind == "ill"
    np.testing.assert_allclose(third, mixed[2][1], atol=1e-5)
    assert [kind for kind, _ in opened.draw(5, shares=[1, 4])].count("ill") == 1
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


def test_what_cannot_be_drawn_is_refused_in_words(run: Path, data: Path, tmp_path: Path):
    words: dict[str, Any] = {"out": tmp_path / "made", "despite_audit": True}
    for count, way, match in ((0, {}, "0 images"), (-2, {}, "-2 images"), (2, {"steps": 0}, "no image")):
        with pytest.raises(BadRecipe, match=match):
            mg.generate(run, count=count, **words, **way)
    assert not (tmp_path / "made").exists()
    with pytest.raises(BadRecipe, match="0 images"):
        mg.audit(run, data, count=0)
    before = (run / "audit.json").read_bytes()
    with pytest.raises(BadData, match="the run itself"):
        mg.audit(run, data, out=run, count=20)
    assert (run / "audit.json").read_bytes() == before


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
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "audit.json").write_text("{}")
    with pytest.raises(RunRefused, match="an audit already"):
        mg.audit(opened, data, out=tmp_path / "old", count=20)
    try:
        told = mg.audit(opened, data, out=tmp_path / "audit", count=20)
    except BadData as error:
        assert counts["test"] < 10 and "that it did not see" in str(error)
        return
    assert (told["training"], told["held_out"]) == (counts["train"], counts["test"])
    assert (tmp_path / "audit" / "audit.json").exists() and (tmp_path / "audit" / "nearest-pixels.png").exists()


def test_an_audit_draws_each_class_as_often_as_it_is_held_out(run: Path, data: Path, monkeypatch: pytest.MonkeyPatch):
    with open(run / "samples.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] in ("train", "test")]
    rare = [row for row in rows if row["split"] == "train" or row["target"] == "ill"]
    few = data.with_name(f"few-{run.name}.csv")
    few.write_text("path,label\n" + "".join(f"{row['key']},{row['target']}\n" for row in rare))
    kinds: list[str | None] = []
    draw = GeneratorRun.draw

    def drawn(self: GeneratorRun, *given: Any, **words: Any) -> Any:
        for kind, image in draw(self, *given, **words):
            kinds.append(kind)
            yield kind, image

    monkeypatch.setattr(GeneratorRun, "draw", drawn)
    mg.audit(run, few, count=20)
    assert set(kinds) == {"ill"}


def test_an_audit_of_arrays_tells_rows_apart_and_leaves_out_what_cannot_be_read(tmp_path: Path):
    random = np.random.default_rng(0)
    rows = {f"{part}_images": random.integers(0, 256, (count, 16, 16), np.uint8) for part, count in COUNTS.items()}
    labels = {f"{part}_labels": np.zeros((count, 1), np.int64) for part, count in COUNTS.items()}
    np.savez(tmp_path / "set.npz", **rows, **labels)
    settings = {**SETTINGS, "generator.sheet": 2}
    mg.train(tmp_path / "set.npz", out=tmp_path / "run", task="stylegan", settings=settings, **OPTIONS)
    told = mg.audit(tmp_path / "run", tmp_path / "set.npz", count=20)
    assert (told["training"], told["held_out"]) == (COUNTS["train"], COUNTS["test"])
    for number in range(3):
        Pillow.fromarray(rows["test_images"][number]).save(tmp_path / f"{number}.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "more.csv").write_text("path\n0.png\n1.png\nbroken.png\n2.png\n")
    said: list[str] = []
    with pytest.raises(BadData, match="0 images that it learnt from"):
        mg.audit(tmp_path / "run", tmp_path / "more.csv", count=20, listen=lambda e: said.append(str(e.get("text"))))
    assert any("broken.png" in text for text in said)


def test_other_verbs_refuse_it_in_words(run: Path, data: Path, tmp_path: Path):
    with pytest.raises(RunRefused, match="draws images"):
        mg.predict(run, [data.parent / "p00_0.png"], out=tmp_path / "p.csv")
    with pytest.raises(RunRefused, match="draws images"):
        mg.evaluate(run, data, out=tmp_path / "e")
    with pytest.raises(RunRefused, match="draws images"):
        mg.explain(run, [data.parent / "p00_0.png"], out=tmp_path / "x")


def test_an_image_is_found_again_by_its_style(run: Path, data: Path, tmp_path: Path):
    paths = [data.parent / "p00_0.png", data.parent / "p03_1.png"]
    words: dict[str, Any] = {"steps": 3, "device": "cpu"}
    if json.loads((run / "report.json").read_text())["task"] == "diffuse":
        with pytest.raises(RunRefused, match="no styles"):
            mg.project(run, paths, out=tmp_path / "found", **words)
        return
    (tmp_path / "bad.png").write_bytes(paths[0].read_bytes()[:300])
    done = mg.project(run, [*paths, tmp_path / "bad.png"], out=tmp_path / "found", **words)
    alone = mg.project(run, paths[1], out=tmp_path / "alone", **words)
    with np.load(tmp_path / "found" / "styles.npz", allow_pickle=False) as found:
        assert found["style"].shape == (2, 128) and found["path"].tolist() == [str(path) for path in paths]
        assert found["noise_00"].shape == (2, 16, 16)
        np.testing.assert_array_equal(found["style"][1], alone.styles[0])
    with open(tmp_path / "found" / "projected.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [bool(row["error"]) for row in rows] == [False, False, True] and rows[0]["label"] in ("ill", "well")
    assert all(0 < float(row[name]) < 4 for row in rows[:2] for name in ("features", "pixels", "pixels_start"))
    picture = Pillow.open(tmp_path / "found" / rows[0]["image"])
    assert picture.size == (16, 16) and "synthetic" in picture.text["Comment"]  # type: ignore[attr-defined]
    score = json.loads((tmp_path / "found" / "projected.json").read_text())["scores"]["pixels"]
    assert score["n"] == 2 and score["low"] <= score["value"] <= score["high"]
    assert (tmp_path / "found" / "pairs.png").exists() and done.headline()["failed"] == 1
    with pytest.raises(BadData, match="holds something"):
        mg.project(run, paths, out=tmp_path / "found", **words)
    for wrong, match in (({"label": "elsewhere"}, "no class"), ({"steps": 0}, "finds nothing")):
        with pytest.raises(BadRecipe, match=match):
            mg.project(run, paths, out=tmp_path / "other", **{**words, **wrong})
    with pytest.raises(BadData, match="none of the 1 images"):
        mg.project(run, tmp_path / "bad.png", out=tmp_path / "other", **words)
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_volumes_are_drawn_too(tmp_path: Path):
    data = make_volumes(tmp_path / "volumes", count=40)
    for path in (data / "imagesTr").iterdir():  # as of a CT, and shown as one
        values = read_image(path).pixels[0] * 4 - 1400
        save_nifti(path, values.astype(np.int16), affine=AFFINE)
    settings = {**DIFFUSE, "generator.shape": [16, 16, 16], "fit.batch_size": 4, "generator.checkpoint": True}
    options = {**OPTIONS, "image_size": None, "batch_size": None, "epochs": 1}
    mg.train(data, out=tmp_path / "run", task="diffuse", settings=settings, patients_unknown=True, **options)
    done = mg.generate(tmp_path / "run", count=1, out=tmp_path / "made", despite_audit=True)
    image = read_image(next((tmp_path / "made" / "images").iterdir()))
    assert image.pixels.shape == (1, 16, 16, 16) and done.count == 1
    np.testing.assert_allclose(image.spacing_mm, [3 * 12 / 16, 1.5 * 28 / 16, 1.5 * 24 / 16])
    assert image.affine is not None and ways_of(image.affine) == "SPL" and image.range == (-1000.0, 1000.0)
    assert image.pixels.min() < 0 and done.table.read_text().splitlines()[1].endswith(",HU")
    opened, first = mg.open_run(tmp_path / "run", device="cpu"), data / "imagesTr" / "organ_000.nii.gz"
    assert isinstance(opened, GeneratorRun) and opened.card["window"] == [0.0, 2000.0]
    want = np.clip(read_image(first).pixels.mean() / 1000, -1, 1)  # where no value is cut off
    np.testing.assert_allclose(opened.seen(ImageRef(first)).mean(), want, atol=0.05)
    facts = dict(opened.report["training"]["facts"])
    assert facts["axes run to"] == "SPL" and facts["values of files"] == "HU"
    with pytest.raises(BadRecipe, match="draws flat images"):
        mg.train(data, out=tmp_path / "other", task="stylegan", patients_unknown=True, **options)
