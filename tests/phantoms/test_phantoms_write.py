"""A written set can be read by anyone, says what it is, and is not mixed with another."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medgraft.errors import BadRecipe, RunRefused
from medgraft.files import read_image
from medgraft.phantoms import KINDS, VOLUMES, write_set


def table(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in VOLUMES])
def test_a_set_is_what_its_table_says(kind: str, tmp_path: Path):
    told: list[tuple[int, int]] = []
    manifest = write_set(kind, count=6, out=tmp_path / "set", seed=5, size=48, progress=lambda *n: told.append(n))
    assert manifest == tmp_path / "set" / "manifest.csv"
    assert told == [(done, 6) for done in range(1, 7)]
    rows = table(manifest)
    assert len(rows) == 6 and list(rows[0])[:3] == ["path", "label", "patient"]
    assert "split" not in rows[0] and ("grade" in rows[0]) == (kind == "fundus")
    for index, row in enumerate(rows):
        case = KINDS[kind](index, seed=5, size=48)
        assert (row["label"], row["patient"]) == (case.label, case.patient)
        assert "phantom" in row["path"] and all(row[name] == value for name, value in case.covariates.items())
        with Image.open(manifest.parent / row["path"]) as picture:
            assert "PHANTOM" in picture.info["Comment"]
            np.testing.assert_array_equal(np.asarray(picture), case.pixels)
        np.testing.assert_array_equal(np.asarray(Image.open(manifest.parent / row["mask"])), case.mask)
    assert (manifest.parent / "README.txt").read_text().startswith("PHANTOM: procedural image, not a patient")


def test_lesions_are_listed_with_their_value_in_the_mask(tmp_path: Path):
    manifest = write_set("fundus", count=8, out=tmp_path, seed=1, size=64)
    rows, lesions = table(manifest), table(tmp_path / "lesions.csv")
    listed = {row["path"] for row in lesions}
    assert listed == {row["path"] for row in rows if row["label"] == "retinopathy"}
    masks = {row["path"]: np.asarray(Image.open(tmp_path / row["mask"])) for row in rows}
    for lesion in lesions:
        mask = masks[lesion["path"]]
        assert mask[round(float(lesion["row_px"])), round(float(lesion["column_px"]))] > 0
        assert int(lesion["value"]) >= 1


def test_the_first_images_of_a_longer_set_are_the_same(tmp_path: Path):
    write_set("skin", count=2, out=tmp_path / "short", size=40)
    write_set("skin", count=4, out=tmp_path / "long", size=40)
    for path in sorted((tmp_path / "short" / "images").iterdir()):
        assert path.read_bytes() == (tmp_path / "long" / "images" / path.name).read_bytes()


def test_the_same_set_may_be_written_again_and_another_may_not(tmp_path: Path):
    first = write_set("skin", count=2, out=tmp_path, size=40).read_bytes()
    assert write_set("skin", count=2, out=tmp_path, size=40).read_bytes() == first
    with pytest.raises(RunRefused, match="something else"):
        write_set("skin", count=2, out=tmp_path, size=40, seed=1)
    assert (tmp_path / "manifest.csv").read_bytes() == first


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RunRefused):
        write_set("fundus", count=1, out=tmp_path, size=40)
    assert [item.name for item in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("wrong", [{"count": 0}, {"size": 8}, {"form": "gif"}, {"kind": "skin", "form": "dicom"}])
def test_what_cannot_be_is_refused_before_anything_is_written(wrong: dict, tmp_path: Path):
    wanted = {"kind": "chest", "count": 1, "size": 40, **wrong}
    with pytest.raises(BadRecipe):
        write_set(wanted.pop("kind"), out=tmp_path / "set", **wanted)
    assert not (tmp_path / "set").exists()


def test_chest_as_dicom_says_phantom_and_keeps_its_bits(tmp_path: Path):
    manifest = write_set("chest", count=2, out=tmp_path, size=64, form="dicom")
    for index, row in enumerate(table(manifest)):
        case = KINDS["chest"](index, size=64, bits=16)
        image = read_image(tmp_path / row["path"], values=True)
        np.testing.assert_array_equal(image.pixels[0], case.pixels.astype(np.float32))
        assert b"PHANTOM: procedural image, not a patient" in (tmp_path / row["path"]).read_bytes()


def test_sixteen_bit_png_is_read_back(tmp_path: Path):
    manifest = write_set("chest", count=1, out=tmp_path, size=64, form="png16")
    image = read_image(tmp_path / table(manifest)[0]["path"])
    np.testing.assert_array_equal(image.pixels[0], KINDS["chest"](0, size=64, bits=16).pixels.astype(np.float32))
