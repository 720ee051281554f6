"""Short fits of one encoder at several depths, judged on parts of the training images that they did not learn from.

Every fit begins at the head that is best for the untuned features of its part, and is judged by its last weights:
a choice among its epochs would have to be made on the images that judge it, and would favour fits that waver.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medgraft import seeds
from medgraft.learn import probe, start, stopping
from medgraft.learn.engine import Engine
from medgraft.learn.held import answers_of, held_score
from medgraft.learn.loop import Loop, Schedule
from medgraft.learn.prefix import Frozen
from medgraft.nets import parameter_groups
from medgraft.samples.loader import Loader
from medgraft.scores.intervals import Statistic
from medgraft.scores.resample import mean_known
from medgraft.tasks.base import ImageTask
from medgraft.values import Batch

FOLDS = 3
AVERAGED = 8  # the weights are averaged over one in so many of the steps, as in a whole fit


@dataclass(frozen=True)
class Trial:
    """One thing to try.

    Attributes:
        thawed: stages that learn, from the head down; 0 is the head alone, and needs no epochs.
        lr: peak learning rate of the head and of the stage next to it.
        epochs: passes over the part of the training images that it learns from.
        before: epochs of the trial that it goes on from, with the weights of its end; 0 begins at the head's optimum.
        rank: of adapters that learn in place of the stages' own weights; 0 for none.
    """

    thawed: int
    lr: float = 0.0
    epochs: int = 0
    before: int = 0
    rank: int = 0

    @property
    def depth(self) -> tuple[int, bool]:
        """What is compared, the shallowest first: stages that learn, and whether their own weights do."""
        return self.thawed, not self.rank


@dataclass(frozen=True)
class Pace:
    """What all trials have in common.

    Attributes:
        layer_decay: each stage further down learns this times slower.
        weight_decay: of weights.
        warmup: part of the steps in which the rate rises.
        clip: largest norm of the gradient.
        seed: of every draw.
        balance: "none", "weights" or "sampling".
        head_views: how many views of an image the head that all begin with is found on, at most.
    """

    layer_decay: float = 1.0
    weight_decay: float = 0.05
    warmup: float = 0.1
    clip: float = 1.0
    seed: int = 0
    balance: str = "none"
    head_views: int = 2


class Trials:
    """Fits on parts of the training images.

    Args:
        task: grafted on an encoder that has learnt nothing from these images; it is copied for each fit.
        engine: device and precision.
        loader: all training images, augmented and shuffled.
        frozen: activations of `loader`'s images by the number of thawed stages; 0 must be there. A depth that is
            missing starts from pixels.
        groups: a name for each image; images of one name are held out together.
        pace: rates and schedule.
    """

    def __init__(
        self,
        task: ImageTask,
        engine: Engine,
        *,
        loader: Loader,
        frozen: Mapping[int, Frozen],
        groups: Sequence[str],
        pace: Pace,
    ) -> None:
        assert loader.targets is not None
        self.engine, self.loader, self.frozen, self.pace = engine, loader, frozen, pace
        self.groups, self.targets = list(groups), loader.targets.numpy()
        self.folds = probe.folds_of(self.targets, self.groups, seed=pace.seed, folds=FOLDS)
        self._base = task
        self._begun: dict[int, tuple[ImageTask, np.ndarray | None]] = {}

    @property
    def count(self) -> int:
        """How many parts are held out, one after the other; 1 means that none can be."""
        return int(self.folds.max(initial=0)) + 1

    def run(
        self,
        trial: Trial,
        fold: int,
        *,
        weights: Mapping[str, Tensor] | None = None,
        listen: Callable[[dict[str, Any]], None] = lambda event: None,
    ) -> tuple[np.ndarray, dict[str, Tensor]]:
        """Fit on what is not of a part; get the logits `(M, K)` of its images, in the loader's order, and the weights.

        Args:
            trial: what to try.
            fold: the part that is held out.
            weights: those of the end of the trial that this one goes on from.
            listen: gets progress events.

        Raises:
            Interrupted: the run was asked to stop.
            NotFinite: the loss became infinite; the rate is too high.
        """
        stopping.check()
        begun, share = self._begin(fold, listen)
        kept, held = np.flatnonzero(self.folds != fold), np.flatnonzero(self.folds == fold)
        if trial.thawed == 0:
            return self._judged(begun, self._source(0, held, shuffle=False)), {}
        task = copy.deepcopy(begun)
        task.thaw(trial.thawed, rank=trial.rank, seed=self.pace.seed)
        own = task.state_dict()
        with torch.no_grad():
            for name, value in (weights or {}).items():
                own[name].copy_(value)
        source = self._source(trial.thawed, kept, share=share)
        if trial.before:  # epochs are counted from nought again, and should not be the same ones
            source.seed = seeds.torch_seed(self.pace.seed, "trial", trial.before)
        self._loop(task, trial, source, listen).run()
        learnt = {name for name, value in task.named_parameters() if value.requires_grad}
        learnt |= {name for name, _ in task.named_buffers()}
        ended = {name: value.detach().cpu().clone() for name, value in task.state_dict().items() if name in learnt}
        return self._judged(task, self._source(trial.thawed, held, shuffle=False)), ended

    def joined(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """Put the logits of all parts together: what the score orders images by; all NaN where a part failed.

        Args:
            parts: what `run` gave of each; of no dimension but one where it failed.
        """
        if any(found.ndim < 2 for found in parts):
            return np.full(len(self.folds), np.nan)
        logits = np.empty((len(self.folds), parts[0].shape[1]))
        for fold, found in enumerate(parts):
            logits[self.folds == fold] = found
        return answers_of(self._base, logits)

    def statistic(self, answers: np.ndarray) -> Statistic:
        """Get the mean score over the parts as a function of weights `(B, N)` of the images.

        Args:
            answers: of `joined`.
        """
        parts = [self.folds == fold for fold in range(self.count)]

        def mean(rows: np.ndarray) -> np.ndarray:
            if not np.isfinite(answers).all():
                return np.full(len(rows), np.nan)
            found = [
                held_score(self._base, answers[own], truth=self.targets[own], weights=rows[:, own]) for own in parts
            ]
            return mean_known(np.stack([np.atleast_1d(values) for values in found], axis=1))

        return mean

    def _loop(
        self, task: ImageTask, trial: Trial, source: Loader | Frozen, listen: Callable[[dict[str, Any]], None]
    ) -> Loop:
        pace = self.pace
        groups = parameter_groups(
            task.backbone,
            task.head,
            thawed=trial.thawed,
            lr=trial.lr,
            layer_decay=1.0 if trial.rank else pace.layer_decay,  # every adapter is new
            weight_decay=pace.weight_decay,
        )
        steps = trial.epochs * len(source)
        average = max(0.0, 1 - AVERAGED / max(steps, 1))
        schedule = Schedule(trial.epochs, seed=pace.seed, warmup=pace.warmup, clip=pace.clip, ema=average)
        optimiser = torch.optim.AdamW(groups, fused=True)
        words: dict[str, Any] = {"train": source, "val": None, "folder": None, "listen": listen}
        return Loop(task, self.engine, optimisers={"all": optimiser}, schedule=schedule, **words)

    def _begin(self, fold: int, listen: Callable[[dict[str, Any]], None]) -> tuple[ImageTask, np.ndarray | None]:
        """A task with the best head for the untuned features of what is not of this part; the same for all depths."""
        if fold not in self._begun:
            kept = np.flatnonzero(self.folds != fold)
            task = copy.deepcopy(self._base)
            task.begin(self.targets[kept])
            share = task.balance(self.targets[kept], self.pace.balance)
            source = self._source(0, kept, share=share)
            groups = [self.groups[int(place)] for place in kept]
            views = min(source.views, self.pace.head_views) if isinstance(source, Frozen) else 1
            start.begin(task, self.engine, source=source, views=views, groups=groups, listen=listen)
            self._begun[fold] = task, share
        return self._begun[fold]

    def _source(
        self, thawed: int, places: np.ndarray, *, share: np.ndarray | None = None, shuffle: bool = True
    ) -> Loader | Frozen:
        part = self.loader.part(places, share=share, shuffle=shuffle)
        return self.frozen[thawed].part(places, part) if thawed in self.frozen else part

    def _judged(self, task: ImageTask, source: Loader | Frozen) -> np.ndarray:
        task.eval()
        return np.concatenate([self._logits(task, batch) for batch in _plain(source)])

    def _logits(self, task: ImageTask, batch: Batch) -> np.ndarray:
        stopping.check()
        with torch.inference_mode(), self.engine.autocast():
            return task.logits(self.engine.move(batch))


def _plain(source: Loader | Frozen) -> Iterator[Batch]:
    """Every image as it is."""
    return source.view(0)


def epochs_of(whole: int, share: float) -> int:
    """Get the epochs of a trial that gets a share of a whole fit's; at least one.

    Example:
        >>> epochs_of(60, 0.1), epochs_of(3, 0.1)
        (6, 1)
    """
    return max(1, math.floor(whole * share + 0.5))
