"""The depth finder: how many stages to tune, asked of the training images by short fits on parts of them.

All depths learn from the same activations and begin at the same head. First
every depth is tried for a tenth of a whole fit, at each rate; then the best
two go on from there for a quarter more. The rule takes the shallowest depth that is within one
standard error of the best. Validation and test images are not looked at.

Source: Jamieson, Talwalkar, "Non-stochastic best arm identification and
hyperparameter optimization", AISTATS 2016, for dropping weak candidates early.
"""

from __future__ import annotations

import contextlib
import copy
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from medgraft import caching, planning, storage
from medgraft.assemble import Parts, assemble, planned, stages_of
from medgraft.errors import BadData, BadRecipe, NotFinite, RunRefused
from medgraft.gather import Gathered, Listen
from medgraft.learn import stopping
from medgraft.learn.engine import memory_said
from medgraft.learn.held import answers_of, held_score, score_name
from medgraft.learn.model import Pixels
from medgraft.learn.recalibrate import recalibrate_on
from medgraft.learn.trials import FOLDS, Pace, Trial, Trials, epochs_of
from medgraft.nets import depth_names
from medgraft.preparing import prepare
from medgraft.recipe import Recipe, Thaw
from medgraft.report.depth_page import reason, write_depth_page
from medgraft.reporting import is_phantom, name_of
from medgraft.samples.split import group_of
from medgraft.scores.resample import mean_known
from medgraft.scores.standing import Standing, stand
from medgraft.tasks.base import ImageTask
from medgraft.version import VERSION
from medgraft.weights import tensors

FILE = "depth.json"
_TRIALS = "depth"
ROUNDS = (0.1, 0.25)  # of the epochs of a whole fit
KEPT = 2  # depths that are tried for longer


@dataclass(eq=False)
class Finder:
    """Trials on one data set, kept on disk as they come.

    Attributes:
        task: untuned.
        trials: what can be tried.
        recipe: planned for the whole net.
        depths: numbers of stages that are to be tried, rising.
        patients: names of the training images' patients; None when unknown.
        folder: where finished trials are kept.
        identity: the hash of everything that decides what a trial gives, but the trial.
        listen: gets progress events.
        answers: what the score orders images by, a trial.
    """

    task: ImageTask
    trials: Trials
    recipe: Recipe
    depths: Sequence[int]
    patients: Sequence[str] | None
    folder: Path
    identity: str
    listen: Listen
    answers: dict[Trial, np.ndarray] = field(default_factory=dict)

    def run(self, wanted: Sequence[Trial]) -> None:
        """Fit and judge trials on every part, unless that was done before."""
        new = [trial for trial in wanted if trial not in self.answers]
        folds = self.trials.folds
        for done, trial in enumerate(new):
            parts = [self._part(trial, fold) for fold in range(self.trials.count)]
            logits = np.empty((len(folds), parts[0].shape[1]))
            for fold, found in enumerate(parts):
                logits[folds == fold] = found
            self.answers[trial] = answers_of(self.task, logits)
            self.listen({"event": "depth", "done": done + 1, "of": len(new)})

    def _part(self, trial: Trial, fold: int) -> np.ndarray:
        place = self._place(trial, fold).with_suffix(".npy")
        if place.exists():
            return np.load(place, allow_pickle=False)
        weights = self._place(replace(trial, epochs=trial.before, before=0), fold).with_suffix(".safetensors")
        try:
            found, ended = self.trials.run(trial, fold, weights=tensors.load(weights) if weights.exists() else None)
            tensors.save(self._place(trial, fold).with_suffix(".safetensors"), state=ended, words={})
        except NotFinite as error:
            self.listen({"event": "warning", "text": f"depth {trial.thawed} at rate {trial.lr:g}: {error}"})
            found = np.full(((self.trials.folds == fold).sum(), self.task.head.linear.out_features), np.nan)
        storage.write_atomic(place, lambda file: np.save(file, found))
        return found

    def _place(self, trial: Trial, fold: int) -> Path:
        return self.folder / storage.sha256_json([self.identity, asdict(trial), fold])[:32]

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
    return f"{trial.thawed} {trial.lr:g} {trial.epochs}"


# ---- the two ways here -----------------------------------------------------------------


