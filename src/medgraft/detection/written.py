"""The tables of found boxes: one row an image, and one row a box."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medgraft import storage
from medgraft.samples.scan import Space
from medgraft.tasks.box_calls import BoxCalls
from medgraft.values import Boxes, Prediction, Sample

EDGES = {4: ("x0", "y0", "x1", "y1"), 6: ("x0", "y0", "z0", "x1", "y1", "z1")}
# Of volumes: the centre in the scanner's frame, in both ways to write it, and the side of the cube of the same volume.
PLACES = tuple(f"{axis}_{frame}_mm" for frame in ("ras", "lps") for axis in "xyz") + ("diameter_mm",)
_RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])


def write_predictions(
    out: Path,
    task: BoxCalls,
    found: Sequence[tuple[str, Sample, Prediction]],
    *,
    spaces: Mapping[str, Space] | None = None,
) -> None:
    """Write predictions.csv, a row an image, and boxes.csv, a row a box; both in the files' own pixels.

    Args:
        out: the run folder.
        task: says which boxes are called.
        found: the part of the data, the sample and what was found in it.
        spaces: of volumes, where the voxels are, by the key of the sample: their boxes are told in millimetres too.
    """
    rows, boxes = [], []
    for split, sample, one in found:
        own: dict[str, Any] = {"key": sample.key, "path": str(sample.image.path), "patient": sample.patient}
        rows.append({**own, "split": split, "target": sample.label, **prediction_cells(task, one)})
        space = None if spaces is None else spaces[sample.key]
        boxes += [{**own, "split": split, **cells} for cells in box_cells(task, one, space=space)]
    columns = ("key", "path", "patient", "split")
    storage.write_table(out / "predictions.csv", rows, columns=(*columns, "target", "predicted", "boxes"))
    edges = EDGES[4] if spaces is None else (*EDGES[6], *PLACES)
    storage.write_table(out / "boxes.csv", boxes, columns=(*columns, "label", "score", "called", *edges))


def prediction_cells(task: BoxCalls, one: Prediction) -> dict[str, Any]:
    """Get what was found in an image as cells: in words, and the boxes that are called as JSON."""
    assert one.boxes is not None
    called = task.called(one.boxes)
    return {"predicted": one.predicted, "boxes": json.dumps([_plain(called, row) for row in range(len(called))])}


def _plain(boxes: Boxes, row: int) -> dict[str, Any]:
    assert boxes.scores is not None
    corners = [round(value, 2) for value in boxes.corners[row].tolist()]
    return {"label": boxes.labels[row], "score": round(float(boxes.scores[row]), 4), "box": corners}


def box_cells(task: BoxCalls, one: Prediction, *, space: Space | None = None) -> list[dict[str, Any]]:
    """Get each box found in an image as cells, the surest first; with the space of a volume in millimetres too."""
    boxes = one.boxes
    assert boxes is not None and boxes.scores is not None
    limits: Mapping[str, float] = dict(zip(task.answers.classes, task.threshold, strict=True))
    places = [{}] * len(boxes) if space is None else place_cells(boxes, space)
    names = EDGES[boxes.corners.shape[1]]
    rows = []
    each = zip(boxes.labels, boxes.scores.tolist(), boxes.corners.tolist(), places, strict=True)
    for label, score, corners, place in each:
        edges = {name: f"{value:.2f}" for name, value in zip(names, corners, strict=True)}
        called = str(score >= limits[label]).lower()
        rows.append({"label": label, "score": f"{score:.4f}", "called": called, **edges, **place})
    return rows


def place_cells(boxes: Boxes, space: Space) -> list[dict[str, str]]:
    """Get of each box of a volume the centre and the size in millimetres as cells; without the space no centre."""
    if not len(boxes):
        return []
    numbers = space.diameter_mm(boxes.corners)[:, None]
    names = PLACES[-1:]
    ras = space.ras_mm(boxes.corners)
    if ras is not None:
        numbers, names = np.concatenate([ras, ras * _RAS_TO_LPS, numbers], axis=1), PLACES
    return [{name: f"{value:.2f}" for name, value in zip(names, row, strict=True)} for row in numbers.tolist()]
