"""Images unlike normal ones: which method tells them apart, learnt from normal images alone.

Sets are real ones of the shared folder (`MEDGRAFT_SHARED`) with a normal class, and phantoms with planted lesions whose
masks are known. Arms are `patches` with the embedded encoder, `imagenet`, which is the same with MobileNetV2's ImageNet
weights, `autoencoder`, which is to be beaten, and `diffusion`. Both nets that learn are smaller here than the plan
gives and learn for fewer steps, so that a cell ends in minutes on two cores. A cell is one training run at the defaults
otherwise; eight images of pneumoniamnist are in its training and its validation, as published. `rbc` are the red cells
of chula_rbc12, cut out 80 pixels wide around the points that name them: round normal ones, and all other kinds; those
of one photograph count as one patient. `covid19` is covid_cxr without its other pneumonias, the question its authors
ask first; the two kinds of films come from two collections. Scores are of the test part, with 95 % intervals by patient
where patients are known.

    python benchmarks/anomaly.py --out runs/anomaly                       # what is missing
    python benchmarks/anomaly.py --sets cxr covid --arms patches autoencoder
    python benchmarks/anomaly.py --table
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

import medgraft as mg
from medgraft.files import read_image
from medgraft.phantoms import write_set

SHARED = Path(os.environ.get("MEDGRAFT_SHARED", "../shared"))
MOBILENET = SHARED / "weights" / "mobilenet_v2.safetensors"
SETS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "cxr": ("cxr_pneumonia_624/manifest.csv", "normal", {}),
    "covid": ("covid_cxr/manifest.csv", "no_findings", {}),
    "pneumoniamnist": ("pneumoniamnist_reduced/pneumoniamnist.npz", "0", {"split.allow_leaks": True}),
    "brain": ("brain_tumor_mri/manifest.csv", "no_tumor", {"split_column": "none"}),
    "odir": ("odir5k_sub/manifest.csv", "normal", {}),
    "ham": ("ham10000_sub/manifest.csv", "nv", {}),
}
CELLS, CELL = "rbc", 80  # pixels of a side
PARTS = {"covid19": ("covid", ("covid", "no_findings"))}  # of a set, and the labels that are kept
PHANTOMS = {"phantom_chest": ("chest", "clear"), "phantom_fundus": ("fundus", "healthy")}
ARMS: dict[str, dict[str, Any]] = {
    "patches": {},
    "imagenet": {"backbone": f"file:{MOBILENET}"},
    "autoencoder": {"anomaly.method": "autoencoder", "anomaly.width": 8},
    "diffusion": {"anomaly.method": "diffusion", "generator.widths": [32, 64, 96]},
}
NAMES = [*SETS, *PARTS, CELLS, *PHANTOMS]
COUNT, SIDE = 800, 224  # phantoms
EPOCHS = {"autoencoder": 5, "diffusion": 8}  # 100 steps each
SHOWN = ("auroc", "auprc", "pixel_auroc", "aupro")


def main() -> None:
    """Run what is missing, then print the table."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--out", type=Path, default=Path("runs/anomaly"))
    given.add_argument("--results", type=Path, default=Path(__file__).with_suffix(".json"))
    given.add_argument("--sets", nargs="+", choices=NAMES, default=NAMES)
    given.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    given.add_argument("--epochs", type=int, help="of both nets that learn in steps")
    given.add_argument("--table", action="store_true")
    options = given.parse_args()
    held = json.loads(options.results.read_text()) if options.results.exists() else {}
    for name in () if options.table else options.sets:
        for arm in options.arms:
            cell = f"{name}/{arm}"
            if cell not in held:
                held[cell] = run(options, name, arm)
                options.results.write_text(json.dumps(held, indent=1, sort_keys=True) + "\n")
    print(table(held))


def data_of(options: argparse.Namespace, name: str) -> tuple[Path, str, dict[str, Any]]:
    """Get the table of a set, the label of its normal images, and options; phantoms are drawn where they are not."""
    if name in SETS:
        path, normal, words = SETS[name]
        return SHARED / "data" / path, normal, words
    if name in PARTS:
        whole, labels = PARTS[name]
        path, normal, words = SETS[whole]
        return cut_rows(SHARED / "data" / path, labels, options.out / "data" / f"{name}.csv"), normal, words
    if name == CELLS:
        return cut_cells(SHARED / "data" / "chula_rbc12", options.out / "data" / name), "normal", {}
    kind, normal = PHANTOMS[name]
    return (
        write_set(kind, count=COUNT, out=options.out / "data" / name, size=SIDE, seed=7),
        normal,
        {"label_column": "label"},
    )


