"""`log.jsonl`: one line an event.

It is cut back to the checkpoint when a run resumes, so it never contradicts the weights.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from medgraft import storage


class Log:
    """A file of JSON lines."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def size(self) -> int:
        """Get the size in bytes; 0 when there is no file."""
        return self.path.stat().st_size if self.path.exists() else 0

    def write(self, event: dict[str, Any]) -> None:
        """Append one event with the time of day.

        Raises:
            DiskFull: there is no space; half a line may be left, which `cut` takes away.
        """
        line = json.dumps({"time": round(time.time(), 3), **event}, ensure_ascii=False) + "\n"
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            raise storage.explained(error, self.path, needed_bytes=len(line.encode())) from error

    def cut(self, size: int) -> None:
        """Drop everything after the first `size` bytes."""
        if self.path.exists() and self.size() > size:
            os.truncate(self.path, size)
