"""The probe: a head at the optimum of its task's own loss on features that do not change.

The loss is convex in a linear layer, and with an L2 penalty on the weights its
optimum is one point, which L-BFGS finds to the last digits in seconds: no rate,
no schedule, no luck. How strong the penalty should be is asked of the training
images alone, by cross-validation that keeps the images of a patient together.

Sources: Alain, Bengio, "Understanding intermediate layers using linear
classifier probes", ICLR workshop 2017; Kumar, Raghunathan, Jones, Ma, Liang,
"Fine-tuning can distort pretrained features", ICLR 2022, for tuning from there.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.linalg import solve_triangular

from medgraft import seeds
from medgraft.learn import stopping
from medgraft.tasks.base import ImageTask

# Of the squared weights of standardised features, beside the mean loss of an image; the strongest comes first.
STRENGTHS = tuple(float(strength) for strength in np.logspace(1, -4, 7))
_FOLDS = 5
_BINS = 5  # parts of numeric targets that every fold gets its share of
_CURVATURE = 0.25  # of a log-loss at most; it decides how soon the optimum is found, and not where it is
_ROUGH, _FINE = 1e-4, 1e-9  # largest slope at the end: to compare strengths, and of what is kept
_MOST_STEPS = 200
_WORSE = 2  # weaker penalties in a row that did worse: still weaker ones are not tried
_WEIGHT = "linear.weight"

State = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Probed:
    """A head that was solved for.

    Attributes:
        centre: `(F,)` means of the features.
        spread: `(F,)` their standard deviations; 1 where a feature does not vary.
        state: the head's parameters by name, for standardised features.
        strength: of the penalty.
        loss: mean loss of the training images, without the penalty.
        tried: strength -> mean loss of images that were held out; empty where too few groups can be held out.
        folds: how many parts were held out, one after the other.
    """

    centre: Tensor
    spread: Tensor
    state: Mapping[str, Tensor]
    strength: float
    loss: float
    tried: Mapping[float, float]
    folds: int

    def logits(self, features: np.ndarray, task: ImageTask) -> np.ndarray:
        """Get `(N, K)` float64 logits of features `(N, F)`, with the task's correction for weighted classes."""
        alone = _alone(task, features.shape[1])
        own = dict(alone.head.named_parameters())
        rows = (torch.from_numpy(features).double() - self.centre) / self.spread
        with torch.no_grad():
            for name, value in self.state.items():
                own[name].copy_(value)
            return alone.corrected(alone.answer(rows)).numpy()

    def put(self, task: ImageTask) -> None:
        """Give the task this head."""
        task.head.standard.put(self.centre, self.spread)
        own = dict(task.head.named_parameters())
        with torch.no_grad():
            for name, value in self.state.items():
                own[name].copy_(value)


