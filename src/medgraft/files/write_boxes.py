"""Boxes as other programs read them: COCO JSON, Pascal VOC XML, YOLO text, a table, and GeoJSON for QuPath.

Corners are written with all their digits, so that what is read again is the same number; in COCO, where a far corner is
a sum, and in YOLO, where all are products, to the last digits (COCO exactly for corners in parts of 2 ** -20 pixels).
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from medgraft import storage
from medgraft.errors import UserError
from medgraft.values import Boxes

TABLE_COLUMNS = ("path", "label", "score", "x0", "y0", "x1", "y1")
VOLUME_COLUMNS = ("path", "label", "score", "x0", "y0", "z0", "x1", "y1", "z1")
_SPACE = uuid.UUID("6b9b2a4e-5d1c-5c0e-9a55-2f6f1d3f8a10")  # of names made into ids; any fixed one would do


@dataclass(frozen=True, eq=False)
class Pictured:
    """One image and its boxes, found or true.

    Attributes:
        name: of the image, relative to the data, with `/`.
        size: its width and height in pixels.
        boxes: in its own pixels.
    """

    name: str
    size: tuple[int, int]
    boxes: Boxes


def classes_of(images: Sequence[Pictured]) -> tuple[str, ...]:
    """Get the classes that occur, sorted."""
    return tuple(sorted({label for image in images for label in image.boxes.labels}))


def write_coco(
    path: Path, images: Sequence[Pictured], *, classes: Sequence[str] | None = None, about: str = ""
) -> None:
    """Write a data set as COCO JSON, with `images`, `annotations` and `categories`; ignored boxes as crowds.

    Images have the ids 1, 2 ... in their order, and so have categories; a score stands beside its bbox.

    Args:
        path: of the JSON.
        images: those without boxes are listed too.
        classes: all there are; None takes those that occur, sorted.
        about: what the data are, in words.

    Source: https://cocodataset.org/#format-data
    """
    _refuse_volumes(images, path)
    names = classes_of(images) if classes is None else classes
    ids = {name: number for number, name in enumerate(names, start=1)}
    annotations = []
    for number, image in enumerate(images, start=1):
        for place, box in enumerate(_coco_boxes(image, ids)):
            crowd = int(image.boxes.ignored[place])
            area = box["bbox"][2] * box["bbox"][3]
            rest = {"area": area, "iscrowd": crowd, "segmentation": []}
            annotations.append({"id": len(annotations) + 1, "image_id": number, **box, **rest})
    storage.write_json(
        path,
        {
            **({"info": {"description": about}} if about else {}),
            "images": [
                {"id": number, "file_name": image.name, "width": image.size[0], "height": image.size[1]}
                for number, image in enumerate(images, start=1)
            ],
            "annotations": annotations,
            "categories": [{"id": number, "name": name} for name, number in ids.items()],
        },
    )


def write_coco_results(
    path: Path,
    images: Sequence[Pictured],
    *,
    classes: Sequence[str] | None = None,
    image_ids: Mapping[str, int] | None = None,
    category_ids: Mapping[str, int] | None = None,
) -> None:
    """Write findings as the list of results that COCO's own scoring reads: image_id, category_id, bbox, score.

    Args:
        path: of the JSON.
        images: with scores; a box without one counts as sure.
        classes: as in `write_coco`, so that both files have the same ids.
        image_ids: name -> id in the file of the truth; None numbers them as `write_coco` does.
        category_ids: class -> id in that file.

    Source: https://cocodataset.org/#format-results
    """
    _refuse_volumes(images, path)
    names = classes_of(images) if classes is None else classes
    ids = category_ids or {name: number for number, name in enumerate(names, start=1)}
    rows = []
    for number, image in enumerate(images, start=1):
        own = number if image_ids is None else image_ids[image.name]
        rows += [{"image_id": own, "score": 1.0, **box} for box in _coco_boxes(image, ids)]
    storage.write_json(path, rows)


def _coco_boxes(image: Pictured, ids: Mapping[str, int]) -> Iterator[dict]:
    for (x0, y0, x1, y1), label, score in _rows(image.boxes):
        box: dict = {"category_id": ids[label], "bbox": [x0, y0, _extent(x0, x1), _extent(y0, y1)]}
        yield box if score is None else {**box, "score": score}


def _extent(low: float, high: float) -> float:
    """The length that, added to `low`, gives `high` where any does: the rounded difference may miss its last bit."""
    length = high - low
    if low + length == high:
        return length
    near = (math.nextafter(length, math.inf), math.nextafter(length, 0.0))
    return next((other for other in near if low + other == high), length)


def write_voc(folder: Path, images: Sequence[Pictured]) -> list[Path]:
    """Write a Pascal VOC XML an image, with its stem, and get their paths; ignored boxes as difficult.

    Corners are edges in decimals, as `samples.voc` reads them; a score stands in an element of its own.

    Raises:
        UserError: two images have one stem.
    """
    from xml.etree.ElementTree import Element, SubElement, indent, tostring

    _refuse_volumes(images, folder)
    paths = _paths(folder, images, ".xml")
    for image, path in zip(images, paths, strict=True):
        root = Element("annotation")
        SubElement(root, "filename").text = _plain(PurePosixPath(image.name).name)
        size = SubElement(root, "size")
        for name, side in zip(("width", "height"), image.size, strict=True):
            SubElement(size, name).text = str(side)
        for place, (corners, label, score) in enumerate(_rows(image.boxes)):
            item = SubElement(root, "object")
            SubElement(item, "name").text = _plain(label)
            SubElement(item, "difficult").text = str(int(image.boxes.ignored[place]))
            if score is not None:
                SubElement(item, "score").text = repr(score)
            box = SubElement(item, "bndbox")
            for name, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True):
                SubElement(box, name).text = repr(value)
        indent(root)
        storage.write_text(path, tostring(root, encoding="unicode") + "\n")
    return paths


def _plain(text: str) -> str:
    """Text without the control characters that XML cannot hold."""
    return "".join(letter for letter in text if letter.isprintable())


def write_yolo(folder: Path, images: Sequence[Pictured], *, classes: Sequence[str] | None = None) -> list[Path]:
    """Write a text file an image under `labels/`, and `classes.txt`; get the paths of the texts.

    A line is class, cx, cy, w, h in parts of the image, and the score where there is one. Ignored boxes are left out:
    the format has no word for them.

    Raises:
        UserError: two images have one stem.
    """
    _refuse_volumes(images, folder)
    names = classes_of(images) if classes is None else tuple(classes)
    paths = _paths(folder / "labels", images, ".txt")
    for image, path in zip(images, paths, strict=True):
        width, height = image.size
        lines = []
        for place, ((x0, y0, x1, y1), label, score) in enumerate(_rows(image.boxes)):
            if image.boxes.ignored[place]:
                continue
            numbers = [(x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height]
            numbers += [] if score is None else [score]
            lines.append(" ".join([str(names.index(label)), *map(repr, numbers)]) + "\n")
        storage.write_text(path, "".join(lines))
    storage.write_text(folder / "classes.txt", "".join(f"{' '.join(name.split())}\n" for name in names))
    return paths


def write_box_table(path: Path, images: Sequence[Pictured]) -> None:
    """Write a CSV with one row a box: path, label, score, x0, y0, x1, y1, of volumes with z0 and z1.

    An image without boxes has one row without corners. A column `ignored` is written where some box is.
    """
    deep = any(image.boxes.corners.shape[1] == 6 for image in images)
    columns = VOLUME_COLUMNS if deep else TABLE_COLUMNS
    ignored = any(image.boxes.ignored.any() for image in images)
    storage.write_table(path, _table_rows(images, columns), columns=(*columns, *(["ignored"] if ignored else [])))


def _table_rows(images: Sequence[Pictured], columns: Sequence[str]) -> Iterator[dict[str, object]]:
    for image in images:
        if not len(image.boxes):
            yield {"path": image.name}
        for place, (corners, label, score) in enumerate(_rows(image.boxes)):
            row: dict[str, object] = {"path": image.name, "label": label, "score": score}
            yield {
                **row,
                **dict(zip(columns[3:], corners, strict=True)),
                "ignored": int(image.boxes.ignored[place]),
            }


def write_geojson(path: Path, image: Pictured, *, kind: str = "detection") -> None:
    """Write the boxes of one image as GeoJSON that QuPath opens by File, Import objects from file.

    Coordinates are pixels of the whole image from its upper left corner. Ids depend on the name and the box alone.

    Args:
        path: of the GeoJSON.
        image: its boxes become rectangles with class and score.
        kind: "detection" (many, not to be edited) or "annotation" (to be looked at and moved by hand).

    Raises:
        ValueError: another kind.

    Source: RFC 7946; QuPath, QuPathTypeAdapters.java (`objectType`, `classification`, `measurements`)
    """
    if kind not in ("detection", "annotation"):
        raise ValueError(f"QuPath has no objects of the kind {kind!r}; detection or annotation")
    _refuse_volumes([image], path)
    features = []
    for place, ((x0, y0, x1, y1), label, score) in enumerate(_rows(image.boxes)):
        properties: dict = {"objectType": kind, "classification": {"name": label}}
        if image.boxes.ignored[place]:
            properties["metadata"] = {"ignored": "1"}
        if score is not None:
            properties["measurements"] = {"score": score}
        ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
        features.append(
            {
                "type": "Feature",
                "id": str(uuid.uuid5(_SPACE, json.dumps([image.name, place, label, ring]))),
                "geometry": {"type": "Polygon", "coordinates": [ring]},
                "properties": properties,
            }
        )
    storage.write_json(path, {"type": "FeatureCollection", "features": features})


def _rows(boxes: Boxes) -> Iterator[tuple[list[float], str, float | None]]:
    scores = [None] * len(boxes) if boxes.scores is None else boxes.scores.tolist()
    yield from zip(boxes.corners.tolist(), boxes.labels, scores, strict=True)


def _refuse_volumes(images: Sequence[Pictured], path: Path) -> None:
    deep = next((image.name for image in images if len(image.boxes) and image.boxes.corners.shape[1] == 6), None)
    if deep is not None:
        raise UserError(
            f"{deep} is a volume, and this format has no depth", where=path, do="Write its boxes as a table."
        )


def _paths(folder: Path, images: Sequence[Pictured], ending: str) -> list[Path]:
    """Where each image's file goes: its own folders kept, none outside `folder`."""
    found: dict[Path, str] = {}
    for image in images:
        name, _, frame = image.name.replace("\\", "/").partition("#")
        parts = [part for part in PurePosixPath(name).parts if part not in ("/", "..", ".")]
        stem = PurePosixPath(parts[-1]).stem + (f"_{frame}" if frame else "")
        path = folder.joinpath(*parts[:-1], stem + ending)
        if path in found:
            raise UserError(
                f"{found[path]} and {image.name} would both be written as {path.name}",
                where=folder,
                do="Give them different names, or write one table.",
            )
        found[path] = image.name
    return list(found)
