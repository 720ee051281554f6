"""The part of the page about severities of zones: scores, the grid of zones, sums against the truth, maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from medgraft.report import pictures, plots, svg
from medgraft.report.maps import laid_over
from medgraft.report.phrases import decimal, interval, percent, value_of
from medgraft.report.score_names import named
from medgraft.report.verdict import of

_WIDE, _HIGH = 150, 76
_DEEP = "#2b6ca3"


def view(report: Mapping[str, Any], curves: Mapping[str, Any]) -> dict[str, Any]:
    """Get what the section shows; nothing where the run has no zones."""
    told = of(report, "severity")
    if not told.get("zones"):
        return {"severity_scores": {}}
    sums = of(curves, "sums")
    return {
        "severity_scores": table(told),
        "severity_words": words(told),
        "severity_grid": zone_grid(told["zones"], tuple(told["grid"]), title=named(str(told["score"])).title),
        "severity_grid_words": named(str(told["score"])).title,
        "severity_plots": plots.agreement(sums["true"], sums["predicted"], unit="") if sums.get("true") else None,
        "severity_maps": [_card(one) for one in curves.get("maps") or ()],
    }


def table(told: Mapping[str, Any]) -> dict[str, Any]:
    """Get the scores of zones and sums by their names, and how often their intervals held the truth."""
    covered = {f"{name}_covered": score for name, score in of(told, "intervals", "covered").items()}
    return {**{name: score for name, score in of(told, "scores").items() if score}, **covered}


def words(told: Mapping[str, Any]) -> list[str]:
    """Get what a reader has to know of the zones, in sentences; `told` is `severity` of the report."""
    rows, columns = told["grid"]
    said = [f"The image is parted into {rows} × {columns} zones, and each has a severity"]
    grades = told.get("grades") or ()
    said[0] += f": a grade from {grades[0]:g} to {grades[-1]:g}." if grades else ": the share of it that is affected."
    said.append("Their sum is the severity of the image. Zones whose truth is not known are not judged.")
    checked = of(told, "intervals")
    reach = of(checked, "reach").get("sum")
    if reach is not None:
        said.append(
            f"Around each sum stands an interval of {decimal(reach)} to either side, from validation images, that is "
            f"meant to hold the truth for {percent(float(checked['coverage']))} of images."
        )
    elif checked:
        said.append("Validation had too few images with all zones known to settle an interval around the sum.")
    return said


def zone_grid(zones: Sequence[Mapping[str, Any]], grid: tuple[int, int], *, title: str) -> Markup:
    """Draw the grid of zones with the score of each, the better the deeper."""
    body = []
    for zone in zones:
        row, column = zone["cell"]
        x, y, score = column * _WIDE, row * _HIGH, zone["score"]
        value = value_of(score)
        share = 0.0 if value is None else max(0.0, float(value))
        css = "cell white" if share > 0.7 else "cell"
        fill = "#f3f5f7" if value is None else svg.blend(0.06 + 0.86 * share, _DEEP)
        body.append(svg.box(x + 1, y + 1, _WIDE - 2, _HIGH - 2, fill=fill, stroke="#e3e8ec", round_by=2))
        middle = x + _WIDE / 2
        small = "note white" if share > 0.7 else "note"
        body.append(svg.text(middle, y + 20, svg.shorten(str(zone["name"]), _WIDE - 8, 11), anchor="middle", css=small))
        body.append(svg.text(middle, y + 42, "–" if value is None else decimal(value), anchor="middle", css=css))
        body.append(svg.text(middle, y + 62, interval(score) if value is not None else "", anchor="middle", css=small))
    words = f"{title} of each zone, laid out as in the image"
    return svg.picture(body, width=grid[1] * _WIDE, height=grid[0] * _HIGH, title=words)


def _card(one: Mapping[str, Any]) -> dict[str, Any]:
    true = "" if one.get("true") is None else f"true {decimal(one['true'])}, "
    return {
        "key": one["key"],
        "plain": pictures.data_uri(one["image"], most=240),
        "address": pictures.data_uri(laid_over(one["image"], one["map"]), most=240),
        "words": f"{true}predicted {decimal(one['predicted'])}",
    }
