"""Boxes from end to end: train, report, predict, evaluate; mistakes that are said; a killed run that goes on."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import medgraft as mg
from medgraft.errors import BadData, BadRecipe, RunRefused, UnknownName
from medgraft.report.schema import problems
from tiny_boxes import draw, make_boxed_data

OPTIONS: dict[str, Any] = {
    "backbone": "none:timm:resnet10t",
    "image_size": 128,
    "epochs": 8,
    "batch_size": 4,
    "device": "cpu",
    "augment": "none",
    "settings": {"fit.precision": "fp32", "fit.channels_last": True, "fit.lr": 1e-3, "boxes.width": 64}
    | {"scores.resamples": 100, "fit.ema": 0.0, "boxes.strides": [8, 16]},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDGRAFT_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def boxed(home: Path) -> Path:
    return make_boxed_data(home / "boxed")


@pytest.fixture(scope="module")
def run(boxed: Path, home: Path) -> Path:
    mg.train(boxed, out=home / "run", **OPTIONS)
    return home / "run"


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_it_learns_and_the_report_is_whole(run: Path):
    report = json.loads((run / "report.json").read_text())
    assert report["task"] == "detect" and report["classes"] == ["disc", "square"]
    assert problems(report) == []
    test = report["scores"]["test"]
    assert test["map50"]["value"] > 0.6 and test["map50"]["low"] < test["map50"]["value"] <= test["map50"]["high"]
    assert set(test["sensitivity_at_fp"]) == {"0.125", "0.25", "0.5", "1", "2", "4", "8"}
    assert test["f1"]["value"] > 0.5 and test["f1"]["n"] == report["data"]["images"]["test"]
    assert set(report["per_class"]) == {"disc", "square"} and "ap50" in report["per_class"]["disc"]
    counts = report["data"]["boxes"]["train"]
    assert counts["boxes"] == sum(counts["classes"].values()) and counts["empty"] > 0
    assert report["operating_point"]["chosen_on"] == "val"
    reasons = report["recipe_yaml"]
    assert "boxes.ratios:" in reasons and "task:" in reasons


def test_the_folder_holds_what_the_interface_says(run: Path):
    names = {path.name for path in run.iterdir()}
    assert {"recipe.yaml", "survey.json", "samples.csv", "quarantine.csv", "log.jsonl", "model.safetensors"} <= names
    assert {"calibration.json", "predictions.csv", "boxes.csv", "report.json", "report.html", "model-card.md"} <= names
    assert list((run / "resume").iterdir()) == [] if (run / "resume").exists() else True
    rows = table(run / "predictions.csv")
    assert {row["split"] for row in rows} == {"val", "test"}
    for row in rows:
        own = json.loads(row["boxes"])
        words = sum(int(part.split()[0]) for part in row["predicted"].split(", ")) if row["predicted"] != "none" else 0
        assert words == len(own)
    boxes = table(run / "boxes.csv")
    called = sum(row["called"] == "true" for row in boxes)
    assert called == sum(len(json.loads(row["boxes"])) for row in rows)


def test_the_page_and_the_card_tell_of_boxes(run: Path):
    page, card = (run / "report.html").read_text(), (run / "model-card.md").read_text()
    for words in ("What was found", "FROC", "Sensitivity at false alarms", "Hits, the surest first", "mAP at IoU .50"):
        assert words in page
    assert "mAP at IoU .50" in card and "sensitivity_at_fp" not in card
    assert "http://" not in page.replace("http://www.w3.org", "") and "<script" not in page


def test_predictions_are_in_the_files_own_pixels(run: Path, boxed: Path):
    opened = mg.open_run(run)
    hits = truths = 0
    for index in range(100, 112):
        pixels, boxes = draw(index)
        larger = 1 + index % 2  # of twice the size, the same picture looks the same to the net
        (one,) = opened.predict(np.kron(pixels, np.ones((larger, larger, 1), np.uint8)))
        assert one.boxes is not None
        called = opened.task.called(one.boxes)
        for corners, label in zip(boxes.corners * larger, boxes.labels, strict=True):
            truths += 1
            same = np.array([name == label for name in called.labels], dtype=bool)
            near = np.abs(called.corners - corners).max(axis=1) < 6 * larger
            hits += bool((near & same).any())
    assert hits > 0.5 * truths


def test_a_file_and_its_array_give_the_same_boxes(run: Path, boxed: Path):
    opened = mg.open_run(run)
    path = boxed / "images" / "003.png"
    (file,), (array,) = opened.predict(path), opened.predict(draw(3)[0])
    np.testing.assert_allclose(file.boxes.corners, array.boxes.corners, atol=1e-3)


def test_predict_writes_tables_coco_geojson_and_pictures(run: Path, boxed: Path, tmp_path: Path):
    images = [boxed / "images" / f"{index:03d}.png" for index in (0, 1, 4)]
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * 30)
    done = mg.predict(run, [*images, broken], out=tmp_path / "all")
    assert (done.count, done.failed) == (4, 1)
    rows = table(tmp_path / "all" / "predictions.csv")
    assert sum(bool(row["error"]) for row in rows) == 1
    coco = json.loads((tmp_path / "all" / "predictions.json").read_text())
    assert len(coco["images"]) == 3 and [one["name"] for one in coco["categories"]] == ["disc", "square"]
    assert len(coco["annotations"]) == sum(bool(row["label"]) for row in rows)
    assert isinstance(json.loads((tmp_path / "all" / "results.json").read_text()), list)
    assert len(list((tmp_path / "all" / "geojson").glob("*.geojson"))) == 3
    assert len(list((tmp_path / "all" / "overlays").glob("*.png"))) == 3
    assert sorted(path.name for path in (tmp_path / "all" / "voc").iterdir()) == ["000.xml", "001.xml", "004.xml"]
    assert len((tmp_path / "all" / "yolo" / "labels" / "000.txt").read_text().splitlines()) == sum(
        row["path"].endswith("000.png") and bool(row["label"]) for row in rows
    )
    mg.predict(run, images[0], out=tmp_path / "one.geojson")
    assert json.loads((tmp_path / "one.geojson").read_text())["type"] == "FeatureCollection"
    with pytest.raises(BadData, match="xml"):
        mg.predict(run, images, out=tmp_path / "a.xml")
    with pytest.raises(BadData, match="one image"):
        mg.predict(run, images, out=tmp_path / "b.geojson")


def test_evaluation_uses_the_runs_thresholds_and_refuses_its_images(run: Path, boxed: Path, tmp_path: Path):
    other = make_boxed_data(tmp_path / "other", count=12, first=200)
    report = mg.evaluate(run, other, out=tmp_path / "eval")
    assert report["evaluated_run"] == "run" and report["data"]["images"] == {"test": 12}
    assert report["operating_point"]["threshold"] == json.loads((run / "calibration.json").read_text())["threshold"]
    assert report["scores"]["test"]["map50"]["n"] == 12 and "val" not in report["scores"]
    assert (tmp_path / "eval" / "report.html").exists()
    from medgraft.errors import Leak

    with pytest.raises(Leak):
        mg.evaluate(run, boxed, out=tmp_path / "same")


def test_what_is_for_whole_images_says_so(run: Path, boxed: Path, tmp_path: Path):
    with pytest.raises(RunRefused, match="finds boxes"):
        mg.export(run, out=tmp_path / "x.onnx")
    with pytest.raises(RunRefused, match="finds boxes"):
        mg.inspect(run, out=tmp_path / "x")
    with pytest.raises(BadRecipe, match="boxes are learnt in epochs"):
        mg.train(boxed, out=tmp_path / "y", **{**OPTIONS, "epochs": 0, "task": "detect"})


def test_maps_of_boxes_are_in_the_files_own_pixels_and_point_at_them(run: Path, boxed: Path, tmp_path: Path):
    images = [boxed / "images" / f"{index:03d}.png" for index in (0, 1, 2, 4)]
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * 30)
    told = mg.explain(run, [*images, broken], out=tmp_path / "maps")
    assert told == json.loads((tmp_path / "maps" / "explain.json").read_text())
    maps = [row for row in told["images"] if "error" not in row]
    assert len(told["images"]) == len(maps) + 1 and told["count"] == len(maps) >= 3
    called = [one.boxes for one in mg.open_run(run).predict(images)]
    called = [mg.open_run(run).task.called(boxes) for boxes in called if boxes is not None]
    assert len(maps) == sum(min(5, len(boxes)) for boxes in called)
    assert len(told["nothing"]) == sum(not len(boxes) for boxes in called)
    for row in maps:
        values = np.load(tmp_path / "maps" / row["files"]["npy"])
        assert values.shape == (96, 128) and values.dtype == np.float32 and 0 <= values.min() <= values.max() <= 1
        x0, y0, x1, y1 = row["box"]
        y, x = np.unravel_index(int(values.argmax()), values.shape)
        assert row["pointed"] == (np.floor(y0) <= y < np.ceil(y1) and np.floor(x0) <= x < np.ceil(x1))
        assert row["area"] == pytest.approx((x1 - x0) * (y1 - y0) / values.size, abs=0.01)
        assert row["answer"] in ("disc", "square") and 0 <= row["deletion"] <= 1
        assert (tmp_path / "maps" / row["files"]["png"]).exists()
    assert told["pointing"]["n"] == len(maps) and told["pointing"]["share"] > 0.5
    assert np.mean([row["inside"] for row in maps]) > 4 * np.mean([row["area"] for row in maps])
    page = (tmp_path / "maps" / "explain.html").read_text()
    assert page.count("<img") == len(maps) and "Pointed at the box" in page and "inside the box" in page
    discs = mg.explain(run, images, out=tmp_path / "discs", target="disc", method="layercam")
    assert {row["answer"] for row in discs["images"]} <= {"disc"} and discs["method"] == "layercam"


def test_what_cannot_be_explained_of_boxes_is_said(run: Path, boxed: Path, tmp_path: Path):
    with pytest.raises(BadRecipe, match="whole images"):
        mg.explain(run, boxed / "images", out=tmp_path / "a", method="attention")
    with pytest.raises(UnknownName, match="'no-method'"):
        mg.explain(run, boxed / "images", out=tmp_path / "a", method="no-method")
    with pytest.raises(UnknownName, match="disc, square"):
        mg.explain(run, boxed / "images", out=tmp_path / "a", target="triangle")


def test_images_without_any_box_are_refused(home: Path, tmp_path: Path):
    empty = make_boxed_data(tmp_path / "empty", count=1, first=4)
    with pytest.raises(BadData, match="no image has a box"):
        mg.train(empty, out=tmp_path / "run", **OPTIONS)


def test_the_plan_gives_reasons_for_boxes(boxed: Path):
    options = {**OPTIONS, "settings": {}, "image_size": None, "epochs": None, "batch_size": None}
    planned = mg.plan(boxed, **options)
    assert planned.task == "detect" and planned.input.image_size is not None and planned.input.image_size % 64 == 0
    for field in ("input.image_size", "boxes.strides", "boxes.ratios", "boxes.most", "boxes.crop", "fit.epochs"):
        assert planned.reasons[field]


@pytest.mark.slow
def test_killed_and_resumed_it_ends_with_the_same_bits(boxed: Path, tmp_path: Path):
    from whole_runs import finish, result, start, wait_for_step

    more = ["--task", "detect"]
    settings = {"boxes.width": 32, "boxes.strides": "[8,16]", "fit.norms": "stored"}
    words: dict[str, Any] = {"epochs": 2, "more": more, "settings": settings}
    finish(start(boxed, tmp_path / "whole", **words))
    process = start(boxed, tmp_path / "cut", **words)
    wait_for_step(process, 3)
    process.kill()
    process.wait()
    assert process.stderr is not None
    process.stderr.close()
    finish(start(boxed, tmp_path / "cut", resume=True, **words))
    assert result(tmp_path / "whole") == result(tmp_path / "cut")


def test_boxes_are_told_in_lines_and_in_numbers(run: Path, boxed: Path):
    done = mg.predict(run, boxed / "images" / "001.png")
    lines, rows = done.lines(), done.headline()["predictions"]
    assert len(lines) == len(rows) + 1 and rows[0]["label"] in ("disc", "square")
    assert rows[0]["x1"] > rows[0]["x0"] and 0 < rows[0]["score"] <= 1
    assert f"{rows[0]['label']} {rows[0]['score']:.4f}" in lines[0]