def cut_rows(source: Path, labels: Sequence[str], table: Path) -> Path:
    """Write the rows of a table with some labels alone, and get it."""
    with open(source, newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["label"] in labels]
    table.parent.mkdir(parents=True, exist_ok=True)
    with open(table, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({**row, "path": str((source.parent / row["path"]).resolve())} for row in rows)
    return table


def cut_cells(source: Path, out: Path) -> Path:
    """Cut the cells of photographs out, and get a table of them; cells that reach beyond the edge are left out."""
    table = out / "manifest.csv"
    if table.exists():
        return table
    (out / "images").mkdir(parents=True, exist_ok=True)
    with open(source / "points.csv", newline="", encoding="utf-8") as file:
        points = [row for row in csv.DictReader(file) if row["label"] != "uncategorised"]
    rows = []
    for number, row in enumerate(points):
        pixels = read_image(source / row["path"]).pixels
        left, top = (int(row[axis]) - CELL // 2 for axis in "xy")
        cell = pixels[:, max(0, top) : top + CELL, max(0, left) : left + CELL]
        if cell.shape[1:] == (CELL, CELL):
            path = f"images/{number:04d}.png"
            Pillow.fromarray(cell.transpose(1, 2, 0).astype(np.uint8)).save(out / path)
            rows.append([path, row["label"], Path(row["path"]).stem])
    with open(table, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["path", "label", "patient"], *rows])
    return table


def run(options: argparse.Namespace, name: str, arm: str) -> dict[str, Any]:
    """Train one cell and get its scores."""
    data, normal, words = data_of(options, name)
    out = options.out / name / arm
    every = {**words, **ARMS[arm]}
    own = {key: value for key, value in every.items() if "." in key}
    words = {key: value for key, value in every.items() if "." not in key}
    settings = {"anomaly.normal": normal, **own}
    if arm in EPOCHS:
        settings["fit.epochs"] = options.epochs or EPOCHS[arm]
    began = time.perf_counter()
    if (out / "report.json").exists():
        report = json.loads((out / "report.json").read_text())
    else:
        resume = (out / "recipe.yaml").exists()
        report = mg.train(data, out=out, task="anomaly", settings=settings, resume=resume, offline=True, **words)
    test = report["scores"]["test"]
    row = {score: {k: test[score][k] for k in ("value", "low", "high", "n")} for score in SHOWN if score in test}
    point = report["operating_point"]
    row |= {side: {k: point[side][k] for k in ("value", "low", "high")} for side in ("sensitivity", "specificity")}
    seconds = round(time.perf_counter() - began, 1)
    return {**row, "seconds": seconds, "learnt_from": report["unlike"]["learnt_from"]}


def table(held: dict[str, Any]) -> str:
    """Get the results as a Markdown table: AUROC of images, and of pixels where masks are known."""
    lines = ["| Set | Normal images | " + " | ".join(ARMS) + " |", "|---|---:|" + "---|" * len(ARMS)]
    for name in NAMES:
        cells = [held.get(f"{name}/{arm}") for arm in ARMS]
        if any(cells):
            count = next(cell["learnt_from"] for cell in cells if cell)
            lines.append(f"| {name} | {count} | " + " | ".join(_cell(cell) for cell in cells) + " |")
    return "\n".join(lines)


def _cell(cell: dict[str, Any] | None) -> str:
    if not cell:
        return ""
    said = _score(cell["auroc"])
    return said + (f"; pixels {_score(cell['pixel_auroc'])}" if "pixel_auroc" in cell else "")


def _score(score: dict[str, Any]) -> str:
    if score["value"] is None:
        return "none"
    if score["low"] is None:
        return f"{score['value']:.3f}"
    return f"{score['value']:.3f} ({score['low']:.3f} to {score['high']:.3f})"


if __name__ == "__main__":
    main()
