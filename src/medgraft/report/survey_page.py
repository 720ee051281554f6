"""The page of `medgraft survey`: what is in a data set, and what is wrong with it, before anything is trained.

It reads what `survey.json` holds (`samples.survey.Survey.to_dict`); what is absent is not shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medgraft import storage
from medgraft.report import grids, pictures, rendering
from medgraft.report.phrases import count, decimal, sentence, whole
from medgraft.report.verdict import of

Survey = Mapping[str, Any]

_SECTIONS = (
    ("survey_classes", "Classes"),
    ("survey_boxes", "Boxes"),
    ("survey_images", "Images"),
    ("survey_leaks", "Leaks between parts"),
    ("survey_duplicates", "Duplicates"),
    ("survey_quarantine", "What cannot be used"),
    ("survey_notes", "What the readers noticed"),
)
_MOST_ROWS, _MOST_PAIRS = 40, 24
_SPREADS = (
    ("height", "Height, pixels", 0),
    ("width", "Width, pixels", 0),
    ("spacing_mm", "Spacing, mm", 3),
    ("images_per_patient", "Images a patient", 0),
    ("labels", "Labels", 2),
)


def write_survey_page(
    survey: Survey,
    *,
    folder: Path,
    thumbnails: Mapping[str, np.ndarray] | None = None,
    phantoms: bool = False,
    name: str = "survey.html",
) -> Path:
    """Write the page of a survey and get its path.

    Args:
        survey: what `survey.json` holds.
        folder: where the page goes.
        thumbnails: key -> uint8 image `(H, W)` or `(H, W, 3)`, shown beside duplicates and leaks.
        phantoms: the images are procedural; the page is stamped.
        name: the file's name.
    """
    path = Path(folder) / name
    storage.write_text(path, render_survey(survey, thumbnails=thumbnails, phantoms=phantoms))
    return path


def render_survey(survey: Survey, *, thumbnails: Mapping[str, np.ndarray] | None = None, phantoms: bool = False) -> str:
    """Get the page of a survey as text; see `write_survey_page`."""
    view = {
        "kind": "survey",
        "survey": survey,
        "phantoms": phantoms,
        "title": survey.get("name") or Path(str(survey.get("root") or "Data set")).name,
        "lead": _lead(survey),
        "warnings": _warnings(survey),
        "figures": _figures(survey),
        "facts": list(_facts(survey)),
        "shapes_bars": _bars(survey.get("shapes")),
        **_class_view(survey),
        **_box_view(survey),
        **_pair_view(survey, thumbnails or {}),
        "quarantine": list(survey.get("quarantine") or ())[:_MOST_ROWS],
        "more_quarantine": max(0, len(survey.get("quarantine") or ()) - _MOST_ROWS),
        "notes": [sentence(words) for words in survey.get("notes") or ()],
    }
    return rendering.page(_SECTIONS, frame="plain.html", view=view)


def _lead(survey: Survey) -> str:
    words = count(survey.get("images") or 0, "image")
    if survey.get("patients"):
        words += f" of {count(survey['patients'], 'patient')}"
    if survey.get("classes"):
        words += f" in {count(len(survey['classes']), 'class', 'classes')}"
    boxes = of(survey, "boxes").get("count")
    return f"{words}, with {count(boxes, 'box', 'boxes')}." if boxes else words + "."


def _warnings(survey: Survey) -> list[dict[str, str]]:
    found = []
    leaks = of(survey, "leaks").get("count") or 0
    if leaks:
        text = (
            f"{count(leaks, 'pair')} of images in different parts share a patient or a picture. Training refuses that."
        )
        found.append({"level": "stop", "title": "Leaks", "text": text})
    if "patients" in survey and not survey["patients"]:
        text = "No patient is known. Scores will be marked “split by image” unless a patient column is named."
        found.append({"level": "note", "title": "No patients", "text": text})
    rest = [words for words in survey.get("warnings") or () if not (leaks and "given splits share" in str(words))]
    return found + [{"level": "note", "title": "Look here", "text": sentence(words)} for words in rest]


def _figures(survey: Survey) -> list[dict[str, str]]:
    copies = of(survey, "duplicates")
    quarantine = survey.get("quarantine")
    bad = None if quarantine is None else [one for one in quarantine if not one.get("part")]
    rows = [
        ("Images", survey.get("images"), "usable"),
        ("Patients", survey.get("patients"), "known"),
        ("Identical", copies.get("exact"), "pairs of images"),
        ("Nearly identical", copies.get("near"), "pairs of images"),
        ("Leaks", of(survey, "leaks").get("count"), "pairs between parts"),
        ("Set aside", len(bad) if bad is not None else None, "files"),
    ]
    return [{"label": label, "value": whole(n), "detail": detail} for label, n, detail in rows if n is not None]


def _facts(survey: Survey) -> Iterator[tuple[str, str]]:
    if survey.get("layout"):
        yield "Layout", _layout(survey)
    if survey.get("task"):
        yield "Task", ": ".join(str(words) for words in survey["task"] if words)
    if survey.get("labelled") not in (None, survey.get("images")):
        yield "With a label", whole(survey["labelled"])
    for name, label, digits in _SPREADS:
        if of(survey, name):
            yield label, _spread(survey[name], digits)
    if survey.get("gray") is not None:
        yield "Without colour", whole(survey["gray"])
    for name, label in (("bits", "Bits a sample"), ("modalities", "Modality")):
        if of(survey, name):
            yield label, _counts(survey[name])
    for unit, one in of(survey, "intensity").items():
        words = f"{decimal(one.get('low'), 1)} to {decimal(one.get('high'), 1)}, mean {decimal(one.get('mean'), 1)}"
        yield f"Intensity, {unit}", words
    if survey.get("preset"):
        yield "Augmentation", ": ".join(str(w) for w in (survey["preset"], survey.get("preset_why")) if w)


def _layout(survey: Survey) -> str:
    return ": ".join(str(words) for words in (survey["layout"], survey.get("why")) if words)


def _spread(one: Mapping[str, Any], digits: int) -> str:
    low, middle, high = (one.get(name) for name in ("low", "median", "high"))
    if low == high:
        return f"{decimal(low, digits)} in all"
    return f"{decimal(low, digits)} to {decimal(high, digits)}, median {decimal(middle, digits)}"


def _counts(values: Mapping[str, Any]) -> str:
    ordered = sorted(values.items(), key=lambda pair: (-pair[1], str(pair[0])))
    rest = f" and {len(ordered) - 8} others" if len(ordered) > 8 else ""
    return ", ".join(f"{name} ({whole(n)})" for name, n in ordered[:8]) + rest


def _bars(values: Any) -> Any:
    return grids.sizes(dict(values), most=10) if isinstance(values, Mapping) and len(values) > 1 else None


def _class_view(survey: Survey) -> dict[str, Any]:
    classes = {str(name): dict(one) for name, one in of(survey, "classes").items()}
    order = _splits_of(classes)
    totals = {name: int(one.get("all") or 0) for name, one in classes.items()}
    rows = {name: {"images": one, "total": totals[name]} for name, one in classes.items()}
    return {
        "class_rows": rows,
        "splits": order,
        "split_names": {"train": "Training", "val": "Validation", "test": "Test"},
        "class_bars": grids.sizes(totals, most=30) if len(totals) > 1 else None,
        "split_bars": grids.split_bars(rows, order) if len(order) > 1 else None,
    }


def _splits_of(classes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    found = [split for one in classes.values() for split in one if split != "all"]
    order = [s for s in ("train", "val", "test") if s in found]
    return order + [s for s in dict.fromkeys(found) if s not in order]


def _box_view(survey: Survey) -> dict[str, Any]:
    boxes = of(survey, "boxes")
    rows = {str(name): dict(one) for name, one in of(boxes, "classes").items()}
    totals = {name: int(one.get("all") or 0) for name, one in rows.items()}
    return {
        "box_facts": list(_box_facts(boxes)) if boxes else [],
        "box_rows": rows,
        "box_splits": _splits_of(rows),
        "box_bars": grids.sizes(totals, most=30) if len(totals) > 1 else None,
    }


def _box_facts(boxes: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "Boxes", whole(boxes.get("count") or 0)
    if of(boxes, "per_image"):
        yield "Boxes an image", _spread(boxes["per_image"], 0)
    if of(boxes, "sides"):
        low, middle, high = (decimal(boxes["sides"].get(name), 0) for name in ("low", "median", "high"))
        yield "Sides, pixels", f"nine in ten from {low} to {high}, median {middle}"
    without, images = (whole(boxes.get(name) or 0) for name in ("without", "images"))
    yield "Images without a box", f"{without} of {images}"
    for name, label in (("ignored", "Ignored boxes"), ("left_out", "Boxes left out")):
        if boxes.get(name):
            yield label, whole(boxes[name])


def _pair_view(survey: Survey, thumbnails: Mapping[str, np.ndarray]) -> dict[str, Any]:
    copies, leaks = of(survey, "duplicates"), of(survey, "leaks")
    pairs, shared = list(copies.get("pairs") or ()), list(leaks.get("pairs") or ())
    shown = [*shared[:_MOST_ROWS], *pairs[:_MOST_PAIRS]]
    wanted = dict.fromkeys(str(one[end]) for one in shown for end in ("first", "second"))
    return {
        "leaks": shared[:_MOST_ROWS],
        "more_leaks": max(0, (leaks.get("count") or 0) - _MOST_ROWS),
        "pairs": [{**one, "match": decimal(one.get("score"), 3)} for one in pairs[:_MOST_PAIRS]],
        "more_pairs": max(0, len(pairs) - _MOST_PAIRS),
        "thumbnails": {key: pictures.data_uri(thumbnails[key], most=128) for key in wanted if key in thumbnails},
    }
