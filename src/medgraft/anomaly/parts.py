"""DATA and a recipe -> decoded images, the normal ones among them, and a net for them: where they meet."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medgraft import gather as gathering
from medgraft import planning, seeds
from medgraft.anomaly.choices import UNNAMED, choose_images, choose_levels, choose_rest, normal_of
from medgraft.anomaly.judge import check_masks
from medgraft.errors import BadData, BadRecipe, BadWeights, UserError
from medgraft.files import network_corners
from medgraft.gather import Gathered, Listen
from medgraft.generation.parts import Looks, gaussian_of
from medgraft.learn.engine import Engine
from medgraft.learn.model import Pixels
from medgraft.nets.backbone import backbone, saved_words
from medgraft.nets.bottleneck import Bottleneck, BottleneckForm
from medgraft.nets.denoiser import DenoiserForm
from medgraft.nets.patch_bank import PatchBank
from medgraft.recipe import Recipe
from medgraft.samples.dataset import DataSet
from medgraft.samples.loader import Items, Loader
from medgraft.samples.presets import Preset, preset
from medgraft.tasks.anomaly import Anomaly, Look
from medgraft.tasks.answers import Answers
from medgraft.tasks.diffuse import Diffuse
from medgraft.values import InputSpec, Sample
from medgraft.version import VERSION
from medgraft.weights.tensors import load_model

_FEWEST, _FEWEST_VAL = 8, 2  # normal images to learn from, and to set a threshold by
Areas = Callable[[Sequence[str]], torch.Tensor]


@dataclass(frozen=True, eq=False)
class Prepared:
    """Data that are decoded, and the recipe that suits them.

    Attributes:
        recipe: filled.
        found: all images, with their splits.
        normal: label of the normal ones.
        pixels: how files become network pixels.
    """

    recipe: Recipe
    found: Gathered
    normal: str
    pixels: Pixels

    def normals(self, split: str) -> list[int]:
        """Get the positions of the normal samples of a split."""
        return [place for place in self.found.of(split) if self.found.samples[place].label == self.normal]

    @property
    def classes(self) -> tuple[str, str]:
        """Get what is told apart: the normal class, and all else."""
        return classes_of(self.normal)


@dataclass(eq=False)
class NormalParts:
    """What a recipe is assembled to.

    Attributes:
        task: on its device.
        engine: device and precision.
        train: normal images in random order, an epoch shows an image some times; of a bank once, in order.
        val: normal images in order.
    """

    task: Anomaly
    engine: Engine
    train: Looks | Loader
    val: Loader


def classes_of(normal: str) -> tuple[str, str]:
    """Get the names of the two answers."""
    name = normal or UNNAMED
    return name, f"not {name}"


def prepare_normals(dataset: DataSet, recipe: Recipe, *, listen: Listen) -> Prepared:
    """Decode the images at the size that is looked at, and fill the recipe.

    Raises:
        BadData: these are volumes, or there are too few normal images.
        BadRecipe: it is not clear which images are normal, or an option has no meaning here.
    """
    recipe = recipe.changed({"medgraft": VERSION})
    normal, why = normal_of([sample.label for sample in dataset.samples], recipe.anomaly.normal)
    reasons = {"anomaly.normal": why}
    recipe = planning.with_reasons(recipe.changed({"anomaly.normal": normal}), reasons)
    seen = gathering.peek(dataset)
    if seen.volume:
        what = "these are volumes, and this task takes flat images"
        raise BadRecipe(what, where=dataset.root, do="Give slices as images, or frames of a multi-frame file.")
    asked = recipe.input.channels
    recipe = choose_images(recipe, side=seen.side, gray=seen.gray)
    if recipe.anomaly.method == "patches":
        recipe = _with_net(recipe)
    pixels = pixels_of(recipe)
    found = gathering.gather(dataset, recipe, network=pixels.to_dict(), listen=listen)
    if asked == "auto" and pixels.channels == 1 and (colour := planning.colour_after_all(found.records)):
        listen({"event": "say", "text": colour})
        found.store.close()
        return prepare_normals(dataset, recipe.changed({"input.channels": 3}), listen=listen)
    for note in found.notes:
        listen({"event": "say", "text": note})
    ready = Prepared(recipe, found, normal, pixels)
    _check_counts(ready, dataset)
    chosen = (found.survey.preset, found.survey.preset_why)
    try:
        _check_masks(ready)
        recipe = choose_rest(recipe, images=len(ready.normals("train")), preset=chosen)
    except UserError:
        found.store.close()
        raise
    few = len(ready.normals("val"))
    if few * (1 - recipe.anomaly.quantile) < 1:
        share = f"{1 - recipe.anomaly.quantile:.0%}"
        text = f"{few} normal images set the threshold: {share} of so few is not one image, so it lies at the oddest"
        listen({"event": "warning", "text": text})
    left = len(found.of("train")) - len(ready.normals("train"))
    if left:
        text = f"{left} training images that are not {classes_of(normal)[0]} are not learnt from"
        listen({"event": "say", "text": text})
    return Prepared(recipe, found, normal, pixels)


def _check_counts(ready: Prepared, dataset: DataSet) -> None:
    for split, fewest, what in (("train", _FEWEST, "learn from"), ("val", _FEWEST_VAL, "set the threshold by")):
        count = len(ready.normals(split))
        if count < fewest:
            ready.found.store.close()
            said = f"{count} normal images to {what} are too few, {fewest} are needed"
            raise BadData(said, where=dataset.root, do="Give more images, or other shares by split.val and split.test.")


def _check_masks(ready: Prepared) -> None:
    """Only those of test images are used."""
    found, test = ready.found, ready.found.of("test")
    check_masks([found.samples[place] for place in test], [found.records[place] for place in test])


def _with_net(recipe: Recipe) -> Recipe:
    """Open the encoder once before images are decoded: what cannot be had is said at once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # they are told when the net is put together
        net = _encoder(recipe)
    recipe = choose_levels(recipe, net)
    _check_levels(recipe, len(net.stages))
    return recipe.changed({"backbone.name": net.name, "backbone.sha256": recipe.backbone.sha256 or net.sha256 or None})


