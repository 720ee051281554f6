"""What was found in new scans, written: a table in voxels and millimetres, JSON, and planes through each box."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from medgraft import files, storage
from medgraft.detection.scans.drawn import sheet
from medgraft.detection.written import EDGES, PLACES, place_cells
from medgraft.errors import BadData
from medgraft.predicted import Done
from medgraft.samples.scan import Space, read_scan
from medgraft.tasks.box_calls import BoxCalls
from medgraft.values import Boxes, ImageRef, Prediction

COLUMNS = ("key", "path", "predicted", "label", "score", *EDGES[6], *PLACES, "error")
_ENDINGS = (".csv", ".json")


class ScanResults:
    """Gathers what was found in scans, and writes it where `out` says.

    `.csv` gets one row a box that is called: its edges in the file's voxels, its centre in the scanner's millimetres
    (RAS and LPS), and its diameter; a scan without any has one row. `.json` gets the same with the affine of each scan.
    A folder gets predictions.csv, predictions.json and in `overlays/` a picture a scan.

    Args:
        task: says what is called.
        out: a file of one of these endings, a folder, or None to keep the rows.

    Attributes:
        count: scans that were predicted or tried.
        errors: how many of them could not be read, and `first` why the first one could not.

    Raises:
        BadData: another ending.
    """

    def __init__(self, task: BoxCalls, out: Path | None) -> None:
        if out is not None and out.suffix and out.suffix.lower() not in _ENDINGS:
            raise BadData(
                f"boxes in volumes are not written as {out.suffix}", where=out, do="Give .csv, .json, or a folder."
            )
        self.task, self.out = task, out
        self.count = self.errors = 0
        self.first = ""
        self.rows: list[dict[str, Any]] = []
        self.scans: list[dict[str, Any]] = []
        self._stems: set[str] = set()

    def add(self, ref: ImageRef, found: Prediction, space: Space) -> None:
        """Add what was found in one scan, in its own voxels."""
        assert found.boxes is not None
        called, key = self.task.called(found.boxes), str(ref)
        self.count += 1
        own = {"key": key, "path": str(ref.path), "predicted": found.predicted}
        cells = place_cells(called, space)
        scores = np.zeros(0) if called.scores is None else called.scores
        for label, score, corners, place in zip(
            called.labels, scores.tolist(), called.corners.tolist(), cells, strict=True
        ):
            edges = {name: f"{value:.2f}" for name, value in zip(EDGES[6], corners, strict=True)}
            self.rows.append({**own, "label": label, "score": f"{score:.4f}", **edges, **place})
        if not len(called):
            self.rows.append(own)
        self.scans.append({"key": key, "path": str(ref.path), **space.to_dict(), "boxes": _plain(called, space)})
        if self.out is not None and not self.out.suffix:
            files.save_png(self.out / "overlays" / f"{self._stem(ref)}.png", sheet(read_scan(ref), called))

    def failed(self, key: str, error: str) -> None:
        """Add a scan that could not be read."""
        self.count, self.errors, self.first = self.count + 1, self.errors + 1, self.first or error
        self.rows.append({"key": key, "path": key, "error": error})

    def done(self) -> Done:
        """Write what is not written yet and get what was done."""
        out = self.out
        if out is None:
            return Done(None, self.count, self.errors, self.rows)
        ending = out.suffix.lower()
        if ending in ("", ".csv"):
            storage.write_table(out if ending else out / "predictions.csv", self.rows, columns=COLUMNS)
        if ending in ("", ".json"):
            told = {"frame": "RAS mm; boxes are edges in voxels x0, y0, z0, x1, y1, z1", "scans": self.scans}
            storage.write_json(out if ending else out / "predictions.json", told)
        return Done(out, self.count, self.errors, [])

    def _stem(self, ref: ImageRef) -> str:
        """A name that no other scan of these has."""
        plain = ref.path.name.removesuffix(".gz").removesuffix(".nii") if not ref.files else ref.path.name
        stem, number = plain, 1
        while stem.lower() in self._stems:
            number += 1
            stem = f"{plain}-{number}"
        self._stems.add(stem.lower())
        return stem


def _plain(boxes: Boxes, space: Space) -> list[dict[str, Any]]:
    ras = space.ras_mm(boxes.corners) if len(boxes) else None
    scores = np.zeros(0) if boxes.scores is None else boxes.scores
    size = space.diameter_mm(boxes.corners) if len(boxes) else np.zeros(0)
    return [
        {
            "label": boxes.labels[row],
            "score": round(float(scores[row]), 4),
            "box": [round(value, 2) for value in boxes.corners[row].tolist()],
            "centre_mm": None if ras is None else [round(value, 2) for value in ras[row].tolist()],
            "diameter_mm": round(float(size[row]), 2),
        }
        for row in range(len(boxes))
    ]
