"""The depth finder: how many stages to tune, asked of the training images by short fits on parts of them.

All depths learn from the same activations and begin at the same head. First
every depth is tried for a tenth of a whole fit, at each rate; then the best
two go on from there, and at last each of these at its better rate. The rule
takes the shallowest depth that is within one standard error of the best.
Validation and test images are not looked at.

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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from medgraft import caching, planning, storage
from medgraft.assemble import Parts, assemble, planned, rank_of, stages_of
from medgraft.depth_trials import Finder, label_of
from medgraft.errors import BadData, BadRecipe, RunRefused
from medgraft.gather import Gathered, Listen
from medgraft.learn import stopping
from medgraft.learn.engine import memory_said
from medgraft.learn.held import score_name
from medgraft.learn.model import Pixels
from medgraft.learn.recalibrate import recalibrate_on
from medgraft.learn.trials import FOLDS, Pace, Trial, Trials, epochs_of
from medgraft.nets import depth_names, takes_adapters
from medgraft.preparing import prepare
from medgraft.recipe import Recipe, Thaw
from medgraft.report.depth_page import reason, write_depth_page
from medgraft.reporting import is_phantom, name_of
from medgraft.samples.split import group_of
from medgraft.scores.standing import Standing
from medgraft.tasks.base import ImageTask
from medgraft.version import VERSION

FILE = "depth.json"
_TRIALS = "depth"
_MEASURED, _STOPWATCH = "measured.json", ("precision", "channels_last")
# Share of a whole fit's epochs, depths that get it, and rates of each: a first short try does not choose between rates.
ROUNDS = ((0.1, 99, 2), (0.2, 2, 2), (0.25, 2, 1))


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
        if recipe.fit.epochs == 0:
            raise BadRecipe("a search tunes, and fit.epochs is 0", do="Give some epochs, or leave them to the plan.")
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
    if entry["adapters"]:
        return "lora"
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
    whole = whole.changed(_measured(folder, whole))
    whole, parts = assemble(_with_few_views(whole), found, copy.deepcopy(task), pixels)
    storage.write_json(folder / _MEASURED, {name: getattr(whole.fit, name) for name in _STOPWATCH})
    try:
        if whole.backbone.recalibrate:
            recalibrate_on(parts.task.backbone, parts.train, engine=parts.engine, listen=listen)
        yield _finder(whole, parts, found, folder=folder, listen=listen)
    finally:
        for part in (parts.train, parts.val, parts.test):
            part.close()


def _measured(folder: Path, whole: Recipe) -> dict[str, Any]:
    """What was measured when the search began and is not asked for: a stopwatch must not void trials that are done."""
    if not (folder / _MEASURED).exists():
        return {}
    found = json.loads((folder / _MEASURED).read_text())
    return {f"fit.{name}": found[name] for name in _STOPWATCH if getattr(whole.fit, name) in ("auto", None)}


def _with_few_views(whole: Recipe) -> Recipe:
    """No more views than the trials have epochs to show, but as many as a head is found on."""
    shown = sum(epochs_of(whole.fit.epochs or 1, share) for share, *_ in ROUNDS)
    views = min(whole.depth.views or 0, max(shown, planning.HEAD_VIEWS))
    return whole.changed({"depth.views": views})


def candidates(recipe: Recipe, parts: Parts) -> list[Trial]:
    """Get the depths that are tried, the shallowest first: those of the recipe, or all.

    Raises:
        BadRecipe: a depth that the backbone does not have.
    """
    stages = len(parts.task.parts().stages)
    # All but the stem is left out: it differs from all by one layer, and costs as much.
    every: list[Thaw] = [depth for depth in range(stages + 1) if depth != stages - 1 or stages < 3]
    if takes_adapters(parts.task.backbone):
        every.append("lora")
    wanted = [recipe.changed({"depth.thaw": one}) for one in recipe.depth.candidates or every]
    found = {Trial(stages_of(one, parts.task), rank=rank_of(one)) for one in wanted}
    return sorted(found, key=lambda trial: trial.depth)


def _finder(whole: Recipe, parts: Parts, found: Gathered, *, folder: Path, listen: Listen) -> Finder:
    depths = candidates(whole, parts)
    names = group_of(found.samples, found.survey.duplicates)
    groups = [names[key] for key in parts.train.keys]
    if len(set(groups)) < FOLDS:
        what = f"{len(set(groups))} training patients are too few to compare depths on parts of them"
        raise BadData(what, do="Give --depth head, or more patients.")
    frozen = caching.at_every_depth(whole, parts, found, depths=[0, *(trial.thawed for trial in depths)], listen=listen)
    fit = whole.fit
    pace = Pace(
        layer_decay=fit.layer_decay or 1.0,
        weight_decay=fit.weight_decay,
        warmup=fit.warmup,
        clip=fit.clip,
        seed=whole.seed,
        balance=fit.balance,
        head_views=planning.HEAD_VIEWS,
    )
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
        best: dict[tuple[int, bool], Trial] = {}
        for trial in sorted(self.trials, key=self.value, reverse=True):
            best.setdefault(trial.depth, trial)
        return [trial for trial in best.values() if trial.thawed]

    def best(self, depths: int, rates: int) -> list[Trial]:
        """Get the best rates of the best depths; none that failed."""
        ranked = [one for one in sorted(self.trials, key=self.value, reverse=True) if math.isfinite(self.value(one))]
        kept = [trial.depth for trial in self.best_each() if trial in ranked][:depths]
        return [trial for depth in kept for trial in [one for one in ranked if one.depth == depth][:rates]]


def _search(finder: Finder) -> list[Round]:
    """Try all for a short while, and the best few for longer."""
    head, deep = [[one for one in finder.depths if bool(one.thawed) == tuned] for tuned in (False, True)]
    epochs, rounds = finder.recipe.fit.epochs or 1, []
    rates_of = partial(planning.rates_tried, finder.recipe)
    tried = [replace(one, lr=lr) for one in deep for lr in rates_of(adapters=bool(one.rank))]
    for share, depths, rates in ROUNDS:
        if rounds:
            kept = rounds[-1].best(depths, rates)
            tried = [replace(trial, before=trial.before + trial.epochs) for trial in kept]
        trials = (*head, *(replace(trial, epochs=epochs_of(epochs, share)) for trial in tried))
        finder.run(trials)
        rounds.append(Round(trials, finder.stand(trials)))
        if not any(math.isfinite(rounds[-1].value(trial)) for trial in trials):
            raise BadRecipe("no depth gave a score", do="Lower fit.lr, or leave it to the search.")
    return rounds


# ---- what came of it -------------------------------------------------------------------


def _entry(rounds: Sequence[Round], finder: Finder) -> dict[str, Any]:
    last, names = rounds[-1], depth_names(finder.task.backbone)
    best_each = sorted([*(t for t in last.trials if not t.thawed), *last.best_each()], key=lambda t: t.depth)
    order = {label_of(trial): trial for trial in best_each}
    chosen = order[last.standing.simplest(list(order))]
    rows = {trial.depth: _row(trial, last, names) for trial in best_each}
    for earlier in rounds[-2::-1]:
        for trial in earlier.best_each():
            rows.setdefault(trial.depth, {**_row(trial, earlier, names), "dropped": True})
    return {
        "chosen": _name(chosen, names),
        "thawed_stages": chosen.thawed,
        "of": len(names) - 1,
        "adapters": chosen.rank,
        "lr": chosen.lr or None,
        "score": score_name(finder.task),
        "folds": finder.trials.count,
        "images": len(finder.trials.folds),
        "epochs": finder.recipe.fit.epochs,
        "best": _name(order[last.standing.best], names),
        "curve": [rows[depth] for depth in sorted(rows)],
        "tried": [_tried(trial, one, names) for one in rounds for trial in one.trials if trial.thawed],
        "backbone": finder.task.backbone.name,
    }


def _row(trial: Trial, among: Round, names: Sequence[str]) -> dict[str, Any]:
    behind, error = among.standing.behind(label_of(trial))
    return {
        "thawed": trial.thawed,
        "name": _name(trial, names),
        "val": among.standing.scores[label_of(trial)].to_dict(),
        "behind": {"value": _plain(behind), "standard_error": _plain(error)},
        "lr": trial.lr or None,
        "epochs": trial.before + trial.epochs,
        "dropped": False,
    }


def _name(trial: Trial, names: Sequence[str]) -> str:
    return "lora" if trial.rank else names[trial.thawed]


def _tried(trial: Trial, among: Round, names: Sequence[str]) -> dict[str, Any]:
    return {
        "thawed": trial.thawed,
        "name": _name(trial, names),
        "lr": trial.lr,
        "epochs": trial.before + trial.epochs,
        "value": _plain(among.value(trial)),
    }


def _plain(number: float) -> float | None:
    return number if math.isfinite(number) else None
