"""DATA and a recipe -> scans and a finder: the one visible place where they are put together."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from medgraft import gather as gathering
from medgraft.assemble import say_weights
from medgraft.detection.parts import with_boxes
from medgraft.detection.scans.choices import check_scans, choose_scans, looks_of, most_of
from medgraft.errors import BadData
from medgraft.gather import Gathered, Listen
from medgraft.learn.candidate_finder import Finder, graft_finder
from medgraft.learn.engine import Engine
from medgraft.nets.backbone import backbone
from medgraft.recipe import Recipe
from medgraft.samples.dataset import DataSet
from medgraft.tasks import TASKS
from medgraft.values import Boxes
from medgraft.version import VERSION

# Scans are decoded once to be checked, hashed and surveyed; these small volumes are what is kept of them.
PREVIEW: dict[str, Any] = {"size": [24, 64, 64], "channels": 1, "fit": "stretch"}


def prepare_scans(dataset: DataSet, recipe: Recipe, *, listen: Listen) -> tuple[Recipe, Gathered, Finder]:
    """Decode the scans, graft a head on an encoder and fill the recipe: what comes before anything is learnt.

    Raises:
        BadData: no scan has boxes, or some are flat or do not say how large their voxels are.
        BadRecipe: an option has no meaning for boxes in volumes.
        UnknownName, BadWeights, Offline: the backbone cannot be had.
    """
    recipe = recipe.changed({"medgraft": VERSION})
    check_scans(recipe)
    dataset, left = with_boxes(dataset)
    if left:
        listen({"event": "say", "text": f"{left} scans have no annotation and are left out"})
    words: dict[str, Any] = {"offline": recipe.backbone.offline, "seed": recipe.seed}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        net = backbone(recipe.backbone.name, channels=3, image_size=64, **words)  # before an hour of decoding
    found = gathering.gather(dataset, recipe, network=PREVIEW, listen=listen)
    check_records(found)
    for note in found.notes:
        listen({"event": "say", "text": note})
    training = found.of("train")
    diameters = [size for i in training for size in diameters_of(found, i).tolist()]
    if not diameters:
        raise BadData(
            "no training scan has a box", where=dataset.root, do="Give scans with boxes a split of their own."
        )
    most = most_of(recipe) * len(training)
    recipe = choose_scans(recipe, diameters, candidates=most, scans=len(training))
    recipe = recipe.changed({"backbone.name": net.name, "backbone.sha256": recipe.backbone.sha256 or net.sha256})
    finder = _grafted(recipe, found, words, listen)
    return recipe, found, finder


def _grafted(recipe: Recipe, found: Gathered, words: dict[str, Any], listen: Listen) -> Finder:
    classes = TASKS[recipe.task].answers_of([found.samples[i] for i in found.of("train")]).classes
    fit = recipe.fit
    engine = Engine(recipe.machine.device, precision=fit.precision, channels_last=bool(fit.channels_last))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        finder = graft_finder(
            classes,
            looks_of(recipe),
            backbone_name=recipe.backbone.name,
            engine=engine,
            pooling=recipe.backbone.pooling,
            **words,
        )
    say_weights(recipe, finder.judge.backbone, said=said, listen=listen)
    return finder


def diameters_of(found: Gathered, index: int) -> np.ndarray:
    """Get the diameters of the true boxes of a scan in mm, as `samples.scan.Space.diameter_mm` has them."""
    boxes, steps = found.samples[index].boxes, found.records[index]["spacing_mm"]
    assert boxes is not None
    return diameters(boxes, steps)


def diameters(boxes: Boxes, spacing_mm: Any) -> np.ndarray:
    """Get diameters in mm of boxes of a file with this (z, y, x) spacing."""
    if not len(boxes):
        return np.zeros(0)
    sides = (boxes.corners[:, 3:] - boxes.corners[:, :3]) * np.array(spacing_mm, np.float64)[::-1]
    return np.cbrt(np.prod(sides, axis=1))


def check_records(found: Gathered) -> None:
    """Refuse what is no gray volume with a size of its voxels.

    Raises:
        BadData: how many are none, and which for instance.
    """
    flat = [record["key"] for record in found.records if len(record["shape"]) != 4 or record["shape"][0] != 1]
    unknown = [record["key"] for record in found.records if record["key"] not in flat and not record["spacing_mm"]]
    for keys, what, do in (
        (flat, "no gray volumes", "Give NIfTI files or DICOM series; flat images are another data set."),
        (unknown, "without the size of their voxels", "Convert them anew from their DICOM series."),
    ):
        if keys:
            raise BadData(f"{len(keys)} of {len(found.records)} scans are {what}, such as {keys[0]}", do=do)
