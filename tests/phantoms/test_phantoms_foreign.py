"""Things put into normal pictures."""

from __future__ import annotations

import numpy as np
import pytest

from medgraft import seeds
from medgraft.phantoms import foreign
from tiny_discs import SIDE, make_discs


@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_put_in_lies_where_there_is_structure_and_is_marked(channels: int):
    pictures, inside = make_discs(3, channels), np.ones((SIDE, SIDE), bool)
    inside[:20] = False  # padded
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    covered, centres = [], []
    for number in range(40):
        picture = pictures[number % 3] * inside
        changed, cover = foreign.put_in(picture, pictures, inside=inside, dice=seeds.generator(0, "t", index=number))
        again, _ = foreign.put_in(picture, pictures, inside=inside, dice=seeds.generator(0, "t", index=number))
        assert np.array_equal(changed, again) and changed.dtype == np.float32 and changed.shape == picture.shape
        assert cover.min() >= 0 and cover.max() <= 1 and not cover[~inside].any()
        assert picture.min() <= changed.min() and changed.max() <= picture.max()
        assert np.array_equal(changed[:, ~inside], picture[:, ~inside])
        # What is marked is changed; what is not marked is changed by little at most.
        apart = np.abs(changed - picture).mean(0)
        assert not (cover > 0.5).any() or apart[cover > 0.5].mean() > 5 * apart[cover == 0].mean()
        covered.append(cover.mean())
        centres.append(float(cover[np.hypot(x, y) > 30].sum() / max(cover.sum(), 1e-6)))
    assert 0.005 < np.mean(covered) < 0.2 and np.mean(centres) < 0.2


def test_a_picture_without_structure_is_left_as_it_is():
    flat = np.full((1, SIDE, SIDE), 3, np.float32)
    changed, cover = foreign.put_in(flat, flat[None], inside=np.ones((SIDE, SIDE), bool), dice=seeds.generator(0, "t"))
    assert np.array_equal(changed, flat) and not cover.any()
    none = np.zeros((SIDE, SIDE), bool)
    changed, cover = foreign.put_in(flat, flat[None], inside=none, dice=seeds.generator(0, "t"))
    assert np.array_equal(changed, flat) and not cover.any()
