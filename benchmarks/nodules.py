"""Nodules in phantom CT: how much is found from 20, 50 and 100 scans, by either arm? The table of docs/results.md.

All scans are phantoms (`ct_nodules`, slices of about 2.25 mm; LUNA16 takes up to 2.5): the score says that the parts
work together and how far the number of scans matters, and nothing about patients. Forty scans are held out, ten are
for thresholds, and 20, 50 or 100 others are learnt from; a hit is a centre inside the true box, as LUNA16 counts, and
the FROC score the mean sensitivity at 1/8 to 8 false alarms a scan. The arm `candidates` judges places that a classical
search names by the features of an encoder that is not tuned; beside it stands what the search finds without a net, by
the score of its filter. The arm `retinanet` learns in volumes.

    python benchmarks/nodules.py                                      # what is missing, of the arm candidates
    python benchmarks/nodules.py --arm retinanet --train 100          # within the budget that is planned
    python benchmarks/nodules.py --table                              # from the file of results
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
SIZE = 256  # voxels across
SETTINGS = {"scores.resamples": 1000}
BACKBONES = {"candidates": "embedded:resnet10t", "retinanet": "embedded:resnet10t_small"}
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
    given.add_argument("--arm", choices=list(BACKBONES), default="candidates")
    given.add_argument("--backbone", help="another encoder than the arm's own")
    given.add_argument("--epochs", type=int, help="of retinanet, instead of as many as are planned")
    given.add_argument("--size", type=int, default=SIZE, help="voxels across of a scan")
    given.add_argument("--table", action="store_true", help="print the table of what is there and stop")
    options = given.parse_args()
    held = json.loads(options.results.read_text()) if options.results.exists() else {}
    backbone = options.backbone or BACKBONES[options.arm]
    for count in [] if options.table else options.train:
        others = [(options.held, HELD, "held"), (options.size, SIZE, "size"), (options.epochs, None, "epochs")]
        own = [f"{word} {value}" for value, usual, word in others if value != usual]
        name = "/".join([options.arm, backbone, str(count), *own])
        if name not in held:
            held[name] = cell(options, backbone, count, name)
            options.results.write_text(json.dumps(held, indent=1) + "\n")
            print(name, f"{held[name]['seconds']:.0f} s", flush=True)
    print(table(held))


def cell(options: argparse.Namespace, backbone: str, count: int, name: str) -> dict[str, Any]:
    """Train on so many scans, and get the scores of those held out."""
    data = table_of(options, count)
    out = options.out / name.replace(":", "-").replace("/", "-").replace(" ", "-")
    words: dict[str, Any] = {"backbone": backbone, "settings": {**SETTINGS, "boxes.arm": options.arm}}
    began = time.perf_counter()
    if not (out / "report.json").exists():
        unfinished = (out / "recipe.yaml").exists()
        mg.train(data, out=out, task="detect", epochs=options.epochs, resume=unfinished, **words)
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
        "search": report.get("search"),
        "train_seconds": report["timing"]["train_seconds"],
        "prefix_seconds": report["timing"]["prefix_seconds"],
        "scans_per_second": report["timing"]["predict_images_per_second"],
        "threads": report["machine"]["threads"],
        "scans": report["data"]["images"],
        "seconds": round(time.perf_counter() - began, 1),
    }


def table_of(options: argparse.Namespace, count: int) -> Path:
    """Write the table of boxes of one cell: held scans first, then those of validation, then of training."""
    rows, wanted = [], options.held + options.val + count
    edges = [0, options.held + options.val + min(options.train[0], TRAIN[0]), *_edges(options, wanted)]
    for number, (start, stop) in enumerate(zip(edges, edges[1:], strict=False)):
        rows += drawn(options.out / f"ct-{number}-{stop - start}", stop - start, seed=SEED + number, size=options.size)
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


def drawn(folder: Path, count: int, *, seed: int, size: int) -> list[tuple[dict[str, str], Rows]]:
    """Get scans and their boxes, drawn where they are not there."""
    if not (folder / "manifest.csv").exists():
        write_set("ct_nodules", count=count, out=folder, seed=seed, size=size)
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
    lines = [
        "| arm | encoder | scans learnt from | FROC score | at 1 false alarm | AP at IoU .10 | the search alone | "
    ]
    lines[0] += "learning | a scan |"
    lines += ["|---" * 9 + "|"]
    for name, one in held.items():
        arm, backbone, count, *more = name.split("/")
        froc, ap = (f"{one[word]['value']:.3f} ({_ends(one[word])})" for word in ("froc", "map10"))
        alone = "" if one["search"] is None else f"{one['search']['froc']:.3f}"
        rate = one["scans_per_second"]
        times = (
            f"{(one['train_seconds'] + one['prefix_seconds']) / 60:.0f} min | {f'{1 / rate:.1f} s' if rate else '–'}"
        )
        shown = [arm, backbone, ", ".join([count, *more]), froc, f"{one['sensitivity_at_fp']['1']:.3f}", ap, alone]
        lines.append(f"| {' | '.join(shown)} | {times} |")
    return "\n".join(lines)


def _ends(score: dict[str, Any]) -> str:
    return "no interval" if score["low"] is None else f"{score['low']:.3f} to {score['high']:.3f}"


if __name__ == "__main__":
    main()
