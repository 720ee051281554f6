"""DATA and a recipe -> scans, a detector in volumes and its loaders: the one visible place where they meet."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medgraft import gather as gathering
from medgraft.assemble import say_weights, stages_of
from medgraft.detection.judge import rule_of
from medgraft.detection.parts import with_boxes
from medgraft.detection.scans.parts import PREVIEW, check_records, diameters_of
from medgraft.detection.volumes.choices import ScanFacts, check_volumes, choose_frame, choose_rest, form_of
from medgraft.detection.volumes.framed import FrameShelf, overlooked
from medgraft.errors import BadData
from medgraft.fitting import settle_engine
from medgraft.gather import Gathered, Listen
from medgraft.learn.engine import Engine
from medgraft.learn.volume_detector import VolumeForm, graft_volume_detector
from medgraft.nets import batch_norms, has_folded_norms
from medgraft.nets.backbone import backbone
from medgraft.recipe import Recipe
from medgraft.samples.dataset import DataSet
from medgraft.samples.framing import Frame
from medgraft.samples.patches import Patches, Volumes, Wholes
from medgraft.tasks import TASKS
from medgraft.tasks.detect_volume import DetectVolume
from medgraft.values import Boxes
from medgraft.version import VERSION

_NO_EPOCH = 1_000_000  # its patches are shown in no other
_OVERLOOKED = 16  # scans of the training that the plan looks at


@dataclass(eq=False)
class VolumeParts:
    """What a recipe is assembled to.

    Attributes:
        task: grafted, thawed to its depth, on its device.
        engine: device and precision.
        form: how scans become voxels, patches and windows.
        frames: where the voxels of each scan are, by its key.
        train: patches.
        val: whole scans.
        test: whole scans.
    """

    task: DetectVolume
    engine: Engine
    form: VolumeForm
    frames: dict[str, Frame]
    train: Patches
    val: Wholes
    test: Wholes


def prepare_volumes(dataset: DataSet, recipe: Recipe, *, listen: Listen) -> tuple[Recipe, Gathered, DetectVolume]:
    """Decode the scans, look at some of the training, graft a detector and fill the recipe.

    Raises:
        BadData: no scan has boxes, or some are flat or do not say how large their voxels are.
        BadRecipe: an option has no meaning for a detector in volumes, or MONAI is not installed.
        UnknownName, BadWeights, Offline: the backbone cannot be had.
    """
    recipe = recipe.changed({"medgraft": VERSION})
    check_volumes(recipe)
    dataset, left = with_boxes(dataset)
    if left:
        listen({"event": "say", "text": f"{left} scans have no annotation and are left out"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        words: dict[str, Any] = {"offline": recipe.backbone.offline, "seed": recipe.seed}
        backbone(recipe.backbone.name, channels=3, image_size=64, **words)  # before minutes of decoding
    found = gathering.gather(dataset, recipe, network=PREVIEW, listen=listen)
    check_records(found)
    for note in found.notes:
        listen({"event": "say", "text": note})
    facts = _facts_of(found, dataset, workers=max(2, recipe.machine.workers))
    recipe = choose_frame(recipe, facts)
    recipe, task = _grafted(recipe, found, facts, listen)
    return recipe, found, task


def _facts_of(found: Gathered, dataset: DataSet, *, workers: int) -> ScanFacts:
    training = found.of("train")
    diameters = [size for i in training for size in diameters_of(found, i).tolist()]
    if not diameters:
        do = "Give scans with boxes a split of their own."
        raise BadData("no training scan has a box", where=dataset.root, do=do)
    some = [i for i in training if len(found.samples[i].boxes or ())][:_OVERLOOKED]
    boxes = [found.samples[i].boxes or Boxes(np.zeros((0, 6)), ()) for i in some]
    seen = overlooked([found.samples[i].image for i in some], boxes, workers=workers)
    if not seen:
        raise BadData("none of the first training scans can be read", where=dataset.root)
    z, y, x = (float(np.median([one["spacing_mm"][axis] for one in seen])) for axis in range(3))
    ct = sum(one["hounsfield"] for one in seen) > len(seen) / 2
    lungs = ct and all(one["in_lungs"] for one in seen)
    return ScanFacts((round(z, 3), round(y, 3), round(x, 3)), ct, lungs, diameters, len(training))


def _grafted(recipe: Recipe, found: Gathered, facts: ScanFacts, listen: Listen) -> tuple[Recipe, DetectVolume]:
    classes = TASKS[recipe.task].answers_of([found.samples[i] for i in found.of("train")]).classes
    words: dict[str, Any] = {"offline": recipe.backbone.offline, "seed": recipe.seed}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        net = backbone(recipe.backbone.name, channels=1 if recipe.input.channels == 1 else 3, image_size=64, **words)
        recipe = recipe.changed({"backbone.name": net.name, "backbone.sha256": recipe.backbone.sha256 or net.sha256})
        recipe = choose_rest(
            recipe,
            facts,
            stages=len(net.stages),
            random=not net.sha256,
            procedural=net.name.startswith("embedded:"),
            norms=bool(batch_norms(net)) and not (net.sha256 and has_folded_norms(net)),
        )
        task = graft_volume_detector(
            classes, form_of(recipe), backbone_name=recipe.backbone.name, hit=rule_of(recipe), **words
        )
    say_weights(recipe, task.backbone, said=said, listen=listen)
    return recipe, task


def assemble_volumes(
    recipe: Recipe, found: Gathered, task: DetectVolume, *, folder: Path, listen: Listen
) -> tuple[Recipe, VolumeParts]:
    """Put the parts together; the recipe comes back with precision and memory layout settled.

    Args:
        recipe: filled.
        found: the scans.
        task: of this recipe.
        folder: where framed scans are kept while the run lasts.
        listen: gets progress events.

    Raises:
        BadData: a validation or test box of a class that training does not know.
        BadRecipe: the backbone has fewer stages than are to be thawed.
    """
    task.thaw(stages_of(recipe, task))
    form = form_of(recipe)
    shelf = FrameShelf(folder, form.frame)
    prints = [str(record["content"]) for record in found.records]
    workers = max(2, recipe.machine.workers)
    ready = shelf.fill([one.image for one in found.samples], prints, workers=workers, listen=listen)

    def volumes(split: str) -> Volumes:
        places = found.of(split)
        inside = [_inside(found.samples[i].boxes, ready[i].frame) for i in places]
        encoded = task.encode(inside)
        rows = [own[np.isfinite(own[:, 0])] for own in encoded]
        return Volumes(tuple(found.samples[i].key for i in places), [ready[i].voxels for i in places], rows)

    spec = task.backbone.spec
    words: dict[str, Any] = {"each": recipe.boxes.patches or 1, "batch_size": recipe.fit.batch_size or 4}
    train = Patches(volumes("train"), spec=spec, shape=form.patch, seed=recipe.seed, **words)
    val, test = (Wholes(volumes(split), spec=spec) for split in ("val", "test"))
    recipe, engine = settle_engine(recipe, task, train, timed=train.batch_size)
    engine.place(task)
    frames = {sample.key: one.frame for sample, one in zip(found.samples, ready, strict=True)}
    return recipe, VolumeParts(task, engine, form, frames, train, val, test)


def _inside(boxes: Boxes | None, frame: Frame) -> Boxes:
    """Get boxes of a file in the net's voxels."""
    assert boxes is not None
    corners = frame.boxes(boxes.corners) if len(boxes) else np.zeros((0, 6))
    return Boxes(corners, boxes.labels, ignored=boxes.ignored)


def recalibration_batches(train: Patches, engine: Engine, *, count: int) -> list[torch.Tensor]:
    """Get patches that no epoch shows, to measure BatchNorm's statistics on."""
    batches = []
    for batch in train.epoch(_NO_EPOCH):
        batches.append(engine.move(batch).pixels)
        if len(batches) >= count:
            break
    return batches


def boxes_back(found: Sequence[Boxes], frames: Sequence[Frame]) -> list[Boxes]:
    """Bring boxes from the net's voxels to the files' own; what lies outside of the file is left out."""
    kept = []
    for one, frame in zip(found, frames, strict=True):
        corners = frame.boxes_back(one.corners) if len(one) else np.zeros((0, 6))
        back = Boxes(corners, one.labels, one.scores)
        kept.append(back.take(np.flatnonzero((corners[:, 3:] > corners[:, :3]).all(axis=1))))
    return kept
