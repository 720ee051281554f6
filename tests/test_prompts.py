"""Prompts: their parts, and which point belongs to which structure."""

from __future__ import annotations

import numpy as np
import pytest

from medgraft.errors import BadRecipe
from medgraft.outlining.prompts import numbers, several
from medgraft.values import Prompt


def test_each_box_takes_the_points_whose_pixels_centre_is_in_it():
    prompt = Prompt(points=[(9, 5, 1), (10, 5, 0), (30, 5, 1)], boxes=[(0, 0, 10, 10), (10, 0, 40, 10)])
    first, second = prompt.each()
    assert len(prompt) == 2
    assert first.points.tolist() == [[9, 5, 1]] and second.points.tolist() == [[10, 5, 0], [30, 5, 1]]
    assert first.boxes.tolist() == [[0, 0, 10, 10]]


def test_points_without_boxes_are_of_one_structure():
    prompt = Prompt(points=[(1, 2, 1), (3, 4, 0)])
    assert len(prompt) == 1 and prompt.each() == (prompt,)
    assert prompt.boxes.shape == (0, 4)


@pytest.mark.parametrize(
    "words",
    [
        {"points": [(1, 2)]},
        {"points": [(1, 2, 3)]},
        {"boxes": [(1, 2, 3)]},
        {"boxes": [(1, 2, 3, np.inf)]},
        {"mask": np.zeros((2, 2, 2))},
        {"mask": np.zeros((4, 4)), "boxes": [(0, 0, 1, 1), (1, 1, 2, 2)]},
    ],
)
def test_parts_of_another_shape_are_refused(words):
    with pytest.raises(ValueError):
        Prompt(**words)


@pytest.mark.parametrize("given", [(1, 2, 3, 4), [(1, 2, 3, 4)], np.array([1, 2, 3, 4]), np.array([[1, 2, 3, 4]])])
def test_one_box_or_a_list_of_them_mean_the_same(given):
    assert several(given) == [(1.0, 2.0, 3.0, 4.0)]


def test_none_and_an_empty_list_are_nothing():
    assert several(None) == [] and several([]) == []


@pytest.mark.parametrize("text", ["", "1,,2", "1;2", "inf,3", "a"])
def test_what_is_no_list_of_numbers_is_refused(text):
    with pytest.raises(BadRecipe, match="--box"):
        numbers(text, option="--box")
