"""Volumes on another grid: the way there and back is exact, and the pixels are where the boxes say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medgraft.samples.resampling import regrid, resampled, stretched, windowed

counts = st.tuples(*[st.integers(1, 120)] * 3)  # 120 x 8 mm at .75 mm stay below the largest grid
sizes = st.tuples(*[st.floats(0.3, 8)] * 3)
places = st.lists(st.tuples(*[st.floats(-10, 500)] * 6), max_size=5)


@given(counts, sizes, st.floats(0.75, 5), places)
def test_boxes_and_places_come_back_exactly(shape: tuple, spacing: tuple, to_mm: float, corners: list):
    way = regrid(shape, spacing, to_mm=to_mm)
    boxes = np.array(corners, float).reshape(-1, 6)
    np.testing.assert_allclose(way.boxes_back(way.boxes(boxes)), boxes, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(way.points_back(way.points(boxes[:, :3])), boxes[:, :3], rtol=1e-12, atol=1e-9)
    whole = np.array([[0, 0, 0, *shape[::-1]]], float)
    np.testing.assert_allclose(way.boxes(whole)[0, 3:], way.to_shape[::-1])
    extent = np.array(shape) * spacing
    np.testing.assert_allclose(np.array(way.to_shape) * way.spacing_mm, extent)


@given(counts, sizes, st.floats(0.75, 5))
def test_places_and_edges_are_half_a_voxel_apart_on_both_grids(shape: tuple, spacing: tuple, to_mm: float):
    way = regrid(shape, spacing, to_mm=to_mm)
    centre = np.array([[3.0, 4.0, 5.0]])
    edge = np.tile(centre[:, ::-1] + 0.5, 2)
    np.testing.assert_allclose(way.boxes(edge)[0, :3][::-1], way.points(centre)[0] + 0.5, rtol=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.7, 4.0))
def test_a_blob_is_where_its_place_goes(seed: int, to_mm: float):
    rng = np.random.default_rng(seed)
    shape, spacing = (22, 30, 34), (2.5, 1.2, 1.7)
    centre = np.array(shape) / 2 + rng.uniform(-2, 2, 3)
    off = [(np.arange(n) - c) * s for n, c, s in zip(shape, centre, spacing, strict=True)]
    blob = np.exp(-(off[0][:, None, None] ** 2 + off[1][:, None] ** 2 + off[2] ** 2) / (2 * 5.0**2))
    out, way = resampled(blob, spacing, to_mm=to_mm)
    found = np.array([np.average(grid, weights=out) for grid in np.indices(out.shape)])
    np.testing.assert_allclose(way.points_back(found[None])[0], centre, atol=0.12)


def test_a_constant_stays_and_a_ramp_stays_straight():
    flat, _ = resampled(np.full((7, 9, 11), -850.0), (3.0, 1.0, 1.0), to_mm=1.3)
    np.testing.assert_allclose(flat, -850.0, rtol=1e-5)
    ramp = np.broadcast_to(np.arange(20.0)[:, None, None], (20, 4, 4))
    fine = stretched(ramp, (40, 4, 4))[:, 0, 0]
    np.testing.assert_allclose(fine[1:-1], (np.arange(40)[1:-1] + 0.5) / 2 - 0.5, atol=1e-5)


def test_nothing_small_is_skipped_by_larger_voxels():
    for place in range(12):
        volume = np.zeros((12, 1, 1), np.float32)
        volume[place] = 1
        assert stretched(volume, (4, 1, 1)).max() > 0.1


@pytest.mark.parametrize("wrong", [{"to_mm": 0.0}, {"to_mm": float("nan")}, {"spacing_mm": (1.0, -1.0, 1.0)}])
def test_a_grid_that_cannot_be_is_refused(wrong: dict):
    wanted = {"spacing_mm": (1.0, 1.0, 1.0), "to_mm": 2.0, **wrong}
    with pytest.raises(ValueError, match="above 0"):
        regrid((4, 4, 4), wanted["spacing_mm"], to_mm=wanted["to_mm"])
    with pytest.raises(ValueError, match="voxels"):
        regrid((500, 500, 500), (1.0, 1.0, 1.0), to_mm=0.01)


def test_windows_are_those_of_a_workstation():
    hu = np.array([-1350.0, -600.0, 150.0, 3000.0])
    np.testing.assert_allclose(windowed(hu, "lung"), [0, 0.5, 1, 1])
    np.testing.assert_allclose(windowed(np.array([-160.0, 240.0]), "soft_tissue"), [0, 1])
    np.testing.assert_allclose(windowed(hu, (-600, 1500)), windowed(hu, "lung"))
    with pytest.raises(ValueError, match="mediastinum"):
        windowed(hu, "brain")
    with pytest.raises(ValueError, match="above 0"):
        windowed(hu, (0.0, 0.0))
