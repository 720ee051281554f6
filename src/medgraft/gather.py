"""From DATA to samples that can be trained on: read, decode once, survey, split, check for leaks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from medgraft.errors import BadData
from medgraft.files import list_images
from medgraft.learn import stopping
from medgraft.recipe import Recipe
from medgraft.samples import duplicates as duplicate_images
from medgraft.samples.dataset import Columns, DataSet, is_claimed, key_of, read_samples
from medgraft.samples.duplicates import Duplicates
from medgraft.samples.facts import facts_of
from medgraft.samples.split import LeakPair, assign_splits, check_leaks, limit_train
from medgraft.samples.store import GIGABYTE, Store
from medgraft.samples.survey import Survey, limit_bad, survey
from medgraft.samples.zones import ZoneColumns, with_zones
from medgraft.tasks import TASKS
from medgraft.values import Sample

Listen = Callable[[dict[str, Any]], None]
_PEEKED = 24
_LABELLESS = ("images", "pixels")  # tasks that learn from images alone


@dataclass(frozen=True)
class Peek:
    """What a few decoded images tell before all are decoded.

    Attributes:
        side: median of the shorter sides, in pixels.
        longest: median of the longer ones.
        gray: True when none has colour.
        volume: True when the images have depth.
    """

    side: int
    longest: int
    gray: bool
    volume: bool


@dataclass(eq=False)
class Gathered:
    """Samples ready for training.

    Attributes:
        samples: readable, labelled, each with its split.
        store: network pixels of all labelled images.
        places: position of each sample in the store.
        records: their facts, in the same order.
        survey: facts of the whole data set.
        quarantine: (path, reason) of what was left out.
        split_source: where the splits come from, one sentence.
        split_by: "patient" or "image".
        leaks: pairs that cross splits, when they were allowed.
        notes: what a person should know.
    """

    samples: list[Sample]
    store: Store
    places: list[int]
    records: list[dict[str, Any]]
    survey: Survey
    quarantine: list[tuple[str, str]]
    split_source: str
    split_by: str
    leaks: list[LeakPair] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def of(self, split: str) -> list[int]:
        """Get the positions of the samples of one split."""
        return [index for index, sample in enumerate(self.samples) if sample.split == split]


def read(data: Path, recipe: Recipe) -> DataSet:
    """Read labels and file names; decodes nothing.

    Raises:
        BadData, BadTable: what is wrong, where, and what to do.
    """
    part = recipe.data
    words: dict[str, Any] = {
        "boxes": part.boxes_column,
        "mask": part.mask_column,
        "several": recipe.task == "multilabel",
    }
    columns = Columns(part.label_column, part.patient_column, part.split_column, **words)
    found = read_unlabelled(data, columns, recipe) or read_samples(data, columns=columns, limit_bad=part.limit_bad)
    return zoned(found, recipe) if recipe.task == "localise" else found


def read_unlabelled(data: Path, columns: Columns, recipe: Recipe) -> DataSet | None:
    """Get a folder of images that no layout takes for its own, where the task asks for no labels; else None."""
    asks = recipe.task not in TASKS or TASKS[recipe.task].wants or TASKS[recipe.task].places not in _LABELLESS
    if asks or not data.is_dir() or is_claimed(data):
        return None
    refs = list_images(data, frames=True)
    if not refs:
        return None
    samples = tuple(Sample(key_of(ref, data), ref, label="image") for ref in refs)
    return DataSet(samples, "images", "a folder of images without labels", data)


def zoned(dataset: DataSet, recipe: Recipe) -> DataSet:
    """Get the samples with the severities of their zones; arguments as in `read`.

    Raises:
        BadData, BadTable: there are no zones, or they cannot be read.
    """
    part = recipe.zones
    columns = None if part.columns is None else tuple(part.columns)
    return with_zones(dataset, ZoneColumns(columns, part.mask_column, part.region_column, part.grid))


def peek(dataset: DataSet) -> Peek:
    """Decode a few images, evenly spread, to see how large they are and whether they have colour.

    Raises:
        BadData: none of them can be read.
    """
    places = np.unique(np.linspace(0, len(dataset.samples) - 1, min(_PEEKED, len(dataset.samples))).astype(int))
    tried = facts_of([dataset.samples[i] for i in places], workers=1)
    records = [record for record in tried if record["error"] is None]
    if not records:
        what = f"none of the {len(tried)} images that were tried can be read ({tried[0]['error']})"
        raise BadData(what, where=dataset.root, do="medgraft survey tries all of them.")
    sides = [min(record["shape"][-2:]) for record in records]
    deep = sum(len(record["shape"]) == 4 for record in records)
    longer = [max(record["shape"][-2:]) for record in records]
    gray = all(record["gray"] for record in records)
    return Peek(int(np.median(sides)), int(np.median(longer)), gray, deep > len(records) / 2)


def gather(dataset: DataSet, recipe: Recipe, *, network: dict[str, Any], listen: Listen) -> Gathered:
    """Decode every image once, leave out and name what cannot be read, split, and refuse leaks.

    Args:
        dataset: what `read` gave.
        recipe: its data, split and seed parts are used.
        network: how files become pixels.
        listen: gets progress events.

    Raises:
        BadData: too many unreadable images, or a class is missing.
        Leak: given splits share a patient or an image; the pairs are listed.
    """
    # By key, so that the order of rows in a table changes nothing.
    labelled = sorted((s for s in dataset.samples if s.label is not None), key=lambda sample: sample.key)
    notes = list(dataset.notes)
    if len(labelled) < len(dataset.samples):
        notes.append(f"{len(dataset.samples) - len(labelled)} images have no label and are left out")
    if not labelled:
        raise BadData("no sample has a label", where=dataset.root, do="See the layouts in docs/guide.")
    store = _store(labelled, recipe, network, listen)
    records = [{**record, "key": sample.key} for sample, record in zip(labelled, store.records, strict=True)]
    bad = limit_bad(replace(dataset, samples=tuple(labelled)), records, percent=recipe.data.limit_bad)
    duplicates = duplicate_images.find(records)
    samples, source = _split(labelled, records, duplicates, recipe)
    leaks = check_leaks(samples, duplicates, allow=recipe.split.allow_leaks)
    whole = replace(dataset, samples=tuple(samples))
    kept = [i for i, record in enumerate(records) if record["error"] is None and samples[i].split]
    known = all(sample.patient for sample in samples)
    notes += _patient_notes(samples, asked=not recipe.data.patients_unknown)
    return Gathered(
        samples=[samples[i] for i in kept],
        store=store,
        places=kept,
        records=[records[i] for i in kept],
        survey=survey(whole, records, duplicates=duplicates, by_class=recipe.task != "regress"),
        quarantine=[(problem.path, problem.reason) for problem in bad],
        split_source=source,
        split_by="patient" if known else "image",
        leaks=leaks,
        notes=[*notes, *store.notes],
    )


def _patient_notes(samples: Sequence[Sample], *, asked: bool) -> list[str]:
    """Say how far patients are known, unless the user said that nobody knows them."""
    without = sum(not sample.patient for sample in samples)
    if not without or not asked:
        return []
    if without == len(samples):
        return ["no patient column was found: images are treated as if each were of another patient"]
    return [f"{without} of {len(samples)} images have no patient: each of them counts as a patient of its own"]


def _store(samples: Sequence[Sample], recipe: Recipe, network: dict[str, Any], listen: Listen) -> Store:
    def progress(done: int, count: int) -> None:
        stopping.check()
        listen({"event": "decode", "done": done, "of": count})

    return Store.open(
        [sample.image for sample in samples],
        network,
        budget_bytes=int(recipe.machine.cache_gb * GIGABYTE),
        workers=max(2, recipe.machine.workers),
        progress=progress,
    )


def _split(
    samples: list[Sample], records: list[dict[str, Any]], duplicates: Duplicates, recipe: Recipe
) -> tuple[list[Sample], str]:
    """Give every readable sample a split: the given one, or by patient."""
    readable = [i for i, record in enumerate(records) if record["error"] is None]
    given = {samples[i].split for i in readable} - {None}
    part = recipe.split
    words: dict[str, Any] = {"seed": recipe.seed, "val": part.val, "test": part.test}
    words["numbers"] = recipe.task == "regress"  # amounts are no classes, however few different ones there are
    found = assign_splits([samples[i] for i in readable], duplicates, **words)
    if part.limit_train is not None:
        found = limit_train(found, part.limit_train, seed=recipe.seed, numbers=words["numbers"])
    splits = {sample.key: sample.split for sample in found}
    whole = [replace(sample, split=splits.get(sample.key)) for sample in samples]
    source = f"it was made with seed {recipe.seed}, with labels balanced over the parts"
    if "test" in given:
        whole_given = "it was given with the data"
        source = whole_given if "val" in given else "the test part was given with the data, validation cut from train"
    return whole, source
