"""What a task is made of, and which answers it knows."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Parts:
    """The parts that freezing, rates and the cache of frozen layers work on.

    Attributes:
        stages: names and modules of the encoder, first stage first.
        head: what was grafted on; of whole-image tasks a `LinearHead`, which a probe can put at its optimum.
        beside: what was grafted on beside it, and has to be learnt in steps; None where there is nothing.
    """

    stages: tuple[tuple[str, nn.Module], ...]
    head: nn.Module
    beside: nn.Module | None = None


@dataclass(frozen=True)
class Answers:
    """What the labels of the training data say about the answers.

    Attributes:
        classes: names in the order of the outputs; empty for numbers.
        positive: the class that counts as positive when there are two, else None.
        centre: mean of numeric labels.
        scale: standard deviation of numeric labels.
        zones: names of the zones of an image that have severities of their own; empty where there are none.
        grid: rows and columns of the zones.
        grades: the severities that a zone may have, rising; empty where they are shares from 0 to 1.
    """

    classes: tuple[str, ...] = ()
    positive: str | None = None
    centre: float = 0.0
    scale: float = 1.0
    zones: tuple[str, ...] = ()
    grid: tuple[int, int] = (1, 1)
    grades: tuple[float, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Get plain JSON values."""
        return asdict(self)
