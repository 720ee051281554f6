"""A CSV, TSV or `;` file as rows of text, with every oddity named by its row.

Row numbers count as a spreadsheet does: the header is row 1.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from medgraft.errors import BadTable
from medgraft.samples.dataset import some

_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab"}
_MAX_BYTES = 1 << 30


@dataclass(frozen=True)
class Sheet:
    """A table as text.

    Attributes:
        path: the file.
        columns: header names, stripped.
        rows: one mapping a row, cells as written.
        numbers: the row number of each row; the header is row 1.
        notes: oddities that were tolerated.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]
    numbers: tuple[int, ...]
    notes: tuple[str, ...]


def read_sheet(path: Path) -> Sheet:
    """Read a table; the separator (comma, semicolon, tab) is found by itself.

    Raises:
        BadTable: it is no text table, a quote is not closed, or a row has too many cells.
    """
    notes: list[str] = []
    text = _text(path, notes)
    lines = text.splitlines()
    first = 0
    separator = None
    if lines and lines[0].lower().startswith("sep=") and len(lines[0]) == 5:  # a hint that Excel writes
        separator, first = lines[0][4], 1
        text = text.split("\n", 1)[1] if "\n" in text else ""
    separator = separator or _separator(path, lines[first:])
    if separator == ";":
        notes.append("columns are separated by semicolons")
    records = _records(path, text, separator, first)
    if not records:
        raise BadTable("the table is empty", where=path, do="It needs a header row and at least one image.")
    columns = _header(path, records[0][1], notes)
    rows, numbers = _rows(path, columns, records[1:], separator, notes)
    if not rows:
        raise BadTable("the table has a header and no rows", where=path, do="Add one row an image.")
    keep = tuple(name for name in columns if name)
    return Sheet(path, keep, tuple(rows), tuple(numbers), tuple(notes))


def head_of(path: Path) -> tuple[str, ...]:
    """Get the column names, reading only the start of the file; empty when it is no table."""
    try:
        with open(path, "rb") as file:
            start = file.read(1 << 16)
        text = _decode(start, [])
        lines = [line for line in text.splitlines() if line.strip()]
        if lines and lines[0].lower().startswith("sep="):
            lines = lines[1:]
        if not lines:
            return ()
        cells = next(csv.reader([lines[0]], delimiter=_separator(path, lines)))
    except (OSError, BadTable, csv.Error, StopIteration):
        return ()
    return tuple(cell.strip() for cell in cells)


def _text(path: Path, notes: list[str]) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise BadTable("the table is larger than 1 GiB", where=path, do="Split it.")
        data = path.read_bytes()
    except OSError as error:
        raise BadTable(f"the table cannot be read: {error.strerror}", where=path) from error
    return _decode(data, notes, path)


def _decode(data: bytes, notes: list[str], path: Path | None = None) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        notes.append("the table is UTF-16 text (Excel's Unicode text); it was read")
        return data.decode("utf-16", errors="replace").removeprefix("\ufeff")
    if b"\x00" in data or data.startswith(b"PK"):
        raise BadTable("this is no text table", where=path, do="Save the spreadsheet as CSV UTF-8.")
    if data.startswith(b"\xef\xbb\xbf"):
        notes.append("the table starts with a byte order mark (BOM); it was skipped")
        data = data[3:]
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        row = data[: error.start].count(b"\n") + 1
        notes.append(f"the table is not UTF-8 (row {row}); it was read as Windows text (cp1252)")
        return data.decode("cp1252", errors="replace")


def _separator(path: Path, lines: list[str]) -> str:
    """The separator that cuts the header into most cells; ties go to the one the rows agree with."""
    if not lines:
        return ","
    counts = {}
    for mark in _SEPARATORS:
        try:
            width = len(next(csv.reader([lines[0]], delimiter=mark)))
            agree = sum(len(row) == width for row in csv.reader(lines[1:20], delimiter=mark))
        except csv.Error:
            width, agree = 1, 0
        counts[mark] = (width, agree)
    best = max(counts, key=lambda mark: counts[mark])
    if counts[best][0] == 1:
        return "\t" if path.suffix.lower() == ".tsv" else ","
    return best


def _records(path: Path, text: str, separator: str, skipped: int) -> list[tuple[int, list[str]]]:
    """Non-empty records, each with its row number as a spreadsheet counts them."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    records = []
    number = skipped
    try:
        for number, cells in enumerate(reader, start=skipped + 1):
            if any(cell.strip() for cell in cells):
                records.append((number, cells))
    except csv.Error as error:
        raise BadTable(
            f"row {number + 1} has a quotation mark that does not fit ({error})",
            where=path,
            do='Close every quote; write a quotation mark inside a cell as "".',
        ) from error
    return records


def _header(path: Path, cells: list[str], notes: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    doubled = [name for name, count in Counter(name for name in names if name).items() if count > 1]
    if doubled:
        raise BadTable(f"two columns are named {doubled[0]!r}", where=path, do="Give every column its own name.")
    blank = [str(position + 1) for position, name in enumerate(names) if not name]
    if blank:
        notes.append(f"column {', '.join(blank)} has no name; it was left out")
    return names


def _rows(
    path: Path, columns: list[str], records: list[tuple[int, list[str]]], separator: str, notes: list[str]
) -> tuple[list[dict[str, str]], list[int]]:
    rows, numbers, short = [], [], []
    for number, cells in records:
        if len(cells) > len(columns) and any(cell.strip() for cell in cells[len(columns) :]):
            raise BadTable(_too_wide(number, cells, columns, separator), where=path, do=_quote_hint(separator))
        if len(cells) < len(columns):
            short.append(number)
            cells = cells + [""] * (len(columns) - len(cells))
        rows.append({name: cell for name, cell in zip(columns, cells, strict=False) if name})
        numbers.append(number)
    if short:
        notes.append(f"rows {some(short)} have fewer cells than the header; the rest was taken as empty")
    return rows, numbers


def _too_wide(number: int, cells: list[str], columns: list[str], separator: str) -> str:
    return f"row {number} has {len(cells)} cells, the header has {len(columns)}"


def _quote_hint(separator: str) -> str:
    if separator == ",":
        return 'If a number has a decimal comma, or a text a comma, put the cell in quotes: "0,5".'
    return f"Put cells that hold a {_SEPARATORS.get(separator, repr(separator))} in quotes."
