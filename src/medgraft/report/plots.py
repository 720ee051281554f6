"""Curves and clouds: ROC, precision-recall, reliability, training, agreement, depth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from medgraft.report import svg
from medgraft.report.phrases import decimal, has_interval, interval, percent, value_of
from medgraft.report.svg import BLUE, MUTED, RUST, Panel, finite, picture, text

_UNIT = (0.0, 0.25, 0.5, 0.75, 1.0)
_SQUARE = Panel(left=58, top=14, width=330, height=330)
MOST_PANELS = 24


def roc(curve: Mapping[str, Any], *, label: str, point: Mapping[str, Any] | None = None) -> Markup:
    """Draw one ROC curve with its band; `point` is an operating point to mark."""
    panel = _SQUARE
    body = [
        panel.axes("1 − specificity", "Sensitivity", x_ticks=_UNIT, y_ticks=_UNIT),
        svg.line(panel.x(0), panel.y(0), panel.x(1), panel.y(1), colour="#a9b3bd", dash="4 4"),
        panel.band(curve["x"], curve.get("low") or (), curve.get("high") or (), colour=BLUE),
        panel.path(curve["x"], curve["y"], colour=BLUE, width=2.4),
        text(panel.x(0.98), panel.y(0.05), label, anchor="end", css="label"),
        _marked(panel, point),
    ]
    return picture(body, width=400, height=394, title=f"ROC curve. {label}")


def _marked(panel: Panel, point: Mapping[str, Any] | None) -> str:
    sensitivity, specificity = ((point or {}).get(name) for name in ("sensitivity", "specificity"))
    y, x = value_of(sensitivity), value_of(specificity)
    if x is None or y is None:
        return ""
    parts = []
    if has_interval(sensitivity) and sensitivity:
        parts.append(_whisker(panel, 1 - x, sensitivity["low"], sensitivity["high"], colour=RUST))
    if has_interval(specificity) and specificity:
        ends = [panel.x(1 - specificity[name]) for name in ("low", "high")]
        parts.append(svg.line(ends[0], panel.y(y), ends[1], panel.y(y), colour=RUST, width=1.5))
    parts.append(svg.dot(panel.x(1 - x), panel.y(y), 5, fill=RUST, hint="the threshold chosen on validation"))
    below = panel.y(y) + 20 if y > 0.2 else panel.y(y) - 10
    parts.append(text(panel.x(1 - x) + 9, below, "chosen threshold", css="note rust halo"))
    return "".join(parts)


def _whisker(panel: Panel, x: float, low: float, high: float, *, colour: str, width: float = 1.5) -> str:
    return svg.line(panel.x(x), panel.y(low), panel.x(x), panel.y(high), colour=colour, width=width)


def precision_recall(curve: Mapping[str, Any], *, label: str) -> Markup:
    """Draw one precision-recall curve with its band and the share of positives as a floor."""
    panel = _SQUARE
    share = curve.get("prevalence")
    body = [
        panel.axes("Recall (sensitivity)", "Precision (PPV)", x_ticks=_UNIT, y_ticks=_UNIT),
        panel.band(curve["x"], curve.get("low") or (), curve.get("high") or (), colour=BLUE),
        panel.path(curve["x"], curve["y"], colour=BLUE, width=2.4),
    ]
    if finite(share) and share is not None:
        body.insert(1, svg.line(panel.x(0), panel.y(share), panel.x(1), panel.y(share), colour="#a9b3bd", dash="4 4"))
        beside = panel.y(share) + (15 if share > 0.1 else -6)
        body.append(text(panel.x(0.02), beside, f"share of positives {percent(share)}", css="note halo"))
    body.append(text(panel.x(0.98), panel.y(0.05), label, anchor="end", css="label"))
    return picture(body, width=400, height=394, title=f"Precision-recall curve. {label}")


def small_multiples(curves: Mapping[str, Mapping[str, Any]], *, labels: Mapping[str, str], kind: str) -> Markup:
    """Draw a small panel for each class, the others in pale gray behind; `kind` "roc" or "pr"."""
    names = list(curves)[:MOST_PANELS]
    columns = 3 if len(names) < 4 or len(names) in (5, 6, 9) else 4
    side, gap_x, gap_y = (176, 48, 74) if columns == 4 else (242, 54, 76)
    rows = math.ceil(len(names) / columns)
    body = []
    for place, name in enumerate(names):
        left, top = 44 + (place % columns) * (side + gap_x), 26 + (place // columns) * (side + gap_y)
        panel = Panel(left=left, top=top, width=side, height=side)
        body.append(text(left, top - 9, svg.shorten(name, side, 12.5), css="label"))
        body.append(panel.axes("", "", x_ticks=(0, 0.5, 1), y_ticks=(0, 0.5, 1)))
        if kind == "roc":
            body.append(svg.line(panel.x(0), panel.y(0), panel.x(1), panel.y(1), colour="#a9b3bd", dash="3 3"))
        body += [panel.path(curves[n]["x"], curves[n]["y"], colour="#dfe4e9", width=1) for n in names if n != name]
        one = curves[name]
        body.append(panel.band(one["x"], one.get("low") or (), one.get("high") or (), colour=BLUE))
        body.append(panel.path(one["x"], one["y"], colour=BLUE))
        body.append(text(left + side / 2, top + side + 34, labels.get(name, ""), anchor="middle", css="note"))
    width = 44 + columns * (side + gap_x) - gap_x + 8
    title = "ROC curve of each class" if kind == "roc" else "Precision-recall curve of each class"
    return picture(body, width=width, height=26 + rows * (side + gap_y) - 30, title=title)


def reliability(bins: Mapping[str, Sequence[Mapping[str, Any]]]) -> Markup:
    """Draw observed against predicted before and after the temperature, and how many images stand behind each bin."""
    panel = Panel(left=58, top=14, width=330, height=270)
    strip = Panel(left=58, top=324, width=330, height=44)
    body = [
        panel.axes("", "Observed share", x_ticks=_UNIT, y_ticks=_UNIT),
        svg.line(panel.x(0), panel.y(0), panel.x(1), panel.y(1), colour="#a9b3bd", dash="4 4"),
    ]
    shown = [name for name in ("before", "after") if bins.get(name)]
    for row, name in enumerate(shown):
        colour = BLUE if name == shown[-1] else "#9aa5b1"
        points = [b for b in bins[name] if finite(b.get("p")) and finite(b.get("observed"))]
        body.append(_bins(panel, points, colour))
        words = f"{name} temperature" if len(shown) > 1 else "model"
        body.append(
            svg.line(
                panel.x(0.03),
                panel.y(0.96 - row * 0.075),
                panel.x(0.1),
                panel.y(0.96 - row * 0.075),
                colour=colour,
                width=2.2,
            )
        )
        body.append(text(panel.x(0.12), panel.y(0.96 - row * 0.075) + 4, words, css="note"))
    body.append(_histogram(strip, bins[shown[-1]] if shown else ()))
    body.append(
        text(
            strip.left + strip.width / 2,
            strip.top + strip.height + 34,
            "Predicted probability",
            anchor="middle",
            css="axis",
        )
    )
    return picture(body, width=400, height=408, title="Calibration: observed share against predicted probability")


def _bins(panel: Panel, points: Sequence[Mapping[str, Any]], colour: str) -> str:
    parts = [panel.path([b["p"] for b in points], [b["observed"] for b in points], colour=colour, width=1.8)]
    for one in points:
        if finite(one.get("low")) and finite(one.get("high")):
            parts.append(_whisker(panel, one["p"], one["low"], one["high"], colour=colour, width=1.2))
        hint = f"predicted {decimal(one['p'], 2)}, observed {decimal(one['observed'], 2)}, n {one.get('n', '?')}"
        parts.append(svg.dot(panel.x(one["p"]), panel.y(one["observed"]), 3.6, fill=colour, hint=hint))
    return "".join(parts)


def _histogram(strip: Panel, bins: Sequence[Mapping[str, Any]]) -> str:
    bottom = strip.top + strip.height
    known = [b for b in bins if finite(b.get("p")) and finite(b.get("n"))]
    most = max([b["n"] for b in known] or [1]) or 1
    parts = [svg.line(strip.left, bottom, strip.left + strip.width, bottom, colour=MUTED)]
    parts.append(text(strip.left - 7, strip.top + 9, f"{most:g}", anchor="end", css="tick"))
    parts.append(text(strip.left - 7, bottom, "n", anchor="end", css="tick"))
    for one in known:
        height = one["n"] / most * strip.height
        parts.append(svg.box(strip.x(one["p"]) - 6, bottom - height, 12, height, fill="#b9cde0"))
    parts += [text(strip.x(v), bottom + 15, f"{v:g}", anchor="middle", css="tick") for v in _UNIT]
    return "".join(parts)


def training(
    rows: Sequence[Mapping[str, Any]], *, names: Sequence[str], best: int | None, y_label: str
) -> Markup | None:
    """Draw one or more columns of the training log against the epoch; None when there is nothing to draw."""
    known = [name for name in names if any(finite(row.get(name)) for row in rows)]
    if not known:
        return None
    epochs = [row.get("epoch", place) for place, row in enumerate(rows)]
    values = [float(row[name]) for row in rows for name in known if finite(row.get(name))]
    low, high = min(values), max(values)
    pad = (high - low) * 0.08 or max(abs(high) * 0.1, 0.05)
    floor = 0.0 if low >= 0 and low - pad < high * 0.35 else low - pad
    first, last = min(epochs), max(epochs)
    panel = Panel(58, 14, 330, 210, (first, last if last > first else first + 1), (floor, high + pad))
    whole_ticks = [t for t in svg.ticks(*panel.x_range, 6) if t == int(t)]
    body = [panel.axes("Epoch", y_label, x_ticks=whole_ticks or [first])]
    if best is not None and first <= best <= last:
        body.append(
            svg.line(panel.x(best), panel.top, panel.x(best), panel.top + panel.height, colour=RUST, dash="3 3")
        )
        left_of = panel.x(best) > panel.left + panel.width * 0.75
        body.append(
            text(
                panel.x(best) + (-6 if left_of else 6),
                panel.top + 10,
                f"best, epoch {best}" if best else "best, before the first",
                anchor="end" if left_of else "start",
                css="note rust",
            )
        )
    words = {"loss": "training", "val_loss": "validation", "val_score": "validation"}
    for place, name in enumerate(known):
        colour = {"loss": "#9aa5b1"}.get(name, BLUE)
        ys = [row.get(name) for row in rows]
        body.append(panel.path(epochs, ys, colour=colour, width=2.2))
        if len(rows) <= 40:
            marks = [(epoch, float(y)) for epoch, y in zip(epochs, ys, strict=True) if y is not None and finite(y)]
            body += [svg.dot(panel.x(epoch), panel.y(y), 3, fill=colour) for epoch, y in marks]
        if len(known) > 1:
            at = panel.left + 8 + place * 96
            body.append(svg.line(at, 258 + 26, at + 20, 258 + 26, colour=colour, width=2.4))
            body.append(text(at + 26, 258 + 30, words.get(name, name), css="note"))
    return picture(body, width=400, height=296, title=f"{y_label} against epoch")


def agreement(true: Sequence[float], predicted: Sequence[float], *, unit: str) -> tuple[Markup, Markup] | None:
    """Draw predicted against true with the identity line, and the differences against the means (Bland and Altman)."""
    pairs = [(float(t), float(p)) for t, p in zip(true, predicted, strict=False) if finite(t) and finite(p)]
    if len(pairs) < 2:
        return None
    shown = pairs[:: max(1, math.ceil(len(pairs) / 1500))]
    low, high = min(min(pair) for pair in pairs), max(max(pair) for pair in pairs)
    pad = (high - low) * 0.05 or 1.0
    ends = (low - pad, high + pad)
    suffix = f" ({unit})" if unit else ""
    panel = Panel(58, 14, 330, 330, ends, ends)
    cloud = [panel.axes(f"True{suffix}", f"Predicted{suffix}")]
    cloud.append(
        svg.line(panel.x(ends[0]), panel.y(ends[0]), panel.x(ends[1]), panel.y(ends[1]), colour="#a9b3bd", dash="4 4")
    )
    cloud += [_point(panel.x(t), panel.y(p)) for t, p in shown]
    return picture(cloud, width=400, height=394, title="Predicted against true"), _bland_altman(pairs, shown, suffix)


def _bland_altman(pairs: list[tuple[float, float]], shown: list[tuple[float, float]], suffix: str) -> Markup:
    gaps = [p - t for t, p in pairs]
    bias = sum(gaps) / len(gaps)
    spread = 1.96 * math.sqrt(sum((gap - bias) ** 2 for gap in gaps) / (len(gaps) - 1))
    means = [(t + p) / 2 for t, p in pairs]
    reach = max(max(abs(gap) for gap in gaps), abs(bias) + spread) * 1.12 or 1.0
    pad = (max(means) - min(means)) * 0.05 or 1.0
    panel = Panel(58, 14, 330, 330, (min(means) - pad, max(means) + pad), (-reach, reach))
    body = [panel.axes(f"Mean of true and predicted{suffix}", f"Predicted − true{suffix}")]
    body += [_point(panel.x((t + p) / 2), panel.y(p - t)) for t, p in shown]
    right = panel.left + panel.width
    for level, words, dash in (
        (bias, "bias", ""),
        (bias + spread, "+1.96 SD", "5 4"),
        (bias - spread, "−1.96 SD", "5 4"),
    ):
        body.append(svg.line(panel.left, panel.y(level), right, panel.y(level), colour=RUST, width=1.4, dash=dash))
        body.append(
            text(right - 4, panel.y(level) - 5, f"{words} {decimal(level, 2)}", anchor="end", css="note rust halo")
        )
    return picture(body, width=400, height=394, title="Bland-Altman plot: differences against means")


def _point(x: float, y: float) -> str:
    return f'<circle cx="{svg.number(x)}" cy="{svg.number(y)}" r="2.6" fill="{BLUE}" fill-opacity="0.45"/>'


def depth_curve(curve: Sequence[Mapping[str, Any]], *, chosen: str | None, y_label: str) -> Markup | None:
    """Draw the score against the number of thawed stages; None when no depth has a score.

    Rows that say "dropped" were tried for a shorter while: they are open circles, and the line passes them by.
    """
    known = [one for one in curve if value_of(one.get("val")) is not None]
    if not known:
        return None
    ends = [
        v for one in known for v in (one["val"]["value"], one["val"].get("low"), one["val"].get("high")) if finite(v)
    ]
    pad = (max(ends) - min(ends)) * 0.1 or 0.05
    panel = Panel(62, 14, 770, 220, (-0.4, len(known) - 0.6), (min(ends) - pad, max(ends) + pad))
    body = [panel.axes("", y_label, x_ticks=(-1e9,))]
    whole = [(place, one["val"]["value"]) for place, one in enumerate(known) if not one.get("dropped")]
    body.append(panel.path([place for place, _ in whole], [value for _, value in whole], colour="#b9cde0", width=2))
    body += [_depth(panel, place, one, chosen) for place, one in enumerate(known)]
    room = panel.width / len(known)
    for place, one in enumerate(known):
        words = svg.shorten(str(one.get("name") or one.get("thawed")), room)
        body.append(text(panel.x(place), panel.top + panel.height + 18, words, anchor="middle", css="tick"))
    middle = panel.left + panel.width / 2
    words = "Thawed, from the head down"
    body.append(text(middle, panel.top + panel.height + 40, words, anchor="middle", css="axis"))
    return picture(body, width=850, height=290, title=f"{y_label} against depth")


def _depth(panel: Panel, place: int, one: Mapping[str, Any], chosen: str | None) -> str:
    """One depth: its score with its interval."""
    score, dropped = one["val"], bool(one.get("dropped"))
    colour = RUST if one.get("name") == chosen else MUTED if dropped else BLUE
    width = 1.2 if dropped else 2
    drawn = (
        _whisker(panel, place, score["low"], score["high"], colour=colour, width=width) if has_interval(score) else ""
    )
    words = {"hint": f"{decimal(score['value'])} ({interval(score)})"}
    fill = {"fill": "#fff", "stroke": colour} if dropped else {"fill": colour}
    return drawn + svg.dot(panel.x(place), panel.y(score["value"]), 5, **fill, **words)


def learning(
    points: Sequence[Mapping[str, Any]],
    law: Sequence[Mapping[str, Any]],
    *,
    now: int,
    x_label: str,
    y_label: str,
) -> Markup:
    """Draw scores of parts of the data over their sizes on a logarithmic axis, and a fitted law beyond them.

    Args:
        points: rows of count, value, low, high.
        law: likewise, closer together and further out.
        now: how many there are.
        x_label: of the sizes.
        y_label: of the score.
    """
    ends = [row[name] for row in (*points, *law) for name in ("value", "low", "high") if finite(row.get(name))]
    pad = (max(ends) - min(ends)) * 0.08 or 0.05
    sizes = [row["count"] for row in (*points, *law)]
    reach = (math.log10(min(sizes)) - 0.03, math.log10(max(sizes)) + 0.03)
    panel = Panel(62, 14, 770, 240, reach, (min(ends) - pad, max(ends) + pad))
    xs = [math.log10(row["count"]) for row in law]
    body = [
        panel.axes("", y_label, x_ticks=(-1e9,)),
        panel.band(xs, [row["low"] for row in law], [row["high"] for row in law], colour=BLUE),
        panel.path(xs, [row["value"] for row in law], colour=BLUE, width=2),
    ]
    here = panel.x(math.log10(now))
    body.append(svg.line(here, panel.top, here, panel.top + panel.height, colour=RUST, dash="3 3"))
    body.append(text(here - 6, panel.top + 10, f"there are {now}", anchor="end", css="note rust halo"))
    for row in points:
        place = math.log10(row["count"])
        if has_interval(row):
            body.append(_whisker(panel, place, row["low"], row["high"], colour=BLUE))
        hint = f"{row['count']}: {decimal(row['value'])}"
        body.append(svg.dot(panel.x(place), panel.y(row["value"]), 4, hint=hint))
    for size in sorted({*(row["count"] for row in points), 2 * now, 4 * now}):
        where = panel.x(math.log10(size))
        body.append(text(where, panel.top + panel.height + 18, size, anchor="middle", css="tick"))
    middle = panel.left + panel.width / 2
    body.append(text(middle, panel.top + panel.height + 40, x_label, anchor="middle", css="axis"))
    return picture(body, width=850, height=310, title=f"{y_label} against {x_label.lower()}")
