"""The part of the page about what is unlike normal images: scores of both sides, kinds of finding, pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from medgraft.report import svg
from medgraft.report.phrases import count, value_of, with_interval
from medgraft.report.svg import Panel

_BINS = 24
_COLOURS = (svg.BLUE, svg.RUST)
_PIXELS = {
    "pixel_auroc": "of pixels in masks against all others",
    "pixel_auprc": "of the same, by precision and recall",
    "aupro": "mean share of a finding that is warm, at up to 30 % of the other pixels",
}


def is_unlike(report: Mapping[str, Any]) -> bool:
    """Say whether a report is of what is unlike normal images."""
    return bool(report.get("unlike"))


def question(report: Mapping[str, Any]) -> str:
    """Get what was asked."""
    return f"Is an image unlike images that are “{report['unlike']['normal']}”, and where?"


def words(report: Mapping[str, Any]) -> list[str]:
    """Get what a reader should take away beside the main score."""
    told = report["unlike"]
    found = [f"It learnt from {count(told['learnt_from'], 'normal image')} alone, and of no finding."]
    test = (report.get("scores") or {}).get("test") or {}
    if value_of(test.get("pixel_auroc")) is not None:
        found.append(
            f"Its maps tell pixels in masks from others with an AUROC of {with_interval(test['pixel_auroc'])}."
        )
    return found


def view(report: Mapping[str, Any], curves: Mapping[str, Any]) -> dict[str, Any]:
    """Get what the section shows; nothing where a report is of something else."""
    if not is_unlike(report):
        return {"unlike": False, "unlike_plot": None, "unlike_kinds": {}, "unlike_pixels": []}
    threshold = (report.get("operating_point") or {}).get("threshold")
    test = (report.get("scores") or {}).get("test") or {}
    return {
        "unlike": True,
        "unlike_plot": histogram(curves.get("unlike") or {}, threshold=threshold),
        "unlike_kinds": report["unlike"].get("kinds") or {},
        "unlike_pixels": [(name, means, test[name]) for name, means in _PIXELS.items() if name in test],
    }


def histogram(sides: Mapping[str, Sequence[float]], *, threshold: float | None) -> Markup | None:
    """Draw how often each score is seen, normal images and others, each as a share of its own; None without scores."""
    known = {name: np.asarray(values, np.float64) for name, values in sides.items() if len(values)}
    if not known:
        return None
    every = np.concatenate(list(known.values()))
    ends = [*every, threshold] if threshold is not None else every
    low, high = float(np.min(ends)), float(np.max(ends))
    edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
    shares = {name: np.histogram(values, edges)[0] / len(values) for name, values in known.items()}
    top = max(float(share.max()) for share in shares.values())
    panel = Panel(64, 12, 520, 200, (float(edges[0]), float(edges[-1])), (0.0, top))
    body = [panel.axes("Score: how unlike normal images", "Share of images")]
    for name, share in shares.items():
        colour = _COLOURS[list(sides).index(name) % 2]
        xs, ys = np.repeat(edges, 2)[1:-1], np.repeat(share, 2)
        body.append(panel.band(xs.tolist(), [0.0] * len(xs), ys.tolist(), colour=colour))
        body.append(panel.path(xs.tolist(), ys.tolist(), colour=colour))
    if threshold is not None:
        x = panel.x(threshold)
        body.append(svg.line(x, panel.top, x, panel.top + panel.height, colour=svg.RULE, width=1.5, dash="4 3"))
    for place, (name, values) in enumerate(known.items()):
        y = panel.top + 14 + 18 * place
        colour = _COLOURS[list(sides).index(name) % 2]
        body.append(svg.box(panel.left + panel.width - 190, y - 9, 10, 10, fill=colour))
        body.append(svg.text(panel.left + panel.width - 174, y, f"{svg.shorten(name, 130)} ({len(values)})"))
    return svg.picture(body, width=600, height=262, title="Scores of normal images and of others")
