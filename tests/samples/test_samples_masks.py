"""Where label maps lie: folders beside the images, and columns of tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from mask_sets import drawn, written

from medgraft.errors import BadData, BadTable
from medgraft.files import save_nifti, write_dicom
from medgraft.samples.dataset import Columns, DataSet, read_samples
from medgraft.samples.facts import image_facts
from medgraft.samples.mask_names import names_beside
from medgraft.samples.survey import survey
from medgraft.samples.zones import ZoneColumns, with_zones


def paint(root: Path, *names: str) -> None:
    for name in names:
        if name.endswith((".nii", ".nii.gz")):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            save_nifti(root / name, np.ones((3, 4, 5), np.float32))
        else:
            written(root / name, drawn(1))


def pairs(dataset: DataSet) -> dict[str, str | None]:
    """Key of the image -> its mask, relative to the root."""
    return {
        sample.key: None if sample.mask is None else sample.mask.path.relative_to(dataset.root).as_posix()
        for sample in dataset.samples
    }


def noted(dataset: DataSet, *words: str) -> bool:
    return any(all(word in note for word in words) for note in dataset.notes)


# ---- folders ----


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("images", "masks"),
        ("Images", "Mask"),
        ("image", "label"),
        ("imgs", "labels"),
        ("img", "segmentations"),
        ("images", "instances"),
        ("images", "annotations"),
        ("images", "ground_truth"),
        ("JPEGImages", "SegmentationClass"),
        ("imagesTr", "labelsTr"),
        ("images", "vessels"),
    ],
)
def test_a_folder_of_masks_beside_one_of_images(tmp_path: Path, images: str, masks: str) -> None:
    paint(tmp_path, f"{images}/a.png", f"{images}/b.png", f"{masks}/a.png", f"{masks}/b.png")
    found = read_samples(tmp_path)
    assert found.layout == "masks" and f"{masks}/" in found.why and found.mask_column == masks
    assert pairs(found) == {f"{images}/{name}.png": f"{masks}/{name}.png" for name in "ab"}
    assert found.target_kind()[0] == "masks" and found.masked and not found.problems
    assert all(sample.label is None and sample.split is None for sample in found.samples)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("a.png", "a_mask.png"),
        ("a.jpg", "a-seg.png"),
        ("a.png", "a_Segmentation.png"),
        ("a b.png", "a b label.png"),
        ("a_image.png", "a_gt.png"),
        ("21_training.tif", "21_manual1.gif"),
        ("a.1.2.png", "a.1.2.png"),
        ("case_7_0000.png", "case_7.png"),
    ],
)
def test_endings_of_names_may_differ(tmp_path: Path, image: str, mask: str) -> None:
    from PIL import Image as Pillow

    for folder, name in (("images", image), ("masks", mask)):
        (tmp_path / folder).mkdir()
        Pillow.fromarray(drawn(1)).save(tmp_path / folder / name)
    assert pairs(read_samples(tmp_path)) == {f"images/{image}": f"masks/{mask}"}


def test_the_very_same_name_comes_first(tmp_path: Path) -> None:
    paint(tmp_path, "images/a.png", "images/a_seg.png", "masks/a.png", "masks/a_seg.png")
    assert pairs(read_samples(tmp_path)) == {"images/a.png": "masks/a.png", "images/a_seg.png": "masks/a_seg.png"}


@pytest.mark.parametrize(
    "form", ["{split}/images/{name}.png {split}/masks/{name}.png", "images/{split}/{name}.png masks/{split}/{name}.png"]
)
def test_splits_above_and_inside(tmp_path: Path, form: str) -> None:
    for split, name in (("train", "a"), ("valid", "a"), ("Test", "b")):
        paint(tmp_path / "archive", *form.format(split=split, name=name).split())
    found = read_samples(tmp_path)
    assert found.layout == "masks"
    assert sorted(sample.split or "" for sample in found.samples) == ["test", "train", "val"]
    assert all(sample.mask and sample.mask.path.parts[-3:] != sample.image.path.parts[-3:] for sample in found.samples)
    assert {s.image.path.name for s in found.samples if s.split == "test"} == {"b.png"}
    assert not read_samples(tmp_path, columns=Columns(split="none")).has_splits


def test_volumes_as_nnunet_and_the_decathlon_name_them(tmp_path: Path) -> None:
    paint(tmp_path, *(f"imagesTr/hip_{k}_0000.nii.gz" for k in (1, 2)), *(f"labelsTr/hip_{k}.nii.gz" for k in (1, 2)))
    paint(tmp_path, "imagesTs/hip_3_0000.nii.gz", "imagesTr/._hip_1_0000.nii.gz")
    labels = {"background": 0, "anterior": 1, "posterior": 2}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels, "channel_names": {"0": "MRI"}}))
    found = read_samples(tmp_path)
    assert pairs(found) == {f"imagesTr/hip_{k}_0000.nii.gz": f"labelsTr/hip_{k}.nii.gz" for k in (1, 2)}
    assert found.mask_names == {0: "background", 1: "anterior", 2: "posterior"} and not found.has_splits
    assert noted(found, "dataset.json")
    paint(tmp_path, "labelsTs/hip_3.nii.gz")
    assert [sample.split for sample in read_samples(tmp_path).samples] == ["train", "train", "test"]


def test_several_channels_of_a_case_are_refused(tmp_path: Path) -> None:
    paint(tmp_path, "imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "labelsTr/a.nii.gz")
    with pytest.raises(
        BadData, match=r"labelsTr/a.nii.gz belongs to 2 images \(a_0000.nii.gz, a_0001.nii.gz\): several channels"
    ):
        read_samples(tmp_path)
    frames = tmp_path / "frames"
    paint(frames, "images/a_0000.png", "images/a_0001.png", "masks/a_0000.png", "masks/a_0001.png")
    assert len(pairs(read_samples(frames))) == 2


def test_copies_of_an_image_in_two_formats_are_refused(tmp_path: Path) -> None:
    paint(tmp_path, "images/a.png", "masks/a.png")
    np.save(tmp_path / "images" / "a.npy", drawn(1))
    with pytest.raises(BadData, match=r"belongs to 2 images \(a.npy, a.png\)\. Keep one"):
        read_samples(tmp_path)


def test_what_has_no_partner_is_named(tmp_path: Path) -> None:
    paint(tmp_path, *(f"images/{k}.png" for k in range(6)), *(f"masks/{k}.png" for k in range(1, 7)))
    (tmp_path / "masks" / "notes.txt").write_text("drawn in 2019")
    found = read_samples(tmp_path)
    assert pairs(found)["images/0.png"] is None and len(found.samples) == 6
    assert noted(found, "1 images have no mask of their name", "images/0.png") and noted(found, "notes.txt")
    assert [(p.path, p.reason) for p in found.problems] == [("masks/6.png", "no image has the name of this mask")]
    paint(tmp_path, "masks/7.png")
    with pytest.raises(BadData, match=r"2 of 7 masks have no image of their name \(masks/6.png, masks/7.png\)"):
        read_samples(tmp_path)
    assert len(read_samples(tmp_path, limit_bad=50).samples) == 6


def test_two_masks_of_one_image_are_not_guessed_about(tmp_path: Path) -> None:
    paint(tmp_path, "images/a.png", "images/b.png", "masks/a_mask.png", "masks/a_seg.png", "masks/b.png")
    found = read_samples(tmp_path)
    assert pairs(found) == {"images/b.png": "masks/b.png"}
    assert [(p.path, p.reason) for p in found.problems] == [
        ("images/a.png", "several masks have its name (a_mask.png, a_seg.png): draw them into one label map")
    ]


def test_several_folders_of_masks(tmp_path: Path) -> None:
    paint(tmp_path, "images/a.png", "lungs/a.png", "opacities/a.png")
    with pytest.raises(
        BadData, match=r"lungs, opacities hold images of the same names as images/.*--mask-column lungs"
    ):
        read_samples(tmp_path)
    found = read_samples(tmp_path, columns=Columns(mask="opacities/"))
    assert pairs(found) == {"images/a.png": "opacities/a.png"} and found.mask_column == "opacities"
    paint(tmp_path, "masks/a.png", "instances/a.png")
    found = read_samples(tmp_path)
    assert pairs(found) == {"images/a.png": "masks/a.png"} and noted(found, "masks/, and not from instances")
    with pytest.raises(BadData, match="no folder of images has the folder 'mask2' beside it"):
        read_samples(tmp_path, columns=Columns(mask="mask2"))
    assert not read_samples(tmp_path, columns=Columns(mask="none")).masked


def test_two_folders_of_images_are_not_mixed(tmp_path: Path) -> None:
    paint(tmp_path, "images/a.png", "imgs/a.png", "masks/a.png")
    found = read_samples(tmp_path)
    assert pairs(found) == {"images/a.png": "masks/a.png"} and noted(found, "from images/, and not from imgs")


def test_a_series_has_the_mask_of_its_folder(tmp_path: Path) -> None:
    for number in range(4):
        position = {"ImagePositionPatient": [0, 0, number], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
        words = {"SeriesInstanceUID": "1.5", "StudyInstanceUID": "1.6", "PixelSpacing": [1, 1], "Modality": "CT"}
        place = tmp_path / "images" / "case1" / f"{number}.dcm"
        write_dicom(place, np.full((8, 8), number, np.int16), PatientID="p", **words, **position)
    paint(tmp_path, "masks/case1.nii.gz")
    found = read_samples(tmp_path)
    assert found.layout == "masks" and len(found.samples) == 1 and len(found.samples[0].image.files) == 4
    assert found.samples[0].mask is not None and found.samples[0].mask.path.name == "case1.nii.gz"


@pytest.mark.parametrize("split", ["", "train/"])
def test_boxes_and_classes_are_left_to_their_layouts(tmp_path: Path, split: str) -> None:
    for layout, files in {
        "yolo": {"images/a.png": None, "labels/a.txt": "0 0.5 0.5 0.1 0.1"},
        "voc": {"images/a.png": None, "annotations/a.xml": "<annotation></annotation>"},
        "folder": {"sick/a.png": None, "well/a.png": None},
    }.items():
        root = tmp_path / layout
        for name, text in files.items():
            (root / split / name).parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                paint(root / split, name)
            else:
                (root / split / name).write_text(text)
        assert read_samples(root, limit_bad=100).layout == layout
        if layout != "folder":  # boxes and masks of the same images
            paint(root / split, "masks/a.png")
            assert read_samples(root, limit_bad=100).layout == layout
            assert read_samples(root, layout="masks").masked


def test_pictures_of_boxes_are_no_masks(tmp_path: Path) -> None:
    from PIL import Image as Pillow

    for name in ("images/a.jpg", "annotations/a.jpg"):
        (tmp_path / name).parent.mkdir()
        Pillow.fromarray(drawn(1)).save(tmp_path / name)
    with pytest.raises(BadData, match="no data set"):
        read_samples(tmp_path)


# ---- tables ----


@pytest.fixture
def table(tmp_path: Path):
    """Write images 0 to 3, masks m0 to m2, and a table; read it."""
    paint(tmp_path, *(f"{k}.png" for k in range(4)), *(f"m/m{k}.png" for k in range(3)))

    def write(text: str, limit_bad: float = 1.0, **columns) -> DataSet:
        (tmp_path / "labels.csv").write_text(text)
        return read_samples(tmp_path / "labels.csv", columns=Columns(**columns), limit_bad=limit_bad)

    return write


@pytest.mark.parametrize("column", ["mask", "Mask Path", "segmentation", "instance_mask", "label_map"])
def test_a_column_of_masks_is_found_by_its_name(table, column: str) -> None:
    found = table(f"path,{column},sex\n0.png,m/m0.png,F\n1.png,,M\n2.png,m\\m2.png,F\n")
    assert pairs(found) == {"0.png": "m/m0.png", "1.png": None, "2.png": "m/m2.png"}
    assert found.mask_column == column and found.target_kind()[0] == "masks"
    assert noted(found, "1 images have no mask") and noted(found, "masks: 1 paths are written with backslashes")
    assert noted(found, f"'{column}'") == (column != "mask")


def test_a_label_wins_and_keeps_the_covariate(table) -> None:
    text = "path,label,mask\n0.png,a,m/m0.png\n1.png,b,m/gone.png\n2.png,a,\n"
    found = table(text)
    assert found.target_kind()[0] == "classes" and [sample.label for sample in found.samples] == ["a", "b", "a"]
    assert pairs(found) == {"0.png": "m/m0.png", "1.png": None, "2.png": None}
    assert [sample.covariates["mask"] for sample in found.samples] == ["m/m0.png", "m/gone.png", ""]
    assert noted(found, "'mask' names masks of 1 images, for tasks that use them, such as segment")
    assert noted(found, "1 masks in the table are missing", "row 3: m/gone.png")
    assert [(p.path, p.reason, p.part) for p in found.problems] == [
        ("m/gone.png", "row 3 of labels.csv: no such file", True)
    ]
    assert table(text.replace(",b,", ",a,")).target_kind()[0] == "masks"
    assert not table(text, mask="none").masked


def test_masks_that_are_asked_for_must_be_there(table) -> None:
    text = "path,label,mask,other\n0.png,a,m/m0.png,m/m0.png\n1.png,b,m/m1.png,m/gone.png\n2.png,a,m/m2.png,\n"
    assert pairs(table(text, mask="mask"))["1.png"] == "m/m1.png"
    found = table(text, mask="other", limit_bad=50)
    assert pairs(found) == {"0.png": "m/m0.png", "2.png": None} and found.mask_column == "other"
    assert [(p.path, p.part) for p in found.problems] == [("m/gone.png", False)]
    with pytest.raises(BadData, match=r"1 of 2 masks in the table are missing \(row 3: m/gone.png\)"):
        table(text, mask="other", limit_bad=0)
    with pytest.raises(BadTable, match="column 'msk' is not there.*Did you mean 'mask'"):
        table(text, mask="msk")


def test_without_a_label_masks_must_be_there(table) -> None:
    with pytest.raises(BadData, match=r"2 of 2 masks in the table are missing.*'m0.png' was found as 'm/m0.png'"):
        table("path,mask\n0.png,m0.png\n1.png,m1.png\n")
    found = table("path,mask\n0.png,m/m0.png\n1.png,m/m9.png\n")
    assert list(pairs(found)) == ["0.png"] and found.problems[0].reason == "row 3 of labels.csv: no such file"


def test_a_column_that_says_who_wore_a_mask_is_none(table) -> None:
    found = table("path,label,mask\n0.png,a,yes\n1.png,b,no\n")
    assert (
        not found.masked
        and not found.problems
        and found.notes == table("path,label,worn\n0.png,a,1\n1.png,b,0\n").notes
    )
    assert found.samples[0].covariates == {"mask": "yes"}


def test_an_image_with_two_masks_is_refused(table) -> None:
    with pytest.raises(BadTable, match=r"rows 2 and 3 name the same image with different masks.*into one label map"):
        table("path,mask\n0.png,m/m0.png\n0.png,m/m1.png\n")
    found = table("path,label,mask\n0.png,a,m/m0.png\n0.png,a,m/m1.png\n1.png,b,m/m2.png\n")
    assert pairs(found)["0.png"] == "m/m0.png" and noted(found, "other covariates")


def test_boxes_are_read_unless_masks_are_asked_for(table, tmp_path: Path) -> None:
    text = "path,label,x0,y0,x1,y1,mask\n0.png,a,1,1,5,5,m/m0.png\n1.png,b,1,1,5,5,m/m1.png\n"
    assert table(text).boxed
    found = table(text, mask="mask")
    assert not found.boxed and found.masked


def test_masks_beside_their_images_are_no_extras(table, tmp_path: Path) -> None:
    paint(tmp_path, "0_mask.png")
    found = table("path,mask\n0.png,0_mask.png\n1.png,m/m1.png\n")
    assert noted(found, "2 images in the folder are not in the table", "2.png, 3.png")


def test_zones_still_read_their_own_masks(table) -> None:
    found = table("path,label,mask\n0.png,a,m/m0.png\n1.png,b,\n")
    zoned = with_zones(found, ZoneColumns(mask="mask", grid=(1, 1)))
    assert zoned.samples[0].zones == {"z1": pytest.approx(25 / 720)} and zoned.samples[0].mask == found.samples[0].mask


def test_a_table_has_the_names_beside_it(table, tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text('{"labels": {"1": "lesion"}}')
    assert table("path,mask\n0.png,m/m0.png\n").mask_names == {1: "lesion"}
    assert table("path,label\n0.png,a\n1.png,b\n").mask_names == {}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "Expecting"),
        ("[1]", None),
        ('{"labels": ["a"]}', None),
        ('{"labels": {"whole": [1, 2], "core": [2]}}', "'whole' is a region of several labels"),
        ('{"labels": {"a": "b"}}', "no whole number"),
        ("[" * 100000, "recursion|Expecting"),
    ],
)
def test_names_that_cannot_be_used_are_noted(tmp_path: Path, text: str, why: str | None) -> None:
    import re

    (tmp_path / "dataset.json").write_text(text)
    notes: list[str] = []
    assert names_beside(tmp_path, notes) == {}
    assert len(notes) == (why is not None) and (why is None or re.search(why, notes[0]))


def test_a_survey_tells_that_there_are_masks(table) -> None:
    found = table("path,mask\n0.png,m/m0.png\n1.png,m/m1.png\n2.png,\n")
    records = [{**image_facts(sample.image), "key": sample.key} for sample in found.samples]
    told = survey(found, records)
    assert told.target == ("masks", "2 of 3 images have a label map, and no label tells them apart")
    assert told.labelled == 0 and told.images == 3
