"""What a careless command must not cost: a user's files, rows of bad images, and answers to a wrong picture."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import medgraft as mg
from medgraft.errors import BadData, BadImage, RunRefused
from test_run import QUICK, rows_of

ONE: dict[str, Any] = {**QUICK, "epochs": 1}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Get (table, run folder) of one short run."""
    from tiny_data import train_tiny

    return train_tiny(tmp_path_factory.mktemp("refused"), **ONE)


def test_a_folder_with_other_files_is_left_alone(run: tuple[Path, Path], tmp_path: Path) -> None:
    table, trained = run
    (tmp_path / "samples.csv").write_text("my data\n")
    (tmp_path / "report.html").write_text("my report\n")
    with pytest.raises(RunRefused, match="something else already, such as report.html"):
        mg.train(table, out=tmp_path, **ONE)
    with pytest.raises(RunRefused, match="something else already"):
        mg.evaluate(trained, table, out=tmp_path)
    assert (tmp_path / "samples.csv").read_text() == "my data\n"
    assert {path.name for path in tmp_path.iterdir()} - {".lock"} == {"samples.csv", "report.html"}
    with pytest.raises(RunRefused, match="folder of the data"):
        mg.train(table, out=table.parent, **ONE)


def test_a_log_in_the_run_folder_is_no_obstacle(tiny_data: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "stderr.txt").write_text("")
    assert mg.train(tiny_data, out=tmp_path / "run", **ONE)["scores"]


def test_missing_files_and_false_images_are_in_the_quarantine(tiny_data: Path, tmp_path: Path) -> None:
    (tiny_data.parent / "web.png").write_text("<html>not found</html>")
    with open(tiny_data, "a", newline="") as file:
        csv.writer(file).writerows([["gone.png", "ill", "p90"], ["web.png", "ill", "p91"]])
    report = mg.train(tiny_data, out=tmp_path / "run", **ONE, limit_bad=20, label_column="label")
    quarantined = {row["path"]: row["reason"] for row in rows_of(tmp_path / "run" / "quarantine.csv")}
    assert set(quarantined) == {"gone.png", "web.png"} and report["data"]["quarantined"] == 2
    assert "row 50" in quarantined["gone.png"] and "web page" in quarantined["web.png"]


def test_texts_beside_images_are_noted_and_no_more(tiny_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "classes"
    for name in ("ill", "well"):
        (folder / name).mkdir(parents=True)
    for row in rows_of(tiny_data):
        target = folder / row["label"] / row["path"]
        target.write_bytes((tiny_data.parent / row["path"]).read_bytes())
        target.with_suffix(".json").write_text('{"made": "by a converter"}')
    survey = mg.survey(folder)
    assert survey.images == 48 and not survey.quarantine
    assert any(note.startswith("48 text files beside the images") for note in survey.notes)
    assert "48" in survey._repr_html_()


def test_a_false_image_has_a_row_among_the_predictions(run: tuple[Path, Path], tmp_path: Path) -> None:
    table, trained = run
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes((table.parent / "p00_0.png").read_bytes())
    (tmp_path / "in" / "empty.png").write_bytes(b"")
    (tmp_path / "in" / "notes.txt").write_text("seen on Monday")
    done = mg.predict(trained, [tmp_path / "in"], out=tmp_path / "answers.csv")
    assert (done.count, done.failed) == (2, 1)
    rows = {Path(row["path"]).name: row for row in rows_of(tmp_path / "answers.csv")}
    assert set(rows) == {"a.png", "empty.png"} and rows["empty.png"]["error"] and not rows["a.png"]["error"]
    shown = mg.predict(trained, [tmp_path / "in" / "a.png"])
    assert isinstance(shown.headline()["predictions"][0]["p_ill"], float)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((0, 5), np.uint8), "empty"),
        (np.full((9, 9), np.nan, np.float32), "NaN"),
        (np.full((9, 9), 200.0, np.float32), "between 0 and 1"),
        (np.zeros((9, 9), np.int16), "int16"),
    ],
)
def test_an_array_that_is_no_picture_is_refused(run: tuple[Path, Path], array: np.ndarray, said: str) -> None:
    with pytest.raises(BadImage, match=said):
        mg.open_run(run[1]).predict([array])


def test_an_array_is_seen_as_its_file_is(run: tuple[Path, Path], tmp_path: Path) -> None:
    table, trained = run
    opened = mg.open_run(trained)
    deep = np.random.default_rng(0).integers(0, 4096, (40, 40), dtype=np.uint16)
    np.save(tmp_path / "deep.npy", deep)
    one, two = opened.predict([deep, tmp_path / "deep.npy"])
    assert np.array_equal(one.probabilities, two.probabilities)
    assert "<td>" in opened.predict([table.parent / "p00_0.png"])._repr_html_()


def test_no_finding_is_an_answer_where_several_are_asked_for(tiny_data: Path, tmp_path: Path) -> None:
    rows = rows_of(tiny_data)
    table = tiny_data.parent / "several.csv"
    lines = [f"{row['path']},{'disc' if 'disc' in row['findings'] else ''},{row['patient']}" for row in rows]
    table.write_text("path,label,patient\n" + "\n".join(lines) + "\n")
    report = mg.train(table, out=tmp_path / "run", **{**ONE, "task": "multilabel"})
    assert sum(report["data"]["images"].values()) == 48
    assert set(report["data"]["classes"]) == {"disc", "(none)"}


def test_several_classes_at_once_are_no_class(tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(BadData, match="--task multilabel"):
        mg.train(tiny_data, out=tmp_path / "run", **{**ONE, "task": "classify"}, label_column="findings")


def test_unknown_answers_are_counted_and_near_ones_named(run: tuple[Path, Path], tmp_path: Path) -> None:
    from tiny_data import make_tiny_data

    other = make_tiny_data(tmp_path / "other", patients=6, size=44)
    other.write_text(other.read_text().replace(",ill,", ",Ill,"))
    with pytest.raises(BadData, match=r"6 of 12 images have a class .*'Ill' \(is 'ill' meant\?\)"):
        mg.evaluate(run[1], other, out=tmp_path / "scores")


def test_what_an_evaluation_says_of_itself(run: tuple[Path, Path], tmp_path: Path) -> None:
    from tiny_data import make_tiny_data

    other = make_tiny_data(tmp_path / "other", size=44)
    other.write_text(other.read_text().replace(",p", ",q"))
    report = mg.evaluate(run[1], other, out=tmp_path / "scores")
    assert report["created"] and report["data"]["images"] == {"test": 48}
    assert isinstance(report["calibration"]["temperature"], float)
    page = (tmp_path / "scores" / "report.html").read_text()
    card = (tmp_path / "scores" / "model-card.md").read_text()
    assert "one temperature a label" not in page and "0 training" not in card
    assert "the split is by" not in page.lower()
