"""One score: a value, its 95 % interval, and how both were found."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Score:
    """One number of a report, with its uncertainty.

    Attributes:
        value: the score; None when it cannot be computed, and then `why` says so.
        low: lower end of the 95 % interval, or None.
        high: upper end of the 95 % interval, or None.
        n: how many cases it rests on.
        n_patients: how many patients they are of; None when patients are unknown.
        method: how value and interval were found, in words.
        why: what is missing (the value, or the interval), else None.

    Example:
        >>> Score(0.5, 0.4, 0.6, 100, None, "proportion, Wilson").to_dict()["value"]
        0.5
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    n_patients: int | None
    method: str
    why: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Get plain JSON values as report.json holds them; `why` is there only when it says something."""
        row: dict[str, Any] = {
            "value": _plain(self.value),
            "low": _plain(self.low),
            "high": _plain(self.high),
            "n": int(self.n),
            "n_patients": None if self.n_patients is None else int(self.n_patients),
            "method": self.method,
        }
        if self.why is not None:
            row["why"] = self.why
        return row

    @classmethod
    def missing(cls, why: str, *, n: int = 0, n_patients: int | None = None, method: str = "not computed") -> Score:
        """Get a score without a value that says why."""
        return cls(None, None, None, n, n_patients, method, why)


def _plain(number: float | None) -> float | None:
    """JSON knows no NaN and no infinity; neither may slip into a report."""
    return None if number is None or not math.isfinite(number) else float(number)
