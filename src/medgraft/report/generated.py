"""The part of the page about images that were drawn: how near to real ones, how near is possible, and copies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from medgraft.report import pictures, svg
from medgraft.report.phrases import decimal, has_interval, listed, percent, value_of, with_interval
from medgraft.report.score_names import named

_FLOORS = {
    "training": "real training images, the best that can be reached",
    "latents": "training images after a way through their latents",
    "noise": "training images with noise of a tenth of white",
    "gaussian": "a Gaussian of the pixels",
}


def is_generated(report: Mapping[str, Any]) -> bool:
    """Say whether a report is of a model that draws images."""
    return bool(report.get("generation"))


def question(report: Mapping[str, Any]) -> str:
    """Get what was asked."""
    names = listed([f"“{name}”" for name in report.get("classes") or ()], "or")
    return f"Can images of {names} be drawn anew?" if names else "Can images like these be drawn anew?"


def main(report: Mapping[str, Any], *, number: str) -> str:
    """Get the main sentence, of which the subject is the model."""
    floors = (report.get("generation") or {}).get("floors") or {}
    best = (floors.get("training") or {}).get("fid_embedded") or {}
    beside = f"; real training images reach {decimal(value_of(best), 1)}" if value_of(best) is not None else ""
    return f"drew images with a Fréchet distance (FID) of {number} from the held-out ones{beside}."


def words(report: Mapping[str, Any]) -> list[str]:
    """Get what else a reader should take away."""
    told = report.get("generation") or {}
    audit = told.get("audit") or {}
    found = []
    if audit.get("verdict") == "pass":
        found.append("The audit found no sign that drawn images copy training images.")
    elif audit.get("verdict"):
        found.append(f"It fails the audit for copies: {'; '.join(audit.get('reasons') or ())}.")
    test = (report.get("scores") or {}).get("test") or {}
    made, real = test.get("ms_ssim") or {}, told.get("ms_ssim_real") or {}
    if value_of(made) is not None and value_of(real) is not None:
        found.append(
            f"Drawn images are alike (MS-SSIM) by {with_interval(made)} among themselves, real ones by "
            f"{with_interval(real)}."
        )
    if value_of(test.get("psnr_latents") or {}) is not None:
        found.append(
            f"It drew latents, of which held-out images come back with a peak signal-to-noise ratio of "
            f"{with_interval(test['psnr_latents'])} dB: finer detail than that it cannot draw."
        )
    return found


def warnings(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """Get what a reader must know before the numbers."""
    audit = (report.get("generation") or {}).get("audit") or {}
    if audit.get("verdict") != "fail":
        title = "The audit for copies is weak"
        return [{"level": "note", "title": title, "text": f"{note}."} for note in audit.get("notes") or ()]
    text = f"{'; '.join(audit.get('reasons') or ())}. Do not share what it draws."
    return [{"level": "stop", "title": "Drawn images may be copies of training images", "text": text}]


def view(report: Mapping[str, Any], curves: Mapping[str, Any]) -> dict[str, Any]:
    """Get what the section shows; nothing where no images were drawn."""
    if not is_generated(report):
        return {"generated": False, "floor_rows": [], "audit_rows": [], "followed_plots": [], "nearest": []}
    told = report["generation"]
    test = (report.get("scores") or {}).get("test") or {}
    names = [name for name in test if name.startswith(("fid_", "kid_"))]
    rows = [{"what": "drawn images", "scores": [test[name] for name in names]}]
    rows += [
        {"what": words_, "scores": [(told["floors"].get(floor) or {}).get(name) for name in names]}
        for floor, words_ in _FLOORS.items()
        if floor in told["floors"]
    ]
    audit = told.get("audit") or {}
    return {
        "generated": True,
        "floor_names": names,
        "floor_rows": rows,
        "followed_plots": _followed(told.get("followed") or ()),
        "audit_rows": [
            {
                "space": name,
                "share": (audit.get(name) or {}).get("share"),
                "membership": (audit.get(name) or {}).get("membership"),
            }
            for name in ("features", "pixels")
            if audit.get(name)
        ],
        "nearest": [
            _nearest(name, one) for name, one in (curves.get("nearest") or {}).items() if len(one["distances"])
        ],
        "audit_near": percent(audit.get("near") or 0.05),
        "audit_verdict": audit.get("verdict"),
    }


def _followed(rows: Sequence[Mapping[str, Any]]) -> list[Markup]:
    """How FID and KID fell while it learnt, a plot each; none where there is no line to draw."""
    names = [name for name in ("fid_embedded", "kid_embedded") if any(_known(row, name) for row in rows)]
    return [_falling([row for row in rows if _known(row, name)], name) for name in names] if len(rows) > 1 else []


def _nearest(space: str, pairs: Mapping[str, Any]) -> dict[str, Any]:
    far = listed([decimal(one, 2) for one in pairs["distances"]])
    return {"space": space, "image": pictures.data_uri(pairs["image"], most=1240, quality=85), "distances": far}


def _known(row: Mapping[str, Any], name: str) -> bool:
    return value_of(row.get(name)) is not None


def _falling(rows: Sequence[Mapping[str, Any]], name: str) -> Markup:
    epochs, scores = [row["epoch"] for row in rows], [row[name] for row in rows]
    values = [score["value"] for score in scores]
    low, high = ([score[end] if has_interval(score) else score["value"] for score in scores] for end in ("low", "high"))
    panel = svg.Panel(58, 14, 330, 210, (0, max(epochs)), (min(0.0, *low), 1.05 * max(*high, 1e-9)))
    title = named(name).title
    body = [
        panel.axes("Epoch", f"{title}, beside validation images"),
        panel.band(epochs, low, high, colour=svg.BLUE),
        panel.path(epochs, values, colour=svg.BLUE, width=2.2),
        *(svg.dot(panel.x(x), panel.y(y), 3) for x, y in zip(epochs, values, strict=True)),
    ]
    return svg.picture(body, width=400, height=276, title=f"{title} of drawn images against epoch")
