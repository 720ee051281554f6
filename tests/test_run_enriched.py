"""Synthetic images end to end: beside real ones in a training, and in their place where data may not be shared."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import medgraft as mg
from medgraft.errors import BadRecipe, Leak, RunRefused, UserError
from medgraft.generation.opened import GeneratorRun
from medgraft.report.schema import problems
from medgraft.storage import sha256_file
from medgraft.synthetic.sources import check_classes
from tiny_data import make_tiny_data

QUICK: dict[str, Any] = {
    "backbone": "none:timm:test_resnet",
    "image_size": 32,
    "batch_size": 8,
    "depth": "all",
    "device": "cpu",
    "offline": True,
    "label_column": "label",
}
SETTINGS: dict[str, Any] = {
    "fit.precision": "fp32",
    "fit.channels_last": False,
    "fit.probe": False,
    "scores.resamples": 200,
    "scores.learning": False,
    "scores.shortcuts": False,
    "scores.stress": False,
    "scores.maps": False,
    "generator.widths": [8, 8, 8],
    "generator.steps": 2,
    "generator.shape": [16, 16],
    "generator.looks": 1,
    "synthetic.epochs": 1,
}


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def with_split(table: Path, name: str, *, given: dict[str, str]) -> Path:
    """Write the table again with splits by patient; the rest of the patients is left out."""
    rows = [{**row, "split": given[row["patient"]]} for row in rows_of(table) if row["patient"] in given]
    path = table.parent / name
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_data(tmp_path_factory.mktemp("data") / "tiny", patients=36)


@pytest.fixture(scope="module")
def classified(table: Path) -> Path:
    """Patients 0 to 17 train, 18 to 23 validation, 24 to 29 test."""
    parts = {f"p{k:02d}": "train" if k < 18 else "val" if k < 24 else "test" for k in range(30)}
    return with_split(table, "classified.csv", given=parts)


@pytest.fixture(scope="module")
def apart(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a generator on patients 0 to 11; 12 to 14 choose its epoch, and 15 to 17 judge it."""
    parts = {f"p{k:02d}": "train" if k < 12 else "val" if k < 15 else "test" for k in range(18)}
    chosen = {name: value for name, value in SETTINGS.items() if name.startswith("generator.")}
    words = {name: QUICK[name] for name in ("batch_size", "device", "offline", "label_column")}
    out = tmp_path_factory.mktemp("runs") / "apart"
    own = with_split(table, "generator.csv", given=parts)
    mg.train(own, out=out, task="diffuse", epochs=1, settings={**chosen, "generator.kinds": True}, **words)
    return out


def test_a_run_that_draws_and_knows_no_test_image_may_help(classified: Path, apart: Path, tmp_path: Path):
    out = tmp_path / "run"
    settings = {**SETTINGS, "synthetic.tried": [0.5, 1]}
    report = mg.train(classified, out=out, synthetic=str(apart), epochs=2, settings=settings, **QUICK)
    assert problems(report) == []
    told = report["enrichment"]
    assert told["chosen_by"] == "validation" and not told["generator"]["inside"]
    assert [row["ratio"] for row in told["tried"]] == [0, 0.5, 1]
    assert told["tried"][1]["images"] == {"ill": 9, "well": 9}
    assert [row["epochs"] for row in told["tried"]] == [2, 1, 1]
    assert all(row["val"]["log_loss"]["n"] == 12 for row in told["tried"])
    assert set(told["test"]) == {"with", "without", "difference"}
    assert report["data"]["images"] == {"train": 36, "val": 12, "test": 12}  # real ones
    marked = [row for row in rows_of(out / "samples.csv") if row.get("synthetic") == "yes"]
    assert len(marked) == sum(told["synthetic"].values())
    assert all(row["split"] == "train" and row["patient"].startswith("synthetic-") for row in marked)
    page = (out / "report.html").read_text()
    assert "They are of no patient, and only in the training part" in page and "Let in?" in page
    recipe = (out / "recipe.yaml").read_text()
    assert f"ratio: {told['ratio']}" in recipe and "synthetic.ratio: " in recipe
    assert not list((out / "arms").glob("*/resume"))
    assert {"log.jsonl", "enrichment.json", "synthetic"} <= {path.name for path in out.iterdir()}


@pytest.mark.slow
def test_the_recipe_of_a_run_makes_the_same_model_again(classified: Path, apart: Path, tmp_path: Path):
    words: dict[str, Any] = {"synthetic": str(apart), "ratio": 1, "settings": SETTINGS}
    told = mg.train(classified, out=tmp_path / "a", epochs=4, **words, **QUICK)
    assert told["enrichment"]["ratio"] == 1 and told["enrichment"]["chosen_by"] == "the user"
    assert told["training"]["epochs_planned"] == 2 and "epochs: 4" in (tmp_path / "a" / "recipe.yaml").read_text()
    mg.train(classified, out=tmp_path / "b", recipe=tmp_path / "a" / "recipe.yaml")
    prints = {sha256_file(tmp_path / name / "model.safetensors") for name in ("a", "b")}
    assert len(prints) == 1


