"""Write a set of phantoms: images, masks, a table in medgraft's own layout, and the list of lesions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from medgraft import files
from medgraft.errors import BadRecipe, RunRefused
from medgraft.files.write_boxes import Pictured, write_coco, write_voc
from medgraft.phantoms import KINDS, VOLUMES
from medgraft.phantoms.case import STAMP, Case
from medgraft.phantoms.slides import write_slides
from medgraft.storage import write_table, write_text

_SMALLEST = 32
_FORMS = ("png", "png16", "dicom", "slide")
_THREADS = 2
_EFFORT = 2
_FACTS = {"Software": "medgraft phantoms", "Comment": STAMP}

_FILES = (
    "images/       the pictures\n"
    "masks/        lesions, same names; 0 is background, the other values are in lesions.csv\n"
    "anatomy/      organs, same names, where the kind has them\n"
    "manifest.csv  path, label, patient and what else is known\n"
    "lesions.csv   one row a lesion: kind, value in the mask, centre and radius in pixels\n"
)
_BOX_FILES = (
    "boxes.json    all boxes, as COCO has them\n"
    "annotations/  boxes of each image as Pascal VOC has them; corners are edges, counted from 0\n"
)


def write_set(
    kind: str,
    *,
    count: int,
    out: Path,
    seed: int = 0,
    size: int | None = None,
    form: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write `count` phantoms and their truth into the folder `out`; get the path of `manifest.csv`.

    The folder holds `images/`, `masks/` (lesions) and, where the kind knows its organs, `anatomy/`, with the
    same stems; `lesions.csv` with one row a lesion; and a README.txt. The table has no split. Kinds with boxes
    have them twice: all in `boxes.json` (COCO), and of each image in `annotations/` (Pascal VOC), which the column
    `annotation` of the table names. Slides are in `slides/`, each with its boxes beside it; boxes of volumes are in
    `boxes.csv`, one row a box.

    Args:
        kind: a name in `KINDS`.
        count: how many images; the first n of a longer set are the same images.
        out: a folder that is absent, empty, or holds this very set.
        seed: another seed, other images.
        size: width and height in pixels; the kind's own when None: 224, of glomeruli 512, of slides 8000; of volumes
            192 and half as many slices.
        form: "png", the default; for kinds with gray pixels also "png16" and "dicom", both with 16 bits; for glomeruli
            also "slide", a pyramid of 0.5 um a pixel. Of volumes "nifti", the default, or "dicom", a folder of slices
            each.
        progress: is told (images done, images in all).

    Raises:
        UnknownName: no such kind.
        BadRecipe: count, size or form cannot be.
        RunRefused: the folder holds something else.
    """
    draw_one = KINDS[kind]
    if kind in VOLUMES:
        from medgraft.phantoms.write_volumes import write_volumes

        return write_volumes(kind, count=count, out=out, seed=seed, size=size, form=form or "nifti", progress=progress)
    if form == "slide":
        _check_slides(kind, count)
        return write_slides(count, out=out, seed=seed, size=size, claim=partial(claim, out), progress=progress)
    size, form = int(draw_one.__kwdefaults__["size"]) if size is None else size, form or "png"
    draw = partial(_drawer(kind, count=count, size=size, form=form), seed=seed, size=size)
    about = f"kind {kind}, count {count}, seed {seed}, size {size}, form {form}"
    claim(out, about, parts=_FILES + (_BOX_FILES if kind == "glomeruli" else ""))
    cases = _cases(partial(_draw_and_save, draw, out=out, form=form), count)
    return _tables(out, cases, form=form, count=count, progress=progress)


def _tables(
    out: Path, cases: Iterator[Case], *, form: str, count: int, progress: Callable[[int, int], None] | None
) -> Path:
    """Write the tables of cases as they come; get the path of `manifest.csv`."""
    rows, lesions = [], []
    pictures: list[Pictured] = []
    for done, case in enumerate(cases, start=1):
        rows.append(_row(case, form=form))
        lesions += _lesion_rows(case, form=form)
        if case.boxes is not None:
            height, width = case.pixels.shape[:2]
            pictures.append(Pictured(_image_path(case, form), (width, height), case.boxes))
        if progress:
            progress(done, count)
    if lesions:
        write_table(out / "lesions.csv", lesions, columns=list(lesions[0]))
    if pictures:
        write_coco(out / "boxes.json", pictures, about=STAMP)
    manifest = out / "manifest.csv"
    write_table(manifest, rows, columns=list(rows[0]))
    return manifest


