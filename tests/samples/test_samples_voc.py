"""The layout of Pascal VOC: where files lie, what is ignored, and XML that would do harm."""

from __future__ import annotations

import numpy as np
import pytest
from box_sets import by_key, paint, voc_text, write

from medgraft.errors import BadData, BadTable
from medgraft.samples import read_samples
from medgraft.samples.voc import read_voc

BOXES = {"a": [("cell", 1, 2, 11, 22)], "b": [], "c": [("mite", 0, 0, 80, 60), ("cell", 5.25, 5, 6, 6)]}


def make(root, xml="Annotations", images="JPEGImages"):
    for number, (stem, boxes) in enumerate(BOXES.items()):
        paint(root / images / f"{stem}.png", number)
        write(root / xml / f"{stem}.xml", voc_text(f"{stem}.png", boxes))
    return root


@pytest.mark.parametrize(
    ("xml", "images"),
    [("Annotations", "JPEGImages"), ("annotations", "images"), (".", "."), (".", "images"), ("annotations/xmls", ".")],
)
def test_where_files_lie(tmp_path, xml, images):
    found = read_samples(make(tmp_path, xml, images))
    assert found.layout == "voc" and not found.problems and not found.has_splits
    assert [(sample.image.path.name, sample.label) for sample in found.samples] == [
        ("a.png", "cell"),
        ("b.png", ""),
        ("c.png", "cell|mite"),
    ]


def test_corners_are_taken_as_they_are_written(tmp_path):
    found = by_key(read_samples(make(tmp_path)))
    assert found["JPEGImages/c.png"] == [("mite", 0, 0, 80, 60, False), ("cell", 5.25, 5, 6, 6, False)]


@pytest.mark.parametrize("folder", ["ImageSets", "ImageSets/Main"])
def test_lists_give_the_splits(tmp_path, folder):
    make(tmp_path)
    write(tmp_path / folder / "train.txt", "a\n")
    write(tmp_path / folder / "trainval.txt", "a\nb\n")
    write(tmp_path / folder / "cell_train.txt", "a  1\nb -1\n")
    write(tmp_path / folder / "test.txt", "b.png\n")
    found = read_samples(tmp_path)
    assert {sample.key[-5:]: sample.split for sample in found.samples} == {"a.png": "train", "b.png": "test"}
    assert any("1 XML files are in no list of ImageSets" in note for note in found.notes)


def test_a_name_in_two_lists_is_refused(tmp_path):
    make(tmp_path)
    write(tmp_path / "ImageSets/train.txt", "a\nb\n")
    write(tmp_path / "ImageSets/val.txt", "b\nc\n")
    with pytest.raises(BadTable, match="'b' is in the list of train and in that of val"):
        read_samples(tmp_path)


def test_a_listed_name_without_xml_is_a_problem(tmp_path):
    make(tmp_path)
    write(tmp_path / "ImageSets/train.txt", "a\nb\nc\nd\n")
    found = read_samples(tmp_path)
    assert [(problem.path, problem.part) for problem in found.problems] == [("d", False)]


def test_splits_by_folders(tmp_path):
    for word in ("train", "valid"):
        paint(tmp_path / word / f"{word}.png", len(word))
        write(tmp_path / word / f"{word}.xml", voc_text(f"{word}.png", BOXES["a"]))
    assert {sample.key: sample.split for sample in read_samples(tmp_path).samples} == {
        "train/train.png": "train",
        "valid/valid.png": "val",
    }


def test_difficult_ones_are_ignored(tmp_path):
    make(tmp_path)
    text = voc_text("b.png", [("cell", 1, 1, 9, 9)]).replace("<bndbox>", "<difficult>1</difficult><bndbox>")
    write(tmp_path / "Annotations/b.xml", text)
    assert by_key(read_samples(tmp_path))["JPEGImages/b.png"] == [("cell", 1, 1, 9, 9, True)]


