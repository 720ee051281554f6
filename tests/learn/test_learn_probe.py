"""The probe: the optimum that a formula or another program knows, chosen without a look at who is judged."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from medgraft.learn.model import graft
from medgraft.learn.probe import Probed, folds_of, solve, standard_of
from medgraft.tasks.base import Answers, ImageTask

WIDTH = 12
ANSWERS = {
    "classify": Answers(("a", "b", "c")),
    "multilabel": Answers(("a", "b")),
    "grade": Answers(("0", "1", "2", "3")),
    "regress": Answers((), None, 1.0, 2.0),
}


def task_of(name: str, *, width: int = WIDTH, answers: Answers | None = None) -> ImageTask:
    words: dict[str, Any] = {"backbone_name": "none:timm:test_resnet", "channels": 3, "image_size": 32}
    task = graft(name, answers or ANSWERS[name], **words)
    task.head.resize(width)
    return task


def data_of(name: str, *, count: int = 90, width: int = WIDTH) -> tuple[np.ndarray, np.ndarray]:
    """Get features of unequal sizes that say something of the targets, and the targets."""
    random = np.random.default_rng(5)
    features = random.normal(3, 1, (count, width)) * np.geomspace(0.01, 100, width)
    hidden = (features / np.geomspace(0.01, 100, width)) @ random.normal(0, 0.5, (width, 3))
    hidden = hidden - hidden.mean(axis=0) + random.normal(0, 0.7, (count, 3))
    targets = {
        "classify": hidden.argmax(axis=1),
        "multilabel": (hidden[:, :2] > 0.5).astype(np.float32),
        "grade": np.digitize(hidden[:, 0], [-1, 0.2, 1.4]),
        "regress": (1 + 2 * hidden[:, 0]).astype(np.float32),
    }
    return features, targets[name]


def names(count: int) -> list[str]:
    return [f"image {number}" for number in range(count)]


def solved(task: ImageTask, features: np.ndarray, targets: np.ndarray, **more: Any) -> Probed:
    return solve(features, targets, groups=names(len(features)), task=task, **more)


def standard(features: np.ndarray, found: Probed) -> torch.Tensor:
    return (torch.from_numpy(features) - found.centre) / found.spread


def test_classes_are_those_of_another_program() -> None:
    features, targets = data_of("classify")
    found = solved(task_of("classify"), features, targets, strengths=[0.05])
    rows = standard(features, found).numpy()
    other = LogisticRegression(C=1 / (0.05 * len(rows)), tol=1e-10, max_iter=10_000).fit(rows, targets)
    np.testing.assert_allclose(found.state["linear.weight"], other.coef_, atol=1e-6)
    logits = rows @ found.state["linear.weight"].numpy().T + found.state["linear.bias"].numpy()
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(chances, other.predict_proba(rows), atol=1e-6)
    assert found.loss == pytest.approx(-np.log(chances[np.arange(len(rows)), targets]).mean(), abs=1e-9)


@pytest.mark.parametrize("width", [WIDTH, 200])
def test_numbers_are_those_of_the_formula_of_ridge_regression(width: int) -> None:
    """Where every error is below one, the Huber loss is the square; with 200 features there are fewer rows."""
    features, targets = data_of("regress", width=width)
    targets = (targets - targets.mean()) / 20 + 1.0
    found = solved(task_of("regress", width=width), features, targets.astype(np.float32), strengths=[0.3])
    rows = standard(features, found).numpy()
    wanted = (targets - 1.0) / 2.0
    exact = np.linalg.solve(rows.T @ rows / len(rows) + 0.3 * np.eye(width), rows.T @ wanted / len(rows))
    np.testing.assert_allclose(found.state["linear.weight"][0], exact, atol=1e-7)
    np.testing.assert_allclose(found.state["linear.bias"][0], wanted.mean(), atol=1e-6)  # centres are float32


@pytest.mark.parametrize("width", [WIDTH, 200])
@pytest.mark.parametrize("name", ANSWERS)
def test_nothing_near_the_optimum_is_better(name: str, width: int) -> None:
    """By the task's own loss, with its weights of classes and its smoothing."""
    features, targets = data_of(name, width=width)
    task = task_of(name, width=width)
    task.label_smoothing = 0.1
    task.begin(targets)
    task.balance(targets, "weights")
    found = solved(task, features, targets, strengths=[0.02])
    task.double()
    rows, truth = standard(features, found), torch.as_tensor(targets)
    task.head.standard = torch.nn.Identity()  # type: ignore[assignment]

    def cost() -> torch.Tensor:
        loss = task.loss(task.answer(rows), truth.double() if truth.is_floating_point() else truth)
        return loss.mean() + 0.01 * task.head.linear.weight.square().sum()

    own = dict(task.head.named_parameters())
    task.head.eval()
    with torch.no_grad():
        for part, value in found.state.items():
            own[part].copy_(value)
    slopes = torch.autograd.grad(cost(), list(own.values()))
    assert max(float(slope.abs().max()) for slope in slopes) < 1e-6
    least = float(cost().detach())
    for seed in range(5):
        torch.manual_seed(seed)
        with torch.no_grad():
            for part, value in found.state.items():
                own[part].copy_(value + 0.02 * torch.randn_like(value))
        assert float(cost().detach()) > least


