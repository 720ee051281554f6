"""Patches with label maps: both move together, unknown outside, the same bits again; ways of things."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medgraft.samples.augment import moved_labels
from medgraft.samples.mask_edges import thing_planes, ways_of
from medgraft.samples.mask_patches import Cut, MaskCases, MaskPatches, MaskWholes, cut_out
from medgraft.samples.picture_grid import UNKNOWN
from medgraft.samples.presets import Preset, preset
from medgraft.samples.things import Parting, certainties, cut, told_apart
from medgraft.tasks.segment import in_pixels
from medgraft.values import InputSpec

GRAY = InputSpec(size=(64, 64), channels=1, mean=(0.0,), std=(1.0,))


def flat_cases(count: int = 3, side: int = 96) -> MaskCases:
    """Images whose bright pixels are class 1 and whose middling ones are class 2."""
    pixels, masks = [], []
    for number in range(count):
        mask = np.zeros((side, side), np.uint8)
        mask[20:50, 10 + number : 40] = 1
        mask[60:80, 50:85] = 2
        pixels.append(np.choose(mask, [0, 250, 120]).astype(np.uint8)[None])
        masks.append(mask)
    return MaskCases(tuple(f"image {n}" for n in range(count)), pixels, masks)


MOVES = Preset(name="moves", rotation=40, zoom_in=0.3, zoom_out=0.2, shear=8, shift=0.1, flip_h=0.5, turns=0.5)


def test_a_label_follows_its_pixels_through_every_change():
    patches = MaskPatches(flat_cases(), spec=GRAY, cut=Cut((64, 64), each=6), preset=MOVES, batch_size=6, seed=3)
    seen = 0
    for batch in patches.epoch(2):
        values, labels = batch.pixels[:, 0].numpy(), batch.targets.numpy()
        for level, number in ((0.98, 1), (0.47, 2)):
            inside = labels == number
            seen += int(inside.sum())
            # Pixels are linear and labels nearest: they differ along edges alone.
            assert (np.abs(values[inside] - level) < 0.05).mean() > 0.8
        assert (values[labels == 0] > 0.1).mean() < 0.1
    assert seen > 2000


def test_what_comes_from_outside_is_unknown():
    drawn = {"rotation": 0.0, "shear": 0.0, "stretch": 1.0, "zoom": 0.5, "turns": 0.0, "flip_h": 0.0, "flip_v": 0.0}
    drawn |= {"shift_x": 0.0, "shift_y": 0.0, "elastic": 0.0, "key": 1}
    moved = moved_labels(np.full((8, 8), 3, np.uint8), drawn, unknown=UNKNOWN)
    assert (moved[2:6, 2:6] == 3).all() and (moved[[0, 1, 6, 7]] == UNKNOWN).all()
    numbers = moved_labels(np.full((8, 8), 70_000, np.int32), drawn, unknown=-1)
    assert (numbers[2:6, 2:6] == 70_000).all() and (numbers[0] == -1).all()


def test_a_patch_larger_than_the_image_is_black_and_unknown_there():
    pixels, mask = cut_out(
        np.full((1, 4, 5), 9, np.uint8), np.ones((4, 5), np.uint8), start=np.array([0, 0]), shape=np.array([6, 8])
    )
    assert pixels.shape == (1, 6, 8) and (pixels[0, :4, :5] == 9).all() and pixels.sum() == 9 * 20
    assert (mask[:4, :5] == 1).all() and (mask == UNKNOWN).sum() == 28


def test_an_epoch_is_the_same_from_any_step_and_another_one_differs():
    words = {"spec": GRAY, "cut": Cut((32, 32), each=4), "batch_size": 4, "preset": preset("generic"), "seed": 1}
    whole = list(MaskPatches(flat_cases(), **words).epoch(5))
    later = list(MaskPatches(flat_cases(), **words).epoch(5, start_step=1))
    assert len(whole) == 3 and len(later) == 2
    for one, two in zip(whole[1:], later, strict=True):
        assert one.keys == two.keys
        torch.testing.assert_close(one.pixels, two.pixels, rtol=0, atol=0)
        torch.testing.assert_close(one.targets, two.targets, rtol=0, atol=0)
    other = next(iter(MaskPatches(flat_cases(), **words).epoch(6)))
    assert not torch.equal(other.pixels, whole[0].pixels)


def test_small_classes_are_shown_as_often_as_large_ones():
    cases = flat_cases(1, 256)
    cases.masks[0][:] = 0
    cases.masks[0][:, :120] = 1
    cases.masks[0][200:204, 200:204] = 2
    patches = MaskPatches(cases, spec=GRAY, cut=Cut((32, 32), each=120, around=1.0), batch_size=8)
    shown = [int((batch.targets == 2).flatten(1).any(1).sum()) for batch in patches.epoch(0)]
    assert 35 < sum(shown) < 85  # half of 120; by chance alone a patch shows it once in fifty


def test_patches_of_volumes_are_mirrored_only_where_they_may_be():
    mask = np.zeros((20, 24, 24), np.uint8)
    mask[:8] = 1  # below
    mask[12:] = 2  # above
    pixels = np.choose(mask, [0, 100, 200]).astype(np.uint8)[None]
    cases = MaskCases(("scan",), [pixels], [mask])
    for mirrors, turned in (((1, 2), False), ((0, 1, 2), True)):
        cut = Cut((20, 24, 24), each=24, around=0.0, mirrors=mirrors)
        first = []
        for batch in MaskPatches(cases, spec=GRAY, cut=cut, batch_size=2, seed=2).epoch(0):
            assert batch.pixels.shape[1:] == (1, 20, 24, 24) and batch.targets.dtype == torch.uint8
            for one in batch.targets.numpy():
                rows = [np.flatnonzero((one == k).any(axis=(1, 2))).mean() for k in (1, 2)]
                first.append(rows[0] < rows[1])
        assert (not all(first)) == turned


def test_wholes_are_as_they_are():
    cases = flat_cases()
    batches = list(MaskWholes(cases, spec=GRAY).epoch())
    assert [batch.keys for batch in batches] == [("image 0",), ("image 1",), ("image 2",)]
    np.testing.assert_array_equal(batches[1].targets[0].numpy(), cases.masks[1])
    np.testing.assert_allclose(batches[1].pixels[0, 0].numpy(), cases.pixels[1][0] / 255, atol=1e-6)


# ---- things -----------------------------------------------------------------------------------------------------


def discs() -> np.ndarray:
    """Things that touch: two discs side by side, a large one alone, one of three pixels' width."""
    y, x = np.mgrid[:80, :120]
    things = np.zeros((80, 120), np.int32)
    for number, (row, column, radius) in enumerate([(20, 20, 12), (20, 43, 12), (50, 90, 25), (70, 10, 2)], start=1):
        things[(y - row) ** 2 + (x - column) ** 2 < radius**2] = number
    return things


