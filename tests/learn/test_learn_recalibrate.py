"""BatchNorm measured anew: on the training images that the seed names, whatever the fit's batches are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from medgraft.errors import Interrupted
from medgraft.learn import recalibrate as recalibrating
from medgraft.learn.engine import Engine
from medgraft.learn.recalibrate import recalibrate_on
from medgraft.nets import Backbone
from medgraft.nets.backbone import backbone
from medgraft.samples.loader import Items, Loader
from medgraft.samples.presets import preset
from medgraft.samples.store import Store
from medgraft.values import ImageRef

COUNT = 90
pytestmark = pytest.mark.filterwarnings("ignore:.*random numbers")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Get small dark pictures, the second half brighter, as a table sorted by class has them."""
    folder = tmp_path_factory.mktemp("pictures")
    refs = []
    for number in range(COUNT):
        random = np.random.default_rng(number)
        pixels = random.integers(0, 60, (32, 32, 3)) + (60 if number >= COUNT // 2 else 0)
        Picture.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
        refs.append(ImageRef(folder / f"{number}.png"))
    return Store.open(refs, {"size": (32, 32), "channels": 3, "fit": "pad"}, folder=folder / "cache", workers=1)


def net() -> Backbone:
    return backbone("none:timm:test_resnet", image_size=32, seed=1)


def loader_of(store: Store, found: Backbone, *, batch_size: int = 8, count: int = COUNT, seed: int = 0) -> Loader:
    items = Items(range(count), [f"key{i}" for i in range(count)], np.zeros(count, np.int64))
    words: dict[str, Any] = {"shuffle": True, "preset": preset("generic"), "seed": seed}
    return Loader(store, items, spec=found.spec, batch_size=batch_size, **words)


def buffers(found: Backbone) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in found.named_buffers()}


def test_the_first_layer_stores_what_enters_it(store: Store) -> None:
    found = net()
    loader = loader_of(store, found)
    kept = {name: value.clone() for name, value in found.named_parameters()}
    conv = next(part for part in found.modules() if isinstance(part, torch.nn.Conv2d))
    norm = next(part for part in found.modules() if isinstance(part, torch.nn.BatchNorm2d))
    assert recalibrate_on(found, loader, engine=Engine("cpu")) == COUNT
    with torch.no_grad():
        entering = conv(torch.cat([batch.pixels for batch in loader.view(0)])).double()
    assert norm.running_mean is not None and norm.running_var is not None
    np.testing.assert_allclose(norm.running_mean, entering.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm.running_var, entering.var((0, 2, 3)), rtol=1e-2)
    assert all(torch.equal(value, kept[name]) for name, value in found.named_parameters())
    assert not any(part.training for part in found.modules()) and norm.momentum == 0.1


def test_the_bits_depend_on_images_and_seed_alone(store: Store) -> None:
    first, again, other = net(), net(), net()
    recalibrate_on(first, loader_of(store, first), engine=Engine("cpu"))
    recalibrate_on(again, loader_of(store, again, batch_size=3), engine=Engine("cpu"))
    recalibrate_on(other, loader_of(store, other, seed=1), engine=Engine("cpu"))
    assert all(torch.equal(value, buffers(again)[name]) for name, value in buffers(first).items())
    assert any(not torch.equal(value, buffers(other)[name]) for name, value in buffers(first).items())


def test_no_more_images_than_are_needed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recalibrating, "MOST_IMAGES", 40)
    found, events = net(), []
    assert recalibrate_on(found, loader_of(store, found), engine=Engine("cpu"), listen=events.append) == 40
    assert events[-1] == {"event": "norms", "done": 40, "of": 40}


def test_an_interruption_leaves_the_net_as_it_was(store: Store) -> None:
    def strike(event: dict[str, Any]) -> None:
        raise Interrupted("stopped")

    found = net()
    before = buffers(found)
    with pytest.raises(Interrupted):
        recalibrate_on(found, loader_of(store, found), engine=Engine("cpu"), listen=strike)
    assert all(torch.equal(value, before[name]) for name, value in buffers(found).items() if "tracked" not in name)
    assert not any(part.training for part in found.modules())
