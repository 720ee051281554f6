"""What was found in new files, written: a table, COCO JSON, GeoJSON, pictures with the boxes drawn in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medgraft import files, storage
from medgraft.detection.slides import Seen
from medgraft.errors import BadData
from medgraft.files import network_corners
from medgraft.files.write_boxes import Pictured, write_coco, write_coco_results, write_geojson, write_voc, write_yolo
from medgraft.gallery import picture_of
from medgraft.learn.model import Pixels
from medgraft.predicted import Done
from medgraft.report.boxes import HIT, with_boxes
from medgraft.tasks.detect import Detect
from medgraft.values import Boxes, ImageRef, Prediction

_EDGES = ("x0", "y0", "x1", "y1")
COLUMNS = ("key", "path", "predicted", "label", "score", *_EDGES, *(f"{edge}_mm" for edge in _EDGES), "error")
_ENDINGS = (".csv", ".json", ".geojson")


class Results:
    """Gathers what was found in files, and writes it where `out` says.

    `.csv` gets one row a box that is called, in the file's pixels and, where its spacing is known, in millimetres from
    its corner; an image without any has one row. `.json` gets the same as a COCO data set with scores, `.geojson` (of
    one image) what QuPath opens. A folder gets predictions.csv, predictions.json, results.json (COCO's list, with all
    boxes that reach a score of .01), and in `geojson/`, `voc/`, `yolo/` and `overlays/` one file an image.

    Args:
        task: says what is called.
        out: a file of one of these endings, a folder, or None to keep the rows.
        pixels: how files became network pixels.

    Attributes:
        count: files that were predicted or tried.
        errors: how many of them could not be read, and `first` why the first one could not.

    Raises:
        BadData: another ending.
    """

    def __init__(self, task: Detect, out: Path | None, *, pixels: Pixels) -> None:
        if out is not None and out.suffix and out.suffix.lower() not in _ENDINGS:
            raise BadData(
                f"boxes are not written as {out.suffix}", where=out, do=f"Give {', '.join(_ENDINGS)}, or a folder."
            )
        self.task, self.out, self.pixels = task, out, pixels
        self.count = self.errors = 0
        self.first = ""
        self.rows: list[dict[str, Any]] = []
        self._called: list[Pictured] = []
        self._all: list[Pictured] = []
        self._by_stem: list[Pictured] = []  # files of one image each are named so, not by the path of the image
        self._stems: set[str] = set()

    @property
    def _folder(self) -> bool:
        return self.out is not None and not self.out.suffix

    def add(self, ref: ImageRef, found: Prediction, measured: tuple[np.ndarray, tuple[int, int], Any]) -> None:
        """Add one file's prediction, in its own pixels, with its network pixels, (H, W) and spacing."""
        assert found.boxes is not None
        pixels, size, spacing = measured
        called, key = self.task.called(found.boxes), str(ref)
        self.count += 1
        own = {"key": key, "path": str(ref.path), "predicted": found.predicted}
        self._rows(own, called, spacing)
        self._called.append(Pictured(key, (size[1], size[0]), called))
        self._all.append(Pictured(key, (size[1], size[0]), found.boxes))
        if self._folder and self.out is not None:
            stem = self._stem(ref)
            self._by_stem.append(replace(self._called[-1], name=f"{stem}{ref.path.suffix}"))
            write_geojson(self.out / "geojson" / f"{stem}.geojson", self._called[-1])
            there = network_corners(called.corners, size=size, network=self.pixels.size, fit=self.pixels.fit)
            picture = with_boxes(picture_of(pixels), [(corners, HIT) for corners in there])
            files.save_png(self.out / "overlays" / f"{stem}.png", picture)

    def add_slide(self, path: Path, seen: Seen) -> None:
        """Add what was found in a slide; a tile that could not be read is told of in the column `error`."""
        found = seen.prediction.boxes
        assert found is not None
        called, key = self.task.called(found), str(path)
        self.count += 1
        own = {"key": key, "path": key, "predicted": seen.prediction.predicted}
        if seen.damaged:
            own["error"] = f"{seen.damaged} of {seen.tiles} tiles could not be read"
        self._rows(own, called, seen.spacing_mm)
        self._called.append(Pictured(key, (seen.size[1], seen.size[0]), called))
        self._all.append(Pictured(key, (seen.size[1], seen.size[0]), found))
        if self._folder and self.out is not None:
            stem = self._stem(ImageRef(path))
            self._by_stem.append(replace(self._called[-1], name=f"{stem}{path.suffix}"))
            write_geojson(self.out / "geojson" / f"{stem}.geojson", self._called[-1])
            shrink = max(seen.overview.shape[:2]) / max(seen.size)
            picture = with_boxes(seen.overview, [(corners * shrink, HIT) for corners in called.corners])
            files.save_png(self.out / "overlays" / f"{stem}.png", picture)

    def _rows(self, own: dict[str, Any], called: Boxes, spacing: Any) -> None:
        sure = np.zeros(0) if called.scores is None else called.scores
        for label, score, corners in zip(called.labels, sure.tolist(), called.corners.tolist(), strict=True):
            self.rows.append({**own, "label": label, "score": f"{score:.4f}", **_edges(corners, spacing)})
        if not len(called):
            self.rows.append(own)

    def failed(self, key: str, error: str) -> None:
        """Add a file that could not be read."""
        self.count, self.errors, self.first = self.count + 1, self.errors + 1, self.first or error
        self.rows.append({"key": key, "path": key, "error": error})

    def done(self) -> Done:
        """Write what is not written yet and get what was done.

        Raises:
            BadData: GeoJSON was asked for of several images.
        """
        out, classes = self.out, self.task.answers.classes
        if out is None:
            return Done(None, self.count, self.errors, self.rows)
        ending = out.suffix.lower()
        if self._folder or ending == ".csv":
            storage.write_table(out / "predictions.csv" if self._folder else out, self.rows, columns=COLUMNS)
        if self._folder or ending == ".json":
            write_coco(out / "predictions.json" if self._folder else out, self._called, classes=classes)
        if self._folder:
            write_coco_results(out / "results.json", self._all, classes=classes)
            write_voc(out / "voc", self._by_stem)
            write_yolo(out / "yolo", self._by_stem, classes=classes)
        if ending == ".geojson":
            if len(self._called) != 1:
                raise BadData("a GeoJSON file holds the boxes of one image", where=out, do="Give a folder for several.")
            write_geojson(out, self._called[0])
        return Done(out, self.count, self.errors, [])

    def _stem(self, ref: ImageRef) -> str:
        """A name that no other file of these has."""
        plain = ref.path.stem if ref.index is None else f"{ref.path.stem}-{ref.index}"
        stem, number = plain, 1
        while stem.lower() in self._stems:
            number += 1
            stem = f"{plain}-{number}"
        self._stems.add(stem.lower())
        return stem


def _edges(corners: list[float], spacing: Any) -> dict[str, str]:
    """Edges in pixels and, where the spacing (row, column) is known, in millimetres from the picture's corner."""
    found = {edge: f"{value:.2f}" for edge, value in zip(_EDGES, corners, strict=True)}
    if spacing is not None:
        across = (float(spacing[-1]), float(spacing[-2]))
        found |= {
            f"{edge}_mm": f"{value * across[k % 2]:.3f}"
            for k, (edge, value) in enumerate(zip(_EDGES, corners, strict=True))
        }
    return found
