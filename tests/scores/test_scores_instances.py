"""Scores of single things: against counts by hand, and against the published definitions written out plainly."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medgraft.errors import BadData
from medgraft.scores.instances import InstanceScores, instance_scores, instance_table, matched, overlaps
from medgraft.scores.matching import LIMITS

NAMES = ["ap50", "ap75", "ap", "pq", "sq", "rq", "aji", "aji_plus", "f1_50", "count_mae"]


def row(*runs: tuple[int, int]) -> np.ndarray:
    """A picture of one line: (number, length) after each other."""
    return np.array([[number for number, length in runs for _ in range(length)]])


@st.composite
def maps(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Two maps of things that overlap in every way."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    whole = np.zeros((2, 18, 18), dtype=np.int32)
    for part, most in zip(whole, draw(st.tuples(st.integers(0, 7), st.integers(0, 7))), strict=True):
        for number in range(1, most + 1):
            top, left = random.integers(0, 14, 2)
            part[top : top + random.integers(2, 7), left : left + random.integers(2, 7)] = number * 3
    if draw(st.booleans()):
        whole[1] = np.where(random.random((18, 18)) < 0.9, whole[0], whole[1])
    return whole[0], whole[1]


def test_counts_by_hand():
    truth = row((1, 10), (0, 5), (2, 10), (0, 5), (3, 10), (0, 10))
    found = row((7, 8), (0, 7), (4, 10), (0, 5), (5, 4), (0, 6), (9, 10))
    got = instance_scores(truth, found)
    assert (got.truths, got.finds) == (3, 4)
    # IoU .8, 1 and .4: up to .75 two of five match, from .8 on one of six.
    assert got.hits.tolist() == [2] * 6 + [1] * 4
    assert got.ap == pytest.approx([2 / 5] * 6 + [1 / 6] * 4)
    assert got.rq == pytest.approx(4 / 7) and got.sq == pytest.approx(0.9) and got.pq == pytest.approx(1.8 / 3.5)
    assert got.aji == got.aji_plus == pytest.approx((8 + 10 + 4) / (10 + 10 + 10 + 10))


def test_one_find_over_two_things_hits_neither_at_half():
    truth, found = row((1, 5), (2, 5)), row((1, 10))
    got = instance_scores(truth, found)
    assert got.hits.tolist() == [0] * 10 and got.pq == 0 and math.isnan(got.sq)
    # AJI takes the find for both things, AJI+ for one; the other is then missed.
    assert got.aji == pytest.approx(10 / 20) and got.aji_plus == pytest.approx(5 / 15)


def test_images_without_anything_and_with_everything_missed():
    none, some = np.zeros((4, 4), dtype=int), np.eye(4, dtype=int)
    empty = instance_scores(none, none)
    assert empty.ap.tolist() == [1] * 10 and (empty.pq, empty.rq, empty.aji, empty.aji_plus) == (1, 1, 1, 1)
    assert math.isnan(empty.sq)
    for got in (instance_scores(some, none), instance_scores(none, some)):
        assert got.ap.tolist() == [0] * 10 and (got.pq, got.rq, got.aji, got.aji_plus) == (0, 0, 0, 0)


def plain(truth: np.ndarray, found: np.ndarray) -> tuple[list[int], float, float]:
    """Matches at each limit, the sum of IoU at .50 and AJI, thing by thing."""
    things, finds = ([part == number for number in np.unique(part) if number] for part in (truth, found))
    iou = [[(a & b).sum() / (a | b).sum() for b in finds] for a in things]
    hits = [sum(each > limit for line in iou for each in line) for limit in LIMITS]
    shared = joint = 0
    used = set()
    for thing, line in zip(things, iou, strict=True):
        best = max(range(len(finds)), key=lambda place: line[place], default=None)
        if best is None or line[best] == 0:
            joint += thing.sum()
            continue
        used.add(best)
        shared += (thing & finds[best]).sum()
        joint += (thing | finds[best]).sum()
    joint += sum(find.sum() for place, find in enumerate(finds) if place not in used)
    return hits, sum(each for line in iou for each in line if each > 0.5), float(shared / joint) if joint else 1.0


@settings(max_examples=80, deadline=None)
@given(maps())
def test_scores_are_those_of_the_definitions(case):
    truth, found = case
    got = instance_scores(truth, found)
    hits, quality, aji = plain(truth, found)
    assert got.hits.tolist() == hits and got.quality == pytest.approx(quality)
    assert got.pq == pytest.approx(got.rq * got.sq) if hits[0] else got.pq in (0, 1)
    ties = len(set(overlaps(truth, found).iou.tolist())) < len(overlaps(truth, found).iou)
    assert ties or got.aji == pytest.approx(aji)


@settings(max_examples=50, deadline=None)
@given(maps(), st.sampled_from([0.0, 0.1, 0.3]))
def test_below_half_the_match_has_the_largest_sum_of_iou(case, limit: float):
    these = overlaps(*case)
    chosen = matched(these, limit=limit)
    assert all(len(set(side)) == len(side) for side in these.pairs[chosen].T.tolist())
    kept = [place for place in range(len(these.iou)) if these.iou[place] > limit]
    best = 0.0
    for size in range(min(len(kept), 5), 0, -1):
        for some in itertools.islice(itertools.combinations(kept, size), 2000):
            if all(len(set(side)) == size for side in these.pairs[list(some)].T.tolist()):
                best = max(best, float(these.iou[list(some)].sum()))
    assert these.iou[chosen].sum() >= best - 1e-9 and (these.iou[chosen] > limit).all()


@settings(max_examples=40, deadline=None)
@given(maps())
def test_numbers_and_sides_do_not_matter(case):
    truth, found = case
    got = instance_scores(truth, found)
    other = instance_scores(np.where(truth > 0, 1000 - truth, 0).T, found.T.astype(np.uint16) * 7)
    assert (other.hits.tolist(), other.pq, other.truths) == (got.hits.tolist(), pytest.approx(got.pq), got.truths)
    assert other.aji_plus == pytest.approx(got.aji_plus)
    swapped = instance_scores(found, truth)
    assert swapped.ap.tolist() == got.ap.tolist() and swapped.aji_plus == pytest.approx(got.aji_plus)
    same = instance_scores(truth, truth)
    assert same.ap.tolist() == [1] * 10 and (same.pq, same.aji, same.aji_plus) == (1, 1, 1)


def test_thousands_of_things_are_matched_at_once():
    rows, columns = np.indices((1000, 1000)) // 16
    truth = (rows * 63 + columns + 1) * ((np.indices((1000, 1000)) % 16 > 1).all(axis=0))
    got = instance_scores(truth, np.roll(truth, 3, axis=0))
    assert got.truths == got.finds > 3900 and got.rq > 0.95
    assert got.sq == pytest.approx(11 / 17, abs=0.01)
    in_depth = instance_scores(truth.reshape(10, 100, 1000), truth.reshape(10, 100, 1000))
    assert in_depth.pq == 1


@pytest.fixture(scope="module")
def cases() -> list[InstanceScores]:
    random, found = np.random.default_rng(0), []
    for number in range(20):
        truth = np.zeros((40, 40), dtype=int)
        for thing in range(int(number % 5)):
            top, left = random.integers(0, 30, 2)
            truth[top : top + 8, left : left + 8] = thing + 1
        kept = np.where(np.isin(truth, random.integers(1, 6, 3)), truth, 0)
        found.append(instance_scores(truth, np.roll(kept, random.integers(0, 3), axis=0), key=str(number)))
    return found


def test_the_table_has_every_score_with_its_interval(cases):
    patients = [f"p{number // 2}" for number in range(20)]
    table = instance_table(cases, patients=patients, seed=0, count=200)
    assert list(table) == NAMES
    for name, score in table.items():
        assert score.low < score.value < score.high and "200 bootstrap resamples of patients, BCa" in score.method, name
    assert table["ap"].value == pytest.approx(np.mean([case.ap.mean() for case in cases]))
    assert table["ap75"].value == pytest.approx(np.mean([case.ap[5] for case in cases])) and LIMITS[5] == 0.75
    assert table["pq"].value == pytest.approx(np.mean([case.pq for case in cases]))
    sq = np.array([case.sq for case in cases])
    assert table["sq"].value == pytest.approx(np.nanmean(sq)) and table["sq"].n == np.isfinite(sq).sum() < 20
    hits, things = sum(case.hits[0] for case in cases), sum(case.truths + case.finds for case in cases)
    assert table["f1_50"].value == pytest.approx(2 * hits / things) and table["f1_50"].n == 16
    assert table["count_mae"].value == pytest.approx(np.mean([abs(case.finds - case.truths) for case in cases]))
    empty = sum(case.truths + case.finds == 0 for case in cases)
    assert f"{empty} of 20 images hold no thing, true or found, and count as 1" in table["pq"].method
    assert instance_table(cases, patients=patients, seed=0, count=200) == table
    json.dumps({name: score.to_dict() for name, score in table.items()}, allow_nan=False)


def test_tables_without_values_say_why(cases):
    nobody = instance_table([], patients=None, seed=0, count=50)
    assert list(nobody) == NAMES and all(score.value is None and score.why for score in nobody.values())
    none = np.zeros((4, 4), dtype=int)
    bare = instance_table([instance_scores(none, none)] * 6, patients=None, seed=0, count=50)
    assert bare["pq"].value == 1 and bare["pq"].low == pytest.approx(0.541, abs=0.001)
    assert bare["sq"].value is None and bare["sq"].why == "no thing matches"
    assert bare["f1_50"].value is None and bare["f1_50"].why == "no thing is true or found"
    with pytest.raises(BadData, match="20 images but 1 patients"):
        instance_table(cases, patients=["a"], seed=0)


def test_maps_that_are_none_are_refused():
    good = np.zeros((3, 3), dtype=int)
    with pytest.raises(BadData, match=r"a\.png: .*shape"):
        instance_scores(good, np.zeros((3, 4), dtype=int), key="a.png")
    with pytest.raises(BadData, match="whole numbers"):
        instance_scores(good, good.astype(float))
    with pytest.raises(BadData, match="holds -2. Number things from 1"):
        instance_scores(good - 2, good)
