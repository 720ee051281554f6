"""Arrays in a folder of a run, kept as soon as they are made and mapped from there: a resumed run goes on with them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medgraft import storage


@dataclass(frozen=True, eq=False)
class Kept:
    """What a shelf holds under one name.

    Attributes:
        arrays: by name, mapped from files.
        facts: plain JSON values.
    """

    arrays: Mapping[str, np.ndarray]
    facts: dict[str, Any]


class Shelf:
    """A folder of arrays with facts.

    Args:
        folder: of the run; it is made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)

    def put(self, name: str, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
        """Keep arrays and facts, whole or not at all.

        Raises:
            DiskFull: there is no space.
        """
        for part, values in arrays.items():
            storage.write_atomic(self._path(name, part), lambda file, values=values: np.save(file, values))
        # Last: it says that the arrays are there.
        storage.write_json(self.folder / f"{name}.json", {"arrays": sorted(arrays), "facts": dict(facts)})

    def get(self, name: str) -> Kept | None:
        """Get what is kept under a name; None where it is not all there."""
        try:
            told = json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))
            arrays = {
                part: np.load(self._path(name, part), mmap_mode="r", allow_pickle=False) for part in told["arrays"]
            }
            return Kept(arrays, told["facts"])
        except (OSError, ValueError, KeyError, EOFError):
            return None

    def clear(self) -> None:
        """Delete what is kept, of a run that is finished."""
        for path in (*self.folder.glob("*.npy"), *self.folder.glob("*.json")):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # something else is in it
            self.folder.rmdir()

    def _path(self, name: str, part: str) -> Path:
        return self.folder / f"{name}.{part}.npy"
