"""Phantom slides: painted in parts they are one picture, and their truth is where they say."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from medgraft.errors import BadRecipe
from medgraft.files import open_slide
from medgraft.phantoms import slide_of, write_set
from medgraft.phantoms.endless import Window
from medgraft.phantoms.section import section

PITCH = 4.0


def table(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def plan():
    return slide_of(0, seed=1, size=(900, 700), um_per_px=PITCH, piece="kidney")


@pytest.fixture(scope="module")
def whole(plan) -> np.ndarray:
    return plan.window(0, 0, width=900, height=700)


@pytest.mark.parametrize("part", [(0, 0, 200, 150), (311, 207, 190, 160), (700, 560, 200, 140)])
def test_a_part_is_what_the_whole_shows_there(part: tuple[int, int, int, int], plan, whole: np.ndarray):
    x, y, width, height = part
    np.testing.assert_array_equal(plan.window(x, y, width=width, height=height), whole[y : y + height, x : x + width])


def test_boxes_are_those_of_the_truth_of_the_whole(plan):
    painted = section(plan.plane, Window(0, 0, 700, 900, PITCH), plan.look, tissue=plan.tissue)
    expected = []
    for value in np.unique(painted.truth[painted.truth > 0]):
        rows, columns = np.nonzero(painted.truth == value)
        expected.append((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
    assert len(expected) > 8
    assert sorted(map(tuple, plan.boxes().corners.tolist())) == sorted(expected)


def test_glass_lies_around_the_tissue_and_the_marrow_has_no_glomeruli(plan, whole: np.ndarray):
    bright = whole.min(axis=-1) > 215
    edge = np.concatenate([bright[0], bright[-1], bright[:, 0], bright[:, -1]])
    assert edge.mean() > 0.99 and 0.2 < (~bright).mean() < 0.6
    row, column, down, across = (value / PITCH for value in plan.plane.inner)
    middles = (plan.boxes().corners[:, :2] + plan.boxes().corners[:, 2:]) / 2
    assert (np.hypot((middles[:, 1] - row) / down, (middles[:, 0] - column) / across) > 0.95).all()


def test_slides_are_written_with_their_truth_and_read_back(tmp_path: Path):
    told: list[tuple[int, int]] = []
    manifest = write_set(
        "glomeruli", count=2, out=tmp_path, seed=2, size=1100, form="slide", progress=lambda *n: told.append(n)
    )
    assert told == [(k, 6) for k in range(1, 7)]
    rows = table(manifest)
    assert [row["stain"] for row in rows] == [slide_of(k, seed=2).look.stain for k in range(2)]
    for number, row in enumerate(rows):
        plan = slide_of(number, seed=2, size=(1100, 1100))
        with open_slide(tmp_path / row["path"]) as slide:
            assert slide.size == (1100, 1100) and slide.um_per_px == pytest.approx(0.5)
            assert [level.width for level in slide.levels] == [1100, 550, 275]
            read = slide.read(400, 300, width=300, height=300).astype(int)
        assert np.abs(read - plan.window(400, 300, width=300, height=300)).mean() < 8
        with tifffile.TiffFile(tmp_path / row["path"]) as tiff:
            assert tiff.is_bigtiff and tiff.pages[0].description.startswith("PHANTOM: procedural image")
        shapes = json.loads((tmp_path / row["annotation"]).read_text())
        boxes = plan.boxes()
        rings = [np.array(feature["geometry"]["coordinates"][0]) for feature in shapes["features"]]
        assert [[*ring.min(axis=0), *ring.max(axis=0)] for ring in rings] == boxes.corners.tolist()
        listed = table((tmp_path / row["path"]).with_suffix(".boxes.csv"))
        assert [[float(r[k]) for k in ("x0", "y0", "x1", "y1")] for r in listed] == boxes.corners.tolist()


@pytest.mark.parametrize("wrong", [{"stain": "Giemsa"}, {"piece": "toe"}, {"size": (100, 900)}, {"um_per_px": 0.0}])
def test_what_cannot_be_is_refused(wrong: dict):
    with pytest.raises(BadRecipe):
        slide_of(0, **wrong)


def test_only_glomeruli_are_written_as_slides(tmp_path: Path):
    with pytest.raises(BadRecipe, match="no slides"):
        write_set("skin", count=1, out=tmp_path / "set", form="slide")
    assert not (tmp_path / "set").exists()
