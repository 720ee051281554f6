"""Which way boxes are found: the one place where flat images and volumes part."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from medgraft.detection.opened import BoxRun
from medgraft.detection.outside import evaluate_boxes
from medgraft.detection.scans.choices import ARM as CANDIDATES
from medgraft.detection.scans.opened import ScanRun
from medgraft.detection.volumes.choices import ARM as RETINANET
from medgraft.errors import BadRecipe, RunRefused
from medgraft.gather import Listen
from medgraft.recipe import Recipe
from medgraft.samples.dataset import Columns, DataSet
from medgraft.values import ImageRef

_ENOUGH = 80  # scans with boxes: of 50 the candidates, which cost a tenth, were seen to find nearly as much


def in_volumes(dataset: DataSet, recipe: Recipe) -> str | None:
    """Get the arm that finds the boxes of volumes, or None where the images are flat.

    Raises:
        BadRecipe: the recipe names an arm that is not for such data.
    """
    boxed = [sample.boxes.corners for sample in dataset.samples if sample.boxes is not None and len(sample.boxes)]
    deep, arm = any(corners.shape[1] == 6 for corners in boxed), recipe.boxes.arm
    if arm in (CANDIDATES, RETINANET) and not deep:
        raise BadRecipe(
            f"boxes.arm {arm} is for volumes, and these boxes are flat",
            where=dataset.root,
            do="Leave it out, or give boxes with x0, y0, z0, x1, y1, z1.",
        )
    if not deep:
        return None
    if arm in (CANDIDATES, RETINANET):
        return arm
    if arm != "auto":
        raise BadRecipe(f"boxes.arm {arm} is for flat images, and these are volumes", where=dataset.root)
    return RETINANET if len(boxed) >= _ENOUGH and find_spec("monai") is not None else CANDIDATES


def evaluate(
    run: BoxRun | ScanRun, data: Path, *, out: Path, columns: Columns, percent_bad: float, listen: Listen
) -> dict[str, Any]:
    """Score a run on other data with boxes; arguments and errors as in `outside.evaluate_boxes`."""
    words: dict[str, Any] = {"out": out, "columns": columns, "percent_bad": percent_bad, "listen": listen}
    if isinstance(run, ScanRun):
        from medgraft.detection.scans.outside import evaluate_scans

        return evaluate_scans(run, data, **words)
    return evaluate_boxes(run, data, **words)


def explain(
    run: BoxRun | ScanRun,
    refs: Sequence[ImageRef],
    *,
    out: Path,
    method: str,
    target: str | None,
    nifti: bool,
    listen: Listen,
) -> dict[str, Any]:
    """Write maps of found boxes; arguments and errors as in `explaining.explain_boxes`.

    Raises:
        RunRefused: it finds boxes by candidates, none of whose layers has learnt to find them.
    """
    from medgraft.detection.explaining import explain_boxes
    from medgraft.detection.volumes.explained import explain_volumes
    from medgraft.detection.volumes.opened import VolumeRun

    words: dict[str, Any] = {"out": out, "method": method, "target": target, "listen": listen}
    if isinstance(run, VolumeRun):
        return explain_volumes(run, refs, **words)
    if isinstance(run, ScanRun):
        what = f"explain is for nets that learnt to find boxes, and boxes.arm {CANDIDATES} tunes none"
        raise RunRefused(what, where=run.folder, do=f"Train one with boxes.arm={RETINANET}.")
    return explain_boxes(run, refs, nifti=nifti, **words)


def train(out: Path, dataset: DataSet, *, recipe: Recipe, listen: Listen) -> dict[str, Any]:
    """Do the main job for boxes and get what report.json holds; arguments and errors as in `job.train_boxes`."""
    arm = in_volumes(dataset, recipe)
    if arm == RETINANET:
        from medgraft.detection.volumes.job import train_volumes

        return train_volumes(out, dataset, recipe=recipe, listen=listen)
    if arm == CANDIDATES:
        from medgraft.detection.scans.job import train_scans

        return train_scans(out, dataset, recipe=recipe, listen=listen)
    from medgraft.detection.job import train_boxes

    return train_boxes(out, dataset, recipe=recipe, listen=listen)


def plan(dataset: DataSet, recipe: Recipe, *, listen: Listen) -> Recipe:
    """Get the recipe that a training would use."""
    arm = in_volumes(dataset, recipe)
    if arm == RETINANET:
        from medgraft.detection.volumes.parts import prepare_volumes

        return prepare_volumes(dataset, recipe, listen=listen)[0]
    if arm == CANDIDATES:
        from medgraft.detection.scans.parts import prepare_scans

        return prepare_scans(dataset, recipe, listen=listen)[0]
    from medgraft.detection.parts import prepare_boxes

    return prepare_boxes(dataset, recipe, listen=listen)[0]
