"""The main job from end to end, on pictures that a small random net learns in seconds."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import medgraft as mg
from medgraft.errors import BadData, Leak, RunRefused
from medgraft.storage import sha256_file

QUICK: dict[str, Any] = {
    "backbone": "none:timm:test_resnet",
    "image_size": 32,
    "batch_size": 8,
    "epochs": 2,
    "augment": "none",
    "depth": "all",
    "device": "cpu",
    # Without the probe, which these pictures make so good that no epoch would be kept.
    "settings": {"fit.precision": "fp32", "fit.channels_last": False, "fit.probe": False, "scores.resamples": 200},
}


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Get (table, run folder) of one finished run that the tests below only look at."""
    from tiny_data import train_tiny

    return train_tiny(tmp_path_factory.mktemp("trained"), **{**QUICK, "epochs": 12}, label_column="label")


def test_the_run_folder_holds_what_the_interface_says(trained: tuple[Path, Path]) -> None:
    _, run = trained
    names = {path.name for path in run.iterdir()}
    assert names >= {
        "recipe.yaml", "survey.json", "samples.csv", "quarantine.csv", "log.jsonl", "model.safetensors",
        "calibration.json", "predictions.csv", "report.json", "report.html", "model-card.md",
    }  # fmt: skip
    assert "resume" not in names


def test_report_json_keeps_the_schema(trained: tuple[Path, Path]) -> None:
    report = json.loads((trained[1] / "report.json").read_text())
    assert report["task"] == "classify"
    assert report["positive"] == "ill"
    assert report["classes"] == ["well", "ill"]
    assert report["data"]["split_by"] == "patient"
    assert sum(report["data"]["images"].values()) == 48
    assert sum(report["data"]["patients"].values()) == 24
    for split in ("test", "val"):
        for name in ("auroc", "auprc", "accuracy", "balanced_accuracy", "mcc", "f1", "brier", "ece"):
            score = report["scores"][split][name]
            assert {"value", "low", "high", "n", "n_patients", "method"} <= set(score)
            assert score["value"] is not None or score["why"]
    assert report["scores"]["test"]["auroc"]["value"] > 0.9
    point = report["operating_point"]
    assert point["chosen_on"] == "val" and point["rule"] == "youden"
    assert {"sensitivity", "specificity", "ppv", "npv", "threshold"} <= set(point)
    timed = {"train_seconds", "train_images_per_second", "predict_images_per_second", "prefix_seconds"}
    assert set(report["timing"]) == timed | {"question_seconds"}
    assert set(report["timing"]["question_seconds"]) == {"learning", "shortcuts", "certainty", "stress"}
    assert {row["covariate"] for row in report["subgroups"]} >= {"site"}


def test_no_patient_crosses_the_splits(trained: tuple[Path, Path]) -> None:
    splits: dict[str, set[str]] = {}
    for row in rows_of(trained[1] / "samples.csv"):
        splits.setdefault(row["patient"], set()).add(row["split"])
    assert all(len(found) == 1 for found in splits.values())


def test_predictions_of_files_arrays_and_the_run_agree(trained: tuple[Path, Path], tmp_path: Path) -> None:
    from PIL import Image

    table, run = trained
    told = {row["key"]: row for row in rows_of(run / "predictions.csv")}
    done = mg.predict(run, [table.parent], out=tmp_path / "new.csv")
    assert done.count == 48 and done.failed == 0
    new = {Path(row["path"]).name: row for row in rows_of(tmp_path / "new.csv")}
    opened = mg.open_run(run)
    for key, row in told.items():
        assert new[key]["predicted"] == row["predicted"]
        assert float(new[key]["p_ill"]) == pytest.approx(float(row["p_ill"]), abs=1e-5)
        array = np.asarray(Image.open(table.parent / key))
        assert opened.predict([array])[0].probabilities[1] == pytest.approx(float(row["p_ill"]), abs=1e-5)


def test_an_unreadable_file_costs_only_its_row(trained: tuple[Path, Path], tmp_path: Path) -> None:
    table, run = trained
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "a.png").write_bytes((table.parent / "p00_0.png").read_bytes())
    (folder / "b.png").write_bytes((table.parent / "p00_1.png").read_bytes()[:300])
    done = mg.predict(run, [folder], out=tmp_path / "out")
    rows = rows_of(tmp_path / "out" / "predictions.csv")
    assert (done.count, done.failed) == (2, 1)
    assert rows[0]["predicted"] and not rows[0]["error"]
    assert rows[1]["error"] and not rows[1]["predicted"]


def test_evaluate_scores_other_data_and_refuses_training_images(trained: tuple[Path, Path], tmp_path: Path) -> None:
    from tiny_data import make_tiny_data

    table, run = trained
    with pytest.raises(Leak, match="in the run's training"):
        mg.evaluate(run, table, out=tmp_path / "same", label_column="label")
    other = make_tiny_data(tmp_path / "other", size=44)
    report = mg.evaluate(run, other, out=tmp_path / "scores", label_column="label")
    assert report["scores"]["test"]["auroc"]["n"] == 48
    assert (tmp_path / "scores" / "report.html").exists()


