"""The part of the page about changed images: the score at graded strengths, one small panel a kind of change."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from medgraft import storage
from medgraft.report import rendering, svg
from medgraft.report.phrases import count, decimal, interval, value_of
from medgraft.report.score_names import named
from medgraft.report.svg import COLOURS, DASHES, MUTED, Panel, finite, picture, text
from medgraft.report.verdict import of

_COLUMNS, _SIDE, _HIGH, _GAP_X, _GAP_Y = 4, 168, 120, 42, 66
_NOTABLE = 0.05


def view(report: Mapping[str, Any]) -> dict[str, Any]:
    """Get what the section shows; nothing where no image was changed."""
    told = of(report, "stress")
    if not told.get("changes") or not _values(told):
        return {"stress_plot": None, "stress_words": "", "stress_caption": ""}
    return {
        "stress_plot": draw({"model": told}),
        "stress_words": _words(told),
        "stress_caption": _caption(told, others=False),
    }


def _caption(told: Mapping[str, Any], *, others: bool) -> str:
    score = named(str(told["score"])).title
    said = f"{score} on {count(told['images'], 'test image')}, changed more and more, with 95 % intervals"
    return (
        f"{said}; the dotted line is the score of the first run on unchanged images."
        if others
        else (f"{said}; the dotted line is the score on the images as they are.")
    )


def _words(told: Mapping[str, Any]) -> str:
    """Name what hurts most, at the second of three strengths: moderate changes are those that happen."""
    moderate = []
    for change in told["changes"]:
        point = change["points"][min(1, len(change["points"]) - 1)]
        if point.get("drop") is not None:
            moderate.append((float(point["drop"]), change, point))
    if not moderate:
        return ""
    worst, change, point = max(moderate, key=lambda row: row[0])
    score = named(str(told["score"])).title
    where = f"{change['title'].lower()} ({change['unit']} {point['strength']:g})"
    if worst < _NOTABLE:
        return f"No moderate change costs more than {decimal(max(worst, 0.0))} {score}; the most, {where}."
    rest = [one["title"].lower() for drop, one, _ in sorted(moderate, key=lambda row: -row[0]) if drop >= _NOTABLE][1:]
    more = f" {', '.join(rest).capitalize()} cost more than {decimal(_NOTABLE, 2)} too." if rest else ""
    return f"Of moderate changes {where} costs most: {decimal(worst)} {score}.{more}"


def draw(runs: Mapping[str, Mapping[str, Any]]) -> Markup:
    """Draw a panel a kind of change; one line a run.

    Args:
        runs: name -> what report.json holds under "stress".
    """
    first = next(iter(runs.values()))
    names = [change["name"] for change in first["changes"]]
    values = [value for told in runs.values() for value in _values(told)]
    low, high = min(values), max(values)
    pad = (high - low) * 0.06 or 0.02
    body = []
    for place, name in enumerate(names):
        left = 44 + (place % _COLUMNS) * (_SIDE + _GAP_X)
        top = 26 + (place // _COLUMNS) * (_HIGH + _GAP_Y)
        body.append(_panel(runs, name, left=left, top=top, y_range=(low - pad, high + pad)))
    rows = math.ceil(len(names) / _COLUMNS)
    width, height = 44 + _COLUMNS * (_SIDE + _GAP_X) - _GAP_X + 8, 26 + rows * (_HIGH + _GAP_Y) - 8
    if len(runs) > 1:
        body += _legend(list(runs), height + 6)
        height += 24
    return picture(body, width=width, height=height, title="Score against the strength of each change")


def _values(told: Mapping[str, Any]) -> list[float]:
    scores = [told["plain"], *(point["score"] for change in told["changes"] for point in change["points"])]
    return [float(score[name]) for score in scores for name in ("value", "low", "high") if finite(score.get(name))]


def _panel(
    runs: Mapping[str, Mapping[str, Any]], name: str, *, left: float, top: float, y_range: tuple[float, float]
) -> str:
    first = next(change for change in next(iter(runs.values()))["changes"] if change["name"] == name)
    steps = len(first["points"])
    panel = Panel(left, top, _SIDE, _HIGH, (-0.25, steps + 0.25), y_range)
    parts = [text(left, top - 9, first["title"], css="label"), panel.axes("", "", x_ticks=(-1e9,))]
    plain = value_of(next(iter(runs.values()))["plain"])
    if plain is not None:
        parts.append(svg.line(left, panel.y(plain), left + _SIDE, panel.y(plain), colour=MUTED, dash="2 3"))
    for place, (label, told) in enumerate(runs.items()):
        change = next((one for one in told["changes"] if one["name"] == name), None)
        if change is not None:
            scores = [told["plain"], *(point["score"] for point in change["points"])]
            parts.append(_line(panel, scores, place, label))
    words = ["as it is", *(svg.tick(point["strength"]) for point in first["points"])]
    for step, word in enumerate(words):
        parts.append(text(panel.x(step), top + _HIGH + 16, word if step else "0", anchor="middle", css="tick"))
    parts.append(text(left + _SIDE / 2, top + _HIGH + 33, first["unit"], anchor="middle", css="note"))
    return "".join(parts)


def _line(panel: Panel, scores: Sequence[Mapping[str, Any]], place: int, label: str) -> str:
    colour, shift = COLOURS[place % len(COLOURS)], (place - 0.5) * 0.08 if place else 0.0
    steps = [step + shift for step in range(len(scores))]
    parts = [
        panel.path(steps, [score.get("value") for score in scores], colour=colour, dash=DASHES[place % len(DASHES)])
    ]
    for step, score in zip(steps, scores, strict=True):
        if not finite(score.get("value")):
            continue
        if finite(score.get("low")) and finite(score.get("high")):
            ends = panel.y(score["low"]), panel.y(score["high"])
            parts.append(svg.line(panel.x(step), ends[0], panel.x(step), ends[1], colour=colour, width=1))
        hint = f"{label}: {decimal(score['value'])} ({interval(score)})"
        parts.append(svg.dot(panel.x(step), panel.y(score["value"]), 2.6, fill=colour, hint=hint))
    return "".join(parts)


def _legend(names: Sequence[str], y: float) -> list[str]:
    parts, left = [], 44.0
    for place, name in enumerate(names):
        colour = COLOURS[place % len(COLOURS)]
        parts.append(svg.line(left, y, left + 24, y, colour=colour, width=2.4, dash=DASHES[place % len(DASHES)]))
        parts.append(text(left + 30, y + 4, name, css="note"))
        left += 52 + svg.width_of(name, 12)
    return parts


def write_stress_page(runs: Mapping[str, Mapping[str, Any]], *, folder: Path, phantoms: bool = False) -> Path:
    """Write stress.html, which lays runs over each other, and get its path.

    Args:
        runs: name -> what report.json holds under "stress", of the same test images.
        folder: where the page goes.
        phantoms: the images are procedural; the page is stamped.
    """
    path = Path(folder) / "stress.html"
    storage.write_text(path, render_stress(runs, phantoms=phantoms))
    return path


def render_stress(runs: Mapping[str, Mapping[str, Any]], *, phantoms: bool = False) -> str:
    """Get stress.html as text; see `write_stress_page`."""
    first = next(iter(runs.values()))
    said = {
        "kind": "stress",
        "title": "Changed images",
        "lead": " ".join(f"{name}: {_words(told)}" if len(runs) > 1 else _words(told) for name, told in runs.items()),
        "phantoms": phantoms,
        "stress_plot": draw(runs),
        "stress_caption": _caption(first, others=len(runs) > 1),
        "stress_runs": {
            name: {"plain": told["plain"], "mean_drop": told.get("mean_drop"), "rows": _rows(told)}
            for name, told in runs.items()
        },
        "score": named(str(first["score"])).title,
    }
    return rendering.page((("stress_table", "Score against strength"),), frame="plain.html", view=said)


def _rows(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = []
    for change in told["changes"]:
        drops = [point["drop"] for point in change["points"] if point.get("drop") is not None]
        found.append({"title": change["title"], "mean_drop": sum(drops) / len(drops) if drops else None, **change})
    return found
