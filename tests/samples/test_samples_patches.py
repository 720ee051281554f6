"""Patches of volumes: boxes stay around what they enclose; the same patches whenever; all of what is small is shown."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medgraft.samples.patches import Patches, Volumes, Wholes, cut_out
from medgraft.values import InputSpec

SPEC = InputSpec(size=(16, 16), channels=1, mean=(0.0,), std=(1.0,))
SHAPE = (8, 12, 16)


def volumes(seed: int = 0, count: int = 3, size: tuple[int, int, int] = (20, 30, 40)) -> Volumes:
    """Get dark volumes with bright boxes in them."""
    random = np.random.default_rng(seed)
    voxels, boxes = [], []
    for _ in range(count):
        one = np.zeros((1, *size), np.uint8)
        low = np.array([random.integers(0, side - 5) for side in size])
        high = low + random.integers(2, 5, 3)
        one[:, low[0] : high[0], low[1] : high[1], low[2] : high[2]] = 200
        voxels.append(one)
        boxes.append(np.array([[*low[::-1], *high[::-1], 0, 0]], np.float32))
    return Volumes(tuple(f"scan {k}" for k in range(count)), voxels, boxes)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.integers(0, 50))
def test_every_box_of_a_patch_lies_exactly_around_what_is_bright(seed: int, epoch: int):
    source = Patches(volumes(seed), spec=SPEC, shape=SHAPE, each=4, batch_size=2, seed=seed)
    for place in range(3):
        pixels, boxes = source.patch(place, number=1, epoch=epoch)
        assert pixels.shape == (1, 1, *SHAPE)
        bright = (pixels[0, 0] > 0.39).numpy()  # half of what is bright: its edges after any stretching
        if len(boxes) and not boxes[0, 7]:
            places = np.argwhere(bright)
            edges = [*places.min(axis=0)[::-1], *(places.max(axis=0)[::-1] + 1)]
            np.testing.assert_allclose(boxes[0, :6], edges, atol=0.75)
            assert boxes[0, :6].astype(np.float64) @ [-1, -1, -1, 1, 1, 1] > 0
        elif not len(boxes):
            assert not bright.any()


def test_an_epoch_is_the_same_whenever_and_wherever_it_begins():
    source = Patches(volumes(), spec=SPEC, shape=SHAPE, each=4, batch_size=2, seed=5)
    whole, later = list(source.epoch(3)), list(source.epoch(3, start_step=4))
    assert len(whole) == len(source) == 6 and len(later) == 2
    for first, second in zip(whole[4:], later, strict=True):
        assert torch.equal(first.pixels, second.pixels) and first.keys == second.keys
        assert torch.equal(first.targets.nan_to_num(-1), second.targets.nan_to_num(-1))  # type: ignore[union-attr]
    assert sorted(key for batch in whole for key in batch.keys) == sorted(source.volumes.keys * 4)
    assert not torch.equal(whole[0].pixels, next(iter(source.epoch(4))).pixels)


def test_half_of_the_patches_and_more_show_a_finding_whole():
    source = Patches(volumes(count=1, size=(60, 80, 90)), spec=SPEC, shape=SHAPE, each=1, seed=1)
    shown = [source.patch(0, number=number, epoch=0)[1] for number in range(200)]
    whole = sum(len(boxes) == 1 and not boxes[0, 7] for boxes in shown)
    assert 80 < whole < 140


@pytest.mark.parametrize(("start", "left", "ignored"), [(2, 4.0, False), (5, 1.0, True), (6, 0.0, None)])
def test_what_is_hardly_seen_of_a_box_is_ignored(start: int, left: float, ignored: bool | None):
    boxes = np.array([[2, 2, 2, 6, 6, 6, 1, 0]], np.float32)
    _, found = cut_out(np.zeros((1, 20, 20, 20), np.uint8), boxes, start=np.array([start, 0, 0]), shape=(8, 8, 8))
    if ignored is None:
        assert len(found) == 0
    else:
        assert found[0, 5] - found[0, 2] == left and bool(found[0, 7]) == ignored and found[0, 6] == 1


def test_a_volume_that_is_smaller_than_a_patch_is_filled_up():
    source = Patches(volumes(size=(6, 30, 40)), spec=SPEC, shape=SHAPE, each=1, batch_size=2)
    assert all(batch.pixels.shape[1:] == (1, *SHAPE) for batch in source.epoch(0))


def test_whole_volumes_come_one_by_one_with_all_their_boxes():
    own = volumes()
    batches = list(Wholes(own, spec=SPEC).epoch())
    assert [batch.keys for batch in batches] == [(key,) for key in own.keys]
    for batch, voxels, boxes in zip(batches, own.voxels, own.boxes, strict=True):
        np.testing.assert_array_equal(batch.pixels[0].numpy() > 0.5, voxels > 128)
        np.testing.assert_array_equal(batch.targets[0].numpy(), boxes)  # type: ignore[index]
