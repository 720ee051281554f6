"""The depth finder for prompts: how many stages of an encoder to tune, asked of the training images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medgraft import planning
from medgraft.assemble import stages_of
from medgraft.depth_rounds import FOLDER, kept, settled
from medgraft.errors import BadRecipe
from medgraft.gather import Listen
from medgraft.learn import stopping
from medgraft.learn.trials import Trial
from medgraft.nets import RANK, takes_adapters
from medgraft.outlining.parts import Prepared, PromptParts
from medgraft.place_depth import Asked, identity_of, tried
from medgraft.recipe import Recipe, Thaw
from medgraft.report.depth_page import reason
from medgraft.samples.prompted import JudgedPictures
from medgraft.samples.split import group_of
from medgraft.tasks.outline import Outline
from medgraft.version import VERSION

SCORE = "iou"
CASES = "cases"  # folder of the pictures, of a search alone
_JUDGED = 6  # structures of a picture: depths are compared, not reported


def settle_depth(
    ready: Prepared, parts: PromptParts, *, out: Path, listen: Listen
) -> tuple[Recipe, dict[str, Any] | None]:
    """Find the depth where the recipe leaves it open, and thaw the task; get what was found, now or before.

    Raises:
        Interrupted: trials that are done are kept in `out` and not done again.
    """
    recipe = ready.recipe
    if recipe.depth.thaw != "auto":
        return recipe, kept(out)
    entry = depth_of_prompts(ready, parts, folder=out / FOLDER, listen=listen)
    listen({"event": "say", "text": f"depth: {reason(entry)} ({entry['seconds']:.0f} s)"})
    recipe, reasons = settled(recipe, entry)
    recipe = planning.with_reasons(recipe, reasons)
    parts.task.thaw(entry["thawed_stages"], rank=RANK if entry["adapters"] else 0, seed=recipe.seed)
    return recipe, entry


def depth_of_prompts(ready: Prepared, parts: PromptParts, *, folder: Path, listen: Listen) -> dict[str, Any]:
    """Try depths and get what depth.json holds.

    Args:
        ready: candidates, rate and epochs that its recipe names are kept to.
        parts: untuned; not changed.
        folder: finished trials are kept here, and taken from here when they were done before.
        listen: gets progress events.

    Raises:
        BadData: there are too few patients.
        Interrupted: finished trials are kept.
    """
    recipe, found = ready.recipe, ready.found
    names = group_of(found.samples, found.survey.duplicates)
    patients = {sample.key: sample.patient or sample.key for sample in found.samples}
    owners = [found.samples[place].key for place in found.of("train") for shown in parts.pictures[place] if shown.names]
    content = [[one["key"], one["sha256"], one["content"]] for one in found.records]
    decided = recipe.changed({"depth.candidates": None, "depth.thaw": "all"}).fingerprint()
    asked = Asked(
        task=parts.task,
        engine=parts.engine,
        train=parts.train,
        judged=lambda task, places: _scores(task, parts, places),
        groups=[names[key] for key in owners],
        patients=[patients[key] for key in owners] if found.split_by == "patient" else None,
        score=SCORE,
        start="Every fit began at the weights of the model.",
        identity=identity_of([VERSION, decided, content, owners, str(parts.engine.device)]),
    )
    return tried(asked, recipe, candidates(recipe, parts.task), folder=folder, listen=listen)


def candidates(recipe: Recipe, task: Outline) -> list[Trial]:
    """Get the depths that are tried: those of the recipe, or the decoder alone, half of the encoder, and all of it.

    Raises:
        BadRecipe: a depth that the encoder does not have, or adapters where it takes none.
    """
    stages, fit = len(task.backbone.stages), recipe.fit
    adapted = takes_adapters(task.backbone)
    every: list[Thaw] = ["head", max(1, stages // 2), "lora" if adapted else "all"]
    wanted = recipe.depth.candidates or every
    if "lora" in wanted and not adapted:
        raise BadRecipe("this encoder takes no adapters", do="Leave lora out of depth.candidates.")
    lr = fit.lr or 1e-4
    trials = [Trial(stages, lr=lr, rank=RANK) for one in wanted if one == "lora"]
    plain = {stages_of(recipe.changed({"depth.thaw": one}), task) for one in wanted if one != "lora"}
    return sorted([*trials, *(Trial(one, lr=lr) for one in plain)], key=lambda trial: trial.depth)


def _scores(task: Outline, parts: PromptParts, places: Sequence[int]) -> np.ndarray:
    """The mean overlap of some training pictures, as they are."""
    told = []
    for place in places:
        meter = task.meter()
        for batch in JudgedPictures([parts.train.pictures[place]], most=_JUDGED).epoch(0):
            stopping.check()
            assert batch.targets is not None
            meter.update(task.predict(parts.engine.move(batch)), batch.targets.numpy())
        told.append(meter.watch()[1])
    return np.array(told)
