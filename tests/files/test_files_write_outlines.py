"""Outlines as GeoJSON."""

from __future__ import annotations

import json

from medgraft.files.write_outlines import OutlinedShape, write_outlines

SQUARE, HOLE = [(0, 0), (4, 0), (4, 4), (0, 4)], [(1, 1), (1, 2), (2, 2), (2, 1)]


def test_holes_parts_planes_and_numbers_are_written_as_the_standard_says(tmp_path):
    shapes = [
        OutlinedShape("structure 1", [[SQUARE, HOLE]], {"area": 15.0}),
        OutlinedShape("structure 2", [[SQUARE], [[(9, 9), (10, 9), (10, 10), (9, 10)]]], plane=3),
        OutlinedShape("structure 3", []),
    ]
    path = tmp_path / "outlines.geojson"
    write_outlines(path, shapes, name="a.png")
    told = json.loads(path.read_text())
    assert told["type"] == "FeatureCollection"
    one, two = told["features"]
    assert one["geometry"]["type"] == "Polygon" and len(one["geometry"]["coordinates"]) == 2
    assert all(ring[0] == ring[-1] and len(ring) == 5 for ring in one["geometry"]["coordinates"])
    assert one["properties"]["measurements"] == {"area": 15.0} and "plane" not in one["geometry"]
    assert two["geometry"]["type"] == "MultiPolygon" and len(two["geometry"]["coordinates"]) == 2
    assert two["geometry"]["plane"] == {"c": -1, "z": 3, "t": 0}
    assert one["id"] != two["id"]
    before = path.read_bytes()
    write_outlines(path, shapes, name="a.png")
    assert path.read_bytes() == before


def test_no_structure_is_an_empty_collection(tmp_path):
    write_outlines(tmp_path / "none.geojson", [], name="a.png")
    assert json.loads((tmp_path / "none.geojson").read_text()) == {"type": "FeatureCollection", "features": []}
