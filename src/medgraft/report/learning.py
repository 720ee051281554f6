"""The part of the page about more images: what they would bring to the score, and to its interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medgraft.report import plots
from medgraft.report.phrases import count, decimal, whole
from medgraft.report.score_names import named
from medgraft.report.verdict import of


def view(report: Mapping[str, Any]) -> dict[str, Any]:
    """Get what the section shows; nothing where no curve could be fitted."""
    told = of(report, "learning")
    if not told.get("points"):
        return {"learning_words": [], "learning_plot": None}
    score = named(str(told["score"]))
    axis = score.title if len(score.title) < 24 else "Score"
    plot = plots.learning(
        told["points"], told["ahead"], now=told["now"], x_label=f"Training {told['unit']}s", y_label=axis
    )
    return {"learning_words": [*_score_words(told, score.title), *_width_words(told)], "learning_plot": plot}


def _score_words(told: Mapping[str, Any], score: str) -> list[str]:
    now, unit, gain = int(told["now"]), str(told["unit"]), decimal(told["gain"], 2)
    said = [
        f"A head on the features of the untuned encoder was taught by ever larger parts of the {count(now, unit)} of "
        "the training and judged on others of them. The net itself may do better; the slope is what counts."
    ]
    ahead = {row["count"]: row for row in told["ahead"]}
    far = ahead[4 * now]
    if told.get("flat"):
        between = f"{decimal(far['low'])} to {decimal(far['high'])}"
        said.append(
            f"The curve is flat: more images of this kind will hardly help. Four times as many would bring {score} to "
            f"about {decimal(far['value'])} ({between}). Look at the labels, the image size and the mistakes instead."
        )
        return said
    more, fourfold = of(told, "more"), of(told, "fourfold")
    if more.get("value") is None and fourfold:
        ends = [f"{fourfold[end]:+.3f}" for end in ("value", "low", "high")]
        said.append(
            f"Whether more {unit}s of this kind would help cannot be told from these. Four times as many would change "
            f"{score} by {ends[0]} (95 % interval {ends[1]} to {ends[2]}), as far as the curve goes."
        )
        return said
    if more.get("value") is None:
        said.append(f"A gain of {gain} in {score} would take more than {whole(16 * now)} {unit}s.")
        return said
    high = whole(more["high"]) if more.get("high") is not None else f"more than {whole(16 * now)}"
    said.append(
        f"About {count(round(more['value']), f'more {unit}')} would bring {score} up by {gain} (95 % interval "
        f"{whole(more['low'] or 0)} to {high}), if they are of the same kind."
    )
    return said


def _width_words(told: Mapping[str, Any]) -> list[str]:
    """How many test cases would narrow the interval."""
    widths = of(told, "widths")
    if not widths.get("wanted"):
        return []
    score, unit = named(str(widths["score"])).title, str(widths["unit"])
    each = [f"{whole(one['cases'])} for one of {decimal(one['width'], 2)}" for one in widths["wanted"]]
    now = f"The interval of the test {score} is {decimal(widths['width'])} wide, from {count(widths['cases'], unit)}."
    return [f"{now} It would take about {' and '.join(each)}."]