@pytest.mark.parametrize("form", ["onnx", "torchscript", "safetensors"])
def test_export_gives_the_same_numbers(trained: tuple[Path, Path], tmp_path: Path, form: str) -> None:
    if form == "onnx":
        pytest.importorskip("onnxruntime")
    checked = mg.export(trained[1], out=tmp_path / "model", format=form)
    assert (tmp_path / "model").stat().st_size > 100_000
    assert checked["largest_difference"] < 1e-4


def test_a_finished_run_is_refused(trained: tuple[Path, Path]) -> None:
    table, run = trained
    for resume in (False, True):
        with pytest.raises(RunRefused, match="finished run"):
            mg.train(table, out=run, resume=resume, **QUICK)


@pytest.mark.parametrize(
    ("task", "column", "score"),
    [("multilabel", "findings", "auroc"), ("grade", "grade", "quadratic_kappa"), ("regress", "amount", "mae")],
)
def test_other_kinds_of_answers(tiny_data: Path, tmp_path: Path, task: str, column: str, score: str) -> None:
    report = mg.train(tiny_data, out=tmp_path / "run", **QUICK, label_column=column)
    assert report["task"] == task
    assert report["scores"]["test"][score]["value"] is not None
    assert (tmp_path / "run" / "report.html").stat().st_size > 20_000


@pytest.mark.parametrize("depth", ["head", 1])
def test_frozen_layers_are_not_changed(tiny_data: Path, tmp_path: Path, depth: str | int) -> None:
    from medgraft.learn.model import graft, load
    from medgraft.tasks.base import Answers

    settings = {**QUICK["settings"], "backbone.recalibrate": False}  # which may change statistics, see test_run_probe
    mg.train(tiny_data, out=tmp_path / "run", **{**QUICK, "depth": depth, "augment": "generic", "settings": settings})
    after = load(tmp_path / "run" / "model.safetensors").task.backbone.stages
    answers = Answers(("well", "ill"), "ill")
    words: dict[str, Any] = {"backbone_name": QUICK["backbone"], "channels": 3, "image_size": 32}
    before = graft("classify", answers, **words).backbone.stages
    frozen = len(before) - (0 if depth == "head" else depth)
    for number, ((_, old), (_, new)) in enumerate(zip(before, after, strict=True)):
        same = all((a == b).all() for a, b in zip(old.state_dict().values(), new.state_dict().values(), strict=True))
        assert same == (number < frozen)


def test_same_seed_same_bits_and_workers_change_nothing(tiny_data: Path, tmp_path: Path) -> None:
    sums = []
    for number, workers in enumerate((0, 2)):
        out = tmp_path / f"run{number}"
        mg.train(tiny_data, out=out, **{**QUICK, "augment": "generic"}, workers=workers)
        sums.append((sha256_file(out / "model.safetensors"), json.loads((out / "report.json").read_text())["scores"]))
    assert sums[0] == sums[1]


def test_given_splits_that_share_a_patient_are_refused(tiny_data: Path, tmp_path: Path) -> None:
    lines = tiny_data.read_text().splitlines()
    rows = [lines[0] + ",split"] + [
        f"{line},{'test' if i % 8 in (0, 3) else 'val' if i % 8 == 5 else 'train'}" for i, line in enumerate(lines[1:])
    ]
    tiny_data.write_text("\n".join(rows) + "\n")
    with pytest.raises(Leak, match="share"):
        mg.train(tiny_data, out=tmp_path / "run", **QUICK)
    settings = {**QUICK["settings"], "split.allow_leaks": True}
    report = mg.train(tiny_data, out=tmp_path / "allowed", **{**QUICK, "settings": settings})
    assert report["data"]["leaks_allowed"] and report["data"]["leaks"]


def test_too_many_broken_files_stop_the_run_before_it_starts(tiny_data: Path, tmp_path: Path) -> None:
    for number in range(6):
        (tiny_data.parent / f"p{number:02d}_0.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    with pytest.raises(BadData, match="cannot be used"):
        mg.train(tiny_data, out=tmp_path / "run", **QUICK)
    report = mg.train(tiny_data, out=tmp_path / "tolerant", **QUICK, limit_bad=20)
    assert report["data"]["quarantined"] == 6
    assert len(rows_of(tmp_path / "tolerant" / "quarantine.csv")) == 6


def test_plan_gives_reasons_and_trains_nothing(tiny_data: Path, tmp_path: Path) -> None:
    planned = mg.plan(tiny_data, backbone=QUICK["backbone"])
    assert planned.task == "classify" and planned.depth.thaw == "all"
    assert {"task", "input.image_size", "depth.thaw", "augment.preset", "fit.epochs"} <= set(planned.reasons)
    planned.save(tmp_path / "recipe.yaml")
    from medgraft.recipe import load

    assert load(tmp_path / "recipe.yaml") == planned
