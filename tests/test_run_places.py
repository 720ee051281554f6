"""A finished run finds its images again: rows of arrays, frames, series, from any working directory."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

import medgraft as mg
from medgraft import pages, storage
from medgraft.assemble import graft
from medgraft.errors import BadData
from medgraft.files import read_pixels, write_dicom
from medgraft.inspecting import _of_run
from medgraft.resuming import _sample_prints
from medgraft.samples.dataset import read_samples
from medgraft.tasks.answers import Answers
from medgraft.tasks.base import ImageTask
from medgraft.values import ImageRef, Prediction, Sample
from test_run import QUICK
from tiny_data import make_tiny_data

OFF = {f"scores.{question}": False for question in ("learning", "shortcuts", "stress", "maps")}
OPTIONS: dict[str, Any] = {**QUICK, "epochs": 1, "workers": 0, "settings": {**QUICK["settings"], **OFF}}


def recorded(folder: Path, samples: list[Sample]) -> list[dict[str, str]]:
    """Write what a run writes of its samples, and read the rows again."""

    class Found:
        pass

    found: Any = Found()
    found.samples = samples
    found.records = [{"sha256": str(place), "content": ""} for place in range(len(samples))]
    storage.write_json(folder / "samples.json", _sample_prints(found.samples, found.records))
    pages.write_samples(folder / "samples.csv", found)
    return pages.samples_in(folder)


def test_every_kind_of_image_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An array's rows, frames that a table names, DICOM series; the data are named relative to another folder."""
    monkeypatch.chdir(tmp_path)
    labels = {f"{split}_labels": np.array([[0], [1]]) for split in ("train", "test")}
    images = {f"{split}_images": np.zeros((2, 8, 8), np.uint8) for split in ("train", "test")}
    np.savez("x.npz", **images, **labels)
    write_dicom(Path("t/-cine.dcm"), np.zeros((3, 8, 8), np.uint8))
    Path("t/table.csv").write_text("path,label\n-cine.dcm#0,-\n-cine.dcm#2,+\n")
    plane = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [1, 1], "SeriesInstanceUID": "1.2.3"}
    for k in range(3):
        write_dicom(Path(f"tree/s/{k}.dcm"), np.full((8, 8), k, np.uint8), **plane, ImagePositionPatient=[0, 0, k])
    read = {name: list(read_samples(Path(name)).samples) for name in ("x.npz", "t/table.csv", "tree")}
    assert [sample.image.index for sample in read["t/table.csv"]] == [0, 2] and len(read["tree"][0].image.files) == 3
    monkeypatch.chdir("/")
    for name, samples in read.items():
        folder = tmp_path / f"run-{Path(name).stem}"
        folder.mkdir()
        monkeypatch.chdir(tmp_path)
        rows = recorded(folder, samples)
        monkeypatch.chdir("/")
        found = pages.images_of(folder, rows)
        assert [row["key"] for row in rows] == [sample.key for sample in samples]
        assert [row["target"] for row in rows] == [sample.label or "" for sample in samples]
        for ref, sample in zip(found, samples, strict=True):
            assert ref.path == tmp_path / sample.image.path and ref.index == sample.image.index
            assert ref.files == tuple(tmp_path / file for file in sample.image.files)
    (tmp_path / "tree" / "s" / "1.dcm").unlink()
    (tmp_path / "x.npz").rename(tmp_path / "y.npz")
    for name, gone in (("tree", r"s/1\.dcm"), ("x.npz", r"x\.npz/\w+")):
        folder = tmp_path / f"run-{Path(name).stem}"
        with pytest.raises(BadData, match=f"{gone}: the image .* is not where the run found it"):
            pages.images_of(folder, pages.samples_in(folder))


