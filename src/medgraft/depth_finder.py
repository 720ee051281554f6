"""The depth finder: how many stages to tune, asked of the training images by short fits on parts of them.

All depths learn from the same activations and begin at the same head. First
every depth is tried for a tenth of a whole fit, at each rate; then the best
two go on from there, and at last each of these at its better rate. The rule
takes the shallowest depth that is within one standard error of the best.
Validation and test images are not looked at.

Depths of nets that find boxes are asked in the same words, see `detection.depth`.
"""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from medgraft import caching, places, planning, storage
from medgraft.assemble import Parts, assemble, planned, rank_of, stages_of
from medgraft.depth_rounds import FILE, FOLDER, Round, clear, entry_of, halved, keep_measured, kept, measured, settled
from medgraft.depth_trials import Finder
from medgraft.errors import BadData, BadRecipe, RunRefused
from medgraft.gather import Gathered, Listen
from medgraft.learn import stopping
from medgraft.learn.engine import memory_said
from medgraft.learn.held import score_name
from medgraft.learn.model import Pixels
from medgraft.learn.recalibrate import recalibrate_on
from medgraft.learn.trials import FOLDS, Pace, Trial, Trials, epochs_of
from medgraft.nets import takes_adapters
from medgraft.preparing import opened as opened_data
from medgraft.preparing import prepare
from medgraft.recipe import Recipe, Thaw
from medgraft.report.depth_page import reason, write_depth_page
from medgraft.reporting import is_phantom, name_of
from medgraft.samples.dataset import DataSet
from medgraft.samples.split import group_of
from medgraft.tasks import TASKS
from medgraft.tasks.base import ImageTask
from medgraft.version import VERSION

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
        return recipe, kept(out)
    entry = find(recipe, found, task, pixels, folder=out / FOLDER, listen=listen)
    listen({"event": "say", "text": f"depth: {reason(entry)} ({entry['seconds']:.0f} s)"})
    recipe, reasons = settled(recipe, entry)
    return planning.with_reasons(planned(recipe, found, task), reasons), entry


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
        dataset, recipe = opened_data(data, recipe.changed({"depth.thaw": "all"}), listen=listen)
        entry, phantoms = _of_places_or_images(dataset, recipe, out=out, listen=listen)
        write_depth_page(entry, folder=out, phantoms=phantoms)
        storage.write_json(out / FILE, entry)
        clear(out)
        return entry


def _of_places_or_images(dataset: DataSet, recipe: Recipe, *, out: Path, listen: Listen) -> tuple[dict[str, Any], bool]:
    """What depth.json holds, by the way that suits the task, and whether the images are phantoms."""
    kind = TASKS[recipe.task]
    if kind.places:
        found, work = places.depth_work(dataset, recipe, folder=out / FOLDER, listen=listen)
    elif kind.upright:
        what = f"depths are compared by the labels of images alone, which {recipe.task} is not asked about"
        raise BadRecipe(what, do="Search with --task classify, and give its depth to this task.")
    else:
        recipe, found, task, pixels = prepare(Path(dataset.root), recipe, dataset=dataset, listen=listen)
        work = partial(find, recipe, found, task, pixels, folder=out / FOLDER, listen=listen)
    try:
        entry = work()
    finally:
        found.store.close()
    said = {"medgraft": VERSION, "data": name_of(found.survey), **entry, "reason": reason(entry)}
    return said, is_phantom(found.samples)


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
        entry = entry_of(_search(finder), finder, score=score_name(task))
        return {**entry, "seconds": round(time.perf_counter() - began, 1)}


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
    whole = whole.changed(measured(folder, whole))
    whole, parts = assemble(_with_few_views(whole), found, copy.deepcopy(task), pixels)
    keep_measured(folder, whole)
    try:
        if whole.backbone.recalibrate:
            recalibrate_on(parts.task.backbone, parts.train, engine=parts.engine, listen=listen)
        yield _finder(whole, parts, found, folder=folder, listen=listen)
    finally:
        for part in (parts.train, parts.val, parts.test):
            part.close()


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


def _search(finder: Finder) -> list[Round]:
    """Try all at their rates; the head is at its optimum and needs no epochs."""
    head, deep = [[one for one in finder.depths if bool(one.thawed) == tuned] for tuned in (False, True)]
    rates_of = partial(planning.rates_tried, finder.recipe)
    tried = [replace(one, lr=lr) for one in deep for lr in rates_of(adapters=bool(one.rank))]
    return halved(finder, ready=head, tried=tried, rounds=ROUNDS)
