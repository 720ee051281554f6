"""Everything in a picture: each thing once, without crumbs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bright import Bright
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import medgraft as mg
from medgraft.files import save_png
from medgraft.nets.prompter import stability
from medgraft.outlining.everything import Sieve, everything, grid_points, unrepeated
from medgraft.outlining.form import Found
from medgraft.samples.islands import cleaned

THINGS = ((30, 30, 14, 220), (30, 80, 9, 160), (75, 40, 11, 100), (80, 95, 6, 60))  # y, x, radius, gray


def field() -> tuple[np.ndarray, np.ndarray]:
    """Discs on black, `(H, W)` gray and their numbers by size."""
    rows, columns = np.indices((110, 120))
    gray, numbers = np.zeros((110, 120), np.uint8), np.zeros((110, 120), int)
    order = sorted(THINGS, key=lambda thing: -thing[2])
    for y, x, radius, value in THINGS:
        inside = (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
        gray[inside], numbers[inside] = value, 1 + order.index((y, x, radius, value))
    return gray, numbers


def test_each_thing_is_found_once_and_the_largest_is_first(tmp_path):
    gray, numbers = field()
    save_png(tmp_path / "field.png", gray)
    found = mg.outline(tmp_path / "field.png", everything=True, backbone=Bright(), grid=12)
    assert np.array_equal(found.labels, numbers)
    assert [row["structure"] for row in found.rows] == [1, 2, 3, 4]


def test_what_the_model_is_not_sure_of_is_left_out():
    picture = np.repeat(field()[0][..., None], 3, axis=2)
    assert everything(Bright((0.5, 0.85, 0.5)), picture, Sieve(grid=8)) == []
    assert len(everything(Bright((0.5, 0.85, 0.5)), picture, Sieve(grid=8, quality=0.8))) >= 3


def test_what_is_small_is_left_out():
    picture = np.repeat(field()[0][..., None], 3, axis=2)
    sizes = [int(one.mask.sum()) for one in everything(Bright(), picture, Sieve(grid=8, least=300.0))]
    assert sizes and min(sizes) >= 300


def test_the_grid_covers_the_picture_evenly():
    places = np.concatenate([one.points for one in grid_points((40, 80), 4)])
    assert sorted(set(places[:, 0])) == [9.5, 29.5, 49.5, 69.5] and sorted(set(places[:, 1])) == [4.5, 14.5, 24.5, 34.5]
    assert len(places) == 16


@given(st.integers(0, 10**6), st.floats(0.1, 0.9))
@settings(deadline=None, max_examples=30)
def test_what_is_said_twice_is_left_out_as_another_library_does(seed, overlap):
    from torchvision.ops import nms

    rng = np.random.default_rng(seed)
    starts, sides = rng.integers(0, 30, (40, 2)), rng.integers(1, 25, (40, 2))
    quality = rng.permutation(40) / 40
    found = [
        Found(np.ones((h, w), bool), (int(y), int(x)), float(sure), 1.0)
        for (y, x), (h, w), sure in zip(starts.tolist(), sides.tolist(), quality, strict=True)
    ]
    corners = np.concatenate([starts[:, ::-1], (starts + sides)[:, ::-1]], axis=1).astype(np.float64)
    theirs = nms(torch.from_numpy(corners), torch.from_numpy(quality), overlap).tolist()
    assert [one.quality for one in unrepeated(found, overlap=overlap)] == [quality[k] for k in theirs]


def test_stability_is_the_share_that_stays_when_the_threshold_moves():
    logits = torch.tensor([[[3.0, 0.5, -0.5, -3.0]], [[3.0, 3.0, -3.0, -3.0]], [[-3.0, -3.0, -3.0, -3.0]]])
    assert stability(logits).tolist() == pytest.approx([1 / 3, 1, 0])


MASKS = arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=14))


@given(MASKS, st.integers(1, 12))
@settings(deadline=None, max_examples=50)
def test_cleaning_leaves_no_small_part_and_no_small_hole(mask, least):
    from scipy.ndimage import label

    out = cleaned(mask, least)
    parts, count = label(out, np.ones((3, 3)))
    sizes = np.bincount(parts.ravel())[1:]
    assert count <= 1 or (sizes >= least).all()
    assert out.any() or not mask.any()


@pytest.mark.parametrize(("least", "hole"), [(3, True), (5, False)])
def test_cleaning_knows_a_hole_from_an_island(least, hole):
    mask = np.zeros((20, 20), bool)
    mask[2:15, 2:15] = True
    mask[6:8, 6:8] = False  # 4 pixels
    mask[18, 18] = True
    out = cleaned(mask, least)
    assert not out[18, 18] and bool(~out[6, 6]) is hole
    assert out[3, 3] and not out[0, 0]
