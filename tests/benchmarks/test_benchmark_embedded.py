"""The table of embedded weights: its intervals, its choice of a mode, what it leaves out, and its one test part."""

from __future__ import annotations

import csv
import importlib
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from medgraft.preparing import prepare
from medgraft.recipe import Recipe, with_options

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def bench() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield importlib.import_module("embedded")


def cell(bench: ModuleType, val: float, test: float) -> np.ndarray:
    """What is kept of a cell whose draws all are as its test AUROC."""
    return np.concatenate([[val], np.full(1 + bench.RESAMPLES, test)])


def full(bench: ModuleType) -> dict[str, np.ndarray]:
    """All cells, every arm better by a tenth than the one before; tuned better than a probe by .02."""
    return {
        bench.key(*c, mark="m"): cell(bench, 0.5, 0.5 + 0.1 * bench.ARMS.index(c[3]) + 0.02 * bench.MODES.index(c[2]))
        for c in bench.cells()
    }


def row(text: str, name: str, size: str) -> list[str]:
    """The cells of one row of the table."""
    lines = [line.strip("|").split("|") for line in text.splitlines()]
    return [part.strip() for part in next(p for p in lines if [w.strip(" *") for w in p[:2]] == [name, size])]


# ---- the interval -----------------------------------------------------------------------------------------


def test_one_draw_of_patients_holds_for_all_seeds(bench: ModuleType) -> None:
    """Seeds that agree add nothing: the interval is that of the draws, not narrower by the root of five."""
    draws = RNG.permutation(np.linspace(0.0, 0.2, bench.RESAMPLES))
    gain = np.tile(np.concatenate([[0.1], draws]), (5, 1))
    assert bench.interval([gain]) == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.003)


def test_seeds_and_sets_are_resampled(bench: ModuleType) -> None:
    same = np.ones((1, 1 + bench.RESAMPLES))
    assert bench.interval([np.array([[0.0], [1.0]]) * same]) == (0.0, 1.0)
    assert bench.interval([0.0 * same, 1.0 * same]) == (0.0, 1.0)
    assert bench.interval([1.0 * same, 1.0 * same]) == (1.0, 1.0)


def test_the_value_of_all_patients_is_no_draw(bench: ModuleType) -> None:
    assert bench.interval([np.array([[1.0, 0.0]] * 3)]) == (0.0, 0.0)


# ---- the choice -------------------------------------------------------------------------------------------


def test_the_better_mode_is_that_of_validation_not_of_test(bench: ModuleType) -> None:
    probe = np.stack([cell(bench, 0.8, 0.6)] * 5)
    tuned = np.stack([cell(bench, 0.7, 0.9)] * 3)
    found = bench.chosen({("random", "probe"): probe, ("random", "tuned"): tuned}, "random")
    assert found.shape == (3, 1 + bench.RESAMPLES)
    assert (found == 0.6).all()


def test_seeds_that_one_mode_lacks_have_no_say(bench: ModuleType) -> None:
    probe = np.stack([cell(bench, val, 0.6) for val in (0.5, 0.5, 0.5, 1.0, 1.0)])
    tuned = np.stack([cell(bench, 0.6, 0.9)] * 3)
    assert (bench.chosen({("random", "probe"): probe, ("random", "tuned"): tuned}, "random") == 0.9).all()
    assert bench.chosen({("random", "probe"): probe, ("random", "tuned"): None}, "random") is None


# ---- the table --------------------------------------------------------------------------------------------


