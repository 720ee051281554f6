"""The keratitis experiment: who is drawn into training and test, and what the table says."""

from __future__ import annotations

import argparse
import csv
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def keratitis() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_keratitis", ROOT / "benchmarks" / "keratitis.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclass looks itself up there
    spec.loader.exec_module(module)
    return module


def options(out: Path) -> argparse.Namespace:
    return argparse.Namespace(out=out, shared=out, pool=65, size=32, healthy=10, diseased=6)


def test_a_draw_has_one_image_a_training_patient_and_a_test_part_of_others(keratitis: ModuleType, tmp_path: Path):
    drawn = []
    for draw in (0, 1):
        with open(keratitis.drawn_table(options(tmp_path), "phantoms", draw), newline="") as file:
            rows = list(csv.DictReader(file))
        train, test = ([row for row in rows if row["split"] == split] for split in ("train", "test"))
        labels = [row["label"] for row in train]
        assert (labels.count("healthy"), labels.count("diseased")) == (10, 6)
        assert len({row["patient"] for row in train}) == 16
        assert not {row["patient"] for row in train} & {row["patient"] for row in test}
        drawn.append((sorted(row["path"] for row in train), sorted(row["path"] for row in test)))
    assert drawn[0][0] != drawn[1][0] and drawn[0][1] == drawn[1][1]


def test_a_rare_class_stands_beside_all_others(keratitis: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "data" / "ham10000_sub"
    folder.mkdir(parents=True)
    rows = [f"{n}.jpg,{label},p{label}{n // 2}" for label in ("df", "nv", "mel") for n in range(12)]
    (folder / "manifest.csv").write_text("path,label,patient\n" + "\n".join(rows))
    monkeypatch.setattr(keratitis, "RARE", {"healthy": 7, "diseased": 2})
    with open(keratitis.drawn_table(options(tmp_path), "dermatofibroma", 0), newline="") as file:
        told = [(row["split"], row["label"]) for row in csv.DictReader(file)]
    counts = {pair: told.count(pair) for pair in set(told)}
    assert counts == {
        ("train", "healthy"): 7,
        ("train", "diseased"): 2,
        ("test", "healthy"): 10,
        ("test", "diseased"): 8,
    }


def test_too_few_patients_are_said(keratitis: ModuleType, tmp_path: Path):
    wanted = options(tmp_path)
    wanted.diseased = 40
    with pytest.raises(SystemExit, match="larger --pool"):
        keratitis.drawn_table(wanted, "phantoms", 0)


def cell(values: list[float], *, admitted: list[str]) -> dict:
    ends = [{"value": v, "low": v - 0.02, "high": v + 0.02} for v in values]
    ratios = ("0.5", "1.0", "2.0", "balance")
    return {
        "without": {"auroc": {"value": 0.8}},
        "differences": {ratio: {"auroc": one} for ratio, one in zip(ratios, ends, strict=True)},
        "admitted": admitted,
    }


def test_the_table_tells_means_over_draws_with_their_interval(keratitis: ModuleType):
    held = {
        "phantoms/0": cell([0.01, 0.03, 0.0, -0.05], admitted=["1.0"]),
        "phantoms/1": cell([0.03, 0.05, 0.0, -0.05], admitted=[]),
    }
    lines = keratitis.table(held).splitlines()
    assert len(lines) == 6
    assert "| phantoms | as many | 2 | 0.800 | +0.040 (-0.087 to +0.167) | 2, 0 | 1 |" in lines
    assert "-0.050 (-0.050 to -0.050) | 0, 2 | 0 |" in lines[5]
