"""The part of the page about label maps: Dice of each image, how sizes agree, what was missed and drawn falsely."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from medgraft.report import svg
from medgraft.report.boxes import ALARM, HIT, MISSED
from medgraft.report.dice_strip import Strip, strips
from medgraft.report.outlines import PALETTE
from medgraft.report.phrases import count, decimal, listed, share_with_interval, value_of, whole
from medgraft.report.size_agreement import Sizes, agreements, unit_of

MOST_NAMES = 6  # classes that a sentence names
_MOST_STRIPS, _MOST_PANELS = 24, 12
_FIRST = ("ap50", "aji", "aji_plus", "pq", "sq", "rq")  # of things that are told apart
_COLUMNS = ("dice", "nsd", "hd95_mm", "hd95_px", "volume_error")
_WIDE = 850


@dataclass(frozen=True)
class Counts:
    """What was drawn of one class in the test images.

    Attributes:
        name: of the class.
        shown: images whose truth shows it.
        missed: of those, images in which nothing of it was drawn.
        others: images whose truth does not show it.
        false: of those, images in which it was drawn.
        dice: value and key of each image in which it is true or drawn, the lowest first.
        sizes: true and drawn size of the same images, in the unit of the rows.
    """

    name: str
    shown: int
    missed: int
    others: int
    false: int
    dice: tuple[tuple[float, str], ...]
    sizes: tuple[tuple[float, float], ...]


def is_drawn(report: Mapping[str, Any]) -> bool:
    """Say whether a report is of label maps."""
    return bool(report.get("drawing"))


def is_whole(report: Mapping[str, Any]) -> bool:
    """Say whether a net of its own draws, with no encoder under it."""
    return is_drawn(report) and (report.get("backbone") or {}).get("pooling") == "none"


def encoder(report: Mapping[str, Any]) -> str:
    """Get the name of the net: of the encoder, or of a whole net that has none under it."""
    backbone = report.get("backbone") or {}
    name = str(backbone.get("name") or "").removeprefix("none:") if is_whole(report) else backbone.get("architecture")
    return str(name or backbone.get("name") or "encoder")


def kind_of(report: Mapping[str, Any]) -> str:
    """Get what the pictures show: "things" told apart, "one" class, "several"; "" where there are no label maps."""
    if not is_drawn(report):
        return ""
    if report["drawing"].get("apart"):
        return "things"
    return "one" if len(report.get("classes") or ()) == 1 else "several"


def flat(report: Mapping[str, Any], curves: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Get the report with the main scores first, and with what the rows of the test images say under "_drawn"."""
    if not is_drawn(report):
        return dict(report)
    scores = {part: _ordered(table) for part, table in (report.get("scores") or {}).items()}
    counts = counted(report, (curves or {}).get("drawn") or ())
    return {**report, "scores": scores, "_drawn": {"counts": counts, "worst": _worst(curves or {})}}


def _ordered(table: Mapping[str, Any]) -> dict[str, Any]:
    return {name: table[name] for name in (*(one for one in _FIRST if one in table), *table)}


