"""Does the depth finder choose well, and what does it cost? The table of docs/results.md.

Six sets, 200 training images of 96 pixels, the embedded encoder, three seeds. Every depth is trained to its end
(`medgraft train --depth N`), and the finder is asked on the same training images (`medgraft train --depth auto`). The
AUROC is that of the test part, the same images for every seed of a set, which neither depth nor rate is chosen on.
"Best" is the depth whose mean over the seeds is highest, found with the test part itself: nobody can choose so, and it
is what the finder is measured against.

Cost is wall time in one process on the same machine: the whole search over three parts of the training images, against
tuning every stage to the end on each of the three parts.

    python benchmarks/depth.py --shared ../shared            # what is missing
    python benchmarks/depth.py --table                       # from the file of results
    python benchmarks/depth.py --cost ham10000_sub brain_tumor_mri
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import medgraft as mg
from embedded import SIDE, data_of, epochs, judged
from medgraft import depth_finder
from medgraft.learn.trials import Trial
from medgraft.preparing import prepare
from medgraft.recipe import Recipe, with_options
from results import SETS

DEPTHS = ("head", 1, 2, 3, 4, "all")
SEEDS = (0, 1, 2)
SIZE = "200"


def main() -> None:
    """Run what is missing, then print the table."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--shared", type=Path, default=Path(os.environ.get("MEDGRAFT_SHARED", "../shared")))
    given.add_argument("--out", type=Path, default=Path("runs/depth"))
    given.add_argument("--results", type=Path, default=Path(__file__).with_suffix(".json"))
    given.add_argument("--part", type=int, nargs=2, default=(0, 1), help="this process's number, of how many")
    given.add_argument("--table", action="store_true", help="print the table of what is there and stop")
    given.add_argument("--cost", nargs="*", help="time the search against whole fits on these sets and stop")
    options = given.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.cost is not None:
        for name in options.cost or ("ham10000_sub", "brain_tumor_mri"):
            print(name, cost(options, name), flush=True)
        return
    number, count = options.part
    jobs = [(name, depth, seed) for seed in SEEDS for name in SETS for depth in ("auto", *DEPTHS)]
    held = collect(options)
    for name, depth, seed in [] if options.table else [job for job in jobs if key(*job) not in held][number::count]:
        print(key(name, depth, seed), run(options, name, depth, seed), flush=True)
    print(table(collect(options)))


def key(name: str, depth: str | int, seed: int) -> str:
    """Get the name of a run in the file of results."""
    return f"{name}/{depth}/{seed}"


def words_of(options: argparse.Namespace, name: str, seed: int) -> tuple[Path, dict[str, Any]]:
    """Get the data of a set, and the options that all depths have in common."""
    data, more, settings = data_of(options, name)
    settings = {**settings, "fit.channels_last": True, "fit.precision": "bf16", "scores.resamples": 100}
    settings |= {"scores.learning": False, "scores.shortcuts": False, "scores.stress": False}
    settings |= {"split.limit_train": int(SIZE), "fit.batch_size": 32, "fit.patience": 0}
    return data, {**more, "settings": settings, "image_size": SIDE, "seed": seed}


def run(options: argparse.Namespace, name: str, depth: str | int, seed: int) -> dict[str, Any]:
    """Train one depth to its end, or as the finder says; keep the test AUROC, and what was chosen."""
    place = options.out / key(name, depth, seed).replace("/", "-")
    kept = place.with_suffix(".json")
    if kept.exists():
        return json.loads(kept.read_text())
    shutil.rmtree(place, ignore_errors=True)
    data, words = words_of(options, name, seed)
    whole = None if depth == "head" else epochs(name, SIZE)
    report = mg.train(data, out=place, depth=depth, epochs=whole, **words)
    found = {"auroc": float(judged(place / "predictions.csv")[1]), "thawed": report["depth"]["thawed_stages"]}
    if depth == "auto":
        found |= {"seconds": report["depth"]["searched"]["seconds"], "tried": report["depth"]["searched"]["tried"]}
        found |= {"curve": [[row["thawed"], row["val"]["value"]] for row in report["depth"]["curve"]]}
    kept.write_text(json.dumps(found))
    shutil.rmtree(place)
    return found


def collect(options: argparse.Namespace) -> dict[str, Any]:
    """Gather the single runs into the file of results, and get all there are."""
    held = json.loads(options.results.read_text()) if options.results.exists() else {}
    held |= {path.stem.replace("-", "/"): json.loads(path.read_text()) for path in options.out.glob("*-*-?.json")}
    if held:
        options.results.write_text(json.dumps(held, sort_keys=True, indent=0) + "\n")
    return held


def table(held: dict[str, Any]) -> str:
    """Get the table as Markdown."""
    lines = [f"| set | {' | '.join(map(str, DEPTHS))} | best | found | chosen |", "|---" * (len(DEPTHS) + 4) + "|"]
    rows = []
    for name in SETS:
        means = [_mean([held.get(key(name, depth, seed)) for seed in SEEDS]) for depth in DEPTHS]
        chosen = [held.get(key(name, "auto", seed)) for seed in SEEDS]
        rows.append([*means, np.nanmax(means), _mean(chosen)])
        words = ", ".join("?" if one is None else str(DEPTHS[one["thawed"]]) for one in chosen)
        lines.append(f"| {name} | {' | '.join(f'{value:.3f}' for value in rows[-1])} | {words} |")
    overall = np.mean(rows, axis=0)
    lines.append(f"| **mean** | {' | '.join(f'{value:.3f}' for value in overall)} | {overall[-1] - overall[-2]:+.4f} |")
    return "\n".join(lines)


def _mean(found: list[dict[str, Any] | None]) -> float:
    return float("nan") if any(one is None for one in found) else float(np.mean([one["auroc"] for one in found if one]))


def cost(options: argparse.Namespace, name: str) -> str:
    """Time the search, and whole fits of all stages on the same three parts."""
    data, words = words_of(options, name, 0)
    settings = words.pop("settings")
    recipe = with_options(Recipe(), {**words, "epochs": epochs(name, SIZE)}, settings=settings)  # type: ignore[call-arg]
    recipe, found, task, pixels = prepare(data, recipe, listen=lambda event: None)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MEDGRAFT_HOME"] = folder  # nothing is cached from before
        began = time.perf_counter()
        depth_finder.find(recipe, found, task, pixels, folder=Path(folder) / "trials", listen=lambda event: None)
        searched = time.perf_counter() - began
        began = time.perf_counter()
        # The head's features alone are kept: a whole fit draws its pixels anew in every epoch.
        head = recipe.changed({"depth.candidates": ["head"]})
        with depth_finder.opened(head, found, task, pixels, folder=Path(folder) / "whole") as finder:
            every = len(task.parts().stages)
            finder.run([Trial(every, finder.recipe.fit.lr or 1e-3, finder.recipe.fit.epochs or 1)])
        fitted = time.perf_counter() - began
    return f"search {searched:.0f} s, three whole fits {fitted:.0f} s, ratio {searched / fitted:.2f}"


if __name__ == "__main__":
    main()
