"""Scores of one label map: against formulas, and what missed, wrongly found and unknown structures get."""

from __future__ import annotations

import math

import numpy as np
import pytest
from drawn_masks import ball, box, pairs_of_masks
from hypothesis import given, settings

from medgraft.errors import BadData
from medgraft.scores.mask_cases import MaskScores, mask_scores

WORST = ("hd95", "assd")
SHAPE = (20, 30, 40)
SPACING = (2.5, 1.0, 0.8)
DIAGONAL = math.sqrt((20 * 2.5) ** 2 + 30**2 + (40 * 0.8) ** 2)


def one(truth: np.ndarray, found: np.ndarray, classes: tuple[str, ...] = ("a",), **words: object) -> MaskScores:
    settings = {"spacing_mm": SPACING if np.ndim(truth) == 3 else None, "tolerance": 1.0, "thin": True} | words
    return mask_scores(truth, found, classes=classes, **settings)


def test_balls_that_are_shifted_share_a_lens():
    shape, radius = (60, 60, 70), 20.0
    for shift in (4, 12, 25):
        truth, found = (ball(shape, (30, 30, 22 + off), radius).astype(np.uint8) for off in (0, shift))
        got = one(truth, found, spacing_mm=(1, 1, 1), thin=False)
        lens = math.pi * (4 * radius + shift) * (2 * radius - shift) ** 2 / 12
        whole = 4 / 3 * math.pi * radius**3
        assert got["dice"][0] == pytest.approx(lens / whole, abs=0.005)
        assert got["iou"][0] == pytest.approx(lens / (2 * whole - lens), abs=0.005)
        assert got["sensitivity"][0] == got["precision"][0] == got["dice"][0]
        assert got["volume_error"][0] == 0 and got["true_volume"][0] == pytest.approx(whole, rel=0.005)
        # By Archimedes the cosine is uniform over a ball's surface.
        cosine = np.linspace(-1, 1, 20_001)
        far = np.abs(np.sqrt(radius**2 + shift**2 - 2 * radius * shift * cosine) - radius)
        assert got["assd"][0] == pytest.approx(far.mean(), abs=0.3)
        assert got["hd95"][0] == pytest.approx(np.quantile(far, 0.95), abs=0.7)


def test_boxes_give_the_shares_of_their_voxels():
    truth = box(SHAPE, (2, 2, 2), (10, 12, 22)) * 1
    found = box(SHAPE, (2, 2, 12), (10, 12, 37)) * 1
    got = one(truth, found)
    true, called, both = 8 * 10 * 20, 8 * 10 * 25, 8 * 10 * 10
    wanted = {"dice": 2 * both / (true + called), "iou": both / (true + called - both), "sensitivity": both / true}
    wanted |= {
        "precision": both / called,
        "volume_error": 0.25,
        "true_volume": true * 2.0,
        "found_volume": called * 2.0,
    }
    wanted |= {"hd95": 15 * 0.8}
    assert {name: got[name][0] for name in wanted} == pytest.approx(wanted)
    flat = one(truth[5], found[5])
    assert flat.unit == "px" and flat.axes == 2 and flat["true_volume"][0] == 200 and flat["hd95"][0] == 15


def test_a_missed_class_gets_the_worst():
    truth = box(SHAPE, (2, 2, 2), (10, 12, 22)) * 2
    got = one(truth, np.zeros(SHAPE, dtype=int), ("a", "b"))
    for name in ("dice", "iou", "sensitivity", "nsd", "cldice"):
        assert got[name][1] == 0, name
    assert [got[name][1] for name in WORST] == pytest.approx([DIAGONAL] * 2)
    assert got["volume_error"][1] == -1 and math.isnan(got["precision"][1])
    assert got.missed.tolist() == [False, True] and got.absent.tolist() == [True, False]
    assert np.isnan(got.values[0, :-3]).all() and math.isnan(got["cldice"][0]) and got["true_volume"][0] == 0


def test_a_class_that_is_not_there_and_found_gets_the_worst_and_no_share_of_its_truth():
    found = box(SHAPE, (2, 2, 2), (3, 3, 3)) * 1
    got = one(np.zeros(SHAPE, dtype=int), found, ("a", "b"))
    assert [got[name][0] for name in ("dice", "iou", "precision", "nsd", "cldice")] == [0] * 5
    assert [got[name][0] for name in WORST] == pytest.approx([DIAGONAL] * 2)
    assert math.isnan(got["volume_error"][0]) and math.isnan(got["sensitivity"][0])
    assert got.false_finds.tolist() == [True, False] and got["found_volume"][0] == 2.0


