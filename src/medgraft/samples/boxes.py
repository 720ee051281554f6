"""Boxes as a data set has them written, and what makes one of them unfit for its image."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from medgraft.samples.dataset import as_number
from medgraft.values import Boxes

_AXES = "xyz"
_MARGIN = 1.0  # pixels: numbering from 1 and rounding put a corner so far outside, and no more


class Written(NamedTuple):
    """One box as it is written.

    Attributes:
        where: its place in the file, such as "line 3", "object 2" or "annotation 17".
        label: the class; empty where none is written.
        corners: x0, y0, x1, y1 (with z0 and z1 after y0 and y1 in a volume) as edges in pixels or in parts of the
            image; empty where they cannot be read.
        ignored: neither to be found nor wrong to find.
        wrong: why it cannot be read; empty where it can.
    """

    where: str
    label: str = ""
    corners: tuple[float, ...] = ()
    ignored: bool = False
    wrong: str = ""


@dataclass(frozen=True, eq=False)
class Checked:
    """The boxes of one image after the check.

    Attributes:
        boxes: those that can be used, in the order of the file, in pixels.
        faults: (place in the file, reason) of each that cannot.
        repeats: places of those that repeat an earlier box exactly.
    """

    boxes: Boxes
    faults: tuple[tuple[str, str], ...]
    repeats: tuple[str, ...]


def checked(written: Sequence[Written], size: tuple[int, ...], *, parts: bool = False) -> Checked:
    """Check boxes against the size of their image; corners up to one pixel outside are moved to its edge.

    Args:
        written: the boxes of one image.
        size: its width and height in pixels; of a volume width, height and depth.
        parts: True when the corners are in parts of the image, 0 to 1.
    """
    kept: dict[tuple[str, tuple[float, ...]], bool] = {}
    faults, repeats = [], []
    for box in written:
        corners = (
            tuple(part * side for part, side in zip(box.corners, size * 2, strict=False)) if parts else box.corners
        )
        label = unicodedata.normalize("NFC", box.label).strip()
        reason = box.wrong or _fault_of_label(label) or _fault(corners, size)
        corners = corners if reason else _clipped(corners, size)
        reason = reason or _flat(corners)
        if reason:
            faults.append((box.where, reason))
        elif (label, corners) in kept:
            repeats.append(box.where)
        else:
            kept[label, corners] = box.ignored
    boxes = Boxes(
        np.array([corners for _, corners in kept], dtype=np.float64).reshape(len(kept), 2 * len(size)),
        tuple(label for label, _ in kept),
        ignored=np.array(list(kept.values()), dtype=bool),
    )
    return Checked(boxes, tuple(faults), tuple(repeats))


def _fault_of_label(label: str) -> str:
    if not label:
        return "has no class"
    return f"has the class {label!r}: | parts classes" if "|" in label else ""


def _fault(corners: tuple[float, ...], size: tuple[int, ...]) -> str:
    if len(corners) != 2 * len(size):
        image = "a volume" if len(size) == 3 else "flat"
        return f"has {len(corners)} numbers, and its image is {image}: {2 * len(size)} are needed"
    if not all(math.isfinite(value) for value in corners):
        return "has corners that are no numbers"
    low, high = corners[: len(size)], corners[len(size) :]
    if flat := _flat(corners):
        return flat
    for axis, start, end, side in zip(_AXES, low, high, size, strict=False):
        if start < -_MARGIN or end > side + _MARGIN:
            whole = " x ".join(map(str, size))
            return f"reaches from {axis} = {start:g} to {end:g}, outside the image of {whole} pixels"
    return ""


def _flat(corners: tuple[float, ...]) -> str:
    half = len(corners) // 2
    for axis, start, end in zip(_AXES, corners[:half], corners[half:], strict=False):
        if end <= start:
            return f"has no extent: it reaches from {axis} = {start:g} to {end:g}"
    return ""


def _clipped(corners: tuple[float, ...], size: tuple[int, ...]) -> tuple[float, ...]:
    return tuple(min(max(value, 0.0), float(side)) for value, side in zip(corners, size * 2, strict=True))


def numbers_of(texts: Sequence[str | None], names: Sequence[str]) -> tuple[tuple[float, ...], str]:
    """Get texts as numbers, and what is wrong with the first that is none: empty where all are."""
    values = []
    for text, name in zip(texts, names, strict=True):
        value = as_number(text)
        if value is None:
            return (), f"has no {name}" if not (text or "").strip() else f"has {name} {text!r}, which is no number"
        values.append(value)
    return tuple(values), ""
