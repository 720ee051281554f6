"""From stored numbers to values and to what a monitor shows.

The order of PS3.3 C.11 and PS3.4 N.2, owned by this file alone: stored ->
modality (rescale or LUT, also from functional groups) -> window (LINEAR,
LINEAR_EXACT, SIGMOID or LUT; the first of several) -> inversion of
MONOCHROME1 last. Padding is left out and becomes the lowest value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from medgraft.files.dicom_pixels import Layout
from medgraft.files.form import finite, robust_range

_UNITS = {"HU": "HU", "US": "value", "OD": "OD", "": "value"}


@dataclass(frozen=True)
class Window:
    """A window of the file: center, width and function."""

    center: float
    width: float
    function: str = "LINEAR"


def groups(dataset: Any, frame: int) -> list[Any]:
    """Get the functional groups of a frame: its own, then the shared ones; empty for a plain image."""
    found = []
    own = dataset.get("PerFrameFunctionalGroupsSequence")
    if own and frame < len(own):
        found.append(own[frame])
    shared = dataset.get("SharedFunctionalGroupsSequence")
    if shared:
        found.append(shared[0])
    return found


def from_groups(dataset: Any, frame: int, sequence: str) -> Any:
    """Get the first item of a functional group macro for a frame, or None."""
    for group in groups(dataset, frame):
        items = group.get(sequence)
        if items:
            return items[0]
    return None


def modality(stored: np.ndarray, dataset: Any, frame: int) -> tuple[np.ndarray, str, list[str]]:
    """Get modality values as float32 or float64, their unit, and notes."""
    macro = from_groups(dataset, frame, "PixelValueTransformationSequence")
    source = dataset if macro is None else macro
    luts = source.get("ModalityLUTSequence")
    if luts:
        values = through_lut(stored, luts[0], dataset)
        return values.astype(np.float32), _unit(luts[0].get("ModalityLUTType"), dataset), ["a modality LUT was applied"]
    slope, intercept = number(source, "RescaleSlope"), number(source, "RescaleIntercept")
    unit = _unit(source.get("RescaleType"), dataset)
    notes: list[str] = []
    if slope == 0:
        notes.append("its rescale slope is 0 and was taken as 1")
        slope = 1.0
    slope = 1.0 if slope is None else slope
    intercept = 0.0 if intercept is None else intercept
    exact = np.float64 if stored.dtype.itemsize > 2 else np.float32
    if (slope, intercept) == (1.0, 0.0):
        return stored.astype(exact), unit, notes
    return (stored.astype(np.float64) * slope + intercept).astype(exact), unit, notes


def _unit(kind: Any, dataset: Any) -> str:
    word = str(kind or "").strip()
    which = str(dataset.get("Modality", ""))
    if which == "PT":
        return str(dataset.get("Units", "") or "value")
    if which == "RTDOSE":
        return str(dataset.get("DoseUnits", "") or "value")
    if not word and which == "CT":
        return "HU"
    return _UNITS.get(word, word)


def dose(values: np.ndarray, dataset: Any) -> tuple[np.ndarray, list[str]]:
    """Scale an RT dose by DoseGridScaling."""
    scaling = number(dataset, "DoseGridScaling")
    if scaling is None or str(dataset.get("Modality", "")) != "RTDOSE":
        return values, []
    return values * scaling, [f"scaled by DoseGridScaling to {dataset.get('DoseUnits', 'dose')}"]


def number(dataset: Any, keyword: str) -> float | None:
    """Get the first finite number of an element, or None; a text that is no number counts as absent."""
    try:
        value = dataset.get(keyword)
        if value is None or value == "":
            return None
        if not isinstance(value, (str, int, float)) and hasattr(value, "__len__"):
            if len(value) == 0:
                return None
            value = value[0]
        result = float(value)
    except (TypeError, ValueError, AttributeError):
        return None
    return result if np.isfinite(result) else None


def through_lut(values: np.ndarray, item: Any, dataset: Any) -> np.ndarray:
    """Look values up in a LUT item; what lies outside takes its first or last entry."""
    entries, first, _ = lut_of(item, dataset)
    place = np.rint(values).astype(np.int64) - first
    return entries[np.clip(place, 0, len(entries) - 1)]


def lut_of(item: Any, dataset: Any) -> tuple[np.ndarray, int, int]:
    """Get (entries, first value mapped, bits an entry) of a LUT item."""
    count, first, bits = (int(n) for n in item.LUTDescriptor)
    count = count or 65536
    if number(dataset, "PixelRepresentation") == 1 and first > 32767:
        first -= 65536
    data = item.LUTData
    if isinstance(data, (bytes, bytearray)):
        order = "<" if dataset.original_encoding[1] is not False else ">"
        wide = len(data) >= 2 * count
        entries = np.frombuffer(data, dtype=f"{order}u2" if wide else "u1")
    else:
        entries = np.atleast_1d(np.asarray(data)).astype(np.int64) & 0xFFFF
        if len(entries) * 2 == count and bits <= 8:
            entries = entries.astype("<u2").view(np.uint8)
    if len(entries) == 0:
        raise ValueError("a LUT has no entries")
    return entries[:count].astype(np.float32), first, max(bits, int(entries.max()).bit_length(), 1)


def padding(stored: np.ndarray, dataset: Any, layout: Layout) -> np.ndarray | None:
    """Get where a stored value is padding, or None when the file names none that occurs."""
    value, limit = number(dataset, "PixelPaddingValue"), number(dataset, "PixelPaddingRangeLimit")
    if value is None or layout.samples != 1 or layout.photometric == "PALETTE COLOR":
        return None
    low, high = sorted((_as_stored(value, layout), _as_stored(value if limit is None else limit, layout)))
    where = (stored >= low) & (stored <= high)
    return where if where.any() and not where.all() else None


def _as_stored(value: float, layout: Layout) -> float:
    if layout.signed and value >= 2 ** (layout.stored - 1):
        return value - 2 ** (16 if value >= 2**15 and layout.stored <= 16 else layout.stored)
    if not layout.signed and value < 0:
        return value + 2**layout.allocated
    return value


def fill(values: np.ndarray, empty: np.ndarray | None) -> tuple[np.ndarray, list[str]]:
    """Give padding the lowest value of the rest."""
    if empty is None:
        return values, []
    lowest = values[~empty].min()
    return np.where(empty, lowest, values), [f"{int(empty.sum())} padding pixels became the lowest value"]


def window_of(dataset: Any, frame: int) -> tuple[Window | None, Any, list[str]]:
    """Get the file's first window, or its first VOI LUT, and notes when there are several."""
    macro = from_groups(dataset, frame, "FrameVOILUTSequence")
    source = dataset if macro is None else macro
    luts = source.get("VOILUTSequence")
    center, width = number(source, "WindowCenter"), number(source, "WindowWidth")
    function = str(source.get("VOILUTFunction", "") or "LINEAR").strip().upper()
    if luts and luts[0].get("LUTData") is not None:
        several = [f"the first of {len(luts)} VOI LUTs was used"] if len(luts) > 1 else []
        return None, luts[0], several
    if center is None or width is None:
        return None, None, []
    if width < 1 and function == "LINEAR" or width <= 0:
        return None, None, [f"its window width is {width:g}, which no window may have; it was ignored"]
    listed = source.get("WindowCenter")
    count = 1 if isinstance(listed, (str, int, float)) else len(listed)
    notes = [f"the first of {count} windows was used ({center:g} / {width:g})"] if count > 1 else []
    return Window(center, width, function), None, notes


