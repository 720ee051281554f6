"""What one label map holds: its numbers with their counts, and how many things of which size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from medgraft.files.label_map import LabelMap

_UNKNOWN = 255
_MOST_CLASSES = 32  # with more numbers than this each is one thing, and looking for parts of it costs too much


@dataclass(frozen=True)
class MaskFacts:
    """A summary of one label map, small enough for a data set of them.

    Attributes:
        counts: stored number (or 0xRRGGBB) -> pixels, 0 included.
        shape: `([D,] H, W)`.
        colours: True where the numbers are 0xRRGGBB.
        palette: index -> 0xRRGGBB, of the indexes that are there; empty where the file has no palette.
        things: how many connected parts of one number there are (corners connect), without background and without
            255 beside other labels.
        side: median over them of the square root of their pixels (of a volume the cubic root of their voxels); 0
            where there are none.
    """

    counts: Mapping[int, int]
    shape: tuple[int, ...]
    colours: bool = False
    palette: Mapping[int, int] = field(default_factory=dict)
    things: int = 0
    side: float = 0.0

    @property
    def labels(self) -> frozenset[int]:
        """The numbers beside 0."""
        return frozenset(self.counts) - {0}

    @property
    def gray(self) -> bool:
        """True where the colours, if any, are all gray: then the file is one of numbers saved with three channels."""
        return all(number % 0x010101 == 0 for number in self.counts) if self.colours else True

    def as_numbers(self) -> dict[int, int]:
        """Get `counts` with gray colours as gray levels."""
        if not (self.colours and self.gray):
            return dict(self.counts)
        return {number // 0x010101: count for number, count in self.counts.items()}

    def as_colours(self) -> dict[int, int]:
        """Get `counts` by 0xRRGGBB: the file's own, those of its palette, or gray ones."""
        found: dict[int, int] = {}
        for number, count in self.counts.items():
            colour = number if self.colours else self.palette.get(number, number * 0x010101)
            found[colour] = found.get(colour, 0) + count
        return found


def measured(label_map: LabelMap) -> MaskFacts:
    """Get the summary of a label map."""
    values = label_map.values
    numbers, codes, counts = _counted(values)
    found = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
    sizes = _sizes(codes, numbers, counts)
    palette = {number: label_map.palette[number] for number in found} if label_map.palette else {}
    side = float(np.median(np.power(sizes, 1 / values.ndim))) if len(sizes) else 0.0
    return MaskFacts(found, values.shape, label_map.colours, palette, len(sizes), side)


def _counted(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers that are there, the place of each pixel's number among them, and pixels of each."""
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:  # sorting a million pixels takes longer than counting
        every = np.bincount(values.ravel())
        numbers = np.flatnonzero(every)
        places = np.zeros(len(every), np.int32)
        places[numbers] = np.arange(len(numbers))
        return numbers, places[values], every[numbers]
    numbers, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    return numbers, codes.reshape(values.shape).astype(np.int32), counts


def _sizes(codes: np.ndarray, numbers: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Pixels of each connected part; `codes` count the numbers from 0."""
    from scipy import ndimage

    unknown = len(numbers) > 2 and int(numbers[-1]) == _UNKNOWN
    kept = [k for k, number in enumerate(numbers.tolist()) if number and not (unknown and number == _UNKNOWN)]
    if len(kept) > _MOST_CLASSES:
        return counts[kept]
    places = ndimage.find_objects(codes + 1, max_label=len(numbers))
    corners = np.ones((3,) * codes.ndim)  # a thin line may run from corner to corner
    sizes = []
    for k in kept:
        parts, _ = ndimage.label(codes[places[k]] == k, corners)  # type: ignore[misc]
        sizes.append(np.bincount(parts.ravel())[1:])
    return np.concatenate(sizes) if sizes else np.zeros(0, np.int64)
