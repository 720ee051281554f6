"""The part of the page about boxes: the FROC curve, sensitivity at false alarms, hits, misses and false alarms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from medgraft.report import pictures, svg
from medgraft.report.phrases import decimal, sentence, share_with_interval, value_of, with_interval
from medgraft.report.svg import BLUE, Panel, picture, text

_RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
_KINDS = {
    "hit": "Hits, the surest first",
    "missed": "Missed",
    "alarm": "False alarms, the surest first",
}


def is_found(report: Mapping[str, Any]) -> bool:
    """Say whether a report is of boxes."""
    return "map50" in ((report.get("scores") or {}).get("test") or {})


def flat(report: Mapping[str, Any]) -> dict[str, Any]:
    """Get the report with sensitivity at false alarms taken out of its tables, in which a score is a number each."""
    if not is_found(report):
        return dict(report)
    known = (report.get("data") or {}).get("split_by") == "patient"
    tables = {part: _renamed(table, known=known) for part, table in report["scores"].items()}
    told = {part: table.pop("sensitivity_at_fp", {}) for part, table in tables.items()}
    return {**report, "scores": tables, "sensitivity_at_fp": told.get("test") or {}}


def _renamed(table: Mapping[str, Any], *, known: bool) -> dict[str, Any]:
    """Where patients are not known, what is said of patients is said of images."""
    return {name if known else name.replace("patient_", "image_", 1): one for name, one in table.items()}


def view(report: Mapping[str, Any], curves: Mapping[str, Any]) -> dict[str, Any]:
    """Get what the section shows, of a report that `flat` gave; nothing where there are no boxes."""
    if not is_found(report):
        return {"found_plot": None}
    curve, close = curves.get("froc") or {}, curves.get("close") or ()
    score = report["scores"]["test"].get("froc") or {}
    label = f"FROC score {with_interval(score)}" if value_of(score) is not None else "FROC"
    return {
        "found_plot": froc(curve, label=label) if len(curve.get("x") or ()) else None,
        "found_rates": [(_rate(name), one) for name, one in (report.get("sensitivity_at_fp") or {}).items()],
        "found_planes": any(one["image"].shape[1] > 2 * one["image"].shape[0] for one in close),
        "found_close": [(title, _cards(close, kind)) for kind, title in _KINDS.items()],
        "found_rule": sentence(str((report.get("operating_point") or {}).get("rule") or "")),
    }


def _cards(close: Sequence[Mapping[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [
        {
            "address": pictures.data_uri(one["image"], most=int(one.get("most") or 224)),
            "label": one["label"],
            "score": None if one.get("score") is None else decimal(one["score"], 2),
            "key": one["key"],
        }
        for one in close
        if one["kind"] == kind
    ]


def _rate(name: str) -> str:
    return {"0.125": "1/8", "0.25": "1/4", "0.5": "1/2"}.get(name, name)


def froc(curve: Mapping[str, Any], *, label: str) -> Markup:
    """Draw a FROC curve with its band: sensitivity against false alarms an image, on a logarithmic axis."""
    panel = Panel(58, 14, 560, 300, (math.log2(_RATES[0]), math.log2(_RATES[-1])), (0.0, 1.0))
    xs = [math.log2(x) for x in curve["x"]]
    body = [
        panel.axes("", "Sensitivity", x_ticks=(-1e9,), y_ticks=(0.0, 0.25, 0.5, 0.75, 1.0)),
        panel.band(xs, curve.get("low") or (), curve.get("high") or (), colour=BLUE),
        panel.path(xs, curve["y"], colour=BLUE, width=2.4),
        text(panel.x(math.log2(_RATES[-1]) - 0.1), panel.y(0.05), label, anchor="end", css="label"),
    ]
    foot = panel.top + panel.height
    for rate in _RATES:
        where = panel.x(math.log2(rate))
        body.append(svg.line(where, foot, where, foot + 4))
        body.append(text(where, foot + 18, _rate(f"{rate:g}"), anchor="middle", css="tick"))
    body.append(text(panel.left + panel.width / 2, foot + 40, "False alarms an image", anchor="middle", css="axis"))
    return picture(body, width=640, height=370, title=f"FROC curve. {label}")


def words(report: Mapping[str, Any]) -> list[str]:
    """Get what was found at the thresholds, in sentences."""
    test = (report.get("scores") or {}).get("test") or {}
    found, right = test.get("recall"), test.get("precision")
    if value_of(found) is None or value_of(right) is None:
        return []
    said = (
        f"At the thresholds, chosen on validation images, it found {share_with_interval(found)} of the boxes, and "
        f"{share_with_interval(right)} of what it called was right."
    )
    return [said]
