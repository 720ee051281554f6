"""The facts of a data set that a person and the planner need before training."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from typing import Any

import numpy as np

from medgraft.errors import BadData
from medgraft.samples.bias import source_warnings
from medgraft.samples.box_facts import box_facts
from medgraft.samples.dataset import DataSet, Problem, as_number, some, tolerated
from medgraft.samples.duplicates import Duplicates, find
from medgraft.samples.modality import choose
from medgraft.samples.split import LeakPair, find_leaks
from medgraft.values import Sample

_MANY_CLASSES = 50
_LISTED_PAIRS = 1000


@dataclass(frozen=True)
class Survey:
    """What a data set holds; `to_dict` is `survey.json`.

    Attributes:
        root: the folder of the data.
        layout: registry word, and `why` it was taken.
        images: how many can be used; `labelled` of them have a label.
        classes: class -> {"all": n, "train": n, ...}, images; None without labels and for many numbers.
        labels: smallest, median and largest label when they are numbers.
        boxes: what `box_facts.box_facts` tells of boxes; None where the data have none.
        target: what the labels are (`DataSet.target_kind`) and why; None without labels and label maps.
        patients: how many are known, or None.
        images_per_patient: smallest, median, largest.
        splits: images a split, as given; empty when the data give none.
        width, height, aspect: smallest, median, largest, in pixels; aspect = width / height.
        shapes: the commonest shapes (C, [D,] H, W) -> images.
        spacing_mm: smallest, median, largest of the in-plane spacing, or None.
        bits: bits stored -> images.
        gray: images without colour; `gray_in_rgb` of them are stored with three channels.
        intensity: per unit, the mean of means and spreads, and the extremes.
        modalities: DICOM modality -> images.
        preset: augmentation preset, and `preset_why`.
        quarantine: files left out with their reasons.
        duplicates: exact and near copies.
        leaks: pairs in different given splits that share a patient or picture.
        notes: what the readers of table and files tolerated.
        warnings: what may make the result wrong.
    """

    root: str
    layout: str
    why: str
    images: int
    labelled: int
    classes: Mapping[str, Mapping[str, int]] | None
    labels: Mapping[str, float] | None
    target: tuple[str, str] | None
    patients: int | None
    images_per_patient: Mapping[str, float] | None
    splits: Mapping[str, int]
    width: Mapping[str, float]
    height: Mapping[str, float]
    aspect: Mapping[str, float]
    shapes: Mapping[str, int]
    spacing_mm: Mapping[str, float] | None
    bits: Mapping[str, int]
    gray: int
    gray_in_rgb: int
    intensity: Mapping[str, Mapping[str, float]]
    modalities: Mapping[str, int]
    preset: str
    preset_why: str
    quarantine: tuple[Problem, ...] = ()
    duplicates: Duplicates = field(default_factory=Duplicates)
    leaks: tuple[LeakPair, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    boxes: Mapping[str, Any] | None = None

    def _repr_html_(self) -> str:
        facts = {"images": self.images, "layout": self.layout, "patients": self.patients, "splits": dict(self.splits)}
        facts |= {f"class {name}": row["all"] for name, row in (self.classes or {}).items()}
        facts |= {"boxes": self.boxes["count"]} if self.boxes else {}
        facts |= {"exact copies": self.duplicates.count("exact"), "near copies": self.duplicates.count("near")}
        facts |= {"leaks": len(self.leaks), "unreadable": sum(not problem.part for problem in self.quarantine)}
        rows = "".join(
            f"<tr><td>{escape(name)}</td><td>{escape(str(value))}</td></tr>" for name, value in facts.items()
        )
        return f"<table>{rows}</table>" + "".join(f"<p>{escape(text)}</p>" for text in self.warnings)

    def to_dict(self) -> dict[str, Any]:
        """Get plain JSON values; at most 1,000 pairs of copies and leaks are listed, all are counted."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        values["quarantine"] = [asdict(problem) for problem in self.quarantine]
        values["duplicates"] = {
            "exact": self.duplicates.count("exact"),
            "near": self.duplicates.count("near"),
            "groups": len(set(self.duplicates.near.values())),
            "pairs": [asdict(pair) for pair in self.duplicates.pairs[:_LISTED_PAIRS]],
        }
        values["leaks"] = {
            "count": len(self.leaks),
            "kinds": dict(Counter(leak.kind for leak in self.leaks)),
            "pairs": [{**asdict(leak), "splits": list(leak.splits)} for leak in self.leaks[:_LISTED_PAIRS]],
        }
        return {name: _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(inner) for inner in value]
    return value.item() if isinstance(value, np.generic) else value


