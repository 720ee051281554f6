"""A slide cut into tiles that overlap, and what was found in them put together again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medgraft.errors import BadRecipe
from medgraft.values import Boxes


@dataclass(frozen=True)
class Tile:
    """A rectangle of a slide, in pixels of the slide.

    Attributes:
        x: first column.
        y: first row.
        width: in pixels.
        height: in pixels.
    """

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Seams:
    """When two boxes from two tiles are one finding.

    Attributes:
        iou: intersection over union from which they are.
        inside: intersection over the smaller box from which they are.
        piece: share of a cut box that a kept box holds from which they are.
        margin: pixels from an edge of a tile within which a box counts as cut by it.
    """

    iou: float = 0.5
    inside: float = 0.75
    piece: float = 0.4
    margin: float = 1.5


def tiles_of(size: tuple[int, int], tissue: np.ndarray | None = None, *, side: int, overlap: int) -> list[Tile]:
    """Get tiles that cover all tissue, row by row.

    Every box that is no larger than the overlap lies whole in one of the tiles around it. The last tiles of a row and
    of a column are moved inwards to end with the slide; a slide smaller than a tile is one tile.

    Args:
        size: (width, height) of the slide in pixels.
        tissue: bool `(h, w)`, the whole slide at any scale; None for tissue everywhere.
        side: width and height of a tile in pixels.
        overlap: pixels that neighbours share; below `side`.

    Raises:
        BadRecipe: the overlap is not below the side.

    Example:
        >>> [(tile.x, tile.width) for tile in tiles_of((100, 40), side=40, overlap=10)]
        [(0, 40), (30, 40), (60, 40)]
    """
    if side < 1 or not 0 <= overlap < side:
        raise BadRecipe(
            f"tiles of {side} pixels cannot overlap by {overlap}",
            do="Ask for an overlap of at least 0 that is smaller than the tile.",
        )
    width, height = size
    tiles = [
        Tile(x, y, min(side, width), min(side, height))
        for y in _starts(height, side, overlap)
        for x in _starts(width, side, overlap)
    ]
    return tiles if tissue is None else [tile for tile in tiles if _touches(tile, tissue, size)]


def _starts(length: int, side: int, overlap: int) -> list[int]:
    last = max(0, length - side)
    return [*range(0, last, side - overlap), last]


def _touches(tile: Tile, tissue: np.ndarray, size: tuple[int, int]) -> bool:
    high, wide = tissue.shape
    x0, x1 = tile.x * wide // size[0], -(-(tile.x + tile.width) * wide // size[0])
    y0, y1 = tile.y * high // size[1], -(-(tile.y + tile.height) * high // size[1])
    return bool(tissue[y0:y1, x0:x1].any())


def merge_seams(
    found: Sequence[Boxes], tiles: Sequence[Tile], *, size: tuple[int, int], seams: Seams | None = None
) -> Boxes:
    """Put together what was found in tiles: each finding once, the surest first.

    Boxes are gone through class by class, those that no edge of their tile cuts first, then by score. One is left out
    where a box from another tile that was kept is the same finding. Two boxes of one tile are never the same: that
    was for the detector to say. A cut box stays where no neighbour holds it whole, so nothing that was found is lost.

    Args:
        found: boxes of each tile, in pixels of the slide.
        tiles: where each was found.
        size: (width, height) of the slide; an edge of a tile that is an edge of the slide cuts nothing.
        seams: when two boxes are one finding.

    Source:
        Greedy non-maximum suppression; intersection over the smaller box as in Akyon et al., "Slicing aided hyper
        inference and fine-tuning for small object detection", ICIP 2022.
    """
    seams = Seams() if seams is None else seams
    if len(found) != len(tiles):
        raise ValueError(f"{len(tiles)} tiles and boxes of {len(found)} of them")
    corners = np.concatenate([np.zeros((0, 4)), *(boxes.corners for boxes in found if len(boxes))])
    labels = [label for boxes in found for label in boxes.labels]
    ignored = np.concatenate([np.zeros(0, bool), *(boxes.ignored for boxes in found)])
    scored = any(boxes.scores is not None for boxes in found)
    scores = np.concatenate([np.zeros(0), *(_scores(boxes) for boxes in found)])
    owner = np.repeat(np.arange(len(found)), [len(boxes) for boxes in found])
    cut = np.concatenate([np.zeros(0, bool), *(_cut(b, t, size, seams) for b, t in zip(found, tiles, strict=True))])
    kept: list[int] = []
    for label in dict.fromkeys(labels):
        rows = np.flatnonzero(np.array([own == label for own in labels]))
        # Larger pieces first where nothing else decides: more of the finding is in them.
        area = (corners[rows, 2] - corners[rows, 0]) * (corners[rows, 3] - corners[rows, 1])
        order = rows[np.lexsort((owner[rows], -area, -scores[rows], cut[rows]))]
        kept += _suppressed(corners, owner, cut, order=order, seams=seams)
    kept.sort(key=lambda row: (-scores[row], corners[row, 1], corners[row, 0]))
    chosen = np.array(kept, dtype=int)
    return Boxes(
        corners[chosen], tuple(labels[row] for row in kept), scores[chosen] if scored else None, ignored[chosen]
    )


def _scores(boxes: Boxes) -> np.ndarray:
    return np.ones(len(boxes)) if boxes.scores is None else boxes.scores


def _cut(boxes: Boxes, tile: Tile, size: tuple[int, int], seams: Seams) -> np.ndarray:
    """Say which boxes end at an edge of their tile that is no edge of the slide, bool `(M,)`."""
    if not len(boxes):
        return np.zeros(0, bool)
    x0, y0, x1, y1 = boxes.corners.T
    right, bottom = tile.x + tile.width, tile.y + tile.height
    found = (x0 <= tile.x + seams.margin) & (tile.x > 0)
    found |= (y0 <= tile.y + seams.margin) & (tile.y > 0)
    found |= (x1 >= right - seams.margin) & (right < size[0])
    return found | (y1 >= bottom - seams.margin) & (bottom < size[1])


def _suppressed(
    corners: np.ndarray, owner: np.ndarray, cut: np.ndarray, *, order: np.ndarray, seams: Seams
) -> list[int]:
    """Get the rows of one class that stay, in the order given."""
    kept: list[int] = []
    alive = np.ones(len(order), bool)
    own = corners[order]
    area = (own[:, 2] - own[:, 0]) * (own[:, 3] - own[:, 1])
    for place, row in enumerate(order.tolist()):
        if not alive[place]:
            continue
        kept.append(row)
        box = own[place]
        wide = np.minimum(own[:, 2], box[2]) - np.maximum(own[:, 0], box[0])
        high = np.minimum(own[:, 3], box[3]) - np.maximum(own[:, 1], box[1])
        common = np.maximum(wide, 0) * np.maximum(high, 0)
        union = np.maximum(area + area[place] - common, 1e-12)
        smaller = np.maximum(np.minimum(area, area[place]), 1e-12)
        same = (common / union >= seams.iou) | (common / smaller >= seams.inside)
        same |= cut[order] & (common / np.maximum(area, 1e-12) >= seams.piece)
        alive &= ~(same & (owner[order] != owner[row]))
    return kept
