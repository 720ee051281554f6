"""A scan as slices to turn over on the page: pictures that are small together, and boxes drawn over them."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image as Pillow
from PIL import features

from medgraft.report.phrases import count, decimal
from medgraft.report.pictures import reduced

SIDE = 320  # pixels of a slice, at most
MOST = 60  # slices of a scan
BUTTONS = 30  # boxes of a scan to which a button leads
BYTES = 650_000  # of the slices of a scan on the page: six scans stay below 4 MB
# Side and quality, from good to small: what is as hard to squeeze as noise still comes out.
_LADDER = ((SIDE, 75), (SIDE, 60), (SIDE, 45), (SIDE, 30), (256, 35), (192, 35), (128, 30))
_KINDS = {"missed": "missed", "alarm": "false alarm", "hit": "hit"}


@dataclass(frozen=True)
class Mark:
    """A box in the slices that it reaches.

    Attributes:
        kind: "missed", "alarm" or "hit".
        label: its class.
        score: of a found box; None of a missed one.
        frame: edges x0, y0, x1, y1 in pixels of a whole slice.
        first: the first slice that it is in, counted from 0.
        last: the last one.
        middle: the one nearest to its centre.
    """

    kind: str
    label: str
    score: float | None
    frame: tuple[float, float, float, float]
    first: int
    last: int
    middle: int

    def on(self, level: int) -> bool:
        """Say whether the box is in a slice."""
        return self.first <= level <= self.last


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices of a scan, and what is drawn over them.

    Attributes:
        layers: uint8 `(H, W)` each, reduced to `SIDE` at most.
        levels: which slice of the scan each is, counted from 0.
        depth: how many slices the scan has.
        size: (height, width) in pixels of a whole slice.
        places_mm: where each is.
        from_first: whether that is counted from the first slice, as the scan does not say where it is; else z.
        marks: the boxes, those with a button first.
        begin: the slice to begin with, one of `levels`.
        step: every how many slices there is one, apart from those through boxes.
    """

    layers: Sequence[np.ndarray]
    levels: tuple[int, ...]
    depth: int
    size: tuple[int, int]
    places_mm: tuple[float, ...]
    from_first: bool
    marks: tuple[Mark, ...]
    begin: int
    step: int


def chosen(depth: int, wanted: Sequence[int], *, most: int = MOST) -> tuple[tuple[int, ...], int]:
    """Get which slices are shown, and k: the wanted ones, and every k-th with the smallest k that is not too many.

    Args:
        depth: how many there are.
        wanted: fewer than `most`.
        most: how many are shown.

    Raises:
        ValueError: too many are wanted.

    Example:
        >>> chosen(10, [7], most=5)
        ((0, 3, 6, 7, 9), 3)
    """
    for step in range(1, depth + 1):
        levels = {*wanted, *range(0, depth, step)}
        if len(levels) <= most:
            return tuple(sorted(levels)), step
    raise ValueError(f"{len(set(wanted))} slices are wanted, and {most} are shown at most")


def addresses(layers: Sequence[np.ndarray], *, most_bytes: int = BYTES) -> list[str]:
    """Get a `data:` address of each slice; all together stay below a size, and lose detail where they must.

    Args:
        layers: uint8 `(H, W)`.
        most_bytes: of the addresses.
    """
    kind = "WEBP" if features.check("webp") else "JPEG"
    made: list[str] = []
    for side, quality in _LADDER:
        made, left = [], most_bytes
        for layer in layers:
            buffer = io.BytesIO()
            Pillow.fromarray(reduced(layer, most=side)).save(buffer, format=kind, quality=quality)
            made.append(f"data:image/{kind.lower()};base64,{b64encode(buffer.getvalue()).decode('ascii')}")
            left -= len(made[-1])
            if left < 0:
                break
        else:
            break
    return made


def beside(row: Mapping[str, Any]) -> dict[str, Any]:
    """Get what the card of a scan in a gallery shows of its slices: nothing where it has none.

    Args:
        row: of the gallery; "stack" is a `Stack`.
    """
    stack: Stack | None = row.get("stack")
    if stack is None:
        return {}
    places = [_place(stack, level, mm) for level, mm in zip(stack.levels, stack.places_mm, strict=True)]
    shown = zip(addresses(stack.layers), stack.levels, places, strict=True)
    begin = stack.levels.index(stack.begin)
    view = {
        "slices": [{"address": address, "level": level, "place": place} for address, level, place in shown],
        "size": stack.size,
        "begin": begin,
        "place": places[begin],
        "boxes": [_box(mark, stack) for mark in stack.marks],
        "buttons": BUTTONS,
        "from_first": stack.from_first,
        "left_out": _left_out(stack),
    }
    return {"stack": view}


def _place(stack: Stack, level: int, mm: float) -> str:
    where = f"{decimal(mm, 1)} mm from the first" if stack.from_first else f"z {decimal(mm, 1)} mm"
    return f"Slice {level + 1} of {stack.depth}, {where}"


def _box(mark: Mark, stack: Stack) -> dict[str, Any]:
    score = "" if mark.score is None else f" {decimal(mark.score, 2)}"
    x0, y0, x1, y1 = (round(edge, 2) for edge in mark.frame)
    return {
        "kind": mark.kind,
        "words": f"{_KINDS[mark.kind]}: {mark.label}{score}",
        "x": x0,
        "y": y0,
        "width": round(max(0.0, x1 - x0), 2),
        "height": round(max(0.0, y1 - y0), 2),
        "first": mark.first,
        "last": mark.last,
        "middle": mark.middle,
        "turn": min(range(len(stack.levels)), key=lambda turn: abs(stack.levels[turn] - mark.middle)),
    }


def _left_out(stack: Stack) -> str:
    """Say which slices are not there, and which boxes have no button; nothing where all have."""
    words = []
    if len(stack.levels) < stack.depth:
        words.append(
            f"{len(stack.levels)} of {stack.depth} slices: one in {stack.step}, and those through the middle of a box; "
            "the others are left out."
        )
    if len(stack.marks) > BUTTONS:
        words.append(f"Buttons for {BUTTONS} of {count(len(stack.marks), 'box', 'boxes')}.")
    return " ".join(words)
