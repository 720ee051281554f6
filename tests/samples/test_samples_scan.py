"""Scans: every order of the axes comes back exactly, and places are where the scanner says; candidates and truth."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgraft.errors import BadImage
from medgraft.files import save_nifti, save_png
from medgraft.samples.candidates import Candidate
from medgraft.samples.planes import LEFT_OUT, Looks, coloured, hits_of, pictures_of
from medgraft.samples.scan import Space, read_scan, upright
from medgraft.values import Boxes, ImageRef

BASE = np.array([[0.0, 0, -2.0, 30], [0, -1.5, 0, 20], [3.0, 0, 0, -90], [0, 0, 0, 1]])  # upright already
EVERY = list(product(permutations(range(3)), product((False, True), repeat=3)))


def turned(values: np.ndarray, order: tuple[int, ...], flips: tuple[bool, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Get an upright volume and its affine as a file with this order of axes has them."""
    out, affine = values.transpose(order), BASE[:, [*order, 3]].copy()
    for axis in range(3):
        if flips[axis]:
            affine[:, 3] += affine[:, axis] * (out.shape[axis] - 1)
            affine[:, axis] *= -1
    return np.flip(out, [axis for axis in range(3) if flips[axis]]), affine


@pytest.mark.parametrize(("order", "flips"), EVERY)
def test_every_order_of_axes_becomes_upright_and_comes_back(order: tuple[int, ...], flips: tuple[bool, ...]):
    values = np.arange(4 * 5 * 6).reshape(4, 5, 6)
    file, affine = turned(values, order, flips)
    turn = upright(affine)
    np.testing.assert_array_equal(turn.volume(file), values)
    places = np.argwhere(np.ones((4, 5, 6)))
    back = turn.back(places, file.shape)  # type: ignore[arg-type]
    np.testing.assert_array_equal(file[tuple(back.astype(int).T)], values.ravel())
    np.testing.assert_array_equal(turn.places(back, file.shape), places)  # type: ignore[arg-type]


@given(st.lists(st.floats(-0.5, 3.4), min_size=3, max_size=3), st.floats(0.5, 9))
def test_a_box_around_a_place_has_its_centre_and_its_size(place: list[float], radius: float):
    space = Space((40, 50, 60), (3.0, 1.5, 2.0), tuple(tuple(row) for row in BASE.tolist()))
    centre = np.array([place]) + 20
    box = space.around(centre, np.array([radius]))
    ras = space.ras_mm(box)
    assert ras is not None
    np.testing.assert_allclose(ras[0], (BASE @ [*centre[0], 1])[:3], atol=1e-9)
    np.testing.assert_allclose(space.diameter_mm(box), 2 * radius)
    assert Space.from_dict(space.to_dict()) == space


def test_scans_are_read_with_their_space_and_others_refused(tmp_path):
    values = np.random.default_rng(0).integers(-1000, 400, (8, 9, 10)).astype(np.int16)
    file, affine = turned(values, (2, 0, 1), (False, True, False))
    save_nifti(tmp_path / "a.nii.gz", file, affine=affine)
    scan = read_scan(ImageRef(tmp_path / "a.nii.gz"))
    np.testing.assert_array_equal(scan.hu, values)
    assert np.allclose(scan.spacing_mm, (3.0, 1.5, 2.0)) and scan.space.shape == file.shape
    save_png(tmp_path / "b.png", np.zeros((9, 9), np.uint8))
    with pytest.raises(BadImage, match="flat"):
        read_scan(ImageRef(tmp_path / "b.png"))


def test_candidates_hit_what_they_lie_in_and_are_left_out_beside_it():
    space = Space((40, 40, 40), (2.0, 1.0, 1.0), None)
    corners = np.array([[10.0, 10, 10, 16, 16, 13], [12, 12, 10, 30, 30, 20], [2, 2, 2, 4, 4, 4]])
    truth = Boxes(corners, ("a", "b", "c"), ignored=np.array([False, False, True]))
    places = np.array([[11.0, 12, 12], [15, 20, 20], [2.5, 2.5, 2.5], [11, 12, 7.5], [35, 35, 35]])
    assert hits_of(places, truth, space).tolist() == [0, 1, LEFT_OUT, LEFT_OUT, -1]
    assert hits_of(places, Boxes(np.zeros((0, 6)), ()), space).tolist() == [-1] * 5


def test_pictures_show_the_candidate_in_the_middle_through_each_window(tmp_path):
    values = np.full((30, 40, 50), -850, np.int16)
    values[14:17, 19:22, 24:27] = 40
    save_nifti(tmp_path / "a.nii.gz", values, affine=BASE)
    scan = read_scan(ImageRef(tmp_path / "a.nii.gz"))
    looks = Looks(5, (12.0, 24.0), 16, ((-600.0, 1500.0), (40.0, 80.0), (-700.0, 100.0)))
    pictures = pictures_of(scan, Candidate((15.0, 20.0, 25.0), 3.0, 1.0, "solid"), looks)
    assert pictures.shape == (2, 3, 3, 16, 16) and pictures.dtype == np.uint8
    middle, corner = pictures[..., 7:9, 7:9], pictures[1, ..., :2, :2]
    assert (middle[:, :, 0] > 140).all() and (np.abs(middle[:, :, 1].astype(int) - 128) < 3).all()
    assert (middle[:, :, 2] == 255).all() and (corner[:, 1:] == 0).all() and (corner[:, 0] < 90).all()
    assert Looks.from_dict(looks.to_dict()) == looks
    assert coloured(np.array([[-600.0]]), [(-600.0, 1500.0)]).tolist() == [[[128]]]


def test_people_see_ct_through_the_window_of_the_lung_and_other_scans_from_dark_to_bright(tmp_path):
    values = np.random.default_rng(0).integers(0, 2000, (20, 20, 20)).astype(np.int16)
    save_nifti(tmp_path / "mr.nii.gz", values, affine=BASE)
    centre, width = read_scan(ImageRef(tmp_path / "mr.nii.gz")).window
    assert abs(centre - 1000) < 30 and 1900 < width < 2000
    values[:4] = -1000
    save_nifti(tmp_path / "ct.nii.gz", values, affine=BASE)
    assert read_scan(ImageRef(tmp_path / "ct.nii.gz")).window == (-600.0, 1500.0)
