"""Glomeruli in four stains from two: what stain augmentation buys, and a whole slide in little memory.

Phantom fields of kidney sections (512 pixels, about a micrometre a pixel). Training sees fields in H&E and PAS alone;
the test part are fields of other patients in all four stains. Arms differ in augmentation alone: `none`, the preset
`histology`, and `restain`, which draws colours anew. Reported is F1 at the thresholds that validation chose, in each
stain, with 95 % intervals from resampling patients.

The slide is a phantom of 20,000 x 20,000 pixels in a stain of the training, looked at by the best arm: seconds, peak of
memory, F1 against its truth at an IoU of .5.

    python benchmarks/glomeruli.py --out runs/glomeruli              # what is missing
    python benchmarks/glomeruli.py --table
    python benchmarks/glomeruli.py --slide restain --side 20000      # seconds and memory of one slide
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np

import medgraft as mg
from medgraft.phantoms import write_set
from medgraft.scores.box_tables import box_table
from medgraft.scores.boxes import Detections
from medgraft.values import Boxes

COUNT, SIDE = 960, 512
LEARNT = ("H&E", "PAS")
ARMS = ("none", "histology", "restain")
SEEDS = (0,)
HELD = 50  # fields a stain in the test part


def main() -> None:
    """Run what is missing, then print the table."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--out", type=Path, default=Path("runs/glomeruli"))
    given.add_argument("--results", type=Path, default=Path(__file__).with_suffix(".json"))
    given.add_argument("--backbone", default="embedded:resnet10t")
    given.add_argument("--epochs", type=int, default=40)
    given.add_argument("--depth", default="3", help="the same for all arms, so that they differ in augmentation alone")
    given.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    given.add_argument("--table", action="store_true")
    given.add_argument("--slide", choices=ARMS, help="look at one slide by this arm's model and stop")
    given.add_argument("--side", type=int, default=20_000)
    options = given.parse_args()
    held = json.loads(options.results.read_text()) if options.results.exists() else {}
    if options.slide:
        held[f"slide/{options.slide}/{options.side}"] = told = slide(options)
        print(told)
    for seed in () if options.table or options.slide else SEEDS:
        for arm in options.arms:
            name = f"{arm}/{seed}"
            if name not in held:
                held[name] = run(options, arm, seed)
                options.results.write_text(json.dumps(held, separators=(",", ":"), sort_keys=True) + "\n")
    options.results.write_text(json.dumps(held, separators=(",", ":"), sort_keys=True) + "\n")
    print(table(held))


def fields(options: argparse.Namespace) -> Path:
    """Write the fields, and a table that parts them by patient; stains that are not learnt are for the test alone."""
    folder = options.out / "fields"
    table_of = folder / "parted.csv"
    if table_of.exists():
        return table_of
    manifest = write_set("glomeruli", count=COUNT, out=folder, size=SIDE, seed=3)
    with open(manifest) as file:
        rows = list(csv.DictReader(file))
    people = sorted({row["patient"] for row in rows if row["stain"] in LEARNT})
    order = np.random.default_rng(0).permutation(len(people)).tolist()
    part = {people[place]: rank / len(people) for rank, place in enumerate(order)}
    kept, tested = [], dict.fromkeys({row["stain"] for row in rows}, 0)
    for row in rows:
        share = part.get(row["patient"], 1.0)
        split = "train" if share < 0.65 else "val" if share < 0.78 else "test"
        if split == "test":
            tested[row["stain"]] += 1
            if tested[row["stain"]] > HELD:
                continue
        kept.append({**row, "split": split})
    with open(table_of, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(kept[0]))
        writer.writeheader()
        writer.writerows(kept)
    return table_of


def run(options: argparse.Namespace, arm: str, seed: int) -> dict[str, Any]:
    """Train one arm, and get its scores in each stain."""
    out = options.out / f"{arm}-{seed}"
    if not (out / "report.json").exists():
        mg.train(
            fields(options),
            out=out,
            task="detect",
            backbone=options.backbone,
            augment=arm,
            depth=int(options.depth) if options.depth.isdigit() else options.depth,
            epochs=options.epochs,
            seed=seed,
            resume=(out / "recipe.yaml").exists(),
            settings={"scores.resamples": 1000},
        )
    report = json.loads((out / "report.json").read_text())
    stains = {row["group"]: row for row in report["subgroups"] if row["covariate"] == "stain"}
    kept = {name: {**row["scores"], "n": row["n"], "patients": row["n_patients"]} for name, row in stains.items()}
    timing = report["timing"]
    return {"stains": kept, "all": report["scores"]["test"]["f1"], "map50": report["scores"]["test"]["map50"]} | {
        "seconds": timing["train_seconds"],
        "images_per_second": timing["train_images_per_second"],
    }


def slide(options: argparse.Namespace) -> dict[str, Any]:
    """Draw a slide, look at it, and get seconds, memory and scores."""
    from medgraft.phantoms.slides import slide_of, write_slide

    path = options.out / f"slide-{options.side}.tif"
    plan = slide_of(1, seed=9, size=(options.side, options.side), stain=LEARNT[0])
    if not path.exists():
        write_slide(path, plan)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run_of = mg.open_run(options.out / f"{options.slide}-{SEEDS[0]}", device="cpu")
    began = time.perf_counter()
    from medgraft.detection.slides import look

    seen = look(run_of, path, listen=lambda event: None)
    seconds = time.perf_counter() - began
    limits = dict(zip(run_of.classes, run_of.task.threshold, strict=True))
    found = seen.prediction.boxes or Boxes(np.zeros((0, 4)), (), np.zeros(0))
    both = Detections(("slide",), (plan.boxes(),), (found,), run_of.classes)
    scores = box_table(both, thresholds=limits, hit="iou", seed=0, count=100)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    told = {name: score.value for name in ("f1", "precision", "recall") if hasattr(score := scores[name], "value")}
    return {**told, "seconds": round(seconds, 1), "tiles": seen.tiles, "peak_mb": round(peak / 1024)} | {
        "peak_mb_before": round(before / 1024),
        "true": len(plan.boxes()),
    }


def table(held: dict[str, Any]) -> str:
    """Get Markdown: F1 of each arm in each stain."""
    runs = {name: one for name, one in held.items() if not name.startswith("slide/")}
    stains = sorted({stain for one in runs.values() for stain in one["stains"]})
    lines = [f"| augmentation | {' | '.join(stains)} | all |", "|---" * (len(stains) + 2) + "|"]
    for name, one in runs.items():
        cells = [_cell(one["stains"][stain]["f1"]) for stain in stains]
        lines.append(f"| {name.split('/')[0]} | {' | '.join(cells)} | {_cell(one['all'])} |")
    for name, one in held.items():
        if name.startswith("slide/"):
            lines.append(f"\n{name}: {json.dumps(one)}")
    return "\n".join(lines)


def _cell(score: dict[str, Any]) -> str:
    if score["value"] is None:
        return "–"
    ends = "" if score["low"] is None else f" ({score['low']:.3f} to {score['high']:.3f})"
    return f"{score['value']:.3f}{ends}"


if __name__ == "__main__":
    main()
