"""Label maps end to end: train, report, predict, evaluate; pictures, things told apart, volumes; killed and resumed."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

import medgraft as mg
from medgraft.errors import BadData, BadRecipe, Leak, RunRefused
from medgraft.files import read_image, save_nifti
from medgraft.report.schema import problems
from medgraft.segmentation.partings import SEAMS, SURES, VALLEYS
from tiny_masks import AFFINE, make_pictures, make_things, make_volumes, picture, volume, write_table

SETTINGS: dict[str, Any] = {"masks.width": 8, "masks.patches": 8, "fit.batch_size": 8, "scores.resamples": 100}
SETTINGS["augment.strength"] = 0.4  # few steps do not learn to stand much
OPTIONS: dict[str, Any] = {"backbone": "embedded:resnet10t_small", "device": "cpu", "offline": True}


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def run(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    mg.train(pictures, out=out, epochs=6, settings=SETTINGS, **OPTIONS)
    return out


def test_the_data_say_that_label_maps_are_to_be_drawn_and_the_report_is_whole(run: Path):
    report = json.loads((run / "report.json").read_text())
    assert (report["task"], report["classes"]) == ("segment", ["label 1", "label 2"])
    assert problems(report) == []
    test = report["scores"]["test"]
    tested = [row for row in rows_of(run / "predictions.csv") if row["split"] == "test"]
    assert test["dice"]["value"] > 0.8 and test["dice"]["n"] == len(tested)
    assert test["dice"]["low"] < test["dice"]["value"] < test["dice"]["high"]
    assert {"iou", "nsd", "hd95_px", "assd_px"} <= set(test)
    assert set(report["per_class"]) == {"label 1", "label 2"}
    told = {"tolerance": 2.0, "unit": "px", "thin": False, "apart": False, "axes": 2}
    assert report["drawing"] == told
    assert report["data"]["split_by"] == "patient"


def test_the_folder_is_whole_and_what_was_kept_on_the_way_is_gone(run: Path):
    names = {path.name for path in run.iterdir()}
    assert {"recipe.yaml", "survey.json", "samples.csv", "quarantine.csv", "model.safetensors"} <= names
    assert {"calibration.json", "predictions.csv", "report.json", "report.html", "model-card.md", "masks"} <= names
    assert not (run / "resume").exists() and not (run / "cases").exists()
    assert "U-Net" in (run / "report.html").read_text()


def test_written_maps_have_the_size_of_the_image_and_the_numbers_of_the_users_own(run: Path):
    for row in rows_of(run / "predictions.csv"):
        drawn = np.asarray(Pillow.open(run / row["mask"]))
        assert drawn.shape == (64, 80) and set(np.unique(drawn)) <= {0, 1, 2}
        assert int(row["pixels_label 1"]) == int((drawn == 1).sum())
        assert row["predicted"] == "|".join(f"label {k}" for k in (1, 2) if (drawn == k).any())


def test_files_and_arrays_are_drawn_on_in_their_own_pixels(run: Path, tmp_path: Path):
    opened = mg.open_run(run)
    pixels, mask = picture(100)
    Pillow.fromarray(pixels).save(tmp_path / "new.png")
    by_file, by_array = opened.predict([tmp_path / "new.png", pixels])
    assert by_file.mask.shape == mask.shape and by_file.mask.dtype == np.uint8
    np.testing.assert_array_equal(by_file.mask, by_array.mask)
    assert (by_file.mask == mask).mean() > 0.93
    done = mg.predict(run, tmp_path / "new.png", out=tmp_path / "out")
    assert (done.count, done.failed) == (1, 0)
    np.testing.assert_array_equal(np.asarray(Pillow.open(tmp_path / "out" / "masks" / "new.png")), by_file.mask)
    assert (tmp_path / "out" / "overlays" / "new.png").exists()
    (row,) = rows_of(tmp_path / "out" / "predictions.csv")
    assert int(row["pixels_label 2"]) == int((by_file.mask == 2).sum()) and row["error"] == ""
    mg.predict(run, tmp_path / "new.png", out=tmp_path / "one.png")
    np.testing.assert_array_equal(np.asarray(Pillow.open(tmp_path / "one.png")), by_file.mask)


def test_a_broken_file_is_named_and_the_rest_is_drawn(run: Path, tmp_path: Path):
    Pillow.fromarray(picture(101)[0]).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes((tmp_path / "good.png").read_bytes()[:200])
    done = mg.predict(run, tmp_path, out=tmp_path / "out.csv")
    assert (done.count, done.failed) == (2, 1)
    said = {Path(row["path"]).name: row["error"] for row in rows_of(tmp_path / "out.csv")}
    assert said["good.png"] == "" and said["bad.png"]
    with pytest.raises(BadData, match="not written as .json"):
        mg.predict(run, tmp_path / "good.png", out=tmp_path / "out.json")


def test_a_slide_is_drawn_on_in_windows_and_written_in_tiles(run: Path, tmp_path: Path):
    from medgraft.files import write_pyramid

    parts = [picture(400 + k)[0] for k in range(63)]
    whole = np.concatenate([np.concatenate(parts[7 * k : 7 * k + 7], axis=1) for k in range(9)])  # 576 x 560
    rows = np.repeat(whole[..., None], 3, axis=-1)
    words: dict[str, Any] = {"size": (560, 576), "um_per_px": 0.5, "quality": 100}
    write_pyramid(tmp_path / "slide.tif", (rows[k : k + 512] for k in (0, 512)), **words)
    Pillow.fromarray(whole).save(tmp_path / "slide.png")
    done = mg.predict(run, tmp_path / "slide.tif", out=tmp_path / "out")
    assert (done.count, done.failed) == (1, 0)
    drawn = read_image(tmp_path / "out" / "masks" / "slide.tif")
    assert drawn.pixels.shape == (1, 576, 560)
    (flat,) = mg.open_run(run).predict(tmp_path / "slide.png")
    assert (drawn.pixels[0] == flat.mask).mean() > 0.95
    (row,) = rows_of(tmp_path / "out" / "predictions.csv")
    counted = int((drawn.pixels[0] == 1).sum())
    assert int(row["pixels_label 1"]) == counted
    assert float(row["mm2_label 1"]) == pytest.approx(counted * 0.0005**2, rel=0.001)
    assert (tmp_path / "out" / "overlays" / "slide.png").exists()
    with pytest.raises(BadData, match="label map of a slide is a TIFF"):
        mg.predict(run, tmp_path / "slide.tif", out=tmp_path / "out.png")


def test_it_is_scored_on_other_data_by_its_own_rules_and_refuses_its_training_images(
    run: Path, pictures: Path, tmp_path: Path
):
    other = make_pictures(tmp_path / "other", count=8, first=200)
    report = mg.evaluate(run, other, out=tmp_path / "scored")
    assert report["evaluated_run"] == "run" and report["scores"]["test"]["dice"]["n"] == 8
    assert report["scores"]["test"]["dice"]["value"] > 0.75
    assert (tmp_path / "scored" / "report.html").exists() and len(rows_of(tmp_path / "scored" / "predictions.csv")) == 8
    with pytest.raises(Leak):
        mg.evaluate(run, pictures, out=tmp_path / "leak")


def test_other_classes_are_refused(run: Path, tmp_path: Path):
    other = make_pictures(tmp_path / "other", count=6, first=300)
    for path in (tmp_path / "other" / "masks").glob("*.png"):
        labels = np.array(Pillow.open(path))
        labels[:4, :4] = 3
        Pillow.fromarray(labels).save(path)
    with pytest.raises(BadData, match="which is none of 1 = label 1, 2 = label 2"):
        mg.evaluate(run, other, out=tmp_path / "scored")


@pytest.mark.slow
def test_without_a_structure_in_validation_the_last_weights_are_kept_and_it_is_said(tmp_path: Path):
    table = make_pictures(tmp_path / "data", count=14)
    rows = rows_of(table)
    parts = ["train"] * 8 + ["val"] * 2 + ["test"] * 4
    for row, part in zip(rows, parts, strict=True):
        row["split"], path = part, tmp_path / "data" / row["mask"]
        if part == "val":
            Pillow.fromarray(np.zeros_like(np.array(Pillow.open(path)))).save(path)
    write_table(table, rows)
    said: list[str] = []
    report = mg.train(
        table,
        out=tmp_path / "run",
        epochs=2,
        settings=SETTINGS,
        listen=lambda event: said.append(str(event.get("text"))),
        **OPTIONS,
    )
    assert any("no validation image has a structure" in text for text in said)
    assert report["training"]["best_epoch"] is None and "last weights were kept" in report["methods"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "the last weights were kept" in page and "weights of the best epoch" not in page
    assert problems(report) == []


def test_what_has_no_meaning_for_label_maps_is_refused_in_words(run: Path, pictures: Path, tmp_path: Path):
    with pytest.raises(RunRefused, match="draws label maps"):
        mg.stress([run], out=tmp_path / "stress")
    with pytest.raises(RunRefused, match="where"):
        mg.explain(run, pictures.parent / "images" / "case_000.png", out=tmp_path / "maps")
    with pytest.raises(BadRecipe, match="adapters are not for label maps"):
        mg.train(pictures, out=tmp_path / "lora", depth="lora", **OPTIONS)
    with pytest.raises(BadRecipe, match="adapters are not tried for label maps"):
        mg.depth(pictures, out=tmp_path / "depth", settings={"depth.candidates": ["lora"]}, **OPTIONS)
    with pytest.raises(BadRecipe, match="a whole net"):
        mg.depth(pictures, out=tmp_path / "whole", settings={"masks.decoder": "dynunet"}, **OPTIONS)


@pytest.mark.slow
def test_the_depth_is_searched_alone(pictures: Path, tmp_path: Path):
    settings = {**SETTINGS, "masks.patches": 4, "depth.candidates": ["head", "all"]}
    found = mg.depth(pictures, out=tmp_path / "depth", epochs=8, settings=settings, **OPTIONS)
    assert found["score"] == "dice"
    assert {row["name"] for row in found["curve"]} == {"head", "stem"}
    assert all(row["val"]["low"] <= row["val"]["value"] <= row["val"]["high"] for row in found["curve"])
    assert (tmp_path / "depth" / "depth.html").exists()
    assert not (tmp_path / "depth" / "depth").exists()


def test_a_mask_of_another_size_is_named_and_costs_one_image(tmp_path: Path):
    table = make_pictures(tmp_path, count=20)
    path = tmp_path / "masks" / "case_004.png"
    Pillow.open(path).resize((40, 32), Pillow.Resampling.NEAREST).save(path)
    recipe = mg.plan(table, settings={"data.limit_bad": 10.0}, **OPTIONS)
    assert recipe.task == "segment" and recipe.masks.patch == [64, 96]
    with pytest.raises(BadData, match=r"case_004.*40 x 32.*80 x 64"):
        mg.plan(table, settings={"data.limit_bad": 0.0}, **OPTIONS)


def test_the_plan_says_why(pictures: Path):
    recipe = mg.plan(pictures, **OPTIONS)
    for field in ("masks.patch", "masks.patches", "masks.mirrored", "masks.fine", "depth.thaw", "fit.batch_size"):
        assert recipe.reasons[field]
    assert recipe.masks.mirrored == [] or 0 not in recipe.masks.mirrored  # the bar always lies below the disc
    assert "always lie in the same order" in recipe.reasons["masks.mirrored"]


def test_things_are_told_apart(tmp_path: Path):
    table = make_things(tmp_path)
    settings = {**SETTINGS, "masks.patches": 6}
    report = mg.train(table, out=tmp_path / "run", epochs=6, patients_unknown=True, settings=settings, **OPTIONS)
    test = report["scores"]["test"]
    assert report["drawing"]["apart"] and list(test)[0] == "ap50"
    assert test["ap50"]["value"] > 0.6 and {"pq", "aji", "dice"} <= set(test)
    (row, *_) = [row for row in rows_of(tmp_path / "run" / "predictions.csv") if row["split"] == "test"]
    drawn = np.asarray(Pillow.open(tmp_path / "run" / row["mask"]))
    assert drawn.dtype == np.uint16 and int(row["things"]) == drawn.max() >= 3
    (told,) = mg.open_run(tmp_path / "run").predict(Path(row["path"]))
    np.testing.assert_array_equal(told.mask, drawn)
    parting = json.loads((tmp_path / "run" / "calibration.json").read_text())
    assert parting["valley"] in VALLEYS and parting["seam"] in SEAMS
    kept: Any = mg.open_run(tmp_path / "run")
    assert parting["sure"] in SURES and parting["least"] >= 4  # discs of some hundred pixels, none of them a speck
    assert asdict(kept.task.parting) == {name: parting[name] for name in ("valley", "seam", "least", "sure")}


@pytest.fixture(scope="module")
def solid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = make_volumes(tmp_path_factory.mktemp("volumes"))
    out = tmp_path_factory.mktemp("solid") / "run"
    settings = {**SETTINGS, "masks.patches": 8, "fit.batch_size": 4, "split.val": 0.2, "split.test": 0.25}
    mg.train(data, out=out, epochs=5, patients_unknown=True, settings=settings, **OPTIONS)
    return out


def test_volumes_are_drawn_on_with_names_and_millimetres(solid: Path):
    report = json.loads((solid / "report.json").read_text())
    assert report["classes"] == ["front", "back"] and problems(report) == []
    test = report["scores"]["test"]
    assert test["dice"]["value"] > 0.75 and test["hd95_mm"]["value"] < 12
    assert report["drawing"]["unit"] == "mm"
    row = rows_of(solid / "predictions.csv")[0]
    assert float(row["ml_front"]) == pytest.approx(int(row["pixels_front"]) * 6.75 / 1000, rel=0.01)


def test_the_shares_of_the_classes_are_told_under_their_own_names(solid: Path):
    told = dict(json.loads((solid / "report.json").read_text())["data"]["facts"])["Share of the pixels, training"]
    training = [row["path"] for row in rows_of(solid / "samples.csv") if row["split"] == "train"]
    maps = [volume(int(Path(path).name[6:9]))[1] for path in training]
    front, back = (np.mean([(drawn == k).mean() for drawn in maps]) for k in (1, 2))
    assert told == f"front {front:.2%}, back {back:.2%}" and f"{front:.2%}" != f"{back:.2%}"


def test_a_volume_is_the_same_in_whatever_order_its_axes_are_written(solid: Path, tmp_path: Path):
    opened = mg.open_run(solid)
    values, _ = volume(100)
    save_nifti(tmp_path / "plain.nii.gz", values, affine=AFFINE)
    turned = np.flip(values.transpose(2, 0, 1), 1)
    affine = AFFINE[:, [2, 0, 1, 3]].copy()
    affine[:, 3] += affine[:, 1] * (turned.shape[1] - 1)
    affine[:, 1] *= -1
    save_nifti(tmp_path / "turned.nii.gz", np.ascontiguousarray(turned), affine=affine)
    plain, other = opened.predict([tmp_path / "plain.nii.gz", tmp_path / "turned.nii.gz"])
    assert plain.mask.any()
    np.testing.assert_array_equal(np.flip(plain.mask.transpose(2, 0, 1), 1), other.mask)
    mg.predict(solid, tmp_path / "turned.nii.gz", out=tmp_path / "out")
    written = read_image(tmp_path / "out" / "masks" / "turned.nii.gz")
    np.testing.assert_array_equal(written.pixels[0].astype(np.uint8), other.mask)
    np.testing.assert_allclose(written.affine, affine, atol=1e-5)


@pytest.mark.slow
def test_killed_and_resumed_it_ends_with_the_same_bits(pictures: Path, tmp_path: Path):
    from whole_runs import finish, result, start, wait_for_step

    words: dict[str, Any] = {"epochs": 2, "more": ["--task", "segment", "--label-column", "none"], "settings": SETTINGS}
    finish(start(pictures, tmp_path / "whole", **words))
    process = start(pictures, tmp_path / "cut", **words)
    wait_for_step(process, 3)
    process.kill()
    process.wait()
    assert process.stderr is not None
    process.stderr.close()
    finish(start(pictures, tmp_path / "cut", resume=True, **words))
    assert result(tmp_path / "whole") == result(tmp_path / "cut")
