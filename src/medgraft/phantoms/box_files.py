"""Boxes of phantoms in the forms that other programs read: COCO JSON, Pascal VOC XML, GeoJSON of QuPath."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from medgraft.values import Boxes


def coco(images: Sequence[Mapping[str, Any]], boxes: Sequence[Boxes], *, about: str) -> dict[str, Any]:
    """Get a whole COCO data set; `iscrowd` marks boxes that are to be ignored.

    Args:
        images: file_name, width and height of each, and what else is known of it.
        boxes: of each image.
        about: for the description.
    """
    names = sorted({label for found in boxes for label in found.labels})
    rows: list[dict[str, Any]] = []
    for number, found in enumerate(boxes, start=1):
        for (x0, y0, x1, y1), label, ignored in zip(found.corners.tolist(), found.labels, found.ignored, strict=True):
            wide, high = x1 - x0, y1 - y0
            row = {"id": len(rows) + 1, "image_id": number, "category_id": names.index(label) + 1}
            rows.append(row | {"bbox": [x0, y0, wide, high], "area": wide * high, "iscrowd": int(ignored)})
    return {
        "info": {"description": about},
        "images": [{"id": number, **image} for number, image in enumerate(images, start=1)],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, start=1)],
        "annotations": rows,
    }


def voc(name: str, size: tuple[int, int], boxes: Boxes) -> str:
    """Get the Pascal VOC XML of one image; corners are edges, counted from 0; `difficult` marks what is to be ignored.

    Args:
        name: of the image's file.
        size: (width, height) in pixels.
        boxes: in the image.
    """
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = name
    area = ElementTree.SubElement(root, "size")
    for tag, value in zip(("width", "height", "depth"), (*size, 3), strict=True):
        ElementTree.SubElement(area, tag).text = str(value)
    for corners, label, ignored in zip(boxes.corners.tolist(), boxes.labels, boxes.ignored, strict=True):
        thing = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(thing, "name").text = label
        ElementTree.SubElement(thing, "difficult").text = str(int(ignored))
        box = ElementTree.SubElement(thing, "bndbox")
        for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True):
            ElementTree.SubElement(box, tag).text = f"{value:g}" if value < 1e5 else str(round(value))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def geojson(boxes: Boxes) -> str:
    """Get a GeoJSON collection of annotations as QuPath opens it; what is to be ignored has the class `Ignore*`."""
    features = []
    for number, ((x0, y0, x1, y1), label, ignored) in enumerate(
        zip(boxes.corners.tolist(), boxes.labels, boxes.ignored, strict=True), start=1
    ):
        ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
        features.append(
            {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [ring]},
                "properties": {
                    "objectType": "annotation",
                    "name": f"{label} {number}",
                    "classification": {"name": "Ignore*" if ignored else label},
                },
            }
        )
    return json.dumps({"type": "FeatureCollection", "features": features}, allow_nan=False) + "\n"
