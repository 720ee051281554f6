"""Which images `explain` is asked about, and which masks are theirs: files, folders and tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medgraft.errors import BadData, BadTable
from medgraft.explaining import listed
from medgraft.files import save_png, write_dicom
from medgraft.opened import images_in, paths_of
from medgraft.values import ImageRef


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Get a folder of two pictures, two masks and a cine of three frames."""
    for name in ("img/a.png", "img/b.png", "masks/left.png", "masks/right.png"):
        save_png(tmp_path / name, np.zeros((4, 6), np.uint8))
    write_dicom(tmp_path / "cine.dcm", np.zeros((3, 4, 6), np.uint8))
    return tmp_path


def table(folder: Path, text: str) -> Path:
    (folder / "t.csv").write_text(text + "\n")
    return folder / "t.csv"


def named(path: Path) -> tuple[list[str], dict[str, list[str]]]:
    refs, masks, _ = listed([path])
    root = f"{path.parent}/"
    return (
        [str(ref).removeprefix(root) for ref in refs],
        {key.removeprefix(root): [str(mask).removeprefix(root) for mask in own] for key, own in masks.items()},
    )


def test_rows_of_one_image_are_one_case_with_all_its_masks(folder: Path) -> None:
    rows = "path,mask\nimg/a.png,masks/left.png\nimg/b.png,\nimg/a.png,masks/right.png\nimg/a.png,masks/left.png"
    refs, masks = named(table(folder, rows))
    assert refs == ["img/a.png", "img/b.png"]
    assert masks == {"img/a.png": ["masks/left.png", "masks/right.png"]}


def test_a_file_that_is_reached_twice_is_there_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    rows = table(folder, "path,mask\nimg/a.png,masks/left.png")
    refs, masks, _ = listed(["img/a.png", folder / "img", "img/../img/b.png", "cine.dcm#1", "cine.dcm", rows])
    keys = [str(ref) for ref in refs]
    assert keys == ["img/a.png", f"{folder}/img/b.png", "cine.dcm#1", "cine.dcm#0", "cine.dcm#2"]
    assert masks == {"img/a.png": (ImageRef(folder / "masks" / "left.png"),)}


def test_a_table_is_read_as_a_training_reads_it(folder: Path) -> None:
    """Names of columns, backslashes, endings left out."""
    refs, masks = named(table(folder, "Image Path;Mask\nimg\\a.png;masks\\left.png\nimg/b;masks/right"))
    assert refs == ["img/a.png", "img/b.png"]
    assert masks == {"img/a.png": ["masks/left.png"], "img/b.png": ["masks/right.png"]}
    with pytest.raises(BadTable, match="row 3 has no path"):
        listed([table(folder, "path,mask\nimg/a.png,\n,masks/left.png")])
    with pytest.raises(BadTable, match="did you mean 'pathh'"):
        listed([table(folder, "pathh,mask\nimg/a.png,")])


def test_a_missing_file_is_told_and_left_to_fail_alone(folder: Path) -> None:
    said: list[dict[str, Any]] = []
    refs, masks, _ = listed([table(folder, "path,mask\nimg/A.png,\nimg/b.png,masks/gone.png")], listen=said.append)
    assert [ref.path.name for ref in refs] == ["A.png", "b.png"]
    assert [mask.path.name for own in masks.values() for mask in own] == ["gone.png"]
    assert "1 of 2 files in the table are missing (row 2: img/A.png)" in said[0]["text"]
    assert "capital letters" in said[0]["text"]
    with pytest.raises(BadData, match="2 of 2 files"):
        listed([table(folder, "path\nx.png\ny.png")])


def test_rows_name_frames_or_all_of_them(folder: Path) -> None:
    assert named(table(folder, "path,mask\ncine.dcm#2,masks/left.png"))[1] == {"cine.dcm#2": ["masks/left.png"]}
    refs, masks = named(table(folder, "path,mask\ncine.dcm,cine.dcm\nimg/a.png,"))
    assert refs == ["cine.dcm#0", "cine.dcm#1", "cine.dcm#2", "img/a.png"]
    assert masks == {f"cine.dcm#{k}": [f"cine.dcm#{k}"] for k in range(3)}
    with pytest.raises(BadTable, match="row 2 names a file of 3 frames and a mask of 1"):
        listed([table(folder, "path,mask\ncine.dcm,masks/left.png")])


def test_one_path_is_a_path_and_a_number_is_none(folder: Path) -> None:
    assert paths_of("x.png") == [Path("x.png")] == paths_of(Path("x.png"))
    assert [ref.path.name for ref in images_in(str(folder / "img"))[0]] == ["a.png", "b.png"]
    for wrong in (5, [None], [folder / "img", 1.5]):
        with pytest.raises(BadData, match="a path was expected, not"):
            images_in(wrong)  # type: ignore[arg-type]
    with pytest.raises(BadData, match="no such file or folder"):
        images_in(folder / ("x" * 300))
