"""Pictures outlined by prompts: what is drawn, in the file's own pixels, and what is said of wrong prompts."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from bright import Bright

import medgraft as mg
from medgraft.errors import BadData, BadRecipe, UnknownName
from medgraft.files import read_label_map, save_png, write_dicom

DISC, SQUARE = (slice(20, 41), slice(30, 51)), (slice(60, 80), slice(70, 100))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """Get a picture of 120 x 100 pixels with a disc of 200 and a square of 100 on black."""
    save_png(tmp_path / "picture.png", drawn())
    return tmp_path / "picture.png"


def drawn() -> np.ndarray:
    rows, columns = np.indices((100, 120))
    gray = np.zeros((100, 120), np.uint8)
    gray[(rows - 30) ** 2 + (columns - 40) ** 2 <= 100] = 200
    gray[SQUARE] = 100
    return gray


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_box_outlines_what_is_in_it(picture):
    found = mg.outline(picture, box=(28, 18, 54, 44), backbone=Bright())
    assert np.array_equal(found.labels == 1, drawn() == 200)
    (row,) = found.rows
    assert (row["pixels"], row["mean"], row["sd"]) == ((drawn() == 200).sum(), 200, 0)
    assert row["quality"] == pytest.approx(0.95) and (row["x"], row["y"]) == (40, 30)


def test_the_candidate_with_the_best_quality_is_taken(picture):
    wide = mg.outline(picture, points=[(40, 30, 1)], backbone=Bright((0.5, 0.6, 0.9)))
    assert wide.labels.sum() > (drawn() == 200).sum()
    assert wide.rows[0]["quality"] == pytest.approx(0.9)


def test_boxes_are_structures_of_their_own_and_a_point_refines_the_box_it_is_in(picture):
    model = Bright()
    boxes = [(28, 18, 54, 44), (68, 58, 102, 82)]
    found = mg.outline(picture, box=boxes, points=[(80, 70, 1), (95, 61, 0)], backbone=model)
    assert [row["structure"] for row in found.rows] == [1]
    assert [len(one.points) for one in model.asked] == [0, 2]
    assert model.encoded == 1  # one picture is seen once, however many prompts there are


def test_where_structures_overlap_the_smaller_one_is_seen(picture):
    found = mg.outline(picture, box=[(60, 50, 110, 95), (74, 64, 84, 72)], backbone=Bright())
    assert (found.labels == 2).sum() == 8 * 10
    assert (found.labels == 1).sum() == 20 * 30 - 80


def test_a_mask_may_be_the_prompt(picture, tmp_path):
    guess = np.zeros((100, 120), np.uint8)
    guess[25:35, 35:45] = 255
    save_png(tmp_path / "guess.png", guess)
    for given in (guess > 0, tmp_path / "guess.png"):
        assert np.array_equal(mg.outline(picture, mask=given, backbone=Bright()).labels == 1, drawn() == 200)


def test_the_folder_holds_all_that_was_found(picture, tmp_path):
    out = tmp_path / "out"
    boxes = [(28, 18, 54, 44), (68, 58, 102, 82)]
    found = mg.outline(picture, box=boxes, out=out, backbone=Bright(), features=True, candidates=True)
    assert np.array_equal(read_label_map(out / "mask.png").values, found.labels)
    rows = table(out / "measures.csv")
    assert [row["pixels"] for row in rows] == [str(row["pixels"]) for row in found.rows]
    assert {"perimeter_px", "feret_px", "quality"} <= set(rows[0])
    assert [row["shape_area"] for row in table(out / "features.csv")] == [row["pixels"] for row in rows]
    several = table(out / "candidates.csv")
    assert len(several) == 6 and [row["chosen"] for row in several] == ["0", "1", "0"] * 2
    assert all((out / row["file"]).is_file() for row in several)
    told = json.loads((out / "outline.json").read_text())
    assert told["model"]["name"] == "bright" and told["prompts"]["boxes"] == [list(map(float, box)) for box in boxes]
    from PIL import Image

    with Image.open(out / "overlay.png") as overlay:
        assert overlay.size == (120, 100)
        assert overlay.getpixel((40, 30)) != overlay.getpixel((5, 5))


def test_the_outlines_are_polygons_on_the_edges_of_pixels(picture, tmp_path):
    mg.outline(picture, box=(68, 58, 102, 82), out=tmp_path / "out", backbone=Bright())
    features = json.loads((tmp_path / "out" / "outlines.geojson").read_text())["features"]
    (one,) = features
    assert one["geometry"]["type"] == "Polygon"
    assert sorted(map(tuple, one["geometry"]["coordinates"][0][:-1])) == [(70, 60), (70, 80), (100, 60), (100, 80)]
    assert one["geometry"]["coordinates"][0][0] == one["geometry"]["coordinates"][0][-1]
    assert one["properties"]["objectType"] == "annotation"
    assert one["properties"]["measurements"]["pixels"] == 600


def test_a_frame_of_dicom_is_measured_in_its_own_unit_and_in_millimetres(tmp_path):
    stored = np.where(drawn() == 200, 1064, 24).astype(np.int16)
    path = tmp_path / "ct.dcm"
    facts = {"RescaleSlope": 1, "RescaleIntercept": -1024, "WindowCenter": 0, "WindowWidth": 400}
    write_dicom(path, stored, Modality="CT", PixelSpacing=[0.5, 0.25], **facts)
    (row,) = mg.outline(path, points=[(40, 30)], backbone=Bright()).rows
    assert (row["mean"], row["unit"]) == (40, "HU")
    assert row["area_mm2"] == pytest.approx(row["pixels"] * 0.125)


WRONG = [
    ({}, "nothing is shown"),
    ({"points": [(3, 4, 0)]}, "no point is in the structure"),
    ({"box": (50, 10, 20, 40)}, "is empty"),
    ({"box": (500, 10, 600, 40)}, "outside of the image"),
    ({"box": (1, 2, 3)}, "3 numbers, not 4"),
    ({"points": [(3, 4, 2)]}, "neither 0 nor 1"),
    ({"points": [(130, 4, 1)]}, "outside of the image"),
    ({"box": [(0, 0, 9, 9), (20, 20, 30, 30)], "points": [(50, 50, 1)]}, "in none of the 2 boxes"),
    ({"box": (0, 0, 9, 9), "points": [(50, 50, 0)]}, "outside of the box"),
    ({"box": [(0, 0, 9, 9)], "everything": True}, "everything was asked for"),
    ({"box": [(0, 0, 9, 9)], "slice": 3}, "has no slices"),
    ({"mask": np.ones((5, 5), bool)}, "5 x 5 pixels"),
    ({"mask": np.zeros((100, 120), bool)}, "is empty"),
    ({"box": [(0, 0, 9, 9)], "axis": "oblique"}, "no axis 'oblique'"),
    ({"box": [(0, 0, 9, 9)], "slicee": 3}, "Did you mean slice"),
    ({"everything": True, "candidates": True}, "candidates are of prompts"),
    ({"box": "1,2,3,4"}, "tuples of numbers"),
    ({"box": (1, 2, float("nan"), 4)}, "is empty"),
]


@pytest.mark.parametrize(("words", "said"), WRONG)
def test_a_wrong_prompt_is_refused_before_a_model_is_asked(picture, words, said):
    model = Bright()
    with pytest.raises(BadRecipe, match=said):
        mg.outline(picture, backbone=model, **words)
    assert not model.encoded


def test_a_model_that_is_not_there_says_how_to_name_one(picture):
    with pytest.raises(UnknownName, match="--backbone hf-hub:facebook/sam-vit-base"):
        mg.outline(picture, box=(28, 18, 54, 44), backbone="nowhere")


def test_without_a_word_the_model_that_comes_with_medgraft_is_asked(picture):
    found = mg.outline(picture, box=(28, 18, 54, 44))
    assert found.model["name"] == "embedded:pyramid"
    assert found.model["licence"] == "Apache-2.0"
    assert found.labels.any()


def test_a_file_that_is_not_there_says_so(tmp_path):
    with pytest.raises(BadData, match="no such file"):
        mg.outline(tmp_path / "absent.png", box=(1, 1, 5, 5), backbone=Bright())


def test_nothing_found_is_said_and_written(picture, tmp_path):
    said: list[str] = []
    listen = lambda event: said.append(event.get("text", ""))  # noqa: E731
    found = mg.outline(picture, points=[(3, 3)], out=tmp_path / "out", backbone=Bright(), listen=listen)
    assert found.rows == [] and found.lines()[0] == "nothing was found"
    assert any("outlined nothing" in text for text in said)
    assert not read_label_map(tmp_path / "out" / "mask.png").values.any()