def columns(per_class: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Get which scores stand in the table of classes."""
    known = {name for row in per_class.values() for name in row}
    return [name for name in _COLUMNS if name in known]


def counted(report: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[Counts]:
    """Get what was drawn of each class, in the order of the report's classes; nothing where there are no rows.

    Args:
        report: names the classes.
        rows: `curves["drawn"]`, a row a test image and class.
    """
    names = [str(name) for name in report.get("classes") or ()]
    names += [name for name in dict.fromkeys(str(row["class"]) for row in rows) if name not in names]
    return [_counts(name, [row for row in rows if str(row["class"]) == name]) for name in names] if rows else []


def _counts(name: str, rows: Sequence[Mapping[str, Any]]) -> Counts:
    true = [_size(row.get("true_volume")) for row in rows]
    found = [_size(row.get("found_volume")) for row in rows]
    dice = sorted((float(row["dice"]), str(row["key"])) for row in rows if svg.finite(row.get("dice")))
    return Counts(
        name,
        shown=sum(a > 0 for a in true),
        missed=sum(a > 0 and b == 0 for a, b in zip(true, found, strict=True)),
        others=sum(a == 0 for a in true),
        false=sum(a == 0 and b > 0 for a, b in zip(true, found, strict=True)),
        dice=tuple(dice),
        sizes=tuple((a, b) for a, b in zip(true, found, strict=True) if a > 0 or b > 0),
    )


def _size(value: object) -> float:
    return float(value) if svg.finite(value) else 0.0  # type: ignore[arg-type]


def _worst(curves: Mapping[str, Any]) -> tuple[float, str] | None:
    """Get the lowest mean Dice of an image over its classes, and the image's key."""
    images: dict[str, list[float]] = {}
    for row in curves.get("drawn") or ():
        if svg.finite(row.get("dice")):
            images.setdefault(str(row["key"]), []).append(float(row["dice"]))
    return min(((sum(values) / len(values), key) for key, values in images.items()), default=None)


# ---- words ----------------------------------------------------------------------------------------------


def main(report: Mapping[str, Any], title: str, *, number: str) -> str:
    """Get what the main sentence says after "the model", such as "drew “lung” with a mean Dice of 0.9"."""
    classes = [str(name) for name in report.get("classes") or ()]
    what = listed([f"“{name}”" for name in classes]) if len(classes) <= MOST_NAMES else f"{len(classes)} classes"
    apart = " and told single ones apart," if kind_of(report) == "things" else ""
    return f"drew {what}{apart} with a mean {title} of {number}."


def question(report: Mapping[str, Any]) -> str:
    """Get what was asked."""
    classes = [f"“{name}”" for name in report.get("classes") or ()]
    if len(classes) > MOST_NAMES:
        return f"Where in an image is each of {len(classes)} classes?"
    each = "each " if kind_of(report) == "things" else ""
    return f"Where in an image is {each}{listed(classes, 'or')}?"


def words(report: Mapping[str, Any]) -> list[str]:
    """Get what was drawn, in sentences, of a report that `flat` gave."""
    test, told = (report.get("scores") or {}).get("test") or {}, report.get("_drawn") or {}
    said = []
    if value_of(test.get("nsd")) is not None:
        said.append(
            f"Of the outlines {share_with_interval(test['nsd'])} lie within {_tolerance(report)} of each other "
            "(surface Dice)."
        )
    if value_of(test.get("count_mae")) is not None:
        said.append(f"Its count is off by {decimal(value_of(test['count_mae']), 1)} an image on average.")
    said += _missed(told.get("counts") or ())
    if told.get("worst"):
        value, key = told["worst"]
        said.append(f"The lowest Dice of an image is {decimal(value, 2)} (“{svg.shorten(key, 360)}”).")
    return said


def _tolerance(report: Mapping[str, Any]) -> str:
    drawing = report["drawing"]
    size = float(drawing.get("tolerance") or 0)
    return f"{size:g} mm" if drawing.get("unit") == "mm" else f"{size:g} pixel{'' if size == 1 else 's'}"


def _missed(counts: Sequence[Counts]) -> list[str]:
    shown, missed = sum(one.shown for one in counts), sum(one.missed for one in counts)
    others, false = sum(one.others for one in counts), sum(one.false for one in counts)
    if len(counts) == 1:
        name = counts[0].name
        images = f"{count(shown, 'image')} that show{'s' if shown == 1 else ''} “{name}”"
        said = [f"{_none(missed).capitalize()} of {images} {_was(missed)} left empty."] if shown else []
        return said + ([f"It was drawn in {_none(false)} of {count(others, 'other')}."] if others else [])
    every = count(shown, "structure")
    said = [f"{_none(missed).capitalize()} of {every} (a class in an image) {_was(missed)} missed."] if shown else []
    return said + ([f"{_none(false).capitalize()} {_was(false)} drawn where the truth has none."] if others else [])


def _none(number: int) -> str:
    return whole(number) if number else "none"


def _was(number: int) -> str:
    return "was" if number <= 1 else "were"


# ---- the section ----------------------------------------------------------------------------------------


def view(report: Mapping[str, Any]) -> dict[str, Any]:
    """Get what the section and the gallery show, of a report that `flat` gave; nothing where nothing is drawn."""
    counts = list((report.get("_drawn") or {}).get("counts") or ())
    kind = kind_of(report)
    if not kind:
        return {"drawn_kind": ""}
    rows = [Strip(one.name, _dice_of(report, one.name, counts), one.dice) for one in counts if one.dice]
    unit = unit_of(report)
    sizes = [Sizes(one.name, one.sizes, _per_class(report, one.name)) for one in counts if len(one.sizes) > 1]
    return {
        "drawn_kind": kind,
        "drawn_counts": counts,
        "drawn_dice": strips(rows[:_MOST_STRIPS]) if rows else None,
        "drawn_sizes": agreements(sizes[:_MOST_PANELS], unit=unit) if sizes else None,
        "drawn_what": unit.what,
        "drawn_cut": _cut(len(rows), _MOST_STRIPS) or _cut(len(sizes), _MOST_PANELS),
        "drawn_legend": legend(report),
    }


def _cut(has: int, most: int) -> str:
    return f"Of {has} classes the first {most} are drawn." if has > most else ""


def _per_class(report: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return (report.get("per_class") or {}).get(name) or {}


def _dice_of(report: Mapping[str, Any], name: str, counts: Sequence[Counts]) -> Mapping[str, Any] | None:
    if len(counts) == 1:
        return ((report.get("scores") or {}).get("test") or {}).get("dice")
    return _per_class(report, name).get("dice")


def legend(report: Mapping[str, Any]) -> Markup | None:
    """Draw which colour in the pictures is what."""
    kind = kind_of(report)
    if kind == "one":
        return _swatches([("drawn right", HIT), ("missed", MISSED), ("drawn falsely", ALARM)])
    if kind == "several":
        names = [str(name) for name in report.get("classes") or ()]
        return _swatches([(name, PALETTE[place % len(PALETTE)]) for place, name in enumerate(names)])
    return None


def _swatches(rows: Sequence[tuple[str, tuple[int, int, int]]]) -> Markup:
    body, x, y = [], 0.0, 12.0
    for name, colour in rows:
        said = svg.shorten(name, 240)
        room = 18 + svg.width_of(said) + 22
        if x and x + room > _WIDE:
            x, y = 0.0, y + 20
        body.append(svg.box(x, y - 10, 12, 12, fill="#" + "".join(f"{part:02x}" for part in colour), stroke="#5d6b78"))
        body.append(svg.text(x + 18, y, said, css="tick dark"))
        x += room
    wide = _WIDE if y > 12 else math.ceil(x)
    return svg.picture(body, width=wide, height=y + 6, title="Colours: " + ", ".join(name for name, _ in rows))
