"""The depth finder for boxes: how many stages to tune, asked of the training images by short fits on halves of them.

Every depth, the head alone among them, is fitted on one half and judged on the other, both ways round, for an eighth
of a whole fit's epochs; the best two go on for an eighth more. So a search of five depths learns from fewer images
than a whole fit does: 5/8 + 2/8 of them, as each fit sees half and there are two. The rule takes the shallowest depth
within one standard error of the best. Validation and test images are not looked at.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medgraft import planning, storage
from medgraft.assemble import stages_of
from medgraft.depth_rounds import FOLDER, entry_of, halved, keep_measured, kept, measured, settled
from medgraft.depth_trials import Finder
from medgraft.detection.choices import untried_rule
from medgraft.detection.fits import FOLDS, BoxFits
from medgraft.detection.parts import BoxParts, assemble_boxes
from medgraft.errors import BadData, BadRecipe
from medgraft.gather import Gathered, Listen
from medgraft.learn.model import Pixels
from medgraft.learn.recalibrate import recalibrate_on
from medgraft.learn.trials import Trial
from medgraft.recipe import Recipe, Thaw
from medgraft.report.depth_page import reason
from medgraft.samples.split import group_of
from medgraft.tasks.detect import Detect
from medgraft.version import VERSION

ROUNDS = ((1 / 8, 99, 1), (1 / 8, 2, 1))  # share of a whole fit's epochs, depths that get it, rates of each
SCORE = "map50_75"
_LEAST = 0.01  # a score below says that nothing was learnt, and so nothing of depths


def settle_depth(
    recipe: Recipe, found: Gathered, task: Detect, pixels: Pixels, *, out: Path, listen: Listen
) -> tuple[Recipe, dict[str, Any] | None]:
    """Find the depth where the recipe leaves it open; get what was found, now or when the run began.

    Where the short fits find hardly a box the rule decides that decides without a search, too.

    Raises:
        Interrupted: trials that are done are kept in `out` and not done again.
    """
    if recipe.depth.thaw != "auto":
        return recipe, kept(out)
    entry = _tried(recipe, found, task, pixels, folder=out / FOLDER, listen=listen)
    if _is_empty(entry):
        net = task.backbone
        thawed, why = untried_rule(
            stages=len(net.stages), random=not net.sha256, procedural=net.name.startswith("embedded:")
        )
        why = f"{why}; short fits at several depths found hardly a box, so that they said nothing of it"
        listen({"event": "say", "text": f"depth: {thawed}, because {why}"})
        return planning.with_reasons(recipe.changed({"depth.thaw": thawed}), {"depth.thaw": why}), None
    listen({"event": "say", "text": f"depth: {reason(entry)} ({entry['seconds']:.0f} s)"})
    recipe, reasons = settled(recipe, entry)
    return planning.with_reasons(recipe, reasons), entry


def depth_of_boxes(
    recipe: Recipe, found: Gathered, task: Detect, pixels: Pixels, *, folder: Path, listen: Listen
) -> dict[str, Any]:
    """Try depths and get what depth.json holds (see `medgraft.report.schema`).

    Args:
        recipe: planned; candidates, rate and epochs that it names are kept to.
        found: the data; its training images alone are used.
        task: grafted; not changed.
        pixels: how a file becomes network pixels.
        folder: finished trials are kept here, and taken from here when they were done before.
        listen: gets progress events.

    Raises:
        BadRecipe: no depth found more than hardly a box.
        Interrupted: finished trials are kept.
    """
    entry = _tried(recipe, found, task, pixels, folder=folder, listen=listen)
    if _is_empty(entry):
        what = "short fits found hardly a box at any depth, and so say nothing of it"
        raise BadRecipe(what, do=f"Give more epochs than {entry['epochs']}, or a depth.")
    return entry


def _is_empty(entry: Mapping[str, Any]) -> bool:
    best = next(row for row in entry["curve"] if row["name"] == entry["best"])
    return bool(best["val"]["value"] < _LEAST)


def _tried(
    recipe: Recipe, found: Gathered, task: Detect, pixels: Pixels, *, folder: Path, listen: Listen
) -> dict[str, Any]:
    began = time.perf_counter()
    whole = recipe.changed({"depth.thaw": "all"})
    whole = whole.changed(measured(folder, whole))
    whole, parts = assemble_boxes(whole, found, copy.deepcopy(task), pixels)
    keep_measured(folder, whole)
    try:
        finder = _finder(whole, parts, found, folder=folder, listen=listen)
        if whole.backbone.recalibrate:
            recalibrate_on(parts.task.backbone, parts.train, engine=parts.engine, listen=listen)
        rounds = halved(finder, ready=(), tried=finder.depths, rounds=ROUNDS)
        start = "Every fit began at the same random pyramid and detector."
        seconds = round(time.perf_counter() - began, 1)
        return {**entry_of(rounds, finder, score=SCORE), "start": start, "seconds": seconds}
    finally:
        for part in (parts.train, parts.val, parts.test):
            part.close()


def _candidates(recipe: Recipe, task: Detect) -> list[Trial]:
    """The depths that are tried at the planned rate, the shallowest first: those of the recipe, or all that differ.

    Raises:
        BadRecipe: a depth that the backbone does not have, or adapters.
    """
    stages, last = len(task.backbone.stages), max(task.head.pyramid.taken)
    # Stages above the last level that the detector looks at change nothing, whether they are tuned or not.
    used = [0, *(depth for depth in range(1, stages + 1) if stages - depth <= last)]
    # All but the stem is left out: it differs from all by one layer, and costs as much.
    every: list[Thaw] = [depth for depth in used if depth != stages - 1 or stages < 3]
    wanted = recipe.depth.candidates or every
    if "lora" in wanted:
        raise BadRecipe("adapters are not tried for boxes", do="Leave lora out of depth.candidates.")
    thawed = {stages_of(recipe.changed({"depth.thaw": one}), task) for one in wanted}
    return [Trial(one, lr=recipe.fit.lr or 1e-3) for one in sorted(thawed)]


def _finder(whole: Recipe, parts: BoxParts, found: Gathered, *, folder: Path, listen: Listen) -> Finder:
    names = group_of(found.samples, found.survey.duplicates)
    keys = parts.train.keys
    groups = [names[key] for key in keys]
    if len(set(groups)) < FOLDS:
        what = f"{len(set(groups))} training patients are too few to compare depths on parts of them"
        raise BadData(what, do="Give --depth all, or more patients.")
    patients = {sample.key: sample.patient or sample.key for sample in found.samples}
    content = [[one["key"], one["sha256"], one["content"]] for one in found.records]
    assert parts.train.targets is not None
    boxes = np.nan_to_num(parts.train.targets.numpy(), nan=-1.0).tolist()
    decided = whole.changed({"depth.candidates": None}).fingerprint()
    identity = [VERSION, decided, content, boxes, list(keys), groups, str(parts.engine.device)]
    return Finder(
        parts.task,
        BoxFits(parts.task, parts.engine, loader=parts.train, groups=groups, recipe=whole),
        whole,
        _candidates(whole, parts.task),
        patients=[patients[key] for key in keys] if found.split_by == "patient" else None,
        folder=folder,
        identity=storage.sha256_json(identity),
        listen=listen,
    )
