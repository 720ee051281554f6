"""The part of the page about zones: there when they are, absent when not, and laid out as in the image."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import sample_report

from medgraft.report.card import render_card
from medgraft.report.methods import methods
from medgraft.report.page import render_report
from medgraft.report.schema import problems
from medgraft.report.severity import zone_grid


def score(value: float | None, **more: Any) -> dict[str, Any]:
    ends = {"low": None, "high": None} if value is None else {"low": value - 0.1, "high": value + 0.1}
    return {"value": value, **ends, "n": 40, "n_patients": 20, "method": "bootstrap", **more}


SEVERITY: dict[str, Any] = {
    "grid": [3, 2],
    "grades": [0, 1, 2, 3],
    "score": "quadratic_kappa",
    "scores": {"zone_kappa": score(0.81), "zone_mae": score(0.3), "sum_kappa": score(0.77)},
    "zones": [
        {
            "name": f"z{k + 1}",
            "cell": [k % 3, k // 3],
            "score": score(0.5 + k / 20) if k else score(None, why="one grade"),
        }
        for k in range(6)
    ],
    "intervals": {
        "coverage": 0.9,
        "fitted_on": "val",
        "reach": {"zone": 0.9, "sum": 3.25},
        "covered": {"zone": score(0.91), "sum": score(0.88)},
    },
}


@pytest.fixture
def report() -> dict[str, Any]:
    found, _ = sample_report.binary()
    return {**copy.deepcopy(found), "task": "localise", "severity": copy.deepcopy(SEVERITY)}


def test_the_section_is_absent_without_zones():
    found, curves = sample_report.binary()
    assert "How severe, and where?" not in render_report(found, curves=curves)
    assert "Severities of zones" not in render_card(found)


def test_scores_intervals_maps_and_sums_are_shown(report: dict[str, Any]):
    picture = np.full((24, 24), 90, np.uint8)
    one = {"key": "a.png", "true": 3.0, "predicted": 2.5, "image": picture, "map": np.eye(24, dtype=np.float32)}
    curves = {"sums": {"true": [0, 3, 9], "predicted": [1, 3.5, 7]}, "maps": [one, {**one, "true": None}]}
    assert problems(report) == []
    page = render_report(report, curves=curves)
    for words in ("How severe, and where?", "3.25", "Zones, quadratic weighted kappa", "true 3", "Sums within their"):
        assert words in page, words
    bare = render_report(report, curves={})
    assert "How severe, and where?" in bare and "map of a.png" not in bare


def test_the_grid_is_laid_out_as_in_the_image():
    drawn = str(zone_grid(SEVERITY["zones"], (3, 2), title="Kappa"))
    places = [drawn.index(f">z{k}<") for k in range(1, 7)]
    assert places == sorted(places) and drawn.count("<rect") == 6 and "–" in drawn


def test_card_and_methods_tell_of_zones(report: dict[str, Any]):
    card = render_card(report)
    assert "Severities of zones on test images" in card and "0.810" in card
    written = methods(report)
    assert any("6 zones" in paragraph and "split conformal" in paragraph for paragraph in written["paragraphs"])
    assert any(reference.startswith("Park S") for reference in written["references"])


def test_shares_and_unsettled_intervals_are_said(report: dict[str, Any]):
    report["severity"].update(grades=[], score="spearman")
    report["severity"]["intervals"]["reach"]["sum"] = None
    page = render_report(report, curves={})
    assert "the share of it that is affected" in page and "too few images with all zones known" in page
