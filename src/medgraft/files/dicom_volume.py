"""Slices to a volume: sorted by position along the normal, never by name or number.

Two slices at one place and missing slices are refused and the files named. A
tilted gantry is undone by moving each slice in its plane. Axes of the result
are `(C, D, H, W)`, the affine maps `(d, h, w)` to RAS millimetres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import atan2, degrees
from pathlib import Path
from typing import Any

import numpy as np

from medgraft.errors import BadImage
from medgraft.files import dicom_values as stage
from medgraft.files.dicom_open import open_dataset
from medgraft.files.dicom_pixels import Layout, frames, layout_of
from medgraft.files.form import Wish, check_size, robust_range, window_range
from medgraft.files.sniff import show
from medgraft.values import Image, ImageRef

GAP = 1.5  # a gap this many times the median means a missing slice, the inverse one that does not belong
_UNEVEN = 0.01
_SAME_PLACE = 0.01  # of the median gap
_SHIFT_PIXELS = 0.1
_NAMED = 6
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Place:
    """Where a slice lies, in LPS millimetres.

    Attributes:
        name: file or frame, for messages.
        corner: centre of the first pixel.
        along_row, along_column: unit vectors of growing column and growing row index.
        spacing: (row, column) distance of pixel centres.
    """

    name: str
    corner: np.ndarray
    along_row: np.ndarray
    along_column: np.ndarray
    spacing: tuple[float, float]

    @property
    def normal(self) -> np.ndarray:
        """Get the unit vector out of the plane."""
        return np.cross(self.along_row, self.along_column)


def place_of(dataset: Any, frame: int, name: str) -> Place | None:
    """Get where a frame lies, or None where the file does not say."""
    position = stage.from_groups(dataset, frame, "PlanePositionSequence") or dataset
    orientation = stage.from_groups(dataset, frame, "PlaneOrientationSequence") or dataset
    measures = stage.from_groups(dataset, frame, "PixelMeasuresSequence") or dataset
    corner = _numbers(position.get("ImagePositionPatient"), 3)
    ways = _numbers(orientation.get("ImageOrientationPatient"), 6)
    spacing = _numbers(measures.get("PixelSpacing"), 2)
    if corner is None or ways is None or spacing is None or (spacing <= 0).any():
        return None
    row, column = ways[:3], ways[3:]
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if min(lengths) < 0.5 or abs(float(row @ column)) > 1e-2:
        return None
    return Place(name, corner, row / lengths[0], column / lengths[1], (float(spacing[0]), float(spacing[1])))


def _numbers(value: Any, count: int) -> np.ndarray | None:
    try:
        numbers = np.array([float(v) for v in value]) if value is not None else np.zeros(0)
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and np.isfinite(numbers).all() else None


def affine_of(place: Place, gap: float) -> np.ndarray:
    """Get the affine of slices that follow a place along its normal: index `(d, h, w)` -> RAS millimetres."""
    affine = np.eye(4)
    affine[:3, 0] = place.normal * gap
    affine[:3, 1] = place.along_column * place.spacing[0]
    affine[:3, 2] = place.along_row * place.spacing[1]
    affine[:3, 3] = place.corner
    return _LPS_TO_RAS @ affine


def plane_affine(dataset: Any, layout: Layout, frame: int) -> np.ndarray | None:
    """Get the affine of a frame alone, as deep as the file says a slice is; None where it does not say where it lies.

    A position of the whole file is that of a frame only where there is one frame; a mosaic's is of no pixel it shows.
    """
    own = stage.from_groups(dataset, frame, "PlanePositionSequence") is not None
    if (layout.frames > 1 and not own) or "MOSAIC" in str(dataset.get("ImageType", "")):
        return None
    place = place_of(dataset, frame, f"frame {frame}")
    if place is None:
        return None
    measures = stage.from_groups(dataset, frame, "PixelMeasuresSequence") or dataset
    depths = [stage.number(measures, word) for word in ("SliceThickness", "SpacingBetweenSlices")]
    return affine_of(place, next((depth for depth in depths if depth is not None and 0 < depth < np.inf), 1.0))


def is_volume(dataset: Any, layout: Layout) -> bool:
    """Tell whether the frames of one file lie at different places along their common normal."""
    if layout.samples != 1 or layout.photometric == "PALETTE COLOR":
        return False
    places = [place_of(dataset, k, f"frame {k}") for k in range(layout.frames)]
    found = [place for place in places if place is not None]
    if len(found) < layout.frames or not dataset.get("PerFrameFunctionalGroupsSequence"):
        return False
    distances = [float(place.corner @ found[0].normal) for place in found]
    parallel = all(float(place.normal @ found[0].normal) > 0.999 for place in found)
    return parallel and max(distances) - min(distances) > 1e-3


def read_frames(ref: ImageRef, dataset: Any, layout: Layout, wish: Wish, notes: list[str]) -> Image:
    """Read the frames of one multi-frame file as a volume."""
    from medgraft.files import dicom

    check_size(layout.frames * layout.rows * layout.columns * 4, wish.max_bytes, ref.path)
    slices = []
    for k, (stored, _) in enumerate(frames(dataset, layout, ref.path, range(layout.frames), wish.max_bytes)):
        place = place_of(dataset, k, f"frame {k}")
        assert place is not None
        values, unit, _, more = dicom.values_of(stored, dataset, layout, k)
        notes = [*notes, *(note for note in more if note not in notes)]
        slices.append((place, values.astype(np.float32)))
        last_unit = unit
    return _build(ref, slices, last_unit, layout, dataset, wish, notes)


def read_series(ref: ImageRef, wish: Wish) -> Image:
    """Read the files of one series as a volume."""
    from medgraft.files import dicom

    slices: list[tuple[Place, np.ndarray]] = []
    notes: list[str] = []
    first: tuple[Any, Layout, str] | None = None
    for path in sorted(ref.files):
        dataset, said = open_dataset(path, pixels=True, max_bytes=wish.max_bytes)
        notes += [note for note in said if note not in notes]
        if is_localizer(dataset):
            notes.append(f"{path.name} is a localizer and was left out")
            continue
        layout = layout_of(dataset, path)
        place = place_of(dataset, 0, path.name)
        if layout.frames != 1 or layout.samples != 1:
            raise BadImage("a slice of a series must be one gray frame", where=show(path))
        if place is None:
            raise BadImage("has no position or orientation: its series cannot be sorted", where=show(path))
        if first is None:
            first = (dataset, layout, "")
            check_size(len(ref.files) * layout.rows * layout.columns * 4, wish.max_bytes, ref.path)
        _same_series(dataset, layout, first[0], first[1], path)
        stored, _ = next(iter(frames(dataset, layout, path, [0], wish.max_bytes)))
        values, unit, _, said = dicom.values_of(stored, dataset, layout, 0)
        notes += [note for note in said if note not in notes]
        slices.append((place, values.astype(np.float32)))
        first = (first[0], first[1], unit)
    if first is None:
        raise BadImage("the series holds localizers only", where=show(ref.path))
    return _build(ref, slices, first[2], first[1], first[0], wish, notes)


def is_localizer(dataset: Any) -> bool:
    """Tell whether an image is a localizer (scout), by its image type."""
    kind = dataset.get("ImageType")
    words = [str(word).upper() for word in kind] if kind is not None and not isinstance(kind, str) else [str(kind)]
    return "LOCALIZER" in words


def _same_series(dataset: Any, layout: Layout, other: Any, its: Layout, path: Path) -> None:
    if (layout.rows, layout.columns) != (its.rows, its.columns):
        raise BadImage(
            f"is {layout.rows} x {layout.columns}, other slices of its series are {its.rows} x {its.columns}",
            where=show(path),
        )
    if dataset.get("SeriesInstanceUID") != other.get("SeriesInstanceUID"):
        raise BadImage("belongs to another series than the other files", where=show(path))


def _build(
    ref: ImageRef,
    slices: Sequence[tuple[Place, np.ndarray]],
    unit: str,
    layout: Layout,
    dataset: Any,
    wish: Wish,
    notes: list[str],
) -> Image:
    from medgraft.files import dicom

    where = show(ref)
    order, distances = _order([place for place, _ in slices], where)
    places = [slices[k][0] for k in order]
    stack = np.stack([slices[k][1] for k in order])
    stack, more = _upright(stack, places, distances)
    notes = [*notes, *more]
    stack, gap, more = _even(stack, distances, places, wish, where)
    notes += more
    if stage.inverted(dataset, layout):
        notes.append("low values are white in this file; values are not inverted")
    base = places[0]
    window, _, said = stage.window_of(dataset, 0)
    if wish.window is not None:
        low_high = window_range(wish.window)
    elif window is not None:
        low_high = window_range((window.center, window.width))
        notes += said
    else:
        low_high = robust_range(stack)
    return Image(
        pixels=np.ascontiguousarray(stack[None], dtype=np.float32),
        range=low_high,
        source=str(ref),
        unit=unit,
        bits=layout.stored,
        spacing_mm=(gap, *base.spacing),
        affine=affine_of(base, gap),
        notes=tuple(notes),
        facts=dicom.facts_of(dataset),
    )


def _order(places: Sequence[Place], where: str) -> tuple[list[int], np.ndarray]:
    """Get the order along the normal and the sorted distances in millimetres.

    Raises:
        BadImage: slices are not parallel, of different spacing, or at one place.
    """
    base = places[0]
    for place in places:
        if float(place.along_row @ base.along_row) < 0.999 or float(place.along_column @ base.along_column) < 0.999:
            raise BadImage(f"{place.name} is turned against {base.name}: no volume", where=where)
        if not np.allclose(place.spacing, base.spacing, rtol=0.01):
            raise BadImage(f"{place.name} has another pixel spacing than {base.name}", where=where)
    distances = np.array([float(place.corner @ base.normal) for place in places])
    order = [int(k) for k in np.argsort(distances, kind="stable")]
    along = distances[order]
    if len(along) < 2:
        return order, along
    gaps = np.diff(along)
    limit = max(1e-4, _SAME_PLACE * float(np.median(gaps[gaps > 1e-4])) if (gaps > 1e-4).any() else 1e-4)
    same = [k for k in range(len(gaps)) if gaps[k] < limit]
    if same:
        pairs = "; ".join(f"{places[order[k]].name} and {places[order[k + 1]].name}" for k in same[:_NAMED])
        more = f" and {len(same) - _NAMED} more pairs" if len(same) > _NAMED else ""
        raise BadImage(
            f"{len(same)} pairs of slices lie at the same place ({pairs}{more})",
            where=where,
            do="Keep one of each; several echoes, times or phases are several volumes.",
        )
    return order, along


def _even(
    stack: np.ndarray, along: np.ndarray, places: Sequence[Place], wish: Wish, where: str
) -> tuple[np.ndarray, float, list[str]]:
    """Check the gaps between slices; get the stack, the distance of slices and notes."""
    if len(along) < 2:
        return stack, 1.0, ["a single slice: its thickness is not known, 1 mm is assumed"]
    gaps = np.diff(along)
    median = float(np.median(gaps))
    wide = [k for k in range(len(gaps)) if not median / GAP <= gaps[k] <= GAP * median]
    if wide and not wish.allow_gaps:
        named = "; ".join(f"{gaps[k]:.2f} mm between {places[k].name} and {places[k + 1].name}" for k in wide[:_NAMED])
        raise BadImage(
            f"slices are missing or unevenly spaced: the median gap is {median:.2f} mm, but {named}",
            where=where,
            do="Find the missing files, or allow gaps to have the slices resampled to even distances.",
        )
    mean = float((along[-1] - along[0]) / (len(along) - 1))
    spread = float(np.abs(gaps - mean).max() / mean)
    if not wide:
        notes = [f"distances of slices differ by up to {100 * spread:.1f} %"] if spread > _UNEVEN else []
        return stack, mean, notes
    count = round(float(along[-1] - along[0]) / median) + 1
    check_size(count * stack[0].size * 4, wish.max_bytes, where)
    wanted = np.linspace(along[0], along[-1], count)
    left = np.clip(np.searchsorted(along, wanted, side="right") - 1, 0, len(along) - 2)
    weight = ((wanted - along[left]) / gaps[left]).astype(np.float32)[:, None, None]
    even = stack[left] * (1 - weight) + stack[left + 1] * weight
    note = f"{len(along)} unevenly spaced slices were resampled to {count} even ones"
    return even, float(wanted[1] - wanted[0]), [note]


def _upright(stack: np.ndarray, places: Sequence[Place], along: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Undo a gantry tilt: move each slice in its plane until its corners lie above each other."""
    base = places[0]
    offsets = [place.corner - base.corner for place in places]
    down = np.array([float(o @ base.along_column) for o in offsets]) / base.spacing[0]
    right = np.array([float(o @ base.along_row) for o in offsets]) / base.spacing[1]
    if max(np.abs(down).max(), np.abs(right).max()) <= _SHIFT_PIXELS:
        return stack, []
    empty = float(stack.min())
    moved = np.stack([_shift(layer, down[k], right[k], empty) for k, layer in enumerate(stack)])
    depth = float(along[-1] - along[0])
    sideways = float(np.hypot(down[-1] * base.spacing[0], right[-1] * base.spacing[1]))
    angle = degrees(atan2(sideways, depth))
    return moved, [f"the gantry was tilted by {angle:.1f} degrees: slices were moved in their planes to correct it"]


def _shift(layer: np.ndarray, down: float, right: float, empty: float) -> np.ndarray:
    """Move pixels by (down, right), linear between pixels; what comes from outside is `empty`."""
    return _shift_rows(_shift_rows(layer, down, empty).T, right, empty).T


def _shift_rows(layer: np.ndarray, by: float, empty: float) -> np.ndarray:
    if abs(by) < 1e-6:
        return layer
    source = np.arange(len(layer)) - by
    low = np.floor(source).astype(int)
    weight = (source - low).astype(np.float32)[:, None]
    out = np.full_like(layer, empty)
    inside = (source >= 0) & (source <= len(layer) - 1)
    first = layer[np.clip(low, 0, len(layer) - 1)]
    second = layer[np.clip(low + 1, 0, len(layer) - 1)]
    mixed = first * (1 - weight) + second * weight
    out[inside] = mixed[inside]
    return out
