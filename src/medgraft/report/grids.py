"""Tables as pictures: the confusion matrix, intervals on a scale, the split, subgroups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from medgraft.report import svg
from medgraft.report.phrases import decimal, has_interval, interval, percent, value_of, whole, with_interval
from medgraft.report.svg import BLUE, COLOURS, MUTED, RUST, picture, text

_DEEP = "#174a7c"
_PARTS = {"train": "Training", "val": "Validation", "test": "Test"}


def confusion(classes: Sequence[str], matrix: Sequence[Sequence[int]]) -> Markup:
    """Draw counts and shares of each true class; what is right in blue, mistakes in rust."""
    count = len(classes)
    numbered = count > 5
    side = {1: 110, 2: 110, 3: 100, 4: 88, 5: 78}.get(count, max(30.0, min(66.0, 620 / count)))
    left = min(230.0, 40 + max(svg.width_of(svg.clean(name), 12) for name in classes) + (22 if numbered else 0))
    top = 48
    body = [text(left + side * count / 2, 14, "Predicted", anchor="middle", css="axis")]
    body.append(text(12, top + side * count / 2, "True", anchor="middle", css="axis", turn=-90))
    for row, name in enumerate(classes):
        y = top + row * side
        words = f"{row + 1}  {name}" if numbered else name
        body.append(_named(left - 8, y + side / 2 + 4, words, left - 30, anchor="end"))
        head = str(row + 1) if numbered else name
        body.append(_named(left + (row + 0.5) * side, top - 9, head, side - 6, anchor="middle"))
        total = sum(matrix[row]) or 0
        for column in range(count):
            number = matrix[row][column]
            share = number / total if total else 0.0
            body.append(_cell(left + column * side, y, side, number, share, right=row == column, empty=not total))
    title = "Confusion matrix: true classes in rows, predicted in columns"
    return picture(body, width=left + side * count + 8, height=top + side * count + 8, title=title)


def _named(x: float, y: float, words: str, room: float, *, anchor: str) -> str:
    return text(x, y, svg.shorten(words, room, 12), anchor=anchor, css="tick dark")


def _cell(x: float, y: float, side: float, number: int, share: float, *, right: bool, empty: bool) -> str:
    fill = "#f3f5f7" if empty else svg.blend(0.06 + 0.86 * share if number else 0.0, _DEEP if right else RUST)
    light = share > 0.7
    parts = [svg.box(x + 1, y + 1, side - 2, side - 2, fill=fill, stroke="#e3e8ec", round_by=2)]
    big = side >= 60
    css = "cell" if big else "cell small"
    parts.append(
        text(
            x + side / 2,
            y + side / 2 + (0 if big else 4),
            whole(number),
            anchor="middle",
            css=f"{css} white" if light else css,
        )
    )
    if big and not empty:
        words = text(x + side / 2, y + side / 2 + 17, percent(share), anchor="middle", css=_note_on(share))
        parts.append(words)
    return "".join(parts)


def _note_on(share: float) -> str:
    """Small type needs white on dark cells and full ink on those between."""
    return "note white" if share > 0.7 else "note dark" if share > 0.3 else "note"


def mini_interval(score: Mapping[str, Any] | None, *, chance: float | None = None) -> Markup:
    """Draw a score with its interval on a scale from 0 to 1, small enough for a table cell; "" where it cannot be."""
    value = value_of(score)
    if value is None or score is None or not 0 <= value <= 1 or (score.get("low") or 0) < 0:
        return Markup("")
    width, middle = 120, 9
    body = [svg.line(3, middle, width - 3, middle, colour="#dfe4e9", width=1.5)]
    if chance is not None:
        body.append(svg.line(_at(chance, width), 3, _at(chance, width), 15, colour="#a9b3bd", width=1))
    if has_interval(score):
        low, high = _at(score["low"], width), _at(score["high"], width)
        body.append(svg.box(low, middle - 4, max(high - low, 2), 8, fill="#a3c4e0"))
    body.append(svg.box(_at(value, width) - 1.2, middle - 6, 2.4, 12, fill=_DEEP))
    return picture(body, width=width, height=18, title=with_interval(score), css="mini")


def _at(value: float, width: float) -> float:
    return 4 + min(max(value, 0.0), 1.0) * (width - 8)


def split_bars(classes: Mapping[str, Mapping[str, Any]], splits: Sequence[str]) -> Markup | None:
    """Draw the share of each class in each split as one bar a split; None for more classes than colours."""
    names = list(classes)
    if not 2 <= len(names) <= len(COLOURS):
        return None
    body, y = [], 6
    for split in splits:
        counts = [_images(classes[name], split) for name in names]
        total = sum(counts)
        if not total:
            continue
        body.append(text(0, y + 17, _PARTS.get(split, split), css="tick dark"))
        x = 76.0
        for place, number in enumerate(counts):
            width = 670 * number / total
            body.append(svg.box(x, y, max(width - 1.5, 0), 26, fill=COLOURS[place]))
            if width > 34:
                body.append(text(x + width / 2, y + 17, percent(number / total), anchor="middle", css="note white"))
            x += width
        body.append(text(850, y + 17, f"{whole(total)} images", anchor="end", css="tick"))
        y += 34
    if not body:
        return None
    body.append(_legend(names, y + 18, 76, 670))
    return picture(body, width=850, height=y + 30, title="Share of each class in each split")


def _images(one: Mapping[str, Any], split: str) -> int:
    return int((one.get("images") or {}).get(split) or 0)


def _legend(names: Sequence[str], y: float, left: float, room: float) -> str:
    parts, x = [], left
    each = room / len(names)
    for place, name in enumerate(names):
        words = svg.shorten(name, each - 26, 12)
        parts.append(svg.box(x, y - 9, 11, 11, fill=COLOURS[place]))
        parts.append(text(x + 17, y, words, css="tick"))
        x += min(each, svg.width_of(words) + 44)
    return "".join(parts)


def forest(
    rows: Sequence[Mapping[str, Any]], *, overall: Mapping[str, Any] | None, title: str, chance: float | None
) -> Markup | None:
    """Draw a score of each subgroup with its interval, the whole as a dashed line.

    `rows`: {"covariate", "group", "n", "score"}; a covariate's name stands above its groups.
    """
    known = _grouped([row for row in rows if row.get("score")])
    if not known:
        return None
    low, high = _reach(known, overall)
    panel = svg.Panel(250, 30, 330, 1, (low, high), (0, 1))
    body, y, last = [], 44.0, None
    for row in known:
        if row["covariate"] != last:
            y += 8 if last is not None else 0
            body.append(text(0, y, svg.shorten(str(row["covariate"]), 230, 12.5), css="label"))
            last, y = row["covariate"], y + 22
        body.append(_forest_row(panel, row, y))
        y += 22
    bottom = y - 8
    behind = [
        text(panel.left - 22, 16, "n", anchor="end", css="axis"),
        text(panel.left + panel.width + 20, 16, f"{title} (95 % CI)", css="axis"),
    ]
    for value in svg.ticks(low, high, 5):
        behind.append(svg.line(panel.x(value), 28, panel.x(value), bottom, colour="#e9edf1"))
        behind.append(text(panel.x(value), bottom + 18, f"{value:g}", anchor="middle", css="tick"))
    whole_value = value_of(overall)
    if whole_value is not None:
        behind.append(
            svg.line(panel.x(whole_value), 24, panel.x(whole_value), bottom, colour=RUST, dash="4 4", width=1.4)
        )
        behind.append(text(panel.x(whole_value), 16, "all", anchor="middle", css="note rust"))
    if chance is not None and low < chance < high:
        behind.append(svg.line(panel.x(chance), 28, panel.x(chance), bottom, colour=MUTED))
    return picture(behind + body, width=850, height=bottom + 30, title=f"{title} of each subgroup")


def _grouped(rows: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Put the groups of one covariate together, covariates in the order of their first row."""
    order = {name: place for place, name in enumerate(dict.fromkeys(str(row["covariate"]) for row in rows))}
    return sorted(rows, key=lambda row: order[str(row["covariate"])])


