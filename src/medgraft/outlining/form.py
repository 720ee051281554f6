"""What is asked of an outline beside its prompts, and what was found."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from medgraft.errors import BadRecipe

AXES = ("axial", "coronal", "sagittal")


@dataclass(frozen=True)
class OutlineForm:
    """How structures are outlined.

    Attributes:
        backbone: the model, as `nets.prompter_sources.open_prompter` takes it.
        slice: of a volume, the slice that the prompts are on, from 0 along `axis` of the upright volume.
        axis: "axial", "coronal" or "sagittal".
        window: (centre, width) in the unit of the file, by which values become gray levels; None as the file says.
        grid: points a side where everything is outlined.
        features: True adds features.csv.
        candidates: True writes all that each prompt may mean, of pictures.
        device: "auto", "cpu", "cuda" or "cuda:1".
        offline: True never opens a socket.
    """

    backbone: str = "auto"
    slice: int | None = None
    axis: str = "axial"
    window: tuple[float, float] | None = None
    grid: int = 32
    features: bool = False
    candidates: bool = False
    device: str = "auto"
    offline: bool = False

    def __post_init__(self) -> None:
        if self.axis not in AXES:
            raise BadRecipe(f"there is no axis {self.axis!r}", do=f"It is {', '.join(AXES[:-1])} or {AXES[-1]}.")
        if self.grid < 1:
            raise BadRecipe("a grid has at least one point a side", do="Give --grid 32.")
        if self.window is not None and (len(self.window) != 2 or not self.window[1] > 0):
            raise BadRecipe("a window is a centre and a width above 0", do="Give --window 40,400.")

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> OutlineForm:
        """Get the form of options by name.

        Raises:
            BadRecipe: there is no such option; the nearest is named.
        """
        known = [one.name for one in fields(cls)]
        for name in options:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"Did you mean {near[0]}?" if near else f"There are {', '.join(known)}."
                raise BadRecipe(f"outline has no option {name!r}", do=hint)
        return cls(**options)


@dataclass(frozen=True, eq=False)
class Found:
    """One structure, where it is and no further.

    Attributes:
        mask: `([d,] h, w)` bool, cut to it.
        start: the first index of the cut along each axis of the file.
        quality: the overlap (IoU) with the truth that the model foresees; of a volume on the slice of the prompt.
        stability: how little it changes with the threshold.
        told: more to say of it, as cells of its row.
    """

    mask: np.ndarray
    start: tuple[int, ...]
    quality: float
    stability: float
    told: Mapping[str, Any] = field(default_factory=dict)

    @property
    def place(self) -> tuple[slice, ...]:
        """Where the cut is in the file."""
        return tuple(slice(first, first + size) for first, size in zip(self.start, self.mask.shape, strict=True))


def cut(mask: np.ndarray, quality: float, stability: float, **told: Any) -> Found:
    """Get a structure of a mask of the whole file; an empty one keeps no pixel."""
    ends = []
    for axis in range(mask.ndim):
        there = np.flatnonzero(mask.any(axis=tuple(k for k in range(mask.ndim) if k != axis)))
        ends.append((int(there[0]), int(there[-1]) + 1) if len(there) else (0, 0))
    inside = mask[tuple(slice(low, high) for low, high in ends)].copy()
    return Found(inside, tuple(low for low, _ in ends), quality, stability, told)


def stacked(structures: Sequence[Found], shape: tuple[int, ...]) -> np.ndarray:
    """Get one label map, the k-th structure as k; where structures overlap, a pixel is of the smaller one."""
    labels = np.zeros(shape, np.uint8 if len(structures) < 256 else np.uint16)
    sizes = [int(one.mask.sum()) for one in structures]
    for place in sorted(range(len(structures)), key=lambda k: -sizes[k]):
        one = structures[place]
        labels[one.place][one.mask] = place + 1
    return labels
