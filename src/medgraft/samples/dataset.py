"""What a data set is once it is read, and how its layout is found."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from medgraft.errors import BadData, MedgraftError
from medgraft.samples import LAYOUTS
from medgraft.values import ImageRef, Sample

_GRADE_WORDS = {"grade", "severity", "stage", "score", "level"}


@dataclass(frozen=True)
class Columns:
    """Which columns of a table to read.

    Attributes:
        label: name of the column, None = found by itself, "none" = do not read one.
        patient: the same for the patient.
        split: the same for the split.
        boxes: the same for the annotation file of each image, or for boxes given one a row: then any of their columns.
        mask: the same for the label map of each image; where masks lie in a folder beside the images, its name.
        several: True when an image may have several classes at once, so that an empty label means none of them;
            False lets a `|` in any label say so.
    """

    label: str | None = None
    patient: str | None = None
    split: str | None = None
    boxes: str | None = None
    several: bool = False
    mask: str | None = None


@dataclass(frozen=True)
class Problem:
    """A file or row that was left out, and why.

    Attributes:
        path: the file.
        reason: one sentence.
        part: True when the file stays and only a part of it, one box or its mask, is left out.
    """

    path: str
    reason: str
    part: bool = False


def without_sidecars(problems: Sequence[Problem], notes: list[str]) -> list[Problem]:
    """Get the problems that count; texts and tables beside the images, named like no image, are only noted."""
    from medgraft.files.sniff import KNOWN_SUFFIXES

    endings = {ending for ends in KNOWN_SUFFIXES.values() for ending in ends}
    sidecars = [
        problem
        for problem in problems
        if "text file" in problem.reason and problem.path.lower().rpartition(".")[2] not in endings
    ]
    if sidecars:
        notes.append(f"{len(sidecars)} text files beside the images are not used ({some([p.path for p in sidecars])})")
    return [problem for problem in problems if problem not in sidecars]


@dataclass(frozen=True)
class DataSet:
    """Samples and how they were found.

    Attributes:
        samples: in the order of the table, or sorted by key.
        layout: the registry word of the layout.
        why: why this layout was taken, one sentence.
        root: the folder that keys are relative to.
        notes: what a person should know about the table or folder.
        problems: files that were left out, each with its reason.
        label_column: the column the labels came from, None when they came from folders or there are none.
        mask_column: the column or the folder that the label maps came from; None when there are none.
        mask_names: number in the label maps -> name, as a file beside them says; empty where none does.
    """

    samples: tuple[Sample, ...]
    layout: str
    why: str
    root: Path
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    label_column: str | None = None
    mask_column: str | None = None
    mask_names: Mapping[int, str] = field(default_factory=dict)

    @property
    def has_splits(self) -> bool:
        """True when the data say which sample is for what."""
        return any(sample.split for sample in self.samples)

    @property
    def has_patients(self) -> bool:
        """True when any sample says whose it is."""
        return any(sample.patient for sample in self.samples)

    @property
    def boxed(self) -> bool:
        """True when any sample says where what it shows is."""
        return any(sample.boxes is not None for sample in self.samples)

    @property
    def masked(self) -> bool:
        """True when any sample has a label map."""
        return any(sample.mask is not None for sample in self.samples)

    @property
    def labelled(self) -> tuple[Sample, ...]:
        """The samples that have a label."""
        return tuple(sample for sample in self.samples if sample.label is not None)

    @property
    def several(self) -> bool:
        """True when a label holds several classes (`a|b`) or none of them (empty)."""
        return any(sample.label is not None and ("|" in sample.label or not sample.label) for sample in self.samples)

    def target_kind(self) -> tuple[str, str]:
        """Get what the labels are, and the reason.

        Returns:
            one of "boxes", "classes", "several" (classes at once), "grades" (ordered), "numbers" and, where label maps
            are all that there is to learn, "masks"; and one sentence.

        Raises:
            BadData: there are no labels, or all are the same; or no image has a box.
        """
        if self.boxed:
            return "boxes", self._boxes_in_words()
        labels = [sample.label for sample in self.labelled]
        kinds = Counter(labels)
        if self.masked and len(kinds) < 2 and not self.several:
            count = sum(sample.mask is not None for sample in self.samples)
            return "masks", f"{count} of {len(self.samples)} images have a label map, and no label tells them apart"
        if not labels:
            raise BadData(
                "no sample has a label", where=self.root, do="Give a folder per class, or a CSV with a label column."
            )
        if self.several:
            return "several", "some labels hold several classes, separated by |"
        if len(kinds) == 1:
            raise BadData(
                f"every sample has the same label, {labels[0]!r}",
                where=self.root,
                do="Training needs at least two classes.",
            )
        return _kind_of(kinds, self.label_column)

    def _boxes_in_words(self) -> str:
        given = [sample.boxes for sample in self.samples if sample.boxes is not None]
        count = sum(len(boxes) for boxes in given)
        if not count:
            raise BadData("no image has a box", where=self.root, do="Training needs boxes in some of the images.")
        return f"{count} boxes are given in {sum(len(boxes) > 0 for boxes in given)} of {len(given)} images"


def _kind_of(kinds: Counter[str | None], column: str | None) -> tuple[str, str]:
    values = [as_number(label) for label in kinds]
    numbers = [value for value in values if value is not None]
    if len(numbers) < len(kinds):
        return "classes", f"the labels are {len(kinds)} class names"
    if sorted(numbers) == [0, 1]:
        return "classes", "the labels are 0 and 1"
    whole = all(value == int(value) for value in numbers)
    graded = column is not None and bool(_GRADE_WORDS & set(words_of(column)))
    if whole and sorted(numbers) == list(range(len(numbers))) and len(numbers) <= 7 and graded:
        return "grades", f"the column {column!r} holds the whole numbers 0 to {len(numbers) - 1}"
    if not whole:
        return "numbers", f"the labels are {len(numbers)} different numbers with decimals"
    if len(numbers) > 30:
        return "numbers", f"the labels are {len(numbers)} different numbers"
    return "classes", f"the labels are {len(numbers)} whole numbers, taken as names of classes"


def as_number(text: str | None) -> float | None:
    """Get a finite number, or None when the text is none."""
    if text is None or not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text.strip()):
        return None
    value = float(text)
    return value if abs(value) < 1e300 else None


def words_of(name: str) -> list[str]:
    """Get the lower-case words in a name: `PatientID`, `patient_id` and `patient-id` give the same."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return [word for word in re.split(r"[^a-z0-9]+", spaced.lower()) if word]


