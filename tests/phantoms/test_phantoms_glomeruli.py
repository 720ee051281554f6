"""Sections of kidney: windows of one plane agree, stains have their colours, boxes fit what was painted."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from medgraft.phantoms import write_set
from medgraft.phantoms.case import Case
from medgraft.phantoms.cortex import bodies_in
from medgraft.phantoms.endless import Plane, Window, noise
from medgraft.phantoms.glomeruli import FIELD_UM, glomeruli
from medgraft.phantoms.section import section
from medgraft.phantoms.stains import STAINS, look_of

SIZE = 128


@pytest.fixture(scope="module")
def fields() -> list[Case]:
    return [glomeruli(index, seed=3, size=SIZE) for index in range(40)]


@pytest.mark.parametrize("stain", ["PAS", "silver"])
def test_any_window_is_a_part_of_the_whole(stain: str):
    plane = Plane(5, 3)
    look = look_of(plane, stain)
    whole = section(plane, Window(-130, 70, 300, 280, 1.3), look)
    for top, left, height, width in ((-130, 70, 300, 90), (-41, 113, 77, 131), (100, 349, 1, 1)):
        part = section(plane, Window(top, left, height, width, 1.3), look)
        rows, columns = slice(top + 130, top + 130 + height), slice(left - 70, left - 70 + width)
        np.testing.assert_array_equal(part.pixels, whole.pixels[rows, columns])
        np.testing.assert_array_equal(part.truth > 0, whole.truth[rows, columns] > 0)


def test_noise_of_a_plane_has_no_seams_and_deviation_one():
    plane = Plane(1)
    whole = noise(plane, Window(-300, -300, 600, 600), name="a", bump_um=7.0, octaves=2)
    part = noise(plane, Window(-20, 31, 55, 99), name="a", bump_um=7.0, octaves=2)
    np.testing.assert_array_equal(part, whole[280:335, 331:430])
    assert whole.mean() == pytest.approx(0, abs=0.05) and whole.std() == pytest.approx(1, abs=0.08)


def test_bodies_keep_off_each_other():
    bodies = bodies_in(Plane(2, 1), (0, 0, 4000, 4000))
    round_ones = [body for body in bodies if body.kind != "arteriole"]
    assert len(round_ones) > 60 and {"glomerulus", "artery", "vein", "dilated", "cluster"} <= {b.kind for b in bodies}
    places = np.array([body.centre for body in round_ones])
    radii = np.array([body.radius for body in round_ones])
    gaps = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1)) - radii[:, None] - radii[None]
    assert gaps[~np.eye(len(radii), dtype=bool)].min() > 8


def test_boxes_are_the_exact_edges_of_what_was_painted(fields: list[Case]):
    seen = 0
    for case in fields:
        assert case.boxes is not None and len(case.boxes) == len(case.lesions)
        assert set(case.boxes.labels) <= {"glomerulus"}
        left = case.mask > 0
        for (x0, y0, x1, y1), lesion in zip(case.boxes.corners.astype(int).tolist(), case.lesions, strict=True):
            assert 0 <= x0 < x1 <= SIZE and 0 <= y0 < y1 <= SIZE
            inside = case.mask[y0:y1, x0:x1] == case.mask_names.index(lesion.kind)
            assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()
            assert lesion.radius == max(x1 - x0, y1 - y0) / 2
            left[y0:y1, x0:x1] = False
            seen += 1
        assert not left.any(), "no glomerulus is without a box"
    assert seen > 50


def test_glomeruli_have_their_size_and_small_rests_at_the_border_are_ignored(fields: list[Case]):
    widths, ignored = [], 0
    for case in fields:
        assert case.boxes is not None
        for (x0, y0, x1, y1), rest in zip(case.boxes.corners, case.boxes.ignored, strict=True):
            border = x0 == 0 or y0 == 0 or x1 == SIZE or y1 == SIZE
            ignored += bool(rest)
            assert border or not rest
            if not border:
                widths.append(max(x1 - x0, y1 - y0) * FIELD_UM / SIZE)
    assert ignored >= 3
    assert 110 < np.median(widths) < 220 and min(widths) < 100 and max(widths) < 290


def test_fields_of_a_patient_share_stain_and_thickness(fields: list[Case]):
    looks: dict[str, set[tuple[str, str]]] = {}
    for case in fields:
        looks.setdefault(case.patient, set()).add((case.covariates["stain"], case.covariates["thickness_um"]))
    assert len(looks) == 16 and all(len(found) == 1 for found in looks.values())
    stains = [next(iter(found))[0] for found in looks.values()]
    assert all(set(stains[start : start + 4]) == set(STAINS) for start in range(0, 16, 4))
    for case in fields:
        assert float(case.covariates["um_per_px"]) == FIELD_UM / SIZE


def test_each_stain_has_its_colours():
    found = {}
    for stain in STAINS:
        pixels = []
        for number in range(4):
            plane = Plane(9, number)
            pixels.append(section(plane, Window(0, 0, 150, 150, 2.0), look_of(plane, stain)).pixels.reshape(-1, 3))
        found[stain] = np.concatenate(pixels).astype(float)
    red, green, blue = (np.array([found[stain].mean(axis=0)[k] for stain in STAINS]) for k in range(3))
    names = list(STAINS)
    # Magenta and pink have the least green; blue collagen is seen in the trichrome alone; silver is black and gray.
    assert (green[:2] < np.minimum(red, blue)[:2] - 8).all()
    blues = [np.mean((v[:, 2] > v[:, 0] + 25) & (v[:, 1] > v[:, 0] + 10)) for v in found.values()]
    assert np.argmax(blues) == names.index("trichrome") and blues[names.index("trichrome")] > 0.04
    blacks = [np.mean(v.max(axis=1) < 75) for v in found.values()]
    assert np.argmax(blacks) == names.index("silver")
    spread = [np.mean(v.max(axis=1) - v.min(axis=1)) for v in found.values()]
    assert np.argmin(spread) == names.index("silver")


def test_a_set_has_its_boxes_as_coco_and_as_voc(tmp_path: Path):
    manifest = write_set("glomeruli", count=6, out=tmp_path, seed=1, size=64)
    told = json.loads((tmp_path / "boxes.json").read_text())
    assert [image["file_name"] for image in told["images"]] == [
        line.split(",")[0] for line in manifest.read_text().splitlines()[1:]
    ]
    for index, image in enumerate(told["images"]):
        boxes = glomeruli(index, seed=1, size=64).boxes
        assert boxes is not None
        mine = [row for row in told["annotations"] if row["image_id"] == image["id"]]
        corners = [[x, y, x + w, y + h] for x, y, w, h in (row["bbox"] for row in mine)]
        assert corners == boxes.corners.tolist() and [bool(r["iscrowd"]) for r in mine] == boxes.ignored.tolist()
        stem = Path(image["file_name"]).stem
        root = ElementTree.parse(tmp_path / "annotations" / f"{stem}.xml").getroot()
        assert root.findtext("filename") == f"{stem}.png" and root.findtext("size/width") == "64"
        tags = ("xmin", "ymin", "xmax", "ymax")
        written = [[float(box.findtext(tag) or "nan") for tag in tags] for box in root.iter("bndbox")]
        assert written == boxes.corners.tolist()
        assert [thing.findtext("difficult") == "1" for thing in root.iter("object")] == boxes.ignored.tolist()
    assert "annotation" in manifest.read_text().splitlines()[0].split(",")
