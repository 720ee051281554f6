"""DATA and a recipe -> images of one size, nets that learn to draw such, and their loaders: where they meet."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch

from medgraft import gather as gathering
from medgraft import seeds
from medgraft.errors import BadData
from medgraft.fitting import settle_engine
from medgraft.gather import Gathered, Listen
from medgraft.generation.choices import (
    STYLE_NUMBERS,
    choose_kinds,
    choose_rest,
    choose_shape,
    choose_window,
    coder_form,
    in_hu,
)
from medgraft.generation.features import Features
from medgraft.generation.meaning import Meaning, shared_ways, spacing_drawn
from medgraft.learn.engine import Engine
from medgraft.nets.autoencoder import Autoencoder
from medgraft.nets.denoiser import DenoiserForm
from medgraft.nets.gaussian import Gaussian
from medgraft.nets.stylegan import StyleForm
from medgraft.recipe import Recipe
from medgraft.samples.dataset import DataSet
from medgraft.samples.facts import facts_of
from medgraft.samples.loader import Items, Loader
from medgraft.samples.presets import Preset, preset
from medgraft.tasks.answers import Answers
from medgraft.tasks.diffuse import Diffuse
from medgraft.tasks.stylegan import Play, Stylegan
from medgraft.values import Batch, InputSpec
from medgraft.version import VERSION

_FEWEST = 5  # training images
_LOOKED_AT = 24
_TIMED = 4  # images that tell which arithmetic is fastest
_Thing = TypeVar("_Thing")
_ROOM = 2**30  # bytes that real images of a split may take while drawn ones are judged


@dataclass(eq=False)
class DrawnParts:
    """What a recipe is assembled to.

    Attributes:
        recipe: filled.
        found: the real images, with their splits.
        task: on its device.
        engine: device and precision.
        answers: the classes; none where images are drawn without.
        train: batches in random order, an epoch shows an image some times.
        val: batches in order.
        meaning: of what is drawn, where it is volumes.
    """

    recipe: Recipe
    found: Gathered
    task: Diffuse | Stylegan
    engine: Engine
    answers: Answers
    train: Looks
    val: Loader
    meaning: Meaning | None

    def some(self, split: str, most: int) -> list[int]:
        """Get places of at most so many images of a split, evenly spread: samples lie sorted by class or patient.

        Fewer where their numbers would take more memory than a gibibyte.
        """
        shape = (spec_of(self.recipe).channels, *(self.recipe.generator.shape or ()))
        return spread_out(self.found.of(split), min(most, fitting(shape)))

    def real(self, places: Sequence[int]) -> np.ndarray:
        """Get images `(N, C, [D,] H, W)` of such places, float32 in -1..1."""
        return np.stack([signed(self.found.store.rows([self.found.places[place]])[0]) for place in places])


class Looks:
    """Loaders of the same images of which an epoch shows each image some times, in another order each time.

    Args:
        loaders: of the training; several hold different views of the images, and take turns.
        times: how often.
    """

    def __init__(self, loaders: Sequence[Loader], times: int) -> None:
        self.loaders, self.times, self.keys = tuple(loaders), times, loaders[0].keys

    def __len__(self) -> int:
        return len(self.loaders[0]) * self.times

    def epoch(self, epoch: int, *, start_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of one epoch, from `start_step` on."""
        first, step = divmod(start_step, len(self.loaders[0]))
        for number in range(first, self.times):
            look = epoch * self.times + number
            yield from self.loaders[look % len(self.loaders)].epoch(look, start_step=step)
            step = 0

    def once(self) -> Iterator[Batch]:
        """Yield each image once, as the first look of the first epoch shows it."""
        return self.loaders[0].epoch(0)


