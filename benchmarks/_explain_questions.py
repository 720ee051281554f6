"""Questions whose answer lies at a known place of each image: phantoms, and three sets of real images with masks.

Each is a folder with a table: `path,label,patient,split,mask`. Test images with a mask are those that maps are held
against.

- opacities: chest X-rays with pneumonia and outlined opacities (covid_cxr_seg) against X-rays without a finding
  (covid_cxr); three folds of the patients, so that every image with a mask is explained by a net that never saw the
  patient. The two classes come from two collections: a net may answer by that.
- platelets: quarters of blood smears (bccd), with a platelet or without; a quarter that cuts one is left out.
- hippocampus: coronal slices of MR volumes (hippocampus_msd), with hippocampus (at least 40 voxels) or none.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image as Pillow

from medgraft.phantoms.write import write_set
from medgraft.samples.sheet import read_sheet

PHANTOMS = {"chest": "opacity", "fundus": "retinopathy", "skin": "malignant"}
REAL = {"opacities": "opacity", "platelets": "platelet", "hippocampus": "hippocampus"}
FOLDS = 3
_COLUMNS = ("path", "label", "patient", "split", "mask")
Row = dict[str, str]


def phantoms(kind: str, *, seed: int, count: int, out: Path) -> Path:
    """Draw phantoms of 160 pixels and get their table."""
    return write_set(kind, count=count, seed=seed, size=160, out=out)


def real(name: str, *, shared: Path, out: Path, fold: int = 0) -> Path:
    """Write the images of a question and get their table."""
    rows = list({"opacities": _opacities, "platelets": _platelets, "hippocampus": _hippocampus}[name](shared, out))
    if name == "opacities":
        rows = [{**row, "split": _split(row, fold)} for row in rows]
    table = out / "manifest.csv"
    with open(table, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return table


def _split(row: Row, fold: int) -> str:
    """Patients by their number: one part in three is the test, one in eight of the others validation."""
    number = int(row["patient"].split("-")[1])
    if number % FOLDS == fold:
        return "test"
    return "val" if number // FOLDS % 6 == 0 else "train"


def _opacities(shared: Path, out: Path) -> Iterator[Row]:
    ill, well = shared / "data/covid_cxr_seg", shared / "data/covid_cxr"
    number: dict[str, int] = {}
    for row in read_sheet(ill / "manifest.csv").rows:
        if "O" not in row["masks_present"].split("+"):
            continue
        who = number.setdefault(row["patient"], len(number))
        pixels = np.asarray(Pillow.open(ill / row["path"]).convert("L"))
        mask = np.asarray(Pillow.open(ill / row["opacity_mask"]).convert("L"))
        yield _saved(out, f"ill_{Path(row['path']).stem}", pixels, mask, label="opacity", patient=f"ill-{who}")
    number = {}
    for row in read_sheet(well / "manifest.csv").rows:
        if row["label"] != "no_findings":
            continue
        who = number.setdefault(row["patient"], len(number))
        picture = Pillow.open(well / row["path"]).convert("L")
        yield _saved(
            out, f"well_{Path(row['path']).stem}", np.asarray(picture), None, label="clear", patient=f"w-{who}"
        )


def _platelets(shared: Path, out: Path) -> Iterator[Row]:
    root = shared / "data/bccd"
    boxes: dict[str, list[tuple[int, ...]]] = {}
    for row in read_sheet(root / "boxes.csv").rows:
        if row["label"] == "Platelets":
            sides = tuple(int(row[side]) for side in ("xmin", "ymin", "xmax", "ymax"))
            boxes.setdefault(row["path"], []).append(sides)
    for row in read_sheet(root / "manifest.csv").rows:
        pixels = np.asarray(Pillow.open(root / row["path"]).convert("RGB"))
        mask = np.zeros(pixels.shape[:2], np.uint8)
        for left, top, right, bottom in boxes.get(row["path"], []):
            mask[top:bottom, left:right] = 255
        for quarter, (top, left) in enumerate(((0, 0), (0, 320), (240, 0), (240, 320))):
            here = (slice(top, top + 240), slice(left, left + 320))
            if _cut(mask, here):
                continue
            own = mask[here]
            label, stem = ("platelet" if own.any() else "none"), f"{Path(row['path']).stem}_{quarter}"
            found = _saved(out, stem, pixels[here], own if own.any() else None, label=label, patient=row["path"])
            yield {**found, "split": row["split"]}


def _cut(mask: np.ndarray, here: tuple[slice, slice]) -> bool:
    """Say whether a box crosses the edge of a part."""
    own = mask[here]
    grown = np.pad(mask, 1)[here[0].start : here[0].stop + 2, here[1].start : here[1].stop + 2]
    edges = (
        (own[0], grown[0, 1:-1]),
        (own[-1], grown[-1, 1:-1]),
        (own[:, 0], grown[1:-1, 0]),
        (own[:, -1], grown[1:-1, -1]),
    )
    return any(bool((inside & outside).any()) for inside, outside in edges)


def _hippocampus(shared: Path, out: Path) -> Iterator[Row]:
    root = shared / "data/hippocampus_msd"
    for row in read_sheet(root / "manifest.csv").rows:
        solid = np.asarray(nibabel.load(root / row["path"]).dataobj, np.float32)
        truth = np.asarray(nibabel.load(root / row["mask"]).dataobj) > 0
        low, high = np.percentile(solid, (0.5, 99.5))
        gray = np.rint(np.clip((solid - low) / max(high - low, 1e-6), 0, 1) * 255).astype(np.uint8)
        voxels = truth.sum(axis=(0, 2))
        for word, chosen in (("hippocampus", voxels >= 40), ("none", voxels == 0)):
            places = np.flatnonzero(chosen)
            for place in places[np.unique(np.linspace(0, len(places) - 1, min(3, len(places))).astype(int))]:
                pixels, mask = gray[:, place].T[::-1], truth[:, place].T[::-1]
                stem = f"{Path(row['path']).name.split('.')[0]}_{place}"
                found = _saved(out, stem, pixels, mask * np.uint8(255), label=word, patient=row["path"])
                yield {**found, "split": row["split"], "mask": found["mask"] if word != "none" else ""}


def _saved(out: Path, stem: str, pixels: np.ndarray, mask: np.ndarray | None, *, label: str, patient: str) -> Row:
    for folder in ("images", "masks"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(np.ascontiguousarray(pixels)).save(out / "images" / f"{stem}.png")
    if mask is not None:
        Pillow.fromarray(np.ascontiguousarray(mask)).save(out / "masks" / f"{stem}.png")
    told = f"masks/{stem}.png" if mask is not None else ""
    return {"path": f"images/{stem}.png", "label": label, "patient": patient, "split": "", "mask": told}
