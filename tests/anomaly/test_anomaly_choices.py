"""Which label is that of normal images, and what is planned."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from medgraft.anomaly import outside
from medgraft.anomaly.choices import choose_images, choose_rest, normal_of
from medgraft.anomaly.judge import threshold_of
from medgraft.anomaly.parts import area_of
from medgraft.anomaly.told import rule_of
from medgraft.errors import BadRecipe, UserError
from medgraft.learn.model import Pixels
from medgraft.recipe import Recipe
from medgraft.samples.dataset import DataSet
from medgraft.values import ImageRef, Sample


@pytest.mark.parametrize("name", ["normal", "Healthy", "No finding", "no_findings", "no_tumor", "0", "good"])
def test_a_label_that_says_so_is_normal(name: str):
    assert normal_of(["ill", name, "worse"], None)[0] == name


def test_none_of_several_labels_is_normal():
    assert normal_of(["a|b", "", "b"], None)[0] == ""


def test_a_name_is_asked_for_where_none_says_so_or_two_do():
    with pytest.raises(BadRecipe, match="no label says.*bkl, nv"):
        normal_of(["nv", "bkl"], None)
    with pytest.raises(BadRecipe, match="no image has a label"):
        normal_of([None, None], None)
    with pytest.raises(BadRecipe, match="may both be normal"):
        normal_of(["normal", "healthy", "ill"], None)
    with pytest.raises(BadRecipe, match="no label says.*non_small_cell"):
        normal_of(["non_small_cell", "small_cell"], None)
    with pytest.raises(BadRecipe, match="no image has the label 'naevus'"):
        normal_of(["nv", "bkl"], "naevus")
    assert normal_of(["nv", "bkl"], "NV") == ("nv", "as asked")
    assert normal_of(["scan", "scan"], None)[0] == "scan"


def test_what_is_asked_for_stays_and_the_rest_has_reasons():
    recipe = Recipe(task="anomaly").changed({"input.image_size": 64, "machine.device": "cpu"})  # type: ignore[call-arg]
    planned = choose_rest(choose_images(recipe, side=300, gray=True), images=40, preset=("chest", "by names"))
    assert planned.anomaly.method == "patches" and planned.input.image_size == 64
    assert "oddest 10 %" in planned.reasons["anomaly.top"] and planned.augment.preset == "chest"
    assert planned.anomaly.apart == 2.0 and "odd in another" in planned.reasons["anomaly.apart"]
    diffusion = recipe.changed({"anomaly.method": "diffusion"})
    planned = choose_rest(choose_images(diffusion, side=300, gray=True), images=40, preset=("chest", "by names"))
    assert planned.task == "anomaly" and planned.generator.shape == [64, 64] and planned.fit.epochs
    with pytest.raises(BadRecipe, match="multiples of 16"):
        choose_images(recipe.changed({"anomaly.method": "autoencoder", "input.image_size": 40}), side=300, gray=True)


def test_where_a_place_lies_says_nothing_in_images_that_may_lie_any_way():
    recipe = choose_images(Recipe(task="anomaly").changed({"machine.device": "cpu"}), side=300, gray=False)  # type: ignore[call-arg]
    planned = choose_rest(recipe, images=40, preset=("skin", "by names"))
    assert planned.anomaly.apart == 0.0 and "skin may lie any way" in planned.reasons["anomaly.apart"]
    asked = choose_rest(recipe.changed({"anomaly.apart": 1.0}), images=40, preset=("skin", "by names"))
    assert asked.anomaly.apart == 1.0 and "anomaly.apart" not in asked.reasons


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"fit.epochs": 3}, "see each normal image once"),
        ({"depth.thaw": "all"}, "asked as it is"),
        ({"depth.thaw": 2}, "thaw"),
    ],
)
def test_what_would_change_nothing_is_refused(asked: dict[str, Any], words: str):
    recipe = Recipe(task="anomaly").changed({"machine.device": "cpu", **asked})  # type: ignore[call-arg]
    with pytest.raises(BadRecipe, match=words):
        choose_images(recipe, side=300, gray=True)


def test_the_threshold_leaves_a_share_of_normal_images_below():
    scores = np.random.default_rng(0).normal(size=400)
    assert (scores >= threshold_of(scores, 0.95)).mean() == pytest.approx(0.05, abs=0.003)
    assert (np.ones(7) >= threshold_of(np.ones(7), 0.9)).sum() == 0


def test_the_area_of_an_image_is_where_it_was_not_padded():
    area = area_of((30, 60), Pixels((32, 32), 1, "pad"))
    assert area.sum() == 16 * 32 and area[0, 8:24].all()
    assert area_of((30, 60), Pixels((32, 32), 1, "stretch")).all()
    assert area_of((30, 60), Pixels((32, 32), 1, "crop")).all()


def test_a_batch_of_more_images_than_there_are_is_refused():
    recipe = Recipe(task="anomaly").changed({"anomaly.method": "autoencoder", "fit.batch_size": 64})  # type: ignore[call-arg]
    with pytest.raises(BadRecipe, match="a batch of 64 is more than the 40 normal images"):
        choose_rest(recipe, images=40, preset=("chest", "by names"))


def test_a_width_that_no_net_has_is_refused():
    with pytest.raises(UserError, match=r"anomaly\.width.*multiple of 4"):
        Recipe(task="anomaly").changed({"anomaly.width": 6})  # type: ignore[call-arg]


def test_the_rule_names_the_quantile_as_it_is():
    assert rule_of(0.975, 40) == "the 97.5% quantile of 40 normal images"


def test_other_data_of_one_label_that_says_normal_are_normal():
    run: Any = SimpleNamespace(normal="normal", classes=("normal", "not normal"))
    for label, normal in (("Healthy", "Healthy"), ("covid", "normal")):
        dataset = DataSet((Sample("a", ImageRef(Path("a")), label=label),), "images", "", Path())
        assert outside._normal(run, dataset)[0] == normal
