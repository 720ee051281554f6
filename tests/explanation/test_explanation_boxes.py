"""Maps of found boxes: of the very score that was given, and checked where they can be wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medgraft.explanation.box_cams import BoxMapMaker, box_maps, surroundings
from medgraft.explanation.cams import WAYS
from medgraft.explanation.sanity import Sanity
from medgraft.learn.detector import graft_detector
from medgraft.nets.detector import ARMS, FinderForm
from medgraft.tasks.answers import Answers
from medgraft.tasks.detect import Detect

SIDE = 64


@pytest.fixture(scope="module", params=ARMS)
def task(request: pytest.FixtureRequest) -> Detect:
    form = FinderForm(arm=request.param, strides=(8, 16), width=32, most=5)
    words: dict[str, Any] = {"task": "detect", "channels": 3, "image_size": (SIDE, SIDE), "seed": 3}
    with pytest.warns(UserWarning, match="random numbers"):
        made = graft_detector(Answers(classes=("a", "b")), form, backbone_name="none:timm:resnet10t", **words)
    for name, own in made.head.named_parameters():  # as surely as a trained one: a blank one is sure of nothing
        if "cls_logits.bias" in name:
            torch.nn.init.constant_(own, 1.0)
    return made.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def found(task: Detect, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        (one,) = task.head.found(task.backbone(pixels), pixels)
    assert len(one["boxes"])
    return one


def test_the_odds_are_those_of_the_score_that_was_given(task: Detect, pixels: torch.Tensor) -> None:
    one = found(task, pixels)
    levels = task.backbone(pixels)
    places = task.head.places(levels, pixels, boxes=one["boxes"], labels=one["labels"])
    odds = task.head.odds(levels, pixels, places=places, labels=one["labels"])[0]
    if task.head.form.arm == "faster_rcnn":
        torch.testing.assert_close(odds.sigmoid(), one["scores"], atol=1e-5, rtol=1e-4)
    else:  # the other factor of the score, how central the place is, is one at most
        assert (odds.sigmoid() >= one["scores"] ** 2 - 1e-5).all()
    twice = torch.cat([pixels, -pixels])
    both = task.head.odds(task.backbone(twice), twice, places=places, labels=one["labels"])
    torch.testing.assert_close(both[0], odds, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(both[0], both[1])


@pytest.mark.parametrize("how", WAYS)
def test_every_way_gives_a_map_a_box(task: Detect, pixels: torch.Tensor, how: str) -> None:
    one = found(task, pixels)
    words = {"boxes": one["boxes"], "labels": one["labels"]}
    places = task.head.places(task.backbone(pixels), pixels, **words)
    maps = box_maps(task, pixels, places=places, labels=one["labels"], how=how)
    assert maps.shape == (len(one["boxes"]), SIDE, SIDE)
    assert torch.isfinite(maps).all() and (maps >= 0).all() and (maps <= 1).all()
    assert box_maps(task, pixels, places=places[:0], labels=one["labels"][:0]).shape == (0, SIDE, SIDE)


def test_only_the_first_boxes_are_checked_by_hiding_where_it_is_dear(
    task: Detect, pixels: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medgraft.explanation.box_cams._BUDGET", {"cpu": 110 * SIDE * SIDE})
    one = found(task, pixels)
    boxes, labels = one["boxes"].double().numpy(), one["labels"].tolist()
    first, *others = BoxMapMaker(task).make(pixels, boxes=boxes, labels=labels)
    assert first.sanity.deletion is not None and 0 <= first.sanity.deletion <= 1
    assert others and all(box.sanity.deletion is None for box in others)
    assert all(-1 <= box.sanity.randomised <= 1 for box in [first, *others])


def test_what_was_not_asked_is_no_fault() -> None:
    assert Sanity(0.1, None, None, None).faults == ()
    assert len(Sanity(0.9, None, None, None).faults) == 1


@given(
    corners=st.tuples(*[st.floats(-5, 105)] * 2, *[st.floats(0.5, 90)] * 2),
    size=st.tuples(st.integers(8, 100), st.integers(8, 100)),
)
def test_surroundings_hold_the_box_and_never_nothing(corners: Any, size: tuple[int, int]) -> None:
    x, y, wide, high = corners
    rows, columns = surroundings(np.array([x, y, x + wide, y + high]), size)
    for part, low, end, side in ((rows, y, y + high, size[0]), (columns, x, x + wide, size[1])):
        assert 0 <= part.start < part.stop <= side
        assert part.start <= max(0, min(low, side - 1)) and part.stop >= min(end, side) - 1e-9
