"""What a plan makes of the size of images: pixels or latents, folds that fit, memory, and the window of CT."""

from __future__ import annotations

from typing import Any

import pytest

from medgraft.errors import BadRecipe
from medgraft.gather import Peek
from medgraft.generation import choices
from medgraft.generation.choices import choose_rest, choose_shape, choose_window, coder_form
from medgraft.recipe import Recipe

FLAT, SOLID = Peek(512, 512, True, False), Peek(128, 128, True, True)


def planned(shape: list[int], *, task: str = "diffuse", **values: Any) -> Recipe:
    seen = FLAT if len(shape) == 2 else SOLID
    fields = {"task": task, "generator.shape": shape, "machine.device": "cpu"}
    recipe = Recipe().changed(fields | {f"generator.{name}": value for name, value in values.items()})
    return choose_rest(choose_shape(recipe, seen, shape), images=100, preset=("none", "so"))


@pytest.mark.parametrize(
    ("shape", "latent", "fold"),
    [
        ([64, 64], 1, 2),
        ([128, 128], 1, 2),
        ([256, 256], 4, 1),
        ([512, 512], 8, 1),
        ([64, 64, 64], 1, 4),
        ([96, 96, 96], 4, 1),
        ([128, 128, 128], 4, 1),
        ([56, 56, 56], 1, 2),  # no multiple of 16, which a fold of four would need
        ([40, 40, 40], 1, 2),
    ],
)
def test_latents_are_drawn_where_pixels_are_too_many(shape, latent, fold):
    own = planned(shape).generator
    assert (own.latent, own.fold) == (latent, fold)
    step = latent * fold * 2 ** (len(own.widths or ()) - 1)
    assert all(side % step == 0 for side in shape)


def test_what_is_asked_for_is_kept_and_must_fit():
    recipe = planned([64, 64], latent=4)
    assert recipe.generator.latent == 4 and "generator.latent" not in recipe.reasons
    form = coder_form(recipe)
    assert form is not None and (form.step, form.axes, form.channels, form.width) == (4, 2, 1, 16)
    elsewhere = recipe.changed({"machine.device": "auto"})  # a resumed run builds the same nets on another machine
    assert coder_form(elsewhere) == form and recipe.generator.latent_width == 16
    assert planned([64, 64]).generator.latent_width is None
    assert coder_form(planned([64, 64])) is None
    assert planned([64, 64], latent=4, latent_epochs=7).generator.latent_epochs == 7
    with pytest.raises(BadRecipe, match="no multiples of 32"):
        planned([48, 48], latent=8)
    with pytest.raises(BadRecipe, match="no latents"):
        planned([64, 64], task="stylegan", latent=4)


def test_maps_are_computed_again_where_memory_would_not_suffice(monkeypatch):
    monkeypatch.setattr(choices, "memory_bytes", lambda device: 8 << 30)
    small = planned([64, 64])
    assert small.generator.checkpoint is False and "8 GiB" in small.reasons["generator.checkpoint"]
    assert planned([128, 128, 128], latent=1, fold=1).generator.checkpoint is True
    monkeypatch.setattr(choices, "memory_bytes", lambda device: 1 << 40)
    assert planned([128, 128, 128], latent=1, fold=1).generator.checkpoint is False
    assert planned([64, 64], task="stylegan").generator.checkpoint is False


def test_ct_gets_a_window_unless_one_is_asked_for():
    ct = [{"unit": "value", "low": -1024.0, "shape": [1, 40, 64, 64]}]
    found = choose_window(Recipe(), ct)
    assert found.input.window == (0.0, 2000.0) and "HU" in found.reasons["input.window"]
    asked = Recipe().changed({"input.window": (40.0, 400.0)})
    assert choose_window(asked, ct).input.window == (40.0, 400.0)
    assert choose_window(Recipe(), [{**ct[0], "low": 0.0}]).input.window is None
    assert choose_window(Recipe(), [{**ct[0], "shape": [1, 64, 64]}]).input.window is None


def test_images_too_small_to_be_judged_are_refused_before_they_are_learnt():
    with pytest.raises(BadRecipe, match="power of two"):
        planned([8, 8], task="stylegan")
