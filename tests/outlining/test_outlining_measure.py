"""Label maps measured: tables, features, and maps that do not fit their image."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

import medgraft as mg
from medgraft.errors import BadData, BadRecipe
from medgraft.files import read_label_map, save_png


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Get a picture and its label map: a square of 100 pixels, and a ring."""
    rows, columns = np.indices((60, 80))
    labels = np.zeros((60, 80), np.uint8)
    labels[5:15, 10:20] = 1
    away = (rows - 35) ** 2 + (columns - 50) ** 2
    labels[(away <= 400) & (away > 100)] = 7
    save_png(tmp_path / "image.png", (rows + columns).astype(np.uint8))
    save_png(tmp_path / "mask.png", labels)
    return tmp_path / "image.png", tmp_path / "mask.png"


def test_every_number_is_a_structure(pair, tmp_path):
    found = mg.measure(*pair, out=tmp_path / "out", features=True, bin_width=5)
    assert [(row["structure"], row["x"], row["y"]) for row in found.rows] == [(1, 14.5, 9.5), (7, 50, 35)]
    assert found.rows[0]["mean"] == 24
    with (tmp_path / "out" / "features.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["structure"] for row in rows] == ["1", "7"]
    assert float(rows[0]["firstorder_mean"]) == 24 and float(rows[0]["glcm_contrast"]) > 0
    square, ring = json.loads((tmp_path / "out" / "outlines.geojson").read_text())["features"]
    assert len(square["geometry"]["coordinates"]) == 1 and len(ring["geometry"]["coordinates"]) == 2


def test_a_volume_is_measured_in_millimetres(tmp_path):
    labels = np.zeros((10, 12, 14), np.int16)
    labels[2:5, 3:7, 4:9] = 3
    affine = np.diag([2.0, 1.5, 3.0, 1.0])
    for name, values in (("image", labels * 10), ("mask", labels)):
        nibabel.Nifti1Image(values, affine).to_filename(tmp_path / f"{name}.nii.gz")
    (row,) = mg.measure(tmp_path / "image.nii.gz", tmp_path / "mask.nii.gz").rows
    assert (row["structure"], row["voxels"], row["mean"]) == (3, 60, 30)
    assert row["volume_mm3"] == pytest.approx(60 * 9) and row["volume_ml"] == pytest.approx(0.54)
    assert [row[f"ras_{name}_mm"] for name in "xyz"] == pytest.approx([2 * 3, 1.5 * 4.5, 3 * 6])
    assert [row[name] for name in ("x0", "x1", "z0", "z1")] == [2, 5, 4, 9]


def test_gray_in_three_channels_is_a_number_and_a_colour_is_none(pair, tmp_path):
    labels = read_label_map(pair[1]).values
    save_png(tmp_path / "rgb.png", np.repeat(labels[..., None], 3, axis=2).astype(np.uint8))
    found = mg.measure(pair[0], tmp_path / "rgb.png")
    assert np.array_equal(found.labels, labels) and [row["structure"] for row in found.rows] == [1, 7]
    colours = np.stack([labels * 30, labels, labels], axis=2).astype(np.uint8)
    save_png(tmp_path / "colours.png", colours)
    with pytest.raises(BadData, match=r"in colours.*1, 2, 3"):
        mg.measure(pair[0], tmp_path / "colours.png")


def test_a_map_of_another_size_is_refused(pair, tmp_path):
    save_png(tmp_path / "small.png", np.ones((30, 40), np.uint8))
    with pytest.raises(BadData, match="40 x 30 pixels, its image 80 x 60"):
        mg.measure(pair[0], tmp_path / "small.png")


@pytest.mark.parametrize("words", [{"bins": 1}, {"bin_width": 0}])
def test_gray_levels_without_meaning_are_refused(pair, words):
    with pytest.raises(BadRecipe, match="gray levels"):
        mg.measure(*pair, features=True, **words)