def test_a_run_that_learnt_from_what_judges_is_refused_with_a_list(table: Path, apart: Path, tmp_path: Path):
    """The generator learnt from patients 0 to 14; three of them are of this validation part."""
    parts = {f"p{k:02d}": "val" if k < 18 else "test" if k < 24 else "train" for k in range(12, 36)}
    leaky = with_split(table, "leaky.csv", given=parts)
    with pytest.raises(Leak, match=r"learnt from 6 images .*p12_0.png \(val\)"):
        mg.train(leaky, out=tmp_path / "run", synthetic=str(apart), epochs=1, settings=SETTINGS, **QUICK)
    assert not (tmp_path / "run" / "recipe.yaml").exists()
    rows = [{**row, "path": f"copy-{row['path']}"} for row in rows_of(leaky)]  # other bytes, the same people
    for row in rows:
        image = Image.open(table.parent / row["path"].removeprefix("copy-"))
        image.point(lambda value: 255 - value).save(table.parent / row["path"])
    other = table.parent / "people.csv"
    with open(other, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(Leak, match=r"from 3 of their patients: patient p12"):
        mg.train(other, out=tmp_path / "run", synthetic=str(apart), epochs=1, settings=SETTINGS, **QUICK)


def test_what_has_no_label_or_no_meaning_is_refused_in_words(classified: Path, apart: Path, tmp_path: Path):
    opened = mg.open_run(apart, device="cpu")
    assert isinstance(opened, GeneratorRun)
    opened.card["classes"] = []
    with pytest.raises(BadRecipe, match="without classes"):
        check_classes(opened, ("well", "ill"))
    opened.card["classes"] = ["ill", "odd"]
    with pytest.raises(BadRecipe, match="does not draw well"):
        check_classes(opened, ("well", "ill"))
    words = {**QUICK, "label_column": "grade", "task": "grade", "synthetic": str(apart)}
    with pytest.raises(BadRecipe, match="grades have an order"):
        mg.train(classified, out=tmp_path / "a", settings=SETTINGS, **words)
    with pytest.raises(BadRecipe, match="no classes of whole images"):
        mg.plan(classified, **{**words, "task": "regress", "label_column": "amount"})
    with pytest.raises(UserError, match="no run folder"):
        mg.train(classified, out=tmp_path / "b", synthetic=str(tmp_path / "no"), settings=SETTINGS, **QUICK)
    with pytest.raises(BadRecipe, match="nothing would be added"):  # classes are of one size
        mg.train(classified, out=tmp_path / "d", synthetic=str(apart), ratio="balance", settings=SETTINGS, **QUICK)
    (tmp_path / "c" / "synthetic").mkdir(parents=True)
    with pytest.raises(RunRefused, match="something else"):
        mg.train(classified, out=tmp_path / "c", synthetic=str(apart), settings=SETTINGS, **QUICK)


class Enough(Exception):
    """Stands for a kill."""


@pytest.mark.slow
@pytest.mark.parametrize("depth", ["all", "1"])
def test_one_trained_inside_sees_the_training_part_alone_and_a_kill_changes_nothing(
    classified: Path, tmp_path: Path, depth: str
):
    words: dict[str, Any] = {**QUICK, "depth": depth if depth == "all" else int(depth), "epochs": 2}
    settings = {**SETTINGS, "synthetic.tried": [1, "balance", 2], "machine.save_seconds": 0}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    told = mg.train(classified, out=whole, synthetic="diffuse", settings=settings, **words)["enrichment"]
    assert told["generator"]["inside"] and [row["ratio"] for row in told["tried"]] == [0, 1, 2]  # classes are equal
    rows = {row["sha256"]: row for row in rows_of(whole / "samples.csv")}
    learnt = [row for row in rows_of(whole / "generator" / "samples.csv") if row["split"] in ("train", "val")]
    assert {rows[row["sha256"]]["split"] for row in learnt} == {"train"} and len(learnt) == 36
    for sign in ("training a generator", "training: 1 synthetic", "training: 2 synthetic", "synthetic images: "):

        def listen(event: dict[str, Any], sign: str = sign) -> None:
            if str(event.get("text", "")).startswith(sign):
                raise Enough

        with pytest.raises(Enough):
            given = {"resume": (cut / "recipe.yaml").exists(), "listen": listen}
            mg.train(classified, out=cut, synthetic="diffuse", settings=settings, **given, **words)
    again = mg.train(classified, out=cut, resume=True)["enrichment"]
    assert sha256_file(cut / "model.safetensors") == sha256_file(whole / "model.safetensors")
    for name in ("tried", "test", "ratio", "why"):
        assert again[name] == told[name]


def test_a_set_that_may_be_shared_is_trained_on_and_scored_on_real_images(
    classified: Path, apart: Path, tmp_path: Path
):
    made = mg.generate(apart, count=40, out=tmp_path / "shared", despite_audit=True)
    settings = {name: value for name, value in SETTINGS.items() if not name.startswith(("generator", "synthetic"))}
    words = {**QUICK, "epochs": 1, "patients_unknown": True}
    report = mg.train(made.out, out=tmp_path / "run", settings=settings, **words)
    said = " ".join(report["warnings"])
    assert "40 of 40 images are synthetic" in said and "score the run on real images" in said
    found = mg.evaluate(tmp_path / "run", classified, out=tmp_path / "real", device="cpu")
    assert found["scores"]["test"]["auroc"]["n"] == 12
    assert not any("synthetic" in text for text in found["warnings"])
    json.loads((tmp_path / "real" / "report.json").read_text())
