"""Scores of a run that learnt to outline on other data with label maps; nothing is fitted there."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from medgraft import outside, pages, storage
from medgraft.errors import BadData, RunRefused
from medgraft.gather import Listen
from medgraft.outlining.job import gallery_of, write_table
from medgraft.outlining.judge import asked, verdicts
from medgraft.outlining.opened import PromptRun
from medgraft.outlining.parts import JUDGED_EACH
from medgraft.outlining.shown import pictures_of
from medgraft.recipe import load
from medgraft.report.card import write_card
from medgraft.report.page import write_report
from medgraft.samples.dataset import Columns, read_samples
from medgraft.samples.label_maps import checked_masks
from medgraft.samples.survey import limit_bad
from medgraft.segmentation.parts import PREVIEW, shown_in


def evaluate_prompts(
    run: PromptRun, data: Path, *, out: Path, columns: Columns, percent_bad: float, listen: Listen
) -> dict[str, Any]:
    """Show a run the structures of label maps, and write report.json, report.html and predictions.csv.

    When the data have splits, only their test part is used. What the structures are called need not be the run's.

    Raises:
        RunRefused: `out` holds a report already.
        BadData: no image has a label map with a structure.
        Leak: images of the run's training or validation are among the data.
    """
    if (out / "report.json").exists():
        raise RunRefused("this folder holds a report already", where=out, do="Give another --out.")
    pages.refuse_others(out, data=data)
    out.mkdir(parents=True, exist_ok=True)
    dataset = read_samples(data, columns=columns, limit_bad=percent_bad)
    checked = checked_masks(dataset, limit_bad=percent_bad)
    labelled = [
        replace(sample, label="|".join(shown_in(facts, checked.form)))
        for sample, facts in zip(checked.samples, checked.facts, strict=True)
    ]
    problems = (*dataset.problems, *(replace(one, part=True) for one in checked.problems))
    whole = replace(dataset, samples=tuple(labelled), problems=problems)
    samples, notes = outside.chosen(whole)
    store, records = outside.stored(samples, PREVIEW[len(checked.facts[0].shape)], listen=listen)
    store.close()
    outside.refuse_training_images(run.folder, samples, records=records)
    doubts = outside.doubts_of(run.folder, samples, records=records)
    notes = [*checked.notes, *notes]
    for text in (*doubts, *notes):
        listen({"event": "warning" if text in doubts else "say", "text": text})
    kept_set = replace(whole, samples=tuple(samples))
    bad = [(problem.path, problem.reason) for problem in limit_bad(kept_set, records, percent=percent_bad)]
    good = [sample for sample, record in zip(samples, records, strict=True) if record["error"] is None]
    pictures = [list(pictures_of(sample, checked.form, run.form)) for sample in good]
    began = time.perf_counter()
    found = asked(run.model, good, pictures, most=JUDGED_EACH, listen=listen)
    if not found.rows:
        what = f"no label map has a structure of {run.form.least} pixels or more"
        raise BadData(what, where=dataset.root, do="Look at the label maps.")
    speed = len(good) / max(time.perf_counter() - began, 1e-9)
    head = outside.head_of(run, kept_set, records, bad, notes)
    resamples = load(run.folder / "recipe.yaml").scores.resamples
    report = {
        **head,
        "classes": list(checked.form.names),
        "warnings": [*head["warnings"], *doubts],
        **verdicts({"test": found}, None, seed=int(run.report["seed"]), count=resamples),
        "timing": {"predict_images_per_second": round(speed, 3)},
    }
    storage.write_table(out / "quarantine.csv", report["quarantine"], columns=("path", "reason"))
    write_table(out / "predictions.csv", {"test": found})
    write_report(report, folder=out, curves={}, gallery=gallery_of(run.model, found, pictures))
    write_card(report, out)
    storage.write_json(out / "report.json", report)
    return report
