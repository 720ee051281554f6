"""What `outline` and `measure` write over and delete: their own files, and nothing else."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from bright import Bright

import medgraft as mg
from medgraft.errors import BadData
from medgraft.files import save_png
from medgraft.outlining.folder import described
from medgraft.outlining.form import OutlineForm

BOX = (10, 10, 30, 30)


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """Get a folder with a picture and a mask that somebody drew."""
    gray = np.zeros((40, 50), np.uint8)
    gray[15:25, 15:25] = 200
    save_png(tmp_path / "case" / "image.png", gray)
    save_png(tmp_path / "case" / "mask.png", np.where(gray > 0, 1, 0).astype(np.uint8))
    return tmp_path / "case"


def test_the_folder_of_the_image_is_never_written_into(case):
    before = {path.name: path.read_bytes() for path in case.iterdir()}
    model = Bright()
    with pytest.raises(BadData, match="folder of the image"):
        mg.outline(case / "image.png", box=BOX, out=case, backbone=model)
    with pytest.raises(BadData, match="folder of the image"):
        mg.measure(case / "image.png", case / "mask.png", out=case)
    assert not model.encoded and before == {path.name: path.read_bytes() for path in case.iterdir()}


def test_the_folder_of_the_mask_is_never_written_into(case, tmp_path):
    (tmp_path / "drawn").mkdir()
    mask = (case / "mask.png").rename(tmp_path / "drawn" / "rough.png")
    with pytest.raises(BadData, match="folder of the mask"):
        mg.outline(case / "image.png", mask=mask, out=tmp_path / "drawn", backbone=Bright())
    with pytest.raises(BadData, match="folder of the mask"):
        mg.measure(case / "image.png", mask, out=tmp_path / "drawn")


@pytest.mark.parametrize("name", ["mask.png", "overlay.png", "measures.csv", "candidate-1-1.png", "outline.json"])
def test_files_of_our_names_that_others_wrote_are_kept(case, tmp_path, name):
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("mine")
    with pytest.raises(BadData, match=name):
        mg.outline(case / "image.png", box=BOX, out=out, backbone=Bright())
    with pytest.raises(BadData, match=name):
        mg.measure(case / "image.png", case / "mask.png", out=out)
    assert [path.read_text() for path in out.iterdir()] == ["mine"]


def test_nothing_of_a_former_call_stays_and_files_of_others_do(case, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    mg.outline(case / "image.png", box=BOX, out=out, backbone=Bright(), features=True, candidates=True)
    assert {"features.csv", "candidates.csv", "candidate-1-3.png"} <= {path.name for path in out.iterdir()}
    mg.outline(case / "image.png", box=BOX, out=out, backbone=Bright())
    names = {"mask.png", "outlines.geojson", "overlay.png", "measures.csv", "outline.json", "notes.txt"}
    assert {path.name for path in out.iterdir()} == names
    with pytest.raises(BadData, match="no measure.json"):
        mg.measure(case / "image.png", case / "mask.png", out=out)


def test_a_mask_that_was_corrected_by_hand_is_not_written_over(case, tmp_path):
    out = tmp_path / "out"
    mg.outline(case / "image.png", box=BOX, out=out, backbone=Bright())
    save_png(out / "mask.png", np.full((40, 50), 7, np.uint8))
    corrected = (out / "mask.png").read_bytes()
    with pytest.raises(BadData, match="changed since medgraft wrote it") as said:
        mg.outline(case / "image.png", box=BOX, out=out, backbone=Bright())
    assert said.value.where == str(out / "mask.png") and (out / "mask.png").read_bytes() == corrected
    (out / "mask.png").rename(tmp_path / "mine.png")
    mg.outline(case / "image.png", box=BOX, out=out, backbone=Bright())
    assert (out / "mask.png").exists() and (tmp_path / "mine.png").read_bytes() == corrected


def test_measure_may_be_repeated(case, tmp_path):
    out = tmp_path / "out"
    mg.measure(case / "image.png", case / "mask.png", out=out, features=True)
    mg.measure(case / "image.png", case / "mask.png", out=out)
    assert {path.name for path in out.iterdir()} == {"measures.csv", "outlines.geojson", "overlay.png", "measure.json"}


def test_what_is_written_says_how_to_do_it_again(case, tmp_path, monkeypatch):
    monkeypatch.chdir(case)
    out, again = tmp_path / "out", tmp_path / "again"
    words = {"box": BOX, "points": [(20, 20), (12, 12, 0)], "features": True, "window": (100, 200)}
    mg.outline("image.png", mask="mask.png", out=out, device="cpu", **words)
    told = json.loads((out / "outline.json").read_text())
    for name, one in (("image.png", told["image"]), ("mask.png", told["prompts"]["mask"])):
        digest = hashlib.sha256((case / name).read_bytes()).hexdigest()
        assert one == {"path": str((case / name).resolve()), "frame": None, "sha256": digest}
    assert told["options"].keys() == {one.name for one in fields(OutlineForm)}
    monkeypatch.chdir(tmp_path)
    shown, options = told["prompts"], told["options"]
    words = {"box": shown["boxes"], "points": shown["points"], "mask": shown["mask"]["path"]}
    mg.outline(told["image"]["path"], out=again, **words, everything=shown["everything"], **options)
    for name in ("mask.png", "measures.csv", "features.csv", "outline.json"):
        assert (out / name).read_bytes() == (again / name).read_bytes()
    mg.measure(case / "image.png", case / "mask.png", out=tmp_path / "measured", bins=16)
    told = json.loads((tmp_path / "measured" / "measure.json").read_text())
    assert told["mask"]["sha256"] == shown["mask"]["sha256"] and told["options"]["bins"] == 16


def test_masks_without_a_file_frames_and_folders_are_described_too(case, tmp_path):
    mg.outline(case / "image.png", mask=np.ones((40, 50), bool), out=tmp_path / "out", backbone=Bright())
    told = json.loads((tmp_path / "out" / "outline.json").read_text())
    mask = told["prompts"]["mask"]
    assert mask["path"] is None and mask["shape"] == [40, 50] and len(mask["sha256"]) == 64
    assert told["options"]["backbone"] is None and told["model"]["name"] == "bright"
    np.savez(tmp_path / "many.npz", a=np.zeros((2, 3, 3)))
    assert described(f"{tmp_path / 'many.npz'}/a")["path"].endswith("many.npz/a")
    assert described(f"{case / 'image.png'}#2") == {**described(case / "image.png"), "frame": 2}
    before = described(case)
    (case / "mask.png").rename(case / "other.png")
    assert described(case)["sha256"] != before["sha256"]