def survey(
    dataset: DataSet,
    records: Sequence[Mapping[str, Any]],
    *,
    duplicates: Duplicates | None = None,
    by_class: bool = True,
) -> Survey:
    """Gather the facts of a data set.

    Args:
        dataset: what `read_samples` gave.
        records: what `facts_of` gave, one a sample; unreadable ones have an `error`.
        duplicates: what `duplicates.find` gave, when it is known already.
        by_class: warn of classes that are too rare to be trained and tested, and of signs of their source.
    """
    record_of = {str(record["key"]): record for record in records}
    samples = usable(dataset, records)
    good = [record_of[sample.key] for sample in samples]
    found = find(good) if duplicates is None else duplicates
    leaks = tuple(find_leaks(samples, found))
    modalities = Counter(r["facts"]["Modality"] for r in good if r["facts"].get("Modality"))
    preset, preset_why = choose(_look(dataset, samples, good, modalities))
    quarantine = (*dataset.problems, *(Problem(str(r["key"]), str(r["error"])) for r in records if r.get("error")))
    labelled = any(sample.label is not None for sample in samples)
    many = labelled and _kind(dataset) == "numbers"
    return Survey(
        root=str(dataset.root),
        layout=dataset.layout,
        why=dataset.why,
        images=len(samples),
        labelled=sum(sample.label is not None for sample in samples),
        classes=None if many or not labelled else _classes(samples),
        labels=_spread([n for s in samples if (n := as_number(s.label)) is not None]) if many else None,
        target=dataset.target_kind() if (labelled or dataset.masked) and _kind(dataset) else None,
        **_people(samples),
        splits=dict(Counter(sample.split for sample in samples if sample.split)),
        **_sizes(good),
        bits={str(bits): n for bits, n in sorted(Counter(r["bits"] for r in good).items())},
        gray=sum(bool(r["gray"]) for r in good),
        gray_in_rgb=sum(bool(r["gray"]) and r["shape"][0] >= 3 for r in good),
        intensity=_intensity(good),
        modalities=dict(modalities.most_common()),
        preset=preset,
        preset_why=preset_why,
        quarantine=quarantine,
        duplicates=found,
        leaks=leaks,
        notes=(*dataset.notes, *_file_notes(good)),
        warnings=tuple(_warnings(samples, good, found, leaks, by_class and not many)),
        boxes=box_facts(samples, dataset.problems),
    )


def usable(dataset: DataSet, records: Sequence[Mapping[str, Any]]) -> list[Sample]:
    """Get the samples whose file could be read."""
    bad = {str(record["key"]) for record in records if record.get("error")}
    known = {str(record["key"]) for record in records}
    return [sample for sample in dataset.samples if sample.key in known and sample.key not in bad]


def limit_bad(dataset: DataSet, records: Sequence[Mapping[str, Any]], *, percent: float = 1.0) -> list[Problem]:
    """Refuse a data set of which too much cannot be read.

    Files that the table names and nobody has count as well as unreadable ones. One file is tolerated
    in a small set, none at 0 percent. Boxes that were left out of an image count when the data are read, not here.

    Returns:
        what cannot be used with its reason: unreadable files, those that are named and missing, and boxes.

    Raises:
        BadData: more than `percent` of the files are bad, or all of them; the first five are named.
    """
    broken = [Problem(str(record["key"]), str(record["error"])) for record in records if record.get("error")]
    parts = [problem for problem in dataset.problems if problem.part]
    missing = [problem for problem in dataset.problems if not problem.part]
    bad = [*missing, *broken]
    total = len(dataset.samples) + len(missing)
    if bad and (len(bad) > tolerated(total, percent) or len(broken) == len(dataset.samples)):
        listed = some([f"{problem.path} ({problem.reason})" for problem in bad])
        raise BadData(
            f"{len(bad)} of {total} files cannot be used, more than {percent:g} %: {listed}",
            where=dataset.root,
            do="Mend or remove them, or raise --limit-bad.",
        )
    return [*bad, *parts]


def _kind(dataset: DataSet) -> str | None:
    """What the labels are; None when they are all the same, which a survey may show."""
    try:
        return dataset.target_kind()[0]
    except BadData:
        return None


def _classes(samples: Sequence[Sample]) -> dict[str, dict[str, int]]:
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for sample in samples:
        for name in () if sample.label is None else sample.label.split("|"):
            table[name or "(none)"]["all"] += 1
            if sample.split:
                table[name or "(none)"][sample.split] += 1
    return {name: dict(table[name]) for name in sorted(table)}


def _people(samples: Sequence[Sample]) -> dict[str, Any]:
    counts = Counter(sample.patient for sample in samples if sample.patient)
    if not counts:
        return {"patients": None, "images_per_patient": None}
    return {"patients": len(counts), "images_per_patient": _spread(counts.values())}


def _spread(values: Iterable[float]) -> dict[str, float]:
    numbers = np.array(list(values), dtype=np.float64)
    if numbers.size == 0:
        return {}
    return {"low": float(numbers.min()), "median": float(np.median(numbers)), "high": float(numbers.max())}


