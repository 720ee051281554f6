"""Boxes that are written and read again are the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medgraft import files
from medgraft.errors import UserError
from medgraft.files import Pictured
from medgraft.samples import read_samples
from medgraft.values import Boxes

WIDTH, HEIGHT = 61, 47
NAMES = ("in a/x.y.png", "in a/z.png", "q.png")
# What a spreadsheet, XML, JSON or a list of words could stumble over.
CLASSES = ("cell", "mite, dead", "=1+1", "<b> & 'c'", "Größe 2")


@st.composite
def picture(draw, name: str) -> Pictured:
    corners: dict[tuple, bool] = {}
    for _ in range(draw(st.integers(0, 4))):
        x0, x1 = sorted(draw(st.tuples(*[st.floats(0, WIDTH, width=64)] * 2)))
        y0, y1 = sorted(draw(st.tuples(*[st.floats(0, HEIGHT, width=64)] * 2)))
        if x1 - x0 > 1e-3 and y1 - y0 > 1e-3:
            corners[x0, y0, x1, y1] = draw(st.booleans())
    labels = tuple(draw(st.sampled_from(CLASSES)) for _ in corners)
    array = np.array(list(corners), dtype=np.float64).reshape(-1, 4)
    return Pictured(name, (WIDTH, HEIGHT), Boxes(array, labels, ignored=np.array(list(corners.values()), dtype=bool)))


pictures = st.tuples(*map(picture, NAMES)).filter(lambda found: any(len(one.boxes) for one in found))
each = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(NAMES):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        files.save_png(tmp_path / name, np.full((HEIGHT, WIDTH), 40 * number, np.uint8))
    return tmp_path


def check(folder: Path, layout: str, images, *, off: float = 0.0, ignored: bool = True) -> None:
    found = {sample.key: sample.boxes for sample in read_samples(folder, layout=layout).samples}
    for image in images:
        wanted = image.boxes if ignored else image.boxes.take(~image.boxes.ignored)
        boxes = found[image.name]
        assert boxes is not None and boxes.labels == wanted.labels
        assert np.array_equal(boxes.ignored, wanted.ignored)
        assert np.abs(boxes.corners - wanted.corners).max(initial=0) <= off


@each
@given(images=pictures)
def test_coco_gives_the_same_to_the_last_bit(folder, images):
    """A far corner is a sum there, and some sums have no other addend that gives them."""
    files.write_coco(folder / "set.json", images, classes=CLASSES)
    check(folder, "coco", images, off=float(np.spacing(60.0)))


@each
@given(images=pictures)
def test_coco_gives_the_same_numbers_down_to_a_millionth_of_a_pixel(folder, images):
    rounded = [replace(image, boxes=replace(image.boxes, corners=_binary(image.boxes.corners))) for image in images]
    files.write_coco(folder / "set.json", rounded, classes=CLASSES)
    check(folder, "coco", rounded)


def _binary(corners: np.ndarray) -> np.ndarray:
    """Corners in units of 2 ** -20 pixels, which floats hold exactly."""
    return np.round(corners * 2**20) / 2**20


@each
@given(images=pictures)
def test_a_table_gives_the_same_numbers(folder, images):
    files.write_box_table(folder / "boxes.csv", images)
    check(folder, "table", images)


@each
@given(images=pictures)
def test_voc_gives_the_same_numbers(folder, images):
    files.write_voc(folder / "annotations", images)
    check(folder, "voc", images)


@each
@given(images=pictures)
def test_yolo_gives_the_same_to_a_billionth_of_a_pixel(folder, images):
    paths = files.write_yolo(folder, images, classes=CLASSES)
    for path in paths:  # without a folder images/ the texts lie beside the images
        path.replace(folder / path.relative_to(folder / "labels"))
    if any(not image.boxes.ignored.all() for image in images):
        check(folder, "yolo", images, off=1e-9, ignored=False)


@each
@given(image=picture("q.png"))
def test_geojson_gives_the_same_numbers(folder, image):
    files.write_geojson(folder / "q.geojson", image, kind="annotation")
    features = json.loads((folder / "q.geojson").read_text())["features"]
    assert len({one["id"] for one in features}) == len(features) == len(image.boxes)
    for one, label, corners in zip(features, image.boxes.labels, image.boxes.corners, strict=True):
        ring = np.array(one["geometry"]["coordinates"][0])
        assert np.array_equal([*ring.min(axis=0), *ring.max(axis=0)], corners)
        assert np.array_equal(ring[0], ring[-1]) and len(ring) == 5
        assert one["properties"]["classification"] == {"name": label}
        assert one["properties"]["objectType"] == "annotation"


def found() -> list[Pictured]:
    corners = np.array([[1.5, 2, 3, 4], [0, 0, 10, 10]])
    return [
        Pictured("a.png", (20, 10), Boxes(corners, ("mite", "cell"), np.array([0.75, 0.5]))),
        Pictured("b.png", (20, 10), Boxes(np.zeros((0, 4)), (), np.zeros(0))),
    ]


def test_results_of_coco(tmp_path):
    files.write_coco_results(tmp_path / "a.json", found())
    assert json.loads((tmp_path / "a.json").read_text()) == [
        {"image_id": 1, "score": 0.75, "category_id": 2, "bbox": [1.5, 2.0, 1.5, 2.0]},
        {"image_id": 1, "score": 0.5, "category_id": 1, "bbox": [0.0, 0.0, 10.0, 10.0]},
    ]
    ids = {"image_ids": {"a.png": 70, "b.png": 71}, "category_ids": {"mite": 3, "cell": 9}}
    files.write_coco_results(tmp_path / "b.json", found(), **ids)
    rows = json.loads((tmp_path / "b.json").read_text())
    assert [(row["image_id"], row["category_id"]) for row in rows] == [(70, 3), (70, 9)]


def test_scores_are_written_where_the_form_has_a_place(tmp_path):
    images = found()
    files.write_box_table(tmp_path / "a.csv", images)
    assert (tmp_path / "a.csv").read_text().splitlines() == [
        "path,label,score,x0,y0,x1,y1",
        "a.png,mite,0.75,1.5,2.0,3.0,4.0",
        "a.png,cell,0.5,0.0,0.0,10.0,10.0",
        "b.png,,,,,,",
    ]
    files.write_geojson(tmp_path / "a.geojson", images[0])
    features = json.loads((tmp_path / "a.geojson").read_text())["features"]
    assert [one["properties"]["measurements"] for one in features] == [{"score": 0.75}, {"score": 0.5}]
    assert features[0]["properties"]["objectType"] == "detection"
    (path, empty) = files.write_yolo(tmp_path, images)
    assert [line.split()[5] for line in path.read_text().splitlines()] == ["0.75", "0.5"]
    assert empty.read_text() == ""


def test_boxes_of_volumes_go_into_a_table_only(tmp_path):
    deep = [Pictured("a.nii.gz", (7, 6), Boxes(np.array([[1, 2, 3, 4, 5, 6.5]]), ("nodule",)))]
    files.write_box_table(tmp_path / "a.csv", deep)
    assert (tmp_path / "a.csv").read_text().splitlines() == [
        "path,label,score,x0,y0,z0,x1,y1,z1",
        "a.nii.gz,nodule,,1.0,2.0,3.0,4.0,5.0,6.5",
    ]
    with pytest.raises(UserError, match=r"a\.nii\.gz is a volume"):
        files.write_coco(tmp_path / "a.json", deep)


def test_names_stay_inside_the_folder_and_apart(tmp_path):
    box = Boxes(np.array([[0, 0, 1, 1.0]]), ("cell",))
    images = [Pictured(name, (9, 9), box) for name in ("../../up.png", "/root.png", "cine.dcm#0", "cine.dcm#1")]
    paths = files.write_voc(tmp_path / "out", images)
    assert [path.relative_to(tmp_path / "out").as_posix() for path in paths] == [
        "up.xml",
        "root.xml",
        "cine_0.xml",
        "cine_1.xml",
    ]
    with pytest.raises(UserError, match=r"x\.png and x\.jpg would both be written as x\.txt"):
        files.write_yolo(tmp_path, [Pictured(name, (9, 9), box) for name in ("x.png", "x.jpg")])


def test_another_kind_of_object_is_refused(tmp_path):
    with pytest.raises(ValueError, match="detection or annotation"):
        files.write_geojson(tmp_path / "a.geojson", found()[0], kind="cell")
