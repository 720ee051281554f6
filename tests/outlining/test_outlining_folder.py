"""What `outline` and `measure` write over and delete: their own files, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bright import Bright

import medgraft as mg
from medgraft.errors import BadData
from medgraft.files import save_png

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


def test_measure_may_be_repeated(case, tmp_path):
    out = tmp_path / "out"
    mg.measure(case / "image.png", case / "mask.png", out=out, features=True)
    mg.measure(case / "image.png", case / "mask.png", out=out)
    assert {path.name for path in out.iterdir()} == {"measures.csv", "outlines.geojson", "overlay.png", "measure.json"}
