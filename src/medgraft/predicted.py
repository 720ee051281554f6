"""What a prediction of files came to, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_EDGES = ("x0", "y0", "x1", "y1")


class Done:
    """What `predict` did.

    Attributes:
        out: the CSV, or None when the rows are in `rows`.
        count: images predicted or tried.
        failed: how many of them could not be read.
        rows: the rows, when there is no `out`.
    """

    def __init__(self, out: Path | None, count: int, failed: int, rows: Sequence[dict[str, Any]]) -> None:
        self.out, self.count, self.failed, self.rows = out, count, failed, list(rows)

    def lines(self) -> list[str]:
        """Get it in words."""
        shown = [f"{row['key']}  {row.get('error') or _said(row)}  {_chances(row)}".rstrip() for row in self.rows]
        bad = f", {self.failed} could not be read (see the column error)" if self.failed else ""
        return [*shown, f"{self.count} images{bad}" + (f": {self.out}" if self.out else "")]

    def headline(self) -> dict[str, Any]:
        """Get plain JSON values."""
        out = None if self.out is None else str(self.out)
        rows = [{name: _number(name, cell) for name, cell in row.items()} for row in self.rows]
        return {"out": out, "images": self.count, "failed": self.failed, "predictions": rows or None}


def _number(name: str, cell: Any) -> Any:
    """A cell of a table as JSON has it: probabilities and values are numbers there."""
    named = name in ("value", "score") or name.startswith(("p_", "zone_", "severity", *_EDGES))
    return float(cell) if named else cell


def _said(row: Mapping[str, Any]) -> str:
    """The answer, or of a box its class, score and corners."""
    if not row.get("label"):
        return str(row["predicted"])
    return f"{row['label']} {row['score']}  {', '.join(row[edge] for edge in _EDGES)}"


def _chances(row: Mapping[str, Any]) -> str:
    said = [f"{name[2:]} {float(p):.3f}" for name, p in row.items() if name.startswith("p_")]
    return "  ".join([*said, *([f"severity {row['severity']}"] if row.get("severity") else [])])