def test_no_find_is_scored_better_than_the_worst_of_a_missed_one():
    """Else a model would gain by saying nothing: the farthest speck in the image is nearer than its diagonal."""
    truth, found = np.zeros((2, 20, 30), dtype=int)
    truth[0, 0] = found[-1, -1] = 1
    speck, nothing = one(truth, found), one(truth, np.zeros_like(found))
    assert all(speck[name][0] < nothing[name][0] for name in WORST)
    assert speck["volume_error"][0] > nothing["volume_error"][0]


def test_what_is_unknown_counts_neither_for_nor_against():
    truth = box((20, 20), (5, 5), (15, 15)).astype(np.uint8)
    found = truth.copy()
    found[:, 12:] = 1
    assert one(truth, found)["dice"][0] < 1
    truth[:, 12:] = 255
    got = one(truth, found)
    assert all(got[name][0] == 1 for name in ("dice", "iou", "sensitivity", "precision", "nsd", "cldice"))
    assert got["hd95"][0] == got["volume_error"][0] == 0 and got["found_volume"][0] == got["true_volume"][0] == 70
    truth[:] = 255
    assert one(truth, found).absent.all()


def test_each_class_is_scored_as_if_alone():
    random = np.random.default_rng(0)
    truth, found = (random.integers(0, 4, (12, 14)) for _ in range(2))
    together = one(truth, found, ("a", "b", "c"))
    for kind in range(3):
        alone = one((truth == kind + 1) * 1, (found == kind + 1) * 1)
        assert together.values[kind] == pytest.approx(alone.values[0], nan_ok=True)
    assert together.classes == ("a", "b", "c") and together.values.shape == (3, len(together.names))


@settings(max_examples=50, deadline=None)
@given(pairs_of_masks(empty=True))
def test_scores_know_neither_side_nor_order_of_axes(case):
    first, second, spacing = case
    words = {"spacing_mm": spacing, "thin": False}
    wanted = one(first * 1, second * 1, **words)
    mirrored = one(first[::-1] * 1, second[::-1] * 1, **words)
    turned = one(first.T * 1, second.T * 1, spacing_mm=spacing[::-1], thin=False)
    for other in (mirrored, turned):
        assert other.values == pytest.approx(wanted.values, nan_ok=True, abs=1e-9)
    swapped = one(second * 1, first * 1, **words)
    for name, back in (("dice", "dice"), ("nsd", "nsd"), ("hd95", "hd95"), ("assd", "assd"), ("iou", "iou")):
        assert swapped[name] == pytest.approx(wanted[back], nan_ok=True, abs=1e-9)
    if first.any() and second.any():
        assert swapped["sensitivity"] == pytest.approx(wanted["precision"])
    known = wanted.values[:, : len(wanted.names) - 2]
    shares = [name for name in ("dice", "iou", "sensitivity", "precision", "nsd") if np.isfinite(wanted[name][0])]
    assert all(0 <= wanted[name][0] <= 1 for name in shares) and np.isinf(known).sum() == 0


@pytest.mark.parametrize(
    ("truth", "found", "words", "says"),
    [
        (np.zeros((3, 3), int), np.zeros((3, 4), int), {}, "shape"),
        (np.zeros((3, 3)), np.zeros((3, 3), int), {}, "whole numbers"),
        (np.zeros((3, 3), int), np.full((3, 3), 2), {}, "found label map holds 2, which is no class. 0 to 1"),
        (np.zeros((3, 3), int), np.full((3, 3), 255), {}, "found label map holds 255"),
        (np.full((3, 3), -1), np.zeros((3, 3), int), {}, "true label map holds -1"),
        (np.zeros((3, 3), int), np.zeros((3, 3), int), {"spacing_mm": (1, 1, 1)}, "no spacing of 2 axes"),
        (np.zeros((3, 3), int), np.zeros((3, 3), int), {"spacing_mm": (1, 0)}, "no spacing"),
        (np.zeros((3, 3), int), np.zeros((3, 3), int), {"tolerance": math.nan}, "tolerance"),
        (np.zeros(3, int), np.zeros(3, int), {}, "no plane and no volume"),
    ],
)
def test_maps_that_cannot_be_scored_say_why(truth, found, words, says):
    with pytest.raises(BadData, match=says) as error:
        one(truth, found, key="case 7", **words)
    assert error.value.where == "case 7"
