"""The layout of a DICOM tree: files in any folders, labels from a CSV keyed by a UID or the patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from medgraft.errors import BadData, BadTable, MedgraftError
from medgraft.samples.dataset import Columns, DataSet, Problem, key_of, some, tolerated, without_sidecars, words_of
from medgraft.samples.roles import column_named, pick_roles, read_roles
from medgraft.samples.sheet import Sheet, head_of, read_sheet
from medgraft.samples.table import find_table
from medgraft.values import ImageRef, Sample

# The finest key first: a table with several of them is read by the finest.
KEYS = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "PatientID")
_LOOKED_AT = 200


class Dicomtree:
    """A tree of DICOM files; a column of the CSV named after a UID (or PatientID) says whose label it is."""

    @staticmethod
    def claims(data: Path) -> tuple[int, str] | None:
        """A table keyed by a DICOM id beside DICOM files; or a folder of DICOM files alone."""
        table = find_table(data)
        if table is not None:
            columns = head_of(table)
            key = key_column(columns)
            if key and column_named("path", columns) is None:
                return 10, f"{table.name} is keyed by {key[1]}"
            return None
        if data.is_dir() and _looks_dicom(data):
            return 4, "the folder holds DICOM files"
        return None

    @staticmethod
    def read(data: Path, columns: Columns, *, limit_bad: float) -> DataSet:
        """Read the images and give each the row that names it; the patient comes from the header if no column says.

        Raises:
            BadData: too many rows name no file.
            BadTable: rows disagree about one id; the rows are named.
        """
        from medgraft import files

        table = find_table(data)
        root = data if data.is_dir() else data.parent
        problems: list[Problem] = []

        def note(path: Path, why: str) -> None:
            problems.append(Problem(_name(path, root), why))

        key = key_column(head_of(table)) if table else None
        # a label a file parts a series into its files
        refs = files.list_images(root, on_problem=note, series=key is None or key[1] != "SOPInstanceUID")
        skipped = None if table is None else table.name
        notes: list[str] = []
        problems = without_sidecars([problem for problem in problems if problem.path != skipped], notes)
        if table is None:
            samples = tuple(Sample(key_of(ref, root), ref) for ref in refs)
            return DataSet(samples, "dicomtree", "", root, ("no table gives labels", *notes), tuple(problems))
        sheet = read_sheet(table)
        found = key_column(sheet.columns)
        if found is None:
            raise BadTable("no column is named after a DICOM id", where=table, do=f"Name one of {', '.join(KEYS)}.")
        dataset = _join(sheet, found, refs, root, columns, limit_bad)
        return replace(dataset, notes=(*dataset.notes, *notes), problems=(*dataset.problems, *problems))


def key_column(columns: Sequence[str]) -> tuple[str, str] | None:
    """Get (column, DICOM keyword) of the finest id among the columns; `sop_instance_uid` is as good as the keyword."""
    spelled = {"".join(words_of(name)): name for name in columns}
    return next(((spelled[key.lower()], key) for key in KEYS if key.lower() in spelled), None)


def _looks_dicom(folder: Path) -> bool:
    """True when one of the first files is DICOM by its magic."""
    for count, path in enumerate(sorted(folder.rglob("*"))):
        if count > _LOOKED_AT:
            return False
        if path.is_file():
            try:
                with open(path, "rb") as file:
                    if file.read(132)[128:] == b"DICM":
                        return True
            except OSError:
                continue
    return False


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _header_ids(refs: Sequence[ImageRef]) -> list[Mapping[str, str]]:
    from medgraft import files

    seen: dict[Path, Mapping[str, str]] = {}
    for ref in refs:
        path = min(ref.files) if ref.files else ref.path
        if path not in seen:
            try:
                seen[path] = dict(files.header(path).facts)
            except (MedgraftError, OSError):
                seen[path] = {}
    return [seen[min(ref.files) if ref.files else ref.path] for ref in refs]


def _join(
    sheet: Sheet, key: tuple[str, str], refs: Sequence[ImageRef], root: Path, columns: Columns, limit_bad: float
) -> DataSet:
    column, keyword = key
    notes = [*sheet.notes]
    roles = pick_roles(sheet, columns, notes)
    if roles["label"] == column:
        roles["label"] = None
    row_of = _rows_by_id(sheet, column, roles)
    ids = _header_ids(refs)
    matched = [row_of.get(facts.get(keyword, "").strip()) for facts in ids]
    used = {row for row in matched if row is not None}
    unused = [sheet.numbers[row] for row in row_of.values() if row not in used]
    if unused:
        if len(unused) == len(row_of) or len(unused) > tolerated(len(row_of), limit_bad):
            raise BadData(
                f"{len(unused)} of {len(row_of)} rows name a {keyword} that no file has (rows {some(unused)})",
                where=sheet.path,
                do=f"Check the column {column!r}, or raise --limit-bad.",
            )
        notes.append(f"{len(unused)} rows name a {keyword} that no file has (rows {some(unused)})")
    strangers = [_name(ref.path, root) for ref, row in zip(refs, matched, strict=True) if row is None]
    if strangers:
        notes.append(f"{len(strangers)} images are not in the table and are not used ({some(strangers)})")
    kept = [index for index, row in enumerate(matched) if row is not None]
    rows = [row for row in matched if row is not None]
    cells: dict = read_roles(sheet, sorted(set(rows)), roles, notes, several=columns.several)
    samples = _samples(cells, [refs[i] for i in kept], [ids[i] for i in kept], rows, by_header=not roles["patient"])
    if not roles["patient"] and any(sample.patient for sample in samples):
        notes.append("the patient is read from the DICOM headers")
    samples = [replace(sample, key=key_of(sample.image, root)) for sample in samples]
    return DataSet(tuple(samples), "dicomtree", "", root, tuple(notes), (), roles["label"])


def _samples(cells: dict, refs: Sequence[ImageRef], ids: Sequence, rows: Sequence, *, by_header: bool) -> list:
    position = {row: place for place, row in enumerate(sorted(set(rows)))}
    samples = []
    for ref, facts, row in zip(refs, ids, rows, strict=True):
        place = position[row]
        patient = facts.get("PatientID", "").strip() or None if by_header else cells["patient"][place]
        samples.append(
            Sample(
                key="",
                image=ref,
                label=cells["label"][place],
                patient=patient,
                split=cells["split"][place],
                covariates={name: column[place] for name, column in cells["covariates"].items()},
            )
        )
    return samples


def _rows_by_id(sheet: Sheet, column: str, roles: dict[str, str | None]) -> dict[str, int]:
    rows: dict[str, int] = {}
    for index, row in enumerate(sheet.rows):
        text = row[column].strip()
        if not text:
            raise BadTable(f"row {sheet.numbers[index]} has no {column}", where=sheet.path, do="Fill it.")
        former = rows.setdefault(text, index)
        if former == index:
            continue
        for role, name in roles.items():
            if name and sheet.rows[former][name].strip() != row[name].strip():
                raise BadTable(
                    f"rows {sheet.numbers[former]} and {sheet.numbers[index]} give {text} different {role}s: "
                    f"{sheet.rows[former][name].strip()!r} and {row[name].strip()!r}",
                    where=sheet.path,
                    do="Keep the right row.",
                )
    return rows
