"""Boxes side by side, their overlap, and COCO's scores: against pycocotools, and weights against repeated images."""

from __future__ import annotations

import contextlib
import io
import time

import numpy as np
import pytest
from found_boxes import deepened, random_boxes
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from medgraft.errors import BadData
from medgraft.scores.boxes import Detections
from medgraft.scores.intervals import draws_together
from medgraft.scores.matching import ALL, SIZES, match_boxes, match_by_coco, match_by_rule
from medgraft.scores.overlap import iou, nearness
from medgraft.scores.precision import average_precision, precision_scores
from medgraft.scores.resample import patient_codes
from medgraft.values import Boxes

SEEDS = st.integers(0, 2**32 - 1)
RANGES = [ALL, *SIZES.values()]


def coco(found: Detections) -> COCOeval:
    """What pycocotools makes of it from end to end."""
    number = {name: k + 1 for k, name in enumerate(found.classes)}

    def rows(part: tuple[Boxes, ...]) -> list[dict]:
        table = []
        for image, boxes in enumerate(part):
            for place in range(len(boxes)):
                x0, y0, x1, y1 = boxes.corners[place]
                row = {
                    "image_id": image,
                    "category_id": number[boxes.labels[place]],
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                }
                row |= {"id": len(table) + 1, "iscrowd": int(boxes.ignored[place]), "area": (x1 - x0) * (y1 - y0)}
                table.append(row if boxes.scores is None else row | {"score": boxes.scores[place]})
        return table

    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": image} for image in range(len(found))],
        "categories": [{"id": k, "name": name} for name, k in number.items()],
        "annotations": rows(found.truth),
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        judge = COCOeval(truth, truth.loadRes(rows(found.found)), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge


def agrees(found: Detections, scores: dict[str, np.ndarray], *, within: float) -> None:
    stats = coco(found).stats
    names = {"map": 0, "map50": 1, "map75": 2, "map_small": 3, "map_medium": 4, "map_large": 5, "recall100": 8}
    assert set(scores) == set(names)
    for name, place in names.items():
        wanted = np.nan if stats[place] == -1 else stats[place]
        assert float(scores[name][0]) == pytest.approx(wanted, abs=within, nan_ok=True), name


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, images=st.integers(3, 12), digits=st.sampled_from([None, 1]))
def test_scores_are_those_of_coco(seed: int, images: int, digits: int | None):
    found = random_boxes(np.random.default_rng(seed), images, digits=digits)
    if not any(len(boxes) for boxes in found.found):
        return  # pycocotools cannot read an empty list
    agrees(found, precision_scores(match_boxes(found, by_size=True), np.ones((1, images))), within=1e-12)


def test_precision_and_recall_of_each_class_size_and_limit_are_those_of_coco():
    found = random_boxes(np.random.default_rng(0), 40, digits=1)
    judge = coco(found)
    for kind, matches in enumerate(match_boxes(found, by_size=True)):
        area, recall = average_precision(matches, np.ones((1, 40)))
        wanted = judge.eval["precision"][:, :, kind, :, 2].mean(axis=1).T
        np.testing.assert_allclose(area[..., 0], np.where(wanted < 0, np.nan, wanted), rtol=0, atol=1e-12)
        wanted = judge.eval["recall"][:, kind, :, 2].T
        assert np.array_equal(recall[..., 0], np.where(wanted < 0, np.nan, wanted), equal_nan=True)


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, images=st.integers(3, 8))
def test_weights_are_repeated_images(seed: int, images: int):
    random = np.random.default_rng(seed)
    found = random_boxes(random, images)
    # Equal scores in different images, but not within one: see `average_precision`.
    grid = np.linspace(0.05, 0.95, 30)
    shared = [Boxes(b.corners, b.labels, random.choice(grid, len(b), replace=False)) for b in found.found]
    found = Detections(found.keys, found.truth, tuple(shared), found.classes)
    weights = random.integers(0, 4, (3, images))
    scores = precision_scores(match_boxes(found, by_size=True), weights.astype(np.float64))
    for row, times in enumerate(weights):
        repeated = found.take(np.repeat(np.arange(images), times))
        if any(len(boxes) for boxes in repeated.found):
            agrees(repeated, {name: values[row : row + 1] for name, values in scores.items()}, within=1e-9)


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, digits=st.sampled_from([None, 1]))
def test_the_rule_for_volumes_gives_cocos_matches_in_planes(seed: int, digits: int | None):
    found = random_boxes(np.random.default_rng(seed), 6, digits=digits)
    flat = match_by_coco(found, ranges=RANGES)
    for ours, wanted in zip(match_by_rule(found, ranges=RANGES), flat, strict=True):
        for name in ("images", "hits", "alarms", "truths"):
            assert np.array_equal(getattr(ours, name), getattr(wanted, name)), name
    for ours, wanted in zip(match_boxes(deepened(found), by_size=True), flat, strict=True):
        assert np.array_equal(ours.hits, wanted.hits[:1]) and np.array_equal(ours.alarms, wanted.alarms[:1])


