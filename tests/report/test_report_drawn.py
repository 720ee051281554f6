"""The page of label maps: what it shows of one class, of several, of things and of volumes, and what it says."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import sample_report
from hypothesis import given, settings
from hypothesis import strategies as st
from test_report_page import parsed, titles_of, words_of

from medgraft.report import drawn, verdict
from medgraft.report.card import render_card
from medgraft.report.checklist import checklist
from medgraft.report.dice_strip import Strip, strips
from medgraft.report.outlines import PALETTE, agreement
from medgraft.report.page import render_report
from medgraft.report.schema import problems
from medgraft.report.score_names import interval_note
from medgraft.report.size_agreement import Sizes, Unit, agreements, figure, unit_of
from medgraft.report.svg import BLUE, RUST
from medgraft.scores.mask_cases import mask_scores
from medgraft.scores.mask_tables import mask_class_table

score = sample_report.score
NAN = float("nan")


def row(key: str, name: str, dice: float, true: float, found: float) -> dict[str, Any]:
    return {"key": key, "class": name, "dice": dice, "true_volume": true, "found_volume": found}


LUNGS = [
    row("a.png", "left", 0.9, 100.0, 110.0),
    row("a.png", "right", 0.8, 120.0, 90.0),
    row("films/b.png", "left", 0.0, 50.0, 0.0),
    row("films/b.png", "right", 0.7, 80.0, 80.0),
    row("c.png", "left", NAN, 0.0, 0.0),
    row("c.png", "right", 0.0, 0.0, 30.0),
]


def report_of(*classes: str, apart: bool = False, unit: str = "px", axes: int = 2) -> dict[str, Any]:
    """Get a report of label maps, as a run writes it."""
    hd95 = f"hd95_{unit}"
    table = {"dice": score(0.81), "nsd": score(0.62), hd95: {**score(5.0), "low": 4.0, "high": 7.0}}
    table |= {"sensitivity": score(0.9), "precision": score(0.8)}
    things = {"ap50": score(0.7), "ap75": score(0.5), "pq": score(0.6), "sq": score(0.8), "aji": score(0.65)}
    size = f"mm{axes}" if unit == "mm" else "px"
    ends = {f"volume_{name}_{size}": {**score(2.0), "low": 1.0, "high": 3.0} for name in ("bias", "low", "high")}
    return {
        **sample_report.binary()[0],
        "task": "segment",
        "question": None,
        "classes": list(classes),
        "positive": None,
        "scores": {
            "test": {**(things | {"count_mae": {**score(1.5), "low": 1.0, "high": 2.0}} if apart else {}), **table}
        },
        "per_class": {name: {**table, "volume_error": {**score(-0.1), "low": -0.2}, **ends} for name in classes},
        "drawing": {"tolerance": 2.0, "unit": unit, "thin": False, "apart": apart, "axes": axes},
        **dict.fromkeys(("operating_point", "calibration", "confusion", "patient_scores", "subgroups", "target"), None),
    }


def page_of(report: dict[str, Any], rows: list[dict[str, Any]], **more: Any) -> str:
    return render_report(report, curves={"drawn": rows}, **more)


def told(report: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    return " ".join(verdict.verdict(drawn.flat(report, {"drawn": rows}))).replace("\u00a0", " ")


def test_several_classes_have_a_row_each_and_what_was_missed_is_counted() -> None:
    page = page_of(report_of("left", "right"), LUNGS)
    words = words_of(page)
    parsed(page)
    assert "What was drawn" in titles_of(page)
    assert "worst 0.00, b.png" in words and "2 images" in words and "3 images" in words
    assert re.search(r"left 2 1 1 0 right 2 0 1 1", words)  # shown, missed, not shown, drawn falsely
    assert "How true and drawn areas agree" in words and "each with its 95 % interval" in words


def test_the_verdict_says_how_good_how_close_and_what_was_missed() -> None:
    words = told(report_of("left", "right"), LUNGS)
    assert "the model drew “left” and “right” with a mean Dice of 0.810 (95 % CI 0.760 to 0.850)." in words
    assert "Of the outlines 62 % (95 % CI 57 % to 66 %) lie within 2 pixels of each other" in words
    assert "1 of 4 structures (a class in an image) was missed. 1 was drawn where the truth has none." in words
    assert "The lowest Dice of an image is 0.00 (“c.png”)." in words


def test_the_verdict_of_one_class_speaks_of_images() -> None:
    rows = [row("a", "lesion", 0.9, 5, 5), row("b", "lesion", 0.0, 5, 0), row("c", "lesion", NAN, 0, 0)]
    words = told(report_of("lesion"), rows)
    assert "1 of 2 images that show “lesion” was left empty. It was drawn in none of 1 other." in words
    assert "None of 1 image that shows “lesion” was left empty." in told(report_of("lesion"), rows[:1])


def test_things_are_judged_one_by_one_first() -> None:
    report = report_of("nucleus", apart=True)
    assert verdict.primary(report) == "ap50" and verdict.primary(report_of("nucleus")) == "dice"
    rows = [row("a", "nucleus", 0.9, 5, 5)]
    assert "drew “nucleus” and told single ones apart, with a mean AP at IoU .50 of 0.700" in told(report, rows)
    assert "Its count is off by 1.5 an image on average." in told(report, rows)
    page = page_of(report, rows)
    titles = re.findall(r'<th scope="row">([^<]+)<small>', page)
    assert titles[:3] == ["AP at IoU .50", "Aggregated Jaccard index (AJI)", "Panoptic quality (PQ)"]
    assert "share of the true pixels that are found" in page and "share of cases that are found" not in page
    assert [one["label"] for one in verdict.key_figures(drawn.flat(report))][:3] == titles[:3]
    assert "Where in an image is each “nucleus”?" in words_of(page)


def test_a_table_of_classes_has_four_scores() -> None:
    page = page_of(report_of("left", "right", unit="mm", axes=3), LUNGS)
    head = re.search(r"<caption><b>Table \d+\.</b> Scores of each class, with.*?</thead>", page, re.S)
    assert head is not None
    names = re.findall(r'<th scope="col">([^<]+)</th>', head[0])
    assert names == ["Class", "Dice", "Surface Dice (NSD)", "HD95 (mm)", "Volume error"]
    assert "Scores of each class" not in page_of(report_of("left"), LUNGS[:1])  # it would say all again


def test_an_evaluation_shows_the_same_without_a_training() -> None:
    report = {**report_of("left", "right"), "evaluated_run": "a", "training": None, "augment": None}
    page = page_of(report, LUNGS)
    assert "What was drawn" in titles_of(page) and "worst 0.00, b.png" in words_of(page)


def test_without_rows_nothing_is_drawn_and_nothing_breaks() -> None:
    page = render_report(report_of("left", "right"), curves={})
    assert "What was drawn" not in titles_of(page) and "with a mean Dice of 0.810" in page
    said = told(report_of("left", "right"), [])
    assert "(surface Dice)" in said and "structure" not in said and "lowest" not in said


def test_what_is_in_no_image_has_a_row_of_counts_and_no_dots() -> None:
    rows = [row("a", "left", 0.9, 5, 5), row("b", "left", 0.8, 5, 5)]
    rows += [row(key, "right", NAN, 0.0, 0.0) for key in ("a", "b")]
    counts = drawn.counted({"classes": ["left", "right"]}, rows)
    assert [(one.name, one.shown, one.others, len(one.dice), len(one.sizes)) for one in counts] == [
        ("left", 2, 0, 2, 2),
        ("right", 0, 2, 0, 0),
    ]
    assert "What was drawn" in titles_of(page_of(report_of("left", "right"), rows))


def test_scores_that_are_missing_say_why() -> None:
    report = report_of("left", "right")
    report["scores"]["test"]["dice"] = {"value": None, "why": "no image has a class", "n": 0, "n_patients": 0}
    report["scores"]["test"] = {"dice": report["scores"]["test"]["dice"]}
    assert verdict.primary(report) == "dice"
    assert "Dice is not computable (no image has a class)" in told(report, [])


def test_names_from_files_stay_words() -> None:
    bad = '<img src=x onerror="alert(1)">'
    rows = [row(f"{bad}/{bad}.png", bad, 0.5, 4, 4), row("b", bad, 0.6, 5, 4), row("b", "<b>", 0.5, 3, 4)]
    picture = agreement(np.zeros((8, 8), np.uint8), np.eye(8, dtype=bool), np.eye(8, dtype=bool))
    gallery = [{"kind": "mistake", "image": picture, "key": bad, "truth": f"{bad}|<b>", "predicted": bad, "note": bad}]
    page = page_of(report_of(bad, "<b>"), rows, gallery=gallery)
    parsed(page)
    assert "<img src=x" not in page and "onerror=&#34;" in page
    assert re.search(r"(?<!\\)<(img|b)\b", render_card(report_of(bad, "<b>"))) is None


@pytest.mark.parametrize(
    ("kind", "says"), [("one", "drawn right (green)"), ("several", "a colour a class"), ("things", "true outlines")]
)
def test_the_pictures_say_what_their_colours_are(kind: str, says: str) -> None:
    classes = ("left", "right") if kind == "several" else ("left",)
    report = report_of(*classes, apart=kind == "things")
    picture = np.zeros((40, 84, 3), np.uint8)
    gallery = [{"kind": each, "image": picture, "key": "a", "truth": "left|right"} for each in ("mistake", "right")]
    page = page_of(report, LUNGS, gallery=gallery)
    legend = str(drawn.legend(report) or "")
    assert says in page and "The largest errors" in titles_of(page)
    assert "truth: left, right" in page and "two-wide" in page
    if kind == "several":
        assert all(name in legend for name in classes)
        assert "#" + "".join(f"{part:02x}" for part in PALETTE[1]) in legend
    assert bool(legend) == (kind != "things")
    assert not legend or legend in page


def test_colours_of_many_classes_take_several_lines() -> None:
    names = [f"structure number {number}" for number in range(30)]
    legend = str(drawn.legend(report_of(*names)))
    places = [(float(x), float(y)) for x, y in re.findall(r'<rect x="([\d.]+)" y="([\d.]+)"', legend)]
    assert len(set(places)) == 30 and max(x for x, _ in places) < 850
    assert len({y for _, y in places}) > 3
    assert drawn.question(report_of(*names)) == "Where in an image is each of 30 classes?"


# ---- dots and sizes -------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_every_image_is_a_dot_on_the_scale_and_the_worst_stands_out(values: list[float]) -> None:
    dice = tuple(sorted((value, f"{number}.png") for number, value in enumerate(values)))
    page = str(strips([Strip("lung", {"value": min(values), "low": None, "high": None}, dice)]))
    dots = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="2.6" fill="([^"]+)"', page)
    assert len(dots) == len(values)
    assert [fill for *_, fill in dots].count(RUST) == 1 and {fill for *_, fill in dots} <= {RUST, BLUE}
    assert all(210 <= float(x) <= 610 and 0 <= float(y) <= 70 for x, y, _ in dots)
    worst = [float(x) for x, _, fill in dots if fill == RUST]
    assert worst == [min(float(x) for x, *_ in dots)]


def test_thousands_of_images_stay_a_small_picture() -> None:
    dice = tuple((number / 5000, f"{number}") for number in range(5000))
    page = str(strips([Strip("lung", None, dice)]))
    assert len(page) < 80_000 and "5\u202f000 images" in page
    assert "worst 0.00, 0" in page


shapes = st.integers(0, 2**9 - 1).map(lambda bits: np.array([bits >> k & 1 for k in range(9)]).reshape(3, 3))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(shapes, shapes), min_size=3, max_size=8))
def test_counts_and_limits_are_those_of_the_tables(pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    words = {"classes": ["a"], "spacing_mm": (2.0, 2.0)}
    cases = [mask_scores(truth, found, tolerance=1, key=str(key), **words) for key, (truth, found) in enumerate(pairs)]
    names = ("dice", "true_volume", "found_volume")
    rows = [{"key": one.key, "class": "a", **{name: float(one[name][0]) for name in names}} for one in cases]
    (counts,) = drawn.counted({"classes": ["a"]}, rows)
    assert counts.missed == sum(bool(one.missed[0]) for one in cases)
    assert counts.false == sum(bool(one.false_finds[0]) for one in cases)
    assert len(counts.dice) == len(cases) - sum(bool(one.absent[0]) for one in cases)
    if len(counts.sizes) < 2:
        return
    table = mask_class_table(cases, classes=["a"], patients=None, seed=0, count=20, unit="mm", tolerance=1)["a"]
    known = {name: one.to_dict() for name, one in table.items()}
    unit = Unit("mm2", "areas")
    pages = [str(agreements([Sizes("a", counts.sizes, scores)], unit=unit)) for scores in ({}, known)]
    own, told_so = ([float(one.split()[-1].replace("−", "-")) for one in _levels(page)] for page in pages)
    assert own == pytest.approx(told_so, rel=0.006)  # as far as three digits go
    assert own[0] == pytest.approx(table["volume_bias_mm2"].value, rel=0.006, abs=1e-9)


def _levels(page: str) -> list[str]:
    return re.findall(r">((?:bias|upper limit|lower limit) [^<]+)<", page)


@pytest.mark.parametrize(
    ("unit", "axes", "factor", "words"),
    [
        ("mm", 3, 1.0, "Drawn − true (mm³)"),
        ("mm", 3, 1e3, "Drawn − true (ml)"),
        ("mm", 2, 1.0, "Drawn − true (mm²)"),
        ("mm", 2, 1e3, "Drawn − true (cm²)"),
        ("px", 2, 1.0, "Drawn − true (pixels)"),
        ("px", 3, 1e4, "Drawn − true (thousand pixels)"),
    ],
)
def test_sizes_are_told_in_units_that_people_use(unit: str, axes: int, factor: float, words: str) -> None:
    rows = [
        row(one["key"], one["class"], one["dice"], one["true_volume"] * factor, one["found_volume"] * factor)
        for one in LUNGS
    ]
    page = words_of(page_of(report_of("left", "right", unit=unit, axes=axes), rows))
    assert words in page
    assert f"drawn {'volumes' if axes == 3 else 'areas'} agree" in page


def test_a_limit_is_brought_to_the_unit_of_its_panel() -> None:
    scores = {
        f"volume_{name}_mm3": {"value": value, "low": value - 500, "high": value + 500}
        for name, value in (("bias", 1500.0), ("low", -2500.0), ("high", 5500.0))
    }
    page = str(agreements([Sizes("liver", ((9e5, 9e5), (1.2e6, 1.203e6)), scores)], unit=Unit("mm3", "volumes")))
    assert _levels(page) == ["bias 1.5", "upper limit 5.5", "lower limit −2.5"]
    lines = re.findall(r'<line x1="([\d.]+)" y1="([\d.]+)" x2="\1" y2="([\d.]+)"[^>]*stroke-width="4"', page)
    lengths = [float(low) - float(high) for _, low, high in lines]
    assert len(lengths) == 3 and lengths == pytest.approx([lengths[0]] * 3, abs=0.2)  # an interval each, all alike


def test_the_unit_is_known_of_the_report_alone() -> None:
    report = report_of("a", unit="mm", axes=3)
    assert unit_of(report) == Unit("mm3", "volumes")
    report["drawing"].pop("axes")
    assert unit_of(report) == Unit("mm3", "volumes")  # by the names of the scores
    assert unit_of({"drawing": {"unit": "px"}}) == Unit("px", "sizes")


@pytest.mark.parametrize(
    ("value", "words"), [(0.0, "0"), (-0.01234, "−0.0123"), (55.18, "55.2"), (-1234.5, "−1\u202f234")]
)
def test_sizes_have_three_digits(value: float, words: str) -> None:
    assert figure(value) == words


# ---- what else speaks of it -----------------------------------------------------------------------------


def test_card_and_checklist_do_not_speak_of_resized_images_or_thresholds() -> None:
    report = report_of("left", "right")
    card = render_card(report)
    assert "resized" not in card and "a label map on the grid of each file" in card
    assert "## Threshold" not in card and "with a mean Dice of 0.810" in card
    answers = {one["item"]: one["answer"] for one in checklist({**report, "_gallery": True})["filled"]}
    assert answers["CLAIM 1"].endswith("for segmentation.")
    assert "Resized" not in answers["CLAIM 9"] and "lowest Dice" in answers["CLAIM 39"]
    assert "label map" in answers["TRIPOD 15"]


def test_a_whole_net_has_no_encoder() -> None:
    report = report_of("left")
    report["backbone"] = {**report["backbone"], "name": "none:dynunet", "pooling": "none", "random": True}
    report["depth"] = {"thawed_stages": 0, "of": 5, "stages": ["a", "b", "c", "d", "e"]}
    page, card = page_of(report, LUNGS[:1]), render_card(report)
    assert "The net is <b>dynunet</b>" in page and "All layers were learnt." in page
    assert "Only the head was trained" not in page and 'class="stages"' not in page
    assert "- Net: dynunet, from random numbers" in card and "Licence of the encoder" not in card
    assert "Its classifier was cut off and a new decoder grafted on" in page_of(report_of("left"), LUNGS[:1])


def test_the_form_of_the_report_is_described() -> None:
    assert problems(report_of("left", "right")) == []
    assert problems({**report_of("left"), "drawing": [2.0]}) == ["'drawing' must be a mapping"]


def note(name: str, *notes: str) -> dict[str, Any]:
    return {name: {"value": 0.5, "low": 0.4, "high": 0.6, "method": "; ".join(("99 resamples", *notes))}}


def test_the_line_on_intervals_says_each_note_once() -> None:
    shared, lost = "mean over images", "3 of 9 images left out"
    scores = (
        note("dice", shared) | note("iou", shared) | note("nsd", shared, "within 2 px") | note("hd95_px", shared, lost)
    )
    said = interval_note(scores | note("f1_50", "things together"))
    assert said == (
        "Intervals: 99 resamples; mean over images (all but F1 at IoU .50); within 2 px (Surface Dice); "
        "3 of 9 images left out (HD95); things together (F1 at IoU .50)."
    )


def test_where_notes_are_many_those_of_one_score_are_left_to_its_row() -> None:
    scores: dict[str, Any] = {}
    for number, name in enumerate(("dice", "iou", "pq", "sq", "rq", "aji", "ap")):
        scores |= note(name, "mean over images", f"what number {number} is")
    scores |= note("nsd", "mean over images", "within 2 px") | note(
        "hd95_px", "mean over images", "2 of 9 have the diagonal"
    )
    said = interval_note(scores)
    assert "what number" not in said
    assert said.count("mean over images") == 1 and "within 2 px (Surface Dice)" in said and "2 of 9 have" in said


def test_nothing_of_this_is_said_of_other_tasks() -> None:
    report, curves = sample_report.binary()
    assert drawn.flat(report, curves) == report and not drawn.is_drawn(report) and drawn.kind_of(report) == ""
    assert drawn.view(report) == {"drawn_kind": ""}
    assert drawn.counted(report, ()) == []
