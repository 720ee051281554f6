"""Does the depth finder choose well, and what does it cost? The table of docs/results.md.

Six sets, all or 200 training images of 96 pixels, the embedded encoder, three seeds. Every depth is trained to its end
(`medgraft train --depth N`; the head and all stages are cells of `benchmarks/embedded.py`), and the finder is asked on
the same training images (`medgraft train --depth auto`). The AUROC is that of the test part, the same images for every
seed of a set, which neither depth nor rate is chosen on. "Best" is the depth whose mean over the seeds is highest,
found with the test part itself: nobody can choose so, and it is what the finder is measured against.

Cost is wall time in one process on the same machine: the whole search over three parts of the training images, against
tuning every stage to the end on each of the three parts.

    python benchmarks/depth.py --shared ../shared            # what is missing
    python benchmarks/depth.py --table                       # from the file of results
    python benchmarks/depth.py --cost ham10000_sub brain_tumor_mri
"""

from __future__ import annotations

import argparse
import itertools
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
from embedded import key as cell_key
from medgraft import depth_finder
from medgraft.learn.trials import Trial
from medgraft.preparing import prepare
from medgraft.recipe import Recipe, with_options
from medgraft.storage import sha256_file
from medgraft.weights.catalogue import embedded_path
from results import SETS

DEPTHS = {0: "head", 1: 1, 2: 2, 3: 3, 5: "all"}
SEEDS = (0, 1, 2)
SIZES = ("all", "200")


