"""Boxes in a table: a column of annotation files, and one row a box."""

from __future__ import annotations

import pytest
from box_sets import by_key, paint, voc_text, write

from medgraft.errors import BadData, BadTable
from medgraft.samples import read_samples
from medgraft.samples.dataset import Columns


def table(root, *rows, name="labels.csv", images=3):
    for number in range(images):
        paint(root / f"{number}.png", number)
    return write(root / name, "\n".join(rows) + "\n")


def test_a_column_of_files(tmp_path):
    write(tmp_path / "xml/0.xml", voc_text("0.png", [("cell", 1, 2, 3, 4)]))
    write(tmp_path / "1.txt", "0 0.5 0.5 0.25 0.5\n")
    write(tmp_path / "classes.txt", "mite\n")
    rows = ("path,annotation,split,site", "0.png,xml/0.xml,train,A", "1.png,1.txt,test,B", "2.png,,test,B")
    found = read_samples(table(tmp_path, *rows))
    assert by_key(found) == {
        "0.png": [("cell", 1, 2, 3, 4, False)],
        "1.png": [("mite", 30, 15, 50, 45, False)],
        "2.png": None,
    }
    assert [(s.label, s.split, dict(s.covariates)) for s in found.samples] == [
        ("cell", "train", {"site": "A"}),
        ("mite", "test", {"site": "B"}),
        (None, "test", {"site": "B"}),
    ]
    assert found.label_column == "annotation"


def test_a_label_beside_boxes_stays_a_covariate_unless_it_is_asked_for(tmp_path):
    for number in range(3):
        write(tmp_path / f"{number}.xml", voc_text("", [("cell", 1, 2, 3, 4 + number)]))
    rows = ("path,annotation,label", "0.png,0.xml,sick", "1.png,1.xml,well", "2.png,2.xml,well")
    path = table(tmp_path, *rows)
    found = read_samples(path)
    assert found.boxed and found.samples[0].covariates == {"label": "sick"}
    for columns in (Columns(label="label"), Columns(boxes="none")):
        found = read_samples(path, columns=columns)
        assert not found.boxed and [s.label for s in found.samples] == ["sick", "well", "well"]
    assert read_samples(path, columns=Columns(label="label", boxes="annotation")).boxed


def test_a_column_of_words_is_no_column_of_files(tmp_path):
    rows = ("path,label,annotation", "0.png,a,done by x.y.", "1.png,b,", "2.png,b,")
    found = read_samples(table(tmp_path, *rows))
    assert not found.boxed and found.samples[0].covariates == {"annotation": "done by x.y."}


def test_a_column_that_is_asked_for_must_be_there(tmp_path):
    path = table(tmp_path, "path,label", "0.png,a", "1.png,b")
    with pytest.raises(BadTable, match="column 'boxs' is not there"):
        read_samples(path, columns=Columns(boxes="boxs"))


def test_a_missing_annotation_file_is_named_by_its_row(tmp_path):
    write(tmp_path / "0.xml", voc_text("", [("cell", 1, 2, 3, 4)]))
    rows = ["path,xml", "0.png,0.xml", "1.png,1.xml"]
    found = read_samples(table(tmp_path, *rows))
    assert [(p.path, p.reason) for p in found.problems] == [("1.xml", "row 3: the annotation file is not there")]
    with pytest.raises(BadData, match=r"2 of 3 images cannot be used.*row 3.*row 4: the annotation file"):
        read_samples(table(tmp_path, *rows, "2.png,2.xml"))


@pytest.mark.parametrize(
    ("head", "row"),
    [
        ("xmin,ymin,xmax,ymax", "1,2,31,22.5"),
        ("x_min,y_min,x_max,y_max", "1,2,31,22.5"),
        ("x0,y0,x1,y1", "1,2,31,22.5"),
        ("x1,y1,x2,y2", "1,2,31,22.5"),
        ("x,y,w,h", "1,2,30,20.5"),
        ("x,y,width,height", "1,2,30,20.5"),
        ("bbox_x,bbox_y,bbox_w,bbox_h", "1,2,30,20.5"),
    ],
)
def test_one_row_a_box(tmp_path, head, row):
    rows = (f"path,label,{head},patient", f"0.png,cell,{row},p", "1.png,,,,,,q", f"0.png,mite,{row},p")
    found = read_samples(table(tmp_path, *rows))
    box = (1, 2, 31, 22.5, False)
    assert by_key(found) == {"0.png": [("cell", *box), ("mite", *box)], "1.png": []}
    assert [(sample.label, sample.patient) for sample in found.samples] == [("cell|mite", "p"), ("", "q")]


