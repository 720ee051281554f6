"""How sure a run is of one image: from validation alone, and the same from the run and from its file."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import medgraft as mg
from medgraft.scores.cases import Cases
from medgraft.scores.conformal import calibrate
from medgraft.weights.tensors import load_model, save_model
from test_run import QUICK


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Get (table, run folder) of one finished run with enough validation images for limits of their own."""
    from tiny_data import train_tiny

    settings = {**QUICK["settings"], "split.val": 0.4, "certainty.coverage": 0.8}
    return train_tiny(
        tmp_path_factory.mktemp("sure"), **{**QUICK, "epochs": 6, "settings": settings}, label_column="label"
    )


def test_the_file_of_the_model_says_what_the_run_said(trained: tuple[Path, Path], tmp_path: Path) -> None:
    table, run = trained
    mg.predict(run, [table.parent], out=tmp_path / "new.csv")
    new = {Path(row["path"]).name: row for row in rows_of(tmp_path / "new.csv")}
    told = rows_of(run / "predictions.csv")
    assert {row["abstain"] for row in told} <= {"true", "false"}
    for row in told:
        same = new[row["key"]]
        assert (same["set"], same["abstain"]) == (row["set"], row["abstain"])
        assert float(same["ood"]) == pytest.approx(float(row["ood"]), rel=1e-3)
        assert bool(row["why"]) == (row["abstain"] == "true")


def test_an_answer_that_its_set_contradicts_is_not_given(trained: tuple[Path, Path]) -> None:
    sure = mg.open_run(trained[1]).model.certainty
    assert sure is not None
    assert sure._why("ill", ("ill",), 0.5) == ""
    assert "the answer is well, and the one that cannot be excluded is ill" in sure._why("well", ("ill",), 0.5)
    assert "cannot be told apart" in sure._why("ill", ("ill", "well"), 0.5)


def test_the_limits_are_those_of_the_validation_images(trained: tuple[Path, Path]) -> None:
    """By hand from predictions.csv; no test image has a say."""
    _, run = trained
    rows = [row for row in rows_of(run / "predictions.csv") if row["split"] == "val"]
    truth = np.array([["well", "ill"].index(row["target"]) for row in rows])
    chances = np.array([[float(row["p_well"]), float(row["p_ill"])] for row in rows])
    wanted = calibrate(Cases("binary", truth, chances, ("well", "ill"), positive="ill"), coverage=0.8)
    _, card = load_model(run / "model.safetensors")
    assert card["certainty"]["sets"]["limits"] == pytest.approx(list(wanted.limits), abs=1e-5)
    assert card["certainty"]["sets"]["counts"] == list(wanted.counts)
    assert not any(wanted.pooled)
    far = sorted(float(row["ood"]) for row in rows)
    assert sum(value > 1.0001 for value in far) <= 0.05 * len(far)
    assert far[-1] < 1 and far[-1] == pytest.approx(1, rel=1e-3)  # with so few the limit is the largest of them


def test_sets_say_what_the_probabilities_and_limits_say(trained: tuple[Path, Path]) -> None:
    _, run = trained
    limits = load_model(run / "model.safetensors")[1]["certainty"]["sets"]["limits"]
    for row in rows_of(run / "predictions.csv"):
        inside = [
            name for name, limit in zip(("well", "ill"), limits, strict=True) if 1 - float(row[f"p_{name}"]) <= limit
        ]
        assert row["set"] == "|".join(inside)
        if len(inside) != 1:
            assert row["abstain"] == "true"


def test_a_photograph_is_refused(trained: tuple[Path, Path]) -> None:
    from sklearn.datasets import load_sample_images

    for photograph in load_sample_images().images:
        found = mg.open_run(trained[1]).predict([photograph])[0]
        assert found.ood is not None and found.ood > 1
        assert found.abstain and "does not look like the training images" in found.why


