"""The layout of YOLO: names, places, lines that are none, and texts that mean something else."""

from __future__ import annotations

import pytest
from box_sets import by_key, paint, write

from medgraft.errors import BadData, BadTable
from medgraft.samples import read_samples
from medgraft.samples.dataset import Columns

LINE = "0 0.5 0.5 0.25 0.5\n"
CORNERS = (30, 15, 50, 45, False)


def make(root, *, images="images", labels="labels", stems="abc", text=LINE):
    for number, stem in enumerate(stems):
        paint(root / images / f"{stem}.png", number)
        write(root / labels / f"{stem}.txt", text)
    return root


def named(root, text="names: [cell, mite]\n"):
    write(root / "data.yaml", text)
    return root


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("classes.txt", "cell\nmite\n"),
        ("labels/classes.txt", "cell\r\nmite\r\n\r\n"),
        ("obj.names", "cell\nmite"),
        ("data.yaml", "names: [cell, mite]"),
        ("data.yaml", "names:\n  0: cell\n  1: mite\nnc: 2"),
        ("my_set.yml", "names:\n- cell\n"),
    ],
)
def test_names_of_classes(tmp_path, file, text):
    write(make(tmp_path) / file, text)
    found = read_samples(tmp_path)
    assert found.layout == "yolo" and not found.problems
    assert by_key(found) == {f"images/{stem}.png": [("cell", *CORNERS)] for stem in "abc"}


def test_without_names_classes_are_called_by_number(tmp_path):
    found = read_samples(make(tmp_path))
    assert found.samples[0].label == "0"
    assert any("no file names the classes" in note for note in found.notes)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("images/{}", "labels/{}"),
        ("{}/images", "{}/labels"),
        ("{}", "{}"),
        ("images/{}/deep", "labels/{}/deep"),
    ],
)
def test_splits_by_folders(tmp_path, images, labels):
    for word, stem in (("train", "a"), ("valid", "b"), ("test", "c")):
        make(tmp_path, images=images.format(word), labels=labels.format(word), stems=stem)
    found = read_samples(named(tmp_path), layout="yolo")
    assert [sample.split for sample in sorted(found.samples, key=lambda s: s.image.path.name)] == [
        "train",
        "val",
        "test",
    ]
    assert all(len(sample.boxes) == 1 for sample in found.samples)
    assert not read_samples(tmp_path, layout="yolo", columns=Columns(split="none")).has_splits


@pytest.mark.parametrize("prefix", ["", "../", "path: .\n"])
def test_entries_of_data_yaml(tmp_path, prefix):
    make(tmp_path, images="first/images", labels="first/labels", stems="ab")
    make(tmp_path, images="second/images", labels="second/labels", stems="c")
    up = prefix if prefix == "../" else ""
    head = "" if up else prefix
    text = f"{head}train: {up}first/images\nval: [{up}second/images]\nnames: [cell]\n"
    found = read_samples(named(tmp_path, text) / "data.yaml")
    assert [(sample.key[-5:], sample.split) for sample in found.samples] == [
        ("a.png", "train"),
        ("b.png", "train"),
        ("c.png", "val"),
    ]


def test_lists_of_images(tmp_path):
    """As CVAT writes them: paths from a folder above, texts beside the images."""
    make(tmp_path, images="obj_train_data", labels="obj_train_data", stems="ab")
    write(tmp_path / "obj.names", "cell\n")
    write(tmp_path / "train.txt", "data/obj_train_data/a.png\n")
    write(tmp_path / "test.txt", "data/obj_train_data/b.png\n")
    found = read_samples(tmp_path)
    assert found.layout == "yolo"
    assert {sample.key: sample.split for sample in found.samples} == {
        "obj_train_data/a.png": "train",
        "obj_train_data/b.png": "test",
    }


def test_empty_and_absent_texts_mean_no_boxes(tmp_path):
    named(make(tmp_path))
    write(tmp_path / "labels/a.txt", "")
    (tmp_path / "labels/b.txt").unlink()
    found = read_samples(tmp_path)
    assert [len(sample.boxes) for sample in found.samples] == [0, 0, 1]
    assert [sample.label for sample in found.samples] == ["", "", "cell"]
    assert any("1 images have no text file" in note for note in found.notes)


