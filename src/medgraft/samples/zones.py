"""Severities of zones: from columns of a table, or measured on masks."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medgraft.errors import BadData, BadTable
from medgraft.samples.dataset import DataSet, as_number, some
from medgraft.samples.words import missing
from medgraft.values import ImageRef, Sample

GRID = (3, 2)  # of masks, where no other is asked for: the zones of two lungs
_NAMED = re.compile(r"z(one)?[ _-]?(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class ZoneColumns:
    """Where severities of zones come from; all empty finds columns such as z1 or zone_1.

    Attributes:
        columns: of the severities, down the first column of the grid, then on.
        mask: column of masks of what makes a zone severe.
        region: column of masks of the organ whose bounding box the grid parts; None parts the image.
        grid: rows and columns of the zones of masks.
    """

    columns: tuple[str, ...] | None = None
    mask: str | None = None
    region: str | None = None
    grid: tuple[int, int] | None = None


def with_zones(dataset: DataSet, asked: ZoneColumns) -> DataSet:
    """Get the samples with the severities of their zones, which are covariates no longer.

    A sample without a label whose zones are known gets the label "": its diagnosis is unknown.

    Raises:
        BadData: there are no zones, or a mask cannot be used.
        BadTable: a column is not there, or a severity is no number; the samples are named.
    """
    present = list(dict.fromkeys(name for sample in dataset.samples for name in sample.covariates))
    wanted = asked.columns or ((asked.mask, *filter(None, [asked.region])) if asked.mask else ())
    lost = [name for name in wanted if name not in present]
    if lost:
        listed = f"The columns are {', '.join(present)}." if present else "The data have no further columns."
        raise BadTable(f"column {lost[0]!r} is not there", where=dataset.root, do=listed)
    names = list(asked.columns or ([] if asked.mask else named_zones(present)))
    if not names and not asked.mask:
        raise BadData(
            "no column holds the severity of a zone",
            where=dataset.root,
            do="Name columns z1, z2 ..., or set zones.columns, or zones.mask_column for masks.",
        )
    zones = _of_columns(dataset, names) if names else _of_masks(dataset, asked)
    used = {*names, *_sums(dataset.samples, zones)}
    samples = []
    for sample, own in zip(dataset.samples, zones, strict=True):
        known = any(math.isfinite(value) for value in own.values())
        label = "" if sample.label is None and known else sample.label
        rest = {name: value for name, value in sample.covariates.items() if name not in used}
        samples.append(replace(sample, zones=own, label=label, covariates=rest))
    return replace(dataset, samples=tuple(samples), notes=(*dataset.notes, _note(names, samples, asked)))


def named_zones(columns: Sequence[str]) -> list[str]:
    """Get the columns that are named like zones, by their numbers.

    Example:
        >>> named_zones(["z2", "zoom", "Zone 10", "z1", "size"])
        ['z1', 'z2', 'Zone 10']
    """
    found = {name: int(match[2]) for name in columns if (match := _NAMED.fullmatch(name.strip()))}
    return sorted(found, key=lambda name: found[name])


def zone_shares(opaque: np.ndarray, grid: tuple[int, int], *, region: np.ndarray | None = None) -> np.ndarray:
    """Get the share of each zone that a mask covers, `(rows * columns,)` float64.

    Zones are counted down the first column of the grid, then down the next: on a chest film the right lung comes
    first, which is on the left.

    Args:
        opaque: booleans `(H, W)`.
        grid: rows and columns.
        region: booleans `(H, W)`: the grid parts their bounding box, and a zone is what lies in its cell and in them;
            None parts the whole image. A zone without a pixel is NaN.

    Example:
        >>> mask = np.zeros((6, 4), bool)
        >>> mask[:2, :1] = True
        >>> zone_shares(mask, (3, 2)).tolist()
        [0.5, 0.0, 0.0, 0.0, 0.0, 0.0]
    """
    inside = np.ones(opaque.shape, dtype=bool) if region is None else region
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    found = np.full(grid[0] * grid[1], np.nan)
    if not len(rows):
        return found
    down = np.rint(np.linspace(rows[0], rows[-1] + 1, grid[0] + 1)).astype(int)
    across = np.rint(np.linspace(columns[0], columns[-1] + 1, grid[1] + 1)).astype(int)
    for place in range(len(found)):
        column, row = divmod(place, grid[0])
        cell = slice(down[row], down[row + 1]), slice(across[column], across[column + 1])
        if inside[cell].any():
            found[place] = opaque[cell][inside[cell]].mean()
    return found


def _of_columns(dataset: DataSet, names: Sequence[str]) -> list[dict[str, float]]:
    found, strange = [], []
    for sample in dataset.samples:
        own = {}
        for name in names:
            text = (sample.covariates.get(name) or "").strip()
            value = math.nan if missing(text) else as_number(text)
            if value is None:
                strange.append(f"{name} of {sample.key}: {text!r}")
                value = math.nan
            own[name] = value
        found.append(own)
    if strange:
        raise BadTable(f"{len(strange)} severities are no numbers ({some(strange)})", where=dataset.root)
    return found


def _of_masks(dataset: DataSet, asked: ZoneColumns) -> list[dict[str, float]]:
    """Measure them; where a mask is not named they are unknown."""
    grid = asked.grid or GRID
    names = [f"z{place + 1}" for place in range(grid[0] * grid[1])]
    found = []
    for sample in dataset.samples:
        opaque = _mask(dataset.root, sample, asked.mask)
        region = _mask(dataset.root, sample, asked.region)
        if opaque is None or (asked.region and region is None):
            found.append(dict.fromkeys(names, math.nan))
            continue
        if region is not None and region.shape != opaque.shape:
            raise BadData(f"the masks of {sample.key} have {opaque.shape} and {region.shape} pixels")
        found.append(dict(zip(names, zone_shares(opaque, grid, region=region).tolist(), strict=True)))
    return found


def _mask(root: Path, sample: Sample, column: str | None) -> np.ndarray | None:
    from medgraft import files

    text = (sample.covariates.get(column) or "").strip() if column else ""
    if missing(text):
        return None
    if not (root / text).is_file():
        do = "Mend its path, or leave it empty."
        raise BadData(f"the mask of {sample.key} is not there", where=root / text, do=do)
    return files.read_image(ImageRef(root / text)).pixels.max(axis=0) > 0


def _sums(samples: Sequence[Sample], zones: Sequence[Mapping[str, float]]) -> set[str]:
    """Columns that hold the sum of the zones: as covariates they would give the answer away."""
    totals = [sum(own.values()) for own in zones]
    rows = [row for row, total in enumerate(totals) if math.isfinite(total)]
    return {
        name
        for name in (samples[rows[0]].covariates if rows else ())
        if len({totals[row] for row in rows}) > 1
        and all(as_number(samples[row].covariates.get(name)) == totals[row] for row in rows)
    }


def _note(names: Sequence[str], samples: Sequence[Sample], asked: ZoneColumns) -> str:
    count = sum(any(math.isfinite(value) for value in sample.zones.values()) for sample in samples)
    where = f"read from {', '.join(names)}" if names else f"measured on the masks of {asked.mask!r}"
    return f"severities of zones are {where}; {count} of {len(samples)} images have some"