def fitting(shape: Sequence[int]) -> int:
    """Get how many images `(C, [D,] H, W)` are held in memory at most to be compared with drawn ones."""
    return max(16, _ROOM // (4 * math.prod(shape)))


def spread_out(things: Sequence[_Thing], most: int) -> list[_Thing]:
    """Get at most so many, evenly spread, in their order.

    Example:
        >>> spread_out([3, 4, 5, 6, 7], 3), spread_out([3, 4], 3)
        ([3, 5, 7], [3, 4])
    """
    count = len(things)
    return [things[int(k)] for k in np.linspace(0, count - 1, min(count, most)).round()]


def spec_of(recipe: Recipe) -> InputSpec:
    """Get how pixels become numbers: -1 is black, 1 is white."""
    channels = 1 if recipe.input.channels == 1 else 3
    shape = recipe.generator.shape or [64, 64]
    return InputSpec((shape[-2], shape[-1]), channels, (0.5,) * channels, (0.5,) * channels)


def signed(pixels: np.ndarray) -> np.ndarray:
    """Get whole numbers as float32 in -1..1."""
    white = np.float32(65535 if pixels.dtype == np.uint16 else 255)
    return np.asarray(pixels, np.float32) * (2 / white) - 1


def prepare_images(dataset: DataSet, recipe: Recipe, *, listen: Listen) -> tuple[Recipe, Gathered, Answers]:
    """Decode the images at the size that is drawn and fill the recipe.

    Raises:
        BadData: there are too few images.
        BadRecipe: an option has no meaning here.
    """
    recipe = recipe.changed({"medgraft": VERSION})
    seen = gathering.peek(dataset)
    records = _looked_at(dataset)
    recipe = choose_window(choose_shape(recipe, seen, _median_shape(records)), records)
    recipe = choose_kinds(recipe, [sample.label for sample in dataset.samples])
    if not recipe.generator.kinds:
        dataset = replace(dataset, samples=tuple(replace(one, label="image") for one in dataset.samples))
    shape = recipe.generator.shape
    assert shape is not None
    network: dict[str, Any] = {
        "size": shape,
        "channels": spec_of(recipe).channels,
        "fit": "stretch" if seen.volume else recipe.input.fit,
    }
    if recipe.input.window is not None:
        network["window"] = list(recipe.input.window)
    found = gathering.gather(dataset, recipe, network=network, listen=listen)
    for note in found.notes:
        listen({"event": "say", "text": note})
    training = found.of("train")
    if len(training) < _FEWEST:
        found.store.close()
        what = f"{len(training)} training images are too few to learn to draw such, {_FEWEST} are needed"
        raise BadData(what, where=dataset.root, do="Give more images.")
    recipe = choose_rest(recipe, images=len(training), preset=(found.survey.preset, found.survey.preset_why))
    names = sorted({str(found.samples[place].label) for place in training}) if recipe.generator.kinds else []
    return recipe, found, Answers(classes=tuple(names))


def _looked_at(dataset: DataSet) -> list[dict[str, Any]]:
    places = np.unique(np.linspace(0, len(dataset.samples) - 1, min(_LOOKED_AT, len(dataset.samples))).astype(int))
    return [one for one in facts_of([dataset.samples[k] for k in places], workers=1) if one["error"] is None]


def _median_shape(records: Sequence[dict[str, Any]]) -> tuple[int, ...]:
    deepest = max(len(one["shape"]) for one in records)
    shapes = [one["shape"][1:] for one in records if len(one["shape"]) == deepest]
    return tuple(int(side) for side in np.median(np.array(shapes), axis=0))


def assemble_images(recipe: Recipe, found: Gathered, answers: Answers) -> DrawnParts:
    """Put the parts together."""
    spec, changes = spec_of(recipe), preset_of(recipe)
    numbers = {name: number for number, name in enumerate(answers.classes)}

    def loader(split: str, **words: Any) -> Loader:
        places = found.of(split)
        kinds = torch.tensor([numbers.get(str(found.samples[place].label), 0) for place in places])
        items = Items([found.places[p] for p in places], [found.samples[p].key for p in places], kinds)
        return Loader(found.store, items, spec=spec, batch_size=recipe.fit.batch_size or 16, seed=recipe.seed, **words)

    task = task_of(recipe, answers, changes)
    # Fewer images than a batch make one that is not full.
    whole = len(found.of("train")) >= (recipe.fit.batch_size or 16)
    train = Looks([loader("train", shuffle=True, preset=changes, drop_last=whole)], recipe.generator.looks or 1)
    recipe, engine = _settled(recipe, task, train)
    engine.place(task)
    return DrawnParts(recipe, found, task, engine, answers, train, loader("val"), _meaning_of(recipe, found))


def _settled(recipe: Recipe, task: Diffuse | Stylegan, train: Looks) -> tuple[Recipe, Engine]:
    """Measure which arithmetic is fastest here; what the nets count of their steps meanwhile is put back."""
    kept = {name: buffer.clone() for name, buffer in task.named_buffers()}
    source = _Inside(task, train) if isinstance(task, Diffuse) else train
    recipe, engine = settle_engine(recipe, task, source, timed=_TIMED)
    for name, buffer in task.named_buffers():
        buffer.copy_(kept[name])
    return recipe, engine


class _Inside:
    """Batches of what a net draws: pixels, or latents of an autoencoder that has learnt nothing yet."""

    def __init__(self, task: Diffuse, looks: Looks) -> None:
        self.task, self.looks = task, looks

    def __len__(self) -> int:
        return len(self.looks)

    @torch.no_grad()
    def epoch(self, epoch: int, *, start_step: int = 0) -> Iterator[Batch]:
        for batch in self.looks.epoch(epoch, start_step=start_step):
            device = next(self.task.parameters()).device
            yield replace(batch, pixels=self.task.inside(batch.pixels.to(device)))


def _meaning_of(recipe: Recipe, found: Gathered) -> Meaning | None:
    """What the training volumes say of what is drawn; what they do not agree on becomes a note of the run."""
    shape = recipe.generator.shape or []
    if len(shape) != 3:
        return None
    places = found.of("train")
    ways, note = shared_ways([found.samples[place].image for place in places])
    found.notes += [note] if note else []
    records = [found.records[place] for place in places]
    window = recipe.input.window
    ends = None if window is None else (window[0] - window[1] / 2, window[0] + window[1] / 2)
    return Meaning(spacing_drawn(records, shape), ways, ends, "HU" if ends and in_hu(records) else "")


def preset_of(recipe: Recipe) -> Preset:
    """Get the mirrors and turns that images of this kind allow, and no other change: what is changed is drawn."""
    chosen = preset(recipe.augment.preset)
    own = preset("none").with_(flip_h=chosen.flip_h, flip_v=chosen.flip_v, turns=chosen.turns)
    return own if len(recipe.generator.shape or ()) == 2 else preset("none")


def task_of(recipe: Recipe, answers: Answers, changes: Preset) -> Diffuse | Stylegan:
    """Get nets that have learnt nothing yet; the same ones for the same seed."""
    own, channels = recipe.generator, spec_of(recipe).channels
    assert own.shape is not None and own.widths is not None
    torch.manual_seed(seeds.torch_seed(recipe.seed, "init"))
    if recipe.task == "diffuse":
        coded = coder_form(recipe)
        coder = None if coded is None else Autoencoder(coded).requires_grad_(False)
        channels, step = (channels, 1) if coded is None else (coded.latent, coded.step)
        form = DenoiserForm(
            len(own.shape), channels, tuple(own.widths), own.blocks, 1, len(answers.classes), own.dropout, own.fold or 1
        )
        shape = (channels, *(side // step for side in own.shape))
        gaussian = gaussian_of(shape, own.directions)
        words: dict[str, Any] = {"side": max(own.shape) // step, "coder": coder, "gaussian": gaussian}
        task = Diffuse(form, answers, seed=recipe.seed, **words)
        for net in (task.net, *([] if task.coder is None else [task.coder])):
            net.again = bool(own.checkpoint)
        return task
    wide, kinds = own.widths[0], len(answers.classes)
    style = StyleForm(own.shape[-1], channels, wide, 8 * wide, STYLE_NUMBERS, 4, kinds, own.directions or 0)
    play = Play(own.gamma or 0.0, own.ramp, turns=changes.turns > 0, mirror=changes.flip_h > 0)
    features = Features(channels=channels, offline=True)
    return Stylegan(style, answers, play=play, features=features, seed=recipe.seed)


def gaussian_of(shape: Sequence[int], directions: int | None) -> Gaussian | None:
    """Get the Gaussian under a net that draws images, or latents, `(C, [D,] H, W)`; None without directions."""
    return Gaussian(shape, directions) if directions else None


def kinds_drawn(count: int, classes: Sequence[str], *, shares: Sequence[float] = (), first: int = 0) -> np.ndarray:
    """Get the class of each of `count` images from number `first` on, evenly or by shares; zeros where there are none.

    The class of a number is always the same: it is that which lacks most of its share among the numbers before.

    Example:
        >>> kinds_drawn(5, ["ill", "well"]).tolist(), kinds_drawn(4, ["ill", "well"], shares=[1, 3], first=1).tolist()
        ([0, 1, 0, 1, 0], [0, 1, 1, 1])
    """
    if not classes:
        return np.zeros(count, np.int64)
    each = np.array([1.0] * len(classes) if not sum(shares) else shares, float)
    each, had, found = each / each.sum(), np.zeros(len(classes)), np.zeros(first + count, np.int64)
    for number in range(first + count):
        found[number] = np.round(each * (number + 1) - had, 9).argmax()
        had[found[number]] += 1
    return found[first:]
