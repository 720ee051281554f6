"""How many augmented views of an image does the cache of frozen layers need? Prints a table of test AUROCs.

With --depth head the frozen layers run once over a few views of each training image, and every epoch shows one of
them; all of the cost is in that number. Every set marked "classification" in the folder of real data, frozen
ImageNet weights, 200 training images, three seeds. Runs are kept in --out, so that a second call goes on.

    python benchmarks/views.py --shared ../shared --out runs/views
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np

import medgraft as mg
from results import PRECISION, SEEDS, SETS, auroc, done, interval

VIEWS = (1, 2, 3, 4, 8)
AGAINST = 4


def main() -> None:
    """Run what is missing, then print the table."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--shared", type=Path, default=Path(os.environ.get("MEDGRAFT_SHARED", "../shared")))
    given.add_argument("--out", type=Path, default=Path("runs/views"))
    given.add_argument("--net", default="mobilenet_v2", choices=tuple(PRECISION))
    options = given.parse_args()
    found = {name: np.array([[run(options, name, views, seed) for seed in SEEDS] for views in VIEWS]) for name in SETS}
    print("| set | " + " | ".join(f"{views} view{'s' if views > 1 else ''}" for views in VIEWS) + " |")
    print("|---" * (len(VIEWS) + 1) + "|")
    for name, values in found.items():
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in values.mean(axis=1)) + " |")
    every = np.array(list(found.values()))
    print("| **mean** | " + " | ".join(f"{value:.3f}" for value in every.mean(axis=(0, 2))) + " |")
    cells = []
    for place in range(len(VIEWS)):
        gains = every[:, place] - every[:, VIEWS.index(AGAINST)]
        low, high = interval(gains)
        cells.append("" if VIEWS[place] == AGAINST else f"{gains.mean():+.3f} ({low:+.3f} to {high:+.3f})")
    print(f"| difference from {AGAINST} views | " + " | ".join(cells) + " |")


def run(options: argparse.Namespace, name: str, views: int, seed: int) -> float:
    """Train the head alone on so many views, unless it was done before; get the test AUROC."""
    out = options.out / options.net / f"{name}-{views}-{seed}"
    if not done(out):
        file, more, settings = SETS[name]
        mg.train(
            options.shared / "data" / name / file,
            out=out,
            resume=(out / "recipe.yaml").exists(),
            backbone=f"file:{options.shared / 'weights' / options.net}.safetensors",
            depth="head",
            image_size=128,
            seed=seed,
            settings={
                "depth.views": views,
                "fit.precision": "bf16",
                "fit.channels_last": True,
                "scores.resamples": 500,
                "split.limit_train": 200,
                **settings,
            },
            **more,
        )
        print(name, views, seed, f"{auroc(out):.4f}", flush=True)
    return auroc(out)


if __name__ == "__main__":
    main()
