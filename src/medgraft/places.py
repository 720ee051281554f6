"""Tasks whose answers are in the image, boxes, label maps, outlines: the one place where their rooms part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from medgraft.anomaly.opened import AnomalyRun
from medgraft.denoising.opened import DenoiseRun
from medgraft.detection import arms
from medgraft.detection.opened import BoxRun
from medgraft.detection.scans.opened import ScanRun
from medgraft.detection.volumes.choices import ARM as RETINANET
from medgraft.errors import BadRecipe, RunRefused
from medgraft.gather import Gathered, Listen
from medgraft.generation.opened import GeneratorRun
from medgraft.opened import Run, check_folder, report_in
from medgraft.outlining.opened import PromptRun
from medgraft.recipe import Recipe
from medgraft.samples.dataset import Columns, DataSet
from medgraft.segmentation.opened import MaskRun
from medgraft.tasks import TASKS
from medgraft.values import ImageRef

PlaceRun = BoxRun | ScanRun | MaskRun | PromptRun | GeneratorRun | AnomalyRun | DenoiseRun
_DOES = (
    (MaskRun, "draws label maps"),
    (PromptRun, "outlines what a prompt shows"),
    (GeneratorRun, "draws images"),
    (AnomalyRun, "scores how unlike normal images an image is"),
    (DenoiseRun, "takes noise away"),
)


def open_any(folder: Path, *, device: str) -> Run | PlaceRun:
    """Open a run of whichever kind; arguments and errors as in `Run`."""
    check_folder(folder)
    report = report_in(folder)
    task = str(report.get("task"))
    places = TASKS[task].places if task in TASKS else ""
    if places == "masks":
        return MaskRun(folder, device=device)
    if places == "prompts":
        return PromptRun(folder, device=device)
    if places == "images":
        return GeneratorRun(folder, device=device)
    if places == "normals":
        return AnomalyRun(folder, device=device)
    if places == "pixels":
        return DenoiseRun(folder, device=device)
    if places != "boxes":
        return Run(folder, device=device)
    if report.get("arm") == RETINANET:
        from medgraft.detection.volumes.opened import VolumeRun

        return VolumeRun(folder, device=device)
    return ScanRun(folder, device=device) if report.get("arm") == arms.CANDIDATES else BoxRun(folder, device=device)


def whole_only(run: Run | PlaceRun, *, verb: str) -> Run:
    """Get a run that answers for whole images.

    Raises:
        RunRefused: its answers are in the image; `verb` is what cannot be done with it.
    """
    if isinstance(run, Run):
        return run
    does = next((words for kind, words in _DOES if isinstance(run, kind)), "finds boxes")
    aim = "runs that name classes or values of" if isinstance(run, AnomalyRun) else ""
    raise RunRefused(f"this run {does}, and {verb} is for {aim}{' ' * bool(aim)}whole images", where=run.folder)


def evaluate(
    run: PlaceRun, data: Path, *, out: Path, columns: Columns, percent_bad: float, listen: Listen
) -> dict[str, Any]:
    """Score a run on other data; arguments and errors as in `evaluate_masks`, and `detection.arms.evaluate`."""
    words: dict[str, Any] = {"out": out, "columns": columns, "percent_bad": percent_bad, "listen": listen}
    if isinstance(run, MaskRun):
        from medgraft.segmentation.outside import evaluate_masks

        return evaluate_masks(run, data, **words)
    if isinstance(run, PromptRun):
        from medgraft.outlining.outside import evaluate_prompts

        return evaluate_prompts(run, data, **words)
    if isinstance(run, GeneratorRun):
        what = "evaluate scores answers, and this run draws images"
        raise RunRefused(what, where=run.folder, do="See medgraft audit, and the scores in its report.")
    if isinstance(run, AnomalyRun):
        from medgraft.anomaly.outside import evaluate_normals

        return evaluate_normals(run, data, **words)
    if isinstance(run, DenoiseRun):
        what = "evaluate scores answers, and this run takes noise away"
        raise RunRefused(what, where=run.folder, do="See medgraft denoise --compare.")
    return arms.evaluate(run, data, **words)


def explain(run: PlaceRun, refs: Sequence[ImageRef], *, out: Path, **words: Any) -> dict[str, Any]:
    """Write maps of answers; arguments and errors as in `detection.arms.explain`.

    Raises:
        RunRefused: it draws label maps, which say themselves where, or outlines what it is shown.
    """
    if isinstance(run, MaskRun):
        what = "explain shows where a net looked, and a label map says itself where what it names is"
        raise RunRefused(what, where=run.folder, do="See medgraft predict.")
    if isinstance(run, PromptRun):
        raise RunRefused("explain shows where a net looked, and this one is told where to look", where=run.folder)
    if isinstance(run, GeneratorRun):
        raise RunRefused("explain shows where a net looked, and this one draws images", where=run.folder)
    if isinstance(run, AnomalyRun):
        what = "explain shows where a net looked, and the maps of this run say themselves where an image is odd"
        raise RunRefused(what, where=run.folder, do="See medgraft predict --out FOLDER.")
    if isinstance(run, DenoiseRun):
        raise RunRefused("explain shows where a net looked, and this one takes noise away", where=run.folder)
    return arms.explain(run, refs, out=out, **words)


def train(out: Path, dataset: DataSet, *, recipe: Recipe, listen: Listen) -> dict[str, Any]:
    """Do the main job and get what report.json holds; arguments and errors as in `detection.job.train_boxes`."""
    if TASKS[recipe.task].places == "masks":
        from medgraft.segmentation.job import train_masks

        return train_masks(out, dataset, recipe=recipe, listen=listen)
    if TASKS[recipe.task].places == "prompts":
        from medgraft.outlining.job import train_prompts

        return train_prompts(out, dataset, recipe=recipe, listen=listen)
    if TASKS[recipe.task].places == "images":
        from medgraft.generation.job import train_images

        return train_images(out, dataset, recipe=recipe, listen=listen)
    if TASKS[recipe.task].places == "normals":
        from medgraft.anomaly.job import train_normals

        return train_normals(out, dataset, recipe=recipe, listen=listen)
    if TASKS[recipe.task].places == "pixels":
        from medgraft.denoising.job import train_planes

        return train_planes(out, dataset, recipe=recipe, listen=listen)
    return arms.train(out, dataset, recipe=recipe, listen=listen)


def plan(dataset: DataSet, recipe: Recipe, *, listen: Listen) -> Recipe:
    """Get the recipe that a training would use."""
    if TASKS[recipe.task].places == "masks":
        from medgraft.segmentation.parts import prepare_masks

        ready = prepare_masks(dataset, recipe, listen=listen)
        ready.found.store.close()
        return ready.recipe
    if TASKS[recipe.task].places == "prompts":
        from medgraft.outlining.parts import prepare_prompts

        prompted = prepare_prompts(dataset, recipe, listen=listen)
        prompted.found.store.close()
        return prompted.recipe
    if TASKS[recipe.task].places == "images":
        from medgraft.generation.parts import prepare_images

        planned, found, _ = prepare_images(dataset, recipe, listen=listen)
        found.store.close()
        return planned
    if TASKS[recipe.task].places == "normals":
        from medgraft.anomaly.parts import prepare_normals

        normals = prepare_normals(dataset, recipe, listen=listen)
        normals.found.store.close()
        return normals.recipe
    if TASKS[recipe.task].places == "pixels":
        from medgraft.denoising.parts import prepare_planes

        planned, found = prepare_planes(dataset, recipe, listen=listen)
        found.store.close()
        return planned
    return arms.plan(dataset, recipe, listen=listen)


def depth_work(
    dataset: DataSet, recipe: Recipe, *, folder: Path, listen: Listen
) -> tuple[Gathered, Callable[[], dict[str, Any]]]:
    """Get the data, and what tries depths of the task and says what depth.json holds.

    Raises:
        BadRecipe: depths of it are not searched.
    """
    kind, words = TASKS[recipe.task].places, {"folder": folder, "listen": listen}
    if kind == "masks":
        from medgraft.segmentation.depth import depth_of_masks
        from medgraft.segmentation.parts import prepare_masks

        ready = prepare_masks(dataset, recipe, listen=listen)
        return ready.found, partial(depth_of_masks, ready, **words)
    if kind == "prompts":
        from medgraft.outlining.depth import CASES, depth_of_prompts
        from medgraft.outlining.parts import assemble_prompts, prepare_prompts

        asked = prepare_prompts(dataset, recipe, listen=listen)
        parts = assemble_prompts(asked, folder=folder / CASES, listen=listen)
        return asked.found, partial(depth_of_prompts, asked, parts, **words)
    if kind == "pixels":
        raise BadRecipe("a net that takes noise away has no trained stages to thaw", do="See denoise.widths.")
    if kind == "images":
        raise BadRecipe("nets that draw images have no trained stages to thaw", do="See generator.widths.")
    if kind == "normals":
        raise BadRecipe("what is unlike normal images is found without tuning stages", do="See anomaly.levels.")
    if arms.in_volumes(dataset, recipe):
        what = "how deep is not searched for boxes in volumes"
        raise BadRecipe(what, where=dataset.root, do="Give --depth to train; without it a rule decides.")
    from medgraft.detection.depth import depth_of_boxes
    from medgraft.detection.parts import prepare_boxes

    recipe, found, detect, pixels = prepare_boxes(dataset, recipe, listen=listen)
    return found, partial(depth_of_boxes, recipe, found, detect, pixels, **words)
