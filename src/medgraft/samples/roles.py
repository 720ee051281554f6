"""Which column of a table plays which role, and the cells of these columns, mended."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from medgraft import storage
from medgraft.errors import BadTable
from medgraft.samples.dataset import Columns, words_of
from medgraft.samples.sheet import Sheet
from medgraft.samples.words import mend_decimals, mend_labels, mend_patients, missing, read_splits, split_word

# Names that people give these columns, the surest first; compared by their words, without case.
_NAMES = {
    "path": ("path", "file path", "filepath", "file", "file name", "filename", "image path", "image", "image file")
    + ("image name", "image id", "img", "img path", "img name"),
    "label": ("label", "labels", "class", "class name", "target", "diagnosis", "dx", "finding", "finding labels")
    + ("category", "grade", "severity", "stage", "score", "y"),
    "patient": ("patient", "patient id", "patientid", "patients", "pid", "subject", "subject id", "lesion id"),
    "split": ("split", "subset", "partition", "set", "fold", "phase"),
    "boxes": (
        "annotation",
        "annotations",
        "annotation file",
        "annotation path",
        "boxes",
        "boxes file",
        "xml",
        "xml file",
    ),
    "mask": ("mask", "masks", "mask path", "mask file", "mask filename", "mask image", "mask name", "label map")
    + ("labelmap", "segmentation", "segmentation mask", "instance mask", "instance masks"),
}


def column_named(role: str, columns: Sequence[str]) -> str | None:
    """Get the column that plays a role ("path", "label", "patient", "split", "boxes", "mask") by its usual names."""
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
        others = [name.lower() for name in sheet.columns if name != column_named("mask", sheet.columns)]
        near = difflib.get_close_matches(role, others, n=1, cutoff=0.7)
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
    """Get the mended columns of the kept rows: label, patient, split (lists) and covariates (name -> list).

    Cells that were guarded so that no spreadsheet runs them are read as they were.
    """
    rows = [{name: storage.as_written(cell) for name, cell in sheet.rows[index].items()} for index in keep]
    numbers = [sheet.numbers[index] for index in keep]
    nothing: list[str | None] = [None] * len(rows)
    label, patient, split = roles["label"], roles["patient"], roles["split"]
    covariates = {}
    for name in sheet.columns:
        if name in roles.values() or column_named("path", sheet.columns) == name:
            continue
        column: list[str | None] = [row[name].strip() for row in rows]
        try:
            column = mend_decimals(column, numbers, path=sheet.path, column=name, notes=notes)
        except BadTable as error:  # a covariate is no reason to stop
            notes.append(f"{error.what}; the column is kept as text")
        covariates[storage.as_written(name)] = column
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
