"""Recipe -> parts: the one visible place where backbone, head, loaders and engine are put together."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medgraft import planning
from medgraft.errors import BadData, BadRecipe, BadWeights
from medgraft.gather import Gathered, Listen
from medgraft.learn.engine import Engine, fastest, resolve_device
from medgraft.learn.model import Pixels, graft, repool
from medgraft.nets import RANK, batch_norms, has_folded_norms, takes_adapters
from medgraft.nets.backbone import Backbone, backbone
from medgraft.nets.sources import resolve
from medgraft.recipe import Recipe
from medgraft.samples.loader import Items, Loader, normalised
from medgraft.samples.presets import Preset, preset
from medgraft.scores.operating import choose_threshold
from medgraft.tasks import TASKS
from medgraft.tasks.base import ImageTask

_TIMED = 8  # images: enough to tell the arms apart, and a slow net keeps nobody waiting; half when layers learn

_LARGEST_TURN = 15.0  # degrees that leave most of a zone in its place


@dataclass(eq=False)
class Parts:
    """What a recipe is assembled to.

    Attributes:
        task: grafted, thawed to its depth, on its device.
        engine: device and precision.
        pixels: how a file becomes network pixels.
        train: batches in random order, augmented.
        val: batches in order, plain.
        test: batches in order, plain.
    """

    task: ImageTask
    engine: Engine
    pixels: Pixels
    train: Loader
    val: Loader
    test: Loader


def check_words(recipe: Recipe) -> None:
    """Refuse words that no part knows at once, before an image is read.

    Raises:
        BadRecipe, UnknownName: which word, and what there is.
    """
    if recipe.task != "auto":
        TASKS[recipe.task]
    if recipe.augment.preset != "auto":
        preset(recipe.augment.preset)
    if recipe.fit.epochs == 0:
        _check_no_epochs(recipe)
    choose_threshold(np.array([0, 1]), np.array([0.1, 0.9]), rule=recipe.scores.rule)
    resolve_device(recipe.machine.device)
    if recipe.task == "auto" or TASKS[recipe.task].places != "prompts":  # what takes prompts has sources of its own
        resolve(recipe.backbone.name)


def _check_no_epochs(recipe: Recipe) -> None:
    """Without epochs the probe is all that is learnt, and no stage is tuned."""
    if recipe.fit.probe is False:
        raise BadRecipe("fit.epochs is 0 and fit.probe is off, so nothing would be learnt", do="Change one of them.")
    if recipe.task != "auto" and TASKS[recipe.task].places:
        raise BadRecipe("fit.epochs is 0, and boxes are learnt in epochs", do="Give some epochs.")
    if recipe.task != "auto" and TASKS[recipe.task].upright:
        raise BadRecipe("fit.epochs is 0, and the map of severities is learnt in epochs", do="Give some epochs.")
    if recipe.depth.thaw not in ("auto", "head", 0):
        raise BadRecipe(
            f"fit.epochs is 0, and depth {recipe.depth.thaw} asks for tuning", do="Give --depth head, or some epochs."
        )


def check_backbone(recipe: Recipe, pixels: Pixels) -> None:
    """Open the backbone once before all images are decoded, which may take long, and see whether the depth fits it.

    Raises:
        UnknownName, BadWeights, Offline: the backbone cannot be had.
        BadRecipe: it has fewer stages than are to be thawed, or does not take images of this size.
    """
    words = recipe.backbone
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        net = backbone(words.name, channels=pixels.channels, image_size=pixels.size, offline=words.offline)
    if recipe.depth.thaw != "auto":
        _thawed(recipe, net)


def graft_for(recipe: Recipe, found: Gathered, pixels: Pixels, listen: Listen) -> ImageTask:
    """Learn the answers from the training labels and graft a head for them on the backbone.

    Raises:
        BadData: the labels do not fit the task.
        UnknownName, BadWeights, Offline: the backbone cannot be had.
    """
    training = [found.samples[i] for i in found.of("train")]
    answers = TASKS[recipe.task].answers_of(training, recipe.scores.positive, grid=recipe.zones.grid)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        task = graft(
            recipe.task,
            answers,
            backbone_name=recipe.backbone.name,
            channels=pixels.channels,
            image_size=pixels.size,
            offline=recipe.backbone.offline,
            seed=recipe.seed,
            dropout=recipe.backbone.dropout,
        )
    say_weights(recipe, task.backbone, said=said, listen=listen)
    return task


def say_weights(recipe: Recipe, net: Backbone, *, said: Sequence[warnings.WarningMessage], listen: Listen) -> None:
    """Pass on what was said while a backbone was opened, and refuse other weights than those of the recipe.

    Raises:
        BadWeights: the weights are others.
    """
    wanted = recipe.backbone.sha256
    if wanted is not None and wanted != net.sha256:
        own = net.sha256[:12] or "none"
        raise BadWeights(
            f"the weights are not those of the recipe (sha256 {own}, not {wanted[:12] or 'none'})",
            where=recipe.backbone.name,
            do="Bring the former file back, or remove backbone.sha256 from the recipe and train anew.",
        )
    for warning in said:
        asked = recipe.backbone.name.startswith("none:")  # who asked for random numbers need not be warned of them
        listen({"event": "say" if asked else "warning", "text": str(warning.message)})


def planning_facts(found: Gathered, net: Backbone) -> planning.Facts:
    """Get what the plan needs to know of the data and the backbone alone; a task adds what it knows of its labels."""
    training = [found.samples[i] for i in found.of("train")]
    return planning.Facts(
        train_images=len(training),
        train_patients=len({sample.patient or sample.key for sample in training}),
        modality=found.survey.preset,
        modality_reason=found.survey.preset_why,
        stages=len(net.stages),
        random=not net.sha256,
        procedural=net.name.startswith("embedded:"),
        pyramid=len(set(net.strides[-3:])) > 1,
        norms=bool(batch_norms(net)),
        folded_norms=bool(net.sha256) and has_folded_norms(net),
        class_ratio=None,
        transformer=takes_adapters(net),
    )


def planned(recipe: Recipe, found: Gathered, task: ImageTask) -> Recipe:
    """Fill what is empty or "auto" from the data and the backbone."""
    targets = task.targets_of([found.samples[i] for i in found.of("train")])
    facts = planning_facts(found, task.backbone)
    facts = replace(facts, stages=len(task.parts().stages), class_ratio=task.rarity(targets), regions=task.upright)
    resolved = {"backbone.name": task.backbone.name, "backbone.sha256": task.backbone.sha256}
    if task.answers.positive is not None:
        resolved["scores.positive"] = task.answers.positive
    return planning.choose_rest(recipe.changed(resolved), facts)


def stages_of(recipe: Recipe, task: Any) -> int:
    """Get how many stages the recipe thaws.

    Raises:
        BadRecipe: the backbone has fewer.
    """
    return _thawed(recipe, task.backbone)


def rank_of(recipe: Recipe) -> int:
    """Get the rank of the adapters that learn in place of the encoder's own weights; 0 for none."""
    return RANK if recipe.depth.thaw == "lora" else 0


