"""What a fit starts from: standardised features, or a head at its optimum, from whatever source the loop has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from medgraft.errors import NotFinite
from medgraft.learn import start as starting
from medgraft.learn.engine import Engine
from medgraft.learn.model import graft, repool
from medgraft.learn.start import begin
from medgraft.tasks.base import Answers, ImageTask
from medgraft.values import Batch

COUNT, VIEWS = 40, 2
pytestmark = pytest.mark.filterwarnings("ignore:.*random numbers")


class Pictures:
    """Pictures of 32 x 32 in two views; those of the second class have a bright corner."""

    def __init__(self) -> None:
        random = np.random.default_rng(2)
        self.keys = tuple(f"picture{number}" for number in range(COUNT))
        self.targets = torch.arange(COUNT) % 2
        self.share: np.ndarray | None = None
        self.seed = 0
        self.pixels = torch.from_numpy(random.normal(0, 1, (VIEWS, COUNT, 3, 32, 32)).astype(np.float32))
        self.pixels[:, self.targets == 1, :, :8, :8] += 2

    def view(self, view: int) -> Iterator[Batch]:
        for at in range(0, COUNT, 16):
            part = slice(at, at + 16)
            yield Batch(self.pixels[view, part], self.keys[part], self.targets[part])


def grafted() -> ImageTask:
    words: dict[str, Any] = {"backbone_name": "none:timm:test_resnet", "channels": 3, "image_size": 32}
    task = graft("classify", Answers(("well", "ill"), "ill"), **words)
    repool(task, pooling="levels")
    task.thaw(1)
    return task


def started(task: ImageTask, source: Pictures, *, probe: bool, views: int = VIEWS) -> dict[str, Any]:
    groups = list(source.keys) if probe else None
    return begin(task, Engine("cpu"), source=source, views=views, groups=groups)


@pytest.mark.parametrize("probe", [True, False])
def test_features_of_all_views_are_brought_to_one_size(probe: bool) -> None:
    task, source = grafted(), Pictures()
    weight = task.head.linear.weight.clone()
    told = started(task, source, probe=probe)
    assert bool(told) == probe == (not torch.equal(task.head.linear.weight, weight))
    task.eval()
    with torch.no_grad():
        features = task.features(source.pixels.flatten(0, 1))
        found = task.head.standard(features)
    alive = features.std(0) > 0
    torch.testing.assert_close(found.mean(0), torch.zeros(task.head.width), atol=1e-4, rtol=0)
    deviations = found.std(0, correction=0)[alive]
    torch.testing.assert_close(deviations, torch.ones_like(deviations), atol=1e-3, rtol=0)
    assert bool((task.head.standard.spread > 0).all())


def test_the_probe_tells_classes_apart_and_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    task, source = grafted(), Pictures()
    told = started(task, source, probe=True)
    assert {"loss", "strength", "tried", "folds", "images", "views", "seconds"} == set(told)
    assert (told["images"], told["views"], told["folds"]) == (COUNT, VIEWS, 5)
    task.eval()
    with torch.no_grad():
        losses = [task.loss(task(source.pixels[view]), source.targets).mean() for view in range(VIEWS)]
    assert float(sum(losses)) / VIEWS == pytest.approx(told["loss"], rel=1e-3)
    assert told["loss"] < 0.3 < dict(map(tuple, told["tried"]))[10.0]
    # With little memory first the augmented views are left out, then images.
    monkeypatch.setattr(starting, "_MOST_NUMBERS", task.head.width * COUNT)
    assert started(grafted(), source, probe=True)["views"] == 1
    monkeypatch.setattr(starting, "_MOST_NUMBERS", task.head.width * 30)
    fewer = started(grafted(), source, probe=True)
    assert (fewer["images"], fewer["views"]) == (30, 1)


def test_an_image_without_finite_features_is_named() -> None:
    source = Pictures()
    source.pixels[0, 21] = float("inf")
    with pytest.raises(NotFinite, match=r"numbers for picture21\."):
        started(grafted(), source, probe=True)
