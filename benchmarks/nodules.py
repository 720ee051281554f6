"""Nodules in phantom CT: how much is found from 20, 50 and 100 scans? The table of docs/results.md.

All scans are phantoms (`ct_nodules`): the score says that the parts work together and how far the number of scans
matters, and nothing about patients. Forty scans are held out, ten are for thresholds, and 20, 50 or 100 others are
learnt from; a hit is a centre inside the true box, as LUNA16 counts, and the FROC score the mean sensitivity at 1/8 to
8 false alarms a scan. Beside it stands what the search finds without a net, by the score of its filter.

    python benchmarks/nodules.py             # what is missing; drawing and searching a scan take seconds each
    python benchmarks/nodules.py --table     # from the file of results
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from pathlib import Path
from typing import Any

import medgraft as mg
from medgraft.phantoms import write_set

HELD, VAL = 40, 10
TRAIN = (20, 50, 100)
SEED = 11  # of the first set; those that are added have the next ones
SETTINGS = {"scores.resamples": 1000}
_CORNERS = ("x0", "y0", "z0", "x1", "y1", "z1")
_KEPT = ("path", "patient", "kernel", "dose", "contrast", "sex", "age")

Rows = list[dict[str, str]]


def main() -> None:
    """Run what is missing, then print the table."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--out", type=Path, default=Path("runs/nodules"))
    given.add_argument("--results", type=Path, default=Path(__file__).with_suffix(".json"))
    given.add_argument("--train", type=int, nargs="*", default=list(TRAIN))
    given.add_argument("--held", type=int, default=HELD)
    given.add_argument("--val", type=int, default=VAL)
    given.add_argument("--backbone", nargs="*", default=["embedded:resnet10t"])
    given.add_argument("--table", action="store_true", help="print the table of what is there and stop")
    options = given.parse_args()
    held = json.loads(options.results.read_text()) if options.results.exists() else {}
    for backbone in [] if options.table else options.backbone:
        for count in options.train:
            name = f"{backbone}/{count}" + ("" if options.held == HELD else f"/held {options.held}")
            if name not in held:
                held[name] = cell(options, backbone, count)
                options.results.write_text(json.dumps(held, indent=1) + "\n")
                print(name, f"{held[name]['seconds']:.0f} s", flush=True)
    print(table(held))


def cell(options: argparse.Namespace, backbone: str, count: int) -> dict[str, Any]:
    """Train on so many scans, and get the scores of those held out."""
    data = table_of(options, count)
    out = options.out / f"{backbone}-{count}-{options.held}".replace(":", "-")
    began = time.perf_counter()
    if not (out / "report.json").exists():
        unfinished = (out / "recipe.yaml").exists()
        mg.train(data, out=out, task="detect", backbone=backbone, settings=SETTINGS, resume=unfinished)
    report = json.loads((out / "report.json").read_text())
    test = report["scores"]["test"]
    sizes = {
        row["group"]: {"n": row["n"], **row["scores"]["recall"]}
        for row in report["subgroups"]
        if row["covariate"] == "size"
    }
    return {
        **{name: test[name] for name in ("froc", "map10", "map25", "f1", "patient_sensitivity")},
        "sensitivity_at_fp": {name: one["value"] for name, one in test["sensitivity_at_fp"].items()},
        "sizes": sizes,
        "search": report["search"],
        "scans": report["data"]["images"],
        "seconds": round(time.perf_counter() - began, 1),
    }


def table_of(options: argparse.Namespace, count: int) -> Path:
    """Write the table of boxes of one cell: held scans first, then those of validation, then of training."""
    rows, wanted = [], options.held + options.val + count
    edges = [0, options.held + options.val + min(options.train[0], TRAIN[0]), *_edges(options, wanted)]
    for number, (start, stop) in enumerate(zip(edges, edges[1:], strict=False)):
        rows += drawn(options.out / f"ct-{number}-{stop - start}", stop - start, seed=SEED + number)
    kept: Rows = []
    for place, (scan, boxes) in enumerate(rows[:wanted]):
        split = "test" if place < options.held else "val" if place < options.held + options.val else "train"
        own = {**scan, "split": split}
        empty = {"label": "", **dict.fromkeys(_CORNERS, "")}
        kept += [{**own, **{name: box[name] for name in ("label", *_CORNERS)}} for box in boxes] or [{**own, **empty}]
    path = options.out / f"boxes-{options.held}-{count}.csv"
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(kept[0]))
        writer.writeheader()
        writer.writerows(kept)
    return path


def _edges(options: argparse.Namespace, wanted: int) -> list[int]:
    """Where sets end that are drawn when a larger cell asks for more."""
    return [edge for count in TRAIN[1:] if (edge := options.held + options.val + count) <= wanted]


def drawn(folder: Path, count: int, *, seed: int) -> list[tuple[dict[str, str], Rows]]:
    """Get scans and their boxes, drawn where they are not there."""
    if not (folder / "manifest.csv").exists():
        write_set("ct_nodules", count=count, out=folder, seed=seed)
    boxes: dict[str, Rows] = {}
    for row in _read(folder / "boxes.csv"):
        if row["x0"]:
            boxes.setdefault(row["path"], []).append(row)
    scans = []
    for row in _read(folder / "manifest.csv"):
        own = {name: row[name] for name in _KEPT}
        own |= {"path": f"{folder.name}/{row['path']}", "patient": f"{seed}-{row['patient']}"}
        scans.append((own, boxes.get(row["path"], [])))
    return scans


def _read(path: Path) -> Rows:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def table(held: dict[str, Any]) -> str:
    """Get the table as Markdown."""
    lines = ["| encoder | scans learnt from | FROC score | at 1 false alarm | AP at IoU .10 | the search alone |"]
    lines += ["|---|---|---|---|---|---|"]
    for name, one in held.items():
        backbone, count, *more = name.split("/")
        froc, ap = (f"{one[word]['value']:.3f} ({_ends(one[word])})" for word in ("froc", "map10"))
        at_one, alone = one["sensitivity_at_fp"]["1"], one["search"]["froc"]
        lines.append(f"| {backbone} | {', '.join([count, *more])} | {froc} | {at_one:.3f} | {ap} | {alone:.3f} |")
    return "\n".join(lines)


def _ends(score: dict[str, Any]) -> str:
    return "no interval" if score["low"] is None else f"{score['low']:.3f} to {score['high']:.3f}"


if __name__ == "__main__":
    main()
