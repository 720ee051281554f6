"""Heads on nested parts of the data: whole patients, more is better, and nothing where there is too little."""

from __future__ import annotations

import numpy as np
import pytest

from medgraft.learn import growth
from medgraft.learn.growth import grow
from medgraft.learn.model import graft
from medgraft.tasks.base import Answers, ImageTask


def task_of(kind: str) -> ImageTask:
    answers = {
        "classify": Answers(("a", "b"), "b"),
        "multilabel": Answers(("x", "y")),
        "grade": Answers(("0", "1", "2")),
        "regress": Answers(centre=0.0, scale=1.0),
    }[kind]
    words = {"backbone_name": "none:timm:test_resnet", "channels": 3, "image_size": 32}
    return graft(kind, answers, **words)  # type: ignore[arg-type]


def data(task: ImageTask, kind: str, n: int = 120, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Features of which a few tell the answer, two images a patient."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(n, task.head.width)).astype(np.float32)
    told = features[:, :3].sum(axis=1) + random.normal(size=n)
    targets = {
        "classify": (told > 0).astype(np.int64),
        "multilabel": np.stack([told > 0, features[:, 3] > 0.5], axis=1).astype(np.float32),
        "grade": np.digitize(told, (-1, 1)).astype(np.int64),
        "regress": told.astype(np.float32),
    }[kind]
    return features, targets, [f"p{k // 2}" for k in range(n)]


@pytest.mark.parametrize("kind", ["classify", "multilabel", "grade", "regress"])
def test_scores_rise_with_the_number_of_patients(kind: str) -> None:
    task = task_of(kind)
    features, targets, groups = data(task, kind, n=240)
    found = grow(features, targets, groups=groups, task=task)
    assert found is not None
    means = np.nanmean(found.scores, axis=0)
    assert means[-1] > means[0] + 0.03
    assert list(found.counts) == sorted(set(found.counts))
    assert found.patients[-1] == pytest.approx(found.counts[-1] / 2, abs=1)
    assert found.score == {"grade": "auroc_cuts", "regress": "r2"}.get(kind, "auroc")


def test_no_head_sees_a_patient_that_it_is_judged_on(monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of("classify")
    features, targets, groups = data(task, "classify")
    seen: list[set[str]] = []
    settled: list[set[str]] = []  # heads that choose the penalty of a fold
    solve = growth.probe.solve

    def watched(*args: object, **words: object) -> object:
        (seen if "strengths" in words else settled).append(set(words["groups"]))  # type: ignore[call-overload]
        return solve(*args, **words)  # type: ignore[arg-type]

    monkeypatch.setattr(growth.probe, "solve", watched)
    found = grow(features, targets, groups=groups, task=task)
    assert found is not None
    sizes = len(found.counts)
    for first in range(0, len(seen), sizes):
        parts = seen[first : first + sizes]
        assert all(small < large for small, large in zip(parts, parts[1:], strict=False))  # nested
    # Together the held-out patients of the folds are all patients, and none is in its own fold's parts.
    held = [set(groups) - seen[first + sizes - 1] for first in range(0, len(seen), sizes)]
    assert set().union(*held) == set(groups)
    assert {frozenset(set(groups) - own) for own in settled} == {frozenset(own) for own in held}
    assert all(len(own) >= 8 for own in held)


def test_the_same_seed_gives_the_same_curve_and_leaves_the_task_alone() -> None:
    task = task_of("classify")
    before = {name: value.clone() for name, value in task.state_dict().items()}
    one, two = (grow(*data(task, "classify")[:2], groups=data(task, "classify")[2], task=task, seed=3) for _ in "ab")
    assert one is not None and two is not None
    assert (one.scores == two.scores).all()
    assert all(bool((value == before[name]).all()) for name, value in task.state_dict().items())


def test_too_little_gives_no_curve() -> None:
    task = task_of("classify")
    features, targets, groups = data(task, "classify")
    assert grow(features[:12], targets[:12], groups=groups[:12], task=task) is None
    assert grow(features, targets, groups=["one"] * len(groups), task=task) is None
