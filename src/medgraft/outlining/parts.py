"""DATA and a recipe -> pictures with structures, a model that outlines, and its loaders: where they meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medgraft import gather as gathering
from medgraft.assemble import rank_of, stages_of
from medgraft.errors import BadData, BadRecipe, BadWeights
from medgraft.gather import Gathered, Listen
from medgraft.learn.engine import Engine, resolve_device
from medgraft.nets import takes_adapters
from medgraft.nets.prompter import TeachablePrompter
from medgraft.nets.prompter_sources import open_prompter
from medgraft.outlining.shown import PictureShelf, StructureForm
from medgraft.planning import filled
from medgraft.recipe import Recipe
from medgraft.samples.dataset import DataSet, some
from medgraft.samples.mask_meaning import MaskForm
from medgraft.samples.presets import Preset, preset
from medgraft.samples.prompted import JudgedPictures, PromptedPictures, Shown
from medgraft.segmentation.parts import PREVIEW, with_masks
from medgraft.tasks.outline import Outline
from medgraft.version import VERSION

JUDGED_EACH = 24  # structures of a picture that are judged, at most
_STEPS, _FEWEST_EPOCHS, _MOST_EPOCHS = 480, 3, 24
_WATCHED, _WATCHED_EACH = 32, 8  # validation pictures that choose the epoch, and structures of each
_FEW = 8  # training images that are too few to compare depths on


@dataclass(eq=False)
class Prepared:
    """What is known before anything is learnt.

    Attributes:
        recipe: filled.
        found: samples with their splits.
        task: untuned.
        masks: what the numbers of label maps mean.
        axes: 2 for pictures, 3 for volumes.
    """

    recipe: Recipe
    found: Gathered
    task: Outline
    masks: MaskForm
    axes: int


@dataclass(eq=False)
class PromptParts:
    """What a recipe is assembled to.

    Attributes:
        task: thawed to its depth, on its device.
        engine: device and precision.
        form: what is a structure.
        pictures: of each sample, in the order of the samples.
        train: pictures in random order.
        val: pictures in order.
    """

    task: Outline
    engine: Engine
    form: StructureForm
    pictures: list[list[Shown]]
    train: PromptedPictures
    val: JudgedPictures


def prepare_prompts(dataset: DataSet, recipe: Recipe, *, listen: Listen) -> Prepared:
    """Check the label maps, decode the images, open the model and fill the recipe: what comes before learning.

    Raises:
        BadData: no image has a label map, or too many cannot be used.
        BadRecipe: the model cannot be tuned as deep as is asked.
        UnknownName, BadWeights, Offline, MissingExtra: the model cannot be had.
    """
    recipe = recipe.changed({"medgraft": VERSION})
    task = opened_task(recipe)  # before minutes of decoding
    dataset, checked = with_masks(dataset, recipe, listen=listen)
    axes = len(checked.facts[0].shape)
    odd = [s.key for s, one in zip(checked.samples, checked.facts, strict=True) if len(one.shape) != axes]
    if odd:
        what = f"some label maps are flat and some are of volumes: {some(odd, 3)} differ from {checked.samples[0].key}"
        raise BadData(what, where=dataset.root, do="Give one kind.")
    recipe = recipe.changed({"masks.instances": checked.form.instances, "masks.names": checked.form.asked()})
    found = gathering.gather(dataset, recipe, network=PREVIEW[axes], listen=listen)
    for note in found.notes:
        listen({"event": "say", "text": note})
    # Of a volume some slices of each class are looked at, and the one that shows most of it.
    each = 1 if axes == 2 else (recipe.prompts.slices + 1) * len(checked.form.names)
    recipe = choose_rest(recipe, found, task, pictures=each * len(found.of("train")))
    return Prepared(recipe, found, task, checked.form, axes)


def opened_task(recipe: Recipe) -> Outline:
    """Open the model that a recipe names.

    Raises:
        BadRecipe: it cannot be tuned, or not as deep as is asked.
        BadWeights: the weights are others than those of the recipe.
        UnknownName, Offline, MissingExtra: it cannot be had.
    """
    words = recipe.backbone
    device = str(resolve_device(recipe.machine.device))
    model = open_prompter(words.name, offline=words.offline, device=device)
    if not isinstance(model, TeachablePrompter):
        raise BadRecipe(f"{words.name} cannot be tuned", do="Name another --backbone.")
    if words.sha256 is not None and words.sha256 != model.sha256:
        what = f"the weights are not those of the recipe (sha256 {model.sha256[:12]}, not {words.sha256[:12]})"
        raise BadWeights(what, where=words.name, do="Bring the former file back, or train anew.")
    task = Outline(model)
    if recipe.depth.thaw != "auto":
        stages_of(recipe, task)
    return task


def choose_rest(recipe: Recipe, found: Gathered, task: Outline, *, pictures: int) -> Recipe:
    """Fill what is empty or "auto" but the depth, which is searched; there are about so many training pictures."""
    images, model = len(found.of("train")), task.prompter
    recipe = recipe.changed({"backbone.name": model.name, "backbone.sha256": model.sha256})
    transformer = takes_adapters(task.backbone)
    epochs = min(_MOST_EPOCHS, max(_FEWEST_EPOCHS, round(_STEPS / max(pictures, 1))))
    looks = max(1, round(_STEPS / max(pictures * (recipe.fit.epochs or epochs), 1)))
    things, procedural = bool(recipe.masks.instances), model.name.startswith("embedded:")
    planned: dict[str, tuple[Any, str]] = {
        "prompts.structures": (
            "whole",
            "each number is a structure" if things else "a prompt means all of a class in an image",
        ),
        "prompts.looks": (looks, f"about {_STEPS} looks in all"),
        "fit.epochs": (epochs, f"about {_STEPS} looks in all; the best epoch by validation is kept"),
        "fit.batch_size": (1, "a step sees one picture, and several prompts of it"),
        "fit.patience": (0, "the falling rate still brings gains"),
        "fit.norms": ("stored", "a step sees one picture"),
        "fit.lr": (5e-4, "layers that have seen no real image learn faster")
        if procedural
        else (1e-4, "the encoder keeps much"),
        "fit.head_lr": (1e-4, "a decoder that was made for prompts keeps much")
        if transformer
        else (1e-3 if procedural else 5e-4, "a small decoder learns faster"),
        "fit.layer_decay": (0.75, "earlier features serve all images and change least"),
        "fit.ema": (0.0, "the falling rate settles the weights"),
        "fit.precision": ("fp32", "prompts are few numbers"),
        "fit.channels_last": (False, "a picture comes as it is in its file"),
        "augment.preset": (found.survey.preset, found.survey.preset_why),
    }
    if images < _FEW:
        planned["depth.thaw"] = ("head", f"{images} training images are too few to compare depths on")
    return filled(recipe, planned)


def assemble_prompts(ready: Prepared, *, folder: Path, listen: Listen) -> PromptParts:
    """Put the parts together.

    Args:
        ready: what was prepared; its depth is settled.
        folder: where pictures are kept while the run lasts.
        listen: gets progress events.

    Raises:
        BadData: no training or validation image has a structure that is large enough.
        BadRecipe: the encoder has fewer stages than are to be thawed, or takes no adapters.
    """
    recipe, found, task = ready.recipe, ready.found, ready.task
    form = form_of(recipe)
    shelf = PictureShelf(folder, ready.masks, form)
    pictures = shelf.fill(found.samples, [str(record["content"]) for record in found.records], listen=listen)

    def of(split: str) -> list[Shown]:
        return [one for place in found.of(split) for one in pictures[place]]

    words: dict[str, Any] = {"most": recipe.prompts.most, "looks": recipe.prompts.looks or 1, "seed": recipe.seed}
    train = PromptedPictures(of("train"), **words, preset=preset_of(recipe))
    val = JudgedPictures(of("val"), most=_WATCHED_EACH, count=_WATCHED)
    for split, source in (("training", train), ("validation", val)):
        if not len(source):
            what = f"no {split} image has a structure of {form.least} pixels or more"
            raise BadData(what, do="Lower prompts.least, or look at the label maps.")
    if recipe.depth.thaw != "auto":
        task.thaw(stages_of(recipe, task), rank=rank_of(recipe), seed=recipe.seed)
    engine = Engine(recipe.machine.device, precision=_precision(recipe), channels_last=False)
    engine.place(task)
    return PromptParts(task, engine, form, pictures, train, val)


def form_of(recipe: Recipe) -> StructureForm:
    """Get what a filled recipe says a structure is."""
    own = recipe.prompts
    return StructureForm(own.structures == "parts", own.least, own.slices, own.axis)


def preset_of(recipe: Recipe) -> Preset:
    """Get the changes of pictures that a filled recipe asks for; nothing is blanked, as it would be asked for."""
    return preset(recipe.augment.preset).with_(strength=recipe.augment.strength, erase=0.0, erase_p=0.0)


def pictures_in(parts: PromptParts, places: Sequence[int]) -> list[list[Shown]]:
    """Get the pictures of some samples."""
    return [parts.pictures[place] for place in places]


def _precision(recipe: Recipe) -> str:
    return "fp32" if recipe.fit.precision == "auto" else recipe.fit.precision
