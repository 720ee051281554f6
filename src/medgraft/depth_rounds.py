"""Rounds of trials of depths: all for a short while, the best few for longer, and what came of it.

Source: Jamieson, Talwalkar, "Non-stochastic best arm identification and
hyperparameter optimization", AISTATS 2016, for dropping weak candidates early.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medgraft import storage
from medgraft.depth_trials import Finder, label_of
from medgraft.errors import BadRecipe
from medgraft.learn.trials import Trial, epochs_of
from medgraft.nets import depth_names
from medgraft.recipe import Recipe, Thaw
from medgraft.report.depth_page import reason
from medgraft.scores.standing import Standing

FILE = "depth.json"
FOLDER = "depth"
_MEASURED, _STOPWATCH = "measured.json", ("precision", "channels_last")
Rounds = Sequence[tuple[float, int, int]]


# ---- what is kept beside the trials ------------------------------------------------------


def kept(out: Path) -> dict[str, Any] | None:
    """Get what was found when a run began; None where nothing was searched."""
    return json.loads((out / FILE).read_text()) if (out / FILE).exists() else None


def clear(out: Path) -> None:
    """Delete the single trials, once what came of them is written."""
    shutil.rmtree(out / FOLDER, ignore_errors=True)


def measured(folder: Path, whole: Recipe) -> dict[str, Any]:
    """Get what was measured when a search began and is not asked for: a stopwatch must not void trials that are done.

    Args:
        folder: of the trials.
        whole: planned.
    """
    if not (folder / _MEASURED).exists():
        return {}
    found = json.loads((folder / _MEASURED).read_text())
    return {f"fit.{name}": found[name] for name in _STOPWATCH if getattr(whole.fit, name) in ("auto", None)}


def keep_measured(folder: Path, whole: Recipe) -> None:
    """Write what `measured` gives."""
    storage.write_json(folder / _MEASURED, {name: getattr(whole.fit, name) for name in _STOPWATCH})


# ---- the rounds --------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Round:
    """Trials that are compared with each other: depths that were tried equally long, and what needs no epochs."""

    trials: tuple[Trial, ...]
    standing: Standing

    def value(self, trial: Trial) -> float:
        """Get a trial's score; one that failed is behind all others."""
        value = self.standing.scores[label_of(trial)].value
        return -math.inf if value is None else value

    def best_each(self) -> list[Trial]:
        """Get the better rate of each depth that was fitted, the best depth first."""
        best: dict[tuple[int, bool], Trial] = {}
        for trial in sorted(self.trials, key=self.value, reverse=True):
            best.setdefault(trial.depth, trial)
        return [trial for trial in best.values() if trial.epochs]

    def best(self, depths: int, rates: int) -> list[Trial]:
        """Get the best rates of the best depths; none that failed."""
        ranked = [one for one in sorted(self.trials, key=self.value, reverse=True) if math.isfinite(self.value(one))]
        first = [trial.depth for trial in self.best_each() if trial in ranked][:depths]
        return [trial for depth in first for trial in [one for one in ranked if one.depth == depth][:rates]]


def halved(finder: Finder, *, ready: Sequence[Trial], tried: Sequence[Trial], rounds: Rounds) -> list[Round]:
    """Try all for a short while, and the best few for longer.

    Args:
        finder: runs the trials.
        ready: needs no epochs, and stands beside the others in every round.
        tried: depths at their rates; epochs are filled in.
        rounds: share of a whole fit's epochs, depths that get it, and rates of each.

    Raises:
        BadRecipe: nothing that was tried has a score.
    """
    epochs, found = finder.recipe.fit.epochs or 1, []
    for share, depths, rates in rounds:
        if found:
            tried = [replace(trial, before=trial.before + trial.epochs) for trial in found[-1].best(depths, rates)]
        trials = (*ready, *(replace(trial, epochs=epochs_of(epochs, share)) for trial in tried))
        finder.run(trials)
        found.append(Round(trials, finder.stand(trials)))
        if not any(math.isfinite(found[-1].value(trial)) for trial in trials):
            raise BadRecipe("no depth gave a score", do="Lower fit.lr, or leave it to the search.")
    return found


# ---- what came of it -------------------------------------------------------------------


def entry_of(rounds: Sequence[Round], finder: Finder, *, score: str) -> dict[str, Any]:
    """Get what depth.json holds, but the time it took.

    Args:
        rounds: of `halved`.
        finder: that ran them.
        score: its name.
    """
    last, names = rounds[-1], depth_names(finder.task.backbone)
    best_each = sorted([*(t for t in last.trials if not t.epochs), *last.best_each()], key=lambda t: t.depth)
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
        "score": score,
        "folds": finder.trials.count,
        "images": len(finder.trials.folds),
        "epochs": finder.recipe.fit.epochs,
        "best": _name(order[last.standing.best], names),
        "curve": [rows[depth] for depth in sorted(rows)],
        "tried": [_tried(trial, one, names) for one in rounds for trial in one.trials if trial.epochs],
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


def settled(recipe: Recipe, entry: Mapping[str, Any]) -> tuple[Recipe, dict[str, str]]:
    """Put what was found into a recipe; the reasons come apart, since the rest may have to be planned first.

    Args:
        recipe: a rate that it names is kept.
        entry: what depth.json holds.
    """
    changes: dict[str, Any] = {"depth.thaw": _word(entry)}
    reasons = {"depth.thaw": reason(entry)}
    if entry["lr"] and recipe.fit.lr is None:
        changes["fit.lr"], reasons["fit.lr"] = entry["lr"], "the best of those that this depth was tried at"
    return recipe.changed(changes), reasons


def _word(entry: Mapping[str, Any]) -> Thaw:
    if entry["adapters"]:
        return "lora"
    thawed: int = entry["thawed_stages"]
    return "head" if not thawed else "all" if thawed == entry["of"] else thawed
