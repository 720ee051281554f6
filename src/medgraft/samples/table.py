"""The layout of a table: one row an image, columns path, label, patient, split and covariates."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medgraft.errors import BadData, BadTable
from medgraft.samples.dataset import Columns, DataSet, Problem, key_of, some, tolerated, words_of
from medgraft.samples.paths import Places, extra_files
from medgraft.samples.sheet import Sheet, head_of, read_sheet
from medgraft.samples.words import mend_decimals, mend_labels, mend_patients, missing, read_splits, split_word
from medgraft.values import ImageRef, Sample

SUFFIXES = (".csv", ".tsv", ".txt")
USUAL_NAMES = ("manifest", "labels", "label", "metadata", "data", "samples", "index")
# Names that people give these columns, the surest first; compared by their words, without case.
_NAMES = {
    "path": ("path", "file path", "filepath", "file", "file name", "filename", "image path", "image", "image file")
    + ("image name", "image id", "img", "img path", "img name"),
    "label": ("label", "labels", "class", "class name", "target", "diagnosis", "dx", "finding", "finding labels")
    + ("category", "grade", "severity", "stage", "score", "y"),
    "patient": ("patient", "patient id", "patientid", "patients", "pid", "subject", "subject id", "lesion id"),
    "split": ("split", "subset", "partition", "set", "fold", "phase"),
    "mask": ("mask", "masks", "mask path", "mask file", "mask filename", "mask image", "mask name"),
}


@dataclass
class _Reading:
    """What is known while one table is read."""

    sheet: Sheet
    notes: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


class Table:
    """A CSV, TSV or `;` file with a column that names images."""

    @staticmethod
    def claims(data: Path) -> tuple[int, str] | None:
        """A table file, or a folder with one; surer when the folder has one of the usual names."""
        table = find_table(data)
        if table is None:
            return None
        if table == data:
            return 9, f"{data.name} is a table"
        if column_named("path", head_of(table)) is None:
            return None
        if table.stem.lower() in USUAL_NAMES:
            return 8, f"the folder holds the table {table.name}"
        return 3, f"{table.name} is the only table in the folder"

    @staticmethod
    def read(data: Path, columns: Columns, *, limit_bad: float) -> DataSet:
        """Read the rows as samples.

        Raises:
            BadTable: a mistake that mending would be guessing about; the rows are named.
            BadData: too many files are missing.
        """
        table = find_table(data)
        if table is None:
            raise BadData("there is no single table in this folder", where=data, do="Give the path of the CSV itself.")
        reading = _Reading(read_sheet(table))
        reading.notes += reading.sheet.notes
        if table != data:
            reading.notes.append(f"labels come from {table.name}, not from the names of the folders")
        return _read(reading, columns, limit_bad)


def find_table(data: Path) -> Path | None:
    """Get the table that `data` is or holds: one with a usual name, or the only one."""
    if data.is_file():
        return data if data.suffix.lower() in SUFFIXES[:2] or (data.suffix == ".txt" and head_of(data)) else None
    tables = sorted(item for item in data.iterdir() if item.suffix.lower() in SUFFIXES[:2] and item.is_file())
    tables = [item for item in tables if not item.name.startswith(".")]
    if len(tables) == 1:
        return tables[0]
    usual = [item for item in tables if item.stem.lower() in USUAL_NAMES]
    usual.sort(key=lambda item: USUAL_NAMES.index(item.stem.lower()))
    return usual[0] if usual else None


def column_named(role: str, columns: Sequence[str]) -> str | None:
    """Get the column that plays a role ("path", "label", "patient", "split", "mask") by the names people give it."""
    spelled = {" ".join(words_of(name)): name for name in reversed(columns)}
    return next((spelled[name] for name in _NAMES[role] if name in spelled), None)


def pick_column(role: str, wanted: str | None, sheet: Sheet) -> str | None:
    """Get the column for a role: the one asked for, or the one found by name; None when there is none.

    Raises:
        BadTable: the column asked for is not there, or the label's column seems to be mistyped.
    """
    if wanted is not None:
        if wanted in sheet.columns:
            return wanted
        if wanted.lower() == "none":
            return None
        raise BadTable(f"column {wanted!r} is not there", where=sheet.path, do=_hint(wanted, sheet.columns))
    found = column_named(role, sheet.columns)
    if found is None and role in ("label", "path"):
        near = difflib.get_close_matches(role, [name.lower() for name in sheet.columns], n=1, cutoff=0.7)
        if near:
            name = next(column for column in sheet.columns if column.lower() == near[0])
            do = f"Name the column {role}" + (f", or give --label-column {name}." if role == "label" else ".")
            raise BadTable(f"there is no column {role!r}; did you mean {name!r}?", where=sheet.path, do=do)
    return found


def _hint(wanted: str, columns: Sequence[str]) -> str:
    near = difflib.get_close_matches(wanted.lower(), [name.lower() for name in columns], n=1, cutoff=0.5)
    names = f"The columns are {', '.join(columns)}."
    if not near:
        return names
    return f"Did you mean {next(name for name in columns if name.lower() == near[0])!r}? {names}"


def path_column_of(sheet: Sheet) -> str:
    """Get the column that names the images.

    Raises:
        BadTable: there is none.
    """
    found = pick_column("path", None, sheet)
    if found is None:
        do = f"Name one 'path'. {_hint('path', sheet.columns)}"
        raise BadTable("no column names the image files", where=sheet.path, do=do)
    return found


def _read(reading: _Reading, columns: Columns, limit_bad: float) -> DataSet:
    sheet = reading.sheet
    path_column = path_column_of(sheet)
    roles = pick_roles(sheet, columns, reading.notes)
    places = Places(sheet.path.parent)
    refs = places.find([row[path_column] for row in sheet.rows], sheet.numbers)
    reading.notes += places.notes
    _limit_missing(reading, places, limit_bad)
    keep = _without_doubles(reading, refs, roles)
    keep = [index for index in keep if refs[index] is not None]
    cells = read_roles(sheet, keep, roles, reading.notes, several=columns.several)
    samples = []
    for position, index in enumerate(keep):
        ref = refs[index]
        assert ref is not None
        samples.append(_sample(ref, sheet.path.parent, position, cells))
    reading.notes += extra_files(sheet.path.parent, [sample.image for sample in samples])
    if roles["label"] is None:
        reading.notes.append("there is no label column; the samples are unlabelled")
    return DataSet(
        samples=tuple(samples),
        layout="table",
        why="",
        root=sheet.path.parent,
        notes=tuple(reading.notes),
        problems=tuple(reading.problems),
        label_column=roles["label"],
    )


def pick_roles(sheet: Sheet, columns: Columns, notes: list[str]) -> dict[str, str | None]:
    """Get the columns of label, patient and split; None where there is none."""
    roles = {
        "label": pick_column("label", columns.label, sheet),
        "patient": pick_column("patient", columns.patient, sheet),
        "split": pick_column("split", columns.split, sheet),
    }
    split = roles["split"]
    guessed = columns.split is None and split is not None and split.lower() != "split"
    if guessed and not all(missing(row[split]) or split_word(row[split]) for row in sheet.rows if split):
        roles["split"] = None  # `fold` or `set` may number folds or devices
    for role in ("label", "patient", "split"):
        if roles[role] is not None and roles[role] != role and getattr(columns, role) is None:
            notes.append(f"the {role} is read from column {roles[role]!r}")
    return roles


def read_roles(
    sheet: Sheet, keep: Sequence[int], roles: dict[str, str | None], notes: list[str], *, several: bool = False
) -> dict[str, list[str | None] | dict[str, list]]:
    """Get the mended columns of the kept rows: label, patient, split (lists) and covariates (name -> list)."""
    rows = [sheet.rows[index] for index in keep]
    numbers = [sheet.numbers[index] for index in keep]
    nothing: list[str | None] = [None] * len(rows)
    label, patient, split = roles["label"], roles["patient"], roles["split"]
    covariates = {}
    for name in sheet.columns:
        if name in roles.values() or column_named("path", sheet.columns) == name:
            continue
        column = [row[name].strip() for row in rows]
        try:
            covariates[name] = mend_decimals(column, numbers, path=sheet.path, column=name, notes=notes)
        except BadTable as error:  # a covariate is no reason to stop
            notes.append(f"{error.what}; the column is kept as text")
            covariates[name] = column
    return {
        "label": mend_labels(
            [row[label] for row in rows], numbers, path=sheet.path, column=label, notes=notes, several=several
        )
        if label
        else nothing,
        "patient": mend_patients([row[patient] for row in rows], numbers, path=sheet.path, column=patient, notes=notes)
        if patient
        else nothing,
        "split": read_splits([row[split] for row in rows], numbers, path=sheet.path, column=split)
        if split
        else nothing,
        "covariates": covariates,
    }


def _sample(ref: ImageRef, root: Path, position: int, cells: dict) -> Sample:
    return Sample(
        key=key_of(ref, root),
        image=ref,
        label=cells["label"][position],
        patient=cells["patient"][position],
        split=cells["split"][position],
        covariates={name: column[position] for name, column in cells["covariates"].items()},
    )


def _limit_missing(reading: _Reading, places: Places, limit_bad: float) -> None:
    if not places.missing:
        return
    count, total = len(places.missing), len(reading.sheet.rows)
    listed = some([f"row {number}: {name}" for number, name, _ in places.missing])
    hint = places.hint()
    if count > tolerated(total, limit_bad) or count == total:
        raise BadData(
            f"{count} of {total} files in the table are missing ({listed})",
            where=reading.sheet.path,
            do=hint or "Paths are relative to the table; mend them, or raise --limit-bad.",
        )
    reading.notes.append(f"{count} files in the table are missing and left out ({listed}){' ' + hint if hint else ''}")
    reading.problems += [
        Problem(name, f"row {number} of {reading.sheet.path.name}: {why}") for number, name, why in places.missing
    ]


def _without_doubles(reading: _Reading, refs: Sequence[ImageRef | None], roles: dict[str, str | None]) -> list[int]:
    """Indexes of the rows, each image once; rows that disagree about an image are an error."""
    sheet = reading.sheet
    first: dict[ImageRef, int] = {}
    keep, same, other = [], [], []
    for index, ref in enumerate(refs):
        if ref is None or ref not in first:
            keep.append(index)
            if ref is not None:
                first[ref] = index
            continue
        former = first[ref]
        one, two = sheet.rows[former], sheet.rows[index]
        for role, name in roles.items():
            if name and one[name].strip() != two[name].strip():
                raise BadTable(
                    f"rows {sheet.numbers[former]} and {sheet.numbers[index]} name the same image with different "
                    f"{role}s: {one[name].strip()!r} and {two[name].strip()!r}",
                    where=sheet.path,
                    do="Keep the right row. Several classes of one image are written a|b in one row.",
                )
        (same if one == two else other).append(sheet.numbers[index])
    if same:
        reading.notes.append(f"{len(same)} rows repeat an earlier row and were dropped (rows {some(same)})")
    if other:
        reading.notes.append(
            f"{len(other)} rows name an image again with other covariates and were dropped (rows {some(other)})"
        )
    return keep
