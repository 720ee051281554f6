"""What goes wrong with labels and ids in a table, each with its own sentence.

Every function takes a column as text with its row numbers and gives the
mended column and notes, or raises `BadTable` where mending would be guessing.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from medgraft.errors import BadTable
from medgraft.samples.dataset import as_number, some

_MISSING = {"nan", "n/a", "na", "#n/a", "null", "<na>", "nat"}
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+")
_SCIENTIFIC = re.compile(r"\d([.,]\d+)?E\+?\d+", re.IGNORECASE)
_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_DATE = re.compile(
    rf"\d{{1,2}}[-./ ]?({_MONTHS})|({_MONTHS})[-./ ]?\d{{1,4}}|\d{{1,2}}[./]\d{{1,2}}[./]\d{{2,4}}"
    r"|\d{4}-\d{2}-\d{2}( 00:00:00)?",
    re.IGNORECASE,
)
_SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "tr": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
    "holdout": "test",
}


def split_word(text: str) -> str | None:
    """Get "train", "val" or "test" for the words people use, None for any other."""
    return _SPLIT_WORDS.get(text.strip().lower())


def missing(cell: str) -> bool:
    """True for an empty cell and for the words that programs write for nothing (NaN, NA, null)."""
    return not cell.strip() or cell.strip().lower() in _MISSING


def mend_labels(
    cells: Sequence[str],
    numbers: Sequence[int],
    *,
    path: Path,
    column: str,
    notes: list[str],
    several: bool = False,
) -> list:
    """Get the labels; None where there is none.

    A space at the ends is taken off and a decimal comma becomes a point, each with a note; `a|b` makes the column
    multi-label, where an empty cell means none of the classes, and so does `several`.

    Raises:
        BadTable: two labels differ only by case or inner spaces; a comma may mean thousands or decimals.
    """
    stripped = [unicodedata.normalize("NFC", cell).strip() for cell in cells]
    spaced = [number for cell, text, number in zip(cells, stripped, numbers, strict=True) if cell != text]
    if spaced:
        notes.append(f"{len(spaced)} labels had spaces at their ends, which were taken off (rows {some(spaced)})")
    multi = several or any("|" in text for text in stripped)
    labels: list[str | None] = [None if missing(text) else text for text in stripped]
    if multi:
        labels = ["" if not text else label for text, label in zip(stripped, labels, strict=True)]
        labels = [None if label is None else _parts(label) for label in labels]
    empty = [number for label, number in zip(labels, numbers, strict=True) if label is None]
    if empty:
        notes.append(f"{len(empty)} rows have no label (empty or NaN) and are left unlabelled: rows {some(empty)}")
    labels = mend_decimals(labels, numbers, path=path, column=column, notes=notes)
    labels = _whole_numbers(labels, notes)
    _refuse_twins(labels, path=path, column=column)
    _note_dates(labels, numbers, column, notes)
    _note_odd_labels(labels, multi, notes)
    return labels


def _parts(label: str) -> str:
    """`b | a|b` as `b|a`: parts trimmed, each once, in the user's order."""
    return "|".join(dict.fromkeys(part.strip() for part in label.split("|") if part.strip()))


def mend_decimals(
    cells: Sequence[str | None], numbers: Sequence[int], *, path: Path, column: str, notes: list[str]
) -> list[str | None]:
    """Get a column of numbers with decimal points; a column that is not all numbers is left alone.

    Raises:
        BadTable: every comma is followed by three digits, so it may part thousands.
    """
    given = [cell.strip() for cell in cells if cell is not None and not missing(cell)]
    commas = [cell for cell in given if "," in cell]
    if not commas or not all(as_number(cell) is not None or _DECIMAL_COMMA.fullmatch(cell) for cell in given):
        return list(cells)
    if all(_THOUSANDS.fullmatch(cell) for cell in commas):
        row = next(n for cell, n in zip(cells, numbers, strict=True) if cell and cell.strip() == commas[0])
        raise BadTable(
            f"row {row}: {commas[0]!r} in column {column!r} may mean a decimal comma or thousands",
            where=path,
            do="Write it with a decimal point, or without the comma.",
        )
    notes.append(f"column {column!r} has decimal commas such as {commas[0]!r}; they were read as points")
    return [cell.replace(",", ".") if cell is not None and not missing(cell) else cell for cell in cells]


def _whole_numbers(labels: list[str | None], notes: list[str]) -> list[str | None]:
    """A column of 0.0, 1.0 (what pandas makes of whole numbers beside NaN) as 0, 1."""
    given = {label for label in labels if label}
    if not given or not all(re.fullmatch(r"[+-]?\d+(\.0+)?", label) for label in given):
        return labels
    if not any("." in label for label in given):
        return labels
    notes.append("labels such as 1.0 were read as the whole number 1")
    return [label.split(".")[0] if label else label for label in labels]


def _refuse_twins(labels: Sequence[str | None], *, path: Path, column: str) -> None:
    """Labels that are one word to a reader and two classes to a program."""
    counts = Counter(part for label in labels if label for part in label.split("|"))
    twins = _same_to_a_reader(counts)
    if twins:
        named = " and ".join(f"{name!r} ({counts[name]} times)" for name in twins)
        raise BadTable(
            f"labels in column {column!r} differ only by capital letters or spaces: {named}",
            where=path,
            do=f"Write all of them as {max(twins, key=lambda name: counts[name])!r}.",
        )


def _same_to_a_reader(names: Counter[str]) -> list[str]:
    families: dict[str, list[str]] = defaultdict(list)
    for name in names:
        families["".join(unicodedata.normalize("NFKC", name).casefold().split())].append(name)
    return next((sorted(family) for family in families.values() if len(family) > 1), [])


