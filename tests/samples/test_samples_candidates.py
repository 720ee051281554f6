"""Candidates for nodules: lungs found with what sits on their pleura, blobs found where they are, tubes left."""

from __future__ import annotations

import numpy as np
import pytest

from medgraft.phantoms import KINDS
from medgraft.phantoms.case import Case
from medgraft.samples.candidates import Candidate, candidates_of, patches_of
from medgraft.samples.lungs import lung_mask

SPACING = (2.0, 1.5, 1.5)


def chest(*, balls: tuple[tuple[float, float, float, float, float], ...] = (), rods: bool = False) -> np.ndarray:
    """Two boxes of lung in a block of flesh in air; balls are (z, y, x in mm, radius in mm, HU)."""
    z, y, x = (np.arange(n) * s for n, s in zip((60, 120, 160), SPACING, strict=True))
    z, y, x = z[:, None, None], y[None, :, None], x[None, None, :]
    hu = np.full((60, 120, 160), -1000.0)
    hu[:, 8:-8, 8:-8] = 40.0
    for low, high in ((25, 105), (135, 215)):
        hu[(z > 10) & (z < 110) & (y > 30) & (y < 150) & (x > low) & (x < high)] = -860.0
    if rods:
        hu[np.broadcast_to((y - 90) ** 2 + (x - 65) ** 2 < 9, hu.shape)] = 40.0
        hu[np.broadcast_to((z - 60) ** 2 + (x - 175) ** 2 < 9, hu.shape)] = 40.0
    for at_z, at_y, at_x, radius, value in balls:
        hu[(z - at_z) ** 2 + (y - at_y) ** 2 + (x - at_x) ** 2 < radius**2] = value
    noise = np.random.default_rng(0).normal(0, 12, hu.shape)
    return (hu + noise).astype(np.float32)


def hits(found: list[Candidate], place: tuple[float, float, float], radius: float) -> list[Candidate]:
    centre = np.array(place) / SPACING
    return [one for one in found if np.linalg.norm((np.array(one.centre) - centre) * SPACING) < radius]


@pytest.fixture(scope="module")
def scan() -> Case:
    return next(case for case in (KINDS["ct_nodules"](k, seed=2, size=128) for k in range(5)) if len(case.lesions) > 1)


def test_the_mask_is_lung_and_keeps_nodules_inside(scan: Case):
    assert scan.anatomy is not None and scan.spacing_mm is not None
    mask = lung_mask(scan.pixels, scan.spacing_mm)
    names = scan.anatomy_names
    lung = np.isin(scan.anatomy, [names.index("right_lung"), names.index("left_lung")])
    assert mask[lung].mean() > 0.97
    assert mask[scan.mask > 0].mean() > 0.85
    assert mask[scan.anatomy == names.index("heart")].mean() < 0.1
    assert mask.sum() < 1.35 * lung.sum()


def test_a_ball_on_the_pleura_is_in_the_mask():
    place = (60.0, 90.0, 100.0)
    mask = lung_mask(chest(balls=((*place, 7.0, 40.0),)), SPACING)
    d, h, w = (round(p / s) for p, s in zip(place, SPACING, strict=True))
    assert mask[d, h, w]
    assert not lung_mask(np.full((20, 30, 30), 40.0), (2, 2, 2)).any()


def test_balls_of_both_kinds_are_found_first_and_where_they_are():
    solid, glass = (50.0, 80.0, 66.0), (70.0, 100.0, 176.0)
    found = candidates_of(chest(balls=((*solid, 4.0, 40.0), (*glass, 7.0, -580.0))), SPACING)
    (first,) = hits(found[:2], solid, 1.5)
    (second,) = hits(found[:2], glass, 2.0)
    assert first.score > second.score
    assert 2.5 < first.radius_mm < 6.0 and 4.0 < second.radius_mm < 11.0


def test_a_ball_outranks_what_rods_give():
    place = (40.0, 60.0, 66.0)
    found = candidates_of(chest(balls=((*place, 4.0, 40.0),), rods=True), SPACING)
    assert hits(found[:1], place, 2.0)
    assert all(one.score < 0.6 * found[0].score for one in found[1:])


def test_most_nodules_of_a_phantom_are_among_the_candidates(scan: Case):
    assert scan.spacing_mm is not None
    found = candidates_of(scan.pixels, scan.spacing_mm, most=60)
    assert 0 < len(found) <= 60
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert found == candidates_of(scan.pixels, scan.spacing_mm, most=60)
    centres = np.array([one.centre for one in found])
    large = [one for one in scan.lesions if one.radius > 3.5]
    for one in large:
        away = np.linalg.norm((centres - [one.slice, one.row, one.column]) * scan.spacing_mm, axis=1)  # type: ignore
        assert away.min() < one.radius, one


def test_nothing_is_found_where_there_is_no_lung():
    assert candidates_of(np.full((20, 40, 40), 30.0, np.float32), (2.0, 2.0, 2.0)) == []


def test_patches_show_the_three_planes_through_the_centre():
    volume = np.indices((30, 40, 50)).astype(np.float32)
    volume = volume[0] * 10000 + volume[1] * 100 + volume[2]
    one = Candidate((15.0, 20.0, 25.0), 3.0, 0.5, "solid")
    planes = patches_of(volume, one, spacing_mm=(2.0, 1.0, 1.0), side_mm=9.0, pixels=9)
    assert planes.shape == (3, 9, 9) and planes.dtype == np.float32
    assert (planes[:, 4, 4] == volume[15, 20, 25]).all()
    np.testing.assert_allclose(planes[0], volume[15, 16:25, 21:30])
    np.testing.assert_allclose(planes[1, ::2, :], volume[13:18, 20, 21:30])
    np.testing.assert_allclose(planes[2, ::2, :], volume[13:18, 16:25, 25])


def test_patches_beyond_the_edge_are_air():
    one = Candidate((0.0, 0.0, 0.0), 3.0, 0.5, "solid")
    planes = patches_of(np.full((5, 5, 5), 40.0, np.float32), one, spacing_mm=(1.0, 1.0, 1.0), side_mm=8, pixels=8)
    assert planes.min() == -1000 and planes.max() == 40
