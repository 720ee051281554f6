"""The part of the page about shortcuts: what metadata, border and surroundings alone can answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medgraft.report.phrases import decimal, interval, listed, percent, value_of
from medgraft.report.score_names import named
from medgraft.report.verdict import of

_NAMES = {
    "metadata": "Metadata alone",
    "border": "Border of the image alone",
    "centre_hidden": "Image without its centre",
}
_SHARE = 0.5  # of the model's lead over chance that a shortcut may reach before the alarm rings
_LEAST = 0.1  # lead over chance below which there is nothing to ring for


def view(report: Mapping[str, Any]) -> dict[str, Any]:
    """Get what the section shows; nothing where no head was tried."""
    told = of(report, "shortcuts")
    heads, score = of(told, "heads"), str(told.get("score") or "")
    if not heads:
        return {"shortcut_rows": [], "shortcut_words": "", "shortcut_score": ""}
    model = of(report, "scores", "test", score)
    rows = [{"name": "This model", "score": model, "alarm": False}] if model else []
    for name, row in heads.items():
        rows.append({"name": _NAMES.get(name, name), "score": row, "alarm": name in _rung(report)})
    frame, square = percent(told.get("border")), percent(told.get("centre"))
    words = (
        "Three heads that cannot see the finding were taught on the same training images and scored on the same test "
        f"images: one knows what is written about an image and never sees it, one sees a frame of {frame} of the side, "
        f"one all but a square of {square} of the side in the middle. "
    )
    used = of(heads, "metadata").get("properties")
    words += (
        f"The metadata were {listed([str(name) for name in used])}." if used else "There were no metadata that vary."
    )
    return {"shortcut_rows": rows, "shortcut_words": words, "shortcut_score": named(score).title}


def _rung(report: Mapping[str, Any]) -> list[str]:
    """The shortcuts whose interval lies above half of the model's lead over chance.

    What an image shows without its centre may be the finding itself, so that head rings no alarm alone.
    """
    told = of(report, "shortcuts")
    score = str(told.get("score") or "")
    chance, model = named(score).chance, value_of(of(report, "scores", "test", score))
    if chance is None or model is None:
        return []
    least = chance + max(_LEAST, _SHARE * (model - chance))
    return [
        name
        for name, row in of(told, "heads").items()
        if name != "centre_hidden" and row.get("low") is not None and row["low"] > least
    ]


def warnings(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """Get the alarm, where a shortcut answers nearly as well as the model."""
    rung = _rung(report)
    if not rung:
        return []
    told = of(report, "shortcuts")
    score = str(told["score"])
    title = named(score).title
    model = decimal(value_of(of(report, "scores", "test", score)))
    rows = {_NAMES[name].lower(): told["heads"][name] for name in rung}
    each = [f"{words} gives {title} {decimal(value_of(row))} ({interval(row)})" for words, row in rows.items()]
    text = (
        f"{listed(each)}, where the model gives {model}. The answer goes along with how or where the images were made, "
        "so this score may not hold where that differs. Test on images of a source that has all classes."
    )
    return [{"level": "stop", "title": "There is a shortcut", "text": text[:1].upper() + text[1:]}]
