"""Folders, MedMNIST files and DICOM trees, and how the layout is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medgraft.errors import BadData, BadTable, UnknownName
from medgraft.files import read_image, save_png, write_dicom
from medgraft.samples import LAYOUTS
from medgraft.samples.dataset import Columns, read_samples


def paint(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_png(path, np.full((8, 8), value, np.uint8))


def noted(dataset, *words: str) -> bool:
    return any(all(word in note for word in words) for note in dataset.notes)


def test_every_layout_opens_and_declines_an_empty_folder(tmp_path):
    for word in LAYOUTS:
        assert LAYOUTS[word].claims(tmp_path) is None
    with pytest.raises(BadData, match="no data set that medgraft knows"):
        read_samples(tmp_path)


def test_a_missing_path_names_the_near_one(tmp_path):
    (tmp_path / "retina").mkdir()
    with pytest.raises(BadData, match=r"Did you mean .*retina"):
        read_samples(tmp_path / "retnia")


def test_an_unknown_layout_names_the_near_one(tmp_path):
    with pytest.raises(UnknownName, match="folder"):
        read_samples(tmp_path, layout="foldr")


def test_a_folder_a_class(tmp_path):
    paint(tmp_path / "well" / "b.png")
    paint(tmp_path / "sick" / "deep" / "a.png")
    dataset = read_samples(tmp_path)
    assert dataset.layout == "folder"
    assert "sick, well" in dataset.why
    assert [(s.key, s.label, s.split) for s in dataset.samples] == [
        ("sick/deep/a.png", "sick", None),
        ("well/b.png", "well", None),
    ]


@pytest.mark.parametrize("words", [("train", "val", "test"), ("Training", "validation", "Testing"), ("train", "valid")])
def test_splits_above_the_classes(tmp_path, words):
    for word in words:
        paint(tmp_path / word / "a" / "1.png")
        paint(tmp_path / word / "b" / "1.png")
    dataset = read_samples(tmp_path)
    expected = dict(zip(words, ("train", "val", "test"), strict=False))
    assert {s.key: s.split for s in dataset.samples} == {
        f"{word}/{name}/1.png": expected[word] for word in words for name in "ab"
    }


def test_folders_beside_the_splits_are_noted(tmp_path):
    paint(tmp_path / "train" / "a" / "1.png")
    paint(tmp_path / "test" / "a" / "1.png")
    paint(tmp_path / "docs" / "logo.png")
    dataset = read_samples(tmp_path)
    assert len(dataset.samples) == 2
    assert noted(dataset, "docs")


def test_two_folders_for_one_split_are_refused(tmp_path):
    paint(tmp_path / "val" / "a" / "1.png")
    paint(tmp_path / "validation" / "a" / "1.png")
    paint(tmp_path / "train" / "a" / "1.png")
    with pytest.raises(BadData, match="val and validation both mean val"):
        read_samples(tmp_path)


def test_images_directly_in_a_split_are_refused(tmp_path):
    paint(tmp_path / "train" / "a" / "1.png")
    paint(tmp_path / "test" / "1.png")
    with pytest.raises(BadData, match="images lie directly in test/"):
        read_samples(tmp_path)


def test_wrapping_folders_and_archive_rubbish_are_stepped_over(tmp_path):
    inner = tmp_path / "archive" / "dataset"
    paint(inner / "a" / "1.png")
    paint(inner / "b" / "1.png")
    (tmp_path / "__MACOSX").mkdir()
    (inner / "a" / "Thumbs.db").write_bytes(b"x")
    (inner / "a" / "._1.png").write_bytes(b"x")
    dataset = read_samples(tmp_path)
    assert [s.key for s in dataset.samples] == ["a/1.png", "b/1.png"]
    assert noted(dataset, "archive/dataset")


def test_class_folders_that_differ_by_case_are_refused(tmp_path):
    paint(tmp_path / "train" / "Normal" / "1.png")
    paint(tmp_path / "test" / "normal" / "1.png")
    with pytest.raises(BadTable, match="'Normal' and 'normal'"):
        read_samples(tmp_path)


def test_empty_classes_strays_and_foreign_files_are_said(tmp_path):
    paint(tmp_path / "a" / "1.png")
    paint(tmp_path / "b" / "1.png")
    (tmp_path / "c").mkdir()
    (tmp_path / "a" / "notes.docx").write_bytes(b"PK\x03\x04 no image")
    paint(tmp_path / "stray.png")
    dataset = read_samples(tmp_path)
    assert noted(dataset, "c/ holds no image")
    assert noted(dataset, "1 images lie beside the class folders", "stray.png")
    assert [problem.path for problem in dataset.problems] == ["a/notes.docx"]


@pytest.mark.parametrize("above", ["", "train"])
def test_images_beside_masks_are_no_classes(tmp_path, above):
    paint(tmp_path / above / "images" / "1.png")
    paint(tmp_path / above / "masks" / "2.png")
    with pytest.raises(BadData, match="no data set"):
        read_samples(tmp_path)
    paint(tmp_path / above / "masks" / "1.png")
    assert read_samples(tmp_path, limit_bad=100).layout == "masks"


@pytest.mark.parametrize("name", ["manifest.csv", "labels.csv"])
def test_a_table_beside_class_folders_wins_and_says_so(tmp_path, name):
    paint(tmp_path / "a" / "1.png")
    paint(tmp_path / "b" / "1.png")
    (tmp_path / name).write_text("path,label,patient\na/1.png,x,p1\nb/1.png,y,p2\n")
    dataset = read_samples(tmp_path)
    assert dataset.layout == "table"
    assert {s.label for s in dataset.samples} == {"x", "y"}
    assert name in dataset.why
    assert noted(dataset, "not from the names of the folders")
    assert read_samples(tmp_path, layout="folder").layout == "folder"


def test_another_table_beside_class_folders_does_not_win(tmp_path):
    paint(tmp_path / "a" / "1.png")
    paint(tmp_path / "b" / "1.png")
    (tmp_path / "scores_of_2019.csv").write_text("path,label\na/1.png,x\n")
    assert read_samples(tmp_path).layout == "folder"


def test_the_only_table_of_a_folder_without_classes(tmp_path):
    paint(tmp_path / "images" / "1.png")
    paint(tmp_path / "images" / "2.png")
    (tmp_path / "anything.csv").write_text("path,label\nimages/1.png,x\nimages/2.png,y\n")
    assert read_samples(tmp_path).layout == "table"


# ---- MedMNIST ----


def save_mnist(path: Path, **arrays) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    for split, count in (("train", 5), ("val", 2), ("test", 3)):
        arrays.setdefault(f"{split}_images", rng.integers(0, 256, (count, 9, 9), dtype=np.uint8))
        arrays.setdefault(f"{split}_labels", rng.integers(0, 2, (count, 1)))
    np.savez(path, **arrays)
    return arrays


def test_medmnist(tmp_path):
    arrays = save_mnist(tmp_path / "x.npz")
    for data in (tmp_path / "x.npz", tmp_path):
        dataset = read_samples(data)
        assert dataset.layout == "medmnist"
        assert [s.split for s in dataset.samples] == ["train"] * 5 + ["val"] * 2 + ["test"] * 3
        assert dataset.samples[6].key == "val_images/1"
        assert dataset.samples[6].label == str(arrays["val_labels"][1, 0])
        pixels = read_image(dataset.samples[6].image).pixels
        np.testing.assert_array_equal(pixels[0], arrays["val_images"][1])


def test_medmnist_with_several_labels(tmp_path):
    labels = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1], [0, 0, 1]])
    save_mnist(tmp_path / "x.npz", train_labels=labels, val_labels=labels[:2], test_labels=labels[:3])
    dataset = read_samples(tmp_path / "x.npz")
    assert [s.label for s in dataset.samples[:5]] == ["0|2", "", "1", "0|1|2", "2"]
    assert dataset.target_kind()[0] == "several"


def test_medmnist_split_anew(tmp_path):
    save_mnist(tmp_path / "x.npz")
    assert not read_samples(tmp_path / "x.npz", columns=Columns(split="none")).has_splits


def test_medmnist_mistakes(tmp_path):
    save_mnist(tmp_path / "short.npz", val_labels=np.zeros((9, 1), int))
    with pytest.raises(BadData, match=r"val_labels has the shape \(9, 1\) for 2 images"):
        read_samples(tmp_path / "short.npz")
    np.savez(tmp_path / "bare.npz", train_images=np.zeros((2, 4, 4), np.uint8))
    with pytest.raises(BadData, match="train_images has no train_labels"):
        read_samples(tmp_path / "bare.npz")
    save_mnist(tmp_path / "objects.npz", train_labels=np.array([{}] * 5, dtype=object))
    with pytest.raises(BadData, match="Python objects, which are never loaded"):
        read_samples(tmp_path / "objects.npz")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(BadData, match="no data set"):
        read_samples(tmp_path / "other.npz")


def test_real_medmnist(shared):
    dataset = read_samples(shared("data/pneumoniamnist_reduced/pneumoniamnist.npz"))
    counts = {split: sum(s.split == split for s in dataset.samples) for split in ("train", "val", "test")}
    assert counts == {"train": 3882, "val": 524, "test": 624}
    assert sum(s.label == "1" for s in dataset.samples if s.split == "test") == 390


# ---- DICOM trees ----


@pytest.fixture
def tree(tmp_path):
    """Three patients, two studies each, one file a study."""
    rng = np.random.default_rng(1)
    for patient in range(3):
        for study in range(2):
            write_dicom(
                tmp_path / f"x{patient}" / f"file{study}",
                rng.integers(0, 4096, (8, 8), dtype=np.uint16),
                PatientID=f"PAT{patient}",
                StudyInstanceUID=f"1.2.{patient}.{study}",
                SeriesInstanceUID=f"1.3.{patient}.{study}",
                SOPInstanceUID=f"1.4.{patient}.{study}",
                Modality="CR",
            )
    return tmp_path


@pytest.mark.parametrize(
    ("column", "stem"),
    [
        ("StudyInstanceUID", "1.2"),
        ("SeriesInstanceUID", "1.3"),
        ("sop_instance_uid", "1.4"),
        ("Study Instance UID", "1.2"),
    ],
)
def test_a_tree_keyed_by_a_uid(tree, column, stem):
    rows = [f"{stem}.{p}.{s},{'ab'[s]},{50 + p}" for p in range(3) for s in range(2)]
    (tree / "labels.csv").write_text(f"{column},label,age\n" + "\n".join(rows) + "\n")
    dataset = read_samples(tree)
    assert dataset.layout == "dicomtree"
    assert "".join(column.split("_")).replace(" ", "").lower() in dataset.why.lower()
    assert [(s.key, s.label, s.patient) for s in dataset.samples] == [
        (f"x{p}/file{s}", "ab"[s], f"PAT{p}") for p in range(3) for s in range(2)
    ]
    assert dataset.samples[2].covariates["age"] == "51"
    assert noted(dataset, "patient is read from the DICOM headers")
    assert dataset.problems == ()


def test_a_tree_keyed_by_the_patient(tree):
    (tree / "labels.csv").write_text("PatientID,label\nPAT0,a\nPAT1,b\nPAT2,a\n")
    dataset = read_samples(tree / "labels.csv")
    assert [(s.patient, s.label) for s in dataset.samples] == [
        ("PAT0", "a"), ("PAT0", "a"), ("PAT1", "b"), ("PAT1", "b"), ("PAT2", "a"), ("PAT2", "a"),
    ]  # fmt: skip


def test_a_tree_table_with_strangers(tree):
    (tree / "labels.csv").write_text("PatientID,label\nPAT0,a\nPAT1,b\n")
    dataset = read_samples(tree)
    assert len(dataset.samples) == 4
    assert noted(dataset, "2 images are not in the table", "x2/file0")
    (tree / "labels.csv").write_text("PatientID,label\nPAT0,a\nPAT1,b\nPAT8,b\nPAT9,b\n")
    with pytest.raises(BadData, match=r"2 of 4 rows name a PatientID that no file has \(rows 4, 5\)"):
        read_samples(tree)


def test_a_tree_table_that_disagrees(tree):
    (tree / "labels.csv").write_text("PatientID,label\nPAT0,a\nPAT1,b\nPAT0,b\n")
    with pytest.raises(BadTable, match="rows 2 and 4 give PAT0 different labels"):
        read_samples(tree)


def test_a_tree_without_a_table_is_unlabelled(tree):
    dataset = read_samples(tree, layout="dicomtree")
    assert len(dataset.samples) == 6
    assert {s.patient for s in dataset.samples} == {"PAT0", "PAT1", "PAT2"}
    assert all(s.label is None for s in dataset.samples)


def test_headers_give_the_patient_of_a_folder_layout(tree):
    dataset = read_samples(tree)
    assert dataset.layout == "folder"
    assert {s.patient for s in dataset.samples} == {"PAT0", "PAT1", "PAT2"}
    assert noted(dataset, "3 patients were read from the DICOM headers")
    assert not read_samples(tree, columns=Columns(patient="none")).has_patients


def test_one_id_for_all_is_no_patient(tmp_path):
    for number in range(4):
        pixels = np.full((8, 8), number, np.uint16)
        write_dicom(
            tmp_path / "ab"[number % 2] / f"{number}.dcm", pixels, PatientID="ANON", StudyInstanceUID=f"1.{number}"
        )
    dataset = read_samples(tmp_path)
    assert not dataset.has_patients
    assert noted(dataset, "all DICOM headers name one patient, 'ANON', in 4 studies")


def test_a_row_may_name_the_folder_of_a_series(tmp_path):
    for number in range(4):
        write_dicom(
            tmp_path / "ct" / f"{number}.dcm",
            np.full((8, 8), number, np.int16),
            Modality="CT",
            PatientID="p",
            SeriesInstanceUID="1.5",
            StudyInstanceUID="1.6",
            ImagePositionPatient=[0, 0, number],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            PixelSpacing=[1, 1],
        )
    (tmp_path / "labels.csv").write_text("path,label\nct,a\n")
    (sample,) = read_samples(tmp_path / "labels.csv").samples
    assert len(sample.image.files) == 4
    assert read_image(sample.image).pixels.shape == (1, 4, 8, 8)
