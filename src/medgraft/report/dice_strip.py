"""Dice of every image as dots along a scale, a row a class, with the mean and its interval and the worst one named."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from medgraft.report import svg
from medgraft.report.phrases import count, decimal, has_interval, interval, value_of, with_interval
from medgraft.report.svg import BLUE, RUST, Panel, picture, text

_LEFT, _WIDE, _HIGH = 210, 400, 62
_REACH = 17.0  # pixels that dots lie from the middle of their row at most
_DOT = 2.6
_MOST_DOTS = 400


@dataclass(frozen=True)
class Strip:
    """One row.

    Attributes:
        name: of the class.
        score: the mean with its interval, or None.
        dice: value and key of each image, the lowest first.
    """

    name: str
    score: Mapping[str, Any] | None
    dice: tuple[tuple[float, str], ...]


def strips(rows: Sequence[Strip]) -> Markup:
    """Draw the rows on one scale, which begins below the lowest value."""
    lows = [row.dice[0][0] for row in rows]
    lows += [row.score["low"] for row in rows if row.score and has_interval(row.score)]
    floor = max(0.0, math.floor((min(lows) - 0.02) * 10) / 10)
    top = 8
    panel = Panel(_LEFT, top, _WIDE, _HIGH * len(rows), (min(floor, 0.9), 1.0), (0.0, 1.0))
    foot = top + panel.height
    body = []
    for value in svg.ticks(*panel.x_range):
        body.append(svg.line(panel.x(value), top, panel.x(value), foot, colour="#e9edf1"))
        body.append(text(panel.x(value), foot + 17, svg.tick(value), anchor="middle", css="tick"))
    body.append(text(_LEFT + _WIDE / 2, foot + 36, "Dice of an image", anchor="middle", css="axis"))
    for place, row in enumerate(rows):
        body.append(_row(panel, row, top + place * _HIGH))
    return picture(body, width=850, height=foot + 46, title="Dice of each test image, by class")


def _row(panel: Panel, row: Strip, top: float) -> str:
    middle, right = top + 22, panel.left + panel.width + 22
    worst, key = row.dice[0]
    lowest = f"worst {decimal(worst, 2)}, {key.rpartition('/')[2]}"
    parts = [
        text(0, middle, svg.shorten(row.name, _LEFT - 20, 12.5), css="label"),
        text(0, middle + 17, svg.shorten(lowest, _LEFT - 20, 11.5), css="note"),
        *_dots(panel, row, middle),
    ]
    score, value = row.score, value_of(row.score)
    if score is not None and value is not None:
        below = top + _HIGH - 15
        if has_interval(score):
            ends = [panel.x(score[end]) for end in ("low", "high")]
            parts.append(svg.line(ends[0], below, ends[1], below, colour=RUST, width=2.4))
        parts.append(svg.dot(panel.x(value), below, 4.2, fill=RUST, hint=with_interval(score)))
        parts.append(text(right, middle, decimal(value), css="tick dark bold"))
        parts.append(text(right + 42, middle, f"({interval(score) or 'no interval'})", css="tick dark"))
    parts.append(text(right, middle + 17, count(len(row.dice), "image"), css="note"))
    return "".join(parts)


def _dots(panel: Panel, row: Strip, middle: float) -> list[str]:
    """Put dots of nearly one value above each other, so that all are seen; the worst one stands out."""
    shown = row.dice[:: math.ceil(len(row.dice) / _MOST_DOTS)]
    columns: dict[int, list[tuple[float, str]]] = {}
    for value, key in shown:
        columns.setdefault(int(panel.x(value) / (2 * _DOT)), []).append((value, key))
    parts = []
    for column in columns.values():
        step = min(2 * _DOT, 2 * _REACH / len(column))
        for place, (value, key) in enumerate(column):
            y = middle - 4 + (place - (len(column) - 1) / 2) * step
            fill = RUST if (value, key) == row.dice[0] else BLUE
            parts.append(svg.dot(panel.x(value), y, _DOT, fill=fill, hint=f"{key}: {decimal(value)}"))
    return parts
