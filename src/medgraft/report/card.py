"""The model card: what the model is for, what it was made of, and how good it is, as plain Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from medgraft import storage
from medgraft.report import drawn, found, severity
from medgraft.report.choices import probe_words, temperature_words, threshold_words
from medgraft.report.phrases import (
    clean,
    count,
    decimal,
    has_interval,
    interval,
    listed,
    percent,
    sentence,
    tuned_words,
    value_of,
    whole,
)
from medgraft.report.score_names import interval_note, named
from medgraft.report.verdict import limits, of, verdict

Report = Mapping[str, Any]
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~!])")
_SPLITS = {"train": "training", "val": "validation", "test": "test"}


def write_card(report: Report, folder: Path) -> Path:
    """Write `model-card.md` into the run folder and get its path; the form of `report` is in `report.schema`."""
    path = Path(folder) / "model-card.md"
    storage.write_text(path, render_card(report))
    return path


def render_card(report: Report) -> str:
    """Get the card as Markdown; every foreign word is escaped, so that it stays text."""
    report = drawn.flat(found.flat(report))
    parts = [_head(report), _use(report), _data(report), _scores(report), _groups(report), _limits(report)]
    return "\n".join(line for part in [*parts, _files(report)] for line in part).rstrip() + "\n"


def plain(words: object) -> str:
    r"""Get text that Markdown shows as it is, on one line.

    Example:
        >>> plain("<b>a|b</b>")
        '\\<b\\>a\\|b\\</b\\>'
    """
    return _SPECIAL.sub(r"\\\1", " ".join(clean(str(words)).split()))


def _head(report: Report) -> Iterator[str]:
    name = report.get("title") or of(report, "data").get("name") or f"{report.get('task')} model"
    yield f"# Model card: {plain(name)}"
    yield ""
    if report.get("phantoms"):
        yield "> **Trained on phantoms: procedural images, not patients.** It says nothing about people."
        yield ""
    yield "> **Research use only; not a medical device.**"
    yield ""
    yield plain(" ".join(verdict(report)))
    yield ""


def _use(report: Report) -> Iterator[str]:
    yield "## Intended use"
    yield ""
    yield plain(report.get("intended_use") or "Not stated by the authors. Until it is, the model is for research only.")
    yield ""
    if report.get("question"):
        yield f"- Question: {plain(report['question'])}"
    yield f"- Task: {plain(report.get('task'))}"
    classes = list(report.get("classes") or ())
    if classes:
        positive = f" (positive: {plain(report['positive'])})" if report.get("positive") is not None else ""
        yield f"- Answers: {', '.join(plain(c) for c in classes)}{positive}"
    size = of(report, "backbone", "input").get("size")
    colour = {1: "gray", 3: "colour"}.get(of(report, "backbone", "input").get("channels"), "")
    if drawn.is_drawn(report):
        yield f"- Input: images of any size{f', in {colour}' if colour else ''}"
        yield "- Output: a label map on the grid of each file" + (
            ", in which each thing has a number of its own" if drawn.kind_of(report) == "things" else ""
        )
    elif size:
        shown = f", {colour}" if colour else ""
        yield f"- Input: images at {size[0]} × {size[1]} pixels{shown}; other sizes are resized"
    yield "- Out of scope: diagnosis or treatment; other body parts, modalities or populations than those below"
    yield ""


def _data(report: Report) -> Iterator[str]:
    data = of(report, "data")
    if data:
        yield "## Data"
        yield ""
        if data.get("name"):
            yield f"- Source: {plain(data['name'])}"
        if data.get("licence"):
            yield f"- Licence of the data: {plain(data['licence'])}"
        for kind in ("images", "patients"):
            if of(data, kind):
                counts = [f"{whole(n)} {_SPLITS.get(s, s)}" for s, n in of(data, kind).items() if n is not None]
                yield f"- {kind.capitalize()}: {listed(counts)}"
        if report.get("evaluated_run"):
            yield f"- All are test images of the run {plain(report['evaluated_run'])}"
        elif data.get("split_by"):
            note = "" if data["split_by"] == "patient" else "; patients are not known, so scores may be too good"
            source = plain(sentence(data.get("split_source") or ""))
            yield f"- Split by {plain(data['split_by'])}{note}. {source}".rstrip()
        if data.get("leaks_allowed"):
            yield "- **The splits share patients or images and the user allowed it: the scores are too good.**"
        if data.get("quarantined"):
            yield f"- Files set aside as unusable: {whole(data['quarantined'])}"
        yield ""


def _scores(report: Report) -> Iterator[str]:
    test = of(report, "scores", "test")
    if test:
        yield "## Scores on test images"
        yield ""
        yield from _table(test)
    if of(report, "severity").get("zones"):
        yield "## Severities of zones on test images"
        yield ""
        yield plain(" ".join(severity.words(of(report, "severity"))))
        yield ""
        yield from _table(severity.table(of(report, "severity")))
    people = of(report, "patient_scores")
    if people:
        yield "## Scores of patients"
        yield ""
        yield from _table(people, patients=True)
    point = of(report, "operating_point")
    named_scores = {n: point[n] for n in ("sensitivity", "specificity", "ppv", "npv") if point.get(n)}
    if named_scores and isinstance(point.get("threshold"), int | float):
        yield "## Threshold"
        yield ""
        yield plain(f"{decimal(point['threshold'])}, {threshold_words(point)}.")
        yield ""
        yield from _table(named_scores)
        for one in point.get("at_prevalence") or ():
            yield f"Where {percent(one.get('prevalence'), 1)} have the finding, by Bayes:"
            yield ""
            yield from _table({name: one[name] for name in ("ppv", "npv") if one.get(name)})
    said = temperature_words(report)
    if said:
        yield plain(" ".join(said))
        yield ""


def _table(scores: Mapping[str, Mapping[str, Any]], *, patients: bool = False) -> Iterator[str]:
    """Rows of scores; with `patients` each of `n` is a patient."""
    yield f"| Score | Value | 95 % interval |{'' if patients else ' Images |'} Patients |"
    yield f"|---|---:|---|{'' if patients else '---:|'}---:|"
    for name, score in scores.items():
        cells = _cells(score)
        yield f"| {plain(named(name).title)} | {cells.rpartition(' | ')[0] if patients else cells} |"
    yield ""
    note = interval_note(scores)
    if note:
        yield plain(note)
        yield ""


def _cells(score: Mapping[str, Any]) -> str:
    why = f": {plain(score['why'])}" if score.get("why") else ""
    value = value_of(score)
    ends = interval(score) if has_interval(score) else f"none{why}"
    first = f"{decimal(value)} | {ends}" if value is not None else f"– | not computable{why}"
    sizes = [whole(score[n]) if score.get(n) is not None else "" for n in ("n", "n_patients")]
    return f"{first} | {sizes[0]} | {sizes[1]}"


def _groups(report: Report) -> Iterator[str]:
    groups = [s for s in report.get("subgroups") or () if s.get("scores")]
    if not groups:
        return
    yield "## Subgroups"
    yield ""
    yield "| Group | Score | Value | 95 % interval | Images | Patients |"
    yield "|---|---|---:|---|---:|---:|"
    for one in groups:
        for name, score in one["scores"].items():
            sizes = {"n": one.get("n"), "n_patients": one.get("n_patients"), **score}
            yield f"| {plain(one['covariate'])}: {plain(one['group'])} | {plain(named(name).title)} | {_cells(sizes)} |"
    yield ""


def _limits(report: Report) -> Iterator[str]:
    yield "## Limits"
    yield ""
    for words in limits(report):
        yield f"- {plain(words)}"
    yield ""


def _files(report: Report) -> Iterator[str]:
    backbone, depth = of(report, "backbone"), of(report, "depth")
    yield "## Origin and files"
    yield ""
    if backbone:
        start = "random numbers" if backbone.get("random") else plain(backbone.get("source") or "unknown source")
        alone = drawn.is_whole(report)
        yield f"- {'Net' if alone else 'Encoder'}: {plain(drawn.encoder(report))}, from {start}"
        if not alone:
            licence = plain(backbone.get("licence") or "not stated; ask before use")
            yield f"- Licence of the encoder's weights: {licence}"
        if backbone.get("sha256") and not alone:
            yield f"- sha256 of the encoder's weights: `{plain(backbone['sha256'])}`"
    if depth.get("thawed_stages") is not None and not drawn.is_whole(report):
        reason = plain(sentence(depth.get("reason") or ""))
        yield f"- Depth: {tuned_words(depth)}. {reason}".rstrip()
    if backbone.get("recalibrated"):
        images = count(backbone["recalibrated"], "training image")
        yield f"- Batch normalisation: measured anew on {images}, without their labels"
    added = sum(of(report, "enrichment", "synthetic").values())
    if added:
        yield f"- Training images: {count(added, 'synthetic one')} beside the real ones, drawn by a generator"
    training = of(report, "training")
    if training.get("probe"):
        kept = "kept as it is" if training.get("best_epoch") == 0 else "tuned from there"
        yield f"- Head: a probe with {plain(probe_words(training['probe']))}; {kept}"
    for name, value in of(report, "checksums").items():
        yield f"- sha256 of {plain(name)}: `{plain(value)}`"
    if report.get("recipe_sha256"):
        yield f"- sha256 of the recipe: `{plain(report['recipe_sha256'])}`"
    if report.get("command"):
        yield f"- Made by: `{clean(str(report['command'])).replace('`', '').replace(chr(10), ' ')}`"
    made = f"- medgraft {plain(report.get('medgraft') or '')}, seed {plain(report.get('seed', 'unknown'))}"
    yield made + (f", {plain(report['created'])}" if report.get("created") else "")
