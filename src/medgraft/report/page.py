"""The report page of a run: one file that opens offline, reads like a paper and prints on A4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medgraft import storage
from medgraft.report import (
    certainty,
    curve_view,
    denoised,
    depth_page,
    drawn,
    enriched,
    found,
    generated,
    grids,
    learning,
    maps,
    outlined,
    pictures,
    plots,
    rendering,
    severity,
    shortcuts,
    slices,
    stress,
    unlike,
    verdict,
)
from medgraft.report.checklist import checklist
from medgraft.report.choices import probe_words, temperature_words, threshold_words, unsettled
from medgraft.report.methods import methods
from medgraft.report.phrases import count, listed, value_of, whole
from medgraft.report.score_names import named
from medgraft.report.verdict import of

_SECTIONS = (
    ("question", "What was asked"),
    ("data", "Data and split"),
    ("training", "How it was trained"),
    ("scores", "Scores"),
    ("learning", "How many more images?"),
    ("enriched", "Synthetic images beside real ones"),
    ("found", "What was found"),
    ("drawn", "What was drawn"),
    ("outlined", "What tuning bought"),
    ("generated", "How near to real ones, and copies"),
    ("unlike", "How unlike normal images"),
    ("denoised", "What was taken away, and how well"),
    ("curves", "Telling apart"),
    ("calibration", "Can the probabilities be believed?"),
    ("certainty", "How sure is it of one image?"),
    ("stress", "What if the images change?"),
    ("shortcuts", "Does it look at the finding?"),
    ("agreement", "Agreement with the truth"),
    ("severity", "How severe, and where?"),
    ("subgroups", "Subgroups"),
    ("mistakes", "The most certain mistakes"),
    ("methods", "Methods, ready to paste"),
    ("limits", "Limits"),
    ("again", "How to do it again"),
    ("checklist", "Reporting checklist"),
)
_MOST_PICTURES = {"mistake": 12, "right": 6}
_MOST_ROWS = 20
_MACHINE_NAMES = {"memory_gb": "Memory, GB", "torch": "PyTorch", "cpu": "CPU", "gpu": "GPU", "cuda": "CUDA"}


def write_report(
    report: Mapping[str, Any],
    *,
    folder: Path,
    curves: Mapping[str, Any] | None = None,
    gallery: Sequence[Mapping[str, Any]] = (),
    augmented: Sequence[np.ndarray] = (),
    name: str = "report.html",
) -> Path:
    """Write the page of a run and get its path.

    The form of every argument is in `medgraft.report.schema`. What is absent is not shown.

    Args:
        report: what `report.json` holds.
        folder: the run folder; the page is written into it, whole or not at all.
        curves: long lists; default `report["curves"]`.
        gallery: mistakes and right answers with their images.
        augmented: up to sixteen augmented training samples, uint8, or one sheet.
        name: the file's name.
    """
    path = Path(folder) / name
    storage.write_text(path, render_report(report, curves=curves, gallery=gallery, augmented=augmented))
    return path


def render_report(
    report: Mapping[str, Any],
    *,
    curves: Mapping[str, Any] | None = None,
    gallery: Sequence[Mapping[str, Any]] = (),
    augmented: Sequence[np.ndarray] = (),
) -> str:
    """Get the page of a run as text; see `write_report`."""
    lists: Mapping[str, Any] = of(report, "curves") if curves is None else curves
    report = {**drawn.flat(found.flat(report), lists), "_gallery": bool(gallery)}
    view = {
        "report": report,
        "title": _title(report),
        "question": _question(report),
        "verdict": verdict.verdict(report),
        "warnings": [
            *verdict.warnings(report),
            *(_note(words) for words in unsettled(report)),
            *shortcuts.warnings(report),
            *certainty.warnings(report),
            *generated.warnings(report),
            *denoised.warnings(report),
        ],
        "figures": verdict.key_figures(report),
        "limits": verdict.limits(report),
        "machine_names": _MACHINE_NAMES,
        "methods": methods(report),
        "threshold_words": threshold_words(of(report, "operating_point")),
        "temperature_words": temperature_words(report),
        "checklist": checklist(report),
        **_data_view(report),
        **_training_view(report, lists, augmented),
        **_score_view(report),
        **curve_view.view(report, lists),
        **certainty.view(report),
        **learning.view(report),
        **enriched.view(report),
        **stress.view(report),
        **shortcuts.view(report),
        **severity.view(report, lists),
        **found.view(report, lists),
        **drawn.view(report),
        **outlined.view(report),
        **generated.view(report, lists),
        **unlike.view(report, lists),
        **denoised.view(report, lists),
        **_gallery_view(gallery),
    }
    places = found.is_found(report) or drawn.is_drawn(report) or outlined.is_outlined(report)
    largest = {"mistakes": "The largest errors"} if places or not report.get("classes") else {}
    sections = [(stem, largest.get(stem, title)) for stem, title in _SECTIONS]
    script = "slices.js" if view["stacked"] else None
    return rendering.page(sections, frame="report.html", view=view, script=script)


def _note(words: str) -> dict[str, str]:
    return {"level": "note", "title": "Settled on validation with a reserve", "text": words}


def _title(report: Mapping[str, Any]) -> str:
    return str(report.get("title") or of(report, "data").get("name") or f"Report of a {report.get('task')} run")


def _question(report: Mapping[str, Any]) -> str:
    if report.get("question"):
        return str(report["question"])
    if generated.is_generated(report):
        return generated.question(report)
    if unlike.is_unlike(report) or denoised.is_denoised(report):
        return (unlike if unlike.is_unlike(report) else denoised).question(report)
    classes = [str(c) for c in report.get("classes") or ()]
    if report.get("task") == "regress" or not classes:
        target = of(report, "target")
        unit = f" in {target['unit']}" if target.get("unit") else ""
        return f"How large is {target['name']}{unit}, judged from one image?" if target.get("name") else ""
    if report.get("task") == "multilabel":
        return f"Which of {len(classes)} labels apply to an image?"
    if drawn.is_drawn(report):
        return drawn.question(report)
    if outlined.is_outlined(report):
        return outlined.question(report)
    if found.is_found(report):
        return f"Where in an image is {listed([f'“{name}”' for name in classes], 'or')}?"
    if report.get("task") == "grade":
        return f"Which of {len(classes)} ordered grades does an image show?"
    severe = " How severe is it in each zone?" if of(report, "severity") else ""
    if len(classes) == 2:
        return f"Does an image show “{report.get('positive') or classes[1]}”?{severe}"
    return f"Which of {len(classes)} classes does an image show?{severe}"


def _data_view(report: Mapping[str, Any]) -> dict[str, Any]:
    data = of(report, "data")
    classes = of(data, "classes")
    order = [s for s in ("train", "val", "test") if s in (data.get("images") or {})]
    splits = order + [s for s in data.get("images") or {} if s not in order]
    sums = [sum(of(one, "images").get(s) or 0 for one in classes.values()) == (data["images"][s] or 0) for s in splits]
    # With several labels an image the shares do not add up, so there is no bar of them.
    bars = grids.split_bars(classes, splits) if classes and all(sums) else None
    return {
        "data": data,
        "splits": splits,
        "split_names": {"train": "Training", "val": "Validation", "test": "Test"},
        "split_bars": bars,
        "leaks": list(data.get("leaks") or ())[:_MOST_ROWS],
        "quarantine": list(report.get("quarantine") or ())[:_MOST_ROWS],
        "duplicates": _duplicates(of(data, "duplicates")),
    }


def _duplicates(copies: Mapping[str, Any]) -> str:
    """Say how many copies there are: groups where they are known, else pairs."""
    for suffix, noun in (("_groups", "group"), ("", "pair")):
        exact, near = copies.get(f"exact{suffix}"), copies.get(f"near{suffix}")
        if exact is not None or near is not None:
            if not exact and not near:
                return "none found"
            return f"{count(exact or 0, noun)} of identical and {whole(near or 0)} of nearly identical images"
    return ""


def _training_view(
    report: Mapping[str, Any], curves: Mapping[str, Any], augmented: Sequence[np.ndarray]
) -> dict[str, Any]:
    rows = list(curves.get("train") or ())
    training = of(report, "training")
    name = named(str(training.get("score") or "score"))
    best, score = training.get("best_epoch"), name.title
    axis = f"Validation {score}" if len(score) < 24 else "Validation score"
    scored = _as_named(rows) if name.lower_is_better else rows
    shown = [
        plots.training(rows, names=("loss", "val_loss"), best=best, y_label="Loss"),
        plots.training(scored, names=("val_score",), best=best, y_label=axis),
    ]
    depth = of(report, "depth")
    return {
        "training_facts": _training_facts(report),
        "training_score": score,
        "training_kept": "last weights" if best is None else "weights of the best epoch",
        "ladder": [] if drawn.is_whole(report) else depth_page.ladder(of(report, "depth")),
        "training_plots": [plot for plot in shown if plot] if len(rows) > 1 else [],  # one dot is no curve
        **depth_page.view({**of(depth, "searched"), **depth}),
        "augmented": _augmented(augmented),
    }


def _as_named(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Get epochs with a score that is better when lower: what is watched is its negative."""
    return [dict(row) if row.get("val_score") is None else {**row, "val_score": -row["val_score"]} for row in rows]