def test_more_than_a_hundred_finds_of_a_class_are_cut_as_coco_does():
    random = np.random.default_rng(3)
    low = random.uniform(0, 900, (150, 2))
    corners = np.concatenate([low, low + 30], axis=1)
    truth = Boxes(corners[50:], ("a",) * 100)
    finds = Boxes(corners + random.normal(0, 2, (150, 1)), ("a",) * 150, random.random(150))
    found = Detections(("one",), (truth,), (finds,), ("a",))
    flat = precision_scores(match_boxes(found, by_size=True), np.ones((1, 1)))
    agrees(found, flat, within=1e-12)
    deep = precision_scores(match_boxes(deepened(found), by_size=True), np.ones((1, 1)))
    assert deep["map"][0] == pytest.approx(flat["map"][0], abs=1e-12) and flat["recall100"][0] < 0.8


def test_images_without_any_box_and_no_image_at_all():
    none = Boxes(np.zeros((0, 4)), ())
    empty = Detections(("one", "two"), (none, none), (none, none), ("a",))
    for found in (empty, empty.take(np.zeros(0, dtype=int))):
        scores = precision_scores(match_boxes(found, by_size=True), np.ones((1, len(found))))
        assert all(np.isnan(values).all() for values in scores.values())
    missed = Detections(("one",), (Boxes(np.array([[0.0, 0, 50, 50]]), ("a",)),), (none,), ("a",))
    scores = precision_scores(match_boxes(missed, by_size=True), np.ones((2, 1)))
    assert scores["map"].tolist() == [0, 0] and scores["recall100"].tolist() == [0, 0]
    assert np.isnan(scores["map_small"]).all() and scores["map_medium"].tolist() == [0, 0]


@pytest.mark.parametrize("axes", [2, 3])
def test_iou_counts_pixels(axes: int):
    random = np.random.default_rng(axes)
    low = random.integers(0, 8, (12, axes))
    corners = np.concatenate([low, low + random.integers(1, 8, (12, axes))], axis=1)
    masks = np.zeros((12, *(16,) * axes), dtype=bool)
    for mask, box in zip(masks, corners, strict=True):
        mask[tuple(slice(box[a], box[a + axes]) for a in range(axes))] = True
    flat = masks.reshape(12, -1).astype(np.float64)
    shared, own = flat @ flat.T, flat.sum(axis=1)
    np.testing.assert_allclose(iou(corners, corners), shared / (own[:, None] + own - shared), atol=1e-15)
    crowd = np.arange(12) % 2 == 0
    np.testing.assert_allclose(iou(corners, corners, crowd=crowd)[:, crowd], (shared / own[:, None])[:, crowd])


def test_nearness_is_one_at_the_centre_and_none_at_the_edge():
    truth = np.array([[0.0, 0, 10, 20]])
    centres = np.array([[5.0, 10], [10, 10], [5, 15], [11, 10]])
    found = np.concatenate([centres - 1, centres + 1], axis=1)
    assert nearness(found, truth)[:, 0].tolist() == pytest.approx([1, 0, 0.5, -0.2])
    assert iou(np.zeros((1, 4)), np.zeros((1, 4)))[0, 0] == 0


def test_what_does_not_fit_together_is_refused():
    box, none = np.array([[0.0, 0, 1, 1]]), Boxes(np.zeros((0, 4)), ())
    good = Boxes(box, ("a",), np.ones(1))

    def made(truth: Boxes = good, found: Boxes = good, keys=("x",), patients=None) -> Detections:
        return Detections(keys, (truth,), (found,), ("a",), patients)

    assert len(made()) == 1 and made().axes == 2 and made(found=none).take(np.array([False])).keys == ()
    for bad in (
        {"keys": ("x", "y")},
        {"patients": ["p", "q"]},
        {"truth": Boxes(box, ("b",))},
        {"found": Boxes(box, ("a",))},
        {"found": Boxes(box, ("a",), np.array([np.nan]))},
        {"truth": Boxes(-box, ("a",))},
        {"truth": Boxes(np.array([[0.0, 0, 1, np.inf]]), ("a",))},
        {"truth": Boxes(np.array([[0.0, 0, 0, 1, 1, 1]]), ("a",))},
    ):
        with pytest.raises(BadData):
            made(**bad)


def test_some_images_can_be_taken_more_than_once():
    found = random_boxes(np.random.default_rng(1), 6, patients=3)
    twice = found.take(np.array([4, 1, 1]))
    assert twice.keys == ("4", "1", "1") and twice.patients == ["p1", "p1", "p1"] and twice.truth[1] is found.truth[1]


@pytest.mark.slow
def test_a_thousand_resamples_of_a_hundred_images_take_seconds():
    found = random_boxes(np.random.default_rng(0), 100, most=30)
    matches = match_boxes(found, by_size=True)
    assert sum(len(boxes) for boxes in found.truth) > 1300
    start = time.process_time()
    draws_together(lambda rows: precision_scores(matches, rows), patient_codes(None, 100)[0], seed=0, count=1000)
    assert time.process_time() - start < 10  # processor seconds; about 2 when nothing else runs
