"""Scores of a run that draws label maps on other data with label maps; nothing is fitted there."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
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
from medgraft.samples.mask_facts import MaskFacts
from medgraft.samples.mask_grid import laid
from medgraft.samples.mask_meaning import UNKNOWN, MaskForm, is_unknown, numbers_named
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
    notes: list[str] = []

    def known(facts: Sequence[MaskFacts]) -> MaskForm:
        if dataset.mask_names and not run.masks.instances and not run.masks.colours:
            return _by_name(numbers_named(dataset.mask_names), run, dataset)
        return _by_number(facts, run.masks, notes)

    own = checked_masks(dataset, known=known, limit_bad=percent_bad)
    samples = [
        replace(sample, label="|".join(shown_in(facts, own.form)))
        for sample, facts in zip(own.samples, own.facts, strict=True)
    ]
    problems = (*dataset.problems, *(replace(one, part=True) for one in own.problems))
    return replace(dataset, samples=tuple(samples), problems=problems), replace(own, notes=(*notes, *own.notes))


def _by_name(theirs: Mapping[int, str], run: MaskRun, dataset: DataSet) -> MaskForm:
    """Bring the classes that the data name into the run's order, whatever their numbers; absent ones get free numbers.

    Raises:
        BadData: the data name a class that the run does not draw.
    """
    ours = run.masks
    ignored = tuple(number for number, name in theirs.items() if is_unknown(name))
    places = {name.casefold(): number for number, name in theirs.items() if number and number not in ignored}
    strange = sorted(set(places) - {name.casefold() for name in ours.names})
    if strange:
        listed = ", ".join(name for name in theirs.values() if name.casefold() in strange)
        what = f"the label maps hold {listed}, the run draws {', '.join(ours.names)}"
        raise BadData(what, where=dataset.root, do="Name the numbers alike, in a dataset.json.")
    free = (number for number in itertools.count(1) if number not in theirs and number != UNKNOWN)
    values = tuple(places[name.casefold()] if name.casefold() in places else next(free) for name in ours.names)
    return replace(ours, values=values, ignored=ignored or ((UNKNOWN,) if UNKNOWN not in values else ()), background=0)


def _by_number(facts: Sequence[MaskFacts], ours: MaskForm, notes: list[str]) -> MaskForm:
    """Take the run's own numbers, as the data name none; where both know one class alone it is that, whatever it is."""
    found = set().union(*(ours.numbers_of(one) for one in facts)) - {ours.background, *ours.ignored}
    if ours.instances and len(found) == 1:
        notes.append("every mask holds one number only: things in one image are not told apart there")
    if len(ours.values) != 1 or len(found) != 1 or found == set(ours.values):
        return ours
    number = found.pop()
    notes.append(f"{number} in the masks is read as {ours.names[0]}, which was {ours.values[0]} in the training")
    return replace(ours, values=(number,))


def _drawn(drawer: Drawer, run: MaskRun, samples: Sequence[Sample], *, listen: Listen) -> float:
    """Draw on all images; get images per second."""
    began = time.perf_counter()
    for done, sample in enumerate(samples, start=1):
        stopping.check()
        one = laid(sample.image, run.form.grid)
        drawer.add("test", sample, one.pixels, one.frame)
        listen({"event": "predict", "done": done, "of": len(samples)})
    return len(samples) / max(time.perf_counter() - began, 1e-9)
