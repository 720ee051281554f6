"""From images and what is written of their boxes to a data set: sizes, checks, and what may be wrong in all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from medgraft.errors import BadData, BadTable, MedgraftError
from medgraft.samples.boxes import Written, checked
from medgraft.samples.dataset import DataSet, Problem, key_of, some, tolerated
from medgraft.samples.words import refuse_twin_classes
from medgraft.values import Boxes, ImageRef, Sample

_THREADS = 4  # headers are read from disk: threads wait for it together


@dataclass(frozen=True, eq=False)
class Annotated:
    """One image and what is written of it.

    Attributes:
        ref: where the image is.
        source: the file that the boxes are written in.
        boxes: empty where the image has none, None where nobody looked.
        said: width and height in pixels as that file says, None where it does not.
        split: "train", "val", "test" or None.
        patient: who it is of, or None.
        covariates: further columns, as text.
        parts: True when corners are in parts of the image.
    """

    ref: ImageRef
    source: Path
    boxes: Sequence[Written] | None
    said: tuple[int, int] | None = None
    split: str | None = None
    patient: str | None = None
    covariates: Mapping[str, str] = field(default_factory=dict)
    parts: bool = False


@dataclass
class Found:
    """What a layout has found.

    Attributes:
        root: the folder that keys are relative to.
        layout: the registry word.
        images: each with what is written of it.
        problems: images that are missing, or whose annotation is.
        notes: what a person should know.
    """

    root: Path
    layout: str
    images: list[Annotated] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def leave_out(self, path: Path | str, reason: object) -> None:
        """Note an image or a file that cannot be used."""
        name = path if isinstance(path, str) else name_of(path, self.root)
        what = reason.what if isinstance(reason, MedgraftError) else str(reason)
        self.problems.append(Problem(name, what))


@dataclass
class _Tally:
    """What the check of all boxes came to."""

    samples: list[Sample] = field(default_factory=list)
    faults: list[Problem] = field(default_factory=list)
    repeats: list[str] = field(default_factory=list)
    boxes: int = 0


def name_of(path: Path, root: Path) -> str:
    """Get a file's name as keys are written, relative to `root`."""
    return key_of(ImageRef(path), root)


def as_dataset(found: Found, *, limit_bad: float, label_column: str | None = None) -> DataSet:
    """Check every box against the header of its image, and get the data set.

    A box that cannot be used is left out and noted with its file and place, and so is an image whose header cannot be
    read, whose size is not what its annotation says, or of which no box is left. Exact repeats are dropped.

    Raises:
        BadData: more than `limit_bad` percent of the images cannot be used, or all of them.
        BadTable: the same of boxes; an image is given twice; two classes differ only by case or spaces.
    """
    _refuse_doubles(found)
    total = len(found.images) + len(found.problems)
    tally = _checked(found)
    _limit(found.problems, total, what="images", root=found.root, limit_bad=limit_bad)
    _limit(tally.faults, tally.boxes, what="boxes", root=found.root, limit_bad=limit_bad)
    labels = {label for sample in tally.samples if sample.boxes is not None for label in sample.boxes.labels}
    refuse_twin_classes(sorted(labels), path=found.root, what="classes of boxes")
    _note(found, tally)
    samples = whole_splits(tally.samples, found.notes)
    samples = samples if found.layout == "table" else sorted(samples, key=lambda sample: sample.key)
    problems = (*found.problems, *tally.faults)
    return DataSet(tuple(samples), found.layout, "", found.root, tuple(found.notes), problems, label_column)


def label_of(boxes: Boxes | None) -> str | None:
    """Get the label of an image with these boxes: its classes, sorted, with | between them; None where nobody looked.

    Ignored boxes count: what they hold is there.
    """
    return None if boxes is None else "|".join(sorted(set(boxes.labels)))


def _refuse_doubles(found: Found) -> None:
    sources: dict[str, Path] = {}
    for one in found.images:
        key = key_of(one.ref, found.root)
        if key in sources:
            places = sorted({name_of(path, found.root) for path in (sources[key], one.source)})
            raise BadTable(
                f"the image {key} is given twice ({' and '.join(places)})",
                where=found.root,
                do="Keep one of them; boxes of one image belong together, and in one split.",
            )
        sources[key] = one.source