def _reach(rows: Sequence[Mapping[str, Any]], overall: Mapping[str, Any] | None) -> tuple[float, float]:
    scores = [row["score"] for row in rows] + ([overall] if overall else [])
    ends = [s.get(name) for s in scores for name in ("value", "low", "high") if value_of(s) is not None]
    known = [float(end) for end in ends if svg.finite(end)] or [0.0, 1.0]
    low, high = min(known), max(known)
    pad = (high - low) * 0.06 or 0.05
    if low >= 0 and high <= 1:
        return max(0.0, low - pad), min(1.0, high + pad)
    return low - pad, high + pad


def _forest_row(panel: svg.Panel, row: Mapping[str, Any], y: float) -> str:
    score, value = row["score"], value_of(row["score"])
    parts = [text(14, y, svg.shorten(str(row["group"]), 170), css="tick dark")]
    if row.get("n") is not None:
        parts.append(text(panel.left - 22, y, whole(row["n"]), anchor="end", css="tick"))
    right = panel.left + panel.width + 20
    if value is None:
        parts.append(text(right, y, "not computable", css="tick"))
        return "".join(parts)
    if has_interval(score):
        parts.append(svg.line(panel.x(score["low"]), y - 4, panel.x(score["high"]), y - 4, colour=BLUE, width=2.4))
    parts.append(svg.dot(panel.x(value), y - 4, 4.6, hint=with_interval(score)))
    parts.append(text(right, y, decimal(value), css="tick dark bold"))
    parts.append(text(right + 42, y, f"({interval(score) or 'no interval'})", css="tick dark"))
    return "".join(parts)


def sizes(counts: Mapping[str, int], *, most: int = 12) -> Markup | None:
    """Draw how often each value occurs as horizontal bars, the most frequent first; the rest are summed."""
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    if not ordered:
        return None
    shown, rest = ordered[:most], sum(number for _, number in ordered[most:])
    rows = [*shown, (f"{len(ordered) - most} others", rest)] if rest else shown
    top = max(number for _, number in rows) or 1
    body = []
    left = min(230.0, max(svg.width_of(svg.clean(str(name))) for name, _ in rows) + 10)
    for place, (name, number) in enumerate(rows):
        y = 4 + place * 24
        width = 440 * number / top
        body.append(text(left - 10, y + 14, svg.shorten(str(name), left - 10), anchor="end", css="tick dark"))
        body.append(svg.box(left, y + 2, max(width, 1.5), 16, fill=BLUE))
        body.append(text(left + 8 + width, y + 14, whole(number), css="tick"))
    return picture(body, width=720, height=8 + 24 * len(rows), title="Counts")
