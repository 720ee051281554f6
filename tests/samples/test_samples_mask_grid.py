"""Label maps on the grid of a net and back: every order of axes, one stretch, the class that covers most."""

from __future__ import annotations

import tracemalloc
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from medgraft.errors import BadImage
from medgraft.files import save_nifti
from medgraft.samples.framing import Frame, FrameForm
from medgraft.samples.mask_grid import SolidFrame, form_from, frame_from, laid
from medgraft.samples.picture_grid import PictureForm, PictureFrame
from medgraft.samples.resampling import regrid, stretched
from medgraft.samples.scan import Space, Turn
from medgraft.values import ImageRef

EVERY = [Turn(order, flips) for order, flips in product(permutations(range(3)), product((False, True), repeat=3))]


def solid(turn: Turn, shape: tuple[int, int, int], to_shape: tuple[int, int, int] | None = None) -> SolidFrame:
    upright = tuple(shape[axis] for axis in turn.order)
    way = regrid(upright, (1.0, 1.0, 1.0), to_mm=1.0)
    if to_shape is not None:
        way = type(way)(upright, to_shape, (1.0, 1.0, 1.0))
    return SolidFrame(Frame(Space(shape, (1.0, 1.0, 1.0), None), turn, (0, 0, 0), way))


@settings(deadline=None)
@given(st.sampled_from(EVERY), st.integers(0, 2**31))
def test_a_label_map_comes_back_voxel_by_voxel_in_all_48_orders(turn, seed):
    labels = np.random.default_rng(seed).integers(0, 4, (3, 4, 5)).astype(np.uint8)
    frame = solid(turn, labels.shape)
    there = frame.laid(labels)
    assert there.shape == tuple(labels.shape[axis] for axis in turn.order)
    chances = np.stack([(there == k).astype(np.float32) for k in range(4)])
    np.testing.assert_array_equal(frame.drawn(chances), labels)
    assert frame_from(frame.to_dict()) == frame


@settings(deadline=None)
@given(st.sampled_from(EVERY), st.integers(0, 2**31))
def test_probabilities_of_a_finer_grid_become_classes_where_they_are_in_the_file(turn, seed):
    """A marked voxel of the file is in the same place after a grid twice as fine, whichever way its axes run."""
    random = np.random.default_rng(seed)
    shape = (9, 10, 11)
    labels, middles = np.zeros(shape, np.uint8), {}
    for number, first in ((1, 0), (2, 5)):
        start = [int(random.integers(first, first + 2)), *(int(random.integers(side - 4)) for side in shape[1:])]
        labels[tuple(slice(one, one + 4) for one in start)] = number
        middles[number] = tuple(one + 1 for one in start)
    fine = tuple(2 * shape[axis] for axis in turn.order)
    frame = solid(turn, shape, fine)
    upright = turn.volume(labels)
    chances = np.stack([np.kron(upright == k, np.ones((2, 2, 2))).astype(np.float32) for k in range(3)])
    drawn = frame.drawn(chances)
    assert [int(drawn[middles[number]]) for number in (1, 2)] == [1, 2]
    assert (drawn != labels).sum() <= 2 * (64 - 32)  # corners of blocks are rounded off
    assert ((drawn == labels) | (drawn == 0)).all()


def test_classes_are_compared_after_one_linear_stretch():
    random = np.random.default_rng(0)
    chances = random.random((3, 6, 5, 4)).astype(np.float32)
    frame = solid(Turn(), (9, 8, 7), (6, 5, 4))
    wanted = np.stack([stretched(one, (9, 8, 7)) for one in chances]).argmax(axis=0)
    np.testing.assert_array_equal(frame.drawn(chances), wanted)


def test_a_coarser_voxel_is_of_the_class_that_covers_most_and_unknown_counts_too():
    labels = np.zeros((8, 8), np.uint8)
    labels[:4, :4] = 2
    labels[4:, :4] = 255
    labels[0, 0] = 1
    frame = PictureFrame((8, 8), (2, 2))
    np.testing.assert_array_equal(frame.laid(labels), [[2, 0], [255, 0]])
    things = np.arange(64, dtype=np.int32).reshape(8, 8)
    assert frame.numbered(things).tolist() == [[18, 22], [50, 54]]  # of the pixel at the centre


