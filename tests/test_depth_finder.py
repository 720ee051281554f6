"""The depth finder from end to end: its files, what it keeps when it is stopped, and what training makes of it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

import medgraft as mg
from medgraft import depth_finder, depth_rounds
from medgraft.errors import BadData, BadRecipe, Interrupted, NotFinite, RunRefused
from medgraft.learn.trials import Trials
from medgraft.recipe import Recipe, load
from medgraft.report.depth_page import reason
from tiny_data import make_tiny_data

QUICK: dict[str, Any] = {
    "label_column": "label",
    "backbone": "embedded:resnet10t_small",
    "image_size": 64,
    "epochs": 4,
    "batch_size": 8,
    "settings": {"fit.precision": "fp32", "fit.channels_last": True, "scores.resamples": 200},
}
FEW = {**QUICK, "settings": {**QUICK["settings"], "depth.candidates": ["head", 1, "all"]}}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("depth")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDGRAFT_HOME", str(folder / "home"))
        yield folder


@pytest.fixture(scope="module")
def table(home: Path) -> Path:
    return make_tiny_data(home / "tiny", patients=48)


@pytest.fixture(scope="module")
def searched(home: Path, table: Path) -> Path:
    # Nothing in the pictures tells the site, so that no score is perfect and every one has an interval.
    mg.depth(table, out=home / "searched", **{**QUICK, "label_column": "site"})
    return home / "searched"


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def test_every_depth_has_a_score_with_its_interval(searched: Path) -> None:
    found = read(searched / "depth.json")
    assert [row["thawed"] for row in found["curve"]] == [0, 1, 2, 3, 5]
    assert [row["name"] for row in found["curve"]] == ["head", "layer4", "layer3", "layer2", "stem"]
    for row in found["curve"]:
        assert row["val"]["low"] <= row["val"]["value"] <= row["val"]["high"]
        assert row["val"]["n"] == found["images"] and row["val"]["n_patients"] == found["images"] / 2
    long = [row for row in found["curve"] if not row["dropped"]]
    assert [row["thawed"] for row in long][0] == 0 and len(long) == 1 + depth_finder.ROUNDS[-1][1]
    assert {row["epochs"] for row in long if row["thawed"]} == {3}  # one in each round
    rates = sorted({row["lr"] for row in found["tried"] if row["thawed"] == 5})
    assert rates == [3.3e-4, 1e-3]
    assert found["reason"] == reason(found)


def test_the_rule_can_be_checked_by_hand(searched: Path) -> None:
    found = read(searched / "depth.json")
    long = [row for row in found["curve"] if not row["dropped"]]
    best = max(row["val"]["value"] for row in long)
    within = [row for row in long if best - row["val"]["value"] <= row["behind"]["standard_error"]]
    assert found["thawed_stages"] == min(row["thawed"] for row in within)
    chosen = next(row for row in found["curve"] if row["thawed"] == found["thawed_stages"])
    assert found["lr"] == chosen["lr"]


def test_the_page_shows_the_curve_and_the_table(searched: Path) -> None:
    page = (searched / "depth.html").read_text()
    assert "against depth" in page and "<script" not in page
    assert page.count("dropped early") >= 2 and "layer2" in page
    assert {path.name for path in searched.iterdir()} - {".lock"} == {"depth.html", "depth.json"}
    with pytest.raises(RunRefused, match="tried here before"):
        mg.depth("anything", out=searched)


@pytest.mark.slow
def test_a_stopped_search_goes_on_with_what_it_has(home: Path, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, ran = home / "stopped", []
    run = Trials.run

    def count(self: Trials, trial: Any, fold: int, **words: Any) -> np.ndarray:
        if len(ran) == 5:
            raise Interrupted("stopped", do="Go on.")
        ran.append((trial, fold))
        return run(self, trial, fold, **words)

    monkeypatch.setattr(Trials, "run", count)
    with pytest.raises(Interrupted):
        mg.depth(table, out=out, **FEW)
    assert len(list((out / "depth").glob("*.npy"))) == 5 and not (out / "depth.json").exists()
    first, ran[:] = list(ran), []
    monkeypatch.setattr(Trials, "run", lambda self, t, f, **w: (ran.append((t, f)), run(self, t, f, **w))[1])
    found = mg.depth(table, out=out, **FEW)
    assert not set(first) & set(ran)
    monkeypatch.undo()
    monkeypatch.setenv("MEDGRAFT_HOME", str(home / "home"))
    whole = mg.depth(table, out=home / "unstopped", **FEW)
    assert found["curve"] == whole["curve"] and found["tried"] == whole["tried"]


@pytest.mark.slow
def test_training_takes_the_depth_and_says_why(home: Path, table: Path) -> None:
    report = mg.train(table, out=home / "run", **FEW)
    recipe, found = load(home / "run" / "recipe.yaml"), read(home / "run" / "depth.json")
    thawed = {"head": 0, "all": 5}.get(str(recipe.depth.thaw), recipe.depth.thaw)
    assert thawed == found["thawed_stages"] == report["depth"]["thawed_stages"]
    assert recipe.reasons["depth.thaw"] == reason(found) == report["depth"]["reason"]
    assert report["depth"]["chosen_by"] == "the depth finder" and report["depth"]["curve"] == found["curve"]
    assert thawed == 0 or recipe.fit.lr == found["lr"]
    assert not (home / "run" / "depth").exists()
    assert "against depth" in (home / "run" / "report.html").read_text()
    alone = mg.depth(table, out=home / "alone", **FEW)
    assert alone["curve"] == found["curve"]  # the command and training find the same


def test_the_plan_leaves_the_depth_to_training(table: Path, home: Path) -> None:
    recipe = mg.plan(table, **{**QUICK, "epochs": None})
    assert recipe.depth.thaw == "auto" and "tries depths" in recipe.reasons["depth.thaw"]
    assert recipe.fit.lr is None and recipe.fit.epochs is None and recipe.augment.preset != "auto"


def test_what_cannot_be_tried_is_said(home: Path, table: Path) -> None:
    settings = {**QUICK["settings"], "depth.candidates": ["head", 9]}
    with pytest.raises(BadRecipe, match="depth 9 is not possible"):
        mg.depth(table, out=home / "nine", **{**QUICK, "settings": settings})
    few = {**QUICK["settings"], "split.limit_train": 4}
    with pytest.raises(BadData, match="2 training patients are too few to compare depths"):
        mg.depth(table, out=home / "none", **{**QUICK, "settings": few})


@pytest.mark.slow
def test_a_rate_that_was_asked_for_is_the_only_one(home: Path, table: Path) -> None:
    settings = {**FEW["settings"], "fit.lr": 5e-4, "depth.candidates": ["head", 2]}
    found = mg.depth(table, out=home / "rate", **{**QUICK, "settings": settings})
    assert {row["lr"] for row in found["tried"]} == {5e-4}
    assert [row["thawed"] for row in found["curve"]] == [0, 2]


VIT: dict[str, Any] = {**QUICK, "backbone": "none:timm:test_vit", "image_size": 32}


@pytest.mark.filterwarnings("ignore:.*random numbers")
def test_adapters_are_a_depth_of_transformers(home: Path, table: Path) -> None:
    settings = {**QUICK["settings"], "depth.candidates": ["lora", "all", "head"]}
    found = mg.depth(table, out=home / "adapters", **{**VIT, "settings": settings})
    assert [row["name"] for row in found["curve"]][::2] == ["head", "embed"] and found["curve"][1]["name"] == "lora"
    rates = sorted({row["lr"] for row in found["tried"] if row["name"] == "lora"})
    assert rates == pytest.approx([1e-3, 3e-3])
    page = (home / "adapters" / "depth.html").read_text()
    assert ">lora<" in page


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*random numbers")
def test_a_run_with_adapters_ends_as_a_plain_net(home: Path, table: Path) -> None:
    report = mg.train(table, out=home / "lora", depth="lora", **VIT)
    depth = report["depth"]
    assert depth["adapters"] == 8 and depth["thawed_stages"] == depth["of"]
    assert 0 < depth["trained_parameters"] < report["backbone"]["parameters"] / 2
    with safe_open(home / "lora" / "model.safetensors", framework="np") as file:
        assert not [name for name in file.keys() if "parametrizations" in name]  # noqa: SIM118
    with open(home / "lora" / "predictions.csv", newline="") as file:
        row = next(csv.DictReader(file))
    run = mg.open_run(home / "lora")
    (one,) = run.predict([row["path"]])
    assert one.probabilities[run.classes.index("ill")] == pytest.approx(float(row["p_ill"]), abs=1e-4)
    assert "low-rank adapters" in (home / "lora" / "report.html").read_text().lower()


def test_adapters_are_refused_on_convolutions(home: Path, table: Path) -> None:
    with pytest.raises(BadRecipe, match="lora is for transformers"):
        mg.train(table, out=home / "refused", depth="lora", **QUICK)


@pytest.mark.slow
def test_a_rate_that_fails_is_neither_gone_on_with_nor_chosen(
    home: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, ran = Trials.run, []

    def fails(self: Trials, trial: Any, fold: int, **words: Any) -> Any:
        ran.append(trial)
        if trial.lr == 1e-3 and fold == 1:
            raise NotFinite("the loss became infinite")
        return run(self, trial, fold, **words)

    monkeypatch.setattr(Trials, "run", fails)
    said: list[str] = []
    words = {**QUICK, "settings": {**QUICK["settings"], "depth.candidates": [1]}}
    found = mg.depth(table, out=home / "fails", listen=lambda e: said.append(str(e.get("text"))), **words)
    assert found["lr"] == 3.3e-4
    assert not [trial for trial in ran if trial.before and trial.lr == 1e-3]
    assert any("no finite numbers" in text for text in said)


def test_a_search_of_which_nothing_comes_is_an_error(home: Path, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Trials, trial: Any, fold: int, **words: Any) -> Any:
        raise NotFinite("the loss became infinite")

    monkeypatch.setattr(Trials, "run", fails)
    with pytest.raises(BadRecipe, match="no depth gave a score"):
        mg.depth(table, out=home / "nothing", **{**FEW, "task": "grade", "label_column": "grade"})


def test_a_stopwatch_does_not_void_trials(home: Path, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {name: value for name, value in FEW["settings"].items() if name != "fit.channels_last"}
    run, ran, out = Trials.run, [], home / "watch"

    def stops(self: Trials, trial: Any, fold: int, **words: Any) -> Any:
        ran.append((trial, fold))
        if len(ran) == 4:
            raise Interrupted("stopped", do="Go on.")
        return run(self, trial, fold, **words)

    monkeypatch.setattr(Trials, "run", stops)
    monkeypatch.setattr("medgraft.assemble.fastest", lambda *args, **words: ("fp32", False))
    with pytest.raises(Interrupted):
        mg.depth(table, out=out, **{**FEW, "settings": settings})
    monkeypatch.setattr("medgraft.assemble.fastest", lambda *args, **words: ("fp32", True))
    with pytest.raises(Interrupted):
        ran[:] = ran[:3]
        mg.depth(table, out=out, **{**FEW, "settings": settings})
    assert len(set(ran)) == 4 and ran[3] not in ran[:3]
    asked = depth_rounds.measured(out / "depth", Recipe().changed({"fit.precision": "bf16"}))
    assert asked == {"fit.channels_last": False}  # what is asked for stands


def test_a_search_takes_no_depth_and_no_zero_epochs(home: Path, table: Path) -> None:
    with pytest.raises(BadRecipe, match="asks every depth"):
        mg.depth(table, out=home / "one", **{**FEW, "depth": 2})
    with pytest.raises(BadRecipe, match="epochs is 0"):
        mg.depth(table, out=home / "none", **{**FEW, "epochs": 0})


def test_the_sentence_does_not_speak_for_depths_that_were_dropped() -> None:
    def row(thawed: int, value: float, *, dropped: bool = False) -> dict[str, Any]:
        behind = {"value": 0.8 - value, "standard_error": 0.02}
        return {"thawed": thawed, "name": f"s{thawed}", "val": {"value": value}, "behind": behind, "dropped": dropped}

    entry = {"score": "auroc", "folds": 3, "of": 3, "chosen": "s2", "best": "s3"}
    curve = [row(1, 0.79, dropped=True), row(2, 0.79), row(3, 0.8)]
    assert reason({**entry, "curve": curve}).endswith("no shallower one of the depths tried to the end did")
    assert reason({**entry, "curve": curve[1:]}).endswith("no shallower one of all depths did")
    alone = reason({**entry, "chosen": "s0", "curve": [row(0, 0.79), row(3, 0.8)]})
    assert "shallower" not in alone
