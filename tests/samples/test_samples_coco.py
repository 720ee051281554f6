"""The layout of COCO: where files and images lie, and every way a box can be wrong."""

from __future__ import annotations

import json

import pytest
from box_sets import HEIGHT, WIDTH, by_key, coco_document, paint, write_json

from medgraft.errors import BadData, BadTable
from medgraft.samples import read_samples
from medgraft.samples.dataset import Columns

ONE = {"a.png": [("cell", 1, 2, 11.5, 22)], "b.png": []}
TWO = {"c.png": [("mite", 0, 0, 80, 60), ("cell", 5, 5, 6, 6)]}


def images_of(folder, *documents):
    for number, name in enumerate(name for images in documents for name in images):
        paint(folder / name, number)


def test_boxes_labels_and_images_without_any(tmp_path):
    images_of(tmp_path / "images", ONE)
    found = read_samples(write_json(tmp_path / "set.json", coco_document(ONE)))
    assert found.layout == "coco" and found.boxed and not found.problems
    assert by_key(found) == {"images/a.png": [("cell", 1, 2, 11.5, 22, False)], "images/b.png": []}
    assert [sample.label for sample in found.samples] == ["cell", ""]
    assert found.target_kind() == ("boxes", "1 boxes are given in 1 of 2 images")
    assert any("categories have no box (mite)" in note for note in found.notes)


@pytest.mark.parametrize(
    ("files", "images"),
    [
        (("annotations/instances_train2017.json", "annotations/instances_val2017.json"), ("train2017", "val2017")),
        (("train/_annotations.coco.json", "valid/_annotations.coco.json"), ("train", "valid")),
        (("train.json", "val.json"), ("images", "images")),
        (("annotations/train.json", "annotations/val.json"), ("images/train", "images/val")),
        (("annotations/train.json", "annotations/val.json"), (".", ".")),
    ],
)
def test_splits_as_people_lay_them(tmp_path, files, images):
    for file, folder, document in zip(files, images, (ONE, TWO), strict=True):
        write_json(tmp_path / file, coco_document(document))
        images_of(tmp_path / folder, document)
    found = read_samples(tmp_path)
    assert found.layout == "coco"
    assert [(sample.image.path.name, sample.split) for sample in sorted(found.samples, key=lambda s: s.key[-5:])] == [
        ("a.png", "train"),
        ("b.png", "train"),
        ("c.png", "val"),
    ]
    assert not read_samples(tmp_path, columns=Columns(split="none")).has_splits


def test_other_files_of_the_official_sets_are_passed_over(tmp_path):
    for kind in ("instances", "person_keypoints", "captions"):
        write_json(tmp_path / f"annotations/{kind}_train2017.json", coco_document(ONE))
        write_json(tmp_path / f"annotations/{kind}_val2017.json", coco_document(TWO))
    images_of(tmp_path / "images", ONE, TWO)
    assert len(read_samples(tmp_path).samples) == 3


def test_crowds_are_ignored_and_count_as_there(tmp_path):
    document = coco_document(ONE)
    document["annotations"][0]["iscrowd"] = 1
    images_of(tmp_path, ONE)
    found = read_samples(write_json(tmp_path / "set.json", document))
    assert by_key(found)["a.png"] == [("cell", 1, 2, 11.5, 22, True)]
    assert found.samples[0].label == "cell"
    assert any("1 boxes are ignored" in note for note in found.notes)


def test_patients_of_the_image_list(tmp_path):
    document = coco_document(ONE)
    for number, image in enumerate(document["images"]):
        image["patient_id"] = f"p{number}"
    images_of(tmp_path, ONE)
    path = write_json(tmp_path / "set.json", document)
    assert [sample.patient for sample in read_samples(path).samples] == ["p0", "p1"]
    assert not read_samples(path, columns=Columns(patient="none")).has_patients


def many(tmp_path, change, *, boxes: int = 120):
    """A set with enough boxes that one broken one is tolerated, changed by the test."""
    good = [("cell", x % 70, x // 70, x % 70 + 5, x // 70 + 5) for x in range(boxes)]
    document = coco_document({"a.png": good, "b.png": []})
    change(document)
    paint(tmp_path / "a.png", 1)
    paint(tmp_path / "b.png", 2)
    return write_json(tmp_path / "set.json", document)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"bbox": [10, 10, 0, 5]}, "has no extent: it reaches from x = 10 to 10"),
        ({"bbox": [10, 10, 5, -5]}, "has no extent: it reaches from y = 10 to 5"),
        ({"bbox": [70, 10, 20, 5]}, "reaches from x = 70 to 90, outside the image of 80 x 60 pixels"),
        ({"bbox": [float("nan"), 1, 2, 3]}, "no numbers"),
        ({"bbox": [1, 2, float("inf"), 3]}, "no numbers"),
        ({"bbox": ["1", 2, 3, 4]}, "not four numbers"),
        ({"bbox": [1, 2, 3]}, "no bbox of four numbers"),
        ({"bbox": None}, "no bbox of four numbers"),
        ({"category_id": 9}, "category_id 9, which is not in categories"),
        ({"category_id": None}, "category_id None"),
    ],
)
def test_a_broken_box_costs_one_box(tmp_path, values, words):
    found = read_samples(many(tmp_path, lambda document: document["annotations"][7].update(values)))
    assert len(found.samples[0].boxes) == 119
    (problem,) = found.problems
    assert problem.part and problem.path == "set.json"
    assert problem.reason.startswith("annotation 8 of a.png ") and words in problem.reason
    assert any("1 of 120 boxes cannot be used" in note for note in found.notes)


