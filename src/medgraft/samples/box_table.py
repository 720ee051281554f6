"""Boxes in a table: a column that names the annotation file of each image, or one row a box."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medgraft import storage
from medgraft.errors import BadTable
from medgraft.samples.boxed import Annotated, Found, as_dataset
from medgraft.samples.boxes import Written, numbers_of
from medgraft.samples.dataset import Columns, DataSet, words_of
from medgraft.samples.paths import Places, extra_files
from medgraft.samples.roles import column_named, path_column_of, pick_column, pick_roles, read_roles
from medgraft.samples.sheet import Sheet
from medgraft.samples.voc import read_voc
from medgraft.samples.words import missing
from medgraft.samples.yolo import read_yolo
from medgraft.samples.yolo_names import Names, names_in
from medgraft.values import ImageRef

_ENDINGS = (".xml", ".txt")
# Names of the corners, the volumes' first; True where the second half is the size and not the far corner.
_CORNERS: tuple[tuple[tuple[str, ...], bool], ...] = (
    (("x0", "y0", "z0", "x1", "y1", "z1"), False),
    (("xmin", "ymin", "zmin", "xmax", "ymax", "zmax"), False),
    (("x min", "y min", "z min", "x max", "y max", "z max"), False),
    (("xmin", "ymin", "xmax", "ymax"), False),
    (("x min", "y min", "x max", "y max"), False),
    (("x0", "y0", "x1", "y1"), False),
    (("x1", "y1", "x2", "y2"), False),
    (("left", "top", "right", "bottom"), False),
    (("x", "y", "w", "h"), True),
    (("x", "y", "width", "height"), True),
    (("bbox x", "bbox y", "bbox w", "bbox h"), True),
)
_IGNORED = ("ignored", "ignore", "iscrowd", "difficult")


@dataclass(frozen=True)
class BoxColumns:
    """Where a table has its boxes.

    Attributes:
        file: the column of annotation files, None where each row is a box.
        corners: the columns of x0, y0, x1, y1 (with z0 and z1 in a volume), or of x, y, width and height.
        sized: True where the second half is the size.
        ignored: the column that says which boxes are ignored, or None.
    """

    file: str | None = None
    corners: tuple[str, ...] = ()
    sized: bool = False
    ignored: str | None = None

    @property
    def all(self) -> tuple[str, ...]:
        """Every column that is read for boxes."""
        return tuple(name for name in (self.file, *self.corners, self.ignored) if name)


def box_columns(sheet: Sheet, columns: Columns) -> BoxColumns | None:
    """Get the columns of boxes: the one asked for, or those found by name where no label is asked for; else None.

    Raises:
        BadTable: the column asked for is not there.
    """
    asked = columns.boxes
    if asked is not None and asked.lower() == "none" and asked not in sheet.columns:
        return None
    corners = _corner_columns(sheet)
    if asked is None:
        file = column_named("boxes", sheet.columns)
        named = file is not None and all(
            missing(row[file]) or row[file].strip().lower().endswith(_ENDINGS) for row in sheet.rows
        )
        settled = named and columns.label == file  # the recipe of a run names where its classes came from
        if columns.label is not None and columns.label.lower() != "none" and not settled:
            return corners if corners and _several_rows(sheet) else None
        return BoxColumns(file) if named else corners
    name = pick_column("boxes", asked, sheet)
    return corners if corners and name in corners.corners else BoxColumns(name)


def _corner_columns(sheet: Sheet) -> BoxColumns | None:
    spelled = {" ".join(words_of(name)): name for name in reversed(sheet.columns)}
    ignored = next((spelled[name] for name in _IGNORED if name in spelled), None)
    for names, sized in _CORNERS:
        if all(name in spelled for name in names):
            return BoxColumns(None, tuple(spelled[name] for name in names), sized, ignored)
    return None


def _several_rows(sheet: Sheet) -> bool:
    """A label that is asked for may be that of the boxes: then some image has several rows."""
    path = path_column_of(sheet)
    return len({row[path] for row in sheet.rows}) < len(sheet.rows)


def read_box_table(sheet: Sheet, where: BoxColumns, columns: Columns, *, notes: list[str], limit_bad: float) -> DataSet:
    """Read a table with boxes.

    Raises:
        BadTable: rows of one image disagree about patient or split, or too many boxes cannot be used.
        BadData: too many images or annotation files are missing or cannot be understood.
    """
    root = sheet.path.parent
    found = Found(root, "table", notes=notes)
    places = Places(root)
    path_column = path_column_of(sheet)
    refs = places.find([row[path_column] for row in sheet.rows], sheet.numbers)
    notes += places.notes
    _note_missing(places, sheet, found)
    rows: dict[ImageRef, list[int]] = {}
    for index, ref in enumerate(refs):
        if ref is not None:
            rows.setdefault(ref, []).append(index)
    roles = pick_roles(sheet, columns, notes)
    label = roles.pop("label")
    label = None if label == where.file else label
    by_row = where.file is None
    _refuse_contradictions(sheet, rows, [*roles.values(), where.file])
    varying = _varying(sheet, rows) if by_row else set()
    left = [name for name in sheet.columns if name not in varying - set(roles.values()) or name == path_column]
    cells = read_roles(
        Sheet(sheet.path, tuple(left), sheet.rows, sheet.numbers, ()),
        [indexes[0] for indexes in rows.values()],
        {"label": None, **roles, **{name: name for name in (*where.all, *([label] if by_row and label else []))}},
        notes,
    )
    reader = _Files(root, found) if where.file is not None else None
    if label is not None and not by_row:
        notes.append(f"the classes are those of the boxes; column {label!r} is kept as a covariate")
    if by_row and label is None:
        notes.append("no column names the class of a box; all are called 'object'")
    for position, (ref, indexes) in enumerate(rows.items()):
        if reader is not None and where.file is not None:
            one = reader.read(ref, sheet.rows[indexes[0]][where.file].strip(), sheet.numbers[indexes[0]])
        else:
            one = Annotated(ref, sheet.path, _boxes(sheet, indexes, where, label))
        if one is not None:
            found.images.append(_with_cells(one, cells, position))
    notes += extra_files(root, list(rows))
    return as_dataset(found, limit_bad=limit_bad, label_column=label if by_row else where.file)


def _note_missing(places: Places, sheet: Sheet, found: Found) -> None:
    said: set[str] = set()
    for number, name, why in places.missing:
        if name not in said:
            found.leave_out(name, f"row {number} of {sheet.path.name}: {why}")
        said.add(name)
    if said and (hint := places.hint()):
        found.notes.append(hint)


def _refuse_contradictions(sheet: Sheet, rows: Mapping[ImageRef, list[int]], names: Sequence[str | None]) -> None:
    for indexes in rows.values():
        for name in filter(None, names):
            first = indexes[0]
            other = next((i for i in indexes if sheet.rows[i][name].strip() != sheet.rows[first][name].strip()), None)
            if other is not None:
                raise BadTable(
                    f"rows {sheet.numbers[first]} and {sheet.numbers[other]} name the same image with different "
                    f"values of {name!r}: {sheet.rows[first][name]!r} and {sheet.rows[other][name]!r}",
                    where=sheet.path,
                    do="Write the same in all rows of an image.",
                )


def _varying(sheet: Sheet, rows: Mapping[ImageRef, list[int]]) -> set[str]:
    """Columns that differ among rows of one image: they are about boxes, not about images."""
    several = [indexes for indexes in rows.values() if len(indexes) > 1]
    return {
        name
        for name in sheet.columns
        if any(len({sheet.rows[index][name] for index in indexes}) > 1 for indexes in several)
    }


def _with_cells(one: Annotated, cells: dict, position: int) -> Annotated:
    covariates = {name: column[position] for name, column in cells["covariates"].items()}
    split, patient = cells["split"][position], cells["patient"][position]
    return Annotated(one.ref, one.source, one.boxes, one.said, split, patient, covariates, one.parts)


def _boxes(sheet: Sheet, indexes: Sequence[int], where: BoxColumns, label: str | None) -> tuple[Written, ...]:
    """The boxes of one image; a row whose corners are all empty says that there is none."""
    boxes = []
    for index in indexes:
        row = sheet.rows[index]
        texts = [row[name].strip() for name in where.corners]
        if all(map(missing, texts)):
            continue
        values, wrong = numbers_of(texts, where.corners)
        half = len(values) // 2
        if where.sized and values:
            values = (*values[:half], *(start + side for start, side in zip(values, values[half:], strict=False)))
        ignored = where.ignored is not None and row[where.ignored].strip().lower() in ("1", "true", "yes", "1.0")
        name = "object" if label is None else "" if missing(row[label]) else storage.as_written(row[label].strip())
        boxes.append(Written(f"row {sheet.numbers[index]}", name, values, ignored, wrong))
    return tuple(boxes)


@dataclass
class _Files:
    """Reads the annotation file of an image, by its ending."""

    root: Path
    found: Found
    names: dict[Path, Names] = field(default_factory=dict)

    def read(self, ref: ImageRef, name: str, number: int) -> Annotated | None:
        """Get what is written of an image; None where the file is missing or cannot be understood, which is noted."""
        if missing(name):
            return Annotated(ref, ref.path, None)
        path = self.root / name.replace("\\", "/")
        if not path.is_file():
            self.found.leave_out(name, f"row {number}: the annotation file is not there")
            return None
        try:
            if path.suffix.lower() == ".xml":
                drawn = read_voc(path)
                return Annotated(ref, path, drawn.boxes, drawn.size)
            return Annotated(ref, path, read_yolo(path, self._names(path.parent)), parts=True)
        except BadTable as error:
            self.found.leave_out(path, error)
            return None

    def _names(self, folder: Path) -> Names:
        """The names beside the table, else beside the text files."""
        if folder not in self.names:
            own = names_in(self.root)
            self.names[folder] = own if own.source is not None else names_in(folder)
            self.found.notes += [note for note in self.names[folder].notes if note not in self.found.notes]
        return self.names[folder]