def test_the_way_leads_from_each_pixel_to_the_middle_of_its_thing():
    things = discs()
    kinds, _, *ways = thing_planes(things)
    np.testing.assert_array_equal(kinds, (things > 0).astype(np.float32))
    down, across = in_pixels(torch.from_numpy(np.stack(ways))).numpy()
    np.testing.assert_allclose((down[20, 31], across[20, 31]), (0, -11), atol=1e-4)  # of the left of two that touch
    np.testing.assert_allclose((down[20, 33], across[20, 33]), (0, 10), atol=1e-4)
    y, x = np.mgrid[:80, :120]
    large = things == 3
    np.testing.assert_allclose((y + down)[large], 50, atol=1e-3)
    np.testing.assert_allclose((x + across)[large], 90, atol=1e-3)
    assert not down[things == 0].any() and not across[things == 0].any()


def test_a_gap_is_where_two_things_meet_and_not_where_one_ends():
    things = discs()
    gap = thing_planes(things)[1]
    assert gap[20, 31:33].max() == 1
    assert gap[50, 64:67].max() < 0.01  # the large one is alone
    assert gap[20, 8:10].max() < 0.01  # the far side of one that touches
    near = np.zeros((20, 30), np.int32)
    near[5:15, 3:13], near[5:15, 17:27] = 1, 2  # four pixels lie between them
    assert thing_planes(near)[1][10, 14:16].max() == 1
    assert thing_planes(np.where(near == 2, 0, near))[1].max() == 0
    assert thing_planes(np.zeros((4, 4), np.int32))[1].max() == 0


def test_unknown_parts_have_no_middle():
    things = discs()
    things[:, 100:] = -1
    planes = thing_planes(things)
    assert (planes[0, :, 100:] == 255).all() and not planes[2:, :, 100:].any()


@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_things_are_told_apart_by_the_votes_of_their_pixels(noise):
    things = discs()
    ways = ways_of(things) + np.random.default_rng(0).normal(0, noise, (2, *things.shape))
    found = told_apart((things > 0).astype(float), ways)
    for number in range(1, 4 if noise else 5):
        own = found[things == number]
        most = np.bincount(own).argmax()
        overlap = ((found == most) & (things == number)).sum() / ((found == most) | (things == number)).sum()
        assert most > 0 and overlap > 0.9
    assert noise or found.max() == 4