def test_a_folder_without_any_text_is_unlabelled(tmp_path):
    make(tmp_path, images="images/train", labels="labels/train")
    paint(tmp_path / "images/test/d.png", 9)
    found = read_samples(named(tmp_path))
    assert {s.key: s.label for s in found.samples}["images/test/d.png"] is None
    assert found.samples[0].key == "images/test/d.png" and found.samples[0].boxes is None


def test_splits_that_leave_images_out_are_not_used(tmp_path):
    make(tmp_path, images="images/train", labels="labels/train", stems="ab")
    make(tmp_path, stems="c")
    found = read_samples(named(tmp_path))
    assert not found.has_splits
    assert any("1 images lie in no split (images/c.png)" in note for note in found.notes)


def test_no_text_at_all_is_refused(tmp_path):
    paint(tmp_path / "images/a.png")
    with pytest.raises(BadData, match="no image has a text file"):
        read_samples(named(tmp_path), layout="yolo")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("2 0.5 0.5 0.1 0.1", "has the class '2', which is none of the 2 names in data.yaml"),
        ("-1 0.5 0.5 0.1 0.1", "no whole number"),
        ("0.5 0.5 0.5 0.1 0.1", "no whole number"),
        ("cell 0.5 0.5 0.1 0.1", "has the class 'cell'"),
        ("0 0.5 0.5 0.1 nan", "has h 'nan', which is no number"),
        ("0 0.5 0.5 0 0.1", "has no extent"),
        ("0 0.5 0.5 -0.1 0.1", "has no extent"),
        ("0 0.9 0.5 0.3 0.1", "reaches from x = 60 to 84, outside the image of 80 x 60 pixels"),
        ("0 320 240 50 40", "these look like pixels"),
        ("0 0.5 0.5 0.1", "holds 4 numbers (0 0.5 0.5 0.1), not class cx cy w h"),
    ],
)
def test_a_broken_line_costs_one_box(tmp_path, line, words):
    named(make(tmp_path))
    write(tmp_path / "labels/b.txt", f"\n{LINE}{line}\n")
    found = read_samples(tmp_path)
    assert [len(sample.boxes) for sample in found.samples] == [1, 1, 1]
    (problem,) = found.problems
    assert problem.part and problem.path == "labels/b.txt"
    assert problem.reason.startswith("line 3 of images/b.png ") and words in problem.reason


def test_outlines_give_their_surrounding_box(tmp_path):
    named(make(tmp_path))
    write(tmp_path / "labels/a.txt", "1 0.25 0.25 0.5 0.25 0.5 0.75 0.25 0.5\n1 0.5 0.5 0.25 0.5 0.87\n")
    assert by_key(read_samples(tmp_path))["images/a.png"] == [
        ("mite", 20, 15, 40, 45, False),
        ("mite", *CORNERS),
    ]


def test_key_points_are_passed_over(tmp_path):
    named(make(tmp_path, text=LINE.strip() + " 0.1 0.1 0.9 0.9\n"), "names: [cell]\nkpt_shape: [2, 2]\n")
    assert by_key(read_samples(tmp_path))["images/a.png"] == [("cell", *CORNERS)]


@pytest.mark.parametrize("text", ["names: [", "names: {0: cell, x: mite}", "names: [cell, null]"])
def test_a_broken_yaml_is_said(tmp_path, text):
    with pytest.raises(BadTable, match=r"data\.yaml: (this is no YAML|names\[)"):
        read_samples(named(make(tmp_path), text), layout="yolo")


def test_yaml_runs_no_code(tmp_path):
    text = f"names: !!python/object/apply:os.mkdir [{tmp_path / 'made'}]"
    with pytest.raises(BadTable, match="no YAML"):
        read_samples(named(make(tmp_path), text), layout="yolo")
    assert not (tmp_path / "made").exists()


def test_texts_of_another_kind_are_refused_with_file_and_line(shared):
    """Points, "x y type": neither YOLO nor Pascal VOC."""
    data = shared("data/chula_rbc12")
    words = r"none of the 48 images can be used: labels/119\.txt: line 1 holds 3 numbers \(438 344 4\)"
    for layout in ("table", "yolo"):
        with pytest.raises(BadData, match=words):
            read_samples(data, layout=layout)
    assert len(read_samples(data, columns=Columns(boxes="none")).samples) == 48


def test_notes_beside_images_are_no_boxes(tmp_path):
    for label in ("sick", "well"):
        paint(tmp_path / label / "a.png", len(label))
        write(tmp_path / label / "a.txt", "taken on Monday")
    assert read_samples(tmp_path).layout == "folder"
