"""Pictures of what was found in scans: three planes through single boxes, and slices with all boxes in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medgraft.detection.scans.stacks import layer, marks_of, stack_of
from medgraft.report.boxes import ALARM, HIT, MISSED, with_boxes
from medgraft.report.maps import laid_over
from medgraft.samples.candidates import Candidate, patches_of
from medgraft.samples.resampling import windowed
from medgraft.samples.scan import Scan, read_scan
from medgraft.scores.boxes import Detections
from medgraft.scores.hits import HitRule, Outcome, outcomes
from medgraft.values import Boxes, ImageRef

_CLOSE = 8  # close-ups of each kind
_SLICES = 6  # scans with most mistakes of which a slice is shown
_PIXELS = 128
_LEAST_MM = 40.0  # width of a plane, and twice as wide as a box that is larger
_GAP = 2
_COLOURS = {"hit": HIT, "missed": MISSED, "alarm": ALARM}


def gallery(
    found: Detections, thresholds: Mapping[str, float], rule: HitRule, *, images: Mapping[str, ImageRef]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Get slices of the scans with most mistakes, boxes drawn in, and close-ups of single boxes in planes.

    Args:
        found: test scans.
        thresholds: class -> least score of a box that is called.
        rule: when a found box is a hit.
        images: where each scan is, by its key.
    """
    told = outcomes(found, thresholds, hit=rule)
    wrong = np.array([len(one.alarms) + len(one.missed) for one in told], np.int64)
    worst = [row for row in np.argsort(-wrong, kind="stable").tolist()[:_SLICES] if wrong[row]]
    close = _chosen(found, told)
    shown: dict[int, dict[str, Any]] = {}
    pictures: dict[tuple[str, int, int], np.ndarray] = {}
    for row in sorted({*worst, *(image for _, image, _, _ in close)}):  # each scan is read once
        scan = read_scan(images[found.keys[row]])
        for kind, image, box, _ in close:
            if image == row:
                corners = _box_of(found, kind, row, box).corners[0]
                pictures[kind, row, box] = three_planes(scan, corners, _COLOURS[kind])
        if row in worst:
            shown[row] = _slice_entry(scan, found, row, told[row])
    cards = []
    for kind, row, box, score in close:
        label = _box_of(found, kind, row, box).labels[0]
        words = {"kind": kind, "key": found.keys[row], "label": label, "score": score, "most": 3 * _PIXELS + 2 * _GAP}
        cards.append({**words, "image": pictures[kind, row, box]})
    return [shown[row] for row in worst], cards


def _chosen(found: Detections, told: Sequence[Outcome]) -> list[tuple[str, int, int, float | None]]:
    """The surest hits and false alarms, and misses of all scans in turn: (kind, scan, box, score)."""
    rows: dict[str, list[tuple[float, int, int]]] = {"hit": [], "missed": [], "alarm": []}
    for image, one in enumerate(told):
        scores = found.found[image].scores
        for kind, boxes in (("hit", one.hits[:, 0]), ("alarm", one.alarms)):
            if scores is not None:
                rows[kind] += [(-float(scores[box]), image, box) for box in boxes.tolist()]
        rows["missed"] += [(float(turn), image, box) for turn, box in enumerate(one.missed.tolist())]
    return [
        (kind, image, box, None if kind == "missed" else -rank)
        for kind, every in rows.items()
        for rank, image, box in sorted(every)[:_CLOSE]
    ]


def _box_of(found: Detections, kind: str, image: int, box: int) -> Boxes:
    return (found.truth if kind == "missed" else found.found)[image].take(np.array([box]))


@dataclass(frozen=True, eq=False)
class Warmth:
    """A map that is laid over planes: `values` `(d, h, w)` in 0..1 along the file's axes, from its voxel `start` on."""

    values: np.ndarray
    start: tuple[int, int, int]


