"""How drawn and true sizes of structures agree: differences against means, a panel a class (Bland and Altman)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from medgraft.report import svg
from medgraft.report.phrases import has_interval, value_of, whole
from medgraft.report.svg import BLUE, RUST, Panel, picture, text
from medgraft.scores.delong import Z95

_MOST_DOTS = 600
# Name, words, dash, how far the words and how far the interval stand away, in pixels.
_LINES = (("bias", "bias", "", -5, 8), ("high", "upper limit", "5 4", -5, 16), ("low", "lower limit", "5 4", 14, 24))
_INTERVAL = "#e3b08f"
_SCALES = {  # unit of the rows -> from which size on, in what, and how many of the rows' units that is
    "mm3": ((1000.0, "ml", 1000.0), (0.0, "mm³", 1.0)),
    "mm2": ((10_000.0, "cm²", 100.0), (0.0, "mm²", 1.0)),
    "px": ((100_000.0, "thousand pixels", 1000.0), (0.0, "pixels", 1.0)),
}


@dataclass(frozen=True)
class Unit:
    """What sizes are measured in.

    Attributes:
        name: as the names of scores end, "mm2", "mm3" or "px".
        what: "areas", "volumes", or "sizes" where it is not known which.
    """

    name: str
    what: str


@dataclass(frozen=True)
class Sizes:
    """One panel.

    Attributes:
        name: of the class.
        pairs: true and drawn size of each image, in the unit of the rows.
        scores: of the class: the bias and both limits with their intervals, where they are known.
    """

    name: str
    pairs: tuple[tuple[float, float], ...]
    scores: Mapping[str, Any]


def unit_of(report: Mapping[str, Any]) -> Unit:
    """Get what the sizes of a report are measured in."""
    axes = report["drawing"].get("axes")
    for row in (report.get("per_class") or {}).values():
        axes = {"volume_bias_mm2": 2, "volume_bias_mm3": 3}.get(next((n for n in row if "bias_mm" in n), ""), axes)
    what = {2: "areas", 3: "volumes"}.get(axes, "sizes")
    return Unit(f"mm{axes or 3}" if report["drawing"].get("unit") == "mm" else "px", what)


def agreements(panels: Sequence[Sizes], *, unit: Unit) -> Markup:
    """Draw the panels in rows of three at most, all in one unit."""
    largest = max(size for one in panels for pair in one.pairs for size in pair)
    words, scale = next((words, scale) for least, words, scale in _SCALES[unit.name] if largest >= least)
    columns = min(len(panels), 3)
    side, gap = ((330, 86), (330, 86), (214, 76))[columns - 1]
    rows = math.ceil(len(panels) / columns)
    body = []
    for place, one in enumerate(panels):
        left, top = 62 + place % columns * (side + gap), 26 + place // columns * (side + 78)
        body.append(text(left, top - 9, svg.shorten(one.name, side, 12.5), css="label"))
        body.append(_panel(one, unit, scale=scale, words=words, place=(left, top, side)))
    title = "Bland-Altman plot: drawn minus true size against their mean, by class"
    wide = 62 + columns * (side + gap) - gap + 10
    return picture(body, width=wide, height=26 + rows * (side + 78) - 30, title=title)


def _panel(one: Sizes, unit: Unit, *, scale: float, words: str, place: tuple[float, float, float]) -> str:
    left, top, side = place
    points = [((true + drawn) / 2 / scale, (drawn - true) / scale) for true, drawn in one.pairs]
    levels = _levels(one, unit, scale)
    means = [x for x, _ in points]
    ends = [value for level in levels.values() for value in level.values()]
    heights = [0.0, *(y for _, y in points), *ends]
    pad = (max(means) - min(means)) * 0.05 or 1.0 / scale
    room = (max(heights) - min(heights)) * 0.08 or 1.0
    # Room on the left for the intervals.
    wide, high = (min(means) - 2.5 * pad, max(means) + pad), (min(heights) - room, max(heights) + room)
    panel = Panel(left, top, side, side, wide, high)
    body = [panel.axes(f"Mean of true and drawn ({words})", f"Drawn − true ({words})")]
    right = panel.left + panel.width
    body.append(svg.line(left, panel.y(0), right, panel.y(0), colour="#a9b3bd", dash="4 4"))
    for name, label, dash, away, aside in _LINES:
        level = levels[name]
        if has_interval(level):
            x, ends = left + aside, [panel.y(level[end]) for end in ("low", "high")]
            body.append(svg.line(x, ends[0], x, ends[1], colour=_INTERVAL, width=4))
        y = panel.y(level["value"])
        body.append(svg.line(left, y, right, y, colour=RUST, width=1.4, dash=dash))
        body.append(text(right - 4, y + away, f"{label} {figure(level['value'])}", anchor="end", css="note rust halo"))
    for x, y in points[:: math.ceil(len(points) / _MOST_DOTS)]:
        at = f'cx="{svg.number(panel.x(x))}" cy="{svg.number(panel.y(y))}"'
        body.append(f'<circle {at} r="2.6" fill="{BLUE}" fill-opacity="0.5"/>')
    return "".join(body)


def _levels(one: Sizes, unit: Unit, scale: float) -> dict[str, dict[str, float]]:
    """Get bias and limits, from the scores of the class, or of the pairs where there are none."""
    gaps = [drawn - true for true, drawn in one.pairs]
    bias = sum(gaps) / len(gaps)
    reach = Z95 * math.sqrt(sum((gap - bias) ** 2 for gap in gaps) / (len(gaps) - 1))
    own = {"bias": bias, "low": bias - reach, "high": bias + reach}
    found = {}
    for name, value in own.items():
        score = one.scores.get(f"volume_{name}_{unit.name}") or {}
        known = value_of(score)
        found[name] = {"value": (value if known is None else known) / scale}
        if known is not None and has_interval(score):
            found[name] |= {end: float(score[end]) / scale for end in ("low", "high")}
    return found


def figure(value: float) -> str:
    """Get a size with three digits that count, and a true minus sign.

    Example:
        >>> figure(-0.01234), figure(5235.6).replace(chr(0x202F), " ")
        ('−0.0123', '5 236')
    """
    words = whole(value) if abs(value) >= 100 else f"{float(f'{value:.3g}'):g}"
    return words.replace("-", "−")
