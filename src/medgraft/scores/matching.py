"""Which found boxes match which true ones at each IoU, as COCO does it: its own code in planes, its rule in volumes."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medgraft.scores.boxes import Detections, Pile, both_piles
from medgraft.scores.overlap import greedy, iou, sizes

LIMITS = np.linspace(0.5, 0.95, 10)  # IoU from .50 to .95 in steps of .05
LOOSE = np.array([0.1, 0.25])  # of volumes: half a voxel off along each axis leaves .27 of two voxels
MOST = 100  # found boxes of an image and class that are looked at, where no image holds more of a class
ALL = (0.0, 1e10)
SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}  # square pixels
Ranges = Sequence[tuple[float, float]]


@dataclass(frozen=True, eq=False)
class Matches:
    """The found boxes of one class in n images, by falling score, for A ranges of size and T limits of IoU.

    Attributes:
        images: (D,) number of the image.
        hits: (A, T, D) booleans: matches a truth that counts.
        alarms: (A, T, D) booleans: matches none. Neither of both: matches an ignored truth or is of another size.
        truths: (A, n) how many truths count in each image.
    """

    images: np.ndarray
    hits: np.ndarray
    alarms: np.ndarray
    truths: np.ndarray


def most_looked_at(found: Detections) -> int:
    """Get how many found boxes of an image and class are looked at: COCO's 100, and in crowds twice the fullest image.

    With 100 a field of three hundred nuclei could not be found whole, whatever finds them.
    """
    counts = [boxes.labels.count(name) for boxes in found.truth for name in set(boxes.labels)]
    fullest = max(counts, default=0)
    return MOST if fullest <= MOST else 2 * fullest


def match_boxes(found: Detections, *, by_size: bool) -> list[Matches]:
    """Match the boxes of each class: K of `Matches`.

    Args:
        found: truth and finds.
        by_size: also for small, medium and large boxes, the further ranges; of volumes there is no such thing.
    """
    if found.axes == 3:
        return match_by_rule(found, ranges=[(0.0, np.inf)])
    return match_by_coco(found, ranges=[ALL, *(SIZES.values() if by_size else ())])


def match_by_coco(found: Detections, *, ranges: Ranges) -> list[Matches]:
    """Match boxes in planes by pycocotools.

    Args:
        found: truth and finds.
        ranges: A of least and largest area, square pixels, both within.
    """
    from pycocotools.cocoeval import COCOeval

    true, called = both_piles(found)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints as it goes
        judge = COCOeval(_coco(true, found), _coco(called, found), "bbox")
        judge.params.areaRng = [list(each) for each in ranges]
        judge.params.maxDets = [most_looked_at(found)]
        judge.evaluate()
    n, per_class, table = len(found), len(ranges) * len(found), []
    for kind in range(len(found.classes)):
        cells = judge.evalImgs[kind * per_class : (kind + 1) * per_class]
        table.append(_gathered([cells[a * n : (a + 1) * n] for a in range(len(ranges))]))
    return table


def match_by_rule(found: Detections, *, ranges: Ranges, limits: np.ndarray = LIMITS) -> list[Matches]:
    """Match boxes in planes or volumes by COCO's rule written anew.

    Args:
        found: truth and finds.
        ranges: A of least and largest size, both within.
        limits: T of IoU.
    """
    true, called = both_piles(found)
    truths, finds = true.groups(), called.groups()
    none, most = np.zeros(0, dtype=np.int64), most_looked_at(found)
    table = []
    for kind in range(len(found.classes)):
        cells: list[list[Any]] = [[] for _ in ranges]
        for image in range(len(found)):
            pair = truths.get((kind, image), none), finds.get((kind, image), none)[:most]
            for row, ends in zip(cells, ranges, strict=True):
                row.append(_cell(true, called, pair, ends=ends, limits=limits))
        table.append(_gathered(cells, limits=limits))
    return table


def _cell(
    true: Pile, called: Pile, pair: tuple[np.ndarray, np.ndarray], *, ends: tuple[float, float], limits: np.ndarray
) -> Any:
    """What `COCOeval.evaluateImg` says of one image, class and range, under its names."""
    truths, finds = pair
    if len(truths) == 0 and len(finds) == 0:
        return None
    crowd = true.ignored[truths]
    corners = called.corners[finds], true.corners[truths]
    outside = [(size < ends[0]) | (size > ends[1]) for size in (sizes(corners[0]), sizes(corners[1]))]
    ignored = crowd | outside[1]
    match = greedy(iou(*corners, crowd=crowd), limits, ignored=ignored, crowd=crowd)
    matched = match >= 0
    passed = matched & ignored[match] if len(truths) else matched
    return {
        "image_id": int((true.images[truths] if len(truths) else called.images[finds])[0]) + 1,
        "dtScores": called.scores[finds],
        "dtMatches": matched,
        "dtIgnore": passed | (~matched & outside[0]),
        "gtIgnore": ignored,
    }


def _coco(boxes: Pile, found: Detections) -> Any:
    """The boxes as pycocotools reads them; its numbers begin at 1, since 0 means unmatched."""
    from pycocotools.coco import COCO

    half = boxes.corners.shape[1] // 2
    frames = np.concatenate([boxes.corners[:, :half], boxes.corners[:, half:] - boxes.corners[:, :half]], axis=1)
    areas = sizes(boxes.corners)
    whole: Any = COCO()
    whole.dataset = {
        "images": [{"id": image + 1} for image in range(len(found))],
        "categories": [{"id": kind + 1, "name": name} for kind, name in enumerate(found.classes)],
        "annotations": [
            {
                "id": place + 1,
                "image_id": int(boxes.images[place]) + 1,
                "category_id": int(boxes.kinds[place]) + 1,
                "bbox": frames[place].tolist(),
                "area": float(areas[place]),
                "score": float(boxes.scores[place]),
                "iscrowd": int(boxes.ignored[place]),
            }
            for place in range(len(boxes))
        ],
    }
    whole.createIndex()
    return whole


def _gathered(cells: Sequence[Sequence[Any]], *, limits: np.ndarray = LIMITS) -> Matches:
    """Put the images of one class together, found boxes by falling score, equal ones in the order of the images."""
    n = len(cells[0])
    filled = [[cell for cell in row if cell is not None] for row in cells]
    truths = np.zeros((len(cells), n))
    for a, row in enumerate(filled):
        for cell in row:
            truths[a, cell["image_id"] - 1] = (np.asarray(cell["gtIgnore"]) == 0).sum()
    first = filled[0]
    scores = np.concatenate([np.zeros(0), *(cell["dtScores"] for cell in first)])
    counts = [len(cell["dtScores"]) for cell in first]
    images = np.repeat(np.array([cell["image_id"] - 1 for cell in first], dtype=np.int64), counts)
    order = np.argsort(-scores, kind="stable")
    none = np.zeros((len(limits), 0), dtype=bool)

    def part(name: str) -> np.ndarray:
        rows = [np.concatenate([none, *(np.asarray(cell[name]) > 0 for cell in row)], axis=1) for row in filled]
        return np.stack(rows)[:, :, order]

    matched, passed = part("dtMatches"), part("dtIgnore")
    return Matches(images[order], matched & ~passed, ~matched & ~passed, truths)
