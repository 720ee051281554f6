"""Outlines of structures as GeoJSON that QuPath and geographical programs open."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medgraft import storage

_SPACE = uuid.UUID("0b1f7a52-97f5-5d0b-8a6e-3c6c1a0d9e44")  # of names made into ids; any fixed one would do
Ring = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class OutlinedShape:
    """One structure, or one slice of it.

    Attributes:
        label: its class.
        polygons: one a part: the outer ring and then its holes, corners x, y in pixels of the file, not repeated.
        numbers: what was measured of it, by name.
        plane: the slice of the file that it is on, from 0; None of a picture.
    """

    label: str
    polygons: Sequence[Sequence[Ring]]
    numbers: Mapping[str, float] = field(default_factory=dict)
    plane: int | None = None


def write_outlines(path: Path, shapes: Sequence[OutlinedShape], *, name: str) -> None:
    """Write outlines as GeoJSON that QuPath opens by File, Import objects from file.

    Coordinates are pixels of the whole image from its upper left corner. Ids depend on the name and the outline alone.

    Args:
        path: of the GeoJSON.
        shapes: each becomes an annotation: a Polygon, or a MultiPolygon of several parts.
        name: of the image.

    Source: RFC 7946; QuPath, QuPathTypeAdapters.java (`objectType`, `classification`, `measurements`, `plane`)
    """
    features = []
    for place, shape in enumerate(shapes):
        parts = [[_closed(ring) for ring in polygon] for polygon in shape.polygons]
        if not parts:
            continue
        kind, corners = ("Polygon", parts[0]) if len(parts) == 1 else ("MultiPolygon", parts)
        geometry: dict[str, object] = {"type": kind, "coordinates": corners}
        if shape.plane is not None:
            geometry["plane"] = {"c": -1, "z": shape.plane, "t": 0}
        said = json.dumps([name, place, shape.label, geometry])
        properties: dict[str, object] = {"objectType": "annotation", "classification": {"name": shape.label}}
        if shape.numbers:
            properties["measurements"] = dict(shape.numbers)
        row = {"type": "Feature", "id": str(uuid.uuid5(_SPACE, said)), "geometry": geometry, "properties": properties}
        features.append(row)
    # Corners are many: a line a number, as other JSON is written here, would be ten times as long.
    text = json.dumps({"type": "FeatureCollection", "features": features}, allow_nan=False, separators=(",", ":"))
    storage.write_text(path, text + "\n")


def _closed(ring: Ring) -> list[list[float]]:
    corners = [[float(x), float(y)] for x, y in ring]
    return [*corners, corners[0]]