def _augmented(images: Sequence[np.ndarray]) -> str | None:
    if not len(images):
        return None
    one = images[0] if len(images) == 1 else pictures.sheet(list(images)[:16])
    return pictures.data_uri(one, most=1240, quality=80)


def _training_facts(report: Mapping[str, Any]) -> list[tuple[str, Any]]:
    training = of(report, "training")
    size = training.get("image_size")
    rows = [
        ("Probe", probe_words(training["probe"]) if training.get("probe") else None),
        ("Optimiser", training.get("optimiser")),
        ("Learning rate", training.get("learning_rate")),
        ("Schedule", training.get("schedule")),
        ("Weight decay", training.get("weight_decay")),
        ("Batch", training.get("batch_size")),
        (
            "Image size",
            None if drawn.is_drawn(report) else f"{size[0]} × {size[1]}" if isinstance(size, list | tuple) else size,
        ),
        ("Loss", training.get("loss")),
        ("Class balance", training.get("balance")),
        ("Label smoothing", training.get("label_smoothing")),
        ("Mixup", training.get("mixup")),
        ("Moving average of weights", training.get("ema")),
        ("Precision", training.get("precision")),
        ("Epochs", _epochs(training)),
        *[(str(label)[:1].upper() + str(label)[1:], value) for label, value in training.get("facts") or ()],
    ]
    return [(label, value) for label, value in rows if value not in (None, "", False)]


