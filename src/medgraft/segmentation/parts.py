"""DATA and a recipe -> images, a net that draws and its loaders: the one visible place where they meet."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medgraft import gather as gathering
from medgraft.assemble import planning_facts, say_weights, stages_of
from medgraft.errors import BadData, BadRecipe
from medgraft.fitting import settle_engine
from medgraft.gather import Gathered, Listen
from medgraft.learn import stopping
from medgraft.learn.engine import Engine
from medgraft.learn.segmenter import DrawForm, graft_segmenter
from medgraft.nets.backbone import backbone
from medgraft.recipe import Recipe
from medgraft.samples.dataset import DataSet, some
from medgraft.samples.label_maps import CheckedMasks, checked_masks
from medgraft.samples.mask_facts import MaskFacts as StoredFacts
from medgraft.samples.mask_grid import GridFrame
from medgraft.samples.mask_meaning import MaskForm
from medgraft.samples.mask_patches import Cut, MaskCases, MaskPatches, MaskWholes
from medgraft.samples.presets import Preset, preset
from medgraft.segmentation.cases import CaseShelf
from medgraft.segmentation.choices import check_recipe, check_sizes, choose_grid, choose_rest, form_of
from medgraft.segmentation.facts import MaskFacts, facts_of
from medgraft.tasks.answers import Answers
from medgraft.tasks.segment import Segment
from medgraft.version import VERSION

# Images are decoded once to be checked, hashed and surveyed; these small ones are what is kept of them.
PREVIEW: dict[int, dict[str, Any]] = {
    2: {"size": [96, 96], "channels": 3, "fit": "pad"},
    3: {"size": [24, 64, 64], "channels": 1, "fit": "stretch"},
}


@dataclass(eq=False)
class Prepared:
    """What is known before anything is learnt.

    Attributes:
        recipe: filled.
        found: samples with their splits; the label of each says which classes its label map shows.
        task: grafted.
        form: what the numbers of label maps mean.
        facts: of the training.
    """

    recipe: Recipe
    found: Gathered
    task: Segment
    form: MaskForm
    facts: MaskFacts


@dataclass(eq=False)
class DrawParts:
    """What a recipe is assembled to.

    Attributes:
        task: grafted, thawed to its depth, on its device.
        engine: device and precision.
        form: how it is built and looks.
        frames: where each image's network pixels are in its file, by its key.
        train: batches of patches in random order.
        val: whole images in order.
        test: whole images in order.
    """

    task: Segment
    engine: Engine
    form: DrawForm
    frames: dict[str, GridFrame]
    train: MaskPatches
    val: MaskWholes
    test: MaskWholes


def prepare_masks(dataset: DataSet, recipe: Recipe, *, listen: Listen) -> Prepared:
    """Check the label maps, decode the images, graft a decoder and fill the recipe: what comes before learning.

    Raises:
        BadData: no image has a label map, or too many cannot be used.
        BadRecipe: an option has no meaning for label maps.
        UnknownName, BadWeights, Offline: the backbone cannot be had.
    """
    recipe = recipe.changed({"medgraft": VERSION})
    check_recipe(recipe)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        words: dict[str, Any] = {"offline": recipe.backbone.offline, "seed": recipe.seed}
        backbone(recipe.backbone.name, channels=3, image_size=64, **words)  # before minutes of decoding
    dataset, checked = with_masks(dataset, recipe, listen=listen)
    axes = len(checked.facts[0].shape)
    odd = [s.key for s, one in zip(checked.samples, checked.facts, strict=True) if len(one.shape) != axes]
    if odd:
        what = f"some label maps are flat and some are of volumes: {some(odd, 3)} differ from {checked.samples[0].key}"
        raise BadData(what, where=dataset.root, do="Give one kind.")
    check_sizes(recipe, axes)
    recipe = recipe.changed({"masks.instances": checked.form.instances, "masks.names": checked.form.asked()})
    if checked.form.instances and axes == 3:
        raise BadRecipe("things are told apart in flat images only", do="Set masks.instances=false.")
    found = gathering.gather(dataset, recipe, network=PREVIEW[axes], listen=listen)
    for note in found.notes:
        listen({"event": "say", "text": note})
    training = [found.samples[i] for i in found.of("train")]
    spaced = all(record.get("spacing_mm") for record in found.records)
    facts = facts_of(training, checked.form, workers=max(2, recipe.machine.workers), spaced=spaced or axes == 3)
    recipe = choose_grid(recipe, facts)
    recipe, task = _grafted(recipe, found, checked.form, facts, listen)
    return Prepared(recipe, found, task, checked.form, facts)


def with_masks(dataset: DataSet, recipe: Recipe, *, listen: Listen) -> tuple[DataSet, CheckedMasks]:
    """Get the samples that have a label map that can be used, and what its numbers mean.

    The label of each says which classes its map shows; a diagnosis becomes a covariate.

    Raises:
        BadData: there are none, or too many cannot be used; the files are named.
    """
    own = recipe.masks

    def progress(done: int, count: int) -> None:
        stopping.check()
        listen({"event": "masks", "done": done, "of": count})

    checked = checked_masks(
        dataset,
        names=own.names,
        instances=own.instances,
        colours=own.colours,
        limit_bad=recipe.data.limit_bad,
        workers=max(2, recipe.machine.workers),
        progress=progress,
    )
    for note in checked.notes:
        listen({"event": "say", "text": note})
    samples = []
    for sample, facts in zip(checked.samples, checked.facts, strict=True):
        shown = "|".join(shown_in(facts, checked.form))
        told = {} if sample.label is None else {dataset.label_column or "label": sample.label}
        samples.append(replace(sample, label=shown, covariates={**told, **sample.covariates}))
    problems = (*dataset.problems, *(replace(one, part=True) for one in checked.problems))
    notes = (*dataset.notes, *checked.notes)
    return replace(dataset, samples=tuple(samples), problems=problems, notes=notes), checked


def shown_in(facts: StoredFacts, form: MaskForm) -> list[str]:
    """Get the classes that a label map shows."""
    numbers = form.numbers_of(facts)
    if form.instances:
        return list(form.names) if set(numbers) - {form.background} else []
    return [name for name, value in zip(form.names, form.values, strict=True) if numbers.get(value)]


def _grafted(
    recipe: Recipe, found: Gathered, form: MaskForm, masks: MaskFacts, listen: Listen
) -> tuple[Recipe, Segment]:
    words: dict[str, Any] = {"offline": recipe.backbone.offline, "seed": recipe.seed}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        net = backbone(recipe.backbone.name, channels=1 if recipe.input.channels == 1 else 3, image_size=64, **words)
        recipe = recipe.changed({"backbone.name": net.name, "backbone.sha256": recipe.backbone.sha256 or net.sha256})
        facts = planning_facts(found, net)
        recipe = choose_rest(recipe, masks, facts)
        answers = Answers(classes=form.names)
        task = graft_segmenter(answers, form_of(recipe), backbone_name=recipe.backbone.name, **words)
    say_weights(recipe, task.backbone, said=said, listen=listen)
    return recipe, task


def assemble_masks(ready: Prepared, *, folder: Path, listen: Listen) -> tuple[Recipe, DrawParts]:
    """Put the parts together; the recipe comes back with precision and memory layout settled.

    Args:
        ready: what was prepared.
        folder: where images on the net's grid are kept while the run lasts.
        listen: gets progress events.

    Raises:
        BadRecipe: the backbone has fewer stages than are to be thawed.
    """
    recipe, found, task = ready.recipe, ready.found, ready.task
    task.thaw(0 if recipe.depth.thaw == 0 else stages_of(recipe, task))
    form = form_of(recipe)
    shelf = CaseShelf(folder, form.grid, ready.form)
    prints = [str(record["content"]) for record in found.records]
    all_cases = shelf.fill(found.samples, prints, workers=max(2, recipe.machine.workers), listen=listen)

    def cases(split: str) -> MaskCases:
        places = found.of(split)
        keys = tuple(found.samples[i].key for i in places)
        return MaskCases(keys, [all_cases[i].pixels for i in places], [all_cases[i].mask for i in places], form.apart)

    spec = task.backbone.spec
    cut = Cut(form.patch, recipe.masks.patches or 1, recipe.masks.around, tuple(recipe.masks.mirrored or ()))
    words: dict[str, Any] = {"batch_size": recipe.fit.batch_size or 4, "seed": recipe.seed}
    train = MaskPatches(cases("train"), spec=spec, cut=cut, preset=preset_of(recipe), **words)
    val, test = (MaskWholes(cases(split), spec=spec) for split in ("val", "test"))
    recipe, engine = settle_engine(recipe, task, train, timed=min(4, train.batch_size))
    engine.place(task)
    frames = {sample.key: one.frame for sample, one in zip(found.samples, all_cases, strict=True)}
    return recipe, DrawParts(task, engine, form, frames, train, val, test)


def preset_of(recipe: Recipe) -> Preset | None:
    """Get the changes of pictures that a filled recipe asks for: no mirrors along axes that tell classes apart."""
    if len(recipe.masks.patch or ()) == 3:
        return None
    chosen = preset(recipe.augment.preset).with_(strength=recipe.augment.strength, erase=0.0, erase_p=0.0)
    mirrored = recipe.masks.mirrored or []
    changes: dict[str, Any] = {}
    if 0 not in mirrored:
        changes["flip_v"] = 0.0
    if 1 not in mirrored:
        changes["flip_h"] = 0.0
    if len(mirrored) < 2:
        changes["turns"] = 0.0
    return chosen.with_(**changes)
