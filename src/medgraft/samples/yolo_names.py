"""What the numbers of YOLO's classes mean: data.yaml, obj.names or classes.txt; and where data.yaml has the images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medgraft.errors import BadTable
from medgraft.samples.words import split_word

_MAX_BYTES = 1 << 20
_FILES = ("classes.txt", "obj.names", "labels/classes.txt", "predefined_classes.txt", "_darknet.labels")


@dataclass(frozen=True)
class Names:
    """The classes of a data set by their numbers.

    Attributes:
        source: the file they come from; None where there is none, and a class is called by its number.
        classes: number -> name.
        entries: split -> folders or lists of images, as data.yaml writes them.
        base: the folder that these are relative to, as data.yaml writes it.
        keypoints: True when a line goes on with key points after its box.
        notes: what a person should know.
    """

    source: Path | None = None
    classes: Mapping[int, str] = field(default_factory=dict)
    entries: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    base: str = ""
    keypoints: bool = False
    notes: tuple[str, ...] = ()

    def of(self, number: float | None) -> str | None:
        """Get the name of a class, None where there is none."""
        if number is None or number != int(number) or number < 0:
            return None
        return str(int(number)) if self.source is None else self.classes.get(int(number))

    def missing(self, number: float | None) -> str:
        """Say why a number is no class."""
        if number is None or number != int(number) or number < 0 or self.source is None:
            return "no whole number from 0 on"
        return f"none of the {len(self.classes)} names in {self.source.name}"


def names_in(root: Path, given: Path | None = None) -> Names:
    """Get the names that a folder holds: in data.yaml or another YAML with names, else in a text file a line.

    Args:
        root: the folder.
        given: the YAML to read, where the user named one.

    Raises:
        BadTable: the YAML cannot be read, or a name is missing in it.
    """
    described = [given] if given else [root / "data.yaml", *sorted(root.glob("*.y*ml"))]
    for path in described:
        if path.is_file() and (values := description_in(path)) is not None:
            return _described(path, values)
    for path in (*(root / name for name in _FILES), *sorted(root.glob("*.names"))):
        if path.is_file():
            lines = [line.strip() for line in _text(path).splitlines()]
            while lines and not lines[-1]:
                lines.pop()
            return Names(path, {number: name for number, name in enumerate(lines) if name})
    return Names(notes=("no file names the classes (data.yaml, classes.txt); they are called by their numbers",))


def description_in(path: Path) -> Mapping[str, Any] | None:
    """Get what a YAML says of a data set, None where it does not name classes.

    Raises:
        BadTable: it is no YAML.
    """
    import yaml

    try:
        values = yaml.safe_load(_text(path))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise BadTable(f"this is no YAML ({' '.join(str(error).split())[:200]})", where=path) from error
    return values if isinstance(values, Mapping) and isinstance(values.get("names"), (list, Mapping)) else None


def _described(path: Path, values: Mapping[str, Any]) -> Names:
    names = values["names"]
    pairs = names.items() if isinstance(names, Mapping) else enumerate(names)
    classes = {}
    for number, name in pairs:
        if not str(number).isdecimal() or name is None or isinstance(name, (list, Mapping)) or not str(name).strip():
            raise BadTable(f"names[{number!r}] is {name!r}, no name of a class", where=path)
        classes[int(str(number))] = str(name).strip()
    entries = {}
    for key, value in values.items():
        word = split_word(str(key))
        listed = [value] if isinstance(value, str) else value if isinstance(value, list) else []
        if word and listed:
            entries[word] = tuple(str(item) for item in listed)
    base = values.get("path")
    return Names(path, classes, entries, base if isinstance(base, str) else "", "kpt_shape" in values)


def _text(path: Path) -> str:
    if path.stat().st_size > _MAX_BYTES:
        raise BadTable("the file is larger than 1 MiB", where=path)
    return path.read_bytes().decode("utf-8-sig", errors="replace")