def refuse_twin_classes(names: Sequence[str], *, path: Path, what: str = "class folders") -> None:
    """Refuse classes that differ only by case or spaces; `what` they are, in words.

    Raises:
        BadTable: names both.
    """
    twins = _same_to_a_reader(Counter(names))
    if twins:
        raise BadTable(
            f"{what} differ only by capital letters or spaces: {' and '.join(map(repr, twins))}",
            where=path,
            do="Give them one name.",
        )


def _note_dates(cells: Sequence[str | None], numbers: Sequence[int], column: str, notes: list[str]) -> None:
    """A few dates among other words: a spreadsheet turned MAR1 or 1-2 into a date."""
    given = [(cell, number) for cell, number in zip(cells, numbers, strict=True) if cell]
    dates = [(cell, number) for cell, number in given if _DATE.fullmatch(cell)]
    if dates and len(dates) < len(given) / 2:
        rows = some([number for _, number in dates])
        notes.append(
            f"column {column!r} holds dates among other words, such as {dates[0][0]!r} (rows {rows}); "
            "a spreadsheet may have changed them"
        )


def _note_odd_labels(labels: Sequence[str | None], multi: bool, notes: list[str]) -> None:
    counts = Counter(part for label in labels if label for part in label.split("|"))
    if len(counts) > 30:
        return
    listed = [name for name in counts if not multi and re.search(r"\w\s*[;,]\s*\w", name) and as_number(name) is None]
    if listed:
        notes.append(f"the label {listed[0]!r} looks like a list; several classes are written a|b")
    rare = [name for name, count in counts.items() if count <= 2 and as_number(name) is None]
    for name in rare:
        others = [other for other in counts if counts[other] >= 10 * counts[name]]
        near = difflib.get_close_matches(name, others, n=1, cutoff=0.85)
        if near:
            notes.append(f"the label {name!r} occurs {counts[name]} times; is it {near[0]!r} mistyped?")


def mend_patients(cells: Sequence[str], numbers: Sequence[int], *, path: Path, column: str, notes: list[str]) -> list:
    """Get the patient ids as text; None where there is none.

    Raises:
        BadTable: a spreadsheet ate the ids (1.23E+05; 7 beside 007), or two ids differ only by case or spaces.
    """
    ids: list[str | None] = [None if missing(cell) else cell.strip() for cell in cells]
    given = [(text, number) for text, number in zip(ids, numbers, strict=True) if text]
    eaten = [(text, number) for text, number in given if _SCIENTIFIC.fullmatch(text) and "+" in text]
    if eaten:
        raise BadTable(
            f"patient ids in column {column!r} were changed by a spreadsheet, such as {eaten[0][0]!r} "
            f"(rows {some([number for _, number in eaten])}): digits are lost",
            where=path,
            do="Export the table again with that column as text.",
        )
    if any(text.endswith(".0") for text, _ in given) and all(re.fullmatch(r"\d+(\.0)?", text) for text, _ in given):
        notes.append(f"patient ids such as {next(t for t, _ in given if t.endswith('.0'))!r} were read without the .0")
        ids = [text.removesuffix(".0") if text else text for text in ids]
    _refuse_lost_zeros(ids, numbers, path=path, column=column)
    twins = _same_to_a_reader(Counter(text for text in ids if text))
    if twins:
        raise BadTable(
            f"patient ids in column {column!r} differ only by capital letters or spaces: "
            f"{' and '.join(map(repr, twins))}",
            where=path,
            do="Give each patient one id; else one patient may come into two splits.",
        )
    _note_dates(ids, numbers, column, notes)
    nobody = len(ids) - len(given)
    if given and nobody:
        notes.append(f"{nobody} rows have no patient in column {column!r}")
    return ids


def _refuse_lost_zeros(ids: Sequence[str | None], numbers: Sequence[int], *, path: Path, column: str) -> None:
    spellings: dict[int, dict[str, int]] = defaultdict(dict)
    for text, number in zip(ids, numbers, strict=True):
        if text and text.isascii() and text.isdigit():
            spellings[int(text)].setdefault(text, number)
    for forms in spellings.values():
        if len(forms) > 1:
            (one, row_one), (other, row_other) = sorted(forms.items(), key=lambda item: item[1])[:2]
            raise BadTable(
                f"patient ids in column {column!r}: {one!r} (row {row_one}) and {other!r} (row {row_other}) "
                "look like one patient whose leading zeros a spreadsheet took away",
                where=path,
                do="Write the ids of all rows the same way, as text.",
            )


def read_splits(cells: Sequence[str], numbers: Sequence[int], *, path: Path, column: str) -> list[str | None]:
    """Get train, val or test a row; all None when the column is empty.

    Raises:
        BadTable: another word, or only some rows filled.
    """
    words = [None if missing(cell) else split_word(cell) for cell in cells]
    unknown = [
        (cell.strip(), number)
        for cell, word, number in zip(cells, words, numbers, strict=True)
        if word is None and not missing(cell)
    ]
    if unknown:
        named = ", ".join(sorted({repr(cell) for cell, _ in unknown})[:5])
        raise BadTable(
            f"column {column!r} holds unknown splits: {named} (rows {some([number for _, number in unknown])})",
            where=path,
            do="Use train, val and test; or --split-column none to split anew.",
        )
    blank = [number for word, number in zip(words, numbers, strict=True) if word is None]
    if blank and len(blank) < len(words):
        raise BadTable(
            f"column {column!r} is empty in {len(blank)} of {len(words)} rows (rows {some(blank)})",
            where=path,
            do="Fill every row; or --split-column none to split anew.",
        )
    return words
