"""How many synthetic images are added, and where they go."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medgraft.gather import Gathered, gather, read
from medgraft.generation.written import write_image
from medgraft.recipe import parse
from medgraft.synthetic.adding import added, counts_of, enriched, most
from tiny_data import make_tiny_data

COUNTS = {"ill": 19, "well": 40}


def test_a_ratio_is_for_each_class_and_balance_for_the_rare_ones():
    assert added(1, COUNTS) == COUNTS
    assert added(0.5, COUNTS) == {"ill": 10, "well": 20}
    filled = added("balance", COUNTS)
    assert {name: COUNTS[name] + filled[name] for name in COUNTS} == {"ill": 40, "well": 40}
    assert added("balance", {"a": 5, "b": 5}) == {"a": 0, "b": 0}
    assert most([0.5, "balance"], COUNTS) == {"ill": 21, "well": 20}


@pytest.fixture
def found(tmp_path: Path) -> Gathered:
    recipe = parse({}).changed({"task": "classify", "data.label_column": "label"})
    data = read(make_tiny_data(tmp_path / "tiny"), recipe)
    return gather(data, recipe, network={"size": [16, 16], "channels": 3}, listen=lambda event: None)


def test_synthetic_images_are_in_the_training_part_alone(found: Gathered, tmp_path: Path):
    random = np.random.default_rng(0)
    made = {
        name: [
            write_image(tmp_path / "made", f"synthetic-{name}-{k}", random.uniform(-1, 1, (3, 8, 8)), note="synthetic")
            for k in range(4)
        ]
        for name in ("ill", "well")
    }
    real = counts_of(found)
    both = enriched(found, made, {"ill": 4, "well": 1}, cache_gb=1, listen=lambda event: None)
    assert counts_of(both) == {"ill": real["ill"] + 4, "well": real["well"] + 1}
    new = both.samples[len(found.samples) :]
    assert [one.split for one in new] == ["train"] * 5
    assert all(str(one.patient).startswith("synthetic-") for one in new)
    assert all(one.covariates == {"synthetic": "yes"} for one in new)
    assert len({one.patient for one in new}) == 5 and len({one.key for one in both.samples}) == len(both.samples)
    assert both.survey is found.survey
    for split in ("val", "test"):
        assert [both.samples[k].key for k in both.of(split)] == [found.samples[k].key for k in found.of(split)]
        for k in both.of(split):
            np.testing.assert_array_equal(both.store[both.places[k]], found.store[found.places[k]])