def test_too_many_broken_boxes_are_refused(tmp_path):
    def break_three(document):
        for one in document["annotations"][:3]:
            one["bbox"][2] = 0

    path = many(tmp_path, break_three)
    with pytest.raises(BadTable, match="3 of 120 boxes cannot be used, more than 1 %: set.json: annotation 1 of a"):
        read_samples(path)
    assert len(read_samples(path, limit_bad=5).problems) == 3
    with pytest.raises(BadTable, match="3 of 120"):
        read_samples(path, limit_bad=0)


def test_exact_repeats_are_dropped_with_a_note(tmp_path):
    def repeat(document):
        document["annotations"].append({**document["annotations"][0], "id": 999})

    found = read_samples(many(tmp_path, repeat))
    assert len(found.samples[0].boxes) == 120 and not found.problems
    assert any("1 boxes repeat another" in note and "annotation 999" in note for note in found.notes)


def test_less_than_a_pixel_outside_is_clipped(tmp_path):
    images = {"a.png": [("cell", -0.5, -1, WIDTH + 1, HEIGHT + 0.25)], "b.png": []}
    images_of(tmp_path, images)
    found = read_samples(write_json(tmp_path / "set.json", coco_document(images)))
    assert by_key(found)["a.png"] == [("cell", 0, 0, WIDTH, HEIGHT, False)]


def test_an_image_that_lost_all_its_boxes_is_left_out(tmp_path):
    """It would say that there is nothing where something is."""

    def change(document):
        document["annotations"][0].update({"image_id": 101, "bbox": [1, 1, 0, 0]})

    found = read_samples(many(tmp_path, change))
    assert [sample.key for sample in found.samples] == ["a.png"]
    assert {(problem.path, problem.part) for problem in found.problems} == {("b.png", False), ("set.json", True)}


def test_a_missing_image_is_named_with_what_is_there(tmp_path):
    images = {f"{n}.png": [("cell", 1, 1, 9, 9)] for n in range(3)} | {"Four.png": []}
    images_of(tmp_path, {**images})
    (tmp_path / "Four.png").rename(tmp_path / "four.png")
    found = read_samples(write_json(tmp_path / "set.json", coco_document(images)))
    assert len(found.samples) == 3
    assert found.problems[0].path == "Four.png"
    assert "image 103 of set.json" in found.problems[0].reason and "'four.png'" in found.problems[0].reason
    for n in range(2):
        (tmp_path / f"{n}.png").unlink()
    with pytest.raises(BadData, match=r"3 of 4 images cannot be used.*0\.png"):
        read_samples(tmp_path / "set.json")


def test_boxes_of_another_size_are_not_laid_on_the_image(tmp_path):
    images = {f"{n}.png": [("cell", 1, 1, 9, 9)] for n in range(3)}
    images_of(tmp_path, images)
    paint(tmp_path / "1.png", 5, (HEIGHT, WIDTH))
    found = read_samples(write_json(tmp_path / "set.json", coco_document(images)))
    assert [sample.key for sample in found.samples] == ["0.png", "2.png"]
    assert "80 x 60 pixels by set.json, the file has 60 x 80 (turned upright" in found.problems[0].reason


def test_paths_of_another_machine_are_found_by_their_names(tmp_path):
    images_of(tmp_path / "images", {"a.png": 0, "b.png": 0})
    document = coco_document({"C:\\data\\a.png": [("cell", 1, 1, 2, 2)], "/elsewhere/x/b.png": []})
    found = read_samples(write_json(tmp_path / "set.json", document))
    assert list(by_key(found)) == ["images/a.png", "images/b.png"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.pop("categories"), "no list 'categories'"),
        (lambda d: d["images"].append(d["images"][0]), "two images have the id 100"),
        (lambda d: d["categories"].append({"id": 1, "name": "x"}), "two categories have the id 1"),
        (lambda d: d["images"][0].pop("file_name"), "image 1 has no id or no file_name"),
        (lambda d: d["categories"][0].pop("name"), "category 1 has no id or no name"),
        (lambda d: d["images"].append({**d["images"][0], "id": 7}), "the image a.png is given twice"),
        (lambda d: d["categories"][1].update(name="Cell"), "differ only by capital letters"),
    ],
)
def test_a_file_that_cannot_be_understood_is_refused(tmp_path, change, words):
    document = coco_document({"a.png": [("cell", 1, 1, 2, 2), ("mite", 4, 4, 8, 8)], "b.png": []})
    images_of(tmp_path, ONE)
    change(document)
    with pytest.raises(BadTable, match=words):
        read_samples(write_json(tmp_path / "set.json", document), layout="coco")


@pytest.mark.parametrize("text", ["", "[1, 2]", '{"images": [', "[" * 100_000, "null"])
def test_no_json_is_said(tmp_path, text):
    (tmp_path / "set.json").write_text(text)
    with pytest.raises(BadTable, match=r"set\.json: this is no"):
        read_samples(tmp_path / "set.json", layout="coco")


def test_annotations_of_no_image_are_noted(tmp_path):
    found = read_samples(many(tmp_path, lambda document: document["annotations"][3].update(image_id=55)))
    assert any("1 annotations in set.json are of no image of it (annotation 4)" in note for note in found.notes)


def test_one_image_in_two_splits_is_refused(tmp_path):
    images_of(tmp_path, ONE)
    for name in ("train.json", "val.json"):
        write_json(tmp_path / name, coco_document(ONE))
    with pytest.raises(BadTable, match=r"a\.png is given twice \(train\.json and val\.json\)"):
        read_samples(tmp_path)


def test_other_json_is_no_layout(tmp_path):
    (tmp_path / "package.json").write_text(json.dumps({"name": "x", "images": []}))
    with pytest.raises(BadData, match="no data set"):
        read_samples(tmp_path)
