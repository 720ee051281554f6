"""Models that outline prompts, from a hub on loopback with the real client code, and their absence."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medgraft.errors import BadWeights, Offline
from medgraft.nets.prompter_sources import open_prompter
from medgraft.values import Prompt
from tiny_sam import save, tiny_sam, tiny_sam2

torch.set_num_threads(1)


@pytest.mark.parametrize("build", [tiny_sam, tiny_sam2])
def test_a_model_of_the_hub_is_loaded_and_stays_for_offline(hub, request, build):
    save(build(), hub.root / "owner" / "tiny")
    name = "hf-hub:owner/tiny"
    first = open_prompter(name)
    request.getfixturevalue("no_sockets")
    again = open_prompter(name, offline=True)
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)
    one, two = (each.decode(each.encode(image), Prompt(boxes=[(3, 4, 20, 20)])) for each in (first, again))
    assert np.array_equal(one.masks, two.masks) and np.array_equal(one.quality, two.quality)
    assert first.name == name and len(first.sha256) == 64


def test_a_model_of_the_hub_that_is_not_here_says_so(no_sockets):
    with pytest.raises(Offline, match="owner/absent"):
        open_prompter("hf-hub:owner/absent", offline=True)


def test_a_model_of_the_hub_of_another_kind_is_refused_before_its_weights_are_loaded(hub):
    folder = hub.root / "owner" / "other"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(BadWeights, match="'bert'"):
        open_prompter("hf-hub:owner/other")
    assert not any("safetensors" in path for path in hub.asked)
