"""Nearest rows, and the choice of few that are far from each other."""

from __future__ import annotations

import numpy as np
import torch

from medgraft.nets.nearest import coreset, nearest_of


def test_the_nearest_rows_are_those_of_all_distances():
    dice = np.random.default_rng(0)
    rows, bank = (torch.from_numpy(dice.normal(size=(n, 7)).astype(np.float32)) for n in (50, 30))
    apart = torch.cdist(rows, bank)
    distance, number = nearest_of(rows, bank)
    assert torch.allclose(distance, apart.min(dim=1).values, atol=1e-4)
    assert torch.equal(number, apart.argmin(dim=1))
    three, _ = nearest_of(rows, bank, count=3)
    assert torch.allclose(three, apart.sort(dim=1).values[:, :3], atol=1e-4)


def test_a_coreset_takes_of_each_heap_before_it_takes_two_of_one():
    dice = np.random.default_rng(0)
    heaps = np.repeat(np.eye(5) * 100, 40, axis=0) + dice.normal(size=(200, 5))
    chosen = coreset(torch.from_numpy(heaps.astype(np.float32)), 5, seed=3)
    assert sorted((chosen // 40).tolist()) == [0, 1, 2, 3, 4]
    again = coreset(torch.from_numpy(heaps.astype(np.float32)), 5, seed=3)
    assert torch.equal(chosen, again)
