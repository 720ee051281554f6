"""What draws the images that are added: a finished run that knows nothing of what it may not, or one trained inside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medgraft import outside, pages, resuming
from medgraft.errors import BadRecipe, BadWeights, Leak
from medgraft.gather import Gathered, Listen
from medgraft.generation.opened import GeneratorRun
from medgraft.recipe import Recipe
from medgraft.samples.dataset import DataSet
from medgraft.storage import sha256_file
from medgraft.synthetic.verbs import generator_run
from medgraft.values import Sample

INSIDE = ("diffuse", "stylegan")
FOLDER = "generator"
_SHOWN = 20


@dataclass(frozen=True, eq=False)
class Source:
    """What draws.

    Attributes:
        run: opened.
        inside: True where it was trained in this run, on its training images alone.
        warnings: what a reader must know of it.
    """

    run: GeneratorRun
    inside: bool
    warnings: tuple[str, ...]


def check_words(recipe: Recipe) -> None:
    """Refuse what cannot be before an image is read.

    Raises:
        BadRecipe: synthetic images have no meaning for this task.
    """
    if recipe.synthetic.run is None or recipe.task in ("auto", "classify"):
        return
    why = {
        "multilabel": "an image of it may have several labels, and generators draw one class an image",
        "grade": "its grades have an order that a generator does not know",
    }.get(recipe.task, "its answers are no classes of whole images")
    raise BadRecipe(
        f"synthetic images are added to classes, and the task is {recipe.task}: {why}",
        do="Leave --synthetic out, or choose --task classify where each image has one class.",
    )


def opened_outside(recipe: Recipe, found: Gathered, *, classes: Sequence[str], listen: Listen) -> Source:
    """Open a finished run and check that it may help here.

    Args:
        recipe: with the folder of the run.
        found: the real images, with their splits.
        classes: that the classifier knows.
        listen: gets warnings.

    Raises:
        RunRefused: no such run, or it draws no images.
        BadRecipe: it draws without classes, without one of these, or volumes.
        BadWeights: its weights are not those of the recipe.
        Leak: it learnt from images or patients of the validation or test part; they are listed.
    """
    run = generator_run(str(recipe.synthetic.run), device=recipe.machine.device)
    wanted, own = recipe.synthetic.sha256, sha256_file(run.folder / "model.safetensors")
    if wanted is not None and wanted != own:
        what = f"the weights of this run are not those of the recipe (sha256 {own[:12]}, not {wanted[:12]})"
        raise BadWeights(what, where=run.folder, do="Bring the former run back, or remove synthetic.sha256.")
    check_classes(run, classes)
    held = [place for split in ("val", "test") for place in found.of(split)]
    warnings = _apart(run, found, held, allow=recipe.split.allow_leaks)
    for text in (*warnings, *warnings_of(run, recipe)):
        listen({"event": "warning", "text": text})
    return Source(run, False, (*warnings, *warnings_of(run, recipe)))


def check_classes(run: GeneratorRun, classes: Sequence[str]) -> None:
    """Refuse a run whose images would have no label here.

    Raises:
        BadRecipe: it says which.
    """
    if len(run.shape) == 4:
        raise BadRecipe("this generator draws volumes, and the task is for flat images", where=run.folder)
    if not run.classes:
        raise BadRecipe(
            "this generator draws without classes, so its images have no label",
            where=run.folder,
            do="Train it on labelled images with --set generator.kinds=true.",
        )
    missing = [name for name in classes if name not in run.classes]
    if missing:
        raise BadRecipe(
            f"this generator does not draw {', '.join(missing)}; it draws {', '.join(run.classes)}",
            where=run.folder,
            do="Train one on images of all classes, with labels of the same names.",
        )


def _apart(run: GeneratorRun, found: Gathered, held: Sequence[int], *, allow: bool) -> tuple[str, ...]:
    """Refuse a generator that learnt from what judges the classifier; by content, and by patient where these are known.

    Its test images were only looked at when it was judged: they may be anyone's.
    """
    rows = [row for row in pages.samples_in(run.folder) if row["split"] in ("train", "val")]
    learnt = {name for name, split in pages.splits_in(run.folder).items() if split in ("train", "val")}
    people = {row["patient"] for row in rows if row.get("patient")}
    own = [(found.samples[place], found.records[place]) for place in held]
    images = [sample for sample, record in own if pages.identity(record["sha256"], sample.image) in learnt]
    same = {sample.key for sample in images}
    patients = sorted({s.patient for s, _ in own if s.patient and s.patient in people and s.key not in same})
    alike = outside.look_alikes(run.folder, [s for s, _ in own], [r for _, r in own]) if not images else []
    if not images and not patients:
        return tuple(f"of the generator: {text}" for text in alike)
    listed = [f"{sample.key} ({sample.split})" for sample in images] + [f"patient {name}" for name in patients]
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    what = (
        f"the generator learnt from {len(images)} images of the validation and test part and from {len(patients)} of "
        f"their patients: {', '.join(listed[:_SHOWN])}{more}"
    )
    if allow:
        return (f"{what}; split.allow_leaks let it pass, so the scores are too good",)
    raise Leak(
        what,
        where=run.folder,
        do="Train it inside, on the training part alone, by --synthetic diffuse or stylegan; or rename patients where "
        "other people bear the same names.",
    )


def warnings_of(run: GeneratorRun, recipe: Recipe) -> tuple[str, ...]:
    """Get what a reader must know of a generator: a failed audit, small images."""
    said = []
    if run.card.get("audit") != "pass":
        said.append(
            "the generator failed its audit: some synthetic images may be copies of its training images; here they "
            "stay inside, do not share them"
        )
    side, wanted = max(run.shape[1:]), recipe.input.image_size or 0
    if side < wanted:
        said.append(
            f"the generator draws {side} pixels and the classifier looks at {wanted}: synthetic images are blurred"
        )
    return tuple(said)


def trained_inside(out: Path, recipe: Recipe, found: Gathered, *, data: DataSet, listen: Listen) -> Source:
    """Train a generator in `out/generator` on the training part alone, or go on with it, or open it.

    Its own small validation part is cut from the training part. The classifier's validation images are what it is
    judged and audited by afterwards: it neither learns from them nor chooses its epoch by them.

    Raises:
        Stopped: it stopped safely and can be resumed.
        BadData: there are too few images.
    """
    from medgraft.generation.job import train_images

    folder = out / FOLDER
    if not (folder / "report.json").exists():
        listen({"event": "say", "text": f"training a generator ({recipe.synthetic.run}) on the training images alone"})
        dataset = _training_part(found, data)
        own = resuming.opened(folder, _recipe_inside(recipe), resume=True, asked=(), data=Path(data.root))
        train_images(folder, dataset, recipe=own, listen=listen)
    run = generator_run(folder, device=recipe.machine.device)
    warnings = warnings_of(run, recipe)
    for text in warnings:
        listen({"event": "warning", "text": text})
    return Source(run, True, warnings)


def _training_part(found: Gathered, data: DataSet) -> DataSet:
    def inside(sample: Sample) -> Sample:
        return replace(sample, split="train" if sample.split == "train" else "test")

    own = [inside(found.samples[place]) for split in ("train", "val") for place in found.of(split)]
    return replace(data, samples=tuple(own), problems=(), notes=())


def _recipe_inside(recipe: Recipe) -> Recipe:
    """The recipe of a generator that is trained inside; what is left empty is planned from the training images."""
    return Recipe().changed(  # type: ignore[call-arg]
        {
            "task": recipe.synthetic.run,
            "seed": recipe.seed,
            "data": recipe.data.model_dump(),
            "split.allow_leaks": recipe.split.allow_leaks,
            "input": {**recipe.input.model_dump(), "image_size": None},
            "generator": {**recipe.generator.model_dump(), "kinds": True},
            "backbone.offline": recipe.backbone.offline,
            "fit.epochs": recipe.synthetic.epochs,
            "machine": recipe.machine.model_dump(),
        }
    )