def _check_levels(recipe: Recipe, count: int) -> None:
    wrong = [level for level in recipe.anomaly.levels or () if not 1 <= level <= count]
    if wrong:
        what = f"{recipe.backbone.name} has {count} stages, and anomaly.levels names {wrong[0]}"
        raise BadRecipe(what, do=f"Give numbers from 1 to {count}.")


def _encoder(recipe: Recipe) -> Any:
    size = recipe.input.image_size
    channels = 1 if recipe.input.channels == 1 else 3
    words: dict[str, Any] = {"offline": recipe.backbone.offline, "seed": recipe.seed}
    net = backbone(recipe.backbone.name, channels=channels, image_size=size, **words)
    if recipe.backbone.sha256 and net.sha256 and net.sha256 != recipe.backbone.sha256:
        what = f"the weights of {net.name} are not those of the recipe (backbone.sha256)"
        raise BadWeights(what, do="Leave backbone.sha256 out to take these.")
    return net


def pixels_of(recipe: Recipe) -> Pixels:
    """Get how files become network pixels."""
    size = recipe.input.image_size or 0
    return Pixels((size, size), 1 if recipe.input.channels == 1 else 3, recipe.input.fit, window=recipe.input.window)


def area_of(shape: Sequence[int], pixels: Pixels) -> np.ndarray:
    """Get which network pixels belong to an image of `shape` (H, W), `(1, h, w)` float32 of 0 and 1."""
    size = (int(shape[-2]), int(shape[-1]))
    whole = np.array([[0.0, 0.0, size[1], size[0]]])
    corners = network_corners(whole, size=size, network=pixels.size, fit=pixels.fit)[0]
    left, top, right, bottom = (round(float(end)) for end in np.maximum(corners, 0))
    area = np.zeros((1, *pixels.size), np.float32)
    area[:, top : max(bottom, top + 1), left : max(right, left + 1)] = 1.0
    return area


def areas_in(ready: Prepared) -> Areas:
    """Get what finds the areas of samples, `(N, 1, H, W)`, by their keys."""
    shapes = {s.key: r["shape"] for s, r in zip(ready.found.samples, ready.found.records, strict=True)}
    return lambda keys: torch.from_numpy(np.stack([area_of(shapes[key], ready.pixels) for key in keys]))


def assemble_normals(ready: Prepared) -> NormalParts:
    """Put the parts together."""
    recipe, found = ready.recipe, ready.found
    bank = recipe.anomaly.method == "patches"
    task = task_of(recipe, ready.classes)
    precision = "fp32" if bank or recipe.fit.precision == "auto" else recipe.fit.precision
    engine = Engine(recipe.machine.device, precision=precision, channels_last=False)
    engine.place(task)

    def loader(split: str, **words: Any) -> Loader:
        places = ready.normals(split)
        keys = [found.samples[place].key for place in places]
        items = Items([found.places[place] for place in places], keys, torch.zeros(len(places)))
        size = recipe.fit.batch_size or 16
        return Loader(found.store, items, spec=task.spec, batch_size=size, seed=recipe.seed, **words)

    if bank:
        return NormalParts(task, engine, loader("train"), loader("val"))
    shuffled = loader("train", shuffle=True, preset=preset_of(recipe), drop_last=True)
    return NormalParts(task, engine, Looks([shuffled], recipe.generator.looks or 1), loader("val"))


def preset_of(recipe: Recipe) -> Preset:
    """Get the mirrors and turns that images of this kind allow, and no other change: what is drawn again is normal."""
    chosen = preset(recipe.augment.preset)
    return preset("none").with_(flip_h=chosen.flip_h, flip_v=chosen.flip_v, turns=chosen.turns)


