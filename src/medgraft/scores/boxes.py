"""Detections: true boxes and found boxes side by side, the one thing every score of boxes is made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from medgraft.errors import BadData
from medgraft.values import Boxes


@dataclass(frozen=True, eq=False)
class Detections:
    """What is in n images and what was found in them.

    Attributes:
        keys: n names of images, for messages.
        truth: n true boxes, in the file's own pixels.
        found: n found boxes with scores, in the same pixels.
        classes: K class names, in order.
        patients: n patient names, or None where none are known.

    Raises:
        BadData: lengths disagree, a label is no class, a found box has no score, a number is not finite, a box ends
            before it begins, or some boxes are of planes and some of volumes.
    """

    keys: tuple[str, ...]
    truth: tuple[Boxes, ...]
    found: tuple[Boxes, ...]
    classes: tuple[str, ...]
    patients: Sequence[object] | None = None

    def __post_init__(self) -> None:
        for name in ("keys", "truth", "found", "classes"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        n = len(self.keys)
        if len(self.truth) != n or len(self.found) != n:
            raise BadData(f"{n} images, but {len(self.truth)} with true boxes and {len(self.found)} with found ones")
        if self.patients is not None and len(self.patients) != n:
            raise BadData(f"{n} images but {len(self.patients)} patients")
        for key, truth, found in zip(self.keys, self.truth, self.found, strict=True):
            if len(found) and (found.scores is None or not np.isfinite(found.scores).all()):
                raise BadData("a found box has no score, or one that is not finite", where=key)
            for boxes in (truth, found):
                self._check(key, boxes)
        if len(self._widths) > 1:
            raise BadData("some boxes have 4 corners and some 6", do="Judge planes and volumes apart.")

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def axes(self) -> int:
        """Get 2 for boxes in planes (also where there are none at all) or 3 for boxes in volumes."""
        return 3 if 6 in self._widths else 2

    def take(self, rows: np.ndarray) -> Detections:
        """Get some of the images, by index (also repeatedly) or mask."""
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        places = rows.tolist()
        return replace(
            self,
            keys=tuple(self.keys[row] for row in places),
            truth=tuple(self.truth[row] for row in places),
            found=tuple(self.found[row] for row in places),
            patients=None if self.patients is None else [self.patients[row] for row in places],
        )

    @property
    def _widths(self) -> set[int]:
        return {boxes.corners.shape[1] for boxes in (*self.truth, *self.found) if len(boxes)}

    def _check(self, key: str, boxes: Boxes) -> None:
        unknown = sorted(set(boxes.labels) - set(self.classes))
        if unknown:
            raise BadData(f"{unknown[0]!r} is no class", where=key, do=f"Known: {', '.join(self.classes)}.")
        half = boxes.corners.shape[1] // 2
        if not np.isfinite(boxes.corners).all():
            raise BadData("a corner of a box is not finite", where=key)
        if (boxes.corners[:, half:] < boxes.corners[:, :half]).any():
            raise BadData("a box ends before it begins", where=key, do="Corners are x0, y0, x1, y1.")


@dataclass(frozen=True, eq=False)
class Pile:
    """All boxes of all images in one.

    Attributes:
        images: (M,) number of the image.
        rows: (M,) which box of its image.
        kinds: (M,) number of the class.
        corners: (M, 4) or (M, 6).
        scores: (M,); zeros for truth.
        ignored: (M,) booleans.
    """

    images: np.ndarray
    rows: np.ndarray
    kinds: np.ndarray
    corners: np.ndarray
    scores: np.ndarray
    ignored: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def groups(self) -> dict[tuple[int, int], np.ndarray]:
        """Get the boxes of each (class, image): their numbers by falling score, equal ones in their order."""
        order = np.lexsort((-self.scores, self.images, self.kinds))
        pairs = np.stack([self.kinds[order], self.images[order]], axis=1)
        starts = np.flatnonzero(np.r_[True, (pairs[1:] != pairs[:-1]).any(axis=1)]) if len(order) else []
        parts = np.split(order, starts)[1:]
        return {(int(self.kinds[part[0]]), int(self.images[part[0]])): part for part in parts}

    def per_image(self, wanted: np.ndarray, *, images: int, classes: int) -> np.ndarray:
        """Count the boxes that are wanted, (M,) booleans, in each image and class: (n, K) float64."""
        cells = (self.images * classes + self.kinds)[wanted]
        return np.bincount(cells, minlength=images * classes).reshape(images, classes).astype(np.float64)


def pile(boxes: Sequence[Boxes], *, classes: Sequence[str], axes: int) -> Pile:
    """Put the boxes of n images into one pile, image by image.

    Args:
        boxes: one of each image.
        classes: K class names.
        axes: 2 or 3.
    """
    number = {name: place for place, name in enumerate(classes)}
    sizes = np.array([len(each) for each in boxes], dtype=np.int64)
    total = int(sizes.sum())
    some = [each for each in boxes if len(each)]
    none = np.zeros((0, 2 * axes))
    scores = [np.zeros(len(each)) if each.scores is None else each.scores for each in some]
    return Pile(
        images=np.repeat(np.arange(len(boxes)), sizes),
        rows=np.arange(total) - np.repeat(np.cumsum(sizes) - sizes, sizes),
        kinds=np.array([number[label] for each in some for label in each.labels], dtype=np.int64),
        corners=np.concatenate([none, *(each.corners for each in some)]),
        scores=np.concatenate([np.zeros(0), *scores]),
        ignored=np.concatenate([np.zeros(0, dtype=bool), *(each.ignored for each in some)]),
    )


def both_piles(found: Detections) -> tuple[Pile, Pile]:
    """Get the pile of true boxes and the pile of found ones."""
    true, called = (pile(part, classes=found.classes, axes=found.axes) for part in (found.truth, found.found))
    return true, called
