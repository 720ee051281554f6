"""DATA and a recipe -> a detector, its loaders and engine: the one visible place where they are put together."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medgraft import gather as gathering
from medgraft import planning
from medgraft.assemble import check_backbone, planning_facts, say_weights, stages_of
from medgraft.detection import choices
from medgraft.errors import BadData, BadRecipe
from medgraft.files import network_corners
from medgraft.fitting import settle_engine
from medgraft.gather import Gathered, Listen
from medgraft.learn.detector import graft_detector, regraft
from medgraft.learn.engine import Engine
from medgraft.learn.model import Pixels
from medgraft.nets.coco import ENCODER, TrainedDetector, coco_form, fetch_detector, transplant
from medgraft.nets.detector import FinderForm
from medgraft.recipe import Recipe
from medgraft.samples.box_loader import BoxLoader
from medgraft.samples.dataset import DataSet, as_number
from medgraft.samples.loader import Items
from medgraft.samples.presets import preset
from medgraft.tasks import TASKS
from medgraft.tasks.detect import Detect
from medgraft.values import Boxes, Sample
from medgraft.version import VERSION


@dataclass(eq=False)
class BoxParts:
    """What a recipe is assembled to.

    Attributes:
        task: grafted, thawed to its depth, on its device.
        engine: device and precision.
        pixels: how a file becomes network pixels.
        sizes: (H, W) of each sample's file by its key.
        field: what an image of the training shows: its longer "side" and the "largest" box in pixels (medians, and 98th
            of a hundred), and "um_per_px" where that is known; a slide is looked at in such fields.
        train: batches in random order, augmented.
        val: batches in order, plain.
        test: batches in order, plain.
    """

    task: Detect
    engine: Engine
    pixels: Pixels
    sizes: dict[str, tuple[int, int]]
    field: dict[str, Any]
    train: BoxLoader
    val: BoxLoader
    test: BoxLoader


def prepare_boxes(dataset: DataSet, recipe: Recipe, *, listen: Listen) -> tuple[Recipe, Gathered, Detect, Pixels]:
    """Decode the data, graft a detector and fill the recipe: what comes before anything is learnt.

    Raises:
        BadData: no sample has boxes, or the images are volumes.
        BadRecipe: an option has no meaning for boxes.
    """
    recipe = recipe.changed({"medgraft": VERSION})
    dataset, left = with_boxes(dataset)
    if left:
        listen({"event": "say", "text": f"{left} images have no annotation and are left out"})
    seen = gathering.peek(dataset)
    if seen.volume:
        raise BadRecipe(
            "these are volumes, and their boxes are flat",
            where=dataset.root,
            do="Give boxes of volumes, x0, y0, z0, x1, y1, z1, or slices as images.",
        )
    known = [sample for sample in dataset.samples if sample.split != "test"]
    recipe, trained = _trained(recipe)
    recipe = choices.choose_picture(recipe, known, longest=seen.longest, gray=seen.gray)
    side, channels = recipe.input.image_size or 0, 1 if recipe.input.channels == 1 else 3
    pixels = Pixels((side, side), channels, recipe.input.fit, window=recipe.input.window)
    check_backbone(recipe, pixels)
    found = gathering.gather(dataset, recipe, network=pixels.to_dict(), listen=listen)
    why = planning.colour_after_all(found.records)
    if channels == 1 and why and "input.channels" in recipe.reasons:
        listen({"event": "say", "text": why})
        found.store.close()
        recipe = planning.with_reasons(recipe.changed({"input.channels": 3}), {"input.channels": why})
        return prepare_boxes(dataset, recipe, listen=listen)
    for note in found.notes:
        listen({"event": "say", "text": note})
    task = _grafted(recipe, found, pixels, trained=trained, listen=listen)
    recipe = _planned(recipe, found, task, pixels)
    form = FinderForm(
        arm="fcos" if recipe.boxes.arm == "fcos" else "faster_rcnn",
        strides=tuple(recipe.boxes.strides or ()),
        ratios=tuple(recipe.boxes.ratios or ()),
        width=recipe.boxes.width,
        most=recipe.boxes.most or 100,
    )
    form = form if trained is None else coco_form(form.most)
    task = regraft(task.backbone, task.answers, form=form, task=recipe.task, seed=recipe.seed)
    if trained is not None:
        transplant(task.backbone, task.head, trained=trained)
    return recipe, found, task, pixels


def _trained(recipe: Recipe) -> tuple[Recipe, TrainedDetector | None]:
    """Open the whole detector that is to be begun with, where there is one, and settle what follows from it."""
    if recipe.boxes.weights is None:
        return recipe, None
    if recipe.boxes.arm not in ("auto", "faster_rcnn") or recipe.backbone.name not in ("auto", ENCODER):
        raise BadRecipe(
            "boxes.weights brings a Faster R-CNN with its own encoder", do="Leave out boxes.arm and --backbone."
        )
    found = fetch_detector(recipe.boxes.weights, offline=recipe.backbone.offline)
    form, why = coco_form(100), "as the detector was built that the weights are of"
    settled = {"backbone.name": ENCODER, "input.channels": 3, "boxes.width": form.width}
    settled |= {"boxes.strides": list(form.strides), "boxes.ratios": list(form.ratios)}
    return planning.with_reasons(recipe.changed(settled), dict.fromkeys(settled, why)), found


def _grafted(
    recipe: Recipe, found: Gathered, pixels: Pixels, *, trained: TrainedDetector | None, listen: Listen
) -> Detect:
    """Learn the classes from the training boxes and graft a detector on the backbone, of a form yet to be planned."""
    answers = TASKS[recipe.task].answers_of([found.samples[i] for i in found.of("train")])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        task = graft_detector(
            answers,
            FinderForm() if trained is None else coco_form(100),
            task=recipe.task,
            backbone_name=recipe.backbone.name,
            channels=pixels.channels,
            image_size=pixels.size,
            offline=recipe.backbone.offline,
            seed=recipe.seed,
        )
    if trained is not None:
        transplant(task.backbone, task.head, trained=trained)
    say_weights(recipe, task.backbone, said=said if trained is None else (), listen=listen)
    return task


def with_boxes(dataset: DataSet) -> tuple[DataSet, int]:
    """Get the samples of which it is known what is in them, and how many are left out.

    Raises:
        BadData: no sample has a box.
    """
    boxed = tuple(sample for sample in dataset.samples if sample.boxes is not None)
    if not any(len(sample.boxes or ()) for sample in boxed):
        raise BadData(
            "no image has a box",
            where=dataset.root,
            do="Give COCO JSON, Pascal VOC XML, YOLO text or a table of boxes.",
        )
    return replace(dataset, samples=boxed), len(dataset.samples) - len(boxed)


def _planned(recipe: Recipe, found: Gathered, task: Detect, pixels: Pixels) -> Recipe:
    training = [found.samples[i] for i in found.of("train")]
    sizes = sizes_of(found)
    net = task.backbone
    facts = planning_facts(found, net)
    inside = [network_boxes(sample, pixels, sizes[sample.key]) for sample in training]
    boxes = choices.facts_of([one for one in inside if len(one)])
    resolved = {"backbone.name": net.name, "backbone.sha256": net.sha256}
    return choices.choose_rest(recipe.changed(resolved), facts, boxes)


def sizes_of(found: Gathered) -> dict[str, tuple[int, int]]:
    """Get (H, W) of each sample's file by its key."""
    return {
        sample.key: (int(record["shape"][-2]), int(record["shape"][-1]))
        for sample, record in zip(found.samples, found.records, strict=True)
    }