def _epochs(training: Mapping[str, Any]) -> str | None:
    if training.get("epochs") is None or training.get("epochs_planned") == 0:
        return None
    planned = training.get("epochs_planned")
    words = f"{training['epochs']}" + (f" of {planned} planned" if planned and planned != training["epochs"] else "")
    return f"{words}; {training['stopped']}" if training.get("stopped") else words


def _score_view(report: Mapping[str, Any]) -> dict[str, Any]:
    main = verdict.primary(report)
    test, val = of(report, "scores", "test"), of(report, "scores", "val")
    points = _point_scores(of(report, "operating_point"))
    places = drawn.is_drawn(report) or outlined.is_outlined(report)
    per_class = {} if places and len(report.get("classes") or ()) == 1 else of(report, "per_class")
    told = points or set(*[row for row in list(_points(report).values())[:1]])  # stands in the table above
    columns = [n for n in dict.fromkeys(n for row in per_class.values() for n in row) if n not in told]
    columns = [n for n in ("ap50", "f1", "recall", "precision") if n in columns] or columns[:4]
    columns = drawn.columns(per_class) if drawn.is_drawn(report) else columns
    return {
        "main": main,
        "table_scores": {name: score for name, score in test.items() if name not in points},
        "val_shown": {name: val[name] for name in _few(val, main)},
        "patient_scores": of(report, "patient_scores"),
        "per_class": per_class,
        "per_class_columns": columns,
        "chosen_on_val": _chosen_on_val(report),
        "point": of(report, "operating_point"),
        "point_scores": points,
        "points": _points(report),
        "has_thresholds": any(row.get("threshold") is not None for row in _points(report).values()),
        **_forests(report, main),
    }


def _chosen_on_val(report: Mapping[str, Any]) -> list[str]:
    training = of(report, "training")
    blind = "best_epoch" in training and training["best_epoch"] is None  # validation images could choose nothing
    epoch = [] if blind or training.get("epochs") == 0 else ["the epoch"]
    threshold = of(report, "operating_point").get("threshold")
    things = drawn.kind_of(report) == "things" and not blind
    parting = ["what it takes to part two things"] if things else []
    return epoch + ([] if threshold is None else ["the threshold"]) + parting


