"""Scores of maps: against scikit-learn where it has them, and by hand for the overlap of regions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from medgraft.scores.odd_places import edges_of, place_counts, place_scores


def _images(count: int = 12, gain: float = 1.5) -> list[tuple[np.ndarray, np.ndarray]]:
    found = []
    for index in range(count):
        dice = np.random.default_rng([3, index])
        mask = np.zeros((24, 24), bool)
        if index % 3:
            mask[4 : 4 + 2 * (index % 3), 6:12] = True
            mask[20:22, 2 : 4 + index % 4] = True
        found.append((dice.normal(size=mask.shape) + gain * mask, mask))
    return found


def _scores(images: list[tuple[np.ndarray, np.ndarray]], **words: Any) -> dict[str, Any]:
    edges = edges_of(np.concatenate([values.ravel() for values, _ in images]))
    counts = [place_counts(values, mask, edges=edges) for values, mask in images]
    return place_scores(counts, seed=0, count=200, **words)


def test_pixels_are_scored_as_scikit_learn_does():
    images = _images()
    truth = np.concatenate([mask.ravel() for _, mask in images])
    values = np.concatenate([values.ravel() for values, _ in images])
    found = _scores(images)
    assert found["pixel_auroc"].value == pytest.approx(roc_auc_score(truth, values), abs=2e-3)
    assert found["pixel_auprc"].value == pytest.approx(average_precision_score(truth, values), abs=1e-2)
    for score in found.values():
        assert score.low <= score.value <= score.high and score.n == 12


def test_a_small_region_counts_as_much_as_a_large_one():
    mask = np.zeros((20, 20), bool)
    mask[:10, :10], mask[15, 15] = True, True
    values = mask.astype(float)
    values[15, 15] = -1.0  # the small region is coldest of all
    found = _scores([(values, mask), (np.zeros((20, 20)), np.zeros((20, 20), bool))])
    assert found["pixel_auroc"].value > 0.98
    assert found["aupro"].value == pytest.approx(0.5, abs=0.01)


def test_perfect_maps_and_maps_of_chance():
    images = [(mask + 0.0, mask) for _, mask in _images()]
    assert _scores(images)["aupro"].value == pytest.approx(1.0)
    assert _scores(_images(gain=0.0))["pixel_auroc"].value == pytest.approx(0.5, abs=0.06)


def test_without_anything_to_find_it_says_why():
    found = _scores([(np.random.default_rng(0).normal(size=(8, 8)), np.zeros((8, 8), bool))])
    assert found["aupro"].value is None and "no test image" in found["aupro"].why


def test_intervals_resample_patients():
    images = _images()
    found = _scores(images, patients=[f"p{index // 2}" for index in range(len(images))])
    assert found["pixel_auroc"].n_patients == 6
    one = _scores(images, patients=["p"] * len(images))
    assert one["pixel_auroc"].low is None and "single patient" in one["pixel_auroc"].why
