"""A scan on the grid of a net: every order of axes, every box comes back; where lungs are; windows."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medgraft.errors import BadImage
from medgraft.files import save_nifti
from medgraft.samples.framing import LUNGS, Frame, FrameForm, framed
from medgraft.samples.resampling import regrid, stretched
from medgraft.samples.scan import Space, Turn
from medgraft.values import ImageRef
from tiny_scans import AFFINE, SHAPE, SPACING, draw

EVERY = [Turn(order, flips) for order, flips in product(permutations(range(3)), product((False, True), repeat=3))]
WINDOWS = ((-600.0, 1500.0), (40.0, 400.0), (-650.0, 700.0))


@settings(deadline=None)
@given(
    st.sampled_from(EVERY),
    st.tuples(*[st.integers(0, 3)] * 3),
    st.tuples(*[st.floats(0.7, 5.0)] * 3),
    st.integers(0, 2**31),
)
def test_boxes_of_a_file_come_back_from_the_net_in_all_48_orders(turn, start, to_mm, seed):
    shape = (12, 17, 23)
    upright = [shape[axis] for axis in turn.order]
    kept = tuple(size - first for size, first in zip(upright, start, strict=True))
    frame = Frame(Space(shape, (3.0, 1.0, 2.0), None), turn, start, regrid(kept, (2.0, 2.0, 2.0), to_mm=to_mm))
    random = np.random.default_rng(seed)
    low = random.uniform(0, 8, (5, 3))
    corners = np.concatenate([low, low + random.uniform(0.5, 4, (5, 3))], axis=1)
    there = frame.boxes(corners)
    assert (there[:, 3:] > there[:, :3]).all()
    np.testing.assert_allclose(frame.boxes_back(there), corners, atol=1e-9)
    assert Frame.from_dict(frame.to_dict()) == frame


@settings(deadline=None)
@given(
    st.sampled_from(EVERY),
    st.tuples(*[st.integers(0, 3)] * 3),
    st.tuples(*[st.floats(0.7, 5.0)] * 3),
    st.integers(0, 2**31),
)
def test_a_part_of_the_net_is_the_same_part_of_the_file_in_all_48_orders(turn, start, to_mm, seed):
    shape = (12, 17, 23)
    upright = [shape[axis] for axis in turn.order]
    kept = tuple(size - first for size, first in zip(upright, start, strict=True))
    frame = Frame(Space(shape, (3.0, 1.0, 2.0), None), turn, start, regrid(kept, (2.0, 2.0, 2.0), to_mm=to_mm))
    random = np.random.default_rng(seed)
    whole = np.zeros(frame.way.to_shape, np.float32)
    at = [int(random.integers(side)) for side in whole.shape]
    ends = [int(random.integers(first + 1, side + 1)) for first, side in zip(at, whole.shape, strict=True)]
    inside = tuple(slice(a, b) for a, b in zip(at, ends, strict=True))
    whole[inside] = random.uniform(0.5, 1, whole[inside].shape)
    part, first = frame.part_back(whole[inside], (at[0], at[1], at[2]))
    own = np.zeros(shape, np.float32)
    own[tuple(slice(a, a + n) for a, n in zip(first, part.shape, strict=True))] = part
    # The long way: the whole volume brought back, then put where it was cut out of the upright file.
    there = np.zeros(upright, np.float32)
    there[tuple(slice(first, None) for first in start)] = stretched(whole, frame.way.shape)
    np.testing.assert_allclose(turn.volume(own), there, atol=1e-5)
    np.testing.assert_array_equal(turn.volume_back(turn.volume(own)), own)
    low, high = frame.boxes_back(np.array([[*at[::-1], *ends[::-1]]], float))[0].reshape(2, 3)
    assert (np.array(first[::-1]) <= low + 1e-9).all() and (np.array(first) + part.shape >= high[::-1] - 1e-9).all()


def test_on_the_files_own_grid_a_part_comes_back_number_by_number():
    for turn in EVERY:
        shape = (4, 5, 6)
        values = np.arange(120, dtype=np.float32).reshape(shape)
        upright = turn.volume(values)
        frame = Frame(Space(shape, (1.0,) * 3, None), turn, (0, 0, 0), regrid(upright.shape, (1.0,) * 3, to_mm=1.0))
        part, (d, h, w) = frame.part_back(upright[1:3, 2:4, 1:4], (1, 2, 1))
        depth, height, width = part.shape
        np.testing.assert_array_equal(part, values[d : d + depth, h : h + height, w : w + width])


def test_a_box_holds_the_same_voxels_in_the_file_and_in_the_net(tmp_path: Path):
    values = np.full((14, 15, 16), -1000, np.int16)
    values[3:6, 4:9, 5:7] = 500
    for order, flips in product(permutations(range(3)), product((False, True), repeat=3)):
        turned, affine = values.transpose(order), AFFINE[:, [*order, 3]].copy()
        for axis in range(3):
            if flips[axis]:
                affine[:, 3] += affine[:, axis] * (turned.shape[axis] - 1)
                affine[:, axis] *= -1
        file = np.ascontiguousarray(np.flip(turned, [axis for axis in range(3) if flips[axis]]))
        save_nifti(tmp_path / "a.nii.gz", file, affine=affine)
        seen = framed(ImageRef(tmp_path / "a.nii.gz"), FrameForm(SPACING, "all", WINDOWS))
        bright = np.argwhere(file == 500)
        corners = np.array([[*bright.min(axis=0)[::-1], *(bright.max(axis=0)[::-1] + 1)]], float)
        x0, y0, z0, x1, y1, z1 = np.rint(seen.frame.boxes(corners)[0]).astype(int)
        inside = np.zeros(seen.voxels.shape[1:], bool)
        inside[z0:z1, y0:y1, x0:x1] = True
        np.testing.assert_array_equal(seen.voxels[0] > 128, inside)


def test_the_box_around_the_lungs_holds_every_finding_and_less_than_the_scan(tmp_path: Path):
    for index in range(3):
        hu, boxes = draw(index)
        save_nifti(tmp_path / f"{index}.nii.gz", hu, affine=AFFINE)
        seen = framed(ImageRef(tmp_path / f"{index}.nii.gz"), FrameForm((3.0, 2.5, 2.5), LUNGS, WINDOWS))
        assert seen.voxels.shape[0] == 3 and seen.voxels.dtype == np.uint8
        assert np.prod(seen.voxels.shape[1:]) < 0.9 * np.prod(SHAPE)
        inside = seen.frame.boxes(boxes.corners)
        ends = np.tile(seen.voxels.shape[:0:-1], 2)
        assert (inside >= 0).all() and (inside <= ends).all()


def test_without_lungs_and_without_hounsfield_units_the_whole_is_shown_from_dark_to_bright(tmp_path: Path):
    values = np.random.default_rng(0).integers(0, 4000, (9, 10, 11)).astype(np.int16)
    save_nifti(tmp_path / "mr.nii.gz", values, affine=AFFINE)
    seen = framed(ImageRef(tmp_path / "mr.nii.gz"), FrameForm((3.0, 2.5, 2.5), LUNGS))
    assert seen.voxels.shape == (1, 9, 10, 11)
    assert seen.voxels.min() == 0 and seen.voxels.max() == 255


def test_a_grid_that_is_far_too_fine_is_refused_with_what_to_do(tmp_path: Path):
    save_nifti(tmp_path / "a.nii.gz", np.zeros((9, 10, 11), np.int16), affine=AFFINE)
    with pytest.raises(BadImage, match="voxels"):
        framed(ImageRef(tmp_path / "a.nii.gz"), FrameForm((0.01, 0.01, 0.05)))
