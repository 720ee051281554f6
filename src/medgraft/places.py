"""Tasks whose answers are in the image, boxes and label maps: the one place where their rooms part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medgraft.detection import arms
from medgraft.detection.opened import BoxRun
from medgraft.detection.scans.opened import ScanRun
from medgraft.detection.volumes.choices import ARM as RETINANET
from medgraft.errors import RunRefused
from medgraft.gather import Listen
from medgraft.opened import Run, check_folder, report_in
from medgraft.recipe import Recipe
from medgraft.samples.dataset import Columns, DataSet
from medgraft.segmentation.opened import MaskRun
from medgraft.tasks import TASKS
from medgraft.values import ImageRef

PlaceRun = BoxRun | ScanRun | MaskRun
_DOES = {"boxes": "finds boxes", "masks": "draws label maps"}


def open_any(folder: Path, *, device: str) -> Run | PlaceRun:
    """Open a run of whichever kind; arguments and errors as in `Run`."""
    check_folder(folder)
    report = report_in(folder)
    task = str(report.get("task"))
    places = TASKS[task].places if task in TASKS else ""
    if places == "masks":
        return MaskRun(folder, device=device)
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
    does = _DOES["masks" if isinstance(run, MaskRun) else "boxes"]
    raise RunRefused(f"this run {does}, and {verb} is for whole images", where=run.folder)


def evaluate(
    run: PlaceRun, data: Path, *, out: Path, columns: Columns, percent_bad: float, listen: Listen
) -> dict[str, Any]:
    """Score a run on other data; arguments and errors as in `evaluate_masks`, and `detection.arms.evaluate`."""
    words: dict[str, Any] = {"out": out, "columns": columns, "percent_bad": percent_bad, "listen": listen}
    if isinstance(run, MaskRun):
        from medgraft.segmentation.outside import evaluate_masks

        return evaluate_masks(run, data, **words)
    return arms.evaluate(run, data, **words)


def explain(run: PlaceRun, refs: Sequence[ImageRef], *, out: Path, **words: Any) -> dict[str, Any]:
    """Write maps of answers; arguments and errors as in `detection.arms.explain`.

    Raises:
        RunRefused: it draws label maps, which say themselves where.
    """
    if isinstance(run, MaskRun):
        what = "explain shows where a net looked, and a label map says itself where what it names is"
        raise RunRefused(what, where=run.folder, do="See medgraft predict.")
    return arms.explain(run, refs, out=out, **words)


def train(out: Path, dataset: DataSet, *, recipe: Recipe, listen: Listen) -> dict[str, Any]:
    """Do the main job and get what report.json holds; arguments and errors as in `detection.job.train_boxes`."""
    if TASKS[recipe.task].places == "masks":
        from medgraft.segmentation.job import train_masks

        return train_masks(out, dataset, recipe=recipe, listen=listen)
    return arms.train(out, dataset, recipe=recipe, listen=listen)


def plan(dataset: DataSet, recipe: Recipe, *, listen: Listen) -> Recipe:
    """Get the recipe that a training would use."""
    if TASKS[recipe.task].places == "masks":
        from medgraft.segmentation.parts import prepare_masks

        ready = prepare_masks(dataset, recipe, listen=listen)
        ready.found.store.close()
        return ready.recipe
    return arms.plan(dataset, recipe, listen=listen)
