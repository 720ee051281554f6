"""Write a set of volumes: scans as NIfTI or DICOM series, label maps, and tables of scans, lesions and boxes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medgraft import files
from medgraft.errors import BadRecipe
from medgraft.phantoms import KINDS
from medgraft.phantoms.case import STAMP, Case, Nodule
from medgraft.phantoms.write import claim
from medgraft.storage import write_table

SIZE = 192
_SMALLEST = 32
_FORMS = ("nifti", "dicom")
_EFFORT = 1
_LOWEST = -1024
_PARTS = (
    "images/       the scans in HU, NAME.nii.gz, or a folder of DICOM slices each\n"
    "masks/        lesions, NAME.nii.gz; 0 is background, k is the lesion whose value in lesions.csv is k\n"
    "anatomy/      organs, NAME.nii.gz, by the numbers {organs}\n"
    "manifest.csv  path, label, patient and what else is known\n"
    "lesions.csv   one row a lesion: centre in voxels (0 is the centre of the first), in RAS and in LPS mm, diameter\n"
    "boxes.csv     one row a box: its edges in voxels; voxel k reaches from k to k + 1; empty where there is none\n"
)
_LESION = ("path", "kind", "value", "x_voxel", "y_voxel", "z_voxel")
_LESION += tuple(f"{axis}_{space}_mm" for space in ("ras", "lps") for axis in "xyz")
_LESION += ("diameter_mm", "texture", "margin", "attachment")
_CORNERS = ("x0", "y0", "z0", "x1", "y1", "z1")
_BOX = ("path", "label", *_CORNERS, "patient")

Rows = tuple[dict[str, object], list[dict[str, object]], list[dict[str, object]]]


def write_volumes(
    kind: str,
    *,
    count: int,
    out: Path,
    seed: int,
    size: int | None,
    form: str,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write `count` volumes and their truth into the folder `out`; get the path of `manifest.csv`.

    Args:
        kind: a name in `VOLUMES`.
        count: how many scans.
        out: a folder that is absent, empty, or holds this very set.
        seed: another seed, other scans.
        size: width and height in voxels, 192 when None; there are half as many slices.
        form: "nifti" or "dicom".
        progress: is told (scans done, scans in all).

    Raises:
        BadRecipe: count, size or form cannot be.
        RunRefused: the folder holds something else.
    """
    size = SIZE if size is None else size
    if count < 1 or size < _SMALLEST:
        raise BadRecipe(
            f"{count} phantoms of {size} x {size} voxels cannot be made",
            do=f"Ask for at least 1 scan of at least {_SMALLEST} voxels across.",
        )
    if form not in _FORMS:
        raise BadRecipe(f"phantoms of {kind} are not written as {form!r}", do=f"Choose one of {', '.join(_FORMS)}.")
    draw = partial(KINDS[kind], seed=seed, size=size)
    about = f"kind {kind}, count {count}, seed {seed}, size {size}, form {form}"
    organs = ", ".join(f"{value} {name}" for value, name in enumerate(_organs(kind)))
    claim(out, about, parts=_PARTS.format(organs=organs))
    rows, lesions, boxes = [], [], []
    for done, (row, some, more) in enumerate(_saved(draw, out, form, count), start=1):
        rows.append(row)
        lesions += some
        boxes += more
        if progress:
            progress(done, count)
    write_table(out / "lesions.csv", lesions, columns=_LESION)
    write_table(out / "boxes.csv", boxes, columns=_BOX)
    manifest = out / "manifest.csv"
    write_table(manifest, rows, columns=list(rows[0]))
    return manifest


def _organs(kind: str) -> tuple[str, ...]:
    """Get the names of the values of the map of organs, which every case of a kind shares."""
    import sys

    return sys.modules[KINDS[kind].__module__].ANATOMY


def _saved(draw: Callable[[int], Case], out: Path, form: str, count: int) -> Iterator[Rows]:
    """Yield the rows of each case once it is on the disk; one is compressed and written while the next is drawn."""
    waiting: Future[Rows] | None = None
    with ThreadPoolExecutor(1) as pool:
        for index in range(count):
            case = draw(index)
            if waiting is not None:
                yield waiting.result()
            waiting = pool.submit(_save, case, out, form)
        if waiting is not None:
            yield waiting.result()


def _save(case: Case, out: Path, form: str) -> Rows:
    """Write one case and get its rows."""
    assert case.affine is not None and case.boxes is not None
    if form == "dicom":
        path = f"images/{case.name}"
        _save_series(out / path, case)
    else:
        path = f"images/{case.name}.nii.gz"
        files.save_nifti(out / path, case.pixels, affine=case.affine, note=STAMP, effort=_EFFORT)
    maps = {"masks": case.mask, "anatomy": case.anatomy}
    for folder, values in maps.items():
        if values is not None:
            target = out / folder / f"{case.name}.nii.gz"
            files.save_nifti(target, values, affine=case.affine, note=STAMP, effort=_EFFORT)
    row: dict[str, object] = {"path": path, "label": case.label, "patient": case.patient, **case.covariates}
    row["mask"] = f"masks/{case.name}.nii.gz"
    own: dict[str, object] = {"path": path, "patient": case.patient}
    boxes: list[dict[str, object]] = [
        {**own, "label": label, **dict(zip(_CORNERS, map(int, corners), strict=True))}
        for label, corners in zip(case.boxes.labels, case.boxes.corners, strict=True)
    ]
    boxes = boxes or [own]  # a row without corners says that there is none
    return row, [_lesion(path, value, one) for value, one in enumerate(case.lesions, start=1)], boxes


def _lesion(path: str, value: int, one: Any) -> dict[str, object]:
    assert isinstance(one, Nodule)
    voxels = (one.column, one.row, one.slice)
    lps = (-one.ras_mm[0], -one.ras_mm[1], one.ras_mm[2])
    numbers = [round(number, 3) for number in (*voxels, *one.ras_mm, *lps, 2 * one.radius)]
    return dict(zip(_LESION, (path, one.kind, value, *numbers, one.texture, one.margin, one.attachment), strict=True))


def _save_series(folder: Path, case: Case) -> None:
    assert case.affine is not None
    stored = (case.pixels.astype(np.int32) - _LOWEST).astype(np.uint16)
    known = case.covariates
    facts = {
        "Modality": "CT",
        "PatientID": case.patient,
        "PatientName": f"PHANTOM^{case.patient.upper()}",
        "PatientSex": known.get("sex", "O"),
        "PatientAge": f"{int(known.get('age', 0)):03d}Y",
        "BodyPartExamined": "CHEST",
        "StudyDescription": "PHANTOM",
        "SeriesDescription": f"PHANTOM {known.get('kernel', '')} {known.get('dose', '')} dose",
        "ImageComments": STAMP,
        "ImageType": ["DERIVED", "SECONDARY", "AXIAL"],
        "ConvolutionKernel": known.get("kernel", ""),
        "PatientPosition": "HFS",
        "RescaleIntercept": str(_LOWEST),
        "RescaleSlope": "1",
        "RescaleType": "HU",
        "WindowCenter": "-500",
        "WindowWidth": "1500",
    }
    files.write_series(folder, stored, affine=case.affine, facts=facts)