def is_cached(recipe: Recipe, parts: Parts) -> bool:
    """Say whether the frozen stages run once over stored views, not in every epoch."""
    return (recipe.depth.views or 0) > 0 and parts.task.thawed < len(parts.task.parts().stages)


def _thawed(recipe: Recipe, net: Backbone) -> int:
    count, asked = len(net.stages), recipe.depth.thaw
    thawed = {"head": 0, "all": count, "lora": count}.get(str(asked), asked)
    if asked == "lora" and not takes_adapters(net):
        raise BadRecipe(
            f"depth lora is for transformers, and {net.name} is made of convolutions",
            do=f"Give --depth head, 1 to {count}, or all.",
        )
    if not isinstance(thawed, int) or not 0 <= thawed <= count:
        raise BadRecipe(
            f"depth {asked} is not possible: {net.name} has {count} stages",
            do=f"Give --depth head, 1 to {count}, or all.",
        )
    return thawed


def assemble(recipe: Recipe, found: Gathered, task: ImageTask, pixels: Pixels) -> tuple[Recipe, Parts]:
    """Put the parts together; the recipe comes back with precision and memory layout settled.

    Raises:
        BadData: a validation or test label that training does not know.
    """
    repool(task, pooling=recipe.backbone.pooling, seed=recipe.seed)
    task.thaw(stages_of(recipe, task), rank=rank_of(recipe), seed=recipe.seed)
    task.stored_norms, task.probed = recipe.fit.norms == "stored", bool(recipe.fit.probe)
    task.label_smoothing, task.mixup = recipe.fit.label_smoothing, recipe.fit.mixup
    own = {split: [found.samples[i] for i in found.of(split)] for split in ("train", "val", "test")}
    targets = {split: task.targets_of(samples) for split, samples in own.items()}
    for split in ("val", "test"):
        if len(targets[split]) and not len(task.named(targets[split])[0]):
            raise BadData(f"no image of the {split} part has a label", do="Add some, or let medgraft split anew.")
    task.begin(targets["train"])
    share = task.balance(targets["train"], recipe.fit.balance)
    recipe, engine = _engine(recipe, found, task, pixels)
    chosen = augmentation(recipe, task)

    def loader(split: str) -> Loader:
        training = split == "train"
        items = Items(
            indices=[found.places[i] for i in found.of(split)],
            keys=[sample.key for sample in own[split]],
            targets=targets[split],
            share=share if training else None,
        )
        return Loader(
            found.store,
            items,
            spec=task.backbone.spec,
            batch_size=recipe.fit.batch_size or 32,
            seed=recipe.seed,
            preset=chosen if training else None,
            shuffle=training,
            workers=recipe.machine.workers if training else 0,
        )

    parts = Parts(engine.place(task), engine, pixels, loader("train"), loader("val"), loader("test"))  # type: ignore[arg-type]
    return recipe, parts