def test_negative_numbers_stay_numbers_in_the_tables_of_a_run(tmp_path: Path) -> None:
    words: dict[str, Any] = {"backbone_name": QUICK["backbone"], "channels": 3, "image_size": 32}
    task: ImageTask = graft("regress", Answers((), None, 0.0, 1.0), **words)
    samples = [Sample("=a.png", ImageRef(tmp_path / "a.png"), label="-4.5", split="test")]
    told = Prediction("=a.png", np.array([-3.25]), np.zeros(0), predicted="-3.25", value=-3.25)
    pages.write_predictions(tmp_path / "predictions.csv", task, samples, {"test": [told]})
    with open(tmp_path / "predictions.csv", newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert (float(row["target"]), float(row["predicted"]), float(row["value"])) == (-4.5, -3.25, -3.25)
    assert row["key"] == "'=a.png"  # which a spreadsheet would run


def tiny_arrays(folder: Path, name: str) -> Path:
    """Write the tiny pictures as MedMNIST keeps them: 24 to train, 8 to validate, 16 to test."""
    rows = list(csv.DictReader(make_tiny_data(folder / "tiny").open()))
    pixels = np.stack([np.asarray(Picture.open(folder / "tiny" / row["path"])) for row in rows])
    labels = np.array([[int(row["label"] == "ill")] for row in rows])
    parts = {"train": slice(0, 24), "val": slice(24, 32), "test": slice(32, 48)}
    arrays = {f"{split}_images": pixels[part] for split, part in parts.items()}
    np.savez(folder / name, **arrays, **{f"{split}_labels": labels[part] for split, part in parts.items()})
    return folder / name


@pytest.mark.slow
def test_a_run_on_arrays_is_stressed_and_inspected_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_arrays(tmp_path, "small.npz")
    report = mg.train("small.npz", out="run", **OPTIONS)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run = mg.open_run(tmp_path / "run")
    told = mg.stress([run], out="stressed")["runs"]
    plain, tested = next(iter(told.values()))["plain"], report["scores"]["test"]["auroc"]
    assert plain["n"] == 16 and plain["value"] == pytest.approx(tested["value"])
    shown = _of_run(run)
    assert len(shown.rows) == 40 and shown.training is not None and shown.training.sum() == 24
    with np.load(tmp_path / "small.npz") as held:
        for key, pixels in zip(shown.keys, shown.rows, strict=True):
            array, _, row = key.partition("/")
            Picture.fromarray(held[array][int(row)]).save("one.png")
            assert np.array_equal(pixels, read_pixels("one.png", **run.model.pixels.words()))
    (tmp_path / "small.npz").rename(tmp_path / "moved.npz")
    with pytest.raises(BadData, match=r"small\.npz.*is not where the run found it"):
        mg.stress([run], out="gone")


@pytest.mark.slow
def test_a_run_on_frames_is_stressed_and_inspected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each patient is a DICOM file of two frames, named one by one."""
    monkeypatch.chdir(tmp_path)
    rows = list(csv.DictReader(make_tiny_data(tmp_path / "tiny").open()))
    lines = ["path,label,patient"]
    for first, second in zip(rows[::2], rows[1::2], strict=True):
        frames = [np.asarray(Picture.open(tmp_path / "tiny" / row["path"]).convert("L")) for row in (first, second)]
        write_dicom(Path(f"data/{first['patient']}.dcm"), np.stack(frames), WindowCenter="127.5", WindowWidth="256")
        lines += [f"{first['patient']}.dcm#{k},{first['label']},{first['patient']}" for k in (0, 1)]
    Path("data/table.csv").write_text("\n".join(lines) + "\n")
    mg.train("data/table.csv", out="run", **OPTIONS)
    monkeypatch.chdir("/")
    run = mg.open_run(tmp_path / "run")
    assert mg.stress([run], out=tmp_path / "stressed")["runs"]
    assert mg.inspect(run, out=tmp_path / "inspected")["separability"]
    shown = _of_run(run)
    assert len({pixels.tobytes() for pixels in shown.rows}) == len(shown.rows)  # no frame stands for another
    shutil.move(tmp_path / "data" / "p00.dcm", tmp_path / "data" / "away.dcm")
    with pytest.raises(BadData, match=r"p00\.dcm.*is not where the run found it"):
        pages.images_of(run.folder, pages.samples_in(run.folder))
