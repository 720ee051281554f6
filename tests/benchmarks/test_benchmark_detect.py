"""The race of detectors: ratios, average precisions of both, and the reference's mirror and rates."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from PIL import Image

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def modules() -> Iterator[tuple[ModuleType, ModuleType]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield importlib.import_module("detect"), importlib.import_module("_detect_torchvision")


def rows(count: int) -> list[dict[str, object]]:
    random = np.random.default_rng(0)
    found = []
    for index in range(count):
        low = random.random((4, 2)) * 80
        boxes = np.concatenate([low, low + 12], axis=1).tolist()
        found.append({"path": f"{index}.png", "boxes": boxes, "labels": [0, 1, 0, 1]})
    return found


def test_a_ratio_is_that_of_images_in_the_same_turn(modules: tuple[ModuleType, ModuleType]):
    bench, _ = modules
    options = {"rows": {"train": rows(21), "test": rows(10)}, "batch": 8, "cold": 1, "workers": 0}
    turns = [([(1.0, 0.5)] * 2, [(2.0, 1.5)] * 2), ([(4.0, 0.5)], [(8.0, 1.5)])]  # 8 + 5 images, then 8
    told = {"turns": turns, "predictions": [((1.0, 1.0), (4.0, 2.0))]}
    train, find, train_cpu, find_cpu = bench.speeds(told, options)
    assert "| 4.25 | 2.12 | 2.00 (2.00 to 2.00, 2 turns) |" in train and "| 3.00 (" in train_cpu
    assert "| 10.00 | 2.50 | 4.00 (" in find and "| 2.00 (" in find_cpu
    assert len(bench.speeds(told, {**options, "workers": 2})) == 2  # workers' time is not the process's


def test_average_precisions_of_both_and_their_difference(
    modules: tuple[ModuleType, ModuleType], monkeypatch: pytest.MonkeyPatch
):
    bench, _ = modules
    monkeypatch.setattr(bench, "RESAMPLES", 200)
    truth = rows(12)
    right = [{**row, "scores": [0.9] * 4} for row in truth]
    half = [{name: one[name][:2] for name in ("boxes", "labels", "scores")} for one in right]
    options = {"classes": ["a", "b"], "rows": {"test": truth}}
    same, _ = bench.precision_rows({"found": [right, right]}, options)
    assert same.count("1.000") == 2 and "difference +0.000" in same
    less, _ = bench.precision_rows({"found": [half, right]}, options)
    assert "difference -0.4" in less or "difference -0.5" in less


def test_the_references_mirror_takes_boxes_along(modules: tuple[ModuleType, ModuleType], tmp_path: Path):
    _, reference = modules
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[4:9, 2:12] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    row = {"path": str(tmp_path / "a.png"), "boxes": [[2, 4, 12, 9]], "labels": [1]}
    seen = set()
    data = reference.Pictures([row], mirror=True)
    for _ in range(40):
        image, target = data[0]
        x0, y0, x1, y1 = map(int, target["boxes"][0])
        assert image[:, y0:y1, x0:x1].min() == 1 and image.sum() == 3 * 50 and target["labels"].tolist() == [2]
        seen.add(x0)
    assert seen == {2, 18}


def test_the_references_rate_rises_then_falls_twice(modules: tuple[ModuleType, ModuleType]):
    _, reference = modules
    arm = SimpleNamespace(train_data=range(10), options={"epochs": 26})
    rates = [reference.Arm._factor(arm, step) for step in range(260)]
    assert rates[0] == pytest.approx(1e-3) and rates[9] == 1.0 and sorted(rates[:10]) == rates[:10]
    assert rates[159] == 1.0 and rates[160] == pytest.approx(0.1) and rates[219] == pytest.approx(0.1)
    assert rates[220] == rates[-1] == pytest.approx(0.01)
