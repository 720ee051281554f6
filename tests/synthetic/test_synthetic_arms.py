"""Validation as the judge of synthetic images: no by default, yes where they help by more than chance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from medgraft.judge import Predicted
from medgraft.learn.loop import Fitted
from medgraft.learn.model import graft
from medgraft.recipe import parse
from medgraft.synthetic.arms import Arm, Learnt, bought, decide, fewer_epochs, settle_prior
from medgraft.tasks.answers import Answers

CASES = 60


class Only:
    """Parts of which the task alone is asked."""

    def __init__(self, task: Any) -> None:
        self.task = task


@pytest.fixture(scope="module")
def task() -> Any:
    answers = Answers(("well", "ill"), "ill")
    words: dict[str, Any] = {"channels": 3, "image_size": (32, 32), "offline": True, "seed": 0, "dropout": 0.0}
    return graft("classify", answers, backbone_name="none:timm:test_resnet", **words)


def arm(task: Any, ratio: float | str, gain: float, *, noise: float = 0.3) -> Arm:
    random = np.random.default_rng([len(str(ratio)), int(gain * 100)])
    truth = np.arange(CASES) % 2
    apart = (2 * truth - 1) * gain + random.normal(0, noise, CASES) + np.random.default_rng(0).normal(0, 1, CASES)
    logits = np.stack([-apart / 2, apart / 2], axis=1)
    val = Predicted(tuple(map(str, range(CASES))), logits, truth, None, {}, np.zeros((CASES, 1)))
    learnt = Learnt(parse({}), Only(task), Fitted(), None)  # type: ignore[arg-type]
    return Arm(ratio, {"ill": 5, "well": 5} if ratio else {}, None, learnt, val)  # type: ignore[arg-type]


def test_no_is_the_answer_where_they_change_nothing(task: Any):
    arms = [arm(task, 0, 1.0), arm(task, 0.5, 1.0), arm(task, 1.0, 1.02), arm(task, "balance", 0.9)]
    found = decide(arms, asked=False, seed=0, resamples=200)
    assert found.chosen is arms[0] and "real images alone" in found.why
    assert found.best is not arms[0] and not any(row.get("admitted") for row in found.rows)
    assert [row["ratio"] for row in found.rows] == [0, 0.5, 1.0, "balance"]


def test_a_gain_beyond_chance_lets_them_in(task: Any):
    arms = [arm(task, 0, 1.0), arm(task, 0.5, 1.1), arm(task, 2.0, 2.5)]
    found = decide(arms, asked=False, seed=0, resamples=200)
    assert found.chosen is found.best is arms[2]
    assert found.rows[2]["admitted"] and found.rows[2]["highest"] < 0
    assert found.rows[2]["difference"]["log_loss"]["high"] < 0


def test_what_was_asked_for_is_taken_and_what_validation_said_is_told(task: Any):
    arms = [arm(task, 0, 1.5), arm(task, 1.0, 0.2)]
    found = decide(arms, asked=True, seed=0, resamples=200)
    assert found.chosen is arms[1] and "not better" in found.why
    told = bought((arms[1], arms[1].val), (arms[0], arms[0].val), seed=0, resamples=200)
    for name in ("auroc", "balanced_accuracy", "log_loss"):
        one, two = (told[kind][name]["value"] for kind in ("with", "without"))
        assert told["difference"][name]["value"] == pytest.approx(one - two)
    assert told["difference"]["log_loss"]["low"] > 0


def test_added_images_leave_the_odds_of_real_patients(task: Any):
    """An arm that saw as many ill as well ones answers as if the shares of the real patients held."""
    task.adjust.zero_()
    settle_prior(task, real={"ill": 10, "well": 40}, added={"ill": 30, "well": 0})
    assert torch.allclose(task.adjust, torch.log(torch.tensor([0.8 / 0.5, 0.2 / 0.5])), atol=1e-6)
    task.adjust.zero_()
    settle_prior(task, real={"ill": 10, "well": 40}, added={"ill": 5, "well": 20})
    assert torch.allclose(task.adjust, torch.zeros(2), atol=1e-6)


def test_every_arm_has_as_many_steps():
    recipe = parse({}).changed({"fit.epochs": 30, "fit.patience": 10})
    fewer = fewer_epochs(recipe, real=60, all_images=180)
    assert (fewer.fit.epochs, fewer.fit.patience) == (10, 3)
    assert "as many steps" in fewer.reasons["fit.epochs"]
    head = recipe.changed({"fit.epochs": 0})
    assert fewer_epochs(head, real=60, all_images=180) == head
