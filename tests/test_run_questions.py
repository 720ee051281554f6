"""What every run asks beside its score: more images, other images, shortcuts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

import medgraft as mg
from medgraft.errors import BadData, RunRefused
from medgraft.samples.sheet import read_sheet
from test_run import QUICK
from tiny_data import make_tiny_data

OPTIONS: dict[str, Any] = {**QUICK, "label_column": "label"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("asked")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDGRAFT_HOME", str(folder / "home"))
        yield folder


@pytest.fixture(scope="module")
def runs(home: Path) -> tuple[Path, Path]:
    """Get two runs on the same data and encoder: tuned, and the head alone."""
    table = make_tiny_data(home / "tiny", patients=48)
    trained = {**OPTIONS, "backbone": "embedded:resnet10t_small", "image_size": 64}
    settings = {**OPTIONS["settings"], "fit.probe": True}
    mg.train(table, out=home / "tuned", **{**trained, "settings": settings})
    mg.train(table, out=home / "head", **{**trained, "depth": "head", "epochs": 0, "settings": settings})
    return home / "tuned", home / "head"


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def test_questions_of_the_untuned_encoder_have_the_same_answer_however_it_is_tuned(runs: tuple[Path, Path]) -> None:
    for name in ("learning.json", "shortcuts.json"):
        assert read(runs[0] / name) == read(runs[1] / name)


def test_the_report_says_how_long_each_question_took(runs: tuple[Path, Path]) -> None:
    for run in runs:
        took = read(run / "report.json")["timing"]["question_seconds"]
        assert set(took) == {"learning", "shortcuts", "certainty", "stress"} and min(took.values()) > 0


def test_columns_that_are_named_as_ours_are_not_written_twice(runs: tuple[Path, Path], home: Path) -> None:
    """A given split that was not wanted is a column like any other, and its table can still be read."""
    lines = (home / "tiny" / "table.csv").read_text().splitlines()
    rows = [f"{line},{'split' if place == 0 else 'train'}" for place, line in enumerate(lines)]
    table = home / "tiny" / "split.csv"
    table.write_text("\n".join(rows) + "\n")
    off = {f"scores.{question}": False for question in ("learning", "shortcuts", "stress")}
    words = {**OPTIONS, "epochs": 1, "settings": {**OPTIONS["settings"], **off}}
    mg.train(table, out=home / "anew", split_column="none", **words)
    told = read_sheet(home / "anew" / "samples.csv").rows
    assert {row["split"] for row in told} == {"train", "val", "test"}


def test_the_learning_curve_counts_training_patients(runs: tuple[Path, Path]) -> None:
    report = read(runs[0] / "report.json")
    told = report["learning"]
    assert told["unit"] == "patient" and told["now"] == report["data"]["patients"]["train"]
    counts = [point["count"] for point in told["points"]]
    assert counts == sorted(counts) and counts[-1] < told["now"]  # a fifth is held out
    assert {told["now"], 2 * told["now"], 4 * told["now"]} <= {row["count"] for row in told["ahead"]}
    assert told["widths"]["score"] == "auroc"
    assert "How many more images?" in (runs[0] / "report.html").read_text()


def test_every_change_has_scores_with_intervals_and_drops(runs: tuple[Path, Path]) -> None:
    told = read(runs[0] / "report.json")["stress"]
    names = [change["name"] for change in told["changes"]]
    assert "rotation" in names and "stain" in names and len(names) == 11
    for change in told["changes"]:
        for point in change["points"]:
            assert point["score"]["n"] == told["images"]
            assert point["drop"] == pytest.approx(told["plain"]["value"] - point["score"]["value"])
    drops = [point["drop"] for change in told["changes"] for point in change["points"]]
    assert told["mean_drop"] == pytest.approx(np.mean(drops))
    assert "What if the images change?" in (runs[0] / "report.html").read_text()


def test_runs_are_laid_over_each_other(runs: tuple[Path, Path], home: Path) -> None:
    told = mg.stress(runs, out=home / "stress")["runs"]
    assert len(told) == 2
    alone = read(runs[0] / "report.json")["stress"]
    first = told["tuned (augmentation: none)"]
    assert first["plain"]["value"] == pytest.approx(alone["plain"]["value"])
    assert first["mean_drop"] == pytest.approx(alone["mean_drop"], abs=0.02)  # float32 on another batch size
    page = (home / "stress" / "stress.html").read_text()
    assert "tuned (augmentation: none)" in page and "head (augmentation: none)" in page and "<script" not in page


def test_a_run_that_learnt_from_the_test_images_is_refused(runs: tuple[Path, Path], home: Path) -> None:
    mg.train(home / "tiny" / "table.csv", out=home / "other", **{**OPTIONS, "seed": 5})
    with pytest.raises(RunRefused, match="learnt from"):
        mg.stress([runs[0], home / "other"], out=home / "refused")
    moved = home / "tiny" / "p00_0.png"
    moved.rename(moved.with_suffix(".away"))
    try:
        tested = (runs[0] / "samples.csv").read_text().splitlines()
        if any("p00_0.png" in row and ",test," in row for row in tested):
            with pytest.raises(BadData, match="not where the run found it"):
                mg.stress([runs[0]], out=home / "gone")
    finally:
        moved.with_suffix(".away").rename(moved)


def test_questions_can_be_left_out(home: Path, runs: tuple[Path, Path]) -> None:
    off = {"scores.learning": False, "scores.shortcuts": False, "scores.stress": False}
    settings = {**OPTIONS["settings"], **off}
    report = mg.train(home / "tiny" / "table.csv", out=home / "bare", **{**OPTIONS, "settings": settings})
    assert "stress" not in report and not report["shortcuts"] and "points" not in report["learning"]
    page = (home / "bare" / "report.html").read_text()
    assert "What if the images change?" not in page and "How many more images?" not in page


# ---- shortcuts ------------------------------------------------------------------------


def leaky(folder: Path, kind: str) -> Path:
    """Noise in the middle; the class shows in the size of the file, in its frame, or nowhere."""
    folder.mkdir(parents=True)
    rows = ["path,label,patient"]
    for person in range(60):
        random, ill = np.random.default_rng(person), person % 2
        side = 48 if kind != "size" else 40 + 16 * ill
        pixels = random.integers(60, 190, (side, side, 3), dtype=np.uint8)
        if kind == "frame":
            pixels[:3], pixels[-3:], pixels[:, :3], pixels[:, -3:] = (220 * ill,) * 4
        Picture.fromarray(pixels).save(folder / f"{person:02}.png")
        rows.append(f"{person:02}.png,{'ill' if ill else 'well'},p{person:02}")
    (folder / "table.csv").write_text("\n".join(rows) + "\n")
    return folder / "table.csv"


@pytest.mark.parametrize(("kind", "rings"), [("size", "metadata"), ("frame", "border"), ("none", "")])
def test_the_alarm_rings_where_a_shortcut_is(home: Path, kind: str, rings: str) -> None:
    settings = {**OPTIONS["settings"], "scores.learning": False, "scores.stress": False, "split.test": 0.4}
    options = {**OPTIONS, "epochs": 12, "settings": settings}
    mg.train(leaky(home / f"leak {kind}", kind), out=home / f"run {kind}", **options)
    heads = read(home / f"run {kind}" / "shortcuts.json")["heads"]
    page = (home / f"run {kind}" / "report.html").read_text()
    assert ("There is a shortcut" in page) == bool(rings)
    alarms = read(home / f"run {kind}" / "report.json")["alarms"]
    assert any("There is a shortcut" in words for words in alarms) == bool(rings)
    for name, row in heads.items():
        if name == rings:
            assert row["value"] > 0.9
        elif name == "metadata" or not rings:
            assert row["value"] < 0.8
    assert ("metadata" in heads) == (kind == "size")  # elsewhere nothing varies
