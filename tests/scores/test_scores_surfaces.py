"""Distances of surfaces: against solids whose answer is known, and against the field of distances of all voxels."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from drawn_masks import ball, box, pairs_of_masks
from hypothesis import given, settings
from scipy import ndimage

from medgraft.errors import BadData
from medgraft.scores.surfaces import assd, border_gaps, element_sizes, hd, hd95, nsd

CUBES = (1.0, 1.0, 1.0)


def everything(first: np.ndarray, second: np.ndarray, spacing: tuple[float, ...], tolerance: float) -> list[float]:
    gaps = border_gaps(first, second, spacing=spacing)
    return [nsd(first, second, spacing=spacing, tolerance=tolerance), hd(gaps), hd95(gaps), assd(gaps)]


@pytest.mark.parametrize("spacing", [CUBES, (2.0, 0.5, 0.8)])
def test_of_concentric_balls_all_distances_are_the_difference_of_their_radii(spacing: tuple[float, ...]):
    shape = tuple(int(50 / step) for step in spacing)
    small, large = (ball(shape, (25.1, 25.3, 25.2), radius, spacing=spacing) for radius in (14, 19))
    gaps, off = border_gaps(small, large, spacing=spacing), max(spacing)  # the stairs of the voxels
    assert hd(gaps) == pytest.approx(5, abs=off) and hd95(gaps) == pytest.approx(5, abs=off)
    assert assd(gaps) == pytest.approx(5, abs=off / 4)
    near = [nsd(small, large, spacing=spacing, tolerance=5 + side * 1.5 * off) for side in (-1, 1)]
    assert near[0] < 0.01 and near[1] > 0.99


def test_sizes_are_areas_of_balls_and_lengths_of_circles():
    # Voxels overstate the area of a ball by some percent whatever their size: the slant of each piece is coarse.
    for spacing in (CUBES, (1.5, 1.0, 0.7)):
        mask = ball((70, 80, 100), (35, 35, 35), 25, spacing=spacing)
        assert 1.0 < element_sizes(mask, spacing=spacing).sum() / (4 * math.pi * 25**2) < 1.08
    disc = ball((120, 120), (60, 60), 50)
    assert 1.0 < element_sizes(disc, spacing=(1, 1)).sum() / (2 * math.pi * 50) < 1.06


def test_a_slanted_wall_counts_for_what_it_measures():
    rows, columns = np.indices((40, 40))
    # The triangle's hypotenuse and two sides; its three corners are cut.
    assert element_sizes(rows <= columns, spacing=(1, 1)).sum() == pytest.approx(40 * (2 + math.sqrt(2)), rel=0.02)
    planes = np.indices((30, 30, 30)).sum(axis=0)
    sides, slope = 3 * 30**2 / 2, math.sqrt(3) / 4 * 2 * 30**2
    assert element_sizes(planes <= 29, spacing=CUBES).sum() == pytest.approx(sides + slope, rel=0.05)


def test_a_box_has_the_area_of_its_sides_in_every_spacing():
    mask = box((60, 70, 80), (5, 5, 5), (55, 65, 75))
    wanted = 2 * (50 * 60 * 3.0 * 2.0 + 60 * 70 * 2.0 * 0.5 + 50 * 70 * 3.0 * 0.5)
    assert element_sizes(mask, spacing=(3.0, 2.0, 0.5)).sum() == pytest.approx(wanted, rel=0.02)


def test_a_box_beside_itself_has_the_distances_of_its_shift():
    first, second, spacing = box((30, 40), (5, 5), (25, 25)), box((30, 40), (5, 8), (25, 28)), (1.0, 0.5)
    gaps = border_gaps(first, second, spacing=spacing)
    assert hd(gaps) == 1.5 and hd95(gaps) == 1.5
    # Of the 76 border voxels of each the upper and lower rows share 17 and three stand out, by .5 to 1.5; the left
    # column lies 1.5 off, and of the right, within the other, two voxels are nearer to its rows.
    rows, left, right = 2 * (0.5 + 1.0), 20 * 1.5, 16 * 1.5 + 2 * 1.0
    assert assd(gaps) == pytest.approx((rows + left + right) / 76)
    assert nsd(first, second, spacing=spacing, tolerance=1.5) == 1.0
    # Each outline measures 2 x 20 and 2 x 10; of the latter 8.5 are shared.
    assert nsd(first, second, spacing=spacing, tolerance=0) == pytest.approx(2 * 8.5 / 60, abs=0.03)


def test_a_tolerance_of_whole_pixels_reaches_them_in_every_spacing():
    first, second = box((9, 20), (2, 2), (7, 10)), box((9, 20), (2, 2), (7, 13))
    for step in (0.1, 0.3, 0.7, 1.1):
        near = [nsd(first, second, spacing=(step, step), tolerance=pixels * step) for pixels in (2.99, 3)]
        assert near[0] < 1.0 and near[1] == 1.0


def test_at_95_percent_a_twentieth_of_the_border_may_lie_anywhere():
    truth = box((60, 130), (10, 10), (50, 110))
    spike = border_gaps(truth, truth | box((60, 130), (30, 110), (31, 112)), spacing=(1, 1))
    assert hd(spike) == 2 and hd95(spike) == 0
    lobe = border_gaps(truth, truth | box((60, 130), (15, 110), (45, 125)), spacing=(1, 1))
    assert hd95(lobe) == 15


def test_an_empty_mask_is_infinitely_far_and_two_have_no_distance():
    some, none = box((8, 8, 8), (2, 2, 2), (5, 5, 5)), np.zeros((8, 8, 8), dtype=bool)
    for pair in ((some, none), (none, some)):
        assert everything(*pair, CUBES, 100.0) == [0.0, math.inf, math.inf, math.inf]
    assert all(math.isnan(each) for each in everything(none, none, CUBES, 1.0))


def border(mask: np.ndarray) -> np.ndarray:
    """Voxels with a face to the outside, as the definition says."""
    padded, found = np.pad(mask, 1), np.zeros(mask.shape, dtype=bool)
    for place in np.argwhere(mask):
        faces = [
            tuple(place + 1 + side * np.eye(mask.ndim, dtype=int)[axis])
            for axis in range(mask.ndim)
            for side in (-1, 1)
        ]
        found[tuple(place)] = not all(padded[face] for face in faces)
    return found


def corners(mask: np.ndarray) -> np.ndarray:
    """Corners of the grid between inside and outside, as the definition says."""
    padded, found = np.pad(mask, 1), np.zeros([side + 1 for side in mask.shape], dtype=bool)
    for place in np.ndindex(found.shape):
        around = [padded[tuple(np.add(place, step))] for step in itertools.product((0, 1), repeat=mask.ndim)]
        found[place] = len(set(around)) == 2
    return found


@settings(max_examples=40, deadline=None)
@given(pairs_of_masks())
def test_distances_are_those_of_the_definition(case):
    first, second, spacing = case
    gaps = border_gaps(first, second, spacing=spacing)
    places = [np.argwhere(border(mask)) * spacing for mask in (first, second)]
    table = np.linalg.norm(places[0][:, None] - places[1], axis=2)
    directed = table.min(axis=1), table.min(axis=0)
    for found, wanted in zip((gaps.first, gaps.second), directed, strict=True):
        assert found == pytest.approx(wanted, abs=1e-9)
    assert hd(gaps) == pytest.approx(max(each.max() for each in directed), abs=1e-9)
    assert hd95(gaps) == pytest.approx(max(np.percentile(each, 95) for each in directed), abs=1e-9)
    assert assd(gaps) == pytest.approx(np.concatenate(directed).mean(), abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(pairs_of_masks())
def test_the_near_share_is_that_of_the_definition(case):
    first, second, spacing = case
    places = [np.argwhere(corners(mask)) * spacing for mask in (first, second)]
    sizes = [element_sizes(mask, spacing=spacing) for mask in (first, second)]
    assert all(((size > 0) == corners(mask)).all() for size, mask in zip(sizes, (first, second), strict=True))
    table = np.linalg.norm(places[0][:, None] - places[1], axis=2)
    sizes = [size[size > 0] for size in sizes]
    for tolerance in (0.0, 0.6, 1.0, 2.0):
        near = [sizes[0] @ (table.min(axis=1) <= tolerance + 1e-6), sizes[1] @ (table.min(axis=0) <= tolerance + 1e-6)]
        got = nsd(first, second, spacing=spacing, tolerance=tolerance)
        assert got == pytest.approx(sum(near) / (sizes[0].sum() + sizes[1].sum()))


@pytest.mark.parametrize("kind", ["near", "far", "inside", "noise", "dust"])
def test_every_way_to_the_nearest_gives_what_the_whole_field_says(kind: str):
    shape, spacing, random = (30, 50, 60), (2.0, 1.0, 0.7), np.random.default_rng(3)
    organ = ball(shape, (30, 25, 21), 18, spacing=spacing)
    other = {
        "near": ball(shape, (32, 26, 21), 17, spacing=spacing),
        "far": ball(shape, (5, 5, 38), 3, spacing=spacing),
        "inside": ball(shape, (30, 25, 21), 3, spacing=spacing),
        "noise": random.random(shape) < 0.4,
        "dust": random.random(shape) < 0.0005,
    }[kind]
    gaps = border_gaps(organ, other, spacing=spacing)
    there = [mask & ~ndimage.binary_erosion(mask) for mask in (organ, other)]
    for found, own, across in ((gaps.first, *there), (gaps.second, *there[::-1])):
        field = ndimage.distance_transform_edt(~across, sampling=spacing)
        assert found == pytest.approx(field[own], abs=1e-9)
    sizes = [element_sizes(mask, spacing=spacing) for mask in (organ, other)]
    fields = [ndimage.distance_transform_edt(size == 0, sampling=spacing) for size in sizes]
    for tolerance in (1.0, 30.0):
        near = sum(size[field <= tolerance].sum() for size, field in zip(sizes, fields[::-1], strict=True))
        got = nsd(organ, other, spacing=spacing, tolerance=tolerance)
        assert got == pytest.approx(near / (sizes[0].sum() + sizes[1].sum()))


@settings(max_examples=30, deadline=None)
@given(pairs_of_masks())
def test_scores_know_neither_order_nor_side_nor_frame(case):
    first, second, spacing = case
    wanted = everything(first, second, spacing, 1.0)
    turned = [mask.T for mask in (first, second)]
    mirrored = [mask[::-1, ..., ::-1] for mask in (first, second)]
    framed = [np.pad(mask, 2) for mask in (first, second)]
    for pair, steps in ((turned, spacing[::-1]), (mirrored, spacing), (framed, spacing), ((second, first), spacing)):
        assert everything(*pair, steps, 1.0) == pytest.approx(wanted, abs=1e-9)
    doubled = everything(first, second, tuple(2 * step for step in spacing), 2.0)
    assert doubled == pytest.approx([wanted[0], *(2 * each for each in wanted[1:])], abs=1e-9)
    assert everything(first, first, spacing, 0.0) == [1.0, 0.0, 0.0, 0.0]


def test_masks_that_do_not_fit_are_refused():
    with pytest.raises(BadData, match="shapes"):
        border_gaps(np.ones((3, 3)), np.ones((3, 4)), spacing=(1, 1))
    with pytest.raises(BadData, match="3 spacings for 2 axes"):
        nsd(np.ones((3, 3)), np.ones((3, 3)), spacing=(1, 1, 1), tolerance=1)