@pytest.mark.slow
def test_a_cat_is_no_chest(shared: Any, tmp_path: Path) -> None:
    """Photographs of animals and plants given to a model of chest films, through the command's own files."""
    off = {f"scores.{question}": False for question in ("learning", "shortcuts", "stress")}
    chests = shared("data/cxr_pneumonia_624/manifest.csv")
    mg.train(
        chests,
        out=tmp_path / "chest",
        depth="head",
        image_size=96,
        patients_unknown=True,
        settings={**off, "split.limit_train": 200, "scores.resamples": 100},
    )
    photographs = shared("weights/check_images")
    mg.predict(tmp_path / "chest", [photographs], out=tmp_path / "new.csv")
    rows = {Path(row["path"]).stem: row for row in rows_of(tmp_path / "new.csv")}
    assert "cat_224" in rows and len(rows) >= 4
    for row in rows.values():
        assert row["abstain"] == "true" and float(row["ood"]) > 1.2
        assert "does not look like the training images" in row["why"]
    own = [row for row in rows_of(tmp_path / "chest" / "predictions.csv") if row["split"] == "test"]
    assert np.mean([float(row["ood"]) > 1 for row in own]) < 0.15


def test_the_report_counts_who_is_answered(trained: tuple[Path, Path]) -> None:
    _, run = trained
    told = json.loads((run / "report.json").read_text())["certainty"]
    rows = [row for row in rows_of(run / "predictions.csv") if row["split"] == "test"]
    answered = [row for row in rows if row["abstain"] == "false"]
    assert told["answered"]["value"] == pytest.approx(len(answered) / len(rows))
    assert told["sets"]["coverage"]["value"] == pytest.approx(
        np.mean([row["target"] in row["set"].split("|") for row in rows])
    )
    assert told["right"]["value"] == pytest.approx(np.mean([row["target"] == row["predicted"] for row in rows]))
    assert told["right_when_answered"]["n"] == len(answered)
    page = (run / "report.html").read_text()
    assert "How sure is it of one image?" in page
    assert "80\u00a0%" in page


@pytest.mark.parametrize(("task", "column"), [("multilabel", "findings"), ("grade", "grade"), ("regress", "amount")])
def test_every_kind_of_answer_has_its_sets(tiny_data: Path, tmp_path: Path, task: str, column: str) -> None:
    settings: dict[str, Any] = {**QUICK["settings"], "split.val": 0.4}
    report = mg.train(tiny_data, out=tmp_path / "run", **{**QUICK, "settings": settings}, label_column=column)
    assert report["certainty"]["sets"]["coverage"]["value"] is not None
    rows = rows_of(tmp_path / "run" / "predictions.csv")
    if task == "regress":
        for row in rows:
            low, high = json.loads(row["set"])
            assert (low + high) / 2 == pytest.approx(float(row["value"]), abs=1e-3)
    else:
        names = {"multilabel": {"disc", "hole"}, "grade": {"0", "1", "2"}}[task]
        assert {name for row in rows for name in row["set"].split("|") if name} <= names
    page = (tmp_path / "run" / "report.html").read_text()
    assert "How sure is it of one image?" in page


def test_a_model_from_before_opens_and_says_nothing(trained: tuple[Path, Path], tmp_path: Path) -> None:
    import shutil

    table, run = trained
    older = tmp_path / "older"
    shutil.copytree(run, older)
    state, card = load_model(run / "model.safetensors")
    state = {name: tensor for name, tensor in state.items() if not name.startswith("certainty.")}
    card.pop("certainty")
    save_model(older / "model.safetensors", state=state, card=card)
    mg.predict(older, [table.parent / "p00_0.png"], out=tmp_path / "new.csv")
    row = rows_of(tmp_path / "new.csv")[0]
    assert row["predicted"]
    assert (row["set"], row["ood"], row["abstain"], row["why"]) == ("", "", "", "")


def test_an_evaluation_says_that_images_are_others(trained: tuple[Path, Path], tmp_path: Path) -> None:
    """Pictures of another kind, labelled: the scores stand, and the page says whose they are not."""
    from PIL import Image

    random = np.random.default_rng(0)
    rows = ["path,label,patient"]
    for k in range(20):
        y, x = np.mgrid[:40, :40]
        stripes = 128 + 120 * np.sin(x / (1 + k % 4) + random.uniform(0, 6))[..., None] * np.ones(3)
        Image.fromarray(np.clip(stripes + random.normal(0, 3, stripes.shape), 0, 255).astype(np.uint8)).save(
            tmp_path / f"{k}.png"
        )
        rows.append(f"{k}.png,{('well', 'ill')[k % 2]},q{k}")
    (tmp_path / "table.csv").write_text("\n".join(rows) + "\n")
    report = mg.evaluate(trained[1], tmp_path / "table.csv", out=tmp_path / "scores", label_column="label")
    assert report["certainty"]["ood"]["above"]["value"] > 0.9
    assert "other images than those of the training" in (tmp_path / "scores" / "report.html").read_text()
