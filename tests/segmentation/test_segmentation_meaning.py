"""What numbers mean, kept in the recipe so that a run can be repeated, and brought to a run's classes on other data."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from medgraft.errors import BadData, BadRecipe
from medgraft.recipe import Recipe
from medgraft.samples.mask_facts import MaskFacts
from medgraft.samples.mask_meaning import Asked, MaskForm, form_of
from medgraft.segmentation.choices import check_sizes
from medgraft.segmentation.outside import _by_name, _by_number

TWO = MaskForm(("liver", "tumour"), (1, 2), ignored=(255,))


def facts(*numbers: int) -> MaskFacts:
    return MaskFacts({0: 90, **dict.fromkeys(numbers, 5)}, (10, 10))


@pytest.mark.parametrize(
    "form",
    [TWO, MaskForm(("lesion",), (1,), ignored=(2, 7)), MaskForm(("a", "b"), (3, 255)), MaskForm(("x",), (40_000,))],
)
def test_what_the_recipe_keeps_finds_the_form_again_whatever_the_maps_hold(form):
    recipe = Recipe().changed({"masks.names": form.asked()})  # type: ignore[call-arg]
    again = form_of([facts(form.values[0])], Asked(recipe.masks.names), notes=[])
    assert (again.names, again.values, set(again.ignored)) == (form.names, form.values, set(form.ignored))
    assert MaskForm(("nucleus",), (), instances=True).asked() == ["nucleus"]


def test_a_class_that_only_begins_with_a_word_for_unknown_is_a_class():
    found = form_of([facts(1, 2, 3)], Asked({"1": "unknown lesion", "2": "Unknown", "3": "void 7"}), notes=[])
    assert found.names == ("unknown lesion",) and found.ignored == (2, 3)


def run(form: MaskForm) -> Any:
    return SimpleNamespace(masks=form)


def test_classes_of_other_data_are_found_by_name_and_never_by_a_number_that_has_another_name():
    data: Any = SimpleNamespace(root=Path())
    found = _by_name({1: "Tumour", 5: "liver", 9: "void"}, run(TWO), data)
    assert (found.names, found.values, found.ignored) == (("liver", "tumour"), (5, 1), (9,))
    absent = _by_name({1: "tumour"}, run(TWO), data)
    assert absent.values == (2, 1) and len(set(absent.values)) == 2  # what is drawn falsely can be written
    with pytest.raises(BadData, match="hold spleen, the run draws liver, tumour"):
        _by_name({1: "spleen", 2: "tumour"}, run(TWO), data)


def test_data_without_names_have_the_numbers_of_the_run():
    notes: list[str] = []
    assert _by_number([facts(1), facts(2, 255)], TWO, notes) is TWO and not notes
    assert _by_number([facts()], TWO, notes) is TWO  # nothing to be found: false finds count
    white = MaskForm(("a", "b"), (1, 255))
    assert _by_number([facts(1, 255)], white, notes).values == (1, 255)
    things = MaskForm(("nucleus",), (), instances=True)
    assert _by_number([facts(255), facts(255)], things, notes) is things and "not told apart" in notes.pop()
    one = MaskForm(("lesion",), (1,))
    assert _by_number([facts(255)], one, notes).values == (255,) and "255 in the masks is read as lesion" in notes[0]


@pytest.mark.parametrize(
    ("axes", "field", "value", "words"),
    [
        (2, "masks.patch", [16, 32, 32], "2 sides"),
        (2, "masks.patch", [0, 0], "8 and more"),
        (3, "masks.patch", [32, 32], "3 sides"),
        (3, "masks.spacing_mm", [0.0, 1.0, 1.0], "above 0"),
        (2, "masks.mirrored", [2], "axes of pictures are 0, 1"),
        (2, "masks.mirrored", [-1], "axes of pictures are 0, 1"),
        (3, "masks.mirrored", [1, 1], "each once"),
        (3, "input.image_size", 128, "masks.spacing_mm"),
    ],
)
def test_sizes_and_axes_that_images_do_not_have_are_refused(axes, field, value, words):
    recipe = Recipe().changed({field: value})  # type: ignore[call-arg]
    with pytest.raises(BadRecipe, match=words):
        check_sizes(recipe, axes)
