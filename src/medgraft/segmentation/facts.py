"""What the label maps of the training are like: measured image by image, in worker processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy import ndimage

from medgraft.files import read_image, read_many
from medgraft.files.label_map import read_label_map
from medgraft.learn import stopping
from medgraft.samples.label_maps import encoded
from medgraft.samples.mask_meaning import MaskForm
from medgraft.samples.picture_grid import UNKNOWN, levels_of
from medgraft.samples.scan import upright
from medgraft.values import Sample

_LOOKED_AT = 80  # images of the training, evenly spread
_THIN, _LONG = 0.04, 5.0  # of the longer side; and how much longer than wide a thin thing is
_ALWAYS = 0.98  # of the images, in which one class lies on the same side of another
_APART = 0.05  # of the image that their middles lie apart, at least
_FEWEST = 8  # images that show both
_AIR_HU = -500.0


@dataclass(frozen=True)
class MaskFacts:
    """What images with label maps are like.

    Attributes:
        axes: 2 for pictures, 3 for volumes.
        images: of the training.
        shape: median ([D,] H, W) of the images, upright.
        longest: the longer side of each picture that was looked at.
        spacing_mm: median ([z,] y, x) upright, or None where some do not say.
        spacing_spread: largest spacing by smallest.
        hounsfield: True where volumes are in HU.
        gray: True when no image has colour.
        whites: of each picture, how bright its brightest pixels are, as a share of white.
        shares: of the pixels, a class.
        things: pixels that things (connected parts) are wide, the square or cube root of their size: all of them.
        relative: the same as shares of their image's longer side.
        thickness: pixels that classes are thick, twice their size by their boundary: the median.
        thin: True where what is drawn is thin and long.
        sided: axes along which one class always lies on the same side of another, with words of which.
    """

    axes: int
    images: int
    shape: tuple[int, ...]
    longest: tuple[int, ...]
    spacing_mm: tuple[float, ...] | None
    spacing_spread: float
    hounsfield: bool
    gray: bool
    whites: tuple[float, ...]
    shares: tuple[float, ...]
    things: tuple[float, ...]
    relative: tuple[float, ...]
    thickness: float
    thin: bool
    sided: tuple[tuple[int, str], ...]


def facts_of(samples: Sequence[Sample], form: MaskForm, *, workers: int, spaced: bool = True) -> MaskFacts:
    """Measure images of the training and their label maps.

    Args:
        samples: of the training.
        form: what the numbers of the label maps mean.
        workers: processes that read.
        spaced: False where some image of the data does not say how large its pixels are.

    Raises:
        BadImage: none of them can be read.
    """
    places = np.unique(np.linspace(0, len(samples) - 1, min(_LOOKED_AT, len(samples))).astype(int))
    some = [samples[place] for place in places.tolist()]
    rows: list[dict[str, Any]] = []
    first: Exception | None = None
    works = {sample.image: partial(_measured, mask=sample.mask, form=form) for sample in some}
    for index, got in read_many([one.image for one in some], partial(_by_ref, works), workers=workers):
        stopping.check()
        if isinstance(got, Exception):
            first = first or got
        else:
            rows.append(got)
        del index
    if not rows:
        assert first is not None
        raise first
    return _joined(rows if spaced else [{**row, "spacing": None} for row in rows], form, images=len(samples))


def _by_ref(works: dict[Any, Any], ref: Any) -> dict[str, Any]:
    return works[ref](ref)


def _measured(ref: Any, *, mask: Any, form: MaskForm) -> dict[str, Any]:
    """Measure one image and its label map.

    Raises:
        BadImage, BadData: one of them cannot be read.
    """
    image = read_image(ref)
    labels = encoded(read_label_map(mask), form)
    turn = upright(image.affine) if labels.ndim == 3 else None
    if turn is not None:
        labels = turn.volume(labels)
    spacing = image.spacing_mm
    if spacing is not None and turn is not None:
        spacing = tuple(spacing[axis] for axis in turn.order)
    classes = [labels > 0] if form.instances else [labels == k for k in range(1, len(form.names) + 1)]
    longest = max(labels.shape[-2:])
    things, thickness, long = [], [], []
    for own in classes:
        if own.any():
            sizes = _sizes(labels, own, form.instances)
            thick = 2 * own.sum() / max(1, _boundary(own))
            things += sizes
            thickness.append(thick)
            long.append(max(sizes) / thick)
    gray = len(image.pixels) == 1 or bool((image.pixels[:1] == image.pixels[1:]).all())
    return {
        "shape": labels.shape,
        "longest": longest,
        "spacing": spacing,
        "hounsfield": labels.ndim == 3 and bool(image.pixels.min() < _AIR_HU),
        "gray": gray,
        "white": (levels_of(image)[1] - image.range[0]) / max(image.range[1] - image.range[0], 1e-12),
        "shares": [float(own.mean()) for own in classes],
        "centres": [ndimage.center_of_mass(own) if own.any() else None for own in classes],
        "things": things,
        "thickness": thickness,
        "thin": bool(thickness) and max(thickness) < _THIN * longest and min(long) > _LONG,
        "unknown": float((labels == UNKNOWN).mean()) if labels.dtype == np.uint8 else 0.0,
    }


def _sizes(labels: np.ndarray, own: np.ndarray, apart: bool) -> list[float]:
    numbered = np.maximum(labels, 0).astype(np.int32)
    if not apart:
        ndimage.label(own, output=numbered)
    counts = np.bincount(numbered.ravel())[1:]
    return (counts[counts > 0] ** (1 / labels.ndim)).tolist()


def _boundary(own: np.ndarray) -> int:
    inner = np.asarray(ndimage.binary_erosion(own, border_value=1), bool)
    return int((own & ~inner).sum())


def _joined(rows: list[dict[str, Any]], form: MaskForm, *, images: int) -> MaskFacts:
    axes = len(rows[0]["shape"])
    spacings = [row["spacing"] for row in rows]
    known = all(one is not None for one in spacings)
    steps = np.array([one[-axes:] for one in spacings], float) if known else np.ones((1, axes))
    things = [size for row in rows for size in row["things"]]
    relative = [size / row["longest"] for row in rows for size in row["things"]]
    thick = [one for row in rows for one in row["thickness"]]
    return MaskFacts(
        axes=axes,
        images=images,
        shape=tuple(int(np.median([row["shape"][axis] for row in rows])) for axis in range(axes)),
        longest=tuple(row["longest"] for row in rows),
        spacing_mm=tuple(float(one) for one in np.median(steps, axis=0)) if known else None,
        spacing_spread=float((steps.max(axis=0) / steps.min(axis=0)).max()) if known else 1.0,
        hounsfield=sum(row["hounsfield"] for row in rows) > len(rows) / 2,
        gray=all(row["gray"] for row in rows),
        whites=tuple(row["white"] for row in rows),
        shares=tuple(float(one) for one in np.mean([row["shares"] for row in rows], axis=0)),
        things=tuple(things),
        relative=tuple(relative),
        thickness=float(np.median(thick)) if thick else 0.0,
        thin=sum(row["thin"] for row in rows) > len(rows) / 2,
        sided=() if form.instances else _sided(rows, form.names, axes),
    )


def _sided(rows: list[dict[str, Any]], names: Sequence[str], axes: int) -> tuple[tuple[int, str], ...]:
    """Find axes along which one class lies before another in all images: mirrored there, they would be confused."""
    found: dict[int, str] = {}
    for one in range(len(names)):
        for two in range(one + 1, len(names)):
            both = [(row["centres"][one], row["centres"][two], row["shape"]) for row in rows]
            gaps = [np.subtract(b, a) / np.array(shape) for a, b, shape in both if a is not None and b is not None]
            if len(gaps) < _FEWEST:
                continue
            for axis in range(axes):
                along = np.array([gap[axis] for gap in gaps])
                same = max((along > 0).mean(), (along < 0).mean()) >= _ALWAYS
                if same and np.median(np.abs(along)) >= _APART:
                    found.setdefault(axis, f"{names[one]} and {names[two]} always lie in the same order along it")
    return tuple(sorted(found.items()))
