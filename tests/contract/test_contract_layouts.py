"""What every layout does, on a small data set of each that the test makes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from medgraft.files import read_image, write_dicom
from medgraft.samples import LAYOUTS, read_samples
from medgraft.samples.dataset import Columns, DataSet
from medgraft.values import Sample

LABELS = ["sick", "well", "sick", "well", "well", "sick"]


def _pixels(index: int) -> np.ndarray:
    return np.full((24, 24), 10 + 30 * index, dtype=np.uint8)


def _folder(data: Path) -> Path:
    for index, label in enumerate(LABELS):
        (data / label).mkdir(exist_ok=True)
        Pillow.fromarray(_pixels(index)).save(data / label / f"{index}.png")
    return data


def _table(data: Path) -> Path:
    rows = ["path,label,patient,site"]
    for index, label in enumerate(LABELS):
        Pillow.fromarray(_pixels(index)).save(data / f"{index}.png")
        rows.append(f"{index}.png,{label},p{index // 2},A")
    (data / "manifest.csv").write_text("\n".join(rows) + "\n")
    return data / "manifest.csv"


def _medmnist(data: Path) -> Path:
    images = np.stack([_pixels(index) for index in range(6)])
    labels = np.array([[label == "sick"] for label in LABELS], dtype=np.uint8)
    parts = {"train": slice(0, 2), "val": slice(2, 4), "test": slice(4, 6)}
    arrays = {f"{name}_images": images[part] for name, part in parts.items()}
    arrays |= {f"{name}_labels": labels[part] for name, part in parts.items()}
    np.savez(data / "set.npz", **arrays)
    return data / "set.npz"


def _dicomtree(data: Path) -> Path:
    rows = ["PatientID,label"]
    for index, label in enumerate(LABELS):
        (data / f"study{index}").mkdir()
        write_dicom(data / f"study{index}" / "im.dcm", _pixels(index), PatientID=f"p{index}")
        rows.append(f"p{index},{label}")
    (data / "labels.csv").write_text("\n".join(rows) + "\n")
    return data


def _coco(data: Path) -> Path:
    names = ["sick", "well"]
    document: dict[str, list] = {"images": [], "annotations": []}
    document["categories"] = [{"id": number, "name": name} for number, name in enumerate(names)]
    for index, label in enumerate(LABELS):
        Pillow.fromarray(_pixels(index)).save(data / f"{index}.png")
        document["images"].append({"id": index, "file_name": f"{index}.png"})
        box = {"id": index, "image_id": index, "category_id": names.index(label), "bbox": [1, 2, 3, 4]}
        document["annotations"].append(box)
    (data / "set.json").write_text(json.dumps(document))
    return data


def _voc(data: Path) -> Path:
    (data / "annotations").mkdir(exist_ok=True)
    corners = "<xmin>1</xmin><ymin>2</ymin><xmax>4</xmax><ymax>6</ymax>"
    for index, label in enumerate(LABELS):
        Pillow.fromarray(_pixels(index)).save(data / f"{index}.png")
        text = f"<annotation><object><name>{label}</name><bndbox>{corners}</bndbox></object></annotation>"
        (data / "annotations" / f"{index}.xml").write_text(text)
    return data


def _yolo(data: Path) -> Path:
    for folder in ("images", "labels"):
        (data / folder).mkdir(exist_ok=True)
    (data / "classes.txt").write_text("sick\nwell\n")
    for index, label in enumerate(LABELS):
        Pillow.fromarray(_pixels(index)).save(data / "images" / f"{index}.png")
        box = f"{['sick', 'well'].index(label)} {2.5 / 24} {4 / 24} 0.125 {4 / 24}\n"
        (data / "labels" / f"{index}.txt").write_text(box)
    return data


def _masks(data: Path) -> Path:
    for folder in ("images", "masks"):
        (data / folder).mkdir(exist_ok=True)
    for index, label in enumerate(LABELS):
        Pillow.fromarray(_pixels(index)).save(data / "images" / f"{index}.png")
        spot = np.zeros((24, 24), np.uint8)
        spot[2:6, 1:4] = LABELS.index(label) + 1
        Pillow.fromarray(spot).save(data / "masks" / f"{index}.png")
    return data


WRITERS: dict[str, Callable[[Path], Path]] = {
    "folder": _folder,
    "table": _table,
    "medmnist": _medmnist,
    "dicomtree": _dicomtree,
    "coco": _coco,
    "voc": _voc,
    "yolo": _yolo,
    "masks": _masks,
}
BOXED = {"coco", "voc", "yolo"}
MASKED = {"masks"}
each_layout = pytest.mark.parametrize("name", WRITERS)
each_labelled = pytest.mark.parametrize("name", [name for name in WRITERS if name not in MASKED])


def test_every_layout_is_here():
    assert set(WRITERS) == set(LAYOUTS), "a new layout needs a data set here, so that the contract runs over it"


@each_layout
def test_layout_is_found_by_itself(name: str, tmp_path: Path):
    found = read_samples(WRITERS[name](tmp_path))
    assert found.layout == name
    assert found.why
    assert found.target_kind()[0] == ("boxes" if name in BOXED else "masks" if name in MASKED else "classes")


@each_layout
def test_samples_are_whole(name: str, tmp_path: Path):
    found = read_samples(WRITERS[name](tmp_path))
    assert len(found.samples) == len(LABELS)
    assert len({sample.key for sample in found.samples}) == len(LABELS)
    assert not any("\\" in sample.key or Path(sample.key).is_absolute() for sample in found.samples)
    assert len({sample.label for sample in found.samples}) == (1 if name in MASKED else 2)
    assert not found.problems


@each_labelled
def test_every_label_is_on_its_own_image(name: str, tmp_path: Path):
    found = read_samples(WRITERS[name](tmp_path))
    right = {10 + 30 * index: label for index, label in enumerate(LABELS)}
    words = {"1": "sick", "0": "well"}
    for sample in found.samples:
        value = int(read_image(sample.image, values=True).pixels.flat[0])
        assert words.get(str(sample.label), sample.label) == right[value]


@each_layout
def test_boxes_are_there_where_the_layout_has_them(name: str, tmp_path: Path):
    found = read_samples(WRITERS[name](tmp_path))
    assert found.boxed == (name in BOXED)
    for sample in found.samples:
        if sample.boxes is not None:
            assert np.allclose(sample.boxes.corners, [[1, 2, 4, 6]]) and sample.boxes.labels == (sample.label,)


@each_layout
def test_masks_are_there_where_the_layout_has_them(name: str, tmp_path: Path):
    found = read_samples(WRITERS[name](tmp_path))
    assert found.masked == (name in MASKED)
    for sample in found.samples:
        if sample.mask is not None:
            value = int(read_image(sample.image).pixels.flat[0])
            there = LABELS.index(LABELS[(value - 10) // 30]) + 1
            assert int(read_image(sample.mask).pixels.max()) == there


@each_layout
def test_reading_twice_gives_the_same(name: str, tmp_path: Path):
    data = WRITERS[name](tmp_path)
    assert _plain(read_samples(data)) == _plain(read_samples(data))


@each_layout
def test_word_can_be_given(name: str, tmp_path: Path):
    data = WRITERS[name](tmp_path)
    assert _plain(read_samples(data, layout=name, columns=Columns())) == _plain(read_samples(data))


def _plain(found: DataSet) -> list[tuple[Sample, list | None]]:
    """Samples and the numbers of their boxes, which have no equality of their own."""
    return [
        (replace(sample, boxes=None), None if sample.boxes is None else sample.boxes.corners.tolist())
        for sample in found.samples
    ]
