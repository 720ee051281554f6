"""What is planned for label maps: resolution, patches, mirrors, decoder and steps, each with its reason."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from medgraft.errors import BadRecipe
from medgraft.planning import Facts
from medgraft.recipe import Recipe
from medgraft.samples.framing import FrameForm
from medgraft.samples.picture_grid import PictureForm
from medgraft.segmentation.choices import check_recipe, choose_grid, choose_rest, form_of, grid_rule
from medgraft.segmentation.facts import MaskFacts

FLAT = MaskFacts(
    axes=2,
    images=60,
    shape=(480, 640),
    longest=(640,) * 10,
    spacing_mm=None,
    spacing_spread=1.0,
    hounsfield=False,
    gray=False,
    whites=(1.0,) * 20,
    shares=(0.1,),
    things=(60.0,) * 20,
    relative=(60 / 640,) * 20,
    thickness=30.0,
    thin=False,
    sided=(),
)
SOLID = dataclasses.replace(
    FLAT, axes=3, shape=(60, 100, 100), spacing_mm=(2.0, 1.0, 1.0), gray=True, things=(20.0,) * 9, thickness=8.0
)
NET = Facts(
    train_images=60,
    train_patients=60,
    modality="generic",
    modality_reason="nothing is known",
    stages=5,
    random=False,
    procedural=False,
    pyramid=True,
    norms=True,
    folded_norms=False,
    class_ratio=None,
)


def planned(masks: MaskFacts, net: Facts = NET, **asked: object) -> Recipe:
    recipe = Recipe().changed({"task": "segment", "masks.names": ["a"], "masks.instances": False, **asked})
    return choose_rest(choose_grid(recipe, masks), masks, net)


def test_pictures_are_drawn_on_as_they_are_where_nothing_speaks_against_it():
    assert grid_rule(FLAT)[:2] == ("scale", 1.0)


def test_large_pictures_are_made_smaller_and_small_things_larger():
    large = dataclasses.replace(FLAT, longest=(4000,) * 10, relative=(60 / 4000,) * 20)
    assert grid_rule(large)[:2] == ("scale", 0.256)
    small = dataclasses.replace(FLAT, longest=(256,) * 10, things=(6.0,) * 20, relative=(6 / 256,) * 20)
    assert grid_rule(small)[:2] == ("scale", 2.0)
    middling = dataclasses.replace(FLAT, longest=(256,) * 10, things=(14.0,) * 20, relative=(14 / 256,) * 20)
    assert grid_rule(middling)[:2] == ("scale", 1.0)
    assert grid_rule(middling, apart=True)[:2] == ("scale", 1.43)  # the gap between two is narrower than they are


def test_levels_are_of_each_picture_where_some_are_dim_and_others_bright():
    assert planned(FLAT).masks.own_levels is False
    mixed = dataclasses.replace(FLAT, whites=(0.15, 0.2, 0.4, 0.9) * 5)
    filled = planned(mixed)
    assert filled.masks.own_levels is True and form_of(filled).grid.own_levels
    assert "15% of white" in filled.reasons["masks.own_levels"]
    assert planned(dataclasses.replace(FLAT, whites=(0.3,) * 20)).masks.own_levels is False  # all alike


def test_what_fills_the_view_is_seen_whole():
    filling = dataclasses.replace(FLAT, relative=(0.45,) * 20, things=(288.0,) * 20)
    name, value, why = grid_rule(filling)
    assert (name, value) == ("side", 384) and "45%" in why
    assert planned(filling).masks.patch == [288, 384]


def test_vessels_are_not_made_smaller_though_they_fill_the_view():
    vessels = dataclasses.replace(FLAT, thin=True, relative=(0.5,) * 20, thickness=5.0)
    recipe = planned(vessels)
    assert recipe.masks.scale == 1.0 and recipe.masks.thin and recipe.masks.fine


def test_known_sizes_of_pixels_count_where_they_differ():
    known = dataclasses.replace(FLAT, spacing_mm=(0.002, 0.002), spacing_spread=2.0)
    assert grid_rule(known)[:2] == ("um_per_px", 2.0)


def test_sizes_that_follow_the_image_and_not_its_pixels_bring_all_images_to_one_size():
    random = np.random.default_rng(0)
    longest = random.integers(400, 1600, 20)
    share = 0.1 * np.exp(random.normal(0, 0.05, 20))
    facts = dataclasses.replace(
        FLAT, longest=tuple(longest.tolist()), relative=tuple(share.tolist()), things=tuple((share * longest).tolist())
    )
    assert grid_rule(facts)[0] == "side"


def test_what_was_asked_for_stays():
    assert planned(FLAT, **{"masks.scale": 0.5}).masks.scale == 0.5
    assert planned(FLAT, **{"input.image_size": 320}).masks.side == 320
    recipe = planned(FLAT, **{"masks.patch": [128, 128], "fit.epochs": 3, "masks.patches": 2})
    assert (recipe.masks.patch, recipe.fit.epochs, recipe.masks.patches) == ([128, 128], 3, 2)


def test_a_plan_thaws_no_more_stages_than_there_are():
    with pytest.raises(BadRecipe, match="depth 99 is not possible"):
        planned(FLAT, **{"depth.thaw": 99})


@pytest.mark.parametrize("images", [6, 60, 600, 6000])
def test_the_number_of_steps_hardly_depends_on_the_number_of_images(images):
    recipe = planned(dataclasses.replace(FLAT, images=images))
    each, epochs, batch = recipe.masks.patches, recipe.fit.epochs, recipe.fit.batch_size
    assert each is not None and epochs is not None and batch is not None
    steps = epochs * each * images / batch
    assert 700 < steps < 1000 or (images == 6000 and epochs == 10)


@pytest.mark.parametrize("images", [60, 600])
def test_things_are_told_apart_after_three_times_the_steps(images):
    facts = dataclasses.replace(FLAT, images=images)
    plain, apart = (planned(facts, **{"masks.instances": one}) for one in (False, True))
    seen = [one.fit.epochs * one.masks.patches / one.fit.batch_size for one in (plain, apart)]
    assert 2.7 < seen[1] / seen[0] < 3.4


def test_no_mirror_along_an_axis_that_tells_classes_apart():
    sided = dataclasses.replace(SOLID, sided=((1, "front and back always lie in the same order along it"),))
    recipe = planned(sided)
    assert recipe.masks.mirrored == [0, 2]
    assert "not along height: front and back" in recipe.reasons["masks.mirrored"]
    assert form_of(recipe).mirrored == (0, 2)


def test_large_volumes_get_larger_voxels_and_patches_stay_small():
    large = dataclasses.replace(SOLID, shape=(400, 512, 512), spacing_mm=(1.0, 0.7, 0.7))
    recipe = planned(large)
    spacing = recipe.masks.spacing_mm
    assert spacing is not None and spacing[0] > 1.0 and spacing[0] / spacing[1] == pytest.approx(1 / 0.7, rel=0.01)
    assert np.prod(recipe.masks.patch) <= 2**17 * 1.3
    assert isinstance(form_of(recipe).grid, FrameForm)


def test_thick_things_are_drawn_on_by_twos_and_what_is_told_apart_is_not():
    assert planned(FLAT).masks.fine is False
    assert planned(FLAT, **{"masks.instances": True}).masks.fine is True
    assert planned(dataclasses.replace(FLAT, thickness=4.0)).masks.fine is True
    assert planned(SOLID).masks.fine is True
    small = dataclasses.replace(
        FLAT, shape=(256, 256), longest=(256,) * 10, things=(8.0,) * 20, relative=(8 / 256,) * 20, thickness=5.0
    )
    apart = planned(small, **{"masks.instances": True}).masks
    assert apart.scale == 2.0 and apart.fine is False  # two network pixels are one of the file
    assert planned(small).masks.fine is True and planned(small).masks.scale == 1.5


def test_windows_are_whole_multiples_of_the_coarsest_place_and_no_smaller_than_patches():
    for facts in (FLAT, SOLID):
        form = form_of(planned(facts))
        step = 2**form.decoder.rungs
        assert all(side % step == 0 for side in form.window)
        assert all(a >= b for a, b in zip(form.window, form.patch, strict=True))
        assert all(lap < side for lap, side in zip(form.lap, form.window, strict=True))
    assert isinstance(form_of(planned(FLAT)).grid, PictureForm)


def test_pictures_that_differ_and_encoders_from_random_numbers_are_normalised_one_by_one():
    mixed = dataclasses.replace(FLAT, whites=(0.15, 0.2, 0.4, 0.9) * 5)
    random = dataclasses.replace(NET, random=True)
    assert form_of(planned(FLAT)).decoder.norm == "batch"
    assert form_of(planned(mixed)).decoder.norm == form_of(planned(FLAT, random)).decoder.norm == "group"
    assert form_of(planned(SOLID, random)).decoder.norm == "batch"
    assert form_of(planned(mixed, **{"masks.norm": "batch"})).decoder.norm == "batch"
    assert "its own" in planned(mixed, **{"masks.decoder": "smp_unet"}).reasons["masks.norm"]


def test_whole_nets_tune_no_encoder():
    recipe = planned(SOLID, **{"masks.decoder": "dynunet"})
    assert recipe.depth.thaw == 0 and recipe.backbone.recalibrate is False


def test_what_has_no_meaning_is_refused():
    with pytest.raises(BadRecipe, match="adapters"):
        check_recipe(Recipe().changed({"depth.thaw": "lora"}))
    with pytest.raises(BadRecipe, match="2 windows"):
        check_recipe(Recipe().changed({"masks.windows_hu": [[40, 400], [-600, 1500]]}))
