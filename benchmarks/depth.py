"""Does the depth finder choose well, and what does it cost? The table of docs/results.md.

Five sets, all or 200 training images of 96 pixels, the small embedded ResNet, three seeds. Every depth is trained to
its end (`medgraft train --depth N`). The finder is asked once a set, on the training images of the first seed
(`medgraft train --depth auto`), and the depth and rate that it chose are trained by all seeds. The AUROC is that of the
test part, the same images for every seed of a set, which nothing is chosen on.
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
from functools import partial
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

DEPTHS = {0: "head", 1: 1, 2: 2, 3: 3, 5: "all"}
SEEDS = (0, 1, 2)
SIZES = ("all", "200")
ENCODER = "embedded:resnet10t_small"
# The sixth of the tables in docs/results.md has 3,882 training images: four hours more.
ASKED = tuple(name for name in SETS if name != "pneumoniamnist_reduced")


def main() -> None:
    """Run what is missing, then print the table."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--shared", type=Path, default=Path(os.environ.get("MEDGRAFT_SHARED", "../shared")))
    given.add_argument("--out", type=Path, default=Path("runs/depth"))
    given.add_argument("--results", type=Path, default=Path(__file__).with_suffix(".json"))
    given.add_argument("--part", type=int, nargs=2, default=(0, 1), help="this process's number, of how many")
    given.add_argument("--size", choices=SIZES, default=SIZES[0], help="training images")
    given.add_argument("--sets", nargs="+", default=ASKED, choices=tuple(SETS))
    given.add_argument("--depths", nargs="*", help="these alone, such as auto 1 2")
    given.add_argument(
        "--precision",
        choices=("fp32", "bf16"),
        default="bf16",
        help="of all cells alike; fp32 goes with contiguous layout",
    )
    given.add_argument("--seeds", nargs="+", type=int, default=SEEDS, choices=SEEDS)
    given.add_argument("--table", action="store_true", help="print the table of what is there and stop")
    given.add_argument("--cost", nargs="*", help="time the search against whole fits on these sets and stop")
    options = given.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.cost is not None:
        for name in options.cost or ("ham10000_sub", "brain_tumor_mri"):
            print(name, cost(options, name), flush=True)
        return
    number, count = options.part
    depths = options.depths or ("auto", *DEPTHS.values(), "chosen")
    jobs = [(name, options.size, depth, seed) for seed in options.seeds for name in options.sets for depth in depths]
    jobs = [job for job in jobs if job[2] != "auto" or job[3] == SEEDS[0]]
    held = collect(options)
    for job in [] if options.table else [job for job in jobs if key(*job) not in held][number::count]:
        print(key(*job), run(options, *job), flush=True)
    print(table(collect(options), options))


def key(name: str, size: str, depth: str | int, seed: int) -> str:
    """Get the name of a run in the file of results."""
    return f"{name}/{size}/{depth}/{seed}"


def words_of(options: argparse.Namespace, name: str, size: str, seed: int) -> tuple[Path, dict[str, Any]]:
    """Get the data of a set, and the options that all depths have in common."""
    data, more, settings = data_of(options, name)
    settings = {
        **settings,
        "fit.channels_last": options.precision == "bf16",
        "fit.precision": options.precision,
        "scores.resamples": 100,
    }
    settings |= {"scores.learning": False, "scores.shortcuts": False, "scores.stress": False, "scores.maps": False}
    settings |= {"fit.batch_size": 32, "fit.patience": 0}
    if size != "all":
        settings["split.limit_train"] = int(size)
    return data, {**more, "backbone": ENCODER, "settings": settings, "image_size": SIDE, "seed": seed}


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
        found = {name: entry[name] for name in ("thawed_stages", "lr", "seconds", "tried")}
        found["curve"] = [[row["thawed"], row["val"]["value"], row["behind"]] for row in entry["curve"]]
    elif depth == "chosen":
        told = run(options, name, size, "auto", SEEDS[0])
        chosen = DEPTHS[told["thawed_stages"]]
        if told["lr"] in (None, max(one["lr"] for one in told["tried"])):  # the rate of the cells of single depths
            found = run(options, name, size, chosen, seed)
        else:
            words["settings"]["fit.lr"] = told["lr"]
            mg.train(data, out=place, depth=chosen, **words)
            found = tested(place)
    else:
        mg.train(data, out=place, depth=depth, **words)
        found = tested(place)
    kept.write_text(json.dumps(found))
    shutil.rmtree(place, ignore_errors=True)
    return found


def tested(folder: Path) -> dict[str, Any]:
    """Get the test AUROC of a run, and that of draws of test patients, the same ones for all runs on a set."""
    _, value, *draws = judged(folder / "predictions.csv").tolist()
    return {"auroc": round(value, 5), "draws": [round(one, 4) for one in draws]}


def collect(options: argparse.Namespace) -> dict[str, Any]:
    """Gather the single runs into the file of results, and get all there are."""
    held = json.loads(options.results.read_text()) if options.results.exists() else {}
    held |= {path.stem.replace("-", "/"): json.loads(path.read_text()) for path in options.out.glob("*-*-*-?.json")}
    if held:
        options.results.write_text(json.dumps(held, sort_keys=True, separators=(",", ":")) + "\n")
    return held


def table(held: dict[str, Any], options: argparse.Namespace) -> str:
    """Get the table as Markdown: means over the seeds that are there for every depth and the finder."""
    lines = [
        f"| set | seeds | {' | '.join(map(str, DEPTHS.values()))} | chosen | chosen less best | which |",
        "|---" * (len(DEPTHS) + 5) + "|",
    ]
    rows, gaps = [], []
    for name in options.sets:
        of = partial(key, name, options.size)
        seeds = [seed for seed in SEEDS if all(of(depth, seed) in held for depth in (*DEPTHS.values(), "chosen"))]
        if not seeds:
            continue
        *means, chosen = (
            np.mean([numbers(held[of(depth, seed)]) for seed in seeds], axis=0)
            for depth in (*DEPTHS.values(), "chosen")
        )
        told = held[of("auto", SEEDS[0])]
        which = f"{DEPTHS[told['thawed_stages']]}" + (f", rate {told['lr']:g}" if told["lr"] else "")
        best = max(means, key=lambda values: values[0])
        gaps.append(chosen - best)
        rows.append([one[0] for one in (*means, chosen)])
        cells = [f"{value:.3f}" for value in rows[-1]]
        lines.append(f"| {' | '.join([name, str(len(seeds)), *cells, gap(gaps[-1])])} | {which} |")
    if rows:
        cells = [f"{value:.3f}" for value in np.mean(rows, axis=0)]
        lines.append(f"| **mean** |  | {' | '.join([*cells, gap(np.mean(gaps, axis=0))])} |  |")
    return "\n".join(lines)


def numbers(found: dict[str, Any]) -> np.ndarray:
    """Get a run's AUROC, then that of the draws of patients."""
    return np.array([found["auroc"], *found["draws"]])


def gap(values: np.ndarray) -> str:
    """Get a difference with its 95 % interval."""
    low, high = np.percentile(values[1:], [2.5, 97.5])
    return f"{values[0]:+.4f} ({low:+.3f} to {high:+.3f})"


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
