"""One image's true label map beside the found one: how each class agrees, and what a missed class gets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from medgraft.errors import BadData
from medgraft.scores.skeletons import cldice
from medgraft.scores.surfaces import assd, border_gaps, hd95, nsd

UNKNOWN = 255  # in the truth: nobody knows what the voxel shows
NAMES = ("dice", "iou", "sensitivity", "precision", "nsd", "hd95", "assd", "volume_error")
VOLUMES = ("true_volume", "found_volume")
THIN = "cldice"


@dataclass(frozen=True, eq=False)
class MaskScores:
    """How well each of K classes of one image was found.

    Attributes:
        key: name of the image, for messages.
        classes: K class names, in order.
        names: S names of scores: `NAMES`, `VOLUMES`, and cldice where it was asked for.
        values: (K, S) float64; NaN where a score does not apply.
        axes: 2 for planes, 3 for volumes.
        unit: of distances, "mm" or "px"; volumes (in planes areas) have its power.
    """

    key: str
    classes: tuple[str, ...]
    names: tuple[str, ...]
    values: np.ndarray
    axes: int
    unit: str

    def __getitem__(self, name: str) -> np.ndarray:
        return self.values[:, self.names.index(name)]

    @property
    def missed(self) -> np.ndarray:
        """Get which classes are in the truth while nothing was found, (K,) booleans."""
        return (self["true_volume"] > 0) & (self["found_volume"] == 0)

    @property
    def false_finds(self) -> np.ndarray:
        """Get which classes were found and are not in the truth, (K,) booleans."""
        return (self["true_volume"] == 0) & (self["found_volume"] > 0)

    @property
    def absent(self) -> np.ndarray:
        """Get which classes are in neither truth nor find, (K,) booleans; their scores are NaN."""
        return (self["true_volume"] == 0) & (self["found_volume"] == 0)


def mask_scores(
    truth: np.ndarray,
    found: np.ndarray,
    *,
    classes: Sequence[str],
    spacing_mm: Sequence[float] | None,
    tolerance: float,
    thin: bool = False,
    key: str = "",
) -> MaskScores:
    """Score one image; voxels whose truth is unknown are absent from both maps.

    dice, iou, sensitivity, precision and cldice: 0 to 1, of voxels. nsd: 0 to 1, hd95 and assd: distances of the
    surfaces, see `medgraft.scores.surfaces`. volume_error: found less true volume as a share of the true one.

    A class that is missed gets the worst: 0, the diagonal of the image for distances, and a volume_error of -1; its
    precision is NaN, as nothing was called. A class that was found and is not in the truth gets 0 and the diagonal,
    and NaN for sensitivity and volume_error, which are shares of a true volume. A class in neither has NaN throughout.

    Args:
        truth: ([D,] H, W) whole numbers: 0 background, k the k-th class, 255 unknown.
        found: the same shape, without 255.
        classes: K names.
        spacing_mm: of the voxels along each axis, in the order of the axes; None measures in pixels.
        tolerance: of nsd, in mm or pixels.
        thin: also score middle lines (cldice).
        key: name of the image.

    Raises:
        BadData: shapes differ, a number is no class, or the spacing does not fit.

    Source: Maier-Hein et al., Metrics reloaded, Nat Methods 2024;21:195 (which scores, and the worst for a missed one).

    Example:
        >>> one = mask_scores(np.eye(4, dtype=int), np.eye(4, dtype=int), classes=["a"], spacing_mm=None, tolerance=1)
        >>> one["dice"].tolist()
        [1.0]
    """
    truth, found = np.asarray(truth), np.asarray(found)
    _check(truth, found, count=len(classes), key=key)
    spacing = _spacing(spacing_mm, axes=truth.ndim, key=key)
    if not tolerance >= 0:
        raise BadData(f"a tolerance of {tolerance:g} is no distance", where=key or None, do="Give 0 or more.")
    worst = math.hypot(*(side * each for side, each in zip(truth.shape, spacing, strict=True)))
    boxes = _boxes(truth, found, count=len(classes))
    names = (*NAMES, *VOLUMES, *((THIN,) if thin else ()))
    values = np.full((len(classes), len(names)), np.nan)
    for kind, box in enumerate(boxes):
        masks = truth[box] == kind + 1, (found[box] == kind + 1) & (truth[box] != UNKNOWN)
        row = _overlap(*masks, voxel=math.prod(spacing)) | _distances(*masks, spacing, tolerance=tolerance, worst=worst)
        row |= {THIN: cldice(*masks)} if thin else {}
        values[kind] = [row[name] for name in names]
    return MaskScores(key, tuple(classes), names, values, truth.ndim, "px" if spacing_mm is None else "mm")


def _check(truth: np.ndarray, found: np.ndarray, *, count: int, key: str) -> None:
    where = key or None
    if truth.shape != found.shape:
        raise BadData(f"the true label map has the shape {truth.shape}, the found one {found.shape}", where=where)
    if truth.ndim not in (2, 3) or not truth.size:
        raise BadData(f"a label map of shape {truth.shape} is no plane and no volume", where=where)
    if count >= UNKNOWN:
        raise BadData(f"{count} classes are too many", where=where, do=f"At most {UNKNOWN - 1}: 255 means unknown.")
    for word, part in (("true", truth), ("found", found)):
        if not np.issubdtype(part.dtype, np.integer):
            raise BadData(f"the {word} label map holds {part.dtype}, not whole numbers", where=where)
        if part.min() >= 0 and part.max() <= count:
            continue
        wrong = part[(part < 0) | (part > count)]
        wrong = wrong if word == "found" else wrong[wrong != UNKNOWN]
        if len(wrong):
            number = int(wrong[0])
            raise BadData(f"the {word} label map holds {number}, which is no class", where=where, do=f"0 to {count}.")


def _spacing(spacing_mm: Sequence[float] | None, *, axes: int, key: str) -> tuple[float, ...]:
    spacing = (1.0,) * axes if spacing_mm is None else tuple(float(each) for each in spacing_mm)
    if len(spacing) != axes or not all(0 < each < math.inf for each in spacing):
        raise BadData(f"{spacing} is no spacing of {axes} axes", where=key or None, do="Give mm, one number an axis.")
    return spacing


def _boxes(truth: np.ndarray, found: np.ndarray, *, count: int) -> list[tuple[slice, ...]]:
    """The box of each class that holds what is true of it and what was found."""
    none = (slice(0, 0),) * truth.ndim
    table = []
    for sides in zip(*(_found_boxes(part, count=count) for part in (truth, found)), strict=True):
        some = [box for box in sides if box is not None]
        ends = [[(box[axis].start, box[axis].stop) for box in some] for axis in range(truth.ndim)]
        table.append(tuple(slice(min(a for a, _ in each), max(b for _, b in each)) for each in ends) if some else none)
    return table


def _found_boxes(labels: np.ndarray, *, count: int) -> list[tuple[slice, ...] | None]:
    boxes = ndimage.find_objects(labels, max_label=count)
    return [*boxes, *[None] * (count - len(boxes))]


def _overlap(truth: np.ndarray, found: np.ndarray, *, voxel: float) -> dict[str, float]:
    true, called, both = (int(np.count_nonzero(part)) for part in (truth, found, truth & found))

    def share(top: float, bottom: float) -> float:
        return top / bottom if bottom else math.nan

    return {
        "dice": share(2 * both, true + called),
        "iou": share(both, true + called - both),
        "sensitivity": share(both, true),
        "precision": share(both, called),
        "volume_error": share(called - true, true),
        "true_volume": true * voxel,
        "found_volume": called * voxel,
    }


def _distances(
    truth: np.ndarray, found: np.ndarray, spacing: Sequence[float], *, tolerance: float, worst: float
) -> dict[str, float]:
    gaps = border_gaps(truth, found, spacing=spacing)
    far = {"hd95": hd95(gaps), "assd": assd(gaps)}
    if math.isinf(far["hd95"]):
        far = dict.fromkeys(far, worst)
    return far | {"nsd": nsd(truth, found, spacing=spacing, tolerance=tolerance)}
