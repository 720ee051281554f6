"""DATA and a recipe -> decoded samples, a grafted task, and the recipe filled: what comes before anything is learnt."""

from __future__ import annotations

from pathlib import Path

from medgraft import gather as gathering
from medgraft import planning
from medgraft.assemble import check_backbone, check_words, graft_for, planned
from medgraft.errors import BadRecipe
from medgraft.gather import Gathered, Listen
from medgraft.learn.model import Pixels
from medgraft.recipe import Recipe
from medgraft.samples.dataset import DataSet
from medgraft.synthetic.sources import check_words as check_synthetic
from medgraft.tasks import TASKS
from medgraft.tasks.base import ImageTask
from medgraft.version import VERSION


def plan(data: Path, recipe: Recipe, *, listen: Listen) -> Recipe:
    """Get the recipe that a training would use; arguments as in `prepare`."""
    dataset, recipe = opened(data, recipe, listen=listen)
    if TASKS[recipe.task].places:
        from medgraft import places

        return places.plan(dataset, recipe, listen=listen)
    return prepare(data, recipe, dataset=dataset, listen=listen)[0]


def opened(data: Path, recipe: Recipe, *, listen: Listen) -> tuple[DataSet, Recipe]:
    """Read names and labels, and settle the task; decodes nothing.

    Raises:
        BadData, BadTable, BadRecipe: what is wrong, where, and what to do.
    """
    check_words(recipe)
    dataset = gathering.read(data, recipe)
    # The label's column is settled, so that another run of this recipe cannot take another one.
    if dataset.label_column is not None:
        recipe = recipe.changed({"data.label_column": dataset.label_column})
    if recipe.task == "auto":
        kind, why = dataset.target_kind()
        word = planning.TASK_OF[kind]
        recipe = planning.with_reasons(recipe.changed({"task": word}), {"task": why})
        listen({"event": "say", "text": f"task: {word}, because {why}"})
    check_synthetic(recipe)
    return dataset, recipe


def prepare(
    data: Path, recipe: Recipe, *, listen: Listen, dataset: DataSet | None = None
) -> tuple[Recipe, Gathered, ImageTask, Pixels]:
    """Read and decode the data and fill the recipe: what all verbs that learn from whole images share.

    Args:
        data: labelled images.
        recipe: what was asked for.
        listen: gets progress events.
        dataset: what `opened` gave, with the recipe that it gave; None reads the data.

    Raises:
        BadRecipe: the task answers in the image, or the images are volumes.
    """
    if dataset is None:
        dataset, recipe = opened(data, recipe, listen=listen)
    if TASKS[recipe.task].places:
        what = f"the task {recipe.task} answers in the image, and this is for whole images"
        raise BadRecipe(what, do="Use medgraft train.")
    seen = gathering.peek(dataset)
    if seen.volume:
        raise BadRecipe(
            "these are volumes, and whole-image tasks take flat images",
            where=dataset.root,
            do="Give slices as images, or frames of a multi-frame file.",
        )
    recipe = recipe.changed({"medgraft": VERSION})
    channels_asked = recipe.input.channels
    recipe = planning.choose_input(recipe, side=seen.side, gray=seen.gray)
    size = recipe.input.image_size or 0
    channels = 1 if recipe.input.channels == 1 else 3
    pixels = Pixels((size, size), channels, recipe.input.fit, window=recipe.input.window)
    check_backbone(recipe, pixels)
    found = gathering.gather(dataset, recipe, network=pixels.to_dict(), listen=listen)
    if channels_asked == "auto" and channels == 1 and (why := planning.colour_after_all(found.records)):
        listen({"event": "say", "text": why})
        found.store.close()
        recipe = planning.with_reasons(recipe.changed({"input.channels": 3}), {"input.channels": why})
        return prepare(data, recipe, dataset=dataset, listen=listen)
    for note in found.notes:
        listen({"event": "say", "text": note})
    task = graft_for(recipe, found, pixels, listen)
    return planned(recipe, found, task), found, task, pixels