def tolerated(total: int, percent: float) -> int:
    """Get how many of `total` files may be missing or unreadable: `percent` of them, but at least one above 0 %."""
    return 0 if percent <= 0 else max(1, int(total * percent / 100))


def some(items: Sequence[object], count: int = 5) -> str:
    """Get the first items as text, and how many more there are."""
    shown = ", ".join(str(item) for item in items[:count])
    return shown if len(items) <= count else f"{shown} and {len(items) - count} more"


class Layout(Protocol):
    """How data can lie on disk; a row of LAYOUTS opens a class with these two methods."""

    @staticmethod
    def claims(data: Path) -> tuple[int, str] | None:
        """Say how surely `data` has this layout (1 to 10) and why, or None; cheap, decodes nothing."""
        ...

    @staticmethod
    def read(data: Path, columns: Columns, *, limit_bad: float) -> DataSet:
        """Read the samples; `limit_bad` is the percentage of missing files above which it is an error."""
        ...


def read_samples(
    data: Path | str, *, columns: Columns | None = None, layout: str | None = None, limit_bad: float = 1.0
) -> DataSet:
    """Read a data set: a folder, a table, boxes as COCO, VOC or YOLO have them, masks, an npz or a DICOM tree.

    Args:
        data: the folder or file.
        columns: which columns of a table to read.
        layout: a word of LAYOUTS; None asks each layout and takes the surest.
        limit_bad: percentage of missing files that is tolerated, at least one file above 0.

    Raises:
        BadData: nothing there, no layout fits, or no sample was found.
        BadTable: the table has a mistake; the rows are named.
    """
    path = Path(data).expanduser()
    if not path.exists():
        raise BadData("there is no such file or folder", where=path, do=_near_path(path))
    word, why = (layout, "it was asked for") if layout else _surest(path)
    found: DataSet = LAYOUTS[word].read(path, columns or Columns(), limit_bad=limit_bad)
    if not found.samples:
        raise BadData(
            "no image was found", where=path, do="See the layouts in the guide: a folder per class, or a CSV."
        )
    found = replace(found, layout=word, why=why)
    return _with_header_patients(found) if _may_ask_headers(found, columns) else found