@pytest.mark.parametrize("name", ANSWERS)
def test_the_task_answers_by_it(name: str) -> None:
    """From the features as they are, in float32, through the head that it was put into."""
    features, targets = data_of(name)
    task = task_of(name)
    task.begin(targets)
    found = solved(task, features, targets, strengths=[0.02])
    before = [value.clone() for value in task.head.parameters()]
    found.put(task)
    assert any(not torch.equal(a, b) for a, b in zip(before, task.head.parameters(), strict=True))
    task.eval()
    with torch.no_grad():
        loss = task.loss(task.answer(torch.from_numpy(features).float()), torch.as_tensor(targets)).mean()
    assert float(loss) == pytest.approx(found.loss, rel=1e-4)


def test_a_share_is_as_good_as_copies() -> None:
    features, targets = data_of("classify")
    often = np.where(np.arange(len(targets)) % 3 == 0, 2, 1)
    one = solved(task_of("classify"), features, targets, share=often / often.sum(), strengths=[0.05])
    copied = np.repeat(np.arange(len(targets)), often)
    two = solved(task_of("classify"), features[copied], targets[copied], strengths=[0.05])
    # The copies count in the means as well, so the heads are compared by what they answer.
    assert one.loss == pytest.approx(two.loss, abs=0.01)
    views = np.stack([features, features], axis=1)
    three = solved(task_of("classify"), views, targets, share=often, strengths=[0.05])
    np.testing.assert_allclose(three.state["linear.weight"], one.state["linear.weight"], atol=1e-7)


def test_the_penalty_follows_what_the_features_say() -> None:
    """Pure noise wants none of the features; a clear signal in many images wants little of a penalty."""
    random = np.random.default_rng(0)
    noise = random.normal(0, 1, (120, 40))
    task = task_of("classify", width=40, answers=Answers(("no", "yes"), "yes"))
    told = solved(task, noise, np.arange(120) % 2)
    assert told.strength == max(told.tried) and told.folds == 5
    clear = np.concatenate([random.normal(0, 1, (600, 39)), np.zeros((600, 1))], axis=1)
    targets = (clear[:, 0] + 0.1 * random.normal(0, 1, 600) > 0).astype(int)
    found = solved(task, clear, targets)
    assert found.strength < 0.01 and found.tried[found.strength] == min(found.tried.values())
    assert found.spread[-1] == 1.0  # the feature that does not vary


def test_images_of_one_patient_are_not_judged_by_what_was_learnt_from_them() -> None:
    """Twenty patients, each with features of their own and a label that these do not tell to others."""
    random = np.random.default_rng(1)
    person = np.repeat(np.arange(20), 10)
    features = random.normal(0, 1, (20, 60))[person] + random.normal(0, 0.1, (200, 60))
    targets = random.permutation(np.arange(20) % 2)[person]
    task = task_of("classify", width=60, answers=Answers(("no", "yes"), "yes"))
    honest = solve(features, targets, groups=[f"p{p}" for p in person], task=task)
    fooled = solve(features, targets, groups=names(200), task=task)
    assert min(fooled.tried.values()) < 0.1 < 0.5 < min(honest.tried.values())
    assert honest.strength > fooled.strength


def test_folds_hold_whole_groups_and_every_answer() -> None:
    person = np.repeat(np.arange(50), 4)
    targets = np.where(person < 5, 2, person % 2)
    parts = folds_of(targets, [f"p{p}" for p in person])
    assert set(parts) == set(range(5))
    assert all(len(set(parts[person == p])) == 1 for p in range(50))
    for fold in range(5):
        assert Counter(targets[parts == fold])[2] == 4  # one patient of the five with the rare class
        assert abs((parts == fold).sum() - 40) <= 8
    assert (parts == folds_of(targets, [f"p{p}" for p in person])).all()
    assert (parts != folds_of(targets, [f"p{p}" for p in person], seed=1)).any()


def test_folds_of_labels_and_numbers_are_alike() -> None:
    labels = np.zeros((100, 2), np.float32)
    labels[:10, 0] = labels[5:60, 1] = 1
    parts = folds_of(labels, names(100))
    assert [labels[parts == fold, 0].sum() for fold in range(5)] == [2] * 5
    numbers = np.linspace(0, 1, 100).astype(np.float32)
    parts = folds_of(numbers, names(100))
    assert np.ptp([numbers[parts == fold].mean() for fold in range(5)]) < 0.1


def test_too_few_groups_leave_the_middle() -> None:
    features, targets = data_of("classify")
    found = solve(features, targets, groups=["one"] * len(targets), task=task_of("classify"))
    assert found.folds == 0 and not found.tried and 0.01 < found.strength < 0.1
    assert folds_of(np.array([0, 1, 0]), ["a", "b", "c"]).max() == 2


def test_the_same_bits_again_and_nothing_else_is_touched() -> None:
    features, targets = data_of("grade")
    task = task_of("grade")
    task.begin(targets)
    kept = {name: value.clone() for name, value in task.state_dict().items()}
    torch.manual_seed(3)
    first = solved(task, features, targets)
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(1))
    assert all(torch.equal(value, kept[name]) for name, value in task.state_dict().items())
    second = solved(task, features, targets)
    assert first.tried == second.tried
    assert all(torch.equal(value, second.state[name]) for name, value in first.state.items())


def test_standard_deviations_are_never_nothing() -> None:
    rows = torch.tensor([[1.0, 5.0, 1e6], [3.0, 5.0, 1e6 + 1e-4]], dtype=torch.float64)
    centre, spread = standard_of(rows)
    assert centre.tolist() == [2.0, 5.0, 1e6] and spread.tolist() == [1.0, 1.0, 1.0]
    assert torch.isfinite((torch.rand(4, 3) - centre) / spread).all()
