"""The verbs of the task of boxes: what goes in comes out, thresholds call, depth freezes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from medgraft.errors import BadData
from medgraft.nets.backbone import backbone
from medgraft.nets.detector import BoxHead, FinderForm
from medgraft.tasks.answers import Answers
from medgraft.tasks.detect import Detect
from medgraft.values import Batch, Boxes, ImageRef, Prediction, Sample

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:.*starts from random numbers")
SOME = Boxes(np.array([[10.0, 12, 40, 50], [60, 60, 90, 100.5]]), ("b", "a"), ignored=np.array([False, True]))
NONE = Boxes(np.zeros((0, 4)), ())


@pytest.fixture
def task() -> Detect:
    net = backbone("none:timm:resnet10t", image_size=128, seed=1)
    torch.manual_seed(0)
    form = FinderForm(strides=(8, 16), width=32)
    return Detect(net, BoxHead(net.channels, net.strides, outputs=2, form=form), Answers(classes=("a", "b")))


def test_classes_are_those_of_the_boxes():
    samples = [Sample("x", ImageRef(Path("x")), boxes=SOME), Sample("y", ImageRef(Path("y")), boxes=NONE)]
    assert Detect.answers_of(samples).classes == ("a", "b")
    with pytest.raises(BadData, match="no training image has a box"):
        Detect.answers_of(samples[1:])


def test_boxes_survive_being_targets(task: Detect):
    targets = task.encode([SOME, NONE])
    assert targets.shape == (2, 2, 6)
    first, second = task.decode(targets)
    np.testing.assert_allclose(first.corners, SOME.corners)
    assert first.labels == SOME.labels and first.ignored.tolist() == [False, True] and len(second) == 0


def test_a_class_that_training_did_not_know_is_named(task: Detect):
    with pytest.raises(BadData, match="'c'"):
        task.encode([Boxes(np.array([[0.0, 0, 1, 1]]), ("c",))])


def test_losses_and_predictions(task: Detect):
    task.thaw(2)
    task.train()
    frozen = [p for _, stage in task.parts().stages[:3] for p in stage.parameters()]
    assert not any(p.requires_grad for p in frozen)
    assert not any(m.training for m in task.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d))
    pixels = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    batch = Batch(pixels, ("x", "y"), torch.from_numpy(task.encode([SOME, NONE])))
    ((name, loss),) = task.losses(batch)
    loss.backward()
    assert name == "all" and torch.isfinite(loss) and all(p.grad is None for p in frozen)
    task.eval()
    meter = task.meter()
    predictions = task.predict(batch)
    meter.update(predictions, task.encode([SOME, NONE]))
    loss_, score = meter.watch()
    assert [one.key for one in predictions] == ["x", "y"] and 0 <= score <= 1 and loss_ == 1 - score


def test_the_meter_knows_perfection_and_ignores_what_is_ignored(task: Detect):
    sure = Boxes(SOME.corners[:1], ("b",), np.array([0.9]))
    passed = Boxes(SOME.corners, SOME.labels, np.array([0.9, 0.8]))
    for found in (sure, passed):
        meter = task.meter()
        told = Prediction("x", np.zeros(1), np.zeros(0), "", boxes=found)
        meter.update([told], task.encode([SOME]))
        assert meter.watch()[1] == pytest.approx(1.0)


def test_thresholds_call_each_class_by_its_own(task: Detect):
    task.threshold = (0.2, 0.6)
    found = Boxes(np.array([[0.0, 0, 9, 9]] * 4), ("a", "a", "b", "b"), np.array([0.3, 0.1, 0.7, 0.5]))
    assert task.called(found).labels == ("a", "b") and task.said(found) == "1 a, 1 b"
    assert task.said(found.take(np.array([1, 3]))) == "none"
