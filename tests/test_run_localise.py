"""The task of zones from end to end: answers that are missing, tables, intervals, maps, and runs on other data."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import medgraft as mg
from medgraft.errors import BadData, BadRecipe
from medgraft.learn.model import graft
from medgraft.tasks.base import Answers
from test_run import QUICK, rows_of
from whole_runs import finish, result, start, wait_for_step

OFF = {"scores.learning": False, "scores.shortcuts": False, "scores.stress": False}
OPTIONS: dict[str, Any] = {
    **QUICK,
    "backbone": "none:timm:test_vit",
    "task": "localise",
    "label_column": "label",
    "epochs": 3,
    "settings": {**QUICK["settings"], **OFF},
}


def make_zoned(folder: Path, *, people: int = 40, size: int = 32, first: int = 0) -> Path:
    """Write pictures of 2 x 2 zones with bright spots, a mask each, and a table in which answers are missing."""
    folder.mkdir(parents=True)
    rows = ["path,label,patient,z1,z2,z3,z4,severity,spots,age"]
    for person in range(first, first + people):
        random = np.random.default_rng([7, person])
        pixels = random.normal(70, 12, (size, size))
        mask = np.zeros((size, size), bool)
        ill = person % 2 == 1
        grades = random.integers(0, 3, 4) if ill else np.zeros(4, int)
        grades[0] = max(grades[0], ill)
        for zone, grade in enumerate(grades):
            column, row = divmod(zone, 2)
            top, left = row * size // 2 + 2, column * size // 2 + 2
            mask[top : top + 6 * grade, left : left + 10] = True
        pixels[mask] += 120
        name = f"p{person:02d}.png"
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / name)
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"m{person:02d}.png")
        label = "" if person % 5 == 2 else "ill" if ill else "well"
        zones = [""] * 4 if person % 7 == 3 else [str(grade) for grade in grades]
        zones = [*zones[:3], ""] if person % 11 == 5 else zones
        total = str(grades.sum()) if all(zones) else ""
        rows.append(",".join([name, label, f"p{person}", *zones, total, f"m{person:02d}.png", str(40 + person)]))
    table = folder / "table.csv"
    table.write_text("\n".join(rows) + "\n")
    return table


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("zoned")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDGRAFT_HOME", str(folder / "home"))
        table = make_zoned(folder / "data")
        mg.train(table, out=folder / "run", **OPTIONS)
        yield table, folder / "run"


def test_every_question_has_its_scores(trained: tuple[Path, Path]) -> None:
    report = json.loads((trained[1] / "report.json").read_text())
    assert report["task"] == "localise" and report["classes"] == ["well", "ill"] and report["positive"] == "ill"
    told = report["severity"]
    assert told["grid"] == [2, 2] and told["grades"] == [0, 1, 2]
    assert [zone["cell"] for zone in told["zones"]] == [[0, 0], [1, 0], [0, 1], [1, 1]]
    for name in ("zone_kappa", "zone_spearman", "zone_mae", "sum_kappa", "sum_spearman", "sum_mae"):
        score = told["scores"][name]
        assert score["value"] is None and score["why"] or score["n"] > 0
    tests = [row for row in rows_of(trained[1] / "predictions.csv") if row["split"] == "test"]
    assert told["scores"]["zone_mae"]["n"] == sum(bool(row[f"target_z{k}"]) for row in tests for k in range(1, 5))
    assert report["scores"]["test"]["auroc"]["n"] == sum(bool(row["target"]) for row in tests)
    assert sum(report["data"]["images"].values()) == 39, "all but the one of which nothing is known are used"
    assert "How severe, and where?" in (trained[1] / "report.html").read_text()


def test_predictions_hold_zones_their_sum_and_its_interval(trained: tuple[Path, Path]) -> None:
    table, run = trained
    for row in rows_of(run / "predictions.csv"):
        zones = [float(row[f"zone_z{k}"]) for k in range(1, 5)]
        assert all(0 <= value <= 2 for value in zones)
        assert float(row["severity"]) == pytest.approx(sum(zones), abs=0.01)
        if row["severity_low"]:
            assert float(row["severity_low"]) <= float(row["severity"]) <= float(row["severity_high"])
    again = mg.open_run(run).predict(table.parent / "p00.png")[0]
    written = {row["key"]: row for row in rows_of(run / "predictions.csv")}
    if "p00.png" in written:
        assert again.severity == pytest.approx(float(written["p00.png"]["severity"]), abs=0.02)
    assert set(again.zones) == {"z1", "z2", "z3", "z4"}
    done = mg.predict(run, [table.parent / "p00.png"], out=run.parent / "answers.csv")
    assert done.count == 1 and {"zone_z1", "severity"} <= set(rows_of(run.parent / "answers.csv")[0])


def test_the_sum_of_the_zones_is_no_covariate(trained: tuple[Path, Path]) -> None:
    columns = rows_of(trained[1] / "samples.csv")[0]
    assert {"z1", "z4", "age"} <= set(columns) and "severity" not in columns


def test_other_data_are_judged_with_and_without_zones(trained: tuple[Path, Path], tmp_path: Path) -> None:
    other = make_zoned(tmp_path / "other", people=20, first=100)
    report = mg.evaluate(trained[1], other, out=tmp_path / "zones")
    assert report["severity"]["scores"]["zone_mae"]["n"] > 50
    assert report["severity"]["intervals"]["covered"]["sum"]["n"] > 5
    with open(other) as file:
        rows = [{name: row[name] for name in ("path", "label", "patient")} for row in csv.DictReader(file)]
    lines = ["path,label,patient", *(",".join(row.values()) for row in rows if row["label"])]
    (other.parent / "plain.csv").write_text("\n".join(lines) + "\n")
    other.unlink()
    report = mg.evaluate(trained[1], other.parent / "plain.csv", out=tmp_path / "plain")
    assert report["severity"]["scores"]["zone_mae"]["why"] and report["scores"]["test"]["auroc"]["n"] == len(lines) - 1
    assert any("zones are not judged" in note for note in report["data"]["notes"])


def test_maps_are_of_severities_unless_a_class_is_asked_for(trained: tuple[Path, Path], tmp_path: Path) -> None:
    table, run = trained
    image = table.parent / "p01.png"
    told = mg.explain(run, [image], out=tmp_path / "maps")
    assert told["method"] == "severity" and told["images"][0]["answer"] == "severity"
    values = np.load(tmp_path / "maps" / told["images"][0]["files"]["npy"])
    assert values.shape == (32, 32) and values.max() == pytest.approx(1)
    assert mg.explain(run, [image], out=tmp_path / "ill", target="ill")["method"] == "attention"
    assert mg.explain(run, [image], out=tmp_path / "o", target="severity", method="occlusion")["count"] == 1
    with pytest.raises(BadRecipe, match="not of 'ill'"):
        mg.explain(run, [image], out=tmp_path / "no", target="ill", method="severity")
    with pytest.raises(BadRecipe, match="explains classes alone"):
        mg.explain(run, [image], out=tmp_path / "no", target="severity", method="gradcam")


@pytest.mark.parametrize("form", ["torchscript", "safetensors"])
def test_exported_models_give_severities(trained: tuple[Path, Path], tmp_path: Path, form: str) -> None:
    import torch

    mg.export(trained[1], out=tmp_path / "model", format=form)
    if form == "torchscript":
        chances, logits, severities = torch.jit.load(tmp_path / "model")(torch.rand(2, 1, 32, 32))
        assert chances.shape == (2, 2) and logits.shape == (2, 6) and severities.shape == (2, 4)
        assert bool((severities >= 0).all() and (severities <= 2).all())


@pytest.mark.slow
def test_all_questions_of_a_run_can_be_asked(trained: tuple[Path, Path], tmp_path: Path) -> None:
    settings = {name: value for name, value in OPTIONS["settings"].items() if name not in OFF} | {"fit.probe": True}
    words = {**OPTIONS, "backbone": "none:timm:test_resnet", "depth": "head", "settings": settings}
    report = mg.train(trained[0], out=tmp_path / "run", **words)
    assert report["learning"] and report["shortcuts"]["heads"] and report["stress"]["changes"]
    assert report["training"]["epochs"] > 0 and report["training"]["probe"]
    assert mg.stress([tmp_path / "run"], out=tmp_path / "stress")["runs"]
    mg.inspect(tmp_path / "run", out=tmp_path / "inspect")


def test_masks_are_measured_and_learnt_from(trained: tuple[Path, Path], tmp_path: Path) -> None:
    settings = {**OPTIONS["settings"], "zones.mask_column": "spots", "zones.grid": [1, 2]}
    report = mg.train(trained[0], out=tmp_path / "run", **{**OPTIONS, "epochs": 1, "settings": settings})
    assert report["severity"]["grid"] == [1, 2] and report["severity"]["grades"] == []
    assert report["severity"]["score"] == "spearman" and "zone_kappa" not in report["severity"]["scores"]


def test_what_cannot_be_asked_is_refused(trained: tuple[Path, Path], tmp_path: Path) -> None:
    table, _ = trained
    with pytest.raises(BadRecipe, match="learnt in epochs"):
        mg.train(table, out=tmp_path / "a", **{**OPTIONS, "epochs": 0, "depth": "head", "settings": OFF})
    with pytest.raises(BadRecipe, match="depths are compared by the labels"):
        mg.depth(table, out=tmp_path / "b", task="localise", label_column="label", backbone=OPTIONS["backbone"])
    lines = [line.split(",") for line in table.read_text().splitlines()]
    (table.parent / "bare.csv").write_text("\n".join(",".join(line[:3]) for line in lines) + "\n")
    with pytest.raises(BadData, match="no column holds the severity"):
        mg.train(table.parent / "bare.csv", out=tmp_path / "c", **OPTIONS)


def test_no_mirror_moves_a_zone(trained: tuple[Path, Path]) -> None:
    from medgraft.assemble import augmentation
    from medgraft.recipe import Recipe
    from medgraft.tasks import TASKS

    recipe = Recipe().changed({"augment.preset": "fundus"})  # type: ignore[call-arg]
    task = mg.open_run(trained[1]).model.task
    chosen = augmentation(recipe, task)
    assert (chosen.flip_h, chosen.flip_v, chosen.turns) == (0, 0, 0) and 0 < chosen.rotation <= 15
    assert not TASKS["classify"].upright


def test_the_seed_rules_every_first_number() -> None:
    answers = Answers(("ill", "well"), "ill", zones=("z1", "z2"), grid=(2, 1), grades=(0.0, 1.0))
    words: dict[str, Any] = {"backbone_name": "none:timm:test_vit", "channels": 1, "image_size": 32}
    first = graft("localise", answers, **words, seed=3).state_dict()
    torch.rand(7)  # what else was drawn in the process must not matter
    again, other = (graft("localise", answers, **words, seed=seed).state_dict() for seed in (3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first if name.startswith("regions."))


@pytest.mark.slow
def test_killed_and_resumed_it_ends_with_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDGRAFT_HOME", str(tmp_path / "home"))
    table, words = make_zoned(tmp_path / "data"), {"epochs": 4, "more": ("--task", "localise"), "settings": OFF}
    finish(start(table, tmp_path / "whole", **words))
    process = start(table, tmp_path / "cut", **words)
    wait_for_step(process, 6)
    process.kill()
    process.communicate()
    assert "going on from epoch" in finish(start(table, tmp_path / "cut", resume=True, **words))
    assert result(tmp_path / "cut") == result(tmp_path / "whole")