def three_planes(
    scan: Scan,
    corners: np.ndarray,
    colour: tuple[int, int, int],
    *,
    window: tuple[float, float] | None = None,
    warmth: Warmth | None = None,
) -> np.ndarray:
    """Get an axial, a coronal and a sagittal plane through a box side by side, the box drawn in.

    Args:
        scan: where the box is.
        corners: x0, y0, z0, x1, y1, z1 in voxels of the file.
        colour: of the box.
        window: (centre, width) in HU, or whatever the scan's numbers are; the scan's own when None.
        warmth: a map to lay over the planes.

    Returns:
        uint8 `(H, W, 3)`.
    """
    centre, sides = _upright(scan, corners)
    width = max(_LEAST_MM, 2 * float(sides.max()))
    here = Candidate((float(centre[0]), float(centre[1]), float(centre[2])), float(sides.max()) / 2, 1.0, "solid")
    words: dict[str, Any] = {"spacing_mm": scan.spacing_mm, "side_mm": width, "pixels": _PIXELS}
    planes, warm = patches_of(scan.hu, here, **words), None
    if warmth is not None:
        upright = scan.turn.volume(warmth.values)
        ends = np.array([warmth.start, np.array(warmth.start) + warmth.values.shape]) - [[0], [1]]
        z, y, x = centre - scan.turn.places(ends, scan.space.shape).min(axis=0)
        warm = patches_of(upright, replace(here, centre=(float(z), float(y), float(x))), **words)
    drawn = []
    for number, (down, right) in enumerate(((1, 2), (0, 2), (0, 1))):
        picture = np.rint(windowed(planes[number], window or scan.window) * 255).astype(np.uint8)
        picture = picture if warm is None else laid_over(picture, warm[number].clip(0, 1))
        picture = picture[::-1] if down == 0 else picture  # the head is above
        half = np.array([sides[right], sides[down]]) / 2 * _PIXELS / width
        frame = np.concatenate([_PIXELS / 2 - half, _PIXELS / 2 + half])
        drawn += [with_boxes(picture, [(frame, colour)], least=_PIXELS), np.zeros((_PIXELS, _GAP, 3), np.uint8)]
    return np.concatenate(drawn[:-1], axis=1)


def _upright(scan: Scan, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Get the centre of a box in upright voxels, and its sides in mm along upright axes."""
    centre = (corners[:3] + corners[3:])[::-1] / 2 - 0.5
    sides = (corners[3:] - corners[:3])[::-1] * np.array(scan.space.spacing_mm)
    return scan.turn.places(centre[None], scan.space.shape)[0], sides[list(scan.turn.order)]


def _slice_entry(scan: Scan, found: Detections, row: int, one: Outcome) -> dict[str, Any]:
    """The axial slice through the surest false alarm, or else through what was missed, with all boxes in it."""
    marks = marks_of(scan, found, row, one=one)
    level = next((mark for mark in marks if mark.kind == "alarm"), marks[0]).middle
    there = [(np.array(mark.frame), _COLOURS[mark.kind]) for mark in reversed(marks) if mark.on(level)]
    counts = f"{len(one.hits)} hits, {len(one.alarms)} false alarms, {len(one.missed)} missed"
    truth = f"{len(found.truth[row])} boxes"
    return {
        "kind": "mistake",
        "image": with_boxes(layer(scan, level), there),
        "most": 480,
        "key": found.keys[row],
        "truth": truth,
        "predicted": counts,
        "stack": stack_of(scan, marks, begin=level),
    }


def sheet(scan: Scan, boxes: Boxes, *, most: int = 12) -> np.ndarray:
    """Get three planes through each box, one under the other, the surest first: uint8 `(H, W, 3)`.

    Args:
        scan: where they are.
        boxes: in voxels of the file; without any a slice through the middle is shown.
        most: how many.
    """
    if not len(boxes):
        return with_boxes(layer(scan, len(scan.hu) // 2), [])
    rows = [three_planes(scan, corners, HIT) for corners in boxes.corners[:most]]
    gap = np.zeros((_GAP, rows[0].shape[1], 3), np.uint8)
    return np.concatenate([part for row in rows for part in (row, gap)][:-1])
