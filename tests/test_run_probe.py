"""A probe, levels and norms measured anew in whole runs: what is told, what is written, and killed runs."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch

import medgraft as mg
from medgraft.errors import BadRecipe
from medgraft.learn.model import load
from medgraft.weights.tensors import load_model, save_model
from test_run import QUICK, rows_of
from test_run_kill import kill
from whole_runs import finish, result, start

SETTINGS: dict[str, Any] = {name: value for name, value in QUICK["settings"].items() if name != "fit.probe"}
PROBE: dict[str, Any] = {**QUICK, "depth": "head", "augment": "generic", "epochs": None, "settings": SETTINGS}


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Get (table, run folder) of a run whose model is its probe."""
    from tiny_data import train_tiny

    return train_tiny(tmp_path_factory.mktemp("probed"), **PROBE, label_column="label")


def test_the_report_tells_of_the_probe_and_of_no_training(probed: tuple[Path, Path]) -> None:
    report = json.loads((probed[1] / "report.json").read_text())
    training, backbone = report["training"], report["backbone"]
    images = report["data"]["images"]["train"]
    assert training["epochs"] == training["epochs_planned"] == training["best_epoch"] == 0
    assert training["probe"]["images"] == images and training["probe"]["views"] == 2 and training["probe"]["folds"] == 5
    assert [training[name] for name in ("optimiser", "learning_rate", "schedule", "stopped", "mixup")] == [None] * 5
    assert backbone["pooling"] == "levels" and backbone["recalibrated"] == images
    assert report["scores"]["test"]["auroc"]["value"] > 0.8
    assert report["timing"]["train_images_per_second"] is None
    page, card = (probed[1] / "report.html").read_text(), (probed[1] / "model-card.md").read_text()
    for words in (
        "against epoch",
        "The weights of epoch",
        "best, epoch",
        "trained with AdamW",
        "learning rate schedule",
    ):
        assert words not in page, words
    assert "chosen by cross-validation in 5 parts" in page and "L2 penalty" in page
    assert f"measured anew on {images} training images" in page
    assert "no epoch was chosen" in page and "which chose the threshold and so flatter" in page
    assert "Depth: 0 of 5 stages thawed" in card and "Head: a probe with penalty" in card and "kept as it is" in card
    assert f"Batch normalisation: measured anew on {images} training images" in card
    (row,) = [json.loads(line) for line in (probed[1] / "log.jsonl").read_text().splitlines()]
    assert row["event"] == "start" and row["epoch"] == 0 and row["strength"] == training["probe"]["strength"]


def test_the_model_answers_alike_everywhere(probed: tuple[Path, Path], tmp_path: Path) -> None:
    table, run = probed
    told = {row["key"]: row for row in rows_of(run / "predictions.csv")}
    mg.predict(run, [table.parent], out=tmp_path / "new.csv")
    for row in rows_of(tmp_path / "new.csv"):
        if Path(row["path"]).name in told:
            assert float(row["p_ill"]) == pytest.approx(float(told[Path(row["path"]).name]["p_ill"]), abs=1e-5)
    assert load(run / "model.safetensors").card["backbone"]["recalibrated"] > 0
    for form in ("torchscript", "onnx"):
        if form == "onnx":
            pytest.importorskip("onnxruntime")
        checked = mg.export(run, out=tmp_path / form, format=form)
        assert checked["largest_difference"] < 1e-4 and checked["difference_from_predict"] < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("column", ["findings", "grade", "amount"])
def test_every_kind_of_answer_has_its_probe(tiny_data: Path, tmp_path: Path, column: str) -> None:
    report = mg.train(tiny_data, out=tmp_path / "run", **PROBE, label_column=column)
    assert report["training"]["probe"]["folds"] == 5 and report["training"]["epochs"] == 0
    score = {"findings": "auroc", "grade": "quadratic_kappa", "amount": "mae"}[column]
    value = report["scores"]["test"][score]["value"]
    assert value < 0.9 if column == "amount" else value > 0.3  # amounts go from 0 to 3.1
    page = (tmp_path / "run" / "report.html").read_text()
    assert "against epoch" not in page and ("which chose the threshold" in page) == (column == "findings")