@pytest.mark.parametrize("shape", [(16, 12), (7, 9), (31, 20)])
def test_classes_of_a_picture_are_compared_one_by_one_with_the_same_result(shape):
    chances = np.random.default_rng(0).random((5, 16, 12)).astype(np.float32)
    chances[3] = chances[1]  # of two that are equal the first counts
    frame = PictureFrame(shape, (16, 12))
    found = frame.drawn(chances)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, frame.back(chances).argmax(axis=0))


def test_many_classes_of_a_large_picture_are_not_held_at_once():
    chances = np.random.default_rng(0).random((40, 8, 8)).astype(np.float32)
    tracemalloc.start()
    PictureFrame((500, 500), (8, 8)).drawn(chances)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * 4 * 500 * 500  # bytes: a few planes of 40


@pytest.mark.parametrize("shape", [(7, 9), (31, 20)])
def test_a_picture_map_comes_back_in_the_size_of_the_file(shape):
    chances = np.zeros((2, 16, 12), np.float32)
    chances[1, :8] = 1
    chances[0, 8:] = 1
    drawn = PictureFrame(shape, (16, 12)).drawn(chances)
    assert drawn.shape == shape
    half = shape[0] // 2
    assert (drawn[: half - 1] == 1).all() and (drawn[half + 1 :] == 0).all()


def test_how_large_a_picture_gets(tmp_path):
    assert PictureForm(1, 0.5).shape_for((100, 61), None) == (50, 30)
    assert PictureForm(1, None, side=64).shape_for((100, 50), None) == (64, 32)
    assert PictureForm(1, None, um_per_px=250.0).shape_for((100, 50), (0.5, 0.25)) == (200, 50)
    with pytest.raises(BadImage, match="how large its pixels are"):
        PictureForm(1, None, um_per_px=250.0).shape_for((100, 50), None)
    Pillow.fromarray(np.zeros((40, 30, 3), np.uint8)).save(tmp_path / "a.png")
    one = laid(ImageRef(tmp_path / "a.png"), PictureForm(3, 2.0))
    assert one.pixels.shape == (3, 80, 60) and one.frame.shape == (40, 30)
    with pytest.raises(BadImage, match="is flat"):
        laid(ImageRef(tmp_path / "a.png"), FrameForm((1.0, 1.0, 1.0)))


def test_a_dim_picture_can_have_levels_of_its_own(tmp_path):
    values = np.full((40, 40, 3), 20, np.uint8)
    values[10:30, 10:30] = (30, 60, 40)
    Pillow.fromarray(values).save(tmp_path / "dim.png")
    own = laid(ImageRef(tmp_path / "dim.png"), PictureForm(3, own_levels=True)).pixels
    assert own[:, 0, 0].tolist() == [0, 0, 0]
    assert own[:, 20, 20].tolist() == [64, 255, 128]  # one pair of levels for all channels: the colour stays
    Pillow.fromarray(np.full((40, 40), 7, np.uint8)).save(tmp_path / "empty.png")
    assert laid(ImageRef(tmp_path / "empty.png"), PictureForm(1, own_levels=True)).pixels.max() == 0
    Pillow.fromarray(values[..., 1].astype(np.uint16) * 10).save(tmp_path / "deep.png")
    deep = laid(ImageRef(tmp_path / "deep.png"), PictureForm(1, own_levels=True)).pixels
    assert deep.dtype == np.uint16 and deep[0, 20, 20] > 20 * deep[0, 0, 0]
    assert PictureForm.from_dict(PictureForm(3, own_levels=True).to_dict()).own_levels


def test_a_volume_is_laid_with_its_space_and_a_picture_form_refuses_it(tmp_path):
    affine = np.diag([2.0, 1.0, 1.0, 1.0])
    save_nifti(tmp_path / "v.nii.gz", np.arange(60, dtype=np.int16).reshape(3, 4, 5), affine=affine)
    one = laid(ImageRef(tmp_path / "v.nii.gz"), FrameForm((1.0, 1.0, 1.0)))
    assert one.frame.spacing_mm == (2.0, 1.0, 1.0)
    assert one.frame.shape == (3, 4, 5)
    with pytest.raises(BadImage, match="is a volume"):
        laid(ImageRef(tmp_path / "v.nii.gz"), PictureForm(1))


def test_forms_are_read_back():
    for form in (PictureForm(3, None, 384, window=(40.0, 400.0)), FrameForm((2.0, 1.0, 1.0), "all", ((40.0, 400.0),))):
        assert form_from(form.to_dict()) == form