def test_the_word_for_none_in_rows_without_corners(tmp_path):
    """As in public chest X-ray tables: "No finding" with NaN."""
    rows = ("path,class,x_min,y_min,x_max,y_max", "0.png,nodule,1,1,9,9", "1.png,No finding,NaN,NaN,NaN,NaN")
    assert [sample.label for sample in read_samples(table(tmp_path, *rows)).samples] == ["nodule", ""]


def test_covariates_of_boxes_are_not_those_of_images(tmp_path):
    rows = ("path,label,xmin,ymin,xmax,ymax,age,reader", "0.png,a,1,1,9,9,61,x", "0.png,b,1,1,9,9,61,y")
    found = read_samples(table(tmp_path, *rows, "1.png,b,2,2,9,9,55,y"))
    assert [dict(sample.covariates) for sample in found.samples] == [{"age": "61"}, {"age": "55"}]


@pytest.mark.parametrize("name", ["patient", "split"])
def test_rows_of_one_image_must_agree(tmp_path, name):
    rows = (f"path,label,xmin,ymin,xmax,ymax,{name}", "0.png,a,1,1,9,9,train", "0.png,b,1,1,9,9,test")
    with pytest.raises(BadTable, match=f"rows 2 and 3 name the same image with different values of '{name}'"):
        read_samples(table(tmp_path, *rows))


def test_ignored_rows_and_rows_without_a_class(tmp_path):
    rows = ["path,label,xmin,ymin,xmax,ymax,difficult", "0.png,a,1,1,9,9,1", "1.png,b,1,1,9,9,0"]
    found = read_samples(table(tmp_path, *rows, "1.png,,3,3,9,9,0"))
    assert by_key(found) == {"0.png": [("a", 1, 1, 9, 9, True)], "1.png": [("b", 1, 1, 9, 9, False)]}
    assert [p.reason for p in found.problems] == ["row 4 of 1.png has no class"]


def test_without_a_class_column_all_are_objects(tmp_path):
    found = read_samples(table(tmp_path, "path,xmin,ymin,xmax,ymax", "0.png,1,1,9,9", "1.png,1,1,9,9"))
    assert {sample.label for sample in found.samples} == {"object"}
    assert any("no column names the class" in note for note in found.notes)


def test_corners_of_volumes(tmp_path):
    import numpy as np

    from medgraft.files import save_nifti

    for number in range(2):
        save_nifti(tmp_path / f"{number}.nii.gz", np.zeros((5, 6, 7), np.float32), affine=np.eye(4))
    rows = ("path,label,x0,y0,z0,x1,y1,z1", "0.nii.gz,nodule,1,2,0,7,6,5", "1.nii.gz,nodule,1,2,0,7,6,6.5")
    rows += ("1.nii.gz,nodule,1,2,0,7,6,4",)
    write(tmp_path / "boxes.csv", "\n".join(rows))
    found = read_samples(tmp_path)
    assert by_key(found) == {
        "0.nii.gz": [("nodule", 1, 2, 0, 7, 6, 5, False)],
        "1.nii.gz": [("nodule", 1, 2, 0, 7, 6, 4, False)],
    }
    assert "reaches from z = 0 to 6.5, outside the image of 7 x 6 x 5 pixels" in found.problems[0].reason


def test_files_that_are_missing_count_once(tmp_path):
    rows = ["path,label,xmin,ymin,xmax,ymax", *(f"{n}.png,a,1,1,9,{9 + m}" for n in range(4) for m in range(3))]
    found = read_samples(table(tmp_path, *rows))
    assert len(found.samples) == 3 and [p.path for p in found.problems] == ["3.png"]
    assert "row 11 of labels.csv" in found.problems[0].reason


def test_a_recipe_that_names_the_column_of_files_as_its_label_reads_the_same_boxes(tmp_path):
    rows = ("path,annotation", "0.png,0.txt", "1.png,1.txt")
    path = table(tmp_path, *rows, images=2)
    for index in (0, 1):
        (tmp_path / f"{index}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    first = read_samples(path)
    again = read_samples(path, columns=Columns(label=first.label_column))
    assert again.label_column == first.label_column == "annotation"
    assert [sample.boxes.labels for sample in again.samples] == [sample.boxes.labels for sample in first.samples]
    assert again.notes == first.notes
