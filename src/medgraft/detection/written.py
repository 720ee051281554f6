"""The tables of found boxes: one row an image, and one row a box."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medgraft import storage
from medgraft.tasks.detect import Detect
from medgraft.values import Boxes, Prediction, Sample

BOX_COLUMNS = ("label", "score", "called", "x0", "y0", "x1", "y1")


def write_predictions(out: Path, task: Detect, found: Sequence[tuple[str, Sample, Prediction]]) -> None:
    """Write predictions.csv, a row an image, and boxes.csv, a row a box; both in the files' own pixels.

    Args:
        out: the run folder.
        task: says which boxes are called.
        found: the part of the data, the sample and what was found in it.
    """
    rows, boxes = [], []
    for split, sample, one in found:
        own: dict[str, Any] = {"key": sample.key, "path": str(sample.image.path), "patient": sample.patient}
        rows.append({**own, "split": split, "target": sample.label, **prediction_cells(task, one)})
        boxes += [{**own, "split": split, **cells} for cells in box_cells(task, one)]
    columns = ("key", "path", "patient", "split")
    storage.write_table(out / "predictions.csv", rows, columns=(*columns, "target", "predicted", "boxes"))
    storage.write_table(out / "boxes.csv", boxes, columns=(*columns, *BOX_COLUMNS))


def prediction_cells(task: Detect, one: Prediction) -> dict[str, Any]:
    """Get what was found in an image as cells: in words, and the boxes that are called as JSON."""
    assert one.boxes is not None
    called = task.called(one.boxes)
    return {"predicted": one.predicted, "boxes": json.dumps([_plain(called, row) for row in range(len(called))])}


def _plain(boxes: Boxes, row: int) -> dict[str, Any]:
    assert boxes.scores is not None
    corners = [round(value, 2) for value in boxes.corners[row].tolist()]
    return {"label": boxes.labels[row], "score": round(float(boxes.scores[row]), 4), "box": corners}


def box_cells(task: Detect, one: Prediction) -> list[dict[str, Any]]:
    """Get each box found in an image as cells, the surest first."""
    boxes = one.boxes
    assert boxes is not None and boxes.scores is not None
    limits: Mapping[str, float] = dict(zip(task.answers.classes, task.threshold, strict=True))
    rows = []
    for label, score, corners in zip(boxes.labels, boxes.scores.tolist(), boxes.corners.tolist(), strict=True):
        edges = {name: f"{value:.2f}" for name, value in zip(("x0", "y0", "x1", "y1"), corners, strict=True)}
        rows.append({"label": label, "score": f"{score:.4f}", "called": str(score >= limits[label]).lower(), **edges})
    return rows
