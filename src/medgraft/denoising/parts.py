"""DATA and a recipe -> parts of noisy planes, a net that learns to foretell them, and their loaders."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from medgraft import gather as gathering
from medgraft import seeds
from medgraft.denoising.crops import Crop, Patches, crops_of
from medgraft.errors import BadData, BadRecipe
from medgraft.files import read_image
from medgraft.gather import Gathered, Listen, Peek
from medgraft.learn import stopping
from medgraft.learn.engine import Engine
from medgraft.nets.restorer import RestorerForm
from medgraft.planning import average_rule, filled
from medgraft.recipe import Recipe
from medgraft.samples.dataset import DataSet
from medgraft.segmentation.room import room_of
from medgraft.tasks.denoise import Denoise
from medgraft.version import VERSION

_THUMB = 32  # pixels by which images are compared with each other; none of them is learnt from
_MOST_CROPS, _MOST_HELD = 2000, 200  # parts that are kept in memory, and that an epoch is chosen by
_STEPS = {1: 1500, 4: 6000, 8: 12_000}  # by the room of the machine
_EPOCH = 100  # steps of an epoch, about


@dataclass(eq=False)
class DenoiseParts:
    """What a recipe is assembled to.

    Attributes:
        recipe: filled.
        found: the images, with their splits.
        task: on its device.
        engine: device and precision.
        train: patches in random order.
        val: patches in order.
    """

    recipe: Recipe
    found: Gathered
    task: Denoise
    engine: Engine
    train: Patches
    val: Patches


def prepare_planes(dataset: DataSet, recipe: Recipe, *, listen: Listen) -> tuple[Recipe, Gathered]:
    """Decode the images once, part them, and fill the recipe.

    Raises:
        BadRecipe: there is no such column of clean images.
        BadData: there are too few images.
    """
    column = recipe.denoise.clean_column
    if column is not None and not any(sample.covariates.get(column) for sample in dataset.samples):
        names = sorted({name for sample in dataset.samples for name in sample.covariates})
        do = f"There are {', '.join(names)}." if names else "Leave denoise.clean_column out."
        raise BadRecipe(f"there is no column {column!r} of clean images", where=dataset.root, do=do)
    recipe = recipe.changed({"medgraft": VERSION})
    seen = gathering.peek(dataset)
    dataset = replace(dataset, samples=tuple(replace(one, label="image") for one in dataset.samples))
    size = [_THUMB // 2, _THUMB, _THUMB] if seen.volume else [_THUMB, _THUMB]
    network: dict[str, Any] = {"size": size, "channels": 1, "fit": "stretch"}
    found = gathering.gather(dataset, recipe, network=network, listen=listen)
    for note in found.notes:
        listen({"event": "say", "text": note})
    if not found.of("train") or not found.of("val"):
        found.store.close()
        what = "there are too few images to learn from some and choose an epoch by others"
        raise BadData(what, where=dataset.root, do="Give at least about ten, or clean single files by a filter.")
    return _choose(recipe, seen, images=len(found.of("train"))), found


def _choose(recipe: Recipe, seen: Peek, *, images: int) -> Recipe:
    room, plain = room_of(recipe.machine.device), room_of("cpu")
    times, words = room.step_pixels // plain.step_pixels, room.words
    own, batch = recipe.denoise, recipe.fit.batch_size or 8 * times
    side = own.side or min(64, max(16, 16 * (seen.side // 16)))
    most = max(1, _MOST_CROPS // images)
    patches = own.patches or min(16 if not seen.volume else 32, most)
    parts = min(_MOST_CROPS, images * min(patches, most))
    each = max(1, _looks(parts, batch) * parts // batch)
    epochs = recipe.fit.epochs or max(1, round(_STEPS[times] / each))
    planned: dict[str, tuple[Any, str]] = {
        "denoise.widths": ([24, 48, 96] if times == 1 else [48, 96, 192], f"three resolutions{words}"),
        "denoise.side": (side, f"images have {seen.side} pixels along their shorter side"),
        "denoise.patches": (patches, f"{images} images, {parts} parts in memory"),
        "input.channels": (1, "channels are learnt one by one"),
        "augment.preset": ("none", "patches are turned and mirrored, which noise does not mind"),
        "fit.batch_size": (batch, f"{batch} patches a step{words}"),
        "fit.epochs": (epochs, f"about {epochs * each:,} steps{words}"),
        "fit.patience": (0, "the falling rate still brings gains"),
        "fit.lr": (1e-3, "a small net without norms"),
        "fit.head_lr": (1e-3, "one net"),
        "fit.layer_decay": (1.0, "no layer is older than another"),
        "fit.ema": average_rule(epochs * each),
        "fit.channels_last": (True, "faster for so few channels"),
        "fit.precision": ("fp32", "differences of the size of noise are learnt"),
    }
    return filled(recipe, planned)


def _looks(crops: int, batch: int) -> int:
    """How often an epoch shows a part, so that it has about a hundred steps."""
    return max(1, round(_EPOCH * batch / crops))


def assemble_planes(recipe: Recipe, found: Gathered, *, listen: Listen) -> DenoiseParts:
    """Cut the parts out and put everything together.

    Raises:
        BadImage: a file cannot be read any more.
    """
    own, fit = recipe.denoise, recipe.fit
    side, batch = own.side or 64, fit.batch_size or 8
    listen({"event": "say", "text": "cutting patches out of the images"})
    train = _cut(recipe, found, "train", most=_MOST_CROPS)
    val = _cut(recipe, found, "val", most=_MOST_HELD)
    task = task_of(recipe)
    engine = Engine(recipe.machine.device, precision=fit.precision, channels_last=bool(fit.channels_last))
    engine.place(task)
    words: dict[str, Any] = {"side": side, "batch_size": batch}
    learnt = Patches(train, looks=_looks(len(train), batch), seed=recipe.seed, **words)
    return DenoiseParts(recipe, found, task, engine, learnt, Patches(val, **words))


def _cut(recipe: Recipe, found: Gathered, split: str, *, most: int) -> list[Crop]:
    """Parts of all images, fewer of each where they would be too many; of very many images some, evenly spread."""
    own, places, crops = recipe.denoise, found.of(split), list[Crop]()
    each = min(own.patches or 1, max(1, most // len(places)))
    words: dict[str, Any] = {"side": own.side or 64, "each": each, "seed": recipe.seed}
    for number in np.unique(np.linspace(0, len(places) - 1, min(most, len(places))).astype(int)):
        stopping.check()
        sample = found.samples[places[number]]
        crops += crops_of(read_image(sample.image, window=recipe.input.window), sample.key, **words)
    return crops


def task_of(recipe: Recipe) -> Denoise:
    """Get a net that has learnt nothing yet; the same one for the same seed."""
    torch.manual_seed(seeds.torch_seed(recipe.seed, "init"))
    return Denoise(RestorerForm(tuple(recipe.denoise.widths or (24, 48, 96))))