def _sizes(good: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    shapes = Counter(" x ".join(map(str, r["shape"])) for r in good)
    spacings = [float(np.mean(r["spacing_mm"][-2:])) for r in good if r.get("spacing_mm")]
    return {
        "width": _spread(r["shape"][-1] for r in good),
        "height": _spread(r["shape"][-2] for r in good),
        "aspect": _spread(r["shape"][-1] / r["shape"][-2] for r in good),
        "shapes": dict(shapes.most_common(10)),
        "spacing_mm": _spread(spacings) if spacings else None,
    }


def _intensity(good: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Images in different units (stored bytes, HU) are never averaged together."""
    by_unit: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for record in good:
        unit = str(record.get("unit", "stored"))
        by_unit[f"{record['bits']}-bit" if unit == "stored" else unit].append(record)
    return {
        unit: {
            "mean": float(np.mean([r["mean"] for r in rows])),
            "std": float(np.mean([r["std"] for r in rows])),
            "low": float(min(r["low"] for r in rows)),
            "high": float(max(r["high"] for r in rows)),
            "images": len(rows),
        }
        for unit, rows in sorted(by_unit.items())
    }


def _look(
    dataset: DataSet, samples: Sequence[Sample], good: Sequence[Mapping[str, Any]], modalities: Mapping[str, int]
) -> dict[str, Any]:
    """What `modality.choose` asks for."""
    words = {dataset.root.name} | {name for sample in samples if sample.label for name in sample.label.split("|")}
    words |= {folder for sample in samples for folder in sample.key.split("/")[:-1]}
    words |= {r["facts"][tag] for r in good for tag in ("BodyPartExamined", "StudyDescription") if r["facts"].get(tag)}
    colours = [r["rgb"] for r in good if r.get("rgb")]
    return {
        "modalities": dict(modalities),
        "words": sorted(words)[:500],
        "gray": float(np.mean([bool(r["gray"]) for r in good])) if good else None,
        "saturation": float(np.mean([r["saturation"] for r in good])) if good else None,
        "corners": float(np.mean([r["corners"] for r in good])) if good else None,
        "rgb": [float(v) for v in np.mean(colours, axis=0)] if colours else None,
    }


def _file_notes(good: Sequence[Mapping[str, Any]]) -> list[str]:
    """What readers noticed: sentences that differ only in numbers once, with how many files they hold for."""
    holders: dict[str, list[str]] = defaultdict(list)
    for record in good:
        for note in record.get("notes", ()):
            holders[re.sub(r"-?\d+(\.\d+)?", "#", str(note))].append(f"{note}: {record['key']}")
    notes = [keys[0] if len(keys) == 1 else f"{len(keys)} files as here: {keys[0]}" for keys in holders.values()]
    gray = sum(bool(r["gray"]) and r["shape"][0] >= 3 for r in good)
    if gray:
        notes.append(f"{gray} of {len(good)} images are gray but stored with three channels")
    return notes


def _warnings(
    samples: Sequence[Sample],
    good: Sequence[Mapping[str, Any]],
    found: Duplicates,
    leaks: Sequence[LeakPair],
    by_class: bool,
) -> Iterable[str]:
    if leaks:
        counts = Counter(leak.kind for leak in leaks)
        kinds = ", ".join(
            f"{count} by {kind} {'' if kind == 'patient' else 'copy'}".strip() for kind, count in counts.items()
        )
        yield f"the given splits share {len(leaks)} pairs of samples ({kinds}), such as {leaks[0]}"
    yield from _look_alikes(samples, found)
    yield from _label_conflicts(samples, found)
    if len({r["bits"] > 8 for r in good}) > 1:
        yield "images of 8 bits and of more are mixed"
    colour = sum(not r["gray"] for r in good)
    if colour and colour < len(good):
        yield f"{colour} colour and {len(good) - colour} gray images are mixed"
    if by_class:
        yield from _rare_classes(samples)
        yield from source_warnings(samples, good)


def _look_alikes(samples: Sequence[Sample], found: Duplicates) -> Iterable[str]:
    patient = {sample.key: sample.patient for sample in samples}
    pairs = [p for p in found.pairs if p.first in patient and p.second in patient]
    strangers = [p for p in pairs if patient[p.first] and patient[p.second] and patient[p.first] != patient[p.second]]
    if strangers:
        first = strangers[0]
        yield (
            f"{len(strangers)} pairs of copies carry different patients, such as {first.first} and {first.second} "
            f"({first.kind})"
        )


def _label_conflicts(samples: Sequence[Sample], found: Duplicates) -> Iterable[str]:
    label = {sample.key: sample.label for sample in samples if sample.label is not None}
    pairs = [p for p in found.pairs if p.first in label and p.second in label and label[p.first] != label[p.second]]
    if pairs:
        first = pairs[0]
        yield (
            f"{len(pairs)} pairs of copies have different labels, such as {first.first} ({label[first.first]}) "
            f"and {first.second} ({label[first.second]})"
        )


def _rare_classes(samples: Sequence[Sample]) -> Iterable[str]:
    """Fewer than three cases cannot be in train, val and test."""
    cases: dict[str, set[str]] = defaultdict(set)
    for sample in samples:
        for name in sample.label.split("|") if sample.label else ():
            cases[name].add(sample.patient or f"image {sample.key}")
    word = "patients" if any(sample.patient for sample in samples) else "images"
    rare = [f"{name!r} ({len(cases[name])})" for name in sorted(cases) if len(cases[name]) < 3]
    if rare and len(cases) <= _MANY_CLASSES:
        yield f"classes with fewer than 3 {word}, too few to train and to test: {some(rare)}"