def augmentation(recipe: Recipe, task: ImageTask) -> Preset:
    """Get the random changes of training images; where places have names, no mirror and no large turn moves them."""
    chosen = preset(recipe.augment.preset).with_(strength=recipe.augment.strength)
    if not task.upright:
        return chosen
    return chosen.with_(flip_h=0.0, flip_v=0.0, turns=0.0, rotation=min(chosen.rotation, _LARGEST_TURN))


def _engine(recipe: Recipe, found: Gathered, task: ImageTask, pixels: Pixels) -> tuple[Recipe, Engine]:
    """Settle device, precision and memory layout; what is "auto" is measured on a batch of this run."""
    fit = recipe.fit
    if fit.precision != "auto" and fit.channels_last is not None:
        return recipe, Engine(recipe.machine.device, precision=fit.precision, channels_last=fit.channels_last)
    engine = Engine(recipe.machine.device)
    task.to(engine.device).eval()
    places = [found.places[i] for i in found.of("train")]
    count = _TIMED if task.thawed == 0 else _TIMED // 2
    rows = found.store.rows(np.resize(places, min(count, fit.batch_size or count)))
    batch = normalised(rows, task.backbone.spec).to(engine.device)
    precision, last = fastest(task, batch, run=partial(_once, task))
    precision = precision if fit.precision == "auto" else fit.precision
    last = last if fit.channels_last is None else fit.channels_last
    threads = torch.get_num_threads()
    why = f"measured on {threads} thread{'s' if threads > 1 else ''} of the {engine.device.type}"
    recipe = recipe.changed({"fit.precision": precision, "fit.channels_last": last})
    recipe = planning.with_reasons(recipe, {"fit.precision": why, "fit.channels_last": why})
    return recipe, Engine(recipe.machine.device, precision=precision, channels_last=last)


def _once(task: ImageTask, pixels: Tensor) -> None:
    """Do what each image costs: forward, and backward through the layers that learn."""
    if task.thawed == 0:
        with torch.no_grad():
            task(pixels)
        return
    task(pixels).sum().backward()
    task.zero_grad(set_to_none=True)
