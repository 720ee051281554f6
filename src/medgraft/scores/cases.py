"""Cases: truth and predictions side by side, the one thing every table is made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from medgraft.errors import BadData

KINDS = ("binary", "multiclass", "labels", "ordinal", "number")


@dataclass(frozen=True, eq=False)
class Cases:
    """What is true and what was predicted, of n cases.

    Attributes:
        kind: "binary", "multiclass", "labels" (several a case), "ordinal" (ordered grades) or "number".
        targets: (n,) class or grade numbers; (n, K) of 0/1 for "labels"; (n,) floats for "number".
        probabilities: (n, K); binary also (n,) of the positive class; for "number" (n,) the values.
        classes: K names in the order of the columns; empty for "number".
        positive: name of the positive class of a binary question; None means the second.
        patients: n patient names, or None where none are known.
        threshold: positive means probability >= threshold; one number, or K for "labels".
    """

    kind: str
    targets: np.ndarray
    probabilities: np.ndarray
    classes: tuple[str, ...] = ()
    positive: str | None = None
    patients: Sequence[object] | None = None
    threshold: float | Sequence[float] | np.ndarray = 0.5

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise BadData(f"there is no kind of target named {self.kind!r}", do=f"Known: {', '.join(KINDS)}.")
        whole = np.float64 if self.kind == "number" else np.int64
        object.__setattr__(self, "targets", np.asarray(self.targets, dtype=whole))
        object.__setattr__(self, "probabilities", np.asarray(self.probabilities, dtype=np.float64))
        object.__setattr__(self, "classes", tuple(self.classes))
        if self.kind == "number":
            object.__setattr__(self, "probabilities", self.probabilities.reshape(len(self.targets)))
        if len(self.targets) != len(self.probabilities):
            raise BadData(f"{len(self.targets)} targets but {len(self.probabilities)} predictions")
        if self.patients is not None and len(self.patients) != len(self.targets):
            raise BadData(f"{len(self.targets)} targets but {len(self.patients)} patients")
        if self.kind == "binary" and self.positive is not None and self.positive not in self.classes:
            raise BadData(f"the positive class {self.positive!r} is none of {', '.join(self.classes)}")
        columns = self.probabilities.shape[1] if self.probabilities.ndim == 2 else len(self.classes)
        if self.classes and columns != len(self.classes):
            raise BadData(f"{len(self.classes)} classes but {columns} columns of probabilities")

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def positive_index(self) -> int:
        """Get the column of the positive class of a binary question."""
        return 1 if self.positive is None else self.classes.index(self.positive)

    @property
    def truth(self) -> np.ndarray:
        """Get whether each case of a binary question is positive, (n,) booleans."""
        return self.targets == self.positive_index

    @property
    def chance(self) -> np.ndarray:
        """Get the probability of the positive class of a binary question, (n,)."""
        return self.probabilities if self.probabilities.ndim == 1 else self.probabilities[:, self.positive_index]

    @property
    def called(self) -> np.ndarray:
        """Get what was decided, in the shape of the targets: see `decide`."""
        if self.kind == "binary":
            positive = self.positive_index
            return np.where(self.chance >= np.asarray(self.threshold), positive, 1 - positive)
        return decide(self.kind, self.probabilities, threshold=self.threshold)

    def name(self, index: int) -> str:
        """Get a class's name; its number where no names are known."""
        return self.classes[index] if self.classes else str(index)

    def take(self, rows: np.ndarray) -> Cases:
        """Get some of the cases, by index or mask."""
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        patients = None if self.patients is None else [self.patients[row] for row in rows.tolist()]
        return replace(self, targets=self.targets[rows], probabilities=self.probabilities[rows], patients=patients)


def decide(
    kind: str, probabilities: np.ndarray, *, threshold: float | Sequence[float] | np.ndarray = 0.5
) -> np.ndarray:
    """Get decisions from probabilities, the same way everywhere.

    "multiclass": the most probable class. "ordinal": the median grade, the first whose cumulative
    probability reaches one half; it minimises the expected error in steps. "labels": 0/1 by threshold.
    "binary": 1 where the positive class's probability (the last column of two) reaches the threshold.
    "number": the values themselves.

    Args:
        kind: one of `KINDS`.
        probabilities: (n, K), or (n,).
        threshold: one number, or K of them for "labels".

    Example:
        >>> decide("ordinal", np.array([[0.4, 0.2, 0.4]])).tolist()
        [1]
    """
    probabilities = np.asarray(probabilities, dtype=np.float64)
    if kind == "binary":
        chance = probabilities if probabilities.ndim == 1 else probabilities[:, -1]
        return (chance >= np.asarray(threshold)).astype(np.int64)
    if kind == "multiclass":
        return probabilities.argmax(axis=1)
    if kind == "ordinal":
        return np.argmax(np.cumsum(probabilities, axis=1) >= 0.5 - 1e-12, axis=1)
    if kind == "labels":
        return (probabilities >= np.asarray(threshold)).astype(np.int64)
    return probabilities
