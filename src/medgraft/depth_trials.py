"""Trials of depths on one data set, kept on disk as they come, and compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from medgraft import storage
from medgraft.errors import NotFinite
from medgraft.gather import Listen
from medgraft.learn.held import answers_of, held_score
from medgraft.learn.trials import Trial, Trials
from medgraft.recipe import Recipe
from medgraft.scores.resample import mean_known
from medgraft.scores.standing import Standing, stand
from medgraft.tasks.base import ImageTask
from medgraft.weights import tensors


@dataclass(eq=False)
class Finder:
    """Trials on one data set, kept on disk as they come.

    Attributes:
        task: untuned.
        trials: what can be tried.
        recipe: planned for the whole net.
        depths: one trial of each depth, the shallowest first; rate and epochs are to be filled in.
        patients: names of the training images' patients; None when unknown.
        folder: where finished trials are kept.
        identity: the hash of everything that decides what a trial gives, but the trial.
        listen: gets progress events.
        answers: what the score orders images by, a trial.
    """

    task: ImageTask
    trials: Trials
    recipe: Recipe
    depths: Sequence[Trial]
    patients: Sequence[str] | None
    folder: Path
    identity: str
    listen: Listen
    answers: dict[Trial, np.ndarray] = field(default_factory=dict)

    def run(self, wanted: Sequence[Trial]) -> None:
        """Fit and judge trials on every part, unless that was done before."""
        new = [trial for trial in wanted if trial not in self.answers]
        for done, trial in enumerate(new):
            parts = [self._part(trial, fold) for fold in range(self.trials.count)]
            self.answers[trial] = self._joined(parts)
            self.listen({"event": "depth", "done": done + 1, "of": len(new)})

    def _joined(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """Put the parts together; all NaN where one of them failed."""
        folds = self.trials.folds
        if any(not found.size for found in parts):
            return np.full(len(folds), np.nan)
        logits = np.empty((len(folds), parts[0].shape[1]))
        for fold, found in enumerate(parts):
            logits[folds == fold] = found
        return answers_of(self.task, logits)

    def _part(self, trial: Trial, fold: int) -> np.ndarray:
        place = self._place(trial, fold).with_suffix(".npy")
        if place.exists():
            return np.load(place, allow_pickle=False)
        begun, ended = (self._weights(trial, fold, after=n) for n in (trial.before, trial.before + trial.epochs))
        try:
            found, state = self.trials.run(trial, fold, weights=tensors.load(begun) if begun.exists() else None)
            tensors.save(ended, state=state, words={})
        except NotFinite:
            what = f"tuning {trial.thawed} stages at rate {trial.lr:g} gave no finite numbers, and counts as the worst"
            self.listen({"event": "warning", "text": what})
            found = np.empty(0)
        storage.write_atomic(place, lambda file: np.save(file, found))
        return found

    def _place(self, trial: Trial, fold: int) -> Path:
        return self.folder / storage.sha256_json([self.identity, asdict(trial), fold])[:32]

    def _weights(self, trial: Trial, fold: int, *, after: int) -> Path:
        return self._place(replace(trial, epochs=after, before=0), fold).with_suffix(".safetensors")

    def stand(self, trials: Sequence[Trial]) -> Standing:
        """Compare trials that were run, on the mean score over the parts."""
        statistics = {label_of(trial): self._statistic(trial) for trial in trials}
        return stand(statistics, n=len(self.trials.folds), patients=self.patients, seed=self.trials.pace.seed)

    def _statistic(self, trial: Trial) -> Callable[[np.ndarray], np.ndarray]:
        answers, folds, truth = self.answers[trial], self.trials.folds, self.trials.targets
        parts = [folds == fold for fold in range(self.trials.count)]

        def mean(rows: np.ndarray) -> np.ndarray:
            if not np.isfinite(answers).all():
                return np.full(len(rows), np.nan)
            found = [held_score(self.task, answers[own], truth=truth[own], weights=rows[:, own]) for own in parts]
            return mean_known(np.stack([np.atleast_1d(values) for values in found], axis=1))

        return mean


def label_of(trial: Trial) -> str:
    """Get a short name, one for each trial."""
    return f"{trial.thawed} {trial.rank} {trial.lr:g} {trial.epochs}"
