"""The five verbs of every task, on random pixels and a backbone of random numbers."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from medgraft.nets.backbone import backbone
from medgraft.nets.heads import LinearHead
from medgraft.tasks import TASKS
from medgraft.tasks.base import ImageTask, Parts, Task
from medgraft.tasks.meter import Meter
from medgraft.values import Batch, ImageRef, Prediction, Sample

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:.*starts from random numbers")
LABELS = {
    "classify": ["a", "b", "c", "a", "b", "c"],
    "multilabel": ["a|b", "", "b", "c", "a", "a|c"],
    "grade": ["0", "1", "2", "0", "1", "2"],
    "regress": ["0.5", "1.5", "-2.0", "3.25", "0.0", "9.0"],
    "localise": ["a", "b", "c", "a", "b", ""],
}
# Two zones of each sample; the diagnosis of one is unknown, and a zone of two others.
ZONES = {"localise": [(0, 1), (2, math.nan), (1, 1), (0, 0), (math.nan, math.nan), (2, 1)]}
each_task = pytest.mark.parametrize("name", LABELS)


def _samples(name: str) -> list[Sample]:
    zones = ZONES.get(name, [()] * len(LABELS[name]))
    return [
        Sample(f"k{place}", ImageRef(Path("none")), label, zones=dict(zip(("z1", "z2"), own, strict=False)))
        for place, (label, own) in enumerate(zip(LABELS[name], zones, strict=True))
    ]


def _task(name: str, *, pooling: str = "avg") -> ImageTask:
    kind = TASKS[name]
    answers = kind.answers_of(_samples(name))
    net = backbone("none:timm:resnet10t", image_size=64, seed=1)
    torch.manual_seed(0)
    return kind(net, LinearHead(net.channels, kind.outputs(answers), pooling=pooling), answers)


def _batch(task: ImageTask, name: str) -> Batch:
    samples = _samples(name)
    pixels = torch.from_numpy(np.random.default_rng(0).normal(size=(len(samples), 3, 64, 64)).astype(np.float32))
    targets = torch.as_tensor(task.targets_of(samples))
    return Batch(pixels, tuple(sample.key for sample in samples), targets)


def test_every_task_is_here():
    whole = {name for name in TASKS if not TASKS[name].places}  # others: test_tasks_detect, test_tasks_segment
    assert set(LABELS) == whole, "a new task needs labels here, so that the contract runs over it"


@each_task
def test_it_wants_fields_that_a_sample_has(name: str):
    assert issubclass(TASKS[name], Task)
    assert TASKS[name].wants <= set(Sample.__dataclass_fields__)


@each_task
def test_parts_are_the_stages_and_the_head(name: str):
    task = _task(name)
    parts = task.parts()
    assert isinstance(parts, Parts)
    inside = {id(p) for _, module in parts.stages for p in module.parameters()}
    inside |= {id(p) for module in (parts.head, parts.beside) if module for p in module.parameters()}
    assert inside == {id(p) for p in task.parameters()}, "a parameter that no part holds is never frozen or thawed"


@each_task
def test_losses_teach_every_thawed_parameter(name: str):
    task = _task(name)
    task.thaw(len(task.parts().stages))
    task.train()
    for word, loss in task.losses(_batch(task, name)):
        assert word and loss.shape == () and torch.isfinite(loss) and loss > 0
        loss.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in task.parameters())


@each_task
def test_frozen_parameters_stay(name: str):
    task = _task(name)
    task.thaw(0)
    task.train()
    before = {key: tensor.clone() for key, tensor in task.backbone.state_dict().items()}
    optimiser = torch.optim.SGD([p for p in task.parameters() if p.requires_grad], lr=0.1)
    for _, loss in task.losses(_batch(task, name)):
        loss.backward()
    optimiser.step()
    after = task.backbone.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before), "frozen stages changed, or their statistics"


@each_task
def test_a_few_steps_lower_the_loss(name: str):
    task = _task(name)
    task.thaw(len(task.parts().stages))
    task.train()
    optimiser = torch.optim.AdamW(task.parameters(), lr=1e-3)
    batch = _batch(task, name)
    seen = []
    for _ in range(8):
        for _, loss in task.losses(batch):
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            seen.append(float(loss.detach()))
    assert seen[-1] < 0.8 * seen[0]


@each_task
def test_predictions_mirror_the_batch(name: str):
    task = _task(name).eval()
    batch = _batch(task, name)
    predictions = task.predict(batch)
    assert [p.key for p in predictions] == list(batch.keys)
    for p in predictions:
        assert isinstance(p, Prediction) and isinstance(p.predicted, str)
        assert np.isfinite(p.logits).all() and p.logits.dtype == np.float64
        assert ((p.probabilities >= 0) & (p.probabilities <= 1)).all()
        assert p.value is None or np.isfinite(p.value)


@each_task
def test_a_prediction_does_not_depend_on_its_neighbours(name: str):
    task = _task(name).eval()
    batch = _batch(task, name)
    together = task.predict(batch)
    alone = [task.predict(Batch(batch.pixels[i : i + 1], batch.keys[i : i + 1]))[0] for i in range(len(batch.keys))]
    for one, other in zip(together, alone, strict=True):
        assert np.allclose(one.logits, other.logits, atol=1e-4)


@each_task
def test_meter_judges_the_predictions(name: str):
    task = _task(name).eval()
    batch = _batch(task, name)
    assert batch.targets is not None
    meter = task.meter()
    assert isinstance(meter, Meter)
    meter.update(task.predict(batch), batch.targets.numpy())
    loss, score = meter.watch()
    assert np.isfinite(loss) and np.isfinite(score)
    assert meter.keys == list(batch.keys)


@each_task
@pytest.mark.parametrize("pooling", ["avg", "levels"])
def test_activations_can_enter_at_any_stage(name: str, pooling: str):
    """What the cache of frozen layers relies on: the rest of the net on activations gives the same logits."""
    task = _task(name, pooling=pooling).eval()
    batch = _batch(task, name)
    expected = task.logits(batch)
    count = len(task.parts().stages)
    with torch.no_grad():
        for start in range(1, count + 1):
            raw, beside = task.below(batch.pixels, start)
            assert np.allclose(task.logits(Batch(raw, batch.keys, start=start, beside=beside)), expected, atol=1e-4)
        features = task.features(batch.pixels)
        assert np.allclose(task.logits(Batch(features, batch.keys, start=count + 1)), expected, atol=1e-4)
        assert np.allclose(task.corrected(task.answer(features)), expected, atol=1e-4)
        known, targets = task.named(batch.targets.numpy())
        assert len(known) == len(targets) and task.named_logits(task.corrected(task.answer(features))).shape[1] > 0
        assert task.pooled(features).shape[1] == task.head.width
