"""The part of the page about outlines: how well structures are drawn when they are shown, before and after tuning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medgraft.report.phrases import count, listed, value_of, with_interval

_WAYS = {"iou_box": "by a box", "iou_point": "by one point"}


def is_outlined(report: Mapping[str, Any]) -> bool:
    """Say whether a report is of a model that outlines what it is shown."""
    return "iou_box" in _test(report)


def _test(report: Mapping[str, Any]) -> Mapping[str, Any]:
    return (report.get("scores") or {}).get("test") or {}


def question(report: Mapping[str, Any]) -> str:
    """Get what was asked."""
    names = listed([f"“{name}”" for name in report.get("classes") or ()], "or")
    return f"Where does the {names} end that a box or a point shows?"


def main(report: Mapping[str, Any], *, number: str) -> str:
    """Get the main sentence, of which the subject is the model."""
    names = listed([f"“{name}”" for name in report.get("classes") or ()])
    return f"outlined {names}, shown by a box, with a mean overlap (IoU) of {number}."


def words(report: Mapping[str, Any]) -> list[str]:
    """Get what else a reader should take away."""
    told = report.get("outlining") or {}
    point = _test(report).get("iou_point") or {}
    said = [f"Shown by one point it was {with_interval(point)}."] if value_of(point) is not None else []
    number = (told.get("structures") or {}).get("test")
    said += [f"{count(number, 'structure')} were shown."] if number else []
    gain = (told.get("gain") or {}).get("iou_box") or {}
    if value_of(gain) is not None:
        low, high = gain.get("low"), gain.get("high")
        sure = low is not None and low > 0
        lost = high is not None and high < 0
        what = "Tuning bought" if sure else "Tuning cost" if lost else "Whether tuning bought anything is not sure:"
        said.append(f"{what} {with_interval(gain)} by a box.")
    return said


def view(report: Mapping[str, Any]) -> dict[str, Any]:
    """Get what the section shows; nothing where nothing is outlined."""
    if not is_outlined(report):
        return {"prompted": False, "outlined_rows": []}
    told = report.get("outlining") or {}
    rows = []
    for name, way in _WAYS.items():
        before, gain = ((told.get(part) or {}).get(name) for part in ("before", "gain"))
        rows.append({"way": way, "before": before, "after": _test(report).get(name), "gain": gain})
    return {"prompted": True, "outlined_rows": rows if told.get("before") else []}
