"""Short fits of one task on places at several depths, judged on parts of the training images that it did not see.

Every depth is fitted on one half and judged on the other, both ways round, for an eighth of a whole fit's epochs; the
best two go on for an eighth more. What is fitted and how it is judged is told by whoever asks: label maps, prompts.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from medgraft import storage
from medgraft.depth_rounds import entry_of, halved
from medgraft.depth_trials import Finder
from medgraft.errors import BadData
from medgraft.gather import Listen
from medgraft.learn import probe, stopping
from medgraft.learn.engine import Engine
from medgraft.learn.loop import Loop, Schedule, Source
from medgraft.learn.trials import AVERAGED, Trial
from medgraft.nets import parameter_groups
from medgraft.recipe import Recipe
from medgraft.scores.intervals import Statistic
from medgraft.scores.resample import ratio
from medgraft.values import Batch

FOLDS = 2  # each fit learns from half of the images: a third part would double the cost
ROUNDS = ((1 / 8, 99, 1), (1 / 8, 2, 1))  # share of a whole fit's epochs, depths that get it, rates of each


class Parted(Source, Protocol):
    """Batches of which those of some images alone can be had."""

    def part(self, places: Sequence[int]) -> Source:
        """Get the batches of some images."""
        ...


@dataclass(frozen=True, eq=False)
class Asked:
    """What depths are compared on.

    Attributes:
        task: untuned; it is copied for each fit.
        engine: device and precision.
        train: all training images.
        judged: task and places of images -> the score `(M, )` of each, NaN where it has none.
        groups: a name for each image; images of one name are held out together.
        patients: of each image; None when unknown.
        score: its name.
        start: what all fits begin with, in a sentence.
        identity: the hash of everything that decides what a trial gives, but the trial.
    """

    task: Any
    engine: Engine
    train: Parted
    judged: Callable[[Any, Sequence[int]], np.ndarray]
    groups: Sequence[str]
    patients: Sequence[str] | None
    score: str
    start: str
    identity: str


def tried(asked: Asked, recipe: Recipe, depths: Sequence[Trial], *, folder: Path, listen: Listen) -> dict[str, Any]:
    """Try depths and get what depth.json holds (see `medgraft.report.schema`).

    Args:
        asked: what is fitted and judged.
        recipe: planned; rates and epochs are its own.
        depths: the shallowest first.
        folder: finished trials are kept here, and taken from here when they were done before.
        listen: gets progress events.

    Raises:
        BadData: there are too few patients.
        BadRecipe: no depth gave a score.
        Interrupted: finished trials are kept.
    """
    began = time.perf_counter()
    if len(set(asked.groups)) < FOLDS:
        what = f"{len(set(asked.groups))} training patients are too few to compare depths on parts of them"
        raise BadData(what, do="Give --depth, or more patients.")
    finder = Finder(
        asked.task,
        PlaceFits(asked, recipe),
        recipe,
        depths,
        patients=asked.patients,
        folder=folder,
        identity=asked.identity,
        listen=listen,
    )
    rounds = halved(finder, ready=(), tried=finder.depths, rounds=ROUNDS)
    seconds = round(time.perf_counter() - began, 1)
    return {**entry_of(rounds, finder, score=asked.score), "start": asked.start, "seconds": seconds}


class PlaceFits:
    """Fits on parts of the training images; see `depth_trials.Fits`."""

    def __init__(self, asked: Asked, recipe: Recipe) -> None:
        self.asked, self.recipe = asked, recipe
        count = len(asked.groups)
        self.folds = probe.folds_of(np.zeros(count, np.int64), asked.groups, seed=recipe.seed, folds=FOLDS)

    @property
    def count(self) -> int:
        """How many parts are held out, one after the other."""
        return int(self.folds.max(initial=0)) + 1

    def run(
        self, trial: Trial, fold: int, *, weights: Mapping[str, Tensor] | None = None
    ) -> tuple[np.ndarray, dict[str, Tensor]]:
        """Fit on what is not of a part and judge the part: `(M, 2)` place and score, and the weights that were learnt.

        Raises:
            Interrupted: the run was asked to stop.
            NotFinite: the loss became infinite; the rate is too high.
        """
        kept, held = np.flatnonzero(self.folds != fold), np.flatnonzero(self.folds == fold)
        source = self.asked.train.part(kept.tolist())
        task, ended = short_fit(
            self.asked.task, trial, source, weights=weights, engine=self.asked.engine, recipe=self.recipe
        )
        return np.column_stack([held, self.asked.judged(task.eval(), held.tolist())]), ended

    def joined(self, parts: Sequence[np.ndarray]) -> np.ndarray | None:
        """Get the score of every image; None where a part failed."""
        if any(found.ndim < 2 for found in parts):
            return None
        rows = np.concatenate(list(parts))
        scores = np.full(len(self.folds), np.nan)
        scores[rows[:, 0].astype(int)] = rows[:, 1]
        return scores

    def statistic(self, answers: np.ndarray | None) -> Statistic:
        """Get the mean score of weights `(B, N)` of the images."""

        def mean(rows: np.ndarray) -> np.ndarray:
            if answers is None:
                return np.full(len(rows), np.nan)
            known = np.isfinite(answers)
            return ratio(rows @ np.where(known, answers, 0.0), rows @ known.astype(np.float64))

        return mean


def short_fit(
    base: Any,
    trial: Trial,
    source: Source,
    *,
    weights: Mapping[str, Tensor] | None,
    engine: Engine,
    recipe: Recipe,
) -> tuple[Any, dict[str, Tensor]]:
    """Fit a copy of a task for a trial's epochs: the task at its end, its weights averaged, and what it learnt.

    Args:
        base: untuned; not changed.
        trial: what to try.
        source: what it learns from.
        weights: those of the end of the trial that this one goes on from.
        engine: device and precision.
        recipe: planned; decay, warm-up and clipping are its own.

    Raises:
        Interrupted: the run was asked to stop.
        NotFinite: the loss became infinite; the rate is too high.
    """
    stopping.check()
    task, fit = copy.deepcopy(base), recipe.fit
    task.thaw(trial.thawed, **({"rank": trial.rank, "seed": recipe.seed} if trial.rank else {}))
    own = task.state_dict()
    with torch.no_grad():
        for name, value in (weights or {}).items():
            own[name].copy_(value)
    groups = parameter_groups(
        task.backbone,
        task.head,
        thawed=trial.thawed,
        lr=trial.lr,
        head_lr=fit.head_lr,
        layer_decay=fit.layer_decay or 1.0,
        weight_decay=fit.weight_decay,
    )
    average = max(0.0, 1 - AVERAGED / max(trial.epochs * len(source), 1))
    schedule = Schedule(trial.epochs, seed=recipe.seed, warmup=fit.warmup, clip=fit.clip, ema=average)
    words: dict[str, Any] = {"train": _Later(source, trial.before), "val": None, "folder": None}
    optimisers = {"all": torch.optim.AdamW(groups, fused=True)}
    Loop(task, engine, optimisers=optimisers, schedule=schedule, **words).run()
    learnt = {name for name, value in task.named_parameters() if value.requires_grad}
    learnt |= {name for name, _ in task.named_buffers()}
    return task, {name: t.detach().cpu().clone() for name, t in task.state_dict().items() if name in learnt}


class _Later:
    """A source whose epochs begin to count where an earlier trial ended, so that no view comes twice."""

    def __init__(self, source: Source, before: int) -> None:
        self.source, self.before = source, before

    def __len__(self) -> int:
        return len(self.source)

    def epoch(self, epoch: int, *, start_step: int = 0) -> Iterator[Batch]:
        """As of the source."""
        return self.source.epoch(epoch + self.before, start_step=start_step)


def identity_of(values: Sequence[Any]) -> str:
    """Get the hash of plain values that decide what a trial gives."""
    return storage.sha256_json(list(values))
