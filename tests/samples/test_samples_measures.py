"""What structures measure: formulas of discs, boxes and balls, and the same answers as other libraries."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from medgraft.samples.contours import pieces_of
from medgraft.samples.measures import Grid, columns_of, longest, measured, perimeter

MASKS = arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12))


def disc(radius: float, size: int = 121, *, stretch: tuple[float, float] = (1, 1)) -> np.ndarray:
    rows, columns = (np.arange(size) - size // 2 for _ in range(2))
    return (rows[:, None] * stretch[0]) ** 2 + (columns * stretch[1]) ** 2 <= radius**2


@given(MASKS)
@settings(deadline=None)
def test_perimeter_of_square_pixels_is_that_of_another_library(mask):
    from skimage.measure import perimeter_crofton

    assert perimeter(mask) == pytest.approx(perimeter_crofton(np.pad(mask, 1), directions=4))


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 1.0), (1.0, 0.4)])
def test_perimeter_of_a_disc_is_known_whatever_the_pixels(spacing):
    found = perimeter(disc(40, size=301, stretch=spacing), spacing)
    assert found == pytest.approx(2 * math.pi * 40, rel=0.03)


@given(MASKS)
def test_outlines_filled_again_are_the_mask(mask):
    """Counted by crossings to the left of each pixel's centre, as any program fills a polygon."""
    rings = [ring for piece in pieces_of(mask) for ring in (piece.outer, *piece.holes)]
    crossings = np.zeros(mask.shape, int)
    for ring in rings:
        for (x0, y0), (x1, y1) in zip(ring.tolist(), np.roll(ring, -1, axis=0).tolist(), strict=True):
            if x0 == x1:
                crossings[min(y0, y1) : max(y0, y1), x0:] += 1
    assert np.array_equal(crossings % 2 == 1, mask)


@given(MASKS)
def test_outlines_have_a_piece_a_part_and_the_area_of_the_mask(mask):
    from scipy.ndimage import label

    pieces = pieces_of(mask)
    assert len(pieces) == label(mask)[1]

    def area(ring: np.ndarray) -> float:
        x, y = ring.T
        return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)

    assert all(area(piece.outer) > 0 and all(area(hole) < 0 for hole in piece.holes) for piece in pieces)
    assert sum(area(p.outer) + sum(area(hole) for hole in p.holes) for p in pieces) == mask.sum()


def walked(ring: np.ndarray) -> list[tuple[int, int]]:
    """Every corner of a pixel that a ring comes to, one after the other."""
    found = []
    for (x0, y0), (x1, y1) in zip(ring.tolist(), np.roll(ring, -1, axis=0).tolist(), strict=True):
        steps = max(abs(x1 - x0), abs(y1 - y0))
        found += [(x0 + (x1 - x0) * k // steps, y0 + (y1 - y0) * k // steps) for k in range(steps)]
    return found


@given(MASKS)
def test_no_ring_meets_itself_and_two_meet_in_a_point_alone(mask):
    """What makes a polygon valid: pixels across a corner belong to one ring only where that comes there once."""
    for piece in pieces_of(mask):
        rings = [walked(ring) for ring in (piece.outer, *piece.holes)]
        assert all(len(ring) == len(set(ring)) for ring in rings)
        for one, two in itertools.combinations(rings, 2):
            assert len(set(one) & set(two)) <= 1


def test_holes_that_touch_at_a_corner_are_two_and_a_bay_closed_by_a_corner_is_a_hole():
    mask = np.ones((5, 5), bool)
    mask[1, 1] = mask[2, 2] = False
    (piece,) = pieces_of(mask)
    assert [len(piece.outer), *sorted(map(len, piece.holes))] == [4, 4, 4]
    bay = np.ones((3, 3), bool)
    bay[1, 1] = bay[2, 2] = False
    (piece,) = pieces_of(bay)
    assert [len(piece.outer), *map(len, piece.holes)] == [6, 4]


def test_a_box_of_a_picture_measures_what_it_is():
    labels = np.zeros((40, 60), np.uint8)
    labels[10:20, 5:35] = 2
    values = np.stack([np.where(labels == 2, 7.0, 0.0)])
    (row,) = measured(labels, values, grid=Grid((0.5, 0.2)))
    assert row["structure"] == 2 and row["pixels"] == 300
    assert row["area_mm2"] == pytest.approx(300 * 0.1)
    assert [row[name] for name in ("x0", "y0", "x1", "y1")] == [5, 10, 35, 20]
    assert (row["x"], row["y"]) == (19.5, 14.5)
    assert (row["mean"], row["sd"]) == (7, 0)
    assert row["equivalent_diameter_mm"] == pytest.approx(2 * math.sqrt(30 / math.pi))
    assert row["feret_mm"] == pytest.approx(math.hypot(29 * 0.2, 10 * 0.5))  # from edge to edge of the corner pixels


def test_without_spacing_nothing_is_said_in_millimetres():
    labels = np.ones((4, 4), np.uint8)
    (row,) = measured(labels, np.zeros((3, 4, 4)), grid=Grid())
    assert not [name for name in row if name.endswith("mm") or name.endswith("mm2")]
    assert row["feret_px"] > 4 and {"mean_red", "mean_green", "sd_blue"} <= set(row)


def test_a_ball_of_a_volume_measures_what_it_is_and_lies_where_it_does():
    depth, rows, columns = np.indices((30, 40, 50))
    steps = np.array([2.0, 1.0, 0.8])
    away = ((depth - 14) * 2.0) ** 2 + ((rows - 20) * 1.0) ** 2 + ((columns - 25) * 0.8) ** 2
    labels = (away <= 12**2).astype(np.uint8)
    affine = np.array([[0, 0, -0.8, 100], [0, 1.0, 0, -50], [2.0, 0, 0, 7], [0, 0, 0, 1.0]])
    (row,) = measured(labels, depth[None].astype(float), grid=Grid(tuple(steps), affine))
    volume = 4 / 3 * math.pi * 12**3
    assert row["volume_mm3"] == pytest.approx(volume, rel=0.03)
    assert row["volume_ml"] == pytest.approx(row["volume_mm3"] / 1000)
    assert row["surface_mm2"] == pytest.approx(4 * math.pi * 12**2, rel=0.15)  # steps make a mesh longer
    assert row["equivalent_diameter_mm"] == pytest.approx(24, rel=0.01)
    assert row["feret_mm"] == pytest.approx(26)  # from the outer side of the first slice to that of the last
    assert [row[name] for name in "xyz"] == pytest.approx([25, 20, 14])
    place = [row[f"ras_{name}_mm"] for name in "xyz"]
    assert place == pytest.approx([100 - 0.8 * 25, -50 + 20, 7 + 2 * 14])
    assert row["mean"] == pytest.approx(14)


def test_structures_come_in_the_order_of_their_numbers_and_missing_numbers_are_left_out():
    labels = np.array([[5, 5, 0], [0, 0, 2]])
    rows = measured(labels, np.zeros((1, 2, 3)), grid=Grid())
    assert [row["structure"] for row in rows] == [2, 5]
    assert columns_of(rows)[:2] == ["structure", "pixels"]


@given(arrays.arrays(np.float64, (30, 3), elements=st.floats(-100, 100)))
@settings(deadline=None)
def test_the_longest_distance_is_that_of_all_pairs(points):
    from scipy.spatial.distance import pdist

    assert longest(points) == pytest.approx(pdist(points).max(), abs=1e-6)
