"""DICOM series and multi-frame volumes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.sequence import Sequence as Items
from zoo_case import Case, noise, save
from zoo_dicom import dataset, dcm, item, written

ROWS, COLUMNS, GAP, SPACING = 10, 13, 2.5, (0.5, 0.75)
ALONG = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
TILT = np.deg2rad(20)
TILTED = [1.0, 0.0, 0.0, 0.0, float(np.cos(TILT)), float(-np.sin(TILT))]
STACK = (noise(6, ROWS, COLUMNS, seed=61, top=2000, dtype=np.int16) - 500).astype(np.int16)
VOLUME = STACK[None].astype(np.float32)


def slice_bytes(pixels: np.ndarray, position: Any, **facts: Any) -> bytes:
    """Get one slice; `facts` win."""
    given = {"ImageOrientationPatient": ALONG, "PixelSpacing": list(SPACING), **facts}
    return dcm(pixels, ImagePositionPatient=[float(v) for v in position], **given)


def series(
    places: list[float], *, names: list[str] | None = None, each: Callable[[int], dict[str, Any]] | None = None
) -> Callable[[Path], None]:
    """Make a folder of slices at heights `places`, slice k holding `STACK[k]`."""

    def make(folder: Path) -> None:
        folder.mkdir()
        for k, height in enumerate(places):
            facts = {"InstanceNumber": 100 - k, **(each(k) if each else {})}
            name = names[k] if names else f"{k:03d}.dcm"
            (folder / name).write_bytes(slice_bytes(STACK[k % len(STACK)], [-10, -20, height], **facts))

    return make


def field(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """A body whose value is known everywhere, linear so that interpolation is exact."""
    return 3 * x + 5 * y + 7 * z + 400


def tilted(folder: Path) -> None:
    """Slices of `field` by a gantry tilted by 20 degrees: the table moves along z, the planes lean."""
    folder.mkdir()
    row, column = np.array(TILTED[:3]), np.array(TILTED[3:])
    for k in range(6):
        corner = np.array([-10.0, -20.0, 3.0 * k])
        h, w = np.mgrid[0:40, 0:13]
        points = corner[:, None, None] + row[:, None, None] * w * 0.75 + column[:, None, None] * h * 0.5
        pixels = np.rint(field(*points) * 20).astype(np.int16)
        data = slice_bytes(pixels, corner, ImageOrientationPatient=TILTED, RescaleSlope=0.05, RescaleIntercept=0)
        (folder / f"{k}.dcm").write_bytes(data)


def upright() -> np.ndarray:
    """What the corrected volume holds: `field` where the slices were, the lowest value outside."""
    out = np.full((6, 40, 13), np.nan)
    row, column = np.array(TILTED[:3]), np.array(TILTED[3:])
    normal = np.cross(row, column)
    step = 3.0 * float(normal[2])
    for k in range(6):
        drift = 3.0 * k * float(column[2]) / 0.5  # pixels down the column
        for h in range(40):
            if 0 <= h - drift <= 39:
                for w in range(13):
                    point = np.array([-10.0, -20.0, 0.0]) + normal * step * k + column * h * 0.5 + row * w * 0.75
                    out[k, h, w] = field(*point)
    return np.where(np.isnan(out), np.nanmin(_seen()), out)[None]


def _seen() -> np.ndarray:
    h, w = np.mgrid[0:40, 0:13]
    row, column = np.array(TILTED[:3]), np.array(TILTED[3:])
    stack = []
    for k in range(6):
        corner = np.array([-10.0, -20.0, 3.0 * k])
        stack.append(field(*(corner[:, None, None] + row[:, None, None] * w * 0.75 + column[:, None, None] * h * 0.5)))
    return np.stack(stack)


def enhanced(heights: list[float], *, slopes: list[float] | None = None) -> bytes:
    """Get a multi-frame file with a position (and a rescale) for each frame."""
    frames = []
    for k, height in enumerate(heights):
        group = item(PlanePositionSequence=Items([item(ImagePositionPatient=[-10, -20, height])]))
        if slopes:
            one = item(RescaleSlope=slopes[k], RescaleIntercept=-10, RescaleType="HU")
            group.PixelValueTransformationSequence = Items([one])
        frames.append(group)
    shared = item(
        PlaneOrientationSequence=Items([item(ImageOrientationPatient=ALONG)]),
        PixelMeasuresSequence=Items([item(PixelSpacing=list(SPACING), SliceThickness=1)]),
    )
    ds = dataset(
        STACK[: len(heights)],
        SOPClassUID="1.2.840.10008.5.1.4.1.1.2.1",
        PerFrameFunctionalGroupsSequence=Items(frames),
        SharedFunctionalGroupsSequence=Items([shared]),
    )
    return written(ds, STACK[: len(heights)].astype("<i2").tobytes())


def _other_size(folder: Path) -> None:
    series([0, 2.5, 5])(folder)
    (folder / "zz.dcm").write_bytes(slice_bytes(STACK[0][:8], [-10, -20, 7.5]))


def _with_localizer(folder: Path) -> None:
    series([k * GAP for k in range(6)])(folder)
    scout = slice_bytes(
        STACK[0], [0, 0, 0], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], ImageOrientationPatient=[0, 1, 0, 0, 0, -1]
    )
    (folder / "scout.dcm").write_bytes(scout)


def _no_position(folder: Path) -> None:
    series([0, 2.5, 5])(folder)
    (folder / "zz.dcm").write_bytes(dcm(STACK[0]))


def cases() -> list[Case]:
    """All animals of this module."""
    even = [k * GAP for k in range(6)]
    uneven = [0.0, 2.5, 5.0, 7.52, 10.1, 12.5]
    gap = [0.0, 2.5, 5.0, 10.0, 12.5, 15.0]
    filled = np.concatenate([STACK[:3], (STACK[2:3] + STACK[3:4].astype(np.float32)) / 2, STACK[3:]])[None]
    turned = [0.0, 1.0, 0.0, -1.0, 0.0, 0.0]
    mixed = ["c.dcm", "a.dcm", "f.dcm", "b.dcm", "e.dcm", "d.dcm"]
    slopes = [1.0, 2.0, 0.5, 1.5, 3.0, 1.0]
    scaled = (STACK * np.array(slopes)[:, None, None] - 10)[None]
    shuffled = [5.0, 0.0, 2.5, 10.0, 7.5, 12.5]
    order = np.argsort(shuffled)
    return [
        Case("plain-series", series(even), VOLUME, series=True),
        Case("names-lie", series(even, names=mixed), VOLUME, series=True),
        Case("reversed", series(even[::-1]), VOLUME[:, ::-1], series=True),
        Case("slightly-uneven", series(uneven), VOLUME, series=True, note="distances of slices differ"),
        Case("missing-slice", series(gap), refused="5.00 mm between 002.dcm and 003.dcm", series=True),
        Case(
            "missing-slice",
            series(gap),
            filled,
            series=True,
            options={"allow_gaps": True},
            within=1e-3,
            note="resampled to 7",
        ),
        Case("twice", series([0, 2.5, 2.5, 5, 7.5, 10]), refused="001.dcm and 002.dcm", series=True),
        Case("other-size", _other_size, refused="is 8 x 13, other slices", series=True),
        Case(
            "other-series",
            series(even, each=lambda k: {"SeriesInstanceUID": f"1.2.{k // 5}"}),
            refused="belongs to another series",
            series=True,
        ),
        Case(
            "turned-slice",
            series(even, each=lambda k: {"ImageOrientationPatient": turned} if k == 3 else {}),
            refused="003.dcm is turned",
            series=True,
        ),
        Case(
            "other-spacing",
            series(even, each=lambda k: {"PixelSpacing": [0.6, 0.75]} if k == 2 else {}),
            refused="002.dcm has another pixel spacing",
            series=True,
        ),
        Case("no-position", _no_position, refused="has no position", series=True),
        Case("with-localizer", _with_localizer, VOLUME, series=True, note="scout.dcm is a localizer"),
        Case(
            "slope-each",
            series(even, each=lambda k: {"RescaleSlope": slopes[k], "RescaleIntercept": -10}),
            scaled,
            series=True,
            within=1e-3,
        ),
        Case(
            "own-window",
            series(even, each=lambda _k: {"WindowCenter": 40, "WindowWidth": 400}),
            VOLUME,
            series=True,
            range=(-160, 240),
        ),
        Case("given-window", series(even), VOLUME, series=True, range=(-50, 50), options={"window": (0, 100)}),
        Case("tilted-gantry", tilted, upright(), series=True, within=0.1, note="tilted by 20.0 degrees"),
        Case("one-slice", series([0.0]), VOLUME[:, :1], series=True, note="single slice"),
        Case("enhanced.dcm", save(enhanced(even)), VOLUME),
        Case("enhanced-shuffled.dcm", save(enhanced(shuffled)), VOLUME[:, order]),
        Case("enhanced-slopes.dcm", save(enhanced(even, slopes=slopes)), scaled, within=1e-3),
        Case("enhanced-times.dcm", save(enhanced([0, 2.5, 5, 0, 2.5, 5])), refused="lie at the same place"),
        Case("enhanced-one-place.dcm", save(enhanced([0, 0, 0])), refused="holds 3 frames"),
        Case("enhanced-gap.dcm", save(enhanced(gap)), refused="slices are missing"),
        Case(
            "enhanced-frame.dcm",
            save(enhanced(even, slopes=slopes)),
            scaled[:, 4],
            index=4,
            within=1e-3,
            options={"values": True},
        ),
    ]
