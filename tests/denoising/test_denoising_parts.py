"""Parts of images that are learnt from: of all images, however many parts of each were asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medgraft.denoising import parts as room
from medgraft.denoising.parts import assemble_planes, prepare_planes
from medgraft.recipe import Recipe
from medgraft.samples.dataset import read_samples
from tiny_noise import make_noisy


@pytest.mark.parametrize(("patches", "most"), [(64, 20), (1, 5)])
def test_parts_are_of_images_from_first_to_last(
    patches: int, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(room, "_MOST_CROPS", most)
    recipe = Recipe(task="denoise").changed(  # type: ignore[call-arg]
        {"denoise.patches": patches, "denoise.side": 16, "denoise.widths": [4], "machine.device": "cpu"}
    )
    silent: Any = lambda event: None  # noqa: E731
    dataset = read_samples(make_noisy(tmp_path / "data", count=14, side=24))
    recipe, found = prepare_planes(dataset, recipe, listen=silent)
    parts = assemble_planes(recipe, found, listen=silent)
    keys = [crop.key.rpartition(" ")[0] for crop in parts.train.crops]
    train = [found.samples[place].key for place in found.of("train")]
    assert len(keys) <= most and {train[0], train[-1]} <= set(keys)
    assert len(set(keys)) == min(most, len(train))
    found.store.close()
