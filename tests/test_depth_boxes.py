"""How deep, of nets that find boxes: the search, what it keeps when it is stopped, and what training makes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import medgraft as mg
from medgraft.detection import depth
from medgraft.detection.choices import depth_rule, untried_rule
from medgraft.detection.fits import BoxFits
from medgraft.errors import BadRecipe, Interrupted, NotFinite, RunRefused
from medgraft.learn.detector import graft_detector
from medgraft.nets.detector import FinderForm
from medgraft.planning import Facts
from medgraft.recipe import Recipe, load
from medgraft.report.depth_page import reason
from medgraft.report.schema import problems
from medgraft.tasks.answers import Answers
from tiny_boxes import make_boxed_data

QUICK: dict[str, Any] = {
    "backbone": "embedded:resnet10t_small",
    "image_size": 64,
    "epochs": 8,
    "batch_size": 8,
    "device": "cpu",
    "augment": "none",
    "settings": {"fit.precision": "fp32", "fit.channels_last": True, "boxes.width": 32, "boxes.strides": [8]}
    | {"backbone.recalibrate": False, "scores.resamples": 100, "depth.candidates": ["head", "all"]},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("depth-boxes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDGRAFT_HOME", str(folder / "home"))
        yield folder


@pytest.fixture(scope="module")
def boxed(home: Path) -> Path:
    return make_boxed_data(home / "boxed", count=48)


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


@pytest.mark.slow
def test_every_depth_has_a_score_with_its_interval_and_the_rule_holds(home: Path, boxed: Path) -> None:
    settings = {**QUICK["settings"], "fit.lr": 2e-3, "fit.head_lr": 2e-3, "depth.candidates": None}
    words = {**QUICK, "settings": settings, "epochs": 64, "batch_size": 4, "image_size": 128}
    found = mg.depth(boxed, out=home / "searched", **words)
    assert found == {**read(home / "searched" / "depth.json")}
    assert [row["thawed"] for row in found["curve"]] == [0, 3, 5] and found["score"] == "map50_75"
    for row in found["curve"]:
        assert row["val"]["n"] == found["images"] and row["lr"] == 2e-3
        assert row["epochs"] == (8 if row["dropped"] else 16)
    long = [row for row in found["curve"] if not row["dropped"]]
    assert len(long) == 2
    best = max(row["val"]["value"] for row in long)
    assert best > 0.1
    within = [row for row in long if best - row["val"]["value"] <= row["behind"]["standard_error"]]
    assert found["thawed_stages"] == min(row["thawed"] for row in within)
    page = (home / "searched" / "depth.html").read_text()
    assert "same random pyramid and detector" in page and "mAP at IoU .50 and .75" in page
    assert {path.name for path in (home / "searched").iterdir()} - {".lock"} == {"depth.html", "depth.json"}


def test_a_search_that_learns_nothing_says_so(home: Path, boxed: Path) -> None:
    with pytest.raises(BadRecipe, match="hardly a box"):
        mg.depth(boxed, out=home / "short", **{**QUICK, "epochs": 1})
    with pytest.raises(BadRecipe, match="adapters"):
        settings = {**QUICK["settings"], "depth.candidates": ["head", "lora"]}
        mg.depth(boxed, out=home / "lora", **{**QUICK, "settings": settings})


@pytest.mark.slow
def test_a_stopped_search_goes_on_and_training_finds_the_same(
    home: Path, boxed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(depth, "_LEAST", -1.0)  # after a few steps hardly a box is found
    run, ran, out = BoxFits.run, [], home / "stopped"

    def stops(self: BoxFits, trial: Any, fold: int, **words: Any) -> Any:
        if len(ran) == 3:
            raise Interrupted("stopped", do="Go on.")
        ran.append((trial, fold))
        return run(self, trial, fold, **words)

    monkeypatch.setattr(BoxFits, "run", stops)
    with pytest.raises(Interrupted):
        mg.depth(boxed, out=out, **QUICK)
    assert len(list((out / "depth").glob("*.npy"))) == 3 and not (out / "depth.json").exists()
    first, ran[:] = list(ran), []
    monkeypatch.setattr(BoxFits, "run", lambda self, t, f, **w: (ran.append((t, f)), run(self, t, f, **w))[1])
    found = mg.depth(boxed, out=out, **QUICK)
    assert len(ran) == 2 * 2 * 2 - 3 and not set(first) & set(ran)
    with pytest.raises(RunRefused, match="tried here before"):
        mg.depth(boxed, out=out)
    report = mg.train(boxed, out=home / "run", **QUICK)
    kept = read(home / "run" / "depth.json")
    assert kept["curve"] == found["curve"] == report["depth"]["curve"]
    recipe = load(home / "run" / "recipe.yaml")
    thawed = {"head": 0, "all": 5}[str(recipe.depth.thaw)]
    assert thawed == kept["thawed_stages"] == report["depth"]["thawed_stages"]
    assert recipe.reasons["depth.thaw"] == reason(kept) == report["depth"]["reason"]
    assert report["depth"]["chosen_by"] == "the depth finder" and report["depth"]["searched"]["folds"] == 2
    assert not (home / "run" / "depth").exists() and problems(report) == []
    assert "against depth" in (home / "run" / "report.html").read_text()


def test_where_nothing_is_learnt_the_rule_decides(home: Path, boxed: Path) -> None:
    report = mg.train(boxed, out=home / "rule", **{**QUICK, "epochs": 1})
    assert report["depth"]["thawed_stages"] == 5 and report["depth"]["chosen_by"] == "rule"
    assert "hardly a box" in report["depth"]["reason"] and not (home / "rule" / "depth.json").exists()


def test_a_fit_that_fails_is_the_worst(home: Path, boxed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = BoxFits.run

    def fails(self: BoxFits, trial: Any, fold: int, **words: Any) -> Any:
        if trial.thawed == 5 and fold == 1:
            raise NotFinite("the loss became infinite")
        return run(self, trial, fold, **words)

    monkeypatch.setattr(BoxFits, "run", fails)
    monkeypatch.setattr(depth, "_LEAST", -1.0)
    found = mg.depth(boxed, out=home / "fails", **QUICK)
    assert found["chosen"] == "head"
    (whole,) = [row for row in found["curve"] if row["thawed"] == 5]
    assert whole["val"]["value"] is None and whole["dropped"]


def test_the_plan_leaves_the_depth_to_training_where_there_are_patients_enough(boxed: Path) -> None:
    recipe = mg.plan(boxed, **QUICK)
    assert recipe.depth.thaw == "auto" and "tries depths" in recipe.reasons["depth.thaw"]
    words: dict[str, Any] = {"modality": "", "modality_reason": "", "stages": 5, "pyramid": True, "norms": True}
    words |= {"train_images": 60, "random": False, "procedural": False, "folded_norms": False, "class_ratio": None}
    assert depth_rule(Facts(**words, train_patients=30))[0] == "auto"
    assert depth_rule(Facts(**words, train_patients=29))[0] == 3
    assert depth_rule(Facts(**{**words, "random": True}, train_patients=99))[0] == "all"
    assert untried_rule(stages=5, random=False, procedural=True)[0] == "all"


@pytest.mark.parametrize(
    ("strides", "tried"), [((8,), [0, 3, 5]), ((8, 16), [0, 2, 3, 5]), ((8, 16, 32), [0, 1, 2, 3, 5])]
)
def test_stages_that_the_detector_does_not_look_at_are_not_tried(strides: tuple[int, ...], tried: list[int]) -> None:
    words: dict[str, Any] = {"task": "detect", "channels": 3, "image_size": (64, 64)}
    with pytest.warns(UserWarning, match="random numbers"):
        task = graft_detector(
            Answers(classes=("a",)), FinderForm(strides=strides), backbone_name="none:timm:resnet10t", **words
        )
    assert [trial.thawed for trial in depth._candidates(Recipe(), task)] == tried  # type: ignore[call-arg]


def test_found_boxes_are_scored_as_the_meter_does() -> None:
    """With weights 1 the mean over the parts is that of what `watch` says of each part."""
    from medgraft.scores.boxes import Detections
    from medgraft.scores.matching import match_boxes
    from medgraft.tasks.box_meter import both_limits
    from medgraft.values import Boxes

    truth = [Boxes(np.array([[0.0, 0, 10, 10]]), ("a",)), Boxes(np.zeros((0, 4)), ())]
    found = [Boxes(np.array([[0.0, 0, 10, 6]]), ("a",), np.array([0.9])), Boxes(np.zeros((0, 4)), (), np.zeros(0))]
    matches = match_boxes(Detections(("x", "y"), tuple(truth), tuple(found), ("a",)), by_size=False)
    np.testing.assert_allclose(both_limits(matches, np.array([[1.0, 1.0], [3.0, 0.0]])), [0.5, 0.5])
    assert np.isnan(both_limits(matches, np.array([[0.0, 1.0]]))).all()
