"""Which answer a map is of, how that is told, and the words for the ways to make it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medgraft.explanation.maker import MapMaker
from medgraft.explanation.methods import METHODS
from medgraft.explanation.names import METHOD_NAMES, METHODS_TOLD
from medgraft.explanation.speech import answer_given
from medgraft.gallery import gallery
from medgraft.judge import Predicted
from medgraft.learn.model import graft
from medgraft.tasks.base import Answers, ImageTask
from medgraft.values import ImageRef, Sample

pytestmark = pytest.mark.filterwarnings("ignore:.*random numbers")
ROWS = np.random.default_rng(0).integers(0, 255, (1, 3, 32, 32)).astype(np.uint8)


def task_of(kind: str, answers: Answers) -> ImageTask:
    return graft(kind, answers, backbone_name="none:timm:test_resnet", channels=3, image_size=32).eval()


def test_of_two_classes_the_map_is_of_the_one_that_the_threshold_gives() -> None:
    task = task_of("classify", Answers(("well", "ill"), "ill"))
    maker = MapMaker(task, device=torch.device("cpu"), method="gradcam")
    for threshold, place in ((0.0, 1), (1.0, 0)):
        task.threshold = (threshold,)
        assert maker.make(ROWS).answer == place


def test_the_map_is_of_the_class_that_is_given_when_weights_are_taken_back() -> None:
    task = task_of("classify", Answers(("a", "b", "c")))
    maker = MapMaker(task, device=torch.device("cpu"), method="gradcam")
    for place in range(3):
        task.adjust.zero_()
        task.adjust[place] = 50.0
        assert maker.make(ROWS).answer == place


def test_of_labels_the_map_is_of_the_surest_that_is_called() -> None:
    task = task_of("multilabel", Answers(("x", "y", "z")))
    logits = np.array([[2.0, 1.0, -3.0]])
    for threshold, place in (
        ((0.95, 0.5, 0.5), 1),
        ((0.5, 0.5, 0.5), 0),
        ((0.99, 0.99, 0.01), 2),
        ((1.0, 1.0, 1.0), 0),
    ):
        task.threshold = threshold
        (prediction,) = task.interpret(["k"], logits)
        assert answer_given(task, prediction) == place


# ---- what the warm places of a mistake's map do ---------------------------------------


class Flat:
    """Makes an even map."""

    def make(self, rows: np.ndarray, *, answer: int | None = None) -> Any:
        return type("Made", (), {"map": np.ones(rows.shape[2:], np.float32), "sanity": type("S", (), {"faults": ()})})


def shown_of(task: ImageTask, label: str, logits: list[float]) -> dict[str, Any]:
    sample = Sample("k", ImageRef(Path("k.png")), label=label)
    test = Predicted(("k",), np.array([logits]), task.encode([label]), None, {}, np.zeros((1, 1)))
    row, *_ = gallery(task, [sample], test=test, picture=lambda place: ROWS[0], maker=Flat())  # type: ignore[arg-type]
    return row


@pytest.mark.parametrize(
    ("kind", "answers", "label", "logits", "told"),
    [
        ("classify", Answers(("a", "b")), "b", [3.0, 0.0], "speaks for a"),
        ("multilabel", Answers(("x", "y")), "y", [-3.0, -3.0], "speaks for y, which it did not call"),
        ("multilabel", Answers(("x", "y")), "", [-3.0, 3.0], "speaks for y, which it called"),
        ("grade", Answers(("0", "1", "2")), "2", [-4.0, -5.0], "raises the grade, which is too low"),
        ("grade", Answers(("0", "1", "2")), "0", [5.0, 4.0], "raises the grade, which is too high"),
        ("regress", Answers(), "7", [1.0], "raises the number, which is too low"),
    ],
)
def test_a_card_tells_what_its_map_shows(
    kind: str, answers: Answers, label: str, logits: list[float], told: str
) -> None:
    """The map is of what raises the value, or speaks for the label, also where the mistake was too little of it."""
    row = shown_of(task_of(kind, answers), label, logits)
    assert "map" in row and row["shows"] == told


# ---- words ----------------------------------------------------------------------------


def test_help_and_guide_name_every_method() -> None:
    from medgraft import api

    assert set(METHODS) == set(METHOD_NAMES)
    guide = Path(__file__).parents[2] / "docs" / "guide" / "explain.md"
    for text in (METHODS_TOLD, api.explain.__doc__ or "", guide.read_text()):
        assert all(name in text for name in ("auto", *METHOD_NAMES))
