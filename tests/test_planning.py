"""The plan's rules, and that what a person wrote stays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from medgraft.assemble import check_words
from medgraft.errors import BadRecipe
from medgraft.planning import Facts, choose_rest, rates_tried
from medgraft.recipe import Recipe

FACTS = Facts(
    train_images=400,
    train_patients=100,
    modality="generic",
    modality_reason="nothing else is known",
    stages=5,
    random=False,
    procedural=False,
    pyramid=True,
    norms=True,
    folded_norms=False,
    class_ratio=1.0,
)


def planned(settings: dict[str, Any], **facts: Any) -> Recipe:
    return choose_rest(Recipe().changed(settings), replace(FACTS, **facts))  # type: ignore[call-arg]


def test_the_depth_is_left_to_training_where_there_is_something_to_compare() -> None:
    found = planned({})
    assert found.depth.thaw == "auto" and "tries depths" in found.reasons["depth.thaw"]
    assert found.fit.epochs is None and found.fit.lr is None  # they depend on the depth
    assert found.augment.preset == "generic" and found.fit.balance == "none"
    assert planned({}, train_patients=29).depth.thaw == "head"
    assert planned({}, random=True).depth.thaw == "all"


def test_two_rates_are_tried_unless_one_is_asked_for() -> None:
    careful = planned({"depth.thaw": "all"})
    assert rates_tried(careful) == (2e-4, pytest.approx(6e-4))
    ours = {"depth.thaw": "all", "backbone.name": "embedded:resnet10t"}
    assert rates_tried(planned(ours, procedural=True)) == (1e-3, 3.3e-4)
    assert rates_tried(planned({"depth.thaw": "all", "fit.lr": 5e-5})) == (5e-5,)


def test_every_choice_has_its_reason() -> None:
    found = planned({"depth.thaw": "all"})
    for name in ("backbone.pooling", "backbone.recalibrate", "fit.probe", "fit.epochs", "fit.head_lr", "fit.lr"):
        assert found.reasons[name], name
    assert all(planned({}).reasons[name] for name in ("depth.thaw", "augment.preset", "fit.balance"))


@pytest.mark.parametrize(
    ("depth", "facts", "pooling"),
    [
        ("head", {}, "levels"),
        (0, {}, "levels"),
        (1, {}, "levels"),
        ("all", {}, "levels"),
        ("head", {"random": True}, "levels"),
        ("all", {"random": True}, "avg"),
        ("head", {"pyramid": False}, "avg"),
        ("all", {"pyramid": False}, "avg"),
    ],
)
def test_the_head_looks_at_levels_of_a_pyramid(depth: Any, facts: dict[str, Any], pooling: str) -> None:
    found = planned({"depth.thaw": depth}, **facts)
    assert found.backbone.pooling == pooling and found.reasons["backbone.pooling"]


@pytest.mark.parametrize(
    ("depth", "facts", "wanted"),
    [
        ("head", {}, True),
        (2, {}, True),
        (2, {"random": True}, True),
        ("all", {}, True),  # as there is a probe
        (5, {}, True),
        ("all", {"random": True}, False),
        ("head", {"norms": False}, False),
        ("head", {"folded_norms": True}, False),
        ("head", {"train_images": 15}, False),
    ],
)
def test_norms_are_measured_anew_where_they_stay_frozen(depth: Any, facts: dict[str, Any], wanted: bool) -> None:
    found = planned({"depth.thaw": depth}, **facts)
    assert found.backbone.recalibrate is wanted and found.reasons["backbone.recalibrate"]
    assert planned({"depth.thaw": depth, "backbone.recalibrate": False}, **facts).backbone.recalibrate is False


def test_norms_that_are_all_tuned_are_measured_anew_for_the_probe_alone() -> None:
    without = planned({"depth.thaw": "all", "fit.probe": False})
    assert without.backbone.recalibrate is False
    assert planned({"depth.thaw": 2, "fit.probe": False}).backbone.recalibrate is True


def test_weights_that_saw_no_real_image_are_changed_as_freely_as_random_ones() -> None:
    careful, free = planned({"depth.thaw": "all"}).fit, planned({"depth.thaw": "all"}, procedural=True).fit
    assert careful.lr and free.lr and free.lr > careful.lr and free.head_lr == free.lr
    assert free.layer_decay == 1 and careful.layer_decay == 0.75


def test_weights_are_averaged_over_an_eighth_of_the_steps() -> None:
    found = planned({"depth.thaw": "all", "fit.epochs": 40, "fit.batch_size": 32}, train_images=200)
    assert found.fit.ema == pytest.approx(1 - 8 / (40 * 7), abs=1e-4)
    assert found.reasons["fit.ema"]
    assert planned({"depth.thaw": "all", "fit.epochs": 1}, train_images=64).fit.ema == 0
    assert planned({"depth.thaw": "all", "fit.ema": 0.5}).fit.ema == 0.5


def test_random_layers_that_are_to_learn_get_no_probe() -> None:
    assert planned({}, random=True).fit.probe is False
    assert planned({"depth.thaw": 2}, random=True).fit.probe is False
    assert planned({"depth.thaw": "head"}, random=True).fit.probe is True


@pytest.mark.parametrize(
    ("facts", "why"),
    [({"norms": False}, "no BatchNorm"), ({"folded_norms": True}, "folded"), ({"train_images": 15}, "too few")],
)
def test_norms_that_cannot_be_measured_are_refused_where_asked_for(facts: dict[str, Any], why: str) -> None:
    asked = {"depth.thaw": "all", "backbone.recalibrate": True}
    assert planned(asked).backbone.recalibrate is True
    with pytest.raises(BadRecipe, match=why):
        planned(asked, **facts)


def test_a_probe_on_a_frozen_encoder_leaves_nothing_to_train() -> None:
    found = planned({"depth.thaw": "head"})
    assert found.fit.probe is True and found.fit.epochs == 0 and found.fit.lr is None
    assert planned({"depth.thaw": "head", "fit.epochs": 7}).fit.epochs == 7
    without = planned({"depth.thaw": "head", "fit.probe": False})
    assert without.fit.epochs is not None and without.fit.epochs > 0 and without.fit.head_lr == 1e-3
    assert planned({"fit.epochs": 0}).depth.thaw == "head"


def test_after_a_probe_the_head_learns_as_slowly_as_the_encoder() -> None:
    found = planned({"depth.thaw": "all"})
    assert found.fit.head_lr == found.fit.lr == 2e-4
    assert planned({"depth.thaw": "all", "fit.lr": 3e-5}).fit.head_lr == 3e-5
    assert planned({"depth.thaw": "all", "fit.probe": False}).fit.head_lr == 2e-3


def test_no_epochs_and_something_to_tune_is_refused() -> None:
    with pytest.raises(BadRecipe, match=r"fit\.probe is off"):
        check_words(Recipe().changed({"fit.epochs": 0, "fit.probe": False}))  # type: ignore[call-arg]
    with pytest.raises(BadRecipe, match="depth all asks for tuning"):
        check_words(Recipe().changed({"fit.epochs": 0, "depth.thaw": "all"}))  # type: ignore[call-arg]
    check_words(Recipe().changed({"fit.epochs": 0, "depth.thaw": "head"}))  # type: ignore[call-arg]