def through_window(values: np.ndarray, window: Window) -> np.ndarray:
    """Get values in 0..1 (PS3.3 C.11.2.1.2 and C.11.2.1.3).

    Example:
        >>> through_window(np.array([-160.0, 40.0, 240.0]), Window(40, 400, "LINEAR_EXACT")).tolist()
        [0.0, 0.5, 1.0]
    """
    center, width = window.center, window.width
    values = values.astype(np.float64)
    if window.function == "SIGMOID":
        with np.errstate(over="ignore"):
            return 1.0 / (1.0 + np.exp(-4.0 * (values - center) / width))
    if window.function == "LINEAR_EXACT":
        return np.clip((values - center) / width + 0.5, 0.0, 1.0)
    if width <= 1:
        return (values > center - 0.5).astype(np.float64)
    return np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0.0, 1.0)


def displayed(
    values: np.ndarray,
    empty: np.ndarray | None,
    dataset: Any,
    layout: Layout,
    frame: int,
    wish: tuple[float, float] | None,
) -> tuple[np.ndarray, list[str]]:
    """Get what a monitor shows, in 0..1, of modality values `(H, W)`."""
    window, lut, notes = (Window(*wish, "LINEAR_EXACT"), None, []) if wish else window_of(dataset, frame)
    if lut is not None:
        _, _, bits = lut_of(lut, dataset)
        shown = through_lut(values, lut, dataset) / (2**bits - 1)
        notes = [*notes, "a VOI LUT was applied"]
    elif window is not None:
        shown = through_window(values, window)
    else:
        low, high, more = _own_range(values, empty, layout)
        shown = np.clip((values.astype(np.float64) - low) / (high - low), 0.0, 1.0)
        notes = [*notes, *more]
    if inverted(dataset, layout):
        shown = 1.0 - shown
        notes = [*notes, "inverted, for low values are white in this file"]
    if empty is not None:
        shown = np.where(empty, 0.0, shown)
    return shown.astype(np.float32), notes


def _own_range(values: np.ndarray, empty: np.ndarray | None, layout: Layout) -> tuple[float, float, list[str]]:
    if layout.stored <= 8 and values.min() >= 0 and values.max() <= 2**layout.stored - 1:
        return 0.0, float(2**layout.stored - 1), []
    low, high = robust_range(values if empty is None else values[~empty])
    return low, high, [f"no window in the file: shown from {low:g} to {high:g}, its 0.5 and 99.5 percentiles"]


def inverted(dataset: Any, layout: Layout) -> bool:
    """Tell whether low values are white: MONOCHROME1, or a presentation LUT that inverts. Both together invert once."""
    shape = str(dataset.get("PresentationLUTShape", "") or "").strip().upper()
    return layout.photometric == "MONOCHROME1" or shape == "INVERSE"


def cleaned(values: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Replace what is not finite; see `form.finite`."""
    values, notes = finite(values)
    return values, list(notes)
