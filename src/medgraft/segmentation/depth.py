"""The depth finder for label maps: how many stages of an encoder to tune, asked of the training images."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medgraft.assemble import stages_of
from medgraft.errors import BadRecipe
from medgraft.gather import Listen
from medgraft.learn import stopping
from medgraft.learn.trials import Trial
from medgraft.nets.mask_heads import WHOLE
from medgraft.place_depth import Asked, identity_of, tried
from medgraft.recipe import Recipe, Thaw
from medgraft.samples.mask_patches import MaskWholes
from medgraft.samples.split import group_of
from medgraft.segmentation.cases import CaseShelf
from medgraft.segmentation.parts import DrawParts, Prepared, assemble_masks
from medgraft.tasks.segment import Segment, watched
from medgraft.version import VERSION

CASES = "cases"


def depth_of_masks(ready: Prepared, *, folder: Path, listen: Listen) -> dict[str, Any]:
    """Try depths and get what depth.json holds (see `medgraft.report.schema`).

    Args:
        ready: candidates, rate and epochs that its recipe names are kept to.
        folder: finished trials are kept here, and taken from here when they were done before.
        listen: gets progress events.

    Raises:
        BadData: there are too few patients.
        BadRecipe: the net has no encoder, or no depth gave a score.
        Interrupted: finished trials are kept.
    """
    if ready.recipe.masks.decoder in WHOLE:
        what = f"{ready.recipe.masks.decoder} is a whole net, and no encoder is under it"
        raise BadRecipe(what, do="Search with --set masks.decoder=unet.")
    whole = replace(ready, recipe=ready.recipe.changed({"depth.thaw": "all"}), task=copy.deepcopy(ready.task))
    recipe, parts = assemble_masks(whole, folder=folder / CASES, listen=listen)
    found = ready.found
    names = group_of(found.samples, found.survey.duplicates)
    patients = {sample.key: sample.patient or sample.key for sample in found.samples}
    keys = parts.train.keys
    content = [[one["key"], one["sha256"], one["content"]] for one in found.records]
    decided = recipe.changed({"depth.candidates": None, "fit.precision": "auto", "fit.channels_last": None})
    asked = Asked(
        task=parts.task,
        engine=parts.engine,
        train=parts.train,
        judged=lambda task, places: _scores(task, parts, places),
        groups=[names[key] for key in keys],
        patients=[patients[key] for key in keys] if found.split_by == "patient" else None,
        score=watched(parts.task.apart),
        start="Every fit began at the same random decoder.",
        identity=identity_of([VERSION, decided.fingerprint(), content, list(keys), str(parts.engine.device)]),
    )
    entry = tried(asked, recipe, candidates(recipe, parts.task), folder=folder, listen=listen)
    CaseShelf(folder / CASES, parts.form.grid, ready.form).clear()
    return entry


def candidates(recipe: Recipe, task: Segment) -> list[Trial]:
    """Get the depths that are tried: those of the recipe, or all that differ, the shallowest first.

    Raises:
        BadRecipe: a depth that the backbone does not have, or adapters.
    """
    stages, fit = len(task.backbone.stages), recipe.fit
    # Stages above the last level that the decoder looks at do not run.
    used: list[Thaw] = ["head", *(depth for depth in range(1, stages + 1) if stages - depth < task.head.reads)]
    # All but the stem is left out: it differs from all by one layer, and costs as much.
    wanted = recipe.depth.candidates or [depth for depth in used if depth != stages - 1 or stages < 3]
    if "lora" in wanted:
        raise BadRecipe("adapters are not tried for label maps", do="Leave lora out of depth.candidates.")
    thawed = {stages_of(recipe.changed({"depth.thaw": one}), task) for one in wanted}
    return [Trial(one, lr=fit.lr or 1e-3) for one in sorted(thawed)]


def _scores(task: Segment, parts: DrawParts, places: Sequence[int]) -> np.ndarray:
    """The score of some training images, whole and as they are, each alone."""
    told = []
    for batch in MaskWholes(parts.train.cases.part(places), spec=task.backbone.spec).epoch():
        stopping.check()
        assert batch.targets is not None
        meter = task.meter()
        with torch.inference_mode(), parts.engine.autocast():
            meter.update(task.predict(parts.engine.move(batch)), batch.targets.numpy())
        told.append(meter.watch()[1])
    return np.array(told)
