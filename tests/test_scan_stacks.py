"""Which slices of a scan a page shows, and that a box is in exactly those that it reaches, however the file lies."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest

from medgraft.detection.scans.drawn import gallery
from medgraft.detection.scans.stacks import layer, marks_of, stack_of
from medgraft.files import save_nifti
from medgraft.report.boxes import ALARM, HIT, MISSED
from medgraft.report.slices import BUTTONS, MOST, SIDE, Stack
from medgraft.samples.scan import Scan, Space, read_scan, upright
from medgraft.scores.boxes import Detections
from medgraft.scores.hits import HitRule, outcomes
from medgraft.values import Boxes, ImageRef
from tiny_scans import AFFINE, draw

WAYS = [(order, flips) for order in permutations(range(3)) for flips in product((False, True), repeat=3)]
RULE, LIMITS = HitRule("centre"), {"nodule": 0.5}


def boxes(*corners: tuple[float, ...], scores: list[float] | None = None) -> Boxes:
    found = None if scores is None else np.array(scores)
    return Boxes(np.array(corners, float).reshape(-1, 6), ("nodule",) * len(corners), found)


def scan_of(hu: np.ndarray, affine: np.ndarray | None = AFFINE) -> Scan:
    rows = None if affine is None else tuple(tuple(float(v) for v in row) for row in affine)
    spacing = (3.0, 2.5, 2.5) if affine is None else tuple(np.linalg.norm(affine[:3, :3], axis=0).tolist())
    turn = upright(affine)
    hu = np.asarray(turn.volume(hu), np.float32)
    space = Space(tuple(np.array(hu.shape)[np.argsort(turn.order)].tolist()), spacing, rows)  # type: ignore[arg-type]
    first, second, third = (spacing[axis] for axis in turn.order)
    return Scan(hu, (first, second, third), turn, space, {})


def marks_in(scan: Scan, truth: Boxes, found: Boxes):
    every = Detections(("a",), (truth,), (found,), ("nodule",))
    return marks_of(scan, every, 0, one=outcomes(every, LIMITS, hit=RULE)[0])


@pytest.mark.parametrize(("order", "flips"), WAYS)
def test_a_box_is_in_exactly_the_slices_that_its_voxels_are_in(order: tuple[int, ...], flips: tuple[bool, ...]):
    affine = np.eye(4)
    for axis, (row, flip, step) in enumerate(zip(order, flips, (3.0, 2.0, 1.5), strict=True)):
        affine[:3, axis] = 0
        affine[row, axis] = -step if flip else step
    inside = np.zeros((11, 14, 17), np.float32)
    inside[4:7, 2:10, 12:13] = 1  # d, h, w of the file
    scan = scan_of(inside, affine)
    (mark,) = marks_in(scan, boxes((12, 2, 4, 13, 10, 7)), boxes(scores=[]))
    reached = [level for level in range(len(scan.hu)) if scan.hu[level].any()]
    assert [level for level in range(len(scan.hu)) if mark.on(level)] == reached
    assert mark.middle in reached and abs(mark.middle - (reached[0] + reached[-1]) / 2) <= 0.5
    rows, columns = (np.flatnonzero(scan.hu[mark.middle].any(axis=axis)) for axis in (1, 0))
    assert mark.frame == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)


@pytest.mark.parametrize(
    ("low", "high", "slices"),
    [
        (3.0, 5.0, [3, 4]),
        (3.4, 4.6, [3, 4]),
        (3.6, 4.4, [4]),  # reaches the middle of no slice: the nearest one
        (3.5, 5.5, [3, 4, 5]),
        (3.51, 5.49, [4]),
        (-2.0, 1.0, [0]),
        (9.9, 14.0, [10, 11]),
        (11.6, 11.9, [11]),
    ],
)
def test_edges_between_voxels_are_taken_by_the_middle_of_a_slice(low: float, high: float, slices: list[int]):
    scan = scan_of(np.zeros((12, 8, 8)), np.diag([1.0, -1, -1, 1])[[2, 1, 0, 3]])  # as it lies in the file
    assert scan.turn.order == (0, 1, 2) and not any(scan.turn.flipped)
    (mark,) = marks_in(scan, boxes((1, 1, low, 3, 3, high)), boxes(scores=[]))
    assert [level for level in range(12) if mark.on(level)] == slices


def test_boxes_come_missed_first_then_alarms_then_hits_and_the_surest_of_each():
    truth = boxes((0, 0, 0, 4, 4, 4), (10, 10, 10, 14, 14, 14), (20, 20, 20, 24, 24, 24))
    apart = [(30 + 5 * k, 30, 30, 34 + 5 * k, 34, 34) for k in range(2)]
    found = boxes(
        (1, 1, 1, 3, 3, 3), (11, 11, 11, 13, 13, 13), *apart, (0, 30, 0, 4, 34, 4), scores=[0.6, 0.9, 0.7, 0.8, 0.2]
    )
    marks = marks_in(scan_of(np.zeros((40, 52, 76))), truth, found)
    assert [(one.kind, one.score) for one in marks] == [
        ("missed", None),
        ("alarm", 0.8),
        ("alarm", 0.7),
        ("hit", 0.9),
        ("hit", 0.6),
    ]
    assert (marks[0].first, marks[0].last) == (20, 23) and (marks[-1].first, marks[-1].last) == (1, 2)


def test_the_slice_through_the_middle_of_each_box_is_there_and_sizes_hold():
    hu = np.random.default_rng(0).normal(-800, 200, (150, 400, 512)).astype(np.float32)
    corners = [(10, 10, z, 20, 20, z + 3) for z in range(1, 148, 4)]
    marks = marks_in(scan_of(hu, np.diag([1.0, -1, -1, 1])[[2, 1, 0, 3]]), boxes(*corners), boxes(scores=[]))
    scan = scan_of(hu, np.diag([1.0, -1, -1, 1])[[2, 1, 0, 3]])
    stack = stack_of(scan, marks, begin=marks[-1].middle)
    assert (
        len(marks) == 37
        and {mark.middle for mark in marks[:BUTTONS]} <= set(stack.levels)
        and stack.begin in stack.levels
    )
    assert len(stack.levels) == len(stack.layers) == len(stack.places_mm) <= MOST and stack.depth == 150
    assert set(range(0, 150, stack.step)) <= set(stack.levels)
    assert {one.shape for one in stack.layers} == {(250, SIDE)} and stack.size == (400, 512)
    few = stack_of(scan_of(hu[:40, :100, :100]), [], begin=3)
    assert few.levels == tuple(range(40)) and few.step == 1
    np.testing.assert_array_equal(few.layers[7], layer(scan_of(hu[:40, :100, :100]), 7))


def test_a_slice_says_where_it_is_as_the_tables_do(tmp_path: Path):
    hu, truth = draw(1)
    # From the head to the feet, its axes in another order, tilted by some degrees.
    turned, affine = np.flip(hu.transpose(2, 0, 1), 1), AFFINE[:, [2, 0, 1, 3]].copy()
    affine[:, 3] += affine[:, 1] * (turned.shape[1] - 1)
    affine[:, 1] *= -1
    save_nifti(tmp_path / "a.nii.gz", turned, affine=affine)
    scan = read_scan(ImageRef(tmp_path / "a.nii.gz"))
    there = truth.corners[:, [1, 2, 0, 4, 5, 3]].copy()
    there[:, [1, 4]] = hu.shape[0] - there[:, [4, 1]]
    (low, high), middle = there[0].reshape(2, 3), float(scan.space.ras_mm(there)[0, 2])  # type: ignore[index]
    assert (low < high).all()
    mark = marks_in(scan, boxes(there[0]), boxes(scores=[]))[0]
    stack = stack_of(scan, [mark], begin=mark.middle)
    assert abs(stack.places_mm[stack.levels.index(mark.middle)] - middle) <= 1.5 + 1e-3  # half a slice
    assert stack.places_mm[0] == pytest.approx(-400) and stack.places_mm[-1] == pytest.approx(-400 + 39 * 3)
    assert not stack.from_first
    unknown = stack_of(scan_of(hu, None), [], begin=0)
    assert unknown.from_first and unknown.places_mm[:3] == (0.0, 3.0, 6.0)


def test_scans_with_mistakes_have_a_stack_that_begins_with_the_slice_that_is_shown(tmp_path: Path):
    hu, _ = draw(0)
    images = {}
    for key in ("right", "wrong", "missing"):
        save_nifti(tmp_path / f"{key}.nii.gz", hu, affine=AFFINE)
        images[key] = ImageRef(tmp_path / f"{key}.nii.gz")
    one, other = (20.0, 20.0, 10.0, 26.0, 26.0, 14.0), (40.0, 20.0, 13.0, 50.0, 28.0, 20.0)
    truth = (boxes(one), boxes(one), boxes(one, other))
    found = (boxes(one, scores=[0.9]), boxes(one, other, scores=[0.9, 0.8]), boxes(scores=[]))
    shown, _ = gallery(Detections(tuple(images), truth, found, ("nodule",)), LIMITS, RULE, images=images)
    assert [card["key"] for card in shown] == ["missing", "wrong"]
    assert [[mark.kind for mark in card["stack"].marks] for card in shown] == [["missed", "missed"], ["alarm", "hit"]]
    for card, level, colours, absent in (
        (shown[0], 12, (MISSED,), (ALARM, HIT)),
        (shown[1], 16, (ALARM,), (HIT, MISSED)),
    ):
        stack: Stack = card["stack"]
        assert stack.begin == level
        there = {tuple(colour) for colour in np.unique(card["image"].reshape(-1, 3), axis=0).tolist()}
        assert set(colours) <= there and not there & set(absent)
        assert stack.levels == tuple(range(40))
