"""Outlines end to end: tuned on label maps, judged before and after, asked with prompts; volumes; SAM; resumed."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import medgraft as mg
from medgraft.errors import BadRecipe, RunRefused
from medgraft.nets.prompter_sources import open_prompter
from medgraft.outlining.opened import PromptRun
from medgraft.report.schema import problems
from medgraft.samples.showing import box_prompt, overlap
from tiny_masks import make_pictures, make_things, make_volumes, picture
from whole_runs import finish, result, start, wait_for_step

SETTINGS: dict[str, Any] = {"prompts.looks": 1, "prompts.most": 4, "scores.resamples": 100}
OPTIONS: dict[str, Any] = {"task": "outline", "device": "cpu", "offline": True, "patients_unknown": True}


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pictures(tmp_path_factory.mktemp("pictures"), count=20)


@pytest.fixture(scope="module")
def run(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    mg.train(pictures, out=out, depth="head", epochs=6, settings=SETTINGS, **OPTIONS)
    return out


def test_it_learns_and_the_report_is_whole(run: Path):
    report = json.loads((run / "report.json").read_text())
    assert (report["task"], report["classes"]) == ("outline", ["label 1", "label 2"])
    assert problems(report) == []
    test = report["scores"]["test"]
    assert test["iou_box"]["value"] > 0.8
    assert test["iou_box"]["low"] <= test["iou_box"]["value"] <= test["iou_box"]["high"]
    assert test["iou_point_best"]["value"] >= test["iou_point"]["value"]
    before = report["outlining"]["before"]["iou_point"]["value"]
    gain = report["outlining"]["gain"]["iou_point"]["value"]
    assert gain == pytest.approx(test["iou_point"]["value"] - before, abs=1e-9)
    assert gain > 0.03
    assert set(report["per_class"]) == {"label 1", "label 2"}
    assert report["depth"]["thawed_stages"] == 0
    assert report["backbone"]["name"] == "embedded:pyramid"


def test_the_folder_is_whole_and_what_was_kept_on_the_way_is_gone(run: Path):
    names = {path.name for path in run.iterdir()}
    assert {"recipe.yaml", "survey.json", "samples.csv", "quarantine.csv", "model.safetensors"} <= names
    assert {"calibration.json", "predictions.csv", "report.json", "report.html", "model-card.md"} <= names
    assert not names & {"cases", "resume", "depth"}
    page = (run / "report.html").read_text()
    assert "What tuning bought" in page
    assert "promptable segmentation" in page


def test_every_structure_has_its_row(run: Path):
    rows, report = rows_of(run / "predictions.csv"), json.loads((run / "report.json").read_text())
    tested = [row for row in rows if row["split"] == "test"]
    assert len(tested) == report["outlining"]["structures"]["test"]
    each = {key: [float(row["iou_box"]) for row in tested if row["key"] == key] for key in {r["key"] for r in tested}}
    mean = np.mean([np.mean(values) for values in each.values()])
    assert mean == pytest.approx(report["scores"]["test"]["iou_box"]["value"], abs=1e-3)


def test_the_run_is_asked_with_prompts(run: Path, pictures: Path):
    pixels, mask = picture(3)
    found = mg.outline(pictures.parent / "images" / "case_003.png", box=(0, 0, 60, 40), backbone=str(run))
    assert found.model["sha256"] == json.loads((run / "report.json").read_text())["checksums"]["model.safetensors"]
    opened = mg.open_run(run)
    assert isinstance(opened, PromptRun)
    told = opened.model.decode(opened.model.encode(np.repeat(pixels[..., None], 3, axis=2)), box_prompt(mask == 1))
    assert overlap(mask == 1, told.masks[told.best]) > 0.85


def test_what_it_cannot_do_it_says(run: Path, pictures: Path):
    image = pictures.parent / "images" / "case_003.png"
    with pytest.raises(RunRefused, match="has to be shown") as refused:
        mg.predict(run, image)
    assert "medgraft outline" in str(refused.value)
    with pytest.raises(RunRefused, match="told where to look"):
        mg.explain(run, image, out=run.parent / "explained")
    with pytest.raises(RunRefused, match="outlines what a prompt shows"):
        mg.export(run, out=run.parent / "model.onnx")


def test_it_is_scored_on_other_data(run: Path, tmp_path: Path):
    other = make_pictures(tmp_path / "other", count=8, first=100)
    report = mg.evaluate(run, other, out=tmp_path / "scores")
    assert problems(dict(report)) == []
    assert report["scores"]["test"]["iou_box"]["value"] > 0.75
    assert report["outlining"].keys() == {"structures"}
    assert len(rows_of(tmp_path / "scores" / "predictions.csv")) == report["outlining"]["structures"]["test"]


@pytest.mark.slow
def test_things_are_structures_each(tmp_path: Path):
    report = mg.train(
        make_things(tmp_path / "cells", count=12),
        out=tmp_path / "run",
        depth="head",
        epochs=1,
        settings=SETTINGS,
        **OPTIONS,
    )
    rows = rows_of(tmp_path / "run" / "predictions.csv")
    assert max(int(row["number"]) for row in rows) >= 4
    assert report["scores"]["test"]["iou_box"]["value"] > 0.6


@pytest.mark.slow
def test_volumes_are_learnt_from_slice_by_slice(tmp_path: Path):
    folder = make_volumes(tmp_path / "scans", count=10)
    report = mg.train(folder, out=tmp_path / "run", depth="head", epochs=1, settings=SETTINGS, **OPTIONS)
    assert report["classes"] == ["front", "back"]
    rows = rows_of(tmp_path / "run" / "predictions.csv")
    assert all("#" in row["picture"] for row in rows)
    assert {row["structure"] for row in rows} == {"front", "back"}
    scan = folder / "imagesTr" / "organ_000.nii.gz"
    found = mg.outline(scan, box=(4, 4, 22, 24), slice=6, backbone=str(tmp_path / "run"))
    assert found.labels.any()


@pytest.mark.slow
def test_connected_parts_are_structures_where_it_is_asked(tmp_path: Path, pictures: Path):
    settings = {**SETTINGS, "prompts.structures": "parts", "prompts.least": 40}
    mg.train(pictures, out=tmp_path / "run", depth="head", epochs=1, settings=settings, **OPTIONS)
    assert all(int(row["pixels"]) >= 40 for row in rows_of(tmp_path / "run" / "predictions.csv"))


def test_a_model_that_tuning_ruins_is_kept_as_it_was(tmp_path: Path, pictures: Path):
    said: list[str] = []
    settings = {**SETTINGS, "fit.lr": 0.03, "fit.head_lr": 0.03, "fit.warmup": 0.0}
    words: dict[str, Any] = {"listen": lambda event: said.append(str(event.get("text"))), **OPTIONS}
    mg.train(pictures, out=tmp_path / "run", depth="head", epochs=1, settings=settings, **words)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["training"]["best_epoch"] == 0 and report["training"]["epochs"] == 1
    assert any("than the model as it was, which is kept" in text for text in said)
    assert report["outlining"]["gain"]["iou_box"]["value"] == pytest.approx(0.0, abs=1e-6)
    assert "than the model as it was" in report["methods"] and problems(report) == []


@pytest.mark.parametrize("depth", ["head", 1, "lora"])
def test_sam_is_tuned_and_opened_again(depth: Any, tmp_path: Path, pictures: Path):
    from tiny_sam import save, tiny_sam

    folder = save(tiny_sam(mlp=512), tmp_path / "sam")
    # Rates at which a model of random weights becomes better at once: one that does not would be kept as it was.
    settings = {**SETTINGS, "fit.lr": 0.003, "fit.head_lr": 0.003}
    report = mg.train(
        pictures, out=tmp_path / "run", backbone=str(folder), depth=depth, epochs=2, settings=settings, **OPTIONS
    )
    assert report["training"]["best_epoch"] > 0
    assert report["depth"]["thawed_stages"] == {"head": 0, 1: 1, "lora": 2}[depth]
    assert bool(report["depth"]["adapters"]) == (depth == "lora")
    one, other = open_prompter(str(tmp_path / "run")), open_prompter(str(folder))
    pixels = np.repeat(picture(0)[0][..., None], 3, axis=2)
    prompt = box_prompt(picture(0)[1] == 1)
    first, second = (net.guess(net.encode(pixels), [prompt]).logits for net in (one, other))
    assert first.shape == second.shape
    assert not np.allclose(first, second)
    own = dict(one.net.named_parameters())  # type: ignore[attr-defined]
    frozen = {name: value for name, value in other.net.named_parameters() if name.startswith("vision_encoder")}  # type: ignore[attr-defined]
    same = [bool((own[name] == value).all()) for name, value in frozen.items()]
    assert all(same) == (depth == "head")


def test_adapters_are_for_transformers(pictures: Path, tmp_path: Path):
    with pytest.raises(BadRecipe, match="lora is for transformers"):
        mg.train(pictures, out=tmp_path / "run", depth="lora", **OPTIONS)


@pytest.mark.slow
def test_the_depth_is_searched_and_said(pictures: Path, tmp_path: Path):
    settings = {**SETTINGS, "depth.candidates": ["head", "all"]}
    report = mg.train(pictures, out=tmp_path / "run", epochs=8, settings=settings, **OPTIONS)
    assert report["depth"]["chosen_by"] == "the depth finder"
    assert [row["thawed"] for row in report["depth"]["curve"]] == [0, 5]
    assert (tmp_path / "run" / "depth.json").exists()
    found = mg.depth(pictures, out=tmp_path / "depth", epochs=8, settings=settings, **OPTIONS)
    assert found["score"] == "iou"
    assert {row["name"] for row in found["curve"]} == {"head", "stem"}


@pytest.mark.slow
def test_killed_and_resumed_it_ends_with_the_same_bits(pictures: Path, tmp_path: Path):
    more = ["--task", "outline", "--label-column", "none", "--backbone", "auto", "--offline"]
    words: dict[str, Any] = {"epochs": 2, "depth": "1", "more": more, "settings": SETTINGS}
    finish(start(pictures, tmp_path / "whole", **words))
    process = start(pictures, tmp_path / "cut", **words)
    wait_for_step(process, 6)
    process.kill()
    process.wait()
    assert process.stderr is not None
    process.stderr.close()
    finish(start(pictures, tmp_path / "cut", resume=True, **words))
    assert result(tmp_path / "whole") == result(tmp_path / "cut")