def network_boxes(sample: Sample, pixels: Pixels, size: tuple[int, int]) -> Boxes:
    """Get a sample's boxes in network pixels.

    Args:
        sample: with boxes.
        pixels: how its file becomes network pixels.
        size: (H, W) of the file.
    """
    assert sample.boxes is not None
    corners = network_corners(sample.boxes.corners, size=size, network=pixels.size, fit=pixels.fit)
    return replace(sample.boxes, corners=corners)


def assemble_boxes(recipe: Recipe, found: Gathered, task: Detect, pixels: Pixels) -> tuple[Recipe, BoxParts]:
    """Put the parts together; the recipe comes back with precision and memory layout settled.

    Raises:
        BadData: a validation or test box of a class that training does not know.
        BadRecipe: the backbone has fewer stages than are to be thawed.
    """
    if recipe.depth.thaw == "lora":
        raise BadRecipe("adapters are not for detectors", do="Give --depth head, a number of stages, or all.")
    task.thaw(stages_of(recipe, task))
    sizes = sizes_of(found)
    chosen = preset(recipe.augment.preset).with_(strength=recipe.augment.strength)

    def loader(split: str) -> BoxLoader:
        training = split == "train"
        own = [found.samples[i] for i in found.of(split)]
        targets = task.encode([network_boxes(sample, pixels, sizes[sample.key]) for sample in own])
        items = Items([found.places[i] for i in found.of(split)], [sample.key for sample in own], targets)
        return BoxLoader(
            found.store,
            items,
            spec=task.backbone.spec,
            batch_size=(recipe.fit.batch_size or 8) if training else 8,
            seed=recipe.seed,
            preset=chosen if training else None,
            crop=(recipe.boxes.crop or 0) if training else 0,
            shuffle=training,
            workers=recipe.machine.workers if training else 0,
        )

    train = loader("train")
    recipe, engine = settle_engine(recipe, task, train)
    engine.place(task)
    field = field_of(recipe, found)
    return recipe, BoxParts(task, engine, pixels, sizes, field, train, loader("val"), loader("test"))


def field_of(recipe: Recipe, found: Gathered) -> dict[str, Any]:
    """Measure what an image of the training shows; see `BoxParts.field`."""
    training = found.of("train")
    longest = [max(found.records[i]["shape"][-2:]) for i in training]
    boxes = np.concatenate([own.corners for i in training if (own := found.samples[i].boxes) is not None])
    largest = float(np.percentile((boxes[:, 2:4] - boxes[:, :2]).max(axis=1), 98))
    micrometres = recipe.boxes.um_per_px
    if micrometres is None:
        written = [found.samples[i].covariates.get("um_per_px") or "" for i in training]
        known = [value for value in map(as_number, written) if value]
        spacing = [float(np.mean(s[-2:])) * 1000 for i in training if (s := found.records[i].get("spacing_mm"))]
        both = known if len(known) == len(training) else spacing
        micrometres = float(np.median(both)) if len(both) == len(training) else None
    return {"side": float(np.median(longest)), "largest": largest, "um_per_px": micrometres}


def words_of(samples: Sequence[Sample]) -> dict[str, Any]:
    """Count the boxes of some samples: {"boxes": n, "images": n, "empty": n}."""
    counts = np.array([len(sample.boxes or ()) for sample in samples], dtype=np.int64)
    return {"boxes": int(counts.sum()), "images": len(counts), "empty": int((counts == 0).sum())}
