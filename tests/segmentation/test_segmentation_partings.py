"""How small and how unsure a thing may be: sizes to choose from, and what each would score."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from skimage import measure

from medgraft.samples.things import LEAST, certainties
from medgraft.scores.instances import instance_scores, overlaps
from medgraft.segmentation.partings import leasts_of, parting_before, precisions, sizes_of


def _maps(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Squares, and the same squares moved a little, with specks beside them."""
    dice = np.random.default_rng(seed)
    truth, found = np.zeros((120, 120), np.int32), np.zeros((120, 120), np.int32)
    for number in range(1, 17):
        top, left, side = 30 * ((number - 1) // 4), 30 * ((number - 1) % 4), int(dice.integers(4, 22))
        truth[top : top + side, left : left + side] = number
        move = int(dice.integers(0, 5))
        found[top + move : top + side, left + move : left + side] = number
        found[top + 25 : top + 25 + number % 4, left + 25 : left + 29] = 20 + number
    return truth, found


@pytest.mark.parametrize("seed", range(4))
def test_each_least_scores_what_the_map_without_specks_and_doubts_scores(seed: int):
    truth, found = _maps(seed)
    found = measure.label(found, background=0, connectivity=1).astype(np.int32)
    inside = np.random.default_rng(seed).uniform(0.5, 1.0, found.max() + 1)[found]  # each thing as sure all over
    leasts, sures = [1.0, 5.0, 12.5, 100.0, 1e6], [0.0, 0.7, 0.9]
    scores = precisions(overlaps(truth, found), certainties(found, inside), leasts=leasts, sures=sures)
    sizes = np.bincount(found.ravel())
    for (row, least), (column, sure) in product(enumerate(leasts), enumerate(sures)):
        kept = np.where((sizes >= least)[found] & (inside >= sure), found, 0)
        assert scores[row, column] == pytest.approx(float(instance_scores(truth, kept).ap[0]))
    assert len(np.unique(scores)) > 6


def test_nothing_true_and_nothing_found_is_right():
    empty = np.zeros((8, 8), np.int32)
    certain = certainties(empty, np.zeros((8, 8)))
    assert precisions(overlaps(empty, empty), certain, leasts=[4.0], sures=[0.0, 0.9]).tolist() == [[1.0, 1.0]]


def test_sizes_to_choose_from_are_those_of_small_true_things():
    things = np.array([[-1, -1, 0, 1, 1, 7, 7, 7]])
    assert sizes_of(things).tolist() == [2, 3]
    assert leasts_of(np.zeros(0)) == [LEAST] == leasts_of(np.full(9, 3.0))
    assert leasts_of(np.full(50, 21.0)) == [LEAST, 21.0]
    assert parting_before([]).least == LEAST
    square = np.zeros((9, 9), np.int32)
    square[:5, :5] = 1
    assert parting_before([square, np.zeros((9, 9), np.int32)]).least == 25.0
