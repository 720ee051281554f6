"""The task on each of its nets: what is learnt, and scores that are the same whenever they are asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medgraft.nets.bottleneck import Bottleneck, BottleneckForm
from medgraft.nets.denoiser import DenoiserForm
from medgraft.tasks.anomaly import Anomaly, Look
from medgraft.tasks.answers import Answers
from medgraft.tasks.diffuse import Diffuse
from medgraft.values import Batch, InputSpec

SIDE = 16
SPEC = InputSpec((SIDE, SIDE), 1, (0.5,), (0.5,))
ANSWERS = Answers(classes=("normal", "not normal"), positive="not normal")


def _task(kind: str) -> Anomaly:
    torch.manual_seed(0)
    net = Bottleneck(BottleneckForm(1, 4, 4))
    if kind == "diffusion":
        net = Diffuse(DenoiserForm(2, 1, (8, 8), 1, 1, 0, 0.0, 2), Answers(classes=()), side=SIDE)
    return Anomaly(net, ANSWERS, spec=SPEC, look=Look(noises=2, steps=2), seed=0)


def _batch(count: int = 6) -> Batch:
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    rows = np.stack([[np.sin(3 * x + k) * np.cos(2 * y)] for k in range(count)]).astype(np.float32)
    return Batch(torch.from_numpy(rows), tuple(f"k{k}" for k in range(count)))


@pytest.mark.parametrize("kind", ["autoencoder", "diffusion"])
def test_a_few_steps_lower_the_loss_of_every_part(kind: str):
    task, batch = _task(kind), _batch()
    optimiser = torch.optim.AdamW(task.parameters(), lr=3e-3)
    task.train()
    before = np.mean([one.value or 0.0 for one in task.predict(batch)])
    for _ in range(60):
        for name, loss in task.losses(batch):
            assert name == "all" and torch.isfinite(loss)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    assert all(p.grad is not None for p in task.parameters())
    assert np.mean([one.value or 0.0 for one in task.predict(batch)]) < 0.9 * before


@pytest.mark.parametrize("kind", ["autoencoder", "diffusion"])
def test_scores_are_the_same_in_whatever_company_and_padding_counts_for_nothing(kind: str):
    task, batch = _task(kind).eval(), _batch()
    area = torch.ones(6, 1, SIDE, SIDE)
    area[:, :, :4] = 0
    odd, inside, scores = task.unlike(batch, area)
    assert odd.shape == inside.shape == (6, SIDE, SIDE) and scores.shape == (6,)
    assert not odd[:, :4].any() and not inside[:, :4].any()
    alone = task.unlike(Batch(batch.pixels[2:3], ("other name",)), area[2:3])[2]
    assert torch.allclose(alone, scores[2:3], atol=1e-5)