def _checked(found: Found) -> _Tally:
    tally = _Tally()
    for one, size in zip(found.images, sizes_of([one.ref for one in found.images]), strict=True):
        key = key_of(one.ref, found.root)
        reason = size if isinstance(size, str) else _other_size(one, size)
        if reason:
            found.leave_out(key, reason)
            continue
        assert not isinstance(size, str)
        boxes = None
        if one.boxes is not None:
            result = checked(one.boxes, size, parts=one.parts)
            source = name_of(one.source, found.root)
            tally.boxes += len(one.boxes)
            tally.faults += [Problem(source, f"{where} of {key} {why}", part=True) for where, why in result.faults]
            tally.repeats += [f"{source} {where}" for where in result.repeats]
            boxes = result.boxes
            if result.faults and not len(boxes):
                found.leave_out(key, f"none of its {len(one.boxes)} boxes can be used")
                continue
        tally.samples.append(Sample(key, one.ref, label_of(boxes), one.patient, one.split, one.covariates, boxes=boxes))
    return tally


def sizes_of(refs: Sequence[ImageRef]) -> list[tuple[int, ...] | str]:
    """Get width and height of each image in pixels (of a volume the depth too), or why its header cannot be read."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(_size, refs))


def _size(ref: ImageRef) -> tuple[int, ...] | str:
    from medgraft import files

    try:
        shape = files.header(ref).shape
    except (MedgraftError, OSError) as error:
        return error.what if isinstance(error, MedgraftError) else str(error)
    if len(ref.files) > 1:
        return (shape[-1], shape[-2], len(ref.files))
    return tuple(reversed(shape[1:]))


def _other_size(one: Annotated, size: tuple[int, ...]) -> str:
    """Boxes drawn on a copy of another size, or before the image was turned, would lie elsewhere."""
    if one.said is None or one.said == size[:2]:
        return ""
    turned = " (turned upright by its EXIF orientation?)" if one.said == size[1::-1] else ""
    return (
        f"its boxes are of an image of {one.said[0]} x {one.said[1]} pixels by {one.source.name}, "
        f"the file has {size[0]} x {size[1]}{turned}"
    )


def whole_splits(samples: list[Sample], notes: list[str]) -> list[Sample]:
    """Get the samples with their splits, or without where some lie in none: a split that is given names every image."""
    without = [sample.key for sample in samples if sample.split is None]
    if not without or len(without) == len(samples):
        return samples
    notes.append(f"{len(without)} images lie in no split ({some(without)}), so the given splits are not used")
    return [replace(sample, split=None) for sample in samples]


def _limit(problems: Sequence[Problem], total: int, *, what: str, root: Path, limit_bad: float) -> None:
    count = len(problems)
    if not count or (count <= tolerated(total, limit_bad) and count < total):
        return
    listed = some([f"{problem.path}: {problem.reason}" for problem in problems])
    kind = BadTable if what == "boxes" else BadData
    raise kind(
        f"{count} of {total} {what} cannot be used, more than {limit_bad:g} %: {listed}"
        if count < total
        else f"none of the {total} {what} can be used: {listed}",
        where=root,
        do="Mend or remove them, or raise --limit-bad.",
    )


def _note(found: Found, tally: _Tally) -> None:
    if found.problems:
        listed = some([f"{problem.path}: {problem.reason}" for problem in found.problems], 3)
        found.notes.append(f"{len(found.problems)} images cannot be used and are left out ({listed})")
    if tally.faults:
        listed = some([f"{problem.path} {problem.reason}" for problem in tally.faults], 3)
        found.notes.append(f"{len(tally.faults)} of {tally.boxes} boxes cannot be used and are left out ({listed})")
    if tally.repeats:
        found.notes.append(
            f"{len(tally.repeats)} boxes repeat another of their image exactly and were dropped ({some(tally.repeats)})"
        )
    given = Counter("unknown" if s.boxes is None else "none" if not len(s.boxes) else "some" for s in tally.samples)
    if given["unknown"]:
        found.notes.append(f"{given['unknown']} images have no annotation and are left unlabelled")
    if given["none"]:
        found.notes.append(f"{given['none']} images are annotated and have no box")
    ignored = sum(int(sample.boxes.ignored.sum()) for sample in tally.samples if sample.boxes is not None)
    if ignored:
        found.notes.append(f"{ignored} boxes are ignored: neither to be found nor wrong to find")