def settle(
    recipe: Recipe, found: Gathered, task: ImageTask, pixels: Pixels, *, out: Path, listen: Listen
) -> tuple[Recipe, dict[str, Any] | None]:
    """Find the depth where the recipe leaves it open; get what was found, now or when the run began.

    Raises:
        Interrupted: trials that are done are kept in `out` and not done again.
    """
    if recipe.depth.thaw != "auto":
        return recipe, json.loads((out / FILE).read_text()) if (out / FILE).exists() else None
    entry = find(recipe, found, task, pixels, folder=out / _TRIALS, listen=listen)
    why = reason(entry)
    listen({"event": "say", "text": f"depth: {why} ({entry['seconds']:.0f} s)"})
    changes: dict[str, Any] = {"depth.thaw": _word(entry)}
    reasons = {"depth.thaw": why}
    if entry["lr"] and recipe.fit.lr is None:
        changes["fit.lr"], reasons["fit.lr"] = entry["lr"], "the best of those that this depth was tried at"
    settled = planned(recipe.changed(changes), found, task)
    return planning.with_reasons(settled, reasons), entry


def search(data: Path, recipe: Recipe, *, out: Path, listen: Listen) -> dict[str, Any]:
    """Find the depth and nothing else; write depth.json and depth.html.

    Raises:
        Interrupted: trials that are done are kept in `out`; the same call goes on.
    """
    with storage.lock(out), stopping.watching(), memory_said():
        if (out / FILE).exists():
            raise RunRefused("depths were tried here before", where=out, do="Give another --out.")
        recipe, found, task, pixels = prepare(data, recipe.changed({"depth.thaw": "all"}), listen=listen)
        try:
            if task.upright:
                what = f"depths are compared by the labels of images alone, which {recipe.task} is not asked about"
                raise BadRecipe(what, do="Search with --task classify, and give its depth to this task.")
            entry = find(recipe, found, task, pixels, folder=out / _TRIALS, listen=listen)
        finally:
            found.store.close()
        entry = {"medgraft": VERSION, "data": name_of(found.survey), **entry, "reason": reason(entry)}
        write_depth_page(entry, folder=out, phantoms=is_phantom(found.samples))
        storage.write_json(out / FILE, entry)
        clear(out)
        return entry


def clear(out: Path) -> None:
    """Delete the single trials, once what came of them is written."""
    shutil.rmtree(out / _TRIALS, ignore_errors=True)


def _word(entry: Mapping[str, Any]) -> Thaw:
    thawed: int = entry["thawed_stages"]
    return "head" if not thawed else "all" if thawed == entry["of"] else thawed


# ---- what is tried ---------------------------------------------------------------------


def find(
    recipe: Recipe, found: Gathered, task: ImageTask, pixels: Pixels, *, folder: Path, listen: Listen
) -> dict[str, Any]:
    """Try depths and get what depth.json holds (see `medgraft.report.schema`).

    Args:
        recipe: its depth is "auto" or "all"; candidates, rate and epochs that it names are kept to.
        found: the data; its training images alone are used.
        task: grafted; not changed.
        pixels: how a file becomes network pixels.
        folder: finished trials are kept here, and taken from here when they were done before.
        listen: gets progress events.

    Raises:
        Interrupted: finished trials are kept.
    """
    began = time.perf_counter()
    with opened(recipe, found, task, pixels, folder=folder, listen=listen) as finder:
        rounds = _search(finder)
        return {**_entry(rounds, finder), "seconds": round(time.perf_counter() - began, 1)}


@contextlib.contextmanager
def opened(
    recipe: Recipe,
    found: Gathered,
    task: ImageTask,
    pixels: Pixels,
    *,
    folder: Path,
    listen: Listen = lambda event: None,
) -> Iterator[Finder]:
    """Get what trials of these data are run with; arguments as in `find`."""
    whole = recipe if recipe.depth.thaw == "all" else planned(recipe.changed({"depth.thaw": "all"}), found, task)
    whole, parts = assemble(whole, found, copy.deepcopy(task), pixels)
    try:
        if whole.backbone.recalibrate:
            recalibrate_on(parts.task.backbone, parts.train, engine=parts.engine, listen=listen)
        yield _finder(whole, parts, found, folder=folder, listen=listen)
    finally:
        for part in (parts.train, parts.val, parts.test):
            part.close()


def candidates(recipe: Recipe, parts: Parts) -> list[int]:
    """Get the depths that are tried, rising: those of the recipe, or all.

    Raises:
        BadRecipe: a depth that the backbone does not have.
    """
    asked: Sequence[Thaw] = recipe.depth.candidates or range(len(parts.task.parts().stages) + 1)
    return sorted({stages_of(recipe.changed({"depth.thaw": one}), parts.task) for one in asked})


