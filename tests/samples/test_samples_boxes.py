"""The check of boxes against their image, and what the survey tells of them."""

from __future__ import annotations

import json
import math

import numpy as np
from box_sets import HEIGHT, WIDTH, coco_document, paint, write_json
from hypothesis import given, settings
from hypothesis import strategies as st

from medgraft.report.survey_page import render_survey
from medgraft.samples import read_samples
from medgraft.samples.boxes import Written, checked
from medgraft.samples.facts import facts_of
from medgraft.samples.survey import limit_bad, survey

numbers = st.one_of(st.floats(-3, 90), st.floats(allow_nan=True, allow_infinity=True), st.sampled_from([0, 1, -1, 81]))
written = st.builds(
    Written,
    where=st.sampled_from(["line 1", "line 2"]),
    label=st.sampled_from(["a", " b ", "", "a|b"]),
    corners=st.lists(numbers, min_size=3, max_size=5).map(tuple),
    ignored=st.booleans(),
    wrong=st.sampled_from(["", "", "is wrong"]),
)


@settings(deadline=None)
@given(st.lists(written, max_size=6))
def test_whatever_is_written_what_is_kept_fits_its_image(boxes):
    found = checked(boxes, (80, 60))
    x0, y0, x1, y1 = found.boxes.corners.T
    assert np.all((x0 >= 0) & (x0 < x1) & (x1 <= 80) & (y0 >= 0) & (y0 < y1) & (y1 <= 60))
    assert set(found.boxes.labels) <= {"a", "b"}
    assert len(found.boxes) + len(found.faults) + len(found.repeats) == len(boxes)
    rows = list(zip(found.boxes.labels, map(tuple, found.boxes.corners.tolist()), strict=True))
    assert len(set(rows)) == len(rows)


@settings(deadline=None)
@given(st.tuples(st.floats(0, 79), st.floats(0, 59), st.floats(0.01, 80), st.floats(0.01, 60)))
def test_a_good_box_stays_as_it_is(values):
    x0, y0, width, height = values
    corners = (x0, y0, min(x0 + width, 80.0), min(y0 + height, 60.0))
    found = checked([Written("line 1", "a", corners)], (80, 60))
    assert tuple(found.boxes.corners[0].tolist()) == corners and not found.faults


def look(folder):
    dataset = read_samples(folder, limit_bad=100)
    return dataset, facts_of(dataset.samples, workers=1)


def make(tmp_path):
    images = {
        "a.png": [("cell", n, 0, n + 10, 20) for n in range(30)] + [("mite", 3, 3, 3, 9)],
        "b.png": [("mite", 0, 0, 40, 40)],
        "c.png": [],
    }
    for number, name in enumerate(images):
        paint(tmp_path / name, number)
    return write_json(tmp_path / "set.json", coco_document(images))


def test_facts_of_boxes(tmp_path):
    dataset, records = look(make(tmp_path))
    found = survey(dataset, records)
    assert found.boxes == {
        "count": 31,
        "classes": {"cell": {"all": 30}, "mite": {"all": 1}},
        "images": 3,
        "without": 1,
        "per_image": {"low": 0, "median": 1, "high": 30},
        "sides": {"low": 10, "median": 20, "high": 20},
        "ignored": 0,
        "left_out": 1,
    }
    assert found.target is not None and found.target[0] == "boxes"
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["boxes"]["count"] == 31


def test_a_box_left_out_is_no_file_left_out(tmp_path):
    """Three broken boxes of 31 in three images would else be more than any share of files."""
    dataset, records = look(make(tmp_path))
    bad = limit_bad(dataset, records, percent=0)
    assert [(problem.path, problem.part) for problem in bad] == [("set.json", True)]


def test_the_page_has_a_section_where_there_are_boxes(tmp_path):
    dataset, records = look(make(tmp_path))
    page = render_survey(survey(dataset, records).to_dict())
    assert "Boxes</h2>" in page and "with 31 boxes" in page and "0 to 30, median 1" in page
    for number in range(4):
        paint(tmp_path / "other" / "ab"[number % 2] / f"{number}.png", number)
    dataset, records = look(tmp_path / "other")
    facts = survey(dataset, records)
    assert facts.boxes is None and "Boxes</h2>" not in render_survey(facts.to_dict())


def test_sizes_are_those_of_the_decoded_image(tmp_path):
    """A photograph that its header turns upright has its boxes in the upright image."""
    from PIL import Image

    tag = Image.Exif()
    tag[274] = 6  # turn by a quarter
    noise = np.random.default_rng(0).integers(0, 256, (WIDTH, HEIGHT, 3), dtype=np.uint8)
    Image.fromarray(noise.transpose(1, 0, 2).copy()).rotate(90, expand=True).save(tmp_path / "a.jpg", exif=tag)
    paint(tmp_path / "b.png")
    document = coco_document({"a.jpg": [("cell", 0, 0, WIDTH, HEIGHT)], "b.png": []})
    found = read_samples(write_json(tmp_path / "set.json", document))
    from medgraft.files import read_image

    height, width = read_image(found.samples[0].image).pixels.shape[-2:]
    assert found.samples[0].boxes is not None
    assert found.samples[0].boxes.corners.tolist() == [[0, 0, width, height]]
    assert math.isclose(width, WIDTH)
