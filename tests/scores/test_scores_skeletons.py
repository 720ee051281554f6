"""Middle lines: of shapes whose line is known, with every connection kept; and clDice of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from drawn_masks import ball, box, pairs_of_masks
from hypothesis import given, settings
from scipy import ndimage

from medgraft.errors import BadData
from medgraft.scores.skeletons import cldice, skeleton


def ring(shape: tuple[int, int], *, inner: float, outer: float) -> np.ndarray:
    centre = ((shape[0] - 1) / 2, (shape[1] - 1) / 2)
    return ball(shape, centre, outer) & ~ball(shape, centre, inner)


def euler(mask: np.ndarray) -> int:
    """Cells of the union of closed voxels, counted with alternating sign: parts less tunnels plus hollows."""
    padded = np.pad(mask, 1)
    total = 0
    for cell in np.ndindex(*(2,) * mask.ndim):
        # A cell that is flat along an axis (1) belongs to both voxels beside it.
        size = tuple(1 + flat for flat in cell)
        touched = ndimage.maximum_filter(padded, size)
        total += (-1) ** (mask.ndim - sum(cell)) * int(touched.sum())
    return total


def shape_of(mask: np.ndarray) -> tuple[int, int, int]:
    """Parts, parts of the outside, Euler's number."""
    whole = np.ones((3,) * mask.ndim)
    return ndimage.label(mask, whole)[1], ndimage.label(np.pad(~mask, 1, constant_values=True))[1], euler(mask)


@settings(max_examples=60, deadline=None)
@given(pairs_of_masks(empty=True))
def test_no_connection_hole_or_tunnel_is_lost_or_made(case):
    for mask in case[:2]:
        line = skeleton(mask)
        assert not (line & ~mask).any()
        assert shape_of(line) == shape_of(mask)


def test_smooth_bodies_keep_their_connections_too():
    random = np.random.default_rng(0)
    for shape in ((60, 60), (24, 26, 28)):
        mask = ndimage.gaussian_filter(random.normal(size=shape), 2) > 0.02
        line = skeleton(mask)
        assert shape_of(line) == shape_of(mask) and line.sum() < 0.25 * mask.sum()


def test_lines_of_known_shapes():
    line = box((9, 30), (4, 3), (5, 27))
    assert (skeleton(line) == line).all()
    bar = skeleton(box((9, 40), (2, 4), (7, 36)))
    rows, columns = np.nonzero(bar)
    assert set(rows.tolist()) <= {3, 4, 5} and bar[:, 9:31].sum(axis=0).tolist() == [1] * 22
    assert columns.min() <= 9 and columns.max() >= 30
    round_ = skeleton(ring((41, 41), inner=10, outer=16))
    place = np.argwhere(round_) - 20
    assert shape_of(round_)[:2] == (1, 2) and np.linalg.norm(place, axis=1) == pytest.approx(13, abs=2)
    assert skeleton(ball((31, 31, 31), (15, 15, 15), 9)).sum() == 1
    tube = skeleton(box((40, 11, 11), (3, 3, 3), (37, 8, 8)))
    assert tube[8:32].sum(axis=(1, 2)).tolist() == [1] * 24 and tube[:, 4:7, 4:7].sum() == tube.sum()


def test_small_and_even_things_keep_a_voxel():
    for shape in ((1, 1), (2, 2), (2, 2, 2), (4, 4, 6), (2, 2, 9)):
        assert skeleton(np.ones(shape, dtype=bool)).any(), shape
    assert not skeleton(np.zeros((5, 5), dtype=bool)).any()


def test_cldice_counts_lines_and_not_widths():
    vessel = box((20, 100), (8, 0), (13, 100))
    assert cldice(vessel, vessel) == 1.0
    wide, narrow = box((20, 100), (6, 0), (15, 100)), box((20, 100), (10, 0), (11, 100))
    assert cldice(vessel, wide) == 1.0 and cldice(vessel, narrow) == 1.0
    broken = vessel & ~box((20, 100), (0, 40), (20, 60))
    # All of the found line is right, some 80 of the true 100 columns are held.
    assert cldice(vessel, broken) == pytest.approx(2 * 0.8 / 1.8, abs=0.01)
    assert cldice(broken, vessel) == cldice(vessel, broken)
    twig = narrow | box((20, 100), (0, 70), (9, 71))
    extra = (skeleton(twig) & ~vessel).sum() / skeleton(twig).sum()
    assert 0.05 < extra < 0.1 and cldice(vessel, twig) == pytest.approx(2 * (1 - extra) / (2 - extra))


def test_cldice_in_volumes_and_where_a_mask_is_empty():
    tube, none = box((40, 12, 12), (0, 4, 4), (40, 9, 9)), np.zeros((40, 12, 12), dtype=bool)
    half = tube & box((40, 12, 12), (0, 0, 0), (20, 12, 12))
    assert cldice(tube, half) == pytest.approx(2 * 0.5 / 1.5, abs=0.03)
    assert cldice(tube, none) == cldice(none, tube) == 0.0 and math.isnan(cldice(none, none))
    assert cldice(tube, ~ndimage.binary_dilation(tube)) == 0.0


def test_other_axes_are_refused():
    with pytest.raises(BadData, match="middle line"):
        skeleton(np.ones(4, dtype=bool))
