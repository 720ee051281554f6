"""The survey as a verb of its own: facts of a data set, on screen and as a page; nothing is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medgraft import gather as gathering
from medgraft import storage
from medgraft.gather import Listen
from medgraft.learn import stopping
from medgraft.planning import TASK_OF
from medgraft.recipe import Recipe
from medgraft.report.survey_page import write_survey_page
from medgraft.reporting import is_phantom
from medgraft.samples import duplicates
from medgraft.samples.facts import facts_of
from medgraft.samples.survey import Survey, survey

_CHUNK = 200


def survey_data(data: Path, recipe: Recipe, *, out: Path | None, listen: Listen) -> Survey:
    """Decode every image once and gather the facts; with `out`, write survey.json and survey.html.

    Raises:
        BadData, BadTable: the data cannot be read at all; single bad images are in the quarantine instead.
    """
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    with stopping.watching():
        dataset = gathering.read(data, recipe.changed({"data.limit_bad": 100.0}))
        records: list[dict[str, Any]] = []
        for start in range(0, len(dataset.samples), _CHUNK):
            stopping.check()
            records += facts_of(dataset.samples[start : start + _CHUNK], workers=2)
            listen({"event": "decode", "done": len(records), "of": len(dataset.samples)})
        found = survey(dataset, records, duplicates=duplicates.find(records))
    if out is not None:
        values = values_of(found)
        storage.write_json(out / "survey.json", values)
        thumbnails = {r["key"]: r["thumbnail"] for r in records if r.get("error") is None}
        phantoms = is_phantom(dataset.samples)
        write_survey_page(values, folder=out, thumbnails=thumbnails, phantoms=phantoms)
    return found


def values_of(found: Survey) -> dict[str, Any]:
    """Get what survey.json holds: the facts, and the task that the labels ask for."""
    word = _task(found)
    task = None if found.target is None or word is None else [word, found.target[1]]
    return {**found.to_dict(), "task": task}


def _task(found: Survey) -> str | None:
    return None if found.target is None else TASK_OF.get(found.target[0])


def lines(found: Survey) -> list[str]:
    """Get the survey in a few plain lines."""
    said = [f"{found.images} images, layout {found.layout} ({found.why})"]
    if found.patients is not None:
        said.append(f"{found.patients} patients")
    if found.splits:
        said.append("splits: " + ", ".join(f"{name} {count}" for name, count in found.splits.items()))
    for name, row in list((found.classes or {}).items())[:20]:
        said.append(f"class {name}: {row['all']}")
    if found.boxes:
        said.append(f"{found.boxes['count']} boxes, {found.boxes['left_out']} left out")
    if found.height:
        sides = [round(found.height["median"]), round(found.width["median"])]
        said.append(f"median size {sides[0]} x {sides[1]} pixels")
    said.append(f"copies: {found.duplicates.count('exact')} exact, {found.duplicates.count('near')} near")
    said += [f"leak: {pair}" for pair in found.leaks[:20]]
    if len(found.leaks) > 20:
        said.append(f"and {len(found.leaks) - 20} more leaks")
    part = "box left out" if found.boxes else "mask left out"
    words = [(part if problem.part else "unreadable", problem) for problem in found.quarantine[:20]]
    said += [f"{word}: {problem.path}: {problem.reason}" for word, problem in words]
    return [*said, *(f"note: {text}" for text in found.notes), *(f"warning: {text}" for text in found.warnings)]


def headline(found: Survey) -> dict[str, Any]:
    """Get the plain values of `--json`."""
    return {
        "images": found.images,
        "patients": found.patients,
        "splits": dict(found.splits),
        "classes": {name: row["all"] for name, row in (found.classes or {}).items()},
        "boxes": found.boxes["count"] if found.boxes else None,
        "exact_duplicates": found.duplicates.count("exact"),
        "near_duplicates": found.duplicates.count("near"),
        "leaks": len(found.leaks),
        "quarantined": sum(not problem.part for problem in found.quarantine),
        "task": _task(found),
        "preset": found.preset,
    }
