"""Scores of a run that draws label maps on other data with label maps; nothing is fitted there."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medgraft import outside, pages, storage
from medgraft.errors import BadData, RunRefused
from medgraft.gather import Listen
from medgraft.learn import stopping
from medgraft.recipe import load
from medgraft.report.card import write_card
from medgraft.report.page import write_report
from medgraft.samples.dataset import Columns, DataSet, read_samples
from medgraft.samples.label_maps import CheckedMasks, checked_masks
from medgraft.samples.mask_grid import laid
from medgraft.samples.survey import limit_bad
from medgraft.segmentation.drawer import Drawer
from medgraft.segmentation.judge import verdicts
from medgraft.segmentation.opened import MaskRun
from medgraft.segmentation.parts import PREVIEW, shown_in
from medgraft.values import Sample


def evaluate_masks(
    run: MaskRun, data: Path, *, out: Path, columns: Columns, percent_bad: float, listen: Listen
) -> dict[str, Any]:
    """Score a run on data with label maps and write report.json, report.html, predictions.csv and masks/.

    When the data have splits, only their test part is used. What numbers mean, and all that was chosen, is the run's.

    Raises:
        RunRefused: `out` holds a report already.
        BadData: no image has a label map, or the classes are not those of the run.
        Leak: images of the run's training or validation are among the data.
    """
    if (out / "report.json").exists():
        raise RunRefused("this folder holds a report already", where=out, do="Give another --out.")
    pages.refuse_others(out, data=data)
    out.mkdir(parents=True, exist_ok=True)
    dataset = read_samples(data, columns=columns, limit_bad=percent_bad)
    whole, checked = _labelled(run, dataset, percent_bad)
    samples, notes = outside.chosen(whole)
    store, records = outside.stored(samples, PREVIEW[run.form.axes], listen=listen)
    store.close()
    outside.refuse_training_images(run.folder, samples, records=records)
    doubts = outside.doubts_of(run.folder, samples, records=records)
    notes = [*checked.notes, *notes]
    for text in (*doubts, *notes):
        listen({"event": "warning" if text in doubts else "say", "text": text})
    kept_set = replace(whole, samples=tuple(samples))
    bad = [(problem.path, problem.reason) for problem in limit_bad(kept_set, records, percent=percent_bad)]
    good = [sample for sample, record in zip(samples, records, strict=True) if record["error"] is None]
    drawer = Drawer(out, run.task, run.engine, form=checked.form, rules=run.rules)
    speed = _drawn(drawer, run, good, listen=listen)
    seed, resamples = int(run.report["seed"]), load(run.folder / "recipe.yaml").scores.resamples
    head = outside.head_of(run, kept_set, records, bad, notes)
    report = {
        **head,
        "warnings": [*head["warnings"], *doubts],
        **verdicts(drawer.judged, run.rules, seed=seed, resamples=resamples),
        "timing": {"predict_images_per_second": round(speed, 3)},
    }
    storage.write_table(out / "quarantine.csv", report["quarantine"], columns=("path", "reason"))
    drawer.write_table()
    write_report(report, folder=out, curves={"drawn": drawer.curves()}, gallery=drawer.gallery.rows())
    write_card(report, out)
    storage.write_json(out / "report.json", report)
    return report


def _labelled(run: MaskRun, dataset: DataSet, percent_bad: float) -> tuple[DataSet, CheckedMasks]:
    """Get the samples with label maps of the run's classes; their own names say which number is which.

    Raises:
        BadData: there are none, or they are not of the run's classes.
    """
    own, form = checked_masks(dataset, limit_bad=percent_bad), run.masks
    if own.form.instances != form.instances or (not form.instances and len(own.form.names) > len(form.names)):
        kinds = {True: "things that are told apart", False: f"{len(own.form.names)} classes"}
        what = f"the label maps hold {kinds[own.form.instances]}, the run draws {', '.join(form.names)}"
        raise BadData(what, where=dataset.root, do="Give label maps of the same classes.")
    if not form.instances:
        own = _in_order(own, run, dataset)
    samples = [
        replace(sample, label="|".join(shown_in(facts, own.form)))
        for sample, facts in zip(own.samples, own.facts, strict=True)
    ]
    problems = (*dataset.problems, *(replace(one, part=True) for one in own.problems))
    return replace(dataset, samples=tuple(samples), problems=problems), own


def _in_order(own: CheckedMasks, run: MaskRun, dataset: DataSet) -> CheckedMasks:
    """Bring the classes of the data into the run's order: by name, else by number, else the only one."""
    theirs, ours = own.form, run.masks
    if set(theirs.names) <= set(ours.names):
        places = {name: value for name, value in zip(theirs.names, theirs.values, strict=True)}
        values = tuple(places.get(name, -1) for name in ours.names)
    elif set(theirs.values) <= set(ours.values):
        values = ours.values
    elif len(theirs.names) == len(ours.names) == 1:
        values = theirs.values
    else:
        what = f"the label maps hold {', '.join(theirs.names)}, the run draws {', '.join(ours.names)}"
        raise BadData(what, where=dataset.root, do="Name the numbers alike, in a dataset.json.")
    return replace(own, form=replace(theirs, names=ours.names, values=values))


def _drawn(drawer: Drawer, run: MaskRun, samples: Sequence[Sample], *, listen: Listen) -> float:
    """Draw on all images; get images per second."""
    began = time.perf_counter()
    for done, sample in enumerate(samples, start=1):
        stopping.check()
        one = laid(sample.image, run.form.grid)
        drawer.add("test", sample, one.pixels, one.frame)
        listen({"event": "predict", "done": done, "of": len(samples)})
    return len(samples) / max(time.perf_counter() - began, 1e-9)