def test_tuning_goes_on_from_the_probe(tiny_data: Path, tmp_path: Path) -> None:
    settings = {**SETTINGS, "fit.probe": True}
    report = mg.train(tiny_data, out=tmp_path / "run", **{**PROBE, "depth": 1, "epochs": 3, "settings": settings})
    assert report["training"]["epochs"] == 3 and report["training"]["optimiser"] == "AdamW"
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [(row["event"], row["epoch"]) for row in rows] == [("start", 0), ("epoch", 1), ("epoch", 2), ("epoch", 3)]
    best = max(rows, key=lambda row: row["val_score"])
    assert report["training"]["best_epoch"] == best["epoch"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Loss against epoch" in page and "From there" in page


@pytest.mark.parametrize("recalibrate", [True, False])
def test_measuring_norms_changes_their_statistics_and_nothing_else(
    tiny_data: Path, tmp_path: Path, recalibrate: bool
) -> None:
    settings = {**SETTINGS, "backbone.recalibrate": recalibrate, "fit.probe": False}
    mg.train(tiny_data, out=tmp_path / "run", **{**PROBE, "epochs": 1, "settings": settings})
    from medgraft.nets.backbone import backbone

    before, after = backbone(QUICK["backbone"], image_size=32), load(tmp_path / "run" / "model.safetensors").task
    own = dict(after.backbone.named_parameters())
    assert all(torch.equal(value, own[name]) for name, value in before.named_parameters())
    moved = dict(after.backbone.named_buffers())
    means = [name for name in moved if name.endswith("running_mean")]
    same = [torch.equal(value, moved[name]) for name, value in before.named_buffers() if name in means]
    assert same == [not recalibrate] * len(means)
    # Without a probe the features of levels are standardised all the same.
    assert after.head.pooling == "levels" and not torch.equal(after.head.standard.spread, torch.ones(after.head.width))


def test_test_images_have_no_part_in_what_is_measured(tiny_data: Path, tmp_path: Path) -> None:
    """With other test images of the same names the weights are the same."""
    from PIL import Image, ImageOps

    lines = tiny_data.read_text().splitlines()
    parts = ["test" if row // 2 % 4 == 0 else "val" if row // 2 % 4 == 3 else "train" for row in range(48)]
    tiny_data.write_text("\n".join([f"{lines[0]},split", *map(",".join, zip(lines[1:], parts, strict=True))]) + "\n")

    def weights(name: str) -> dict[str, torch.Tensor]:
        mg.train(tiny_data, out=tmp_path / name, **PROBE, label_column="label")
        return load_model(tmp_path / name / "model.safetensors")[0]

    first = weights("first")
    for row in range(48):
        if parts[row] == "test":
            path = tiny_data.parent / lines[row + 1].split(",")[0]
            ImageOps.solarize(Image.open(path), 90).save(path)
    second = weights("second")
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_model_from_before_there_was_a_choice_still_opens(tiny_data: Path, tmp_path: Path) -> None:
    settings = {**SETTINGS, "fit.probe": False, "backbone.recalibrate": False, "backbone.pooling": "avg"}
    mg.train(tiny_data, out=tmp_path / "run", **{**PROBE, "epochs": 1, "settings": settings})
    path = tmp_path / "run" / "model.safetensors"
    wanted = mg.open_run(tmp_path / "run").predict(tiny_data.parent / "p00_0.png")[0]
    state, card = load_model(path)
    for name in ("pooling", "recalibrated"):
        card["backbone"].pop(name)
    save_model(path, state={name: t for name, t in state.items() if ".standard." not in name}, card=card)
    found = mg.open_run(tmp_path / "run").predict(tiny_data.parent / "p00_0.png")[0]
    assert (found.logits == wanted.logits).all()


def test_nothing_to_learn_is_refused_before_anything_is_read(tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match=r"fit\.probe"):
        mg.train(tiny_data, out=tmp_path / "run", epochs=0, settings={"fit.probe": False})
    with pytest.raises(BadRecipe, match="depth 2 asks for tuning"):
        mg.train(tiny_data, out=tmp_path / "run", epochs=0, depth=2)


def test_too_few_images_to_measure_norms_are_refused(tiny_data: Path, tmp_path: Path) -> None:
    settings = {**SETTINGS, "backbone.recalibrate": True, "split.limit_train": 12}
    with pytest.raises(BadRecipe, match="too few to measure BatchNorm"):
        mg.train(tiny_data, out=tmp_path / "run", **{**PROBE, "settings": settings})


def log_of(run: Path) -> list[dict[str, Any]]:
    """Get what was logged, without what a clock measured."""
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("time", "seconds", "images_per_second")} for row in rows]


@pytest.mark.slow
def test_killed_with_everything_on_and_resumed_is_the_same(tiny_data: Path, tmp_path: Path) -> None:
    """Levels, norms and probe with tuned stages above a cut at whose side features of lower levels lie."""
    words: dict[str, Any] = {"depth": "1", "epochs": 4}
    words["settings"] = {"backbone.pooling": "levels", "backbone.recalibrate": "true", "fit.probe": "true"}
    finish(start(tiny_data, tmp_path / "whole", **words))
    luck, out = random.Random(1), tmp_path / "cut"
    for number, moment in enumerate(("save", "random")):
        kill(start(tiny_data, out, **words, resume=number > 0), out, moment=moment, luck=luck, epochs=4)
        if (out / "report.json").exists():
            break
    else:
        finish(start(tiny_data, out, **words, resume=True))
    assert result(out) == result(tmp_path / "whole")
    assert log_of(out) == log_of(tmp_path / "whole")  # each epoch too, whether it was kept or not
    model = load(out / "model.safetensors")
    assert model.card["backbone"]["pooling"] == "levels" and model.card["backbone"]["recalibrated"] > 0