def test_gains_are_over_the_seeds_that_their_heads_name(bench: ModuleType) -> None:
    held = full(bench)
    for seed in (3, 4):  # of the probe alone
        held[bench.key("covid_cxr", "50", "probe", "embedded", seed, mark="m")][1:] = 0.85
    text = bench.table(held, mark="m")
    assert text.splitlines()[0].split(" | ")[-3:-1] == ["gain, probe (5 seeds)", "gain, tuned (3 seeds)"]
    found = row(text, "covid_cxr", "50")
    assert found[2:8] == ["0.500", "0.520", "0.700", "0.620", "0.700", "0.720"]
    assert [gain.split()[0] for gain in found[8:]] == ["+0.200", "+0.100", "+0.100"]
    assert row(text, "mean", "50")[8:10] != row(text, "mean", "200")[8:10]
    assert row(text, "mean", "50")[10] == "+0.100 (+0.100 to +0.100); 50% of the way to ImageNet"


def test_a_number_needs_all_its_cells(bench: ModuleType) -> None:
    held = full(bench)
    del held[bench.key("odir5k_sub", "200", "tuned", "random", 2, mark="m")]
    del held[bench.key("odir5k_sub", "50", "probe", "ImageNet", 4, mark="m")]
    text = bench.table(held, mark="m")
    for name in ("odir5k_sub", "mean"):
        found = row(text, name, "200")
        assert [bool(part) for part in found[2:]] == [True, False, True, True, True, True, True, False, False]
        found = row(text, name, "50")
        assert [bool(part) for part in found[2:]] == [True, True, True, True, False, True, True, True, True]
    assert "way" not in row(text, "mean", "50")[-1]
    assert "way" in row(text, "mean", "all")[-1]
    assert all(row(text, "covid_cxr", "200"))


# ---- what is kept of a run, and its data ------------------------------------------------------------------


def test_a_cell_keeps_validation_test_and_draws_of_patients(bench: ModuleType, tmp_path: Path) -> None:
    rows = [
        {"key": f"{split}{n}", "patient": f"p{n // 2}", "split": split, "target": "ab"[n % 2], "p_a": 1 - p, "p_b": p}
        for split, chances in (("val", [0.9, 0.1]), ("test", RNG.random(40)))
        for n, p in enumerate(chances)
    ]
    found = []
    for order in (rows, rows[::-1]):
        with open(tmp_path / "predictions.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(order)
        found.append(bench.judged(tmp_path / "predictions.csv"))
    assert np.array_equal(*found)
    assert found[0].shape == (2 + bench.RESAMPLES,)
    assert found[0][0] == 0.0
    ill, well = ([r["p_b"] for r in rows[2:] if r["target"] == word] for word in "ba")
    assert found[0][1] == pytest.approx(np.mean([[i > w for w in well] for i in ill]), abs=1e-3)
    assert found[0][2:].std() > 0.01


def test_all_seeds_test_on_what_seed_0_tests_on(
    bench: ModuleType, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data" / "tiny"
    folder.parent.mkdir()
    tiny_data.parent.rename(folder)
    monkeypatch.setattr(bench, "SETS", {"tiny": (tiny_data.name, {"split_column": "none"}, {})})
    monkeypatch.setattr(bench, "UNSPLIT", {"tiny": "unknown"})
    options = Namespace(shared=tmp_path, out=tmp_path / "out")
    with pytest.raises(SystemExit, match=r"other rows \((\w+)\)") as refused:
        bench.data_of(options, "tiny")
    monkeypatch.setattr(bench, "UNSPLIT", {"tiny": str(refused.value).split("(")[1].split(")")[0]})
    data, more, _ = bench.data_of(options, "tiny")
    assert more == {}
    with open(data, encoding="utf-8", newline="") as file:
        test = {Path(line["path"]).name for line in csv.DictReader(file) if line["split"] == "test"}
    parts = []
    for source, seed in ((folder / tiny_data.name, 0), (data, 0), (data, 1)):
        recipe = with_options(Recipe(), {"backbone": "none:timm:test_resnet", "image_size": 32, "seed": seed})
        _, found, _, _ = prepare(source, recipe, listen=lambda event: None)
        found.store.close()
        parts.append({word: {found.samples[i].image.path.name for i in found.of(word)} for word in ("val", "test")})
    assert all(part["test"] == test and part["val"] for part in parts)
    assert parts[1]["val"] != parts[2]["val"]