def test_a_shallow_valley_parts_nothing_unless_asked():
    body = np.ones((20, 41))
    ways = np.zeros((2, 20, 41))
    columns = np.arange(41)
    ways[1] = np.where(columns < 20, 17, 23) - columns[None]  # two middles six pixels apart
    ways[0] = 10 - np.arange(20)[:, None]
    assert told_apart(body, ways, parting=Parting(valley=0.6)).max() == 2
    ways[1] = 15 + columns / 4 - columns[None]  # votes spread evenly between both
    assert told_apart(body, ways, parting=Parting(valley=0.6)).max() == 1


def test_a_speck_is_no_thing_where_things_are_larger():
    things = np.zeros((40, 60), np.int32)
    things[4:24, 4:24], things[30:33, 40:44] = 1, 2  # 400 pixels, and 12
    body, ways = (things > 0).astype(float), ways_of(things)
    assert told_apart(body, ways).max() == 2
    found = told_apart(body, ways, parting=Parting(least=13))
    assert found.max() == 1 and ((found > 0) == (things == 1)).all()
    assert told_apart(body, ways, parting=Parting(least=12)).max() == 2
    # Pixels of a net twice as fine in each direction are a quarter of those of the file.
    assert Parting(least=48).on(0.25) == Parting(least=12)


def test_what_is_not_sure_is_no_thing_and_the_others_keep_their_pixels():
    things = np.zeros((40, 60), np.int32)
    things[4:24, 4:24], things[28:38, 30:50] = 1, 2
    inside, ways = np.array([0.1, 0.95, 0.7])[things], ways_of(things)
    np.testing.assert_allclose(certainties(things, inside), [0.95, 0.7])
    assert told_apart(inside, ways).max() == 2 == told_apart(inside, ways, parting=Parting(sure=0.65)).max()
    np.testing.assert_array_equal(told_apart(inside, ways, parting=Parting(sure=0.8)), things == 1)
    assert told_apart(inside, ways, parting=Parting(sure=0.99)).max() == 0


def test_a_seam_parts_what_votes_for_one_middle_and_a_scratch_does_not():
    body = np.zeros((24, 40))
    body[2:22, 4:36] = 1
    ways = np.stack([11.5 - np.indices(body.shape)[0], 19.5 - np.indices(body.shape)[1]])  # all for one middle
    seams = np.zeros(body.shape)
    seams[:, 17:21] = (0.6, 0.9, 0.8, 0.6)
    found = told_apart(body, ways, seams=seams)
    assert found.max() == 2 and ((found > 0) == (body > 0)).all()
    assert len(np.unique(found[2:22, 4:18])) == len(np.unique(found[2:22, 20:36])) == 1  # the ridge lies between
    assert told_apart(body, ways, seams=seams, parting=Parting(seam=1.0)).max() == 1
    assert told_apart(body, ways, seams=seams, parting=Parting(seam=0.95)).max() == 1
    seams[:8] = 0  # it does not run through
    assert told_apart(body, ways, seams=seams).max() == 1
    seams[:] = 0
    seams[2:5, 4:8] = 0.9
    seams[2:4, 4:7] = 0  # what it cuts off is too small for a thing
    assert told_apart(body, ways, seams=seams).max() == 1


def test_a_cut_leaves_its_neighbours_and_what_hangs_together_at_corners():
    things = np.zeros((20, 44), np.int32)
    things[4:16, 2:26], things[4:16, 26:38] = 1, 2
    things[17, 40], things[18, 41] = 3, 3  # one thing of two corners
    seams = np.zeros(things.shape)
    seams[:, 13:15], seams[:, 24:28] = 0.9, 0.99  # through the first; and where the votes have parted both already
    found = cut(things, seams)
    assert found.max() == 3  # specks of two pixels are none
    assert ((found > 0) == ((things > 0) & (things < 3))).all()
    assert len(np.unique(found[4:16, 26:38])) == 1 and (found == found[10, 30]).sum() == 144
    corners = np.zeros((12, 12), np.int32)
    corners[2:5, 2:5] = corners[5:8, 5:8] = 1
    seams = np.zeros((12, 12))
    seams[11, 11] = 1
    assert cut(corners, seams).max() == 1
    seams[3, 3] = 0.9
    assert cut(corners, seams).max() == 2  # a seam in it, and pieces that no side joins


def test_a_body_that_votes_elsewhere_is_a_thing_and_specks_are_none():
    inside = np.zeros((30, 30), np.float32)
    inside[2:12, 2:12] = 1
    inside[20:26, 20:26] = 1
    inside[28, 28] = 1
    ways = np.zeros((2, 30, 30), np.float32)
    ways[:] = 6 - np.indices((30, 30))  # all vote for the first
    found = told_apart(inside, ways)
    assert found.max() == 2 and (found > 0).sum() == 136
    assert told_apart(np.zeros((5, 5)), np.zeros((2, 5, 5))).max() == 0
