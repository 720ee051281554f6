"""Tiles cover the tissue, and what is found in them is put together once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medgraft.errors import BadRecipe
from medgraft.samples.tiles import Tile, merge_seams, tiles_of
from medgraft.values import Boxes


@given(
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    side=st.integers(1, 120),
    share=st.floats(0, 0.99),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=60)
def test_tiles_stay_inside_and_cover_every_pixel_of_tissue(size, side: int, share: float, seed: int):
    width, height = size
    tissue = np.random.default_rng(seed).uniform(size=(7, 11)) < 0.3
    overlap = int(share * side) if side > 8 else 0
    tiles = tiles_of(size, tissue, side=side, overlap=overlap)
    covered = np.zeros((height, width), bool)
    for tile in tiles:
        assert tile.x >= 0 and tile.x + tile.width <= width and tile.y >= 0 and tile.y + tile.height <= height
        assert tile.width == min(side, width) and tile.height == min(side, height)
        covered[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width] = True
    rows, columns = (np.arange(height) * 7 // height)[:, None], (np.arange(width) * 11 // width)[None, :]
    assert covered[tissue[rows, columns]].all()
    assert len(set(tiles)) == len(tiles)


def test_tiles_without_tissue_are_left_out():
    tissue = np.zeros((10, 10), bool)
    tissue[7, 2] = True
    assert tiles_of((1000, 1000), tissue, side=100, overlap=0) == [Tile(200, 700, 100, 100)]
    assert tiles_of((1000, 1000), np.zeros((5, 5), bool), side=100, overlap=0) == []
    assert len(tiles_of((1000, 1000), None, side=100, overlap=50)) == 19**2


@pytest.mark.parametrize(("side", "overlap"), [(0, 0), (10, 10), (10, -1)])
def test_tiles_that_cannot_be_are_refused(side: int, overlap: int):
    with pytest.raises(BadRecipe):
        tiles_of((100, 100), None, side=side, overlap=overlap)


def cut_up(boxes: Boxes, tiles: list[Tile], *, least: float = 1.0) -> list[Boxes]:
    """What a perfect detector finds in each tile: the part of each box that is in it."""
    found = []
    for tile in tiles:
        low, high = np.array([tile.x, tile.y]), np.array([tile.x + tile.width, tile.y + tile.height])
        corners = np.hstack([np.maximum(boxes.corners[:, :2], low), np.minimum(boxes.corners[:, 2:], high)])
        seen = ((corners[:, 2:] - corners[:, :2]) >= least).all(axis=1)
        found.append(Boxes(corners[seen], tuple(np.array(boxes.labels)[seen]), boxes.scores[seen]))
    return found


@given(
    seed=st.integers(0, 10_000),
    step=st.integers(11, 200),
    overlap=st.integers(34, 64),
    size=st.tuples(st.integers(50, 300), st.integers(50, 300)),
)
@settings(deadline=None, max_examples=40)
def test_planted_boxes_come_back_exactly_once(seed: int, step: int, overlap: int, size: tuple[int, int]):
    rng = np.random.default_rng(seed)
    side = overlap + step
    planted: list[np.ndarray] = []
    for _ in range(30):  # boxes that keep off each other, none larger than the overlap
        extent = rng.integers(3, 35, 2)
        corner = rng.integers(0, np.maximum(1, np.array(size) - extent))
        box = np.array([*corner, *(corner + extent)], float)
        if all(box[0] >= b[2] or box[2] <= b[0] or box[1] >= b[3] or box[3] <= b[1] for b in planted):
            planted.append(box)
    truth = Boxes(np.array(planted), tuple(rng.choice(["a", "b"], len(planted))), rng.uniform(0.1, 1, len(planted)))
    tiles = tiles_of(size, None, side=side, overlap=overlap)
    merged = merge_seams(cut_up(truth, tiles), tiles, size=size)
    rows = sorted(zip(truth.corners.tolist(), truth.labels, truth.scores.tolist(), strict=True))
    assert merged.scores is not None
    assert sorted(zip(merged.corners.tolist(), merged.labels, merged.scores.tolist(), strict=True)) == rows
    assert (np.diff(merged.scores) <= 0).all()


@given(seed=st.integers(0, 10_000))
@settings(deadline=None, max_examples=30)
def test_boxes_that_differ_a_little_between_tiles_are_one(seed: int):
    rng = np.random.default_rng(seed)
    truth = Boxes(np.array([[x, y, x + 30, y + 26] for x in range(20, 380, 60) for y in range(15, 280, 60)], float),
                  ("a",) * 30, np.ones(30))  # fmt: skip
    tiles = tiles_of((400, 300), None, side=120, overlap=50)
    shaken = []
    for boxes in cut_up(truth, tiles, least=6):
        corners = boxes.corners + rng.uniform(-1.2, 1.2, boxes.corners.shape)
        shaken.append(Boxes(corners, boxes.labels, rng.uniform(0.3, 1, len(boxes))))
    merged = merge_seams(shaken, tiles, size=(400, 300))
    assert len(merged) == 30
    away = np.abs(merged.corners[:, None] - truth.corners[None]).max(axis=-1)
    assert (away.min(axis=0) < 1.3).all() and (away.min(axis=1) < 1.3).all()


def one(corners: list[float], label: str = "a", score: float = 0.9) -> Boxes:
    return Boxes(np.array([corners]), (label,), np.array([score]))


def test_a_whole_box_wins_over_a_surer_piece():
    tiles = [Tile(0, 0, 100, 100), Tile(60, 0, 100, 100)]
    found = [one([70, 10, 100, 40], score=0.99), one([70, 10, 105, 40], score=0.5)]
    merged = merge_seams(found, tiles, size=(160, 100))
    assert merged.corners.tolist() == [[70, 10, 105, 40]]


def test_an_edge_of_the_slide_cuts_nothing():
    tiles = [Tile(0, 0, 100, 100), Tile(0, 60, 100, 100)]
    found = [one([0, 70, 30, 95], score=0.6), one([0, 71, 30, 95], score=0.7)]
    assert merge_seams(found, tiles, size=(100, 160)).corners.tolist() == [[0, 71, 30, 95]]


def test_other_classes_and_boxes_of_one_tile_are_left_alone():
    tiles = [Tile(0, 0, 100, 100), Tile(50, 0, 100, 100)]
    both = Boxes(np.array([[60, 10, 90, 40], [62, 11, 91, 41]], float), ("a", "a"), np.array([0.9, 0.8]))
    assert len(merge_seams([both, one([60, 10, 90, 40], "b")], tiles, size=(150, 100))) == 3


def test_what_no_tile_holds_whole_stays():
    tiles = [Tile(0, 0, 100, 100), Tile(90, 0, 100, 100)]
    found = [one([50, 10, 100, 60]), one([90, 10, 150, 60])]
    assert len(merge_seams(found, tiles, size=(190, 100))) == 2


def test_nothing_found_is_nothing_merged():
    tiles = tiles_of((100, 100), None, side=60, overlap=20)
    merged = merge_seams([Boxes(np.zeros((0, 4)), ()) for _ in tiles], tiles, size=(100, 100))
    assert len(merged) == 0 and merged.corners.shape == (0, 4)