def _finder(whole: Recipe, parts: Parts, found: Gathered, *, folder: Path, listen: Listen) -> Finder:
    depths = candidates(whole, parts)
    frozen = caching.at_every_depth(whole, parts, found, depths=[0, *depths], listen=listen)
    names = group_of(found.samples, found.survey.duplicates)
    groups = [names[key] for key in parts.train.keys]
    fit = whole.fit
    pace = Pace(
        layer_decay=fit.layer_decay or 1.0,
        weight_decay=fit.weight_decay,
        warmup=fit.warmup,
        clip=fit.clip,
        seed=whole.seed,
        balance=fit.balance,
    )
    if len(set(groups)) < FOLDS:
        what = f"{len(set(groups))} training patients are too few to compare depths on parts of them"
        raise BadData(what, do="Give --depth head, or more patients.")
    trials = Trials(parts.task, parts.engine, loader=parts.train, frozen=frozen, groups=groups, pace=pace)
    patients = {sample.key: sample.patient or sample.key for sample in found.samples}
    content = [
        [r["key"], r["sha256"], r["content"], s.label] for r, s in zip(found.records, found.samples, strict=True)
    ]
    decided = whole.changed({"depth.candidates": None}).fingerprint()
    identity = [VERSION, decided, content, list(parts.train.keys), groups, str(parts.engine.device), sorted(frozen)]
    return Finder(
        parts.task,
        trials,
        whole,
        depths,
        patients=[patients[key] for key in parts.train.keys] if found.split_by == "patient" else None,
        folder=folder,
        identity=storage.sha256_json(identity),
        listen=listen,
    )


@dataclass(frozen=True, eq=False)
class Round:
    """Trials that are compared with each other: the head, and depths that were tried equally long."""

    trials: tuple[Trial, ...]
    standing: Standing

    def value(self, trial: Trial) -> float:
        """Get a trial's score; one that failed is behind all others."""
        value = self.standing.scores[label_of(trial)].value
        return -math.inf if value is None else value

    def best_each(self) -> list[Trial]:
        """Get the better rate of each depth, the best depth first."""
        best: dict[int, Trial] = {}
        for trial in sorted(self.trials, key=self.value, reverse=True):
            best.setdefault(trial.thawed, trial)
        return [trial for thawed, trial in best.items() if thawed]


def _search(finder: Finder) -> list[Round]:
    """Try all for a short while, and the best few for longer."""
    head, deep = [Trial(0)] * (0 in finder.depths), [depth for depth in finder.depths if depth]
    epochs, rounds = finder.recipe.fit.epochs or 1, []
    tried = [Trial(depth, rate) for depth in deep for rate in planning.rates_tried(finder.recipe)]
    for share in ROUNDS:
        trials = (*head, *(replace(trial, epochs=epochs_of(epochs, share)) for trial in tried))
        finder.run(trials)
        rounds.append(Round(trials, finder.stand(trials)))
        # Both rates again: a short try favours the lower one, which moves less from where it began.
        kept = {trial.thawed for trial in rounds[-1].best_each()[:KEPT]}
        tried = [replace(trial, before=trial.epochs) for trial in trials if trial.thawed in kept]
    return rounds


# ---- what came of it -------------------------------------------------------------------


def _entry(rounds: Sequence[Round], finder: Finder) -> dict[str, Any]:
    last, names = rounds[-1], depth_names(finder.task.backbone)
    best_each = sorted([*(t for t in last.trials if not t.thawed), *last.best_each()], key=lambda t: t.thawed)
    order = {label_of(trial): trial for trial in best_each}
    chosen = order[last.standing.simplest(list(order))]
    rows = {trial.thawed: _row(trial, last, names) for trial in best_each}
    for trial in rounds[0].best_each():
        rows.setdefault(trial.thawed, {**_row(trial, rounds[0], names), "dropped": True})
    return {
        "thawed_stages": chosen.thawed,
        "of": len(names) - 1,
        "lr": chosen.lr or None,
        "score": score_name(finder.task),
        "folds": finder.trials.count,
        "images": len(finder.trials.folds),
        "epochs": finder.recipe.fit.epochs,
        "best": order[last.standing.best].thawed,
        "curve": [rows[thawed] for thawed in sorted(rows)],
        "tried": [_tried(trial, one) for one in rounds for trial in one.trials if trial.thawed],
        "backbone": finder.task.backbone.name,
    }


def _row(trial: Trial, among: Round, names: Sequence[str]) -> dict[str, Any]:
    behind, error = among.standing.behind(label_of(trial))
    return {
        "thawed": trial.thawed,
        "name": names[trial.thawed],
        "val": among.standing.scores[label_of(trial)].to_dict(),
        "behind": {"value": _plain(behind), "standard_error": _plain(error)},
        "lr": trial.lr or None,
        "epochs": trial.before + trial.epochs,
        "dropped": False,
    }


def _tried(trial: Trial, among: Round) -> dict[str, Any]:
    return {
        "thawed": trial.thawed,
        "lr": trial.lr,
        "epochs": trial.before + trial.epochs,
        "value": _plain(among.value(trial)),
    }


def _plain(number: float) -> float | None:
    return number if math.isfinite(number) else None
