"""Which slices of a scan a page shows, and in which of them each box is."""

from __future__ import annotations

import numpy as np

from medgraft.report.pictures import reduced
from medgraft.report.slices import BUTTONS, SIDE, Mark, Stack, chosen
from medgraft.samples.resampling import windowed
from medgraft.samples.scan import Scan
from medgraft.scores.boxes import Detections
from medgraft.scores.hits import Outcome
from medgraft.values import Boxes


def marks_of(scan: Scan, found: Detections, row: int, *, one: Outcome) -> list[Mark]:
    """Get the boxes of a scan in its upright slices: missed ones, then false alarms, then hits, the surest first.

    A box is in each slice whose middle it reaches, edges included, and in at least one.

    Args:
        scan: where they are.
        found: truth and finds.
        row: of the scan in them.
        one: what became of its boxes.
    """
    marks = []
    for kind, boxes, rows in (
        ("missed", found.truth[row], one.missed),
        ("alarm", found.found[row], one.alarms),
        ("hit", found.found[row], one.hits[:, 0]),
    ):
        some = boxes.take(rows)
        surest = range(len(some)) if some.scores is None else np.argsort(-some.scores, kind="stable").tolist()
        marks += [_mark(scan, kind, some, place) for place in surest]
    return marks


def _mark(scan: Scan, kind: str, boxes: Boxes, place: int) -> Mark:
    low, high = edges(scan, boxes.corners[place])
    end = len(scan.hu) - 1
    middle = int(np.clip(np.rint((low[0] + high[0]) / 2 - 0.5), 0, end))
    first, last = int(np.ceil(low[0] - 0.5)), int(np.floor(high[0] - 0.5))
    return Mark(
        kind=kind,
        label=boxes.labels[place],
        score=None if kind == "missed" or boxes.scores is None else float(boxes.scores[place]),
        frame=(float(low[2]), float(low[1]), float(high[2]), float(high[1])),
        first=max(0, min(first, middle)),
        last=min(end, max(last, middle)),
        middle=middle,
    )


def edges(scan: Scan, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Get the lower and the upper edges (d, h, w) of a box in upright voxels; voxel k reaches from k to k + 1.

    Args:
        scan: where it is.
        corners: x0, y0, z0, x1, y1, z1 in voxels of the file.
    """
    ends = np.stack([corners[:3][::-1], corners[3:][::-1]]) - 0.5
    turned = scan.turn.places(ends, scan.space.shape) + 0.5
    return turned.min(axis=0), turned.max(axis=0)


def layer(scan: Scan, level: int) -> np.ndarray:
    """Get an axial slice as people see it, uint8 `(H, W)`."""
    return np.rint(windowed(scan.hu[level], scan.window) * 255).astype(np.uint8)


def stack_of(scan: Scan, marks: list[Mark], *, begin: int) -> Stack:
    """Get slices to turn over: every k-th, and those through the middle of a box.

    Args:
        scan: which.
        marks: its boxes.
        begin: the slice to begin with.
    """
    depth, height, width = scan.hu.shape
    levels, step = chosen(depth, [begin, *(mark.middle for mark in marks[:BUTTONS])])
    return Stack(
        layers=[reduced(layer(scan, level), most=SIDE) for level in levels],
        levels=levels,
        depth=depth,
        size=(height, width),
        places_mm=tuple(_place_mm(scan, level) for level in levels),
        from_first=scan.space.affine is None,
        marks=tuple(marks),
        begin=begin,
        step=step,
    )


def _place_mm(scan: Scan, level: int) -> float:
    """The z of the middle of a slice, the same in RAS and LPS; from the first slice where that is not known."""
    if scan.space.affine is None:
        return level * scan.spacing_mm[0]
    middle = np.array([[level, (scan.hu.shape[1] - 1) / 2, (scan.hu.shape[2] - 1) / 2]])
    index = scan.turn.back(middle, scan.space.shape)[0]
    return float(np.array(scan.space.affine)[2] @ np.array([*index, 1.0]))
