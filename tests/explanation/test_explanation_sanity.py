"""What a map is worth: figures that a good map has, that a bad one lacks, and how they are told."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from medgraft.explanation.sanity import Sanity, alike, deletion_insertion, pointed, randomised
from medgraft.learn.model import graft
from medgraft.tasks.base import Answers

pytestmark = pytest.mark.filterwarnings("ignore:.*random numbers")


class Corner(nn.Module):
    """A number: the sum of one corner."""

    answer_kind = "number"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :, :8, :8].sum((1, 2, 3))[:, None]


def ordered(corner: float) -> torch.Tensor:
    order = torch.rand(32, 32, generator=torch.manual_seed(0))
    order[:8, :8] += corner
    return order


def test_a_map_of_what_counts_loses_the_answer_first_and_shows_it_first() -> None:
    x = torch.rand(1, 3, 32, 32, generator=torch.manual_seed(1)) + 0.5
    answer = torch.tensor([0])
    good, bad = (deletion_insertion(Corner(), x, order=ordered(sign), answer=answer) for sign in (2, -2))  # type: ignore[arg-type]
    assert good[0] < 0.2 and good[1] > 0.8 and good[1] - good[0] > good[2]
    assert bad[0] > 0.8 and bad[1] < 0.2 and bad[1] - bad[0] < bad[2]
    even = deletion_insertion(Corner(), x, order=ordered(0.0), answer=answer)  # type: ignore[arg-type]
    assert even[0] == pytest.approx(0.5, abs=0.1) and even[1] == pytest.approx(0.5, abs=0.1)


class Sum(nn.Module):
    """A number: what each place adds, added up."""

    answer_kind = "number"

    def __init__(self, adds: torch.Tensor) -> None:
        super().__init__()
        self.adds = adds

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x[:, 0] * self.adds).sum((1, 2))[:, None]


def passes(net: nn.Module, order: torch.Tensor) -> bool:
    x = torch.ones(1, 1, *order.shape)
    return Sanity(0.0, *deletion_insertion(net, x, order=order, answer=torch.tensor([0]))).faults == ()  # type: ignore[arg-type]


@pytest.mark.parametrize("against", [0.0, 0.2, 1.0, 5.0])
def test_what_places_add_passes_and_its_opposite_fails_wherever_gray_lies(against: float) -> None:
    """Places for and against an answer: the whole image lies above gray, at it nearly, or far below."""
    adds = torch.zeros(32, 32)
    adds[4:10, 4:10], adds[20:30, 20:30] = 1.0, -against
    assert (float(adds.sum()) > 0) == (against < 0.36)
    assert passes(Sum(adds), adds) and passes(Sum(adds), adds.clamp_min(0))
    assert not passes(Sum(adds), -adds) and not passes(Sum(adds), (-adds).clamp_min(0))


def test_smooth_maps_of_nothing_seldom_pass() -> None:
    """By chance one in eleven passes; against an order of single pixels it was nearly a half."""
    generator = torch.Generator().manual_seed(4)
    coarse = torch.randn(41, 1, 5, 5, generator=generator)
    adds, *maps = nn.functional.interpolate(coarse, size=(40, 40), mode="bicubic")[:, 0]
    passed = sum(passes(Sum(adds), one) for one in maps)
    assert passes(Sum(adds), adds) and passed < 0.25 * len(maps)


def test_an_answer_that_hiding_does_not_change_is_worth_nothing() -> None:
    x = torch.zeros(1, 3, 32, 32)
    assert deletion_insertion(Corner(), x, order=ordered(1.0), answer=torch.tensor([0])) == (0.5, 0.5, 0.0)  # type: ignore[arg-type]


def test_maps_are_compared_by_ranks_of_cells() -> None:
    one = np.random.default_rng(0).random((64, 48))
    assert alike(one, one) == pytest.approx(1.0) and alike(one, np.exp(one)) > 0.95
    assert alike(one, -one) == pytest.approx(-1.0)
    assert abs(alike(one, np.random.default_rng(1).random((64, 48)))) < 0.25
    assert alike(one, np.zeros((64, 48))) == 1.0  # an even map tells nothing, and must not pass
    assert alike(np.random.default_rng(2).random((8, 9, 10)), np.ones((8, 9, 10))) == 1.0


def test_random_weights_are_other_weights_of_the_same_size() -> None:
    words = {"backbone_name": "none:timm:test_resnet", "channels": 3, "image_size": 32}
    task = graft("classify", Answers(("a", "b")), **words)  # type: ignore[arg-type]
    before = {name: value.clone() for name, value in task.state_dict().items()}
    one, two = randomised(task, seed=1), randomised(task, seed=1)
    assert all(torch.equal(value, before[name]) for name, value in task.state_dict().items())
    for (name, value), other in zip(one.named_parameters(), two.parameters(), strict=True):
        assert torch.equal(value, other)
        if value.ndim > 1:
            assert not torch.equal(value, before[name])
            assert float(value.std()) == pytest.approx(float(before[name].std()), rel=0.3)


def test_the_pointing_game_has_a_reach() -> None:
    values, mask = np.zeros((40, 40)), np.zeros((40, 40), bool)
    values[10, 10], mask[10:14, 14:18] = 1, True
    assert not pointed(values, mask, reach=3) and pointed(values, mask, reach=4)
    assert not pointed(values, np.zeros((40, 40), bool), reach=100)


def test_faults_are_told_in_words() -> None:
    assert Sanity(0.1, 0.2, 0.8, 0.0).faults == ()
    assert "random weights" in Sanity(0.9, 0.2, 0.8, 0.0).faults[0]
    assert "laid elsewhere" in Sanity(0.1, 0.5, 0.5, 0.0).faults[0]
    assert len(Sanity(float("nan"), float("nan"), 0.5, 0.0).faults) == 2
