"""The label maps that a table names: their column, and the file of each row."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medgraft.samples.dataset import Columns
from medgraft.samples.near import is_image
from medgraft.samples.paths import Places
from medgraft.samples.roles import column_named, pick_column
from medgraft.samples.sheet import Sheet
from medgraft.samples.words import missing
from medgraft.values import ImageRef


@dataclass(frozen=True, eq=False)
class MaskCells:
    """What a column of masks names.

    Attributes:
        column: its name.
        refs: the label map of each row of the table; None where the cell is empty or names a file that is not there.
        rows: row number -> index, of the rows that name one.
        places: how they were looked for, and what is missing.
        asked: whether the user asked for this column.
    """

    column: str
    refs: tuple[ImageRef | None, ...]
    rows: dict[int, int]
    places: Places
    asked: bool

    def lost(self) -> set[int]:
        """Get the indexes of the rows whose mask is not there."""
        return {self.rows[number] for number, _, _ in self.places.missing}


def mask_cells(sheet: Sheet, columns: Columns) -> MaskCells | None:
    """Get the label maps of a table: those of the column asked for, or of one with a usual name that names images.

    Raises:
        BadTable: the column asked for is not there.
    """
    asked = columns.mask is not None
    column = pick_column("mask", columns.mask, sheet) if asked else column_named("mask", sheet.columns)
    if column is None:
        return None
    given = [index for index, row in enumerate(sheet.rows) if not missing(row[column])]
    places = Places(sheet.path.parent)
    cells = [sheet.rows[index][column].strip() for index in given]
    # A column that is called mask may as well say who wore one.
    if not asked and not any(is_image(Path(cell.partition("#")[0])) for cell in cells):
        return None
    numbers = [sheet.numbers[index] for index in given]
    refs: list[ImageRef | None] = [None] * len(sheet.rows)
    for index, ref in zip(given, places.find(cells, numbers), strict=True):
        refs[index] = ref
    return MaskCells(column, tuple(refs), dict(zip(numbers, given, strict=True)), places, asked)
