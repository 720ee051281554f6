"""Trials of depths on one data set, kept on disk as they come, and compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from medgraft import storage
from medgraft.errors import NotFinite
from medgraft.gather import Listen
from medgraft.learn.trials import Trial
from medgraft.recipe import Recipe
from medgraft.scores.intervals import Statistic
from medgraft.scores.standing import Standing, stand
from medgraft.tasks.base import ImageTask
from medgraft.tasks.detect import Detect
from medgraft.weights import tensors


class Fits(Protocol):
    """What can be tried on one data set, and how it is judged: `learn.trials` for whole images, or for boxes."""

    @property
    def folds(self) -> np.ndarray:
        """The part `(N,)` that each image is held out with."""
        ...

    @property
    def count(self) -> int:
        """How many parts there are."""
        ...

    def run(
        self, trial: Trial, fold: int, *, weights: Mapping[str, Tensor] | None = None
    ) -> tuple[np.ndarray, dict[str, Tensor]]:
        """Fit on what is not of a part: answers about the part, of two dimensions or more, and the weights."""
        ...

    def joined(self, parts: Sequence[np.ndarray]) -> Any:
        """Put the answers about all parts together."""
        ...

    def statistic(self, answers: Any) -> Statistic:
        """Get the score of such answers as a function of weights `(B, N)` of the images."""
        ...


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
        answers: what was said of the held images, a trial.
    """

    task: ImageTask | Detect
    trials: Fits
    recipe: Recipe
    depths: Sequence[Trial]
    patients: Sequence[str] | None
    folder: Path
    identity: str
    listen: Listen
    answers: dict[Trial, Any] = field(default_factory=dict)

    def run(self, wanted: Sequence[Trial]) -> None:
        """Fit and judge trials on every part, unless that was done before."""
        new = [trial for trial in wanted if trial not in self.answers]
        for done, trial in enumerate(new):
            parts = [self._part(trial, fold) for fold in range(self.trials.count)]
            self.answers[trial] = self.trials.joined(parts)
            self.listen({"event": "depth", "done": done + 1, "of": len(new)})

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
        statistics = {label_of(trial): self.trials.statistic(self.answers[trial]) for trial in trials}
        return stand(statistics, n=len(self.trials.folds), patients=self.patients, seed=self.recipe.seed)


def label_of(trial: Trial) -> str:
    """Get a short name, one for each trial."""
    return f"{trial.thawed} {trial.rank} {trial.lr:g} {trial.epochs}"
