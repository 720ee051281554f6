"""A registry: names a user types, and the objects they open on first use.

Rows are strings "module:object", so listing imports nothing. Other packages
add rows by entry points (`medgraft.task`, `medgraft.backbone`,
`medgraft.format`, `medgraft.layout`); built-ins travel the same road.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any

from medgraft.errors import UnknownName


class Registry:
    """Name -> object, opened on first use.

    Args:
        kind: the word a user knows, such as "task".
        rows: name -> "module:object".
    """

    def __init__(self, kind: str, rows: Mapping[str, str]) -> None:
        self.kind = kind
        self._rows = dict(rows)
        self._found_plugins = False

    def __iter__(self) -> Iterator[str]:
        self._find_plugins()
        return iter(self._rows)

    def __contains__(self, name: object) -> bool:
        self._find_plugins()
        return name in self._rows

    def __len__(self) -> int:
        self._find_plugins()
        return len(self._rows)

    def __getitem__(self, name: str) -> Any:
        """Open one row.

        Raises:
            UnknownName: no such row; the nearest names are given.
        """
        if name not in self:
            near = difflib.get_close_matches(name, list(self._rows), n=3)
            hint = f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(sorted(self._rows))}."
            raise UnknownName(f"there is no {self.kind} named {name!r}", do=hint)
        module, _, attribute = self._rows[name].partition(":")
        return getattr(importlib.import_module(module), attribute)

    def add(self, name: str, target: str) -> None:
        """Add a row `name -> "module:object"`; the object is not imported."""
        self._rows[name] = target

    def _find_plugins(self) -> None:
        if self._found_plugins:
            return
        self._found_plugins = True
        for point in entry_points(group=f"medgraft.{self.kind}"):
            self._rows.setdefault(point.name, point.value)
