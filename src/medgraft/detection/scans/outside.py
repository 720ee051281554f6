"""Scores of a run that finds boxes in volumes on other scans with boxes; nothing is fitted there."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medgraft import outside, pages, storage
from medgraft.detection import judge, written
from medgraft.detection.outside import head_of
from medgraft.detection.parts import with_boxes
from medgraft.detection.scans.job import verdicts, write_pages
from medgraft.detection.scans.opened import ScanRun
from medgraft.detection.scans.parts import PREVIEW
from medgraft.detection.scans.seen import Seen
from medgraft.errors import BadData, RunRefused
from medgraft.gather import Listen
from medgraft.learn import stopping
from medgraft.recipe import load
from medgraft.samples.dataset import Columns, read_samples
from medgraft.samples.facts import facts_of
from medgraft.samples.survey import limit_bad
from medgraft.scores.hits import HitRule
from medgraft.values import Prediction, Sample

_DECODED = 8  # scans between two looks at whether it is to stop


def evaluate_scans(
    run: ScanRun, data: Path, *, out: Path, columns: Columns, percent_bad: float, listen: Listen
) -> dict[str, Any]:
    """Score a run on scans with boxes and write report.json, report.html, predictions.csv and boxes.csv.

    When the data have splits, only their test part is used. Thresholds and the rule of a hit are those of the run.

    Raises:
        RunRefused: `out` holds a report already.
        BadData: no scan has boxes, a class is not one of the run's, or too many scans cannot be read.
        Leak: scans of the run's training or validation are among the data.
    """
    if (out / "report.json").exists():
        raise RunRefused("this folder holds a report already", where=out, do="Give another --out.")
    pages.refuse_others(out, data=data)
    out.mkdir(parents=True, exist_ok=True)
    boxed, _ = with_boxes(read_samples(data, columns=columns, limit_bad=percent_bad))
    samples, notes = outside.chosen(boxed)
    strange = sorted({name for one in samples if one.boxes for name in one.boxes.labels} - set(run.classes))
    if strange:
        known = ", ".join(run.classes)
        raise BadData(f"there are boxes of a class that training did not know: {strange[0]!r}", do=f"Known: {known}.")
    records = _records(samples, listen)
    outside.refuse_training_images(run.folder, samples, records=records)
    doubts = outside.doubts_of(run.folder, samples, records=records)
    for text in (*doubts, *notes):
        listen({"event": "warning" if text in doubts else "say", "text": text})
    whole = replace(boxed, samples=tuple(samples))
    bad = [(problem.path, problem.reason) for problem in limit_bad(whole, records, percent=percent_bad)]
    good = [one for one, record in zip(samples, records, strict=True) if record["error"] is None]
    began = time.perf_counter()
    found, seen = _found(run, good, bad, listen)
    if not found:
        raise BadData(f"none of the {len(samples)} scans could be read ({bad[0][1]})", where=data)
    by_key = {sample.key: sample for sample in good}
    test, rule = judge.detections(run.task, found, by_key), HitRule(run.card["hit"]["rule"], run.card["hit"]["iou"])
    seed, resamples = int(run.report["seed"]), load(run.folder / "recipe.yaml").scores.resamples
    words: dict[str, Any] = {"samples": by_key, "seen": seen, "seed": seed, "resamples": resamples}
    head = head_of(run, whole, records, bad, notes)
    report = {
        **head,
        "arm": run.report["arm"],
        "warnings": [*head["warnings"], *doubts],
        **verdicts(run.task, {"test": test}, rule, **words),
        "timing": {"predict_images_per_second": round(len(found) / max(time.perf_counter() - began, 1e-9), 3)},
    }
    storage.write_table(out / "quarantine.csv", report["quarantine"], columns=("path", "reason"))
    spaces = {key: one.space for key, one in seen.items()}
    written.write_predictions(out, run.task, [("test", by_key[one.key], one) for one in found], spaces=spaces)
    images = {key: one.image for key, one in by_key.items()}
    write_pages(out, report, test, run.task, rule, images=images)
    storage.write_json(out / "report.json", report)
    return report


def _records(samples: Sequence[Sample], listen: Listen) -> list[dict[str, Any]]:
    """Decode scans and get their facts, in order."""
    records: list[dict[str, Any]] = []
    for start in range(0, len(samples), _DECODED):
        stopping.check()
        records += facts_of(samples[start : start + _DECODED], workers=2, network=PREVIEW)
        listen({"event": "decode", "done": len(records), "of": len(samples)})
    return records


def _found(
    run: ScanRun, samples: Sequence[Sample], bad: list[tuple[str, str]], listen: Listen
) -> tuple[list[Prediction], dict[str, Seen]]:
    """Get predictions under the samples' keys, and what was seen of each; those that fail are added to `bad`."""
    found, seen = [], {}
    for sample, (_, answer) in zip(samples, run.files([one.image for one in samples], listen=listen), strict=True):
        if isinstance(answer, Exception):
            bad.append((str(sample.image), str(answer)))
            continue
        prediction, seen[sample.key] = answer
        found.append(replace(prediction, key=sample.key))
    return found, seen
