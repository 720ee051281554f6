"""Do sets of answers hold the truth as often as they say, and are images of other sets told apart? Prints two tables.

Every set marked "classification" in the folder of real data, the embedded encoder, 96 pixels, a coverage of .9.

The first table: a head alone, on twenty splits of each set (by patient where patients are known), all images used;
the mean over the splits of the share of test images whose set of answers holds the truth, of all images and of the
class that fares worst, with the mean size of a set. The second: for each set (row) the AUROC with which the distance
tells its own test images from images of another set (column), and the share of those that is beyond the limit; with
--depth all of a tuned net.

    python benchmarks/certainty.py --shared ../shared --out runs/certainty
"""

from __future__ import annotations

import argparse
import csv
import os
from pathlib import Path
from typing import Any

import numpy as np

import medgraft as mg
from medgraft.scores.ranking import auroc
from results import SETS, done

SPLITS = 20
COVERAGE = 0.9
OTHERS = 200  # images of another set


def main() -> None:
    """Run what is missing, then print the tables."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--shared", type=Path, default=Path(os.environ.get("MEDGRAFT_SHARED", "../shared")))
    given.add_argument("--out", type=Path, default=Path("runs/certainty"))
    given.add_argument("--splits", type=int, default=SPLITS)
    given.add_argument("--depth", nargs="+", default=["head"], help="of the nets that tell sets apart")
    options = given.parse_args()
    print("| set | test images | coverage | lowest and highest split | worst class | size of a set | classes |")
    print("|---" * 7 + "|")
    for name in SETS:
        print(coverage_row(name, [told(options, name, seed) for seed in range(options.splits)]), flush=True)
    for depth in options.depth:
        print(f"\nThawed: {depth}\n\n| trained on | own images beyond the limit | {' | '.join(SETS)} |")
        print("|---" * (2 + len(SETS)) + "|")
        for name in SETS:
            print(apart_row(options, name, depth), flush=True)


def folder(options: argparse.Namespace, name: str, depth: str, seed: int) -> Path:
    """Train one net unless it was done before; get its run folder."""
    out = options.out / f"{name}-{depth}-{seed}"
    file, more, settings = SETS[name]
    if name != "pneumoniamnist_reduced":  # its file has no other splits than its own
        more = {**more, "split_column": "none"}
    if not done(out):
        mg.train(
            options.shared / "data" / name / file,
            out=out,
            resume=(out / "recipe.yaml").exists(),
            depth=depth,
            image_size=96,
            seed=seed,
            settings={
                "fit.precision": "bf16",
                "fit.channels_last": True,
                "scores.resamples": 100,
                "split.val": 0.2,
                "certainty.coverage": COVERAGE,
                **settings,
            },
            **more,
        )
    return out


def told(options: argparse.Namespace, name: str, seed: int) -> dict[str, Any]:
    """Get what the report of one split says of its sets."""
    return mg.open_run(folder(options, name, "head", seed)).report["certainty"]["sets"]


def coverage_row(name: str, found: list[dict[str, Any]]) -> str:
    """Get one row of the first table: means over splits."""
    covered = np.array([sets["coverage"]["value"] for sets in found])
    classes = {name: np.mean([sets["per_class"][name]["value"] for sets in found]) for name in found[0]["per_class"]}
    worst = min(classes, key=lambda word: classes[word])
    sizes = np.mean([sets["size"]["value"] for sets in found])
    ends = f"{covered.min():.3f} to {covered.max():.3f}"
    count = round(np.mean([sets["coverage"]["n"] for sets in found]))
    worst = f"{classes[worst]:.3f} ({worst})"
    return f"| {name} | {count} | {covered.mean():.3f} | {ends} | {worst} | {sizes:.2f} | {len(classes)} |"


def apart_row(options: argparse.Namespace, name: str, depth: str) -> str:
    """Get one row of the second table."""
    out = folder(options, name, depth, 0)
    with open(out / "predictions.csv", encoding="utf-8", newline="") as file:
        own = np.array([float(row["ood"]) for row in csv.DictReader(file) if row["split"] == "test"])
    run = mg.open_run(out)
    cells = []
    for other in SETS:
        if other == name:
            cells.append("")
            continue
        far = np.array([one.ood for one in run.predict(images_of(options, other))])
        truth = np.repeat([0, 1], [len(own), len(far)])
        cells.append(f"{auroc(truth, np.concatenate([own, far])):.3f} ({(far > 1).mean():.0%})")
    return f"| {name} | {(own > 1).mean():.0%} | {' | '.join(cells)} |"


def images_of(options: argparse.Namespace, name: str) -> list[Any]:
    """Get some images of a set: paths, or arrays out of a file that holds many."""
    path = options.shared / "data" / name / SETS[name][0]
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as held:
            images = held["test_images"]
        return [images[k] for k in np.random.default_rng(0).permutation(len(images))[:OTHERS]]
    with open(path, encoding="utf-8", newline="") as file:
        paths = [path.parent / row["path"] for row in csv.DictReader(file)]
    return [paths[k] for k in np.random.default_rng(0).permutation(len(paths))[:OTHERS]]


if __name__ == "__main__":
    main()
