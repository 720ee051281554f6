"""The page of `medgraft inspect`: the head's weights and the hierarchy below it, for people who want to see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from medgraft import storage
from medgraft.report import pictures, rendering, svg
from medgraft.report.score_names import named
from medgraft.report.svg import COLOURS, DASHES, Panel, finite, picture, text

_CELL = 72


def write_inspect_page(
    told: Mapping[str, Any], drawn: Mapping[str, Any], *, folder: Path, title: str, phantoms: bool = False
) -> Path:
    """Write inspect.html and get its path.

    Args:
        told: what inspect.json holds.
        drawn: the pictures: "filters" and "patches" by net, "maps" by stage, "example", "drivers" by weight.
        folder: where the page goes.
        title: of the page.
        phantoms: the images are procedural; the page is stamped.
    """
    view = {
        "kind": "inspect",
        "title": title,
        "lead": "From edges to parts: what each stage of the encoder sees, and what the head makes of it.",
        "phantoms": phantoms,
        "filters": {
            name: _sheet(list(found), columns=16) for name, found in drawn["filters"].items() if found is not None
        },
        "stages": _stage_rows(told, drawn),
        "example": pictures.data_uri(drawn["example"]) if "example" in drawn else None,
        "separability_plot": _separability(told) if told.get("separability") else None,
        "score": named(str(told.get("score") or "score")).title,
        "head": _head_rows(told, drawn),
    }
    sections = (
        ("inspect_filters", "The first filters"),
        ("inspect_stages", "Stage by stage"),
        ("inspect_separability", "How well each stage tells the answers apart"),
        ("inspect_head", "The head"),
    )
    path = Path(folder) / "inspect.html"
    storage.write_text(path, rendering.page(sections, frame="plain.html", view=view))
    return path


def _sheet(images: Sequence[np.ndarray], *, columns: int) -> str:
    return pictures.data_uri(pictures.sheet([_grown(one) for one in images], columns=columns, cell=_CELL), most=1400)


def _grown(image: np.ndarray) -> np.ndarray:
    """Small pictures in whole steps, so that their pixels stay square."""
    times = max(1, _CELL // max(image.shape[:2]))
    return image.repeat(times, axis=0).repeat(times, axis=1)


def _stage_rows(told: Mapping[str, Any], drawn: Mapping[str, Any]) -> list[dict[str, Any]]:
    if "patches" not in drawn:
        return []
    rows = []
    for place, name in enumerate(told["stages"]):
        patches = {
            net: _sheet([one for unit in found[place] for one in unit], columns=6)
            for net, found in drawn["patches"].items()
        }
        rows.append({"name": name, "maps": _sheet(drawn["maps"][place], columns=8), "patches": patches})
    return rows


def _head_rows(told: Mapping[str, Any], drawn: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = told.get("head") or []
    return [
        {**row, "images": _sheet(images, columns=6)}
        for row, images in zip(rows, drawn.get("drivers") or [], strict=False)
    ]


def _separability(told: Mapping[str, Any]) -> Markup:
    """One line a net: the score of a head on each stage alone."""
    nets, stages = told["separability"], told["stages"]
    ends = [row[k] for rows in nets.values() for row in rows for k in ("value", "low", "high") if finite(row.get(k))]
    pad = (max(ends) - min(ends)) * 0.08 or 0.05
    panel = Panel(62, 14, 770, 220, (-0.4, len(stages) - 0.6), (min(ends) - pad, max(ends) + pad))
    body = [panel.axes("", named(str(told["score"])).title, x_ticks=(-1e9,))]
    for place, (net, rows) in enumerate(nets.items()):
        colour, shift = COLOURS[place % len(COLOURS)], place * 0.06
        xs = [k + shift for k in range(len(rows))]
        body.append(panel.path(xs, [row.get("value") for row in rows], colour=colour, dash=DASHES[place]))
        for x, row in zip(xs, rows, strict=True):
            if finite(row.get("low")) and finite(row.get("high")):
                low, high = panel.y(row["low"]), panel.y(row["high"])
                body.append(svg.line(panel.x(x), low, panel.x(x), high, colour=colour, width=1.4))
            if finite(row.get("value")):
                body.append(svg.dot(panel.x(x), panel.y(row["value"]), 4, fill=colour))
        left = 70 + place * 180
        body.append(svg.line(left, 284, left + 24, 284, colour=colour, width=2.4, dash=DASHES[place]))
        body.append(text(left + 30, 288, net, css="note"))
    for place, name in enumerate(stages):
        body.append(text(panel.x(place), panel.top + panel.height + 18, name, anchor="middle", css="tick"))
    return picture(body, width=850, height=300, title="Score of a head on each stage alone")
