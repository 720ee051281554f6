"""Sensitivity by size: each true box counts once, in its band, and ignored ones do not."""

from __future__ import annotations

import numpy as np

from medgraft.scores.box_sizes import size_subgroups
from medgraft.scores.boxes import Detections
from medgraft.values import Boxes


def cube(side: float, at: float) -> list[float]:
    return [at, at, at, at + side, at + side, at + side]


def test_bands_count_true_boxes_and_what_was_found_of_them():
    truth, found, sizes = [], [], []
    for scan in range(12):
        own = [cube(4, 10), cube(8, 30), cube(20, 60)]
        truth.append(Boxes(np.array(own), ("n",) * 3, ignored=np.array([False, False, scan == 0])))
        seen = [own[1], own[2]] if scan % 2 else [own[2]]
        found.append(Boxes(np.array(seen), ("n",) * len(seen), np.full(len(seen), 0.9)))
        sizes.append(np.array([4.0, 8.0, 20.0]))
    laid = Detections(tuple(map(str, range(12))), tuple(truth), tuple(found), ("n",), list(range(12)))
    table = size_subgroups(laid, sizes, thresholds={"n": 0.5}, hit="centre", seed=0, count=100)
    assert [(row.covariate, row.group, row.n) for row in table] == [
        ("size", "3 to 6 mm", 12),
        ("size", "6 to 10 mm", 12),
        ("size", "from 10 mm", 11),
    ]
    assert [row.scores["recall"].value for row in table] == [0.0, 0.5, 1.0]
    assert table[1].scores["recall"].low < 0.5 < table[1].scores["recall"].high
    high = size_subgroups(laid, sizes, thresholds={"n": 0.95}, hit="centre", seed=0, count=100)
    assert [row.scores["recall"].value for row in high] == [0.0, 0.0, 0.0]
    few = size_subgroups(laid.take(np.arange(4)), sizes[:4], thresholds={"n": 0.5}, hit="centre", seed=0, count=100)
    assert all(row.scores["recall"].value is None and "too few" in (row.scores["recall"].why or "") for row in few)