def task_of(recipe: Recipe, classes: tuple[str, str]) -> Anomaly:
    """Get a net that has learnt nothing of the images yet; the same one for the same seed."""
    own, drawn, size = recipe.anomaly, recipe.generator, recipe.input.image_size or 0
    look = Look(own.top or 0.05, own.whole, own.neighbours, own.noise, own.noises, own.steps)
    answers, channels = Answers(classes=classes, positive=classes[1]), pixels_of(recipe).channels
    if own.method == "patches":
        net = _encoder(recipe)
        words: dict[str, Any] = {"apart": own.apart or 0.0, "foreign": own.foreign}
        bank = PatchBank(net, [level - 1 for level in own.levels or ()], **words)
        return Anomaly(bank, answers, spec=net.spec, look=look, seed=recipe.seed)
    spec = InputSpec((size, size), channels, (0.5,) * channels, (0.5,) * channels)
    torch.manual_seed(seeds.torch_seed(recipe.seed, "init"))
    if own.method == "autoencoder":
        plain = Bottleneck(BottleneckForm(channels, own.width, own.code))
        return Anomaly(plain, answers, spec=spec, look=look, seed=recipe.seed)
    widths = tuple(drawn.widths or (64, 128, 192))
    form = DenoiserForm(2, channels, widths, drawn.blocks, 1, 0, drawn.dropout, drawn.fold or 1)
    gaussian = gaussian_of((channels, size, size), drawn.directions)
    diffuse = Diffuse(form, Answers(classes=()), side=size, seed=recipe.seed, gaussian=gaussian)
    return Anomaly(diffuse, answers, spec=spec, look=look, seed=recipe.seed)


def form_of(task: Anomaly) -> dict[str, Any]:
    """Get plain values of how a net is built, for the card of its model."""
    net = task.net
    if isinstance(net, PatchBank):
        encoder = net.backbone
        levels = {"levels": list(net.levels), "whole_levels": list(net.whole_levels)}
        kept = {**levels, "kept": len(net.bank), "images": len(net.wholes), "grid": list(net.gain.shape)}
        kept |= {"apart": net.apart, "foreign": net.foreign}
        saved = {"weights_spec": encoder.weights_spec.to_dict(), "gray": encoder.gray}
        return {"kind": "patches", **kept, **saved}
    if isinstance(net, Diffuse):
        directions = 0 if net.gaussian is None else len(net.gaussian.variances)
        return {"kind": "diffusion", "net": net.net.form.to_dict(), "side": net.side, "directions": directions}
    return {"kind": "autoencoder", "net": net.form.to_dict()}


def load_task(path: Path) -> tuple[Anomaly, dict[str, Any]]:
    """Load a net and its card; no network is opened, no code in the file is run.

    Raises:
        BadWeights: damaged, from another program, or its tensors do not fit its card.
    """
    state, card = load_model(path)
    try:
        if card["form"]["kind"] == "patches" and "foreign" not in card["form"]:
            what = "this run compared places wherever they lie, without a head that sees what does not belong there"
            raise BadWeights(what, where=path, do="Train it again.")
        normal, other = card["classes"]
        answers, spec = Answers(classes=(normal, other), positive=other), InputSpec.from_dict(card["spec"])
        seed = int(card["seed"])
        task = Anomaly(_saved_net(card, seed), answers, spec=spec, look=Look(**card["look"]), seed=seed)
        task.load_state_dict(state)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise BadWeights(f"the card of this model does not fit ({str(error)[:200]})", where=path) from error
    task.requires_grad_(False)
    return task.eval(), card


def _saved_net(card: Mapping[str, Any], seed: int) -> PatchBank | Diffuse | Bottleneck:
    form = card["form"]
    if form["kind"] == "autoencoder":
        return Bottleneck(BottleneckForm.from_dict(form["net"]))
    if form["kind"] == "diffusion":
        own, side = DenoiserForm.from_dict(form["net"]), int(form["side"])
        gaussian = gaussian_of((own.channels, side, side), form.get("directions"))
        return Diffuse(own, Answers(classes=()), side=side, seed=seed, gaussian=gaussian)
    pixels = Pixels.from_dict(card["pixels"])
    words: dict[str, Any] = {"channels": pixels.channels, "image_size": pixels.size, "offline": True}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # random numbers until the state is put in
        saved = saved_words({**card, **form})
        net = backbone(f"none:{card['backbone']['architecture']}", **words, **saved)
    held: dict[str, Any] = {"kept": int(form["kept"]), "images": int(form["images"]), "grid": tuple(form["grid"])}
    held |= {"apart": float(form["apart"]), "foreign": float(form["foreign"])}
    return PatchBank(net, form["levels"], whole_levels=form["whole_levels"], **held)


def is_normal(samples: Sequence[Sample], normal: str) -> np.ndarray:
    """Get which samples are normal, `(N,)` bool."""
    return np.array([sample.label == normal for sample in samples], bool)


def batches_of(parts: NormalParts, areas: Areas) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield (pixels, area) of all normal images of the training, on the device."""
    for batch in parts.train.epoch(0):
        moved = parts.engine.move(batch)
        yield moved.pixels, areas(batch.keys).to(parts.engine.device)