def main() -> None:
    """Run what is missing, then print the table."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--shared", type=Path, default=Path(os.environ.get("MEDGRAFT_SHARED", "../shared")))
    given.add_argument("--out", type=Path, default=Path("runs/depth"))
    given.add_argument("--results", type=Path, default=Path(__file__).with_suffix(".json"))
    given.add_argument("--part", type=int, nargs=2, default=(0, 1), help="this process's number, of how many")
    given.add_argument("--size", choices=SIZES, default=SIZES[0], help="training images")
    given.add_argument("--sets", nargs="+", default=tuple(SETS), choices=tuple(SETS))
    given.add_argument("--depths", nargs="*", help="these alone, such as auto 1 2")
    given.add_argument("--table", action="store_true", help="print the table of what is there and stop")
    given.add_argument("--cost", nargs="*", help="time the search against whole fits on these sets and stop")
    options = given.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.cost is not None:
        for name in options.cost or ("ham10000_sub", "brain_tumor_mri"):
            print(name, cost(options, name), flush=True)
        return
    number, count = options.part
    depths = options.depths or ("auto", 1, 2, 3)
    jobs = [(name, options.size, depth, seed) for seed in SEEDS for name in options.sets for depth in depths]
    held = collect(options)
    for job in [] if options.table else [job for job in jobs if key(*job) not in held][number::count]:
        print(key(*job), run(options, *job), flush=True)
    print(table(collect(options), options.size))


def key(name: str, size: str, depth: str | int, seed: int) -> str:
    """Get the name of a run in the file of results."""
    return f"{name}/{size}/{depth}/{seed}"


def words_of(options: argparse.Namespace, name: str, size: str, seed: int) -> tuple[Path, dict[str, Any]]:
    """Get the data of a set, and the options that all depths have in common."""
    data, more, settings = data_of(options, name)
    settings = {**settings, "fit.channels_last": True, "fit.precision": "bf16", "scores.resamples": 100}
    settings |= {"scores.learning": False, "scores.shortcuts": False, "scores.stress": False}
    settings |= {"fit.batch_size": 32, "fit.patience": 0}
    if size != "all":
        settings["split.limit_train"] = int(size)
    return data, {**more, "settings": settings, "image_size": SIDE, "seed": seed}


def run(options: argparse.Namespace, name: str, size: str, depth: str | int, seed: int) -> dict[str, Any]:
    """Train one depth to its end and keep its test AUROC, or ask the finder and keep what it says."""
    kept = (options.out / key(name, size, depth, seed).replace("/", "-")).with_suffix(".json")
    if kept.exists():
        return json.loads(kept.read_text())
    place = kept.with_suffix("")
    shutil.rmtree(place, ignore_errors=True)
    data, words = words_of(options, name, size, seed)
    words["epochs"] = epochs(name, size)
    if depth == "auto":
        entry = mg.depth(data, out=place, **words)
        planned = max(one["lr"] for one in entry["tried"])
        found = {name: entry[name] for name in ("thawed_stages", "lr", "seconds", "tried")}
        found["curve"] = [[row["thawed"], row["val"]["value"], row["behind"]] for row in entry["curve"]]
        if entry["lr"] not in (None, planned):  # the cells of single depths are of the planned rate
            chosen = "all" if entry["thawed_stages"] == entry["of"] else entry["thawed_stages"]
            words["settings"]["fit.lr"] = entry["lr"]
            mg.train(data, out=place / "run", depth=chosen, **words)
            found["auroc"] = float(judged(place / "run" / "predictions.csv")[1])
    else:
        mg.train(data, out=place, depth=depth, **words)
        found = {"auroc": float(judged(place / "predictions.csv")[1])}
    kept.write_text(json.dumps(found))
    shutil.rmtree(place)
    return found


def collect(options: argparse.Namespace) -> dict[str, Any]:
    """Gather the single runs into the file of results, and get all there are, those of `benchmarks/embedded.py` too."""
    held = json.loads(options.results.read_text()) if options.results.exists() else {}
    held |= {path.stem.replace("-", "/"): json.loads(path.read_text()) for path in options.out.glob("*-*-*-?.json")}
    if held:
        options.results.write_text(json.dumps(held, sort_keys=True, indent=0) + "\n")
    mark = sha256_file(embedded_path("resnet10t"))[:8]
    with np.load(Path(__file__).with_name("embedded-resnet10t.npz")) as file:
        there = dict(zip(file["cells"].tolist(), file["values"], strict=True))
    for name, size, seed in itertools.product(SETS, SIZES, SEEDS):
        for depth, mode in (("head", "probe"), ("all", "tuned")):
            found = there[cell_key(name, size, mode, "embedded", seed, mark=mark)]
            held[key(name, size, depth, seed)] = {"auroc": float(found[1])}
    return held


def table(held: dict[str, Any], size: str) -> str:
    """Get the table as Markdown."""
    lines = [
        f"| set | {' | '.join(map(str, DEPTHS.values()))} | best | chosen | which |",
        "|---" * (len(DEPTHS) + 4) + "|",
    ]
    rows = []
    for name in SETS:
        means = [_mean([held.get(key(name, size, depth, seed)) for seed in SEEDS]) for depth in DEPTHS.values()]
        found = [held.get(key(name, size, "auto", seed)) for seed in SEEDS]
        depths = [None if one is None else DEPTHS[one["thawed_stages"]] for one in found]
        chosen = [
            one if one is None or "auroc" in one else held.get(key(name, size, str(depth), seed))
            for one, depth, seed in zip(found, depths, SEEDS, strict=True)
        ]
        rows.append([*means, np.max(means), _mean(chosen)])
        words = ", ".join("" if depth is None else str(depth) for depth in depths)
        lines.append(f"| {name} | {' | '.join(f'{value:.3f}' for value in rows[-1])} | {words} |")
    overall = np.mean(rows, axis=0)
    lines.append(f"| **mean** | {' | '.join(f'{value:.3f}' for value in overall)} | {overall[-1] - overall[-2]:+.4f} |")
    return "\n".join(lines)


def _mean(found: list[dict[str, Any] | None]) -> float:
    return float("nan") if any(one is None for one in found) else float(np.mean([one["auroc"] for one in found if one]))


def cost(options: argparse.Namespace, name: str) -> str:
    """Time the search, and whole fits of all stages on the same three parts."""
    data, words = words_of(options, name, options.size, 0)
    settings = words.pop("settings")
    recipe = with_options(Recipe(), {**words, "epochs": epochs(name, options.size)}, settings=settings)  # type: ignore[call-arg]
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
