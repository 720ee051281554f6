"""The layout of a table: one row an image (or a box), columns path, label, patient, split and covariates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from medgraft.errors import BadData, BadTable
from medgraft.samples.box_table import box_columns, read_box_table
from medgraft.samples.dataset import Columns, DataSet, Problem, key_of, some, tolerated
from medgraft.samples.mask_cells import MaskCells, mask_cells
from medgraft.samples.mask_names import names_beside
from medgraft.samples.paths import Places, extra_files
from medgraft.samples.roles import column_named, path_column_of, pick_roles, read_roles
from medgraft.samples.sheet import Sheet, head_of, read_sheet
from medgraft.values import ImageRef, Sample

SUFFIXES = (".csv", ".tsv", ".txt")
USUAL_NAMES = ("manifest", "labels", "label", "metadata", "data", "samples", "index", "boxes", "annotations")


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
        where = box_columns(reading.sheet, columns)
        asked = columns.mask is not None and columns.mask.lower() != "none"
        if where is not None and not (asked and columns.boxes is None):
            return read_box_table(reading.sheet, where, columns, notes=reading.notes, limit_bad=limit_bad)
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


def _read(reading: _Reading, columns: Columns, limit_bad: float) -> DataSet:
    sheet = reading.sheet
    path_column = path_column_of(sheet)
    roles = pick_roles(sheet, columns, reading.notes)
    places = Places(sheet.path.parent)
    refs = places.find([row[path_column] for row in sheet.rows], sheet.numbers)
    reading.notes += places.notes
    _limit_missing(reading, places, limit_bad)
    masks = mask_cells(sheet, columns)
    # A label that can be learnt without them needs no mask: one that is not there then costs the mask, not the image.
    needed = masks is not None and (masks.asked or roles["label"] is None)
    if masks is not None:
        reading.notes += [f"masks: {note}" for note in masks.places.notes]
        _limit_missing(reading, masks.places, limit_bad, of_masks=len(masks.rows), part=not needed)
    keep = _without_doubles(reading, refs, {**roles, "mask": masks.column} if masks and needed else roles)
    lost = masks.lost() if masks and needed else set()
    keep = [index for index in keep if refs[index] is not None and index not in lost]
    cells = read_roles(sheet, keep, roles, reading.notes, several=columns.several)
    samples = []
    for position, index in enumerate(keep):
        ref = refs[index]
        assert ref is not None
        sample = _sample(ref, sheet.path.parent, position, cells)
        samples.append(replace(sample, mask=masks.refs[index]) if masks else sample)
    reading.notes += _extra_files(sheet.path.parent, samples)
    if roles["label"] is None:
        reading.notes.append("there is no label column; the samples are unlabelled")
    there = masks is not None and any(sample.mask for sample in samples)
    names = names_beside(sheet.path.parent, reading.notes) if there else {}
    if masks is not None:
        _note_masks(reading, masks, samples, roles["label"])
    return DataSet(
        samples=tuple(samples),
        layout="table",
        why="",
        root=sheet.path.parent,
        notes=tuple(reading.notes),
        problems=tuple(reading.problems),
        label_column=roles["label"],
        mask_column=masks.column if masks and there else None,
        mask_names=names,
    )


def _sample(ref: ImageRef, root: Path, position: int, cells: dict) -> Sample:
    return Sample(
        key=key_of(ref, root),
        image=ref,
        label=cells["label"][position],
        patient=cells["patient"][position],
        split=cells["split"][position],
        covariates={name: column[position] for name, column in cells["covariates"].items()},
    )


def _note_masks(reading: _Reading, masks: MaskCells, samples: Sequence[Sample], label: str | None) -> None:
    count = sum(sample.mask is not None for sample in samples)
    if not masks.asked and masks.column != "mask":
        reading.notes.append(f"the mask is read from column {masks.column!r}")
    if label is not None and count:
        use = "for tasks that use them, such as segment"
        reading.notes.append(f"column {masks.column!r} names masks of {count} images, {use}")
    elif 0 < count < len(samples):
        reading.notes.append(f"{len(samples) - count} images have no mask (empty cells)")


def _extra_files(root: Path, samples: Sequence[Sample]) -> list[str]:
    """Images that no row names; masks among the images are named."""
    folders = {sample.image.path.parent for sample in samples}
    masks = [sample.mask for sample in samples if sample.mask is not None and sample.mask.path.parent in folders]
    return extra_files(root, [*(sample.image for sample in samples), *masks])


def _limit_missing(
    reading: _Reading, places: Places, limit_bad: float, *, of_masks: int | None = None, part: bool = False
) -> None:
    """Note files that are not there; of masks, of which a table names so many, a part alone of its sample is lost."""
    if not places.missing:
        return
    count, total = len(places.missing), len(reading.sheet.rows) if of_masks is None else of_masks
    files = "files" if of_masks is None else "masks"
    listed = some([f"row {number}: {name}" for number, name, _ in places.missing])
    hint = places.hint()
    if not part and (count > tolerated(total, limit_bad) or count == total):
        raise BadData(
            f"{count} of {total} {files} in the table are missing ({listed})",
            where=reading.sheet.path,
            do=hint or "Paths are relative to the table; mend them, or raise --limit-bad.",
        )
    reading.notes.append(
        f"{count} {files} in the table are missing and left out ({listed}){' ' + hint if hint else ''}"
    )
    reading.problems += [
        Problem(name, f"row {number} of {reading.sheet.path.name}: {why}", part) for number, name, why in places.missing
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
                    do="Draw both into one label map, and keep one row."
                    if role == "mask"
                    else "Keep the right row. Several classes of one image are written a|b in one row.",
                )
        (same if one == two else other).append(sheet.numbers[index])
    if same:
        reading.notes.append(f"{len(same)} rows repeat an earlier row and were dropped (rows {some(same)})")
    if other:
        reading.notes.append(
            f"{len(other)} rows name an image again with other covariates and were dropped (rows {some(other)})"
        )
    return keep
