"""The page of `medgraft survey`: what is in a data set, and what is wrong with it, before anything is trained.

`survey` (also what `survey.json` holds); every key may be absent::

    name, root, layout, kind, modality     text
    images       1075 or {split: n}        patients  671, {split: n} or None
    classes      {class: n} or {class: {"images": n or {split: n}, "patients": ...}}
    sizes        {"512 × 512": n}          any value of image facts that is counted: shapes, bits,
    bits, units, spacings, channels        {value: n}
    covariates   {column: {value: n}}
    duplicates   {"exact": n, "near": n, "pairs": [{"first", "second", "kind", "score", "how"}]}
    leaks        [{"kind", "splits", "patient", "keys"}] as in report.json
    quarantine   [{"path", "reason"}]      problems  the same, of rows of a table
    notes        ["one sentence", ...]     what a person should know, such as of a CSV
    phantoms     True                      the page is stamped
    facts        [["label", "value"], ...] further rows
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medgraft import storage
from medgraft.report import grids, pictures, rendering
from medgraft.report.phrases import count, decimal, whole
from medgraft.report.verdict import of

Survey = Mapping[str, Any]

_SECTIONS = (
    ("survey_classes", "Classes"),
    ("survey_images", "Images"),
    ("survey_leaks", "Leaks between parts"),
    ("survey_duplicates", "Duplicates"),
    ("survey_quarantine", "What cannot be used"),
    ("survey_covariates", "Other columns"),
)
_MOST_ROWS, _MOST_PAIRS = 40, 24
_COUNTED = {
    "sizes": "Size (height × width)",
    "bits": "Bits a sample",
    "channels": "Channels",
    "units": "Unit",
    "spacings": "Spacing in mm",
    "modalities": "Modality",
    "formats": "Format",
}


def write_survey_page(
    survey: Survey, *, folder: Path, thumbnails: Mapping[str, np.ndarray] | None = None, name: str = "survey.html"
) -> Path:
    """Write the page of a survey and get its path.

    Args:
        survey: what `survey.json` holds; its form is at the top of this module.
        folder: where the page goes.
        thumbnails: key -> uint8 image `(H, W)` or `(H, W, 3)`, shown beside duplicates and leaks.
        name: the file's name.
    """
    path = Path(folder) / name
    storage.write_text(path, render_survey(survey, thumbnails=thumbnails))
    return path


def render_survey(survey: Survey, *, thumbnails: Mapping[str, np.ndarray] | None = None) -> str:
    """Get the page of a survey as text; see `write_survey_page`."""
    images, patients = _total(survey.get("images")), _total(survey.get("patients"))
    view = {
        "survey": survey,
        "title": str(survey.get("name") or survey.get("root") or "Data set"),
        "lead": _lead(survey, images, patients),
        "warnings": _warnings(survey),
        "figures": _figures(survey, images, patients),
        **_class_view(survey),
        **_image_view(survey),
        **_pair_view(survey, thumbnails or {}),
        "quarantine": list(survey.get("quarantine") or ())[:_MOST_ROWS],
        "problems": list(survey.get("problems") or ())[:_MOST_ROWS],
        "covariates": [(c, _top(v)) for c, v in of(survey, "covariates").items()],
    }
    return rendering.page(_SECTIONS, frame="survey.html", view=view)


def _total(value: Any) -> int | None:
    if isinstance(value, Mapping):
        return sum(int(n or 0) for n in value.values())
    return int(value) if isinstance(value, int | float) else None


def _lead(survey: Survey, images: int | None, patients: int | None) -> str:
    parts = [count(images, "image")] if images is not None else ["Images"]
    if patients:
        parts.append(f"of {count(patients, 'patient')}")
    if survey.get("classes"):
        parts.append(f"in {count(len(survey['classes']), 'class', 'classes')}")
    return " ".join(parts) + "."


def _warnings(survey: Survey) -> list[dict[str, str]]:
    found = []
    leaks, bad = len(survey.get("leaks") or ()), len(survey.get("quarantine") or ())
    if leaks:
        text = f"{count(leaks, 'patient or image', 'patients or images')} shared by two parts; training refuses that."
        found.append({"level": "stop", "title": "Leaks", "text": text})
    if bad:
        found.append({"level": "note", "title": "Unusable", "text": f"{count(bad, 'file')} cannot be read; see below."})
    if "patients" in survey and not survey["patients"]:
        text = "No patient is known. Scores will be marked “split by image” unless a patient column is named."
        found.append({"level": "note", "title": "No patients", "text": text})
    return found + [{"level": "note", "title": "Note", "text": str(words)} for words in survey.get("notes") or ()]


def _figures(survey: Survey, images: int | None, patients: int | None) -> list[dict[str, str]]:
    duplicates = of(survey, "duplicates")
    rows = [
        ("Images", images, survey.get("layout") or "found"),
        ("Patients", patients, "known" if patients else "not known"),
        ("Identical", duplicates.get("exact"), "pairs of images"),
        ("Nearly identical", duplicates.get("near"), "pairs of images"),
        ("Leaks", len(survey["leaks"]) if survey.get("leaks") is not None else None, "between parts"),
        ("Unusable", len(survey["quarantine"]) if survey.get("quarantine") is not None else None, "files"),
    ]
    return [{"label": label, "value": whole(n), "detail": str(detail)} for label, n, detail in rows if n is not None]


def _class_view(survey: Survey) -> dict[str, Any]:
    rows: dict[str, dict[str, Any]] = {}
    splits: list[str] = []
    for name, value in of(survey, "classes").items():
        images = value.get("images") if isinstance(value, Mapping) and "images" in value else value
        parts = dict(images) if isinstance(images, Mapping) else {}
        splits += [split for split in parts if split not in splits]
        rows[str(name)] = {"images": parts, "total": _total(images) or 0}
    order = [s for s in ("train", "val", "test") if s in splits] + [
        s for s in splits if s not in ("train", "val", "test")
    ]
    totals = {name: row["total"] for name, row in rows.items()}
    return {
        "class_rows": rows,
        "splits": order,
        "split_names": {"train": "Training", "val": "Validation", "test": "Test"},
        "class_bars": grids.sizes(totals, most=24) if totals else None,
        "split_bars": grids.split_bars(rows, order) if len(order) > 1 else None,
    }


def _image_view(survey: Survey) -> dict[str, Any]:
    counted = []
    for key, label in _COUNTED.items():
        values = survey.get(key)
        if isinstance(values, Mapping) and values:
            counted.append((label, _top(values), grids.sizes(dict(values), most=8) if len(values) > 2 else None))
    facts = [(str(label), value) for label, value in survey.get("facts") or ()]
    for key, label in (("kind", "Kind of target"), ("modality", "Modality"), ("layout", "Layout"), ("root", "Folder")):
        if survey.get(key):
            facts.append((label, survey[key]))
    return {"counted": counted, "facts": facts}


def _top(values: Any, most: int = 8) -> str:
    """Get "512 × 512 (1 075), 768 × 768 (3) and 2 others" of counted values."""
    if not isinstance(values, Mapping):
        return str(values)
    ordered = sorted(values.items(), key=lambda pair: (-_number(pair[1]), str(pair[0])))
    words = [f"{name} ({whole(n)})" if isinstance(n, int | float) else f"{name}: {n}" for name, n in ordered[:most]]
    return ", ".join(words) + (f" and {len(ordered) - most} others" if len(ordered) > most else "")


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _pair_view(survey: Survey, thumbnails: Mapping[str, np.ndarray]) -> dict[str, Any]:
    duplicates, leaks = of(survey, "duplicates"), list(survey.get("leaks") or ())
    pairs = list(duplicates.get("pairs") or ())
    wanted = {key for leak in leaks[:_MOST_ROWS] for key in (leak.get("keys") or ())[:2]}
    wanted |= {pair[end] for pair in pairs[:_MOST_PAIRS] for end in ("first", "second")}
    shown = {key: pictures.data_uri(thumbnails[key], most=128) for key in sorted(wanted) if key in thumbnails}
    return {
        "leaks": leaks[:_MOST_ROWS],
        "more_leaks": max(0, len(leaks) - _MOST_ROWS),
        "pairs": [{**pair, "match": decimal(pair.get("score"), 3)} for pair in pairs[:_MOST_PAIRS]],
        "more_pairs": max(0, len(pairs) - _MOST_PAIRS),
        "thumbnails": shown,
    }