def _drawer(kind: str, *, count: int, size: int, form: str) -> Callable[..., Case]:
    draw = KINDS[kind]
    if count < 1 or size < _SMALLEST:
        raise BadRecipe(
            f"{count} phantoms of {size} x {size} pixels cannot be made",
            do=f"Ask for at least 1 image of at least {_SMALLEST} pixels.",
        )
    if form not in _FORMS:
        raise BadRecipe(f"phantoms are not written as {form!r}", do=f"Choose one of {', '.join(_FORMS)}.")
    if form == "png":
        return draw
    if "bits" not in draw.__kwdefaults__:
        raise BadRecipe(f"{kind} phantoms are 8-bit colour pictures", do="Write them as png.")
    return partial(draw, bits=16)


def _check_slides(kind: str, count: int) -> None:
    if kind != "glomeruli":
        raise BadRecipe(f"{kind} phantoms are no slides", do="Ask for glomeruli, or write them as png.")
    if count < 1:
        raise BadRecipe(f"{count} slides cannot be made", do="Ask for at least 1.")


def claim(out: Path, about: str, *, parts: str) -> None:
    """Write the README first, so that a set that was cut short is known again and can be finished.

    Args:
        out: the folder.
        about: what makes this set and no other.
        parts: lines that say what is in the folder.

    Raises:
        RunRefused: the folder holds something else.
    """
    readme = out / "README.txt"
    text = (
        f"{STAMP}\n\nWritten by medgraft phantoms: {about}.\n\n"
        "Every image here was drawn by a program. No person was photographed, and no patient data were used.\n"
        "Scores on phantoms say that software works; they say nothing about patients.\n\n"
        f"{parts}"
    )
    if out.exists() and any(out.iterdir()):
        same = readme.is_file() and readme.read_text(encoding="utf-8", errors="replace") == text
        if not same:
            raise RunRefused("the folder holds something else already", where=out, do="Give another --out.")
    write_text(readme, text)


def _cases(work: Callable[[int], Case], count: int) -> Iterator[Case]:
    """Yield the cases in order; compression and waiting for the disk overlap with drawing."""
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, count, 64):  # a bounded number of finished images waits in memory
            yield from pool.map(work, range(start, min(start + 64, count)))


def _draw_and_save(draw: Callable[..., Case], index: int, *, out: Path, form: str) -> Case:
    case = draw(index)
    path = out / _image_path(case, form)
    if form == "dicom":
        _save_dicom(path, case)
    else:
        files.save_png(path, case.pixels, text=_FACTS, effort=_EFFORT)
    files.save_png(out / "masks" / f"{case.name}.png", case.mask, text=_FACTS, effort=_EFFORT)
    if case.boxes is not None:
        height, width = case.pixels.shape[:2]
        write_voc((out / _annotation_path(case)).parent, [Pictured(path.name, (width, height), case.boxes)])
    if case.anatomy is not None:
        files.save_png(out / "anatomy" / f"{case.name}.png", case.anatomy, text=_FACTS, effort=_EFFORT)
    return case


def _save_dicom(path: Path, case: Case) -> None:
    age = case.covariates.get("age")
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_dicom(
        path,
        case.pixels,
        Modality="DX",
        PatientID=case.patient,
        PatientName=f"PHANTOM^{case.patient.upper()}",
        PatientSex=case.covariates.get("sex", "O"),
        PatientAge=f"{int(age):03d}Y" if age else "",
        ViewPosition=case.covariates.get("view", ""),
        BodyPartExamined="CHEST",
        ImageComments=STAMP,
        SeriesDescription="PHANTOM",
        WindowCenter=str(np.iinfo(case.pixels.dtype).max / 2),
        WindowWidth=str(np.iinfo(case.pixels.dtype).max),
    )


def _image_path(case: Case, form: str) -> str:
    return f"images/{case.name}.{'dcm' if form == 'dicom' else 'png'}"


def _annotation_path(case: Case) -> str:
    return f"annotations/{case.name}.xml"


def _row(case: Case, *, form: str) -> dict[str, object]:
    row: dict[str, object] = {"path": _image_path(case, form), "label": case.label, "patient": case.patient}
    if case.grade is not None:
        row["grade"] = case.grade
    row |= {**case.covariates, "mask": f"masks/{case.name}.png"}
    return row if case.boxes is None else row | {"annotation": _annotation_path(case)}


def _lesion_rows(case: Case, *, form: str) -> list[dict[str, object]]:
    return [
        {
            "path": _image_path(case, form),
            "kind": lesion.kind,
            "value": case.mask_names.index(lesion.kind),
            "row_px": lesion.row,
            "column_px": lesion.column,
            "radius_px": round(lesion.radius, 2),
        }
        for lesion in case.lesions
    ]
