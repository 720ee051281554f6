"""Boxes made of masks and points are read again as they were written; the tables have a row for all that is there."""

from __future__ import annotations

import csv
import importlib
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from medgraft.samples.dataset import read_samples

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def bench() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield importlib.import_module("found")


def manifest(folder: Path, column: str, rows: list[tuple[str, str, str]]) -> None:
    with open(folder / "manifest.csv", "w", newline="") as file:
        csv.writer(file).writerows([("path", column, "split"), *rows])


def test_a_box_holds_all_pixels_of_its_nucleus_and_small_ones_are_counted(bench: ModuleType):
    labels = np.zeros((12, 15))
    labels[2:5, 3:9] = 1
    labels[7, 0] = 2  # a speck
    labels[10:12, 13:15] = 4  # 3 is not there
    assert bench.boxes_in(labels) == ([[3, 2, 9, 5], [13, 10, 15, 12]], 1)


def test_nuclei_are_read_again_as_they_were_written(bench: ModuleType, tmp_path: Path):
    source = tmp_path / "data" / "dsb2018_nuclei"
    (source / "images").mkdir(parents=True)
    (source / "instances").mkdir()
    rows = []
    for index, split in enumerate(("train", "train", "val", "test")):
        labels = np.zeros((40, 60), np.uint16)
        labels[5 : 9 + index, 10:20] = 1
        labels[20:30, 30:50] = 300  # more than eight bits hold
        Image.fromarray(labels).save(source / "instances" / f"{index}.png")
        Image.fromarray(np.full((40, 60, 3), 40 * index, np.uint8)).save(source / "images" / f"{index}.png")
        rows.append((f"images/{index}.png", f"instances/{index}.png", split))
    manifest(source, "instance_mask", rows)
    options = Namespace(shared=tmp_path, out=tmp_path / "out")
    found = read_samples(bench.data_of(options, "dsb2018_nuclei")).samples
    assert [sample.split for sample in found] == [row[2] for row in rows]
    for index, sample in enumerate(found):
        assert sample.boxes is not None and sample.boxes.labels == ("nucleus", "nucleus")
        assert sample.boxes.corners.tolist() == [[10, 5, 20, 9 + index], [30, 20, 50, 30]]


@pytest.mark.parametrize("types", [True, False])
def test_boxes_around_points_end_at_the_edges(bench: ModuleType, tmp_path: Path, types: bool):
    (tmp_path / "a.txt").write_text("100 50 3\n10 95 12\n\n")
    Image.fromarray(np.zeros((100, 200, 3), np.uint8)).save(tmp_path / "a.png")
    manifest(tmp_path, "annotation", [("a.png", "a.txt", "train")])
    names = ("type 03", "type 12") if types else ("cell", "cell")
    boxes = [[60, 10, 140, 90], [0, 55, 50, 100]]
    assert bench.cells_of(tmp_path, types=types) == {"a.png": list(zip(names, boxes, strict=True))}


def test_tables_have_a_row_a_cell_and_means_over_seeds(bench: ModuleType):
    def score(value: float | None) -> dict[str, object]:
        known = value is not None
        ends = {"low": value - 0.1, "high": value + 0.1} if known else {"low": None, "high": None}
        return {"value": value, **ends, "why": None if known else "no true box"}

    def one(value: float) -> dict[str, object]:
        return {
            "all": {name: score(value) for name in bench.ALL},
            "classes": {"RBC": {"ap50": score(value), "f1": score(None)}},
            "boxes": {"test": {"classes": {"RBC": 7}}},
            "epochs": 4,
            "image_size": [64, 64],
            "seconds": 120.0,
            "train_images_per_second": 8.0,
            "predict_images_per_second": None,
        }

    held = {f"bccd/embedded ResNet/fcos/{seed}": one(value) for seed, value in ((0, 0.5), (1, 0.6))}
    held["chula_rbc12 as cells/embedded ResNet/faster_rcnn/0"] = one(0.3)
    head, _, *rows = bench.table(held).splitlines()
    assert len(rows) == 2 and all(row.count("|") == head.count("|") for row in rows)
    assert "| bccd | FCOS | embedded ResNet | 2 | 0.550 (0.450 to 0.650) |" in rows[0]
    assert "0.300 (0.200 to 0.400)" in rows[1] and "2 min" in rows[1]
    assert "| FCOS | embedded ResNet | 0.550 (0.450 to 0.650) | no true box |" in bench.class_table(held)
    assert "RBC (7), AP50" in bench.class_table(held)


def test_every_set_and_arm_has_a_cell(bench: ModuleType):
    names = bench.cells([0, 1])
    assert len(names) == len(set(names)) == 2 * (len(bench.SETS) + 1) * len(bench.ARMS)
