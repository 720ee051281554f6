"""The folder of a run: whether it may be used, what is in it already, and what is written before anything is learnt."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from medgraft import pages, storage
from medgraft.errors import RunRefused
from medgraft.gather import Gathered
from medgraft.recipe import Recipe, load
from medgraft.surveying import values_of
from medgraft.values import Sample
from medgraft.version import VERSION


def opened(out: Path, recipe: Recipe, *, resume: bool, asked: Iterable[str], data: Path) -> Recipe:
    """Check the folder; when resuming, take the recipe that is in it."""
    if (out / "report.json").exists():
        raise RunRefused("this folder holds a finished run", where=out, do="Give another --out.")
    if not (out / "recipe.yaml").exists():
        pages.refuse_others(out, data=data, known="samples.json")
        return recipe
    if not resume:
        raise RunRefused("this folder holds an unfinished run", where=out, do="Go on with --resume, or another --out.")
    saved = load(out / "recipe.yaml")
    if saved.medgraft != VERSION:
        what = f"this run was begun by medgraft {saved.medgraft}, and this is {VERSION}"
        raise RunRefused(what, where=out, do="Train anew in another --out.")
    changed = _differences(recipe, saved, asked)
    if changed:
        raise RunRefused(
            f"the recipe has changed: {'; '.join(changed)}", where=out, do="Resume without it, or train anew."
        )
    return saved.changed({"machine": recipe.machine.model_dump()})


def _differences(recipe: Recipe, saved: Recipe, asked: Iterable[str]) -> list[str]:
    """Name the fields that were asked for now and differ from those of the run."""
    now, then = _flat(recipe), _flat(saved)
    skipped = ("machine.", "reasons", "medgraft")
    return [
        f"{name} is {now[name]!r}, the run has {then[name]!r}"
        for name in asked
        if not name.startswith(skipped) and now[name] not in (None, "auto", then[name])
    ]


def _flat(recipe: Recipe) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part, values in recipe.model_dump().items():
        rows = values.items() if isinstance(values, dict) and part != "reasons" else [("", values)]
        found |= {f"{part}.{key}" if key else part: value for key, value in rows}
    return found


def check_samples(out: Path, samples: Sequence[Sample], *, records: Sequence[dict[str, Any]]) -> None:
    """Refuse to go on with other files, labels or splits than the run began with."""
    path = out / "samples.json"
    if not path.exists():
        return
    then, now = pages.read_json(path), _sample_prints(samples, records)
    gone, new = sorted(set(then) - set(now)), sorted(set(now) - set(then))
    other = sorted(key for key in set(now) & set(then) if now[key] != then[key])
    said = [f"{len(names)} files {word} (such as {names[0]})" for names, word in _named(gone, new, other) if names]
    if said:
        raise RunRefused(f"the data have changed: {', '.join(said)}", where=out, do="Train anew in another --out.")


def _named(gone: list[str], new: list[str], other: list[str]) -> list[tuple[list[str], str]]:
    return [(gone, "are gone"), (new, "are new"), (other, "have other content, label or split")]


def _sample_prints(samples: Sequence[Sample], records: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    return {
        s.key: [
            r["sha256"],
            s.label,
            s.patient,
            s.split,
            r["content"],
            *_known(s),
            *_boxed(s),
            *pages.place_in_file(s.image),
        ]
        for s, r in zip(samples, records, strict=True)
    }


def _boxed(sample: Sample) -> list[str]:
    """What is known of boxes, in short."""
    if sample.boxes is None:
        return []
    one = sample.boxes
    return [storage.sha256_json([one.corners.tolist(), list(one.labels), one.ignored.tolist()])[:16]]


def _known(sample: Sample) -> list[dict[str, float | None]]:
    """The severities of zones, where the task asks for them; JSON has no NaN."""
    own = {name: value if math.isfinite(value) else None for name, value in sample.zones.items()}
    return [own] if own else []


def begin(out: Path, recipe: Recipe, *, found: Gathered) -> None:
    """Write what is known before training; the recipe last, as it says that the rest is there."""
    storage.write_json(out / "samples.json", _sample_prints(found.samples, found.records))
    pages.write_samples(out / "samples.csv", found)
    pages.write_thumbnails(out / "thumbnails.npz", found)
    storage.write_json(out / "survey.json", values_of(found.survey))
    rows = [{"path": path, "reason": reason} for path, reason in found.quarantine]
    storage.write_table(out / "quarantine.csv", rows, columns=("path", "reason"))
    recipe.save(out / "recipe.yaml")