def solve(
    features: np.ndarray | Tensor,
    targets: np.ndarray | Tensor,
    *,
    groups: Sequence[str],
    task: ImageTask,
    share: np.ndarray | None = None,
    seed: int = 0,
    strengths: Sequence[float] = STRENGTHS,
) -> Probed:
    """Get the best head for features, its penalty chosen among `strengths`; the task is not changed.

    In float64 on the processor; the same arguments give the same bits.

    Args:
        features: `(N, F)` of the images as they are, or `(N, V, F)` with V - 1 augmented views after each: all views
            are learnt from, and an image that is held out is judged as it is.
        targets: `(N,)` or `(N, K)` what the task encoded.
        groups: N names; images of one name are held out together.
        task: loss, class weights, label smoothing and the form of the head are its own; its encoder is not used.
        share: `(N,)` how often each image would be drawn, in any scale; None counts all alike.
        seed: of who is held out with whom.
        strengths: of the penalty, the strongest first; a single one is taken as it is.
    """
    rows = torch.as_tensor(features).detach().to("cpu", torch.float64, copy=True)
    rows = rows[:, None] if rows.ndim == 2 else rows
    truth = torch.as_tensor(targets).detach().cpu()
    counted = torch.ones(len(rows)) if share is None else torch.as_tensor(share)
    centre, spread = standard_of(rows.flatten(0, 1))
    problem = _Problem(task, rows.sub_(centre).div_(spread), truth, counted.double())
    parts = folds_of(truth.numpy(), groups, seed=seed)
    folds = int(parts.max()) + 1
    tried = problem.cross_validate(parts, strengths) if folds > 1 and len(strengths) > 1 else {}
    # Equally good ones: the strongest, as it moves least.
    strength = min(tried, key=lambda one: (tried[one], -one)) if tried else strengths[len(strengths) // 2]
    words = {"strength": strength, "factor": problem.factor(strength), "slope": _FINE}
    found = problem.descend(problem.blank, problem.counted, **words)
    loss = problem.loss(found, problem.counted)
    return Probed(centre, spread, problem.unturned(found), strength, loss, tried, folds if tried else 0)


def standard_of(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Get (means, standard deviations) of the columns of `(N, F)`, rounded to float32 as a head holds them.

    A column that does not vary gets the deviation 1.
    """
    deviations, means = torch.std_mean(rows, dim=0, correction=0)
    still = deviations <= 1e-6 * torch.maximum(means.abs(), deviations.max())
    return means.float(), torch.where(still, 1.0, deviations).float()


def folds_of(targets: np.ndarray, groups: Sequence[str], *, seed: int = 0, folds: int = _FOLDS) -> np.ndarray:
    """Get each image's fold, int64 `(N,)`: groups stay whole, and each fold gets its share of every answer.

    Groups with rare answers come first, and go where those answers are lacking most. Fewer groups than folds make
    fewer folds.

    Args:
        targets: `(N,)` classes or numbers, or `(N, K)` labels of 0 and 1.
        groups: N names.
        seed: of the order among equals.
        folds: at most.
    """
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    answers = _answers(targets)
    held = np.zeros((len(names), answers.shape[1]))
    np.add.at(held, member, answers)
    folds = max(1, min(folds, len(names)))
    lack = np.tile(held.sum(axis=0) / folds, (folds, 1))
    room = np.full(folds, held.sum() / folds)
    order = seeds.permutation(len(names), seed=seed, purpose="folds")
    rarity = np.where(held > 0, held.sum(axis=0), np.inf)
    chosen = np.zeros(len(names), dtype=np.int64)
    for group in order[np.argsort(rarity[order].min(axis=1), kind="stable")]:
        rarest = int(rarity[group].argmin())
        fold = max(range(folds), key=lambda place: (lack[place, rarest], room[place]))
        chosen[group] = fold
        lack[fold] -= held[group]
        room[fold] -= held[group].sum()
    return chosen[member]


def _answers(targets: np.ndarray) -> np.ndarray:
    """One column an answer, `(N, L)` of 0 and 1: classes; labels, and none of them; bins of numbers."""
    if targets.ndim == 2:
        return np.column_stack([targets > 0, ~(targets > 0).any(axis=1)]).astype(np.float64)
    if targets.dtype.kind == "f":
        edges = np.quantile(targets, np.linspace(0, 1, _BINS + 1)[1:-1])
        targets = np.searchsorted(edges, targets, side="right")
    return np.eye(int(targets.max()) + 1)[targets]


class _Problem:
    """Rows, truth and a copy of the task that answers them, in as few dimensions as there are rows.

    A penalised optimum is a sum of rows, so turning the rows into the space that they span loses nothing.
    """

    def __init__(self, task: ImageTask, rows: Tensor, targets: Tensor, counted: Tensor) -> None:
        images, views, width = rows.shape
        self.rows, self.turn = rows.flatten(0, 1), None
        if len(self.rows) < width:
            self.turn, small = torch.linalg.qr(self.rows.mT)
            self.rows = small.mT.contiguous()
        self.plain = torch.arange(images) * views
        self.targets = targets.repeat_interleave(views, dim=0)
        self.targets = self.targets.double() if targets.is_floating_point() else self.targets
        self.counted = counted.repeat_interleave(views)
        self.task = _alone(task, self.rows.shape[1])
        # The head that takes nothing from the features: where every search begins.
        self.blank = {name: value.detach().clone() for name, value in self.task.head.named_parameters()}
        self.moments = self.rows.mT @ self.rows * (_CURVATURE / len(self.rows))

    def loss(self, state: State, counted: Tensor) -> float:
        """Get the mean loss of a head, without a penalty, of the rows that count."""
        self._set(state)
        with torch.no_grad():
            return float(self._mean(counted))

    def factor(self, strength: float) -> Tensor:
        """Get the Cholesky factor of the largest curvature that the penalised loss can have."""
        return torch.linalg.cholesky(self.moments + strength * torch.eye(len(self.moments), dtype=torch.float64))

    def descend(self, state: State, counted: Tensor, *, strength: float, factor: Tensor, slope: float) -> State:
        """Get the optimum for the rows that count, going from a head that may be near it.

        The weights are searched in the coordinates of `factor`, in which the loss curves alike in all directions, so
        that ten steps do what took hundreds.
        """
        head = dict(self.task.head.named_parameters())
        self._set(state)
        inner = (factor.mT @ state[_WEIGHT].mT).contiguous().requires_grad_()
        others = [value for name, value in head.items() if name != _WEIGHT]
        optimiser = torch.optim.LBFGS(
            [inner, *others],
            max_iter=_MOST_STEPS,
            tolerance_grad=slope,
            tolerance_change=1e-14,
            history_size=20,
            line_search_fn="strong_wolfe",
        )

        def look() -> Tensor:
            stopping.check()
            weight = head[_WEIGHT]
            with torch.no_grad():
                weight.copy_(solve_triangular(factor.mT, inner, upper=True).mT)
            loss = self._mean(counted) + 0.5 * strength * weight.square().sum()
            own, *more = torch.autograd.grad(loss, [weight, *others])
            inner.grad = solve_triangular(factor, own.mT, upper=False).contiguous()
            for value, gradient in zip(others, more, strict=True):
                value.grad = gradient
            return loss

        optimiser.step(look)
        with torch.no_grad():
            head[_WEIGHT].copy_(solve_triangular(factor.mT, inner, upper=True).mT)
        return {name: value.detach().clone() for name, value in head.items()}

    def cross_validate(self, parts: np.ndarray, strengths: Sequence[float]) -> dict[float, float]:
        """Get strength -> mean loss of held-out images, each judged by the head that did not learn from it."""
        own = torch.from_numpy(parts).repeat_interleave(len(self.rows) // len(parts))
        plain = torch.zeros_like(self.counted)
        plain[self.plain] = self.counted[self.plain]
        folds = range(int(parts.max()) + 1)
        states, tried = [self.blank] * len(folds), {}
        for strength in strengths:
            factor, losses = self.factor(strength), 0.0
            for fold in folds:
                kept, judged = self.counted * (own != fold), plain * (own == fold)
                words = {"strength": strength, "factor": factor, "slope": _ROUGH}
                states[fold] = self.descend(states[fold], kept, **words)
                losses += self.loss(states[fold], judged) * float(judged.sum())
            tried[strength] = losses / float(plain.sum())
            if len(tried) > _WORSE and min(tried, key=lambda one: tried[one]) not in list(tried)[-_WORSE:]:
                break
        return tried

    def unturned(self, state: State) -> State:
        """Get a head for the features themselves."""
        weight = state[_WEIGHT] if self.turn is None else state[_WEIGHT] @ self.turn.mT
        return {**state, _WEIGHT: weight}

    def _set(self, state: State) -> None:
        with torch.no_grad():
            for name, value in self.task.head.named_parameters():
                value.copy_(state[name])

    def _mean(self, counted: Tensor) -> Tensor:
        each = self.task.loss(self.task.answer(self.rows), self.targets)
        return (each * counted).sum() / counted.sum()


def _alone(task: ImageTask, width: int) -> ImageTask:
    """A copy of a task in float64 without its encoder, whose head takes features of this width as they are."""
    alone = copy.deepcopy(task, {id(task.backbone): nn.Identity()}).cpu()
    with torch.random.fork_rng(devices=[]):
        alone.head.resize(width)
    alone.head.standard = nn.Identity()  # type: ignore[assignment]  # done once, not in every step
    alone.double().eval()
    alone.requires_grad_(True)
    with torch.no_grad():
        alone.head.linear.weight.zero_()
    return alone
