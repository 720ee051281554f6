"""Short fits of one detector at several depths, judged on parts of the training images that they did not learn from.

Every fit begins at the same random pyramid and detector, and is judged by its last weights, averaged: a choice among
its epochs would have to be made on the images that judge it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from medgraft.learn import probe, stopping
from medgraft.learn.engine import Engine
from medgraft.learn.trials import Trial
from medgraft.place_depth import short_fit
from medgraft.recipe import Recipe
from medgraft.samples.box_loader import BoxLoader
from medgraft.samples.loader import Loader
from medgraft.scores.boxes import Detections
from medgraft.scores.intervals import Statistic
from medgraft.scores.matching import Matches, match_boxes
from medgraft.scores.resample import mean_known
from medgraft.tasks.box_meter import both_limits
from medgraft.tasks.detect import Detect
from medgraft.values import Boxes, Prediction

FOLDS = 2  # each fit learns from half of the images: a third part would double the cost


class BoxFits:
    """Fits on parts of the training images; see `depth_trials.Fits`.

    Args:
        task: grafted on an encoder that has learnt nothing from these images; it is copied for each fit.
        engine: device and precision.
        loader: all training images, augmented and shuffled.
        groups: a name for each image; images of one name are held out together.
        recipe: planned; rates and schedule are its own.
    """

    def __init__(
        self, task: Detect, engine: Engine, *, loader: BoxLoader, groups: Sequence[str], recipe: Recipe
    ) -> None:
        assert loader.targets is not None
        self.engine, self.loader, self.recipe = engine, loader, recipe
        self._base, self._truth = task, task.decode(loader.targets.numpy())
        self.folds = probe.folds_of(_kinds(loader.targets.numpy()), groups, seed=recipe.seed, folds=FOLDS)

    @property
    def count(self) -> int:
        """How many parts are held out, one after the other; 1 means that none can be."""
        return int(self.folds.max(initial=0)) + 1

    def run(
        self, trial: Trial, fold: int, *, weights: Mapping[str, Tensor] | None = None
    ) -> tuple[np.ndarray, dict[str, Tensor]]:
        """Fit on what is not of a part, and find boxes in the part.

        Args:
            trial: what to try.
            fold: the part that is held out.
            weights: those of the end of the trial that this one goes on from.

        Returns:
            `(D, 7)` place of the image in the loader, class, score and corners in network pixels; and the weights.

        Raises:
            Interrupted: the run was asked to stop.
            NotFinite: the loss became infinite; the rate is too high.
        """
        kept, held = np.flatnonzero(self.folds != fold), np.flatnonzero(self.folds == fold)
        source = self.loader.part(kept)
        task, ended = short_fit(self._base, trial, source, weights=weights, engine=self.engine, recipe=self.recipe)
        return self._found(task, held), ended

    def _found(self, task: Detect, held: np.ndarray) -> np.ndarray:
        """Boxes in images as they are, in network pixels."""
        task.eval()
        number = {name: place for place, name in enumerate(task.answers.classes)}
        rows, told = [np.zeros((0, 7))], self._told(task, self.loader.part(held, shuffle=False))
        for place, one in zip(held.tolist(), told, strict=True):
            assert one.boxes is not None and one.boxes.scores is not None
            named = [number[label] for label in one.boxes.labels]
            rows.append(np.column_stack([np.full(len(named), place), named, one.boxes.scores, one.boxes.corners]))
        return np.concatenate(rows)

    def _told(self, task: Detect, source: Loader) -> Iterator[Prediction]:
        for batch in source.view(0):
            stopping.check()
            with torch.inference_mode(), self.engine.autocast():
                yield from task.predict(self.engine.move(batch))

    def joined(self, parts: Sequence[np.ndarray]) -> list[list[Matches]] | None:
        """Lay the boxes found in each part on the true ones; None where a part failed."""
        if any(found.ndim < 2 for found in parts):
            return None
        return [match_boxes(self._beside(found, fold), by_size=False) for fold, found in enumerate(parts)]

    def _beside(self, found: np.ndarray, fold: int) -> Detections:
        classes, held = self._base.answers.classes, np.flatnonzero(self.folds == fold).tolist()
        own = [found[found[:, 0] == place] for place in held]
        boxes = [Boxes(rows[:, 3:], tuple(classes[int(one)] for one in rows[:, 1]), rows[:, 2]) for rows in own]
        keys = tuple(self.loader.keys[place] for place in held)
        return Detections(keys, tuple(self._truth[place] for place in held), tuple(boxes), classes)

    def statistic(self, answers: list[list[Matches]] | None) -> Statistic:
        """Get the mean over the parts of average precision at IoU .50 and .75, of weights `(B, N)` of the images."""
        parts = [self.folds == fold for fold in range(self.count)]

        def mean(rows: np.ndarray) -> np.ndarray:
            if answers is None:
                return np.full(len(rows), np.nan)
            found = [both_limits(one, rows[:, own]) for one, own in zip(answers, parts, strict=True)]
            return mean_known(np.stack(found, axis=1))

        return mean


def _kinds(targets: np.ndarray) -> np.ndarray:
    """What parts get their share of: the class that an image has most of, counted from 1; 0 where it has no box."""
    most = []
    for rows in targets:
        kinds = rows[np.isfinite(rows[:, 0]), 4].astype(np.int64)
        most.append(1 + int(np.bincount(kinds).argmax()) if len(kinds) else 0)
    return np.array(most, dtype=np.int64)
