"""What was outlined, in a folder: the label map, outlines for QuPath, a picture, measures and features."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medgraft import storage
from medgraft.files import save_nifti, save_png
from medgraft.files.write_outlines import OutlinedShape, write_outlines
from medgraft.nets.prompter import Candidates
from medgraft.outlining.form import Found
from medgraft.outlining.seen import Seen
from medgraft.report.outlines import beside, by_number, filled, things
from medgraft.samples.contours import pieces_of
from medgraft.samples.measures import columns_of, measured
from medgraft.samples.textures import BINS, features

_SHOWN = 5  # slices of a volume in its picture
_MANY = 24  # structures whose boundaries alone are drawn: fillings would hide what is there
_LONGEST = 2048  # side of overlay.png


def rows_of(seen: Seen, labels: np.ndarray, structures: Sequence[Found] = ()) -> list[dict[str, Any]]:
    """Get the rows of measures.csv: what each structure measures, and what its model says of it."""
    rows = measured(labels, seen.values, grid=seen.grid)
    for row in rows:
        row["unit"] = seen.unit
        if structures:
            one = structures[row["structure"] - 1]
            row |= {"quality": one.quality, "stability": one.stability, **one.told}
    return rows


def feature_rows(
    seen: Seen, labels: np.ndarray, *, bins: int = BINS, bin_width: float | None = None
) -> list[dict[str, Any]]:
    """Get the rows of features.csv: radiomic features of each structure, of colours those of their mean."""
    from scipy.ndimage import find_objects

    steps = seen.grid.spacing_mm or (1.0,) * labels.ndim
    values = seen.values.mean(axis=0, dtype=np.float64)
    rows = []
    for number, part in enumerate(find_objects(labels), start=1):
        if part is not None:
            found = features(
                values[part], labels[part] == number, spacing=steps[-labels.ndim :], bins=bins, bin_width=bin_width
            )
            rows.append({"structure": number, **found})
    return rows


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a table, numbers with as many digits as they are worth."""
    columns = columns_of([dict(row) for row in rows]) or ["structure"]
    storage.write_table(path, [{name: _cell(value) for name, value in row.items()} for row in rows], columns=columns)


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.8g}" if math.isfinite(value) else ""
    return value


def write_all(out: Path, seen: Seen, labels: np.ndarray, *, rows: Sequence[dict[str, Any]], axis: str) -> None:
    """Write the label map, outlines.geojson, overlay.png and measures.csv into a folder."""
    write_label_map(out, seen, labels)
    write_outlines(out / "outlines.geojson", shapes_of(labels, rows), name=Path(seen.image.source).name)
    save_png(out / "overlay.png", overlay(seen, labels, axis=axis))
    write_rows(out / "measures.csv", rows)


def write_label_map(out: Path, seen: Seen, labels: np.ndarray) -> Path:
    """Write a label map on the grid of its image: mask.png, or mask.nii.gz of a volume."""
    if seen.flat:
        save_png(out / "mask.png", labels)
        return out / "mask.png"
    kind = labels if labels.dtype == np.uint8 else labels.astype(np.int16 if labels.max() < 2**15 else np.int32)
    words: dict[str, Any] = {"affine": seen.image.affine, "spacing_mm": seen.image.spacing_mm}
    save_nifti(out / "mask.nii.gz", kind, note="structures outlined by medgraft", **words)
    return out / "mask.nii.gz"


def shapes_of(labels: np.ndarray, rows: Sequence[Mapping[str, Any]]) -> list[OutlinedShape]:
    """Get the outlines of a label map; of a volume, of each slice of the file."""
    by_structure = {row["structure"]: row for row in rows}
    shapes = []
    planes = [(None, labels)] if labels.ndim == 2 else list(enumerate(labels))
    for plane, layer in planes:
        for number in np.unique(layer[layer > 0]).tolist():
            pieces = pieces_of(layer == number)
            polygons = [[piece.outer.tolist(), *(hole.tolist() for hole in piece.holes)] for piece in pieces]
            row = by_structure.get(number, {}) if plane is None else {}
            numbers = {name: float(row[name]) for name in _NUMBERS if isinstance(row.get(name), int | float)}
            shapes.append(OutlinedShape(f"structure {number}", polygons, numbers, plane))
    return shapes


_NUMBERS = ("pixels", "area_mm2", "perimeter_mm", "mean", "sd", "quality")


def overlay(seen: Seen, labels: np.ndarray, *, axis: str = "axial") -> np.ndarray:
    """Get a picture with the structures drawn in; of a volume some slices through them side by side, `(H, W, 3)`."""
    if seen.flat:
        return _drawn(seen.picture, labels)
    slices = seen.along(labels, axis)
    there = np.flatnonzero(slices.any(axis=(1, 2)))
    there = there if len(there) else np.array([len(slices) // 2])
    chosen = there[np.unique(np.linspace(0, len(there) - 1, _SHOWN).round().astype(int))].tolist()
    return beside(*(_drawn(seen.slice(level, axis), np.ascontiguousarray(slices[level])) for level in chosen))


def _drawn(picture: np.ndarray, labels: np.ndarray) -> np.ndarray:
    step = -(-max(labels.shape) // _LONGEST)
    picture, labels = picture[::step, ::step], labels[::step, ::step]
    count = int(labels.max(initial=0))
    return things(picture, labels) if count > _MANY else filled(picture, by_number(labels, count))


def write_candidates(out: Path, told: Sequence[Candidates]) -> list[dict[str, Any]]:
    """Write all that each prompt may mean: a mask each, 0 and 255, and candidates.csv; get its rows."""
    rows = []
    for structure, one in enumerate(told, start=1):
        for number, mask in enumerate(one.masks, start=1):
            name = f"candidate-{structure}-{number}.png"
            save_png(out / name, np.where(mask, 255, 0).astype(np.uint8))
            row = {"structure": structure, "candidate": number, "file": name, "pixels": int(mask.sum())}
            more = {"quality": float(one.quality[number - 1]), "stability": float(one.stability[number - 1])}
            rows.append({**row, **more, "chosen": int(number - 1 == one.best)})
    write_rows(out / "candidates.csv", rows)
    return rows