def test_the_name_of_the_file_counts_more_than_the_name_inside(tmp_path):
    make(tmp_path)
    write(tmp_path / "Annotations/b.xml", voc_text("a.png", [("mite", 1, 1, 9, 9)]))
    found = by_key(read_samples(tmp_path))
    assert found["JPEGImages/b.png"] == [("mite", 1, 1, 9, 9, False)]
    assert found["JPEGImages/a.png"] == [("cell", 1, 2, 11, 22, False)]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("<xmin>1</xmin>", "<xmin>one</xmin>", "object 1 of JPEGImages/a.png has xmin 'one', which is no number"),
        ("<xmin>1</xmin>", "<xmin>nan</xmin>", "has xmin 'nan', which is no number"),
        ("<xmin>1</xmin>", "", "has no xmin"),
        ("<xmin>1</xmin>", "<xmin>11</xmin>", "has no extent: it reaches from x = 11 to 11"),
        ("<xmax>11</xmax>", "<xmax>83</xmax>", "reaches from x = 1 to 83, outside"),
        ("<name>cell</name>", "<name> </name>", "has no class"),
        ("<name>cell</name>", "<name>a|b</name>", "| parts classes"),
        ("bndbox>", "robndbox>", "turned box"),
    ],
)
def test_a_broken_object_costs_one_object(tmp_path, old, new, words):
    make(tmp_path)
    path = tmp_path / "Annotations/a.xml"
    more = voc_text("", [("mite", 3, 3, 9, 9)]).split("</size>")[1].removesuffix("</annotation>")
    text = path.read_text().replace(old, new)
    write(path, text.replace("</annotation>", more + "</annotation>"))
    found = read_samples(tmp_path)
    assert by_key(found)["JPEGImages/a.png"] == [("mite", 3, 3, 9, 9, False)]
    (problem,) = found.problems
    assert problem.part and problem.path == "Annotations/a.xml" and words in problem.reason


BOMB = '<!DOCTYPE a [<!ENTITY x "xxxxxxxxxx"><!ENTITY y "&x;&x;&x;&x;">]>'
OUTSIDE = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]>'


@pytest.mark.parametrize("head", [BOMB, OUTSIDE, '<!DOCTYPE annotation SYSTEM "voc.dtd">'])
def test_xml_that_declares_entities_is_refused(tmp_path, head):
    path = write(tmp_path / "a.xml", head + voc_text("&x;", []))
    with pytest.raises(BadTable, match="declares a document type or entities"):
        read_voc(path)


@pytest.mark.parametrize("text", ["", "<annotation>", "no xml", "<annotation>&x;</annotation>", "<a/><b/>"])
def test_broken_xml_is_said(tmp_path, text):
    with pytest.raises(BadTable, match="this is no XML"):
        read_voc(write(tmp_path / "a.xml", text))


def test_a_huge_file_and_a_foreign_one_are_refused(tmp_path):
    with pytest.raises(BadTable, match="larger than 4 MiB"):
        read_voc(write(tmp_path / "a.xml", "<annotation>" + " " * (4 << 20)))
    with pytest.raises(BadTable, match="no annotation of Pascal VOC but <svg>"):
        read_voc(write(tmp_path / "b.xml", "<svg/>"))


def test_one_broken_file_costs_one_image(tmp_path):
    make(tmp_path)
    write(tmp_path / "Annotations/b.xml", BOMB + "<annotation/>")
    found = read_samples(tmp_path)
    assert [sample.key for sample in found.samples] == ["JPEGImages/a.png", "JPEGImages/c.png"]
    assert [problem.path for problem in found.problems] == ["Annotations/b.xml"]
    write(tmp_path / "Annotations/c.xml", "")
    with pytest.raises(BadData, match=r"2 of 3 images cannot be used.*Annotations/b\.xml.*Annotations/c\.xml"):
        read_samples(tmp_path)


def test_images_without_xml_are_noted(tmp_path):
    make(tmp_path)
    paint(tmp_path / "JPEGImages/d.png", 9)
    found = read_samples(tmp_path)
    assert len(found.samples) == 3
    assert any("1 images have no XML file that is used (JPEGImages/d.png)" in note for note in found.notes)


def test_blood_cells_by_folder_and_by_tables(shared):
    """4,888 boxes, two of them points on purpose; the folder, its table and the table of boxes say the same."""
    data = shared("data/bccd")
    ways = [read_samples(data), read_samples(data, layout="voc"), read_samples(data / "boxes.csv")]
    for found in ways:
        assert len(found.samples) == 364 and sum(problem.part for problem in found.problems) == 2
        assert not any(not problem.part for problem in found.problems)
        assert sum(len(sample.boxes or ()) for sample in found.samples) == 4886
    for samples in zip(*(found.samples for found in ways), strict=True):
        assert len({(sample.key, sample.split, sample.label) for sample in samples}) == 1
        corners = [sample.boxes.corners for sample in samples if sample.boxes is not None]
        assert np.array_equal(corners[0], corners[1]) and np.array_equal(corners[0], corners[2])