def is_claimed(data: Path) -> bool:
    """Tell whether any layout takes a file or folder for its own."""
    return any(LAYOUTS[word].claims(data) for word in LAYOUTS)


def _surest(path: Path) -> tuple[str, str]:
    claims = []
    for word in LAYOUTS:
        claim = LAYOUTS[word].claims(path)
        if claim:
            claims.append((claim[0], word, claim[1]))
    if not claims:
        raise BadData(
            "this is no data set that medgraft knows",
            where=path,
            do="Give a folder with a folder per class, a CSV with the columns path and label, boxes as COCO JSON, "
            "Pascal VOC XML or YOLO text, images/ beside masks/, a MedMNIST .npz, or a folder of DICOM files.",
        )
    _, word, why = max(claims, key=lambda claim: claim[0])
    return word, why


def _near_path(path: Path) -> str:
    import difflib

    if not path.parent.is_dir():
        return f"The folder {path.parent} is not there either."
    near = difflib.get_close_matches(path.name, [item.name for item in path.parent.iterdir()], n=1)
    return f"Did you mean {path.parent / near[0]}?" if near else "Check the path."


def key_of(ref: ImageRef, root: Path) -> str:
    """Get a name that is unique in the data set: the path relative to `root`, with `/`, and `#index` if any.

    A series is named by its first file.
    """
    path = min(ref.files) if ref.files else ref.path
    try:
        text = path.relative_to(root).as_posix()
    except ValueError:
        text = _way(path, root)
    return text if ref.index is None else f"{text}#{ref.index}"


def _way(path: Path, root: Path) -> str:
    try:
        return Path(os.path.relpath(path, root)).as_posix()
    except ValueError:  # another drive
        return path.as_posix()


def _may_ask_headers(found: DataSet, columns: Columns | None) -> bool:
    return not found.has_patients and (columns is None or columns.patient is None)


def _with_header_patients(found: DataSet) -> DataSet:
    """Take the patient from the DICOM headers when nothing else gives it."""
    from medgraft import files

    dicom = [_maybe_dicom(sample.image) for sample in found.samples]
    if not any(dicom):
        return found
    samples, studies = [], set()
    for sample, is_dicom in zip(found.samples, dicom, strict=True):
        facts: dict[str, str] = {}
        if is_dicom:
            try:
                facts = dict(files.header(min(sample.image.files) if sample.image.files else sample.image.path).facts)
            except (MedgraftError, OSError):
                facts = {}  # the survey reports the file with its reason
        studies.add(facts.get("StudyInstanceUID"))
        samples.append(replace(sample, patient=facts.get("PatientID", "").strip() or None))
    known = {sample.patient for sample in samples if sample.patient}
    if not known:
        return found
    if len(known) == 1 and len(studies) > 1:
        note = f"all DICOM headers name one patient, {known.pop()!r}, in {len(studies)} studies; it is not used"
        return replace(found, notes=(*found.notes, note))
    note = f"{len(known)} patients were read from the DICOM headers"
    return replace(found, samples=tuple(samples), notes=(*found.notes, note))


def _maybe_dicom(ref: ImageRef) -> bool:
    if ref.files:
        return True
    if ref.path.suffix.lower() in (".dcm", ".dicom", ".ima"):
        return True
    if ref.path.suffix:
        return False
    try:
        with open(ref.path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False
