"""Drawing with a few SVG words: static, tiny, sharp in print, and inert.

Colours are attributes and the style sheet sets the type, so a page may forbid
inline styles and scripts. All text is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from medgraft.report.phrases import clean

INK = "#1d2a35"
MUTED = "#5d6b78"
RULE = "#d5dbe1"
BLUE = "#1f5f99"
RUST = "#c2500f"
# Told apart by people with any common colour blindness (after Okabe and Ito), darkened for white paper.
COLOURS = (BLUE, RUST, "#00805f", "#8a4f9e", "#a67c00", "#4a5560")
DASHES = ("", "7 3", "2 3", "9 3 2 3")


def number(value: float) -> str:
    """Get a coordinate with one decimal at most."""
    return f"{value:.1f}".removesuffix(".0")


def picture(body: Iterable[str], *, width: float, height: float, title: str, css: str = "plot") -> Markup:
    """Get a whole `<svg>`; `title` is read aloud in place of the picture."""
    head = (
        f'<svg class="{css}" viewBox="0 0 {number(width)} {number(height)}" width="{number(width)}" '
        f'height="{number(height)}" role="img" aria-label="{escape(clean(title))}">'
    )
    return Markup(head + "".join(body) + "</svg>")


def text(x: float, y: float, words: object, *, anchor: str = "start", css: str = "", turn: float = 0) -> str:
    """Get a line of text; `anchor` start, middle or end; `turn` in degrees about its own place."""
    extra = f' class="{css}"' if css else ""
    if anchor != "start":
        extra += f' text-anchor="{anchor}"'
    if turn:
        extra += f' transform="rotate({number(turn)} {number(x)} {number(y)})"'
    return f'<text x="{number(x)}" y="{number(y)}"{extra}>{escape(clean(str(words)))}</text>'


def line(x1: float, y1: float, x2: float, y2: float, *, colour: str = RULE, width: float = 1, dash: str = "") -> str:
    """Get a straight line."""
    extra = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<line x1="{number(x1)}" y1="{number(y1)}" x2="{number(x2)}" y2="{number(y2)}" '
        f'stroke="{colour}" stroke-width="{number(width)}"{extra}/>'
    )


def box(
    x: float, y: float, width: float, height: float, *, fill: str, stroke: str = "none", round_by: float = 0
) -> str:
    """Get a rectangle; a negative size becomes nothing."""
    return (
        f'<rect x="{number(x)}" y="{number(y)}" width="{number(max(width, 0))}" height="{number(max(height, 0))}" '
        f'fill="{fill}" stroke="{stroke}" rx="{number(round_by)}"/>'
    )


def dot(x: float, y: float, radius: float = 3, *, fill: str = BLUE, stroke: str = "#fff", hint: str = "") -> str:
    """Get a disc; `hint` shows under the pointer."""
    inner = f"<title>{escape(clean(hint))}</title>" if hint else ""
    return (
        f'<circle cx="{number(x)}" cy="{number(y)}" r="{number(radius)}" fill="{fill}" '
        f'stroke="{stroke}" stroke-width="1">{inner}</circle>'
    )


def shorten(words: str, room: float, size: float = 12) -> str:
    """Get words that fit into `room` pixels at a font size; the middle gives way, as names differ at their ends."""
    words = clean(words)
    if width_of(words, size) <= room:
        return words
    for kept in range(len(words) - 1, 1, -1):
        head = math.ceil(kept * 0.6)
        cut = f"{words[:head].rstrip()}…{words[len(words) - (kept - head) :].lstrip() if kept > head else ''}"
        if width_of(cut, size) <= room:
            return cut
    return words[:1] + "…"


def width_of(words: str, size: float = 12) -> float:
    """Get about how wide words are in a sans-serif face, in pixels (a little too wide rather than too narrow)."""
    return size * sum(_letter_width(letter) for letter in words)


def _letter_width(letter: str) -> float:
    if ord(letter) > 0x2E80:
        return 1.0
    if letter in "mwMW@%":
        return 0.92
    if letter in " .,:;|!iIl'()[]":
        return 0.33
    return 0.7 if letter.isupper() else 0.57


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Get round values inside low..high, about `count` of them."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low] if math.isfinite(low) else []
    raw = (high - low) / max(count, 1)
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def tick(value: float) -> str:
    """Get a tick label, with a true minus sign."""
    return f"{value:g}".replace("-", "−")


def blend(share: float, colour: str) -> str:
    """Get a colour between white (0) and `colour` (1)."""
    share = min(max(share, 0.0), 1.0)
    parts = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(255 + (part - 255) * share):02x}" for part in parts)


@dataclass(frozen=True)
class Panel:
    """The inner part of a plot: data values inside, pixels outside.

    Attributes:
        left, top, width, height: in pixels of the picture.
        x_range, y_range: the data values at its edges.
    """

    left: float
    top: float
    width: float
    height: float
    x_range: tuple[float, float] = (0.0, 1.0)
    y_range: tuple[float, float] = (0.0, 1.0)

    def x(self, value: float) -> float:
        """Get the pixel column of a data value."""
        low, high = self.x_range
        return self.left + (value - low) / ((high - low) or 1) * self.width

    def y(self, value: float) -> float:
        """Get the pixel row of a data value; larger values are higher up."""
        low, high = self.y_range
        return self.top + self.height - (value - low) / ((high - low) or 1) * self.height

    def axes(self, x_label: str, y_label: str, *, x_ticks: Sequence[float] = (), y_ticks: Sequence[float] = ()) -> str:
        """Get grid, tick labels and axis titles."""
        right, bottom = self.left + self.width, self.top + self.height
        parts = []
        for value in y_ticks or ticks(*self.y_range):
            parts.append(line(self.left, self.y(value), right, self.y(value), colour="#e9edf1"))
            parts.append(text(self.left - 7, self.y(value) + 4, tick(value), anchor="end", css="tick"))
        for value in x_ticks or ticks(*self.x_range):
            parts.append(line(self.x(value), bottom, self.x(value), bottom + 4, colour=MUTED))
            parts.append(text(self.x(value), bottom + 17, tick(value), anchor="middle", css="tick"))
        parts.append(line(self.left, bottom, right, bottom, colour=MUTED))
        if x_label:
            parts.append(text(self.left + self.width / 2, bottom + 36, x_label, anchor="middle", css="axis"))
        if y_label:
            middle = self.top + self.height / 2
            widest = max([width_of(tick(value)) for value in y_ticks or ticks(*self.y_range)] or [0.0])
            place = max(10.0, self.left - max(42.0, widest + 18))
            parts.append(text(place, middle, y_label, anchor="middle", css="axis", turn=-90))
        return "".join(parts)

    def path(self, xs: Sequence[object], ys: Sequence[object], *, colour: str, width: float = 2, dash: str = "") -> str:
        """Get a line through the points; points that are not finite break it."""
        moves = " ".join(_moves(self._runs(xs, ys)))
        if not moves:
            return ""
        extra = f' stroke-dasharray="{dash}"' if dash else ""
        return (
            f'<path d="{moves}" fill="none" stroke="{colour}" stroke-width="{number(width)}" '
            f'stroke-linejoin="round" stroke-linecap="round"{extra}/>'
        )

    def band(self, xs: Sequence[object], low: Sequence[object], high: Sequence[object], *, colour: str) -> str:
        """Get the filled area between two curves."""
        keep = [i for i in range(min(len(xs), len(low), len(high))) if all(finite(v) for v in (xs[i], low[i], high[i]))]
        upper = self._runs([xs[i] for i in keep], [high[i] for i in keep])
        lower = self._runs([xs[i] for i in keep], [low[i] for i in keep])
        if not upper or not lower or len(upper[0]) < 2:
            return ""
        points = upper[0] + lower[0][::-1]
        joined = " ".join(f"{number(x)},{number(y)}" for x, y in points)
        return f'<polygon points="{joined}" fill="{colour}" fill-opacity="0.16" stroke="none"/>'

    def _runs(self, xs: Sequence[object], ys: Sequence[object]) -> list[list[tuple[float, float]]]:
        """Split at gaps, and drop points that fall on the same half pixel as the one before."""
        runs: list[list[tuple[float, float]]] = [[]]
        for x, y in zip(xs, ys, strict=False):
            if not (finite(x) and finite(y)):
                runs.append([])
                continue
            point = (round(self.x(float(x)) * 2) / 2, round(self.y(float(y)) * 2) / 2)  # type: ignore[arg-type]
            if not runs[-1] or runs[-1][-1] != point:
                runs[-1].append(point)
        return [run for run in runs if run]


def finite(value: object) -> bool:
    """Say whether a value is a number that can be drawn."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _moves(runs: list[list[tuple[float, float]]]) -> list[str]:
    return ["M" + " L".join(f"{number(x)} {number(y)}" for x, y in _straight(run)) for run in runs if len(run) > 1]


def _straight(run: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Drop the middle of three points on one horizontal or vertical line."""
    kept = run[:1]
    for point, after in zip(run[1:], [*run[2:], None], strict=True):
        before = kept[-1]
        if after and (before[0] == point[0] == after[0] or before[1] == point[1] == after[1]):
            continue
        kept.append(point)
    return kept