def _few(scores: Mapping[str, Any], main: str | None) -> list[str]:  # those that stand for all
    return [n for n in (main, "balanced_accuracy", "accuracy") if n and n in scores] or list(scores)[:3]


def _points(report: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """One operating point a class or label, with its own threshold where there is a list of them."""
    point = of(report, "operating_point")
    rows = {str(name): dict(one) for name, one in (of(report, "operating_points") or of(point, "classes")).items()}
    thresholds = point.get("threshold")
    for place, row in enumerate(rows.values()):
        if "threshold" not in row and isinstance(thresholds, list | tuple) and place < len(thresholds):
            row["threshold"] = thresholds[place]
    return rows


def _point_scores(point: Mapping[str, Any]) -> dict[str, Any]:
    """Sensitivity and the like, then the predictive values at each stated share of positives."""
    found = {name: point[name] for name in ("sensitivity", "specificity", "ppv", "npv") if point.get(name)}
    for one in point.get("at_prevalence") or ():
        share = one.get("prevalence")
        found.update({f"{name}@{share}": one[name] for name in ("ppv", "npv") if one.get(name)})
    return found


def _forests(report: Mapping[str, Any], main: str | None) -> dict[str, Any]:
    groups = [s for s in report.get("subgroups") or () if s.get("scores")]
    name = (
        main if any(main in s["scores"] for s in groups) else next(iter(groups[0]["scores"]), None) if groups else None
    )
    if not groups or name is None:
        return {"forest": None, "subgroups": [], "silent_groups": [], "subgroup_columns": [], "subgroup_main": None}
    silent: dict[str, list[tuple[str, str]]] = {}
    for one in groups:
        why = _why(one["scores"].get(name))
        if why:
            silent.setdefault(str(one["covariate"]), []).append((str(one["group"]), why))
    noisy = {column for column, rows in silent.items() if len(rows) > 3}
    shown = [s for s in groups if str(s["covariate"]) not in noisy or value_of(s["scores"].get(name)) is not None]
    overall = of(report, "scores", "test").get(name)
    rows = [{**s, "score": s["scores"].get(name)} for s in shown]
    picture = grids.forest(rows, overall=overall, title=named(name).title, chance=named(name).chance)
    columns = list(dict.fromkeys(n for s in shown for n in s["scores"] if n != name))[:3]
    found = {"forest": picture, "subgroups": shown, "silent_groups": [_silence(c, r) for c, r in silent.items()]}
    return {**found, "subgroup_columns": columns, "subgroup_main": name}


def _silence(column: str, rows: Sequence[tuple[str, str]]) -> str:
    """Get "age (60 to 70, 70 to 80): 8 cases are too few" of the groups of one column."""
    names = [name for name, _ in rows[:3]] + ([f"{len(rows) - 3} more"] if len(rows) > 3 else [])
    return f"{column} ({', '.join(names)}): {rows[0][1]}"


def _why(score: Mapping[str, Any] | None) -> str:
    """Get the reason that a score has no value, else nothing."""
    return str(score.get("why") or "not computable") if score and value_of(score) is None else ""


def _gallery_view(gallery: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    view: dict[str, list[dict[str, Any]]] = {"mistake": [], "right": []}
    for one in gallery:
        kind = str(one.get("kind") or "mistake")
        if kind in view and len(view[kind]) < _MOST_PICTURES[kind]:
            address = pictures.data_uri(one["image"], most=int(one.get("most") or 224))
            picture = {"address": address, "tiny": pictures.is_tiny(one["image"])}
            words = {k: one.get(k) for k in ("key", "truth", "predicted", "probability", "patient", "note")}
            view[kind].append({**words, **picture, **maps.beside(one), **slices.beside(one)})
    mapped = [row for row in view["mistake"] if row.get("map") and not row.get("stack")]
    stacked = [row for row in view["mistake"] if row.get("stack")]
    rest = [row for row in view["mistake"] if not row.get("map") and not row.get("stack")]
    return {"mapped": mapped, "stacked": stacked, "mistakes": rest, "rights": view["right"]}
