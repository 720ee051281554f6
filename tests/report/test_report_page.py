"""The page of a run: whole, inert, complete, and silent about what it was not given."""

from __future__ import annotations

import copy
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import sample_report

from medgraft.report import schema
from medgraft.report.page import render_report, write_report
from medgraft.report.phrases import decimal, interval

_VOID = {"meta", "img", "br", "hr", "link", "input"}
_NASTY = "<script>alert('x')</script>"


class _Balance(HTMLParser):
    """Collects what is opened, and whatever is closed out of order."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.ids: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words.append(data)


def parsed(page: str) -> _Balance:
    parser = _Balance()
    parser.feed(page)
    parser.close()
    return parser


def words_of(page: str) -> str:
    return " ".join(" ".join(parsed(page).words).replace("\u00a0", " ").split())


def titles_of(page: str) -> list[str]:
    return re.findall(r'<h2><span class="no">\d+</span>(.*?)</h2>', page)


@pytest.fixture(scope="module")
def binary() -> str:
    report, curves = sample_report.binary()
    gallery, augmented = sample_report.pictures()
    return render_report(report, curves=curves, gallery=gallery, augmented=augmented)


def _variants() -> dict[str, tuple[dict, dict]]:
    long = [f"a class whose name is far too long for any table or picture of this page, number {i}" for i in range(12)]
    return {
        "binary": sample_report.binary(),
        "seven classes": sample_report.multiclass(7),
        "three classes": sample_report.multiclass(3),
        "twelve long names": sample_report.multiclass(12, names=long),
        "labels": sample_report.multilabel(),
        "grades": sample_report.graded(),
        "regression": sample_report.regression(),
        "evaluation": sample_report.evaluation(),
        "nothing": ({"task": "classify"}, {}),
    }


@pytest.fixture(params=list(_variants()))
def variant(request: pytest.FixtureRequest) -> tuple[dict, dict]:
    return _variants()[request.param]


def test_every_variant_is_balanced_and_inert(variant: tuple[dict, dict]) -> None:
    report, curves = variant
    page = render_report(report, curves=curves)
    found = parsed(page)
    assert not found.wrong
    assert not found.open
    assert len(found.ids) == len(set(found.ids))
    assert not [tag for tag, _, _ in found.attributes if tag in ("script", "iframe", "link", "object", "form")]
    assert not [name for _, name, _ in found.attributes if name.startswith("on") or name == "style"]
    for _, name, value in found.attributes:
        if name in ("src", "href", "action", "xlink:href"):
            assert value.startswith(("data:image/", "#")), value
    assert "http" not in re.sub(r"http-equiv", "", page)
    assert "nan" not in re.findall(r"[a-z]+", " ".join(v for _, n, v in found.attributes if n in ("d", "points", "x")))
    assert "None" not in words_of(page)
    assert "Undefined" not in page


def test_links_lead_to_sections(binary: str) -> None:
    found = parsed(binary)
    targets = [value[1:] for tag, name, value in found.attributes if tag == "a" and name == "href"]
    assert len(targets) > 8
    assert set(targets) <= set(found.ids)


def test_content_policy_allows_nothing_but_its_own_style(binary: str) -> None:
    import base64
    import hashlib

    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', binary)
    assert policy
    rules = policy[1].replace("&#39;", "'")
    style = re.search(r"<style>(.*?)</style>", binary, re.S)
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert "default-src 'none'" in rules
    assert f"style-src 'sha256-{digest}'" in rules
    assert "unsafe" not in rules
    assert "script-src" not in rules
    assert binary.index("Content-Security-Policy") < binary.index("<style>")


def test_foreign_words_stay_words() -> None:
    report, curves = copy.deepcopy(sample_report.multiclass(7, names=[f"{_NASTY}{i}" for i in range(7)]))
    report.update(title=_NASTY, question=_NASTY, warnings=[_NASTY], command=f"medgraft train '{_NASTY}'")
    report["data"].update(name=_NASTY, notes=[_NASTY], facts=[[_NASTY, _NASTY]], leaks_allowed=True)
    report["data"]["leaks"] = [{"kind": "patient", "splits": ["train", "test"], "patient": _NASTY, "keys": [_NASTY]}]
    report["quarantine"] = [{"path": '"><img src=x onerror=alert(1)>', "reason": "\x1b[2Jred\u202egnp.exe"}]
    report["subgroups"] = [
        {"covariate": _NASTY, "group": _NASTY, "n": 3, "scores": {"auroc": sample_report.score(0.7)}}
    ]
    gallery, _ = sample_report.pictures()
    for one in gallery:
        one.update(key=f"{_NASTY}.png", truth=_NASTY, predicted='" onload="x', note=_NASTY)
    page = render_report(report, curves=curves, gallery=gallery)
    found = parsed(page)
    assert not found.wrong
    assert "script" not in found.open
    assert "<script" not in page
    assert "<img src=x" not in page
    assert not [name for _, name, _ in found.attributes if name.startswith("on")]
    assert _NASTY in words_of(page)
    assert "\x1b" not in page
    assert "\u202e" not in page


def test_every_score_is_shown_with_its_interval(variant: tuple[dict, dict]) -> None:
    report, curves = variant
    text = words_of(render_report(report, curves=curves))
    shown = {name: report.get(name) for name in ("scores", "patient_scores", "per_class", "operating_point")}
    shown["groups"] = [list(one["scores"].values())[:2] for one in report.get("subgroups") or ()]
    for path, score in schema.scores_of(shown):
        if score["value"] is None:
            assert score["why"] in text, path
        elif score["low"] is not None:
            assert decimal(score["value"]) in text, path
            assert interval(score) in text, path


def test_a_score_without_value_or_interval_says_why() -> None:
    report, curves = copy.deepcopy(sample_report.binary())
    report["scores"]["test"]["auroc"] = sample_report.score(None, why="all test images are of one class")
    report["scores"]["test"]["f1"] = {
        "value": 0.5,
        "low": None,
        "high": None,
        "n": 3,
        "n_patients": None,
        "why": "one patient",
    }
    page = render_report(report, curves=curves)
    text = words_of(page)
    assert "not computable: all test images are of one class" in text
    assert "none: one patient" in text
    assert "with a balanced accuracy of 0.851" in text


def test_verdict_is_in_plain_words(binary: str) -> None:
    text = words_of(binary)
    assert "On 215 test images of 134 patients the model told “yes” from “no” with an AUROC of 0.912" in text
    assert "it found 88 % (95 % CI 80 % to 94 %) of the “yes” images" in text
    assert "Of 80 images of “yes”, 70 were found and 10 missed." in text


@pytest.mark.parametrize(
    ("low", "high", "words"), [(0.45, 0.72, "nothing is proven"), (0.3, 0.45, "worse than chance"), (0.6, 0.7, None)]
)
def test_chance_is_called_chance(low: float, high: float, words: str | None) -> None:
    report, _ = copy.deepcopy(sample_report.binary())
    report["scores"]["test"]["auroc"].update(value=(low + high) / 2, low=low, high=high)
    text = words_of(render_report(report))
    for sentence in ("nothing is proven", "worse than chance"):
        assert (sentence in text) == (sentence == words)


def test_phantoms_are_stamped_and_patients_are_not(binary: str) -> None:
    assert "These are phantoms: procedural images, not patients." in words_of(binary)
    assert '<body class="phantoms">' in binary
    report, curves = copy.deepcopy(sample_report.binary())
    report["phantoms"] = False
    assert "hantoms:" not in words_of(render_report(report, curves=curves))


def test_warnings_come_before_the_numbers() -> None:
    report, _ = copy.deepcopy(sample_report.binary())
    report["data"].update(leaks_allowed=True, split_by="image", patients=None, leak_counts={"patient": 3, "near": 2})
    report["backbone"]["random"] = True
    report["data"]["classes"]["yes"]["images"]["test"] = 4
    page = render_report(report)
    for words in (
        "Leaks were allowed",
        "3 shared patients and 2 near-identical pairs",
        "Split by image",
        "Not pre-trained",
    ):
        assert words in page
        assert page.index(words) < page.index('<dl class="figures">')
    assert "4 of “yes”" in words_of(page)


def test_sections_without_data_are_absent() -> None:
    report, curves = sample_report.binary()
    whole = titles_of(render_report(report, curves=curves, gallery=sample_report.pictures()[0]))
    bare = titles_of(render_report({"task": "classify"}))
    assert whole == [
        "What was asked",
        "Data and split",
        "How it was trained",
        "Scores",
        "Telling apart",
        "Can the probabilities be believed?",
        "Subgroups",
        "The most certain mistakes",
        "Methods, ready to paste",
        "Limits",
        "How to do it again",
        "Reporting checklist",
    ]
    assert bare == ["Methods, ready to paste", "Limits", "Reporting checklist"]


def test_one_row_is_no_curve_and_a_kept_start_is_marked() -> None:
    report, curves = sample_report.binary()
    rows = [{"epoch": 0, "loss": 0.4, "val_loss": 0.5, "val_score": 0.9}]
    report["training"] |= {"best_epoch": 0}
    assert "against epoch" not in render_report(report, curves={**curves, "train": rows})
    page = render_report(report, curves={**curves, "train": [*rows, {**rows[0], "epoch": 1, "val_score": 0.8}]})
    assert "Loss against epoch" in page and "best, before the first" in page


def test_a_distance_that_is_watched_is_drawn_as_it_is() -> None:
    report, curves = sample_report.binary()
    rows = [{"epoch": n, "loss": 1.0, "val_loss": 9.0 - n, "val_score": n - 9.0} for n in (1, 2, 3)]
    report["training"] |= {"score": "kid", "best_epoch": 3}
    page = render_report(report, curves={**curves, "train": rows})
    told = page[page.index("Validation KID against epoch") :]
    ticks = [float(one) for one in re.findall(r">(\u2212?-?[\d.]+)</text>", told[: told.index("</svg>")])]
    assert ticks and min(ticks) >= 0
    assert rows[0]["val_score"] == -8.0  # what is drawn is a copy


@pytest.mark.parametrize(
    ("key", "title"),
    [
        ("data", "Data and split"),
        ("subgroups", "Subgroups"),
        ("calibration", "Can the probabilities be believed?"),
    ],
)
def test_one_missing_part_takes_its_section_away(key: str, title: str) -> None:
    report, curves = copy.deepcopy(sample_report.binary())
    curves.pop("reliability")
    assert title in titles_of(render_report(report, curves=curves))
    report.pop(key)
    report.pop("quarantine", None)
    assert title not in titles_of(render_report(report, curves=curves))


def test_a_column_without_any_scored_group_takes_one_line() -> None:
    report, curves = copy.deepcopy(sample_report.binary())
    none = sample_report.score(None, n=1, n_patients=1, why="1 case is too few")
    report["subgroups"] += [
        {"covariate": "mask", "group": f"m{i}.png", "n": 1, "scores": {"auroc": none}} for i in range(50)
    ]
    text = words_of(render_report(report, curves=curves))
    assert "mask (m0.png, m1.png, m2.png, 47 more): 1 case is too few" in text
    assert "m3.png" not in text
    assert "site (D): all four images are of one class" in text


def test_scores_of_the_threshold_stand_once() -> None:
    report, curves = copy.deepcopy(sample_report.binary())
    report["scores"]["test"]["sensitivity"] = report["operating_point"]["sensitivity"]
    page = render_report(report, curves=curves)
    assert len(re.findall(r'<th scope="row">Sensitivity', page)) == 1


def test_grades_are_judged_by_agreement() -> None:
    report, curves = sample_report.graded()
    text = words_of(render_report(report, curves=curves))
    assert "agreed with the given grades with a quadratic weighted kappa of 0.810" in text


def test_shares_are_drawn_only_where_they_add_up() -> None:
    title = "Share of each class in each part"
    assert title in render_report(sample_report.multiclass(3)[0])
    assert title not in render_report(sample_report.multilabel()[0])


def test_regression_has_its_own_pictures() -> None:
    report, curves = sample_report.regression()
    page = render_report(report, curves=curves)
    assert "Agreement with the truth" in titles_of(page)
    assert "Telling apart" not in titles_of(page)
    assert "estimated bone age with a mean absolute error of 0.820 (95 % CI 0.740 to 0.900) years" in words_of(page)
    assert "Bland-Altman plot" in page


def test_an_evaluation_is_called_one() -> None:
    report, curves = sample_report.evaluation()
    text = words_of(render_report(report, curves=curves))
    assert "never saw them" in text
    assert "same source as the training images" not in text
    assert "CLAIM 33" in text


def test_written_file_is_small_and_the_same_twice(tmp_path: Path) -> None:
    report, curves = sample_report.binary()
    random = np.random.default_rng(0)
    noisy = random.integers(0, 256, (600, 800, 3), dtype=np.uint8)  # the worst case for JPEG
    gallery = [{"kind": "mistake", "image": noisy, "key": "k", "truth": "a", "predicted": "b", "probability": 0.9}] * 40
    path = write_report(report, folder=tmp_path, curves=curves, gallery=gallery, augmented=[noisy] * 16)
    assert path == tmp_path / "report.html"
    assert path.stat().st_size < 1_500_000
    again = write_report(report, folder=tmp_path, curves=curves, gallery=gallery, augmented=[noisy] * 16, name="b.html")
    assert path.read_bytes() == again.read_bytes()
    assert path.read_text(encoding="utf-8").count('<li class="wrong">') == 12


def test_long_curves_stay_small() -> None:
    report, curves = copy.deepcopy(sample_report.binary())
    truth, p = sample_report.predictions(60_000, 20_000, 1.0)
    curves["roc"] = {"yes": sample_report.roc_curve(truth, p)}
    curves["train"] = [
        {"epoch": e, "loss": 1 / (e + 1), "val_loss": None, "val_score": float("nan")} for e in range(500)
    ]
    assert len(render_report(report, curves=curves)) < 250_000


def test_pictures_of_every_size_and_gray_ones_are_shown() -> None:
    report, _ = sample_report.binary()
    images = [
        np.zeros((28, 28), np.uint8),
        np.zeros((1, 900, 1), np.uint8)[0][:, :, None],
        np.full((900, 30, 3), 9, np.uint8),
    ]
    gallery = [
        {"kind": "right", "image": im, "key": "k", "truth": "a", "predicted": "a", "probability": None} for im in images
    ]
    page = render_report(report, gallery=gallery)
    assert page.count("data:image/") == 3
    assert 'class="tiny"' in page
    with pytest.raises(ValueError, match="uint8"):
        render_report(report, gallery=[{**gallery[0], "image": np.zeros((4, 4), np.float32)}])


def test_report_json_round_trip_gives_the_same_page() -> None:
    report, curves = sample_report.binary()
    plain = json.loads(json.dumps(report))
    assert render_report(plain, curves=curves) == render_report(report, curves=curves)


def test_samples_follow_the_schema(variant: tuple[dict, dict]) -> None:
    assert schema.problems(variant[0]) == []


def test_schema_names_what_is_wrong() -> None:
    report, _ = copy.deepcopy(sample_report.binary())
    report["scores"]["test"]["auroc"] = {"value": None}
    report["scores"]["test"]["f1"] = {"value": 0.5, "low": 0.9, "high": 0.1}
    report["scores"]["test"]["mcc"] = {"value": "high", "low": None, "high": None}
    assert schema.problems(report) == [
        "scores.test.auroc is null and does not say why",
        "scores.test.mcc.value must be a number",
        "scores.test.f1 has an interval that is upside down",
    ]
    assert schema.problems({"data": [], "subgroups": {"a": 1}}) == [
        "'task' is missing",
        "'subgroups' must be a list",
    ]
