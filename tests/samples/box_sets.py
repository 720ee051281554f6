"""Small data sets of boxes in each layout, for tests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from medgraft.files import save_png
from medgraft.samples.dataset import DataSet
from medgraft.values import Boxes

WIDTH, HEIGHT = 80, 60
Box = tuple[str, float, float, float, float]


def paint(path: Path, seed: int = 0, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    """Save noise as a PNG of `size` (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_png(path, np.random.default_rng(seed).integers(0, 256, size[::-1], dtype=np.uint8))


def coco_document(images: Mapping[str, Sequence[Box]], *, names: Sequence[str] = ("cell", "mite")) -> dict:
    """Get a COCO document; ids of images from 100, of categories from 1, of annotations from 1."""
    annotations = []
    for number, boxes in enumerate(images.values()):
        for label, x0, y0, x1, y1 in boxes:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 100 + number,
                    "category_id": names.index(label) + 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "iscrowd": 0,
                }
            )
    return {
        "images": [
            {"id": 100 + number, "file_name": name, "width": WIDTH, "height": HEIGHT}
            for number, name in enumerate(images)
        ],
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, start=1)],
    }


def write_json(path: Path, values: object) -> Path:
    """Write JSON, folders and all; NaN is written as Python does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))
    return path


def voc_text(filename: str, boxes: Sequence[Box], *, extra: str = "", size: tuple[int, int] = (WIDTH, HEIGHT)) -> str:
    """Get an XML of Pascal VOC; `extra` goes before its end."""
    objects = "".join(
        f"<object><name>{label}</name><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax>"
        "</bndbox></object>"
        for label, x0, y0, x1, y1 in boxes
    )
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>1</depth></size>"
    return f"<annotation><filename>{filename}</filename>{sides}{objects}{extra}</annotation>"


def write(path: Path, text: str) -> Path:
    """Write a text, folders and all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def plain(boxes: Boxes | None) -> list[tuple] | None:
    """Get boxes as tuples: label, corners ... and whether ignored."""
    if boxes is None:
        return None
    rows = zip(boxes.labels, boxes.corners.tolist(), boxes.ignored.tolist(), strict=True)
    return [(label, *corners, ignored) for label, corners, ignored in rows]


def by_key(found: DataSet) -> dict[str, list[tuple] | None]:
    """Get the boxes of each sample as tuples, by its key."""
    return {sample.key: plain(sample.boxes) for sample in found.samples}
