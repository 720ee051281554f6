"""Do trained weights beat random ones on real medical images? Writes the table of docs/results.md.

Every set marked "classification" in the folder of real data, the same architecture from ImageNet weights and
from random numbers, the same recipe otherwise, at 200 training images and at all, three seeds. The AUROC is that
of the test part. Runs are kept in --out, so that a second call goes on where the first stopped.

    python benchmarks/results.py --shared ../shared --out runs/results --net mobilenet_v2 --depth all
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

import medgraft as mg

SETS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "ham10000_sub": ("manifest.csv", {}, {}),
    "odir5k_sub": ("manifest.csv", {}, {}),
    "cxr_pneumonia_624": ("manifest.csv", {"patients_unknown": True}, {}),
    "covid_cxr": ("manifest.csv", {"patients_unknown": True}, {}),
    # Its published split shares images, so it is split anew with copies kept together.
    "brain_tumor_mri": ("manifest.csv", {"patients_unknown": True, "split_column": "none"}, {}),
    # Its published splits share eight exact copies; they are left as published, to compare.
    "pneumoniamnist_reduced": ("pneumoniamnist.npz", {"patients_unknown": True}, {"split.allow_leaks": True}),
}
# What the probe at the start of a run finds to be faster, written down so that every cell has the same arithmetic.
PRECISION = {"squeezenet1_1": "bf16", "mobilenet_v2": "fp32"}
ARMS = ("ImageNet", "random")
SIZES = ("200", "all")
SEEDS = (0, 1, 2)


def main() -> None:
    """Run what is missing, then print the table."""
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--shared", type=Path, default=Path(os.environ.get("MEDGRAFT_SHARED", "../shared")))
    given.add_argument("--out", type=Path, default=Path("runs/results"))
    given.add_argument("--net", default="mobilenet_v2", choices=tuple(PRECISION))
    given.add_argument("--depth", default="all")
    given.add_argument("--epochs", type=int, nargs=2, default=(24, 6), help="at 200 images, and at all")
    given.add_argument("--part", type=int, nargs=2, default=(0, 1), help="this process's number, of how many")
    given.add_argument("--table", action="store_true", help="print the table of what is there and stop")
    options = given.parse_args()
    jobs = [(name, size, arm, seed) for size in SIZES for name in SETS for seed in SEEDS for arm in ARMS]
    number, count = options.part
    for job in [] if options.table else jobs[number::count]:
        print(*job, f"{run(options, *job):.4f}", flush=True)
    print(table(options))


def folder(options: argparse.Namespace, name: str, size: str, arm: str, seed: int) -> Path:
    """Get the run folder of one cell."""
    return options.out / options.net / f"depth_{options.depth}" / f"{name}-{size}-{arm}-{seed}"


def run(options: argparse.Namespace, name: str, size: str, arm: str, seed: int) -> float:
    """Train one cell as `medgraft train` does, unless it is there; get its AUROC."""
    out = folder(options, name, size, arm, seed)
    if not done(out):
        file, more, settings = SETS[name]
        weights = f"file:{options.shared / 'weights' / options.net}.safetensors"
        few, many = options.epochs
        if name == "pneumoniamnist_reduced":
            many = max(1, many * 2 // 5)  # the largest set: as many steps as the others, not as many epochs
        if size == "200":
            settings = {**settings, "split.limit_train": 200}
        mg.train(
            options.shared / "data" / name / file,
            out=out,
            resume=(out / "recipe.yaml").exists(),
            backbone=weights if arm == "ImageNet" else f"none:torchvision:{options.net}",
            depth=options.depth,
            epochs=few if size == "200" else many,
            image_size=128,
            seed=seed,
            settings={
                "fit.precision": PRECISION[options.net],
                "fit.channels_last": True,
                "scores.resamples": 500,
                **settings,
            },
            **more,
        )
    return auroc(out)


def done(out: Path) -> bool:
    """Say whether a run is finished."""
    return (out / "report.json").exists()


def auroc(out: Path) -> float:
    """Get the test AUROC of a run."""
    return json.loads((out / "report.json").read_text())["scores"]["test"]["auroc"]["value"]


def table(options: argparse.Namespace) -> str:
    """Get the results as Markdown: means over seeds, and the gain with a 95 % interval over sets and seeds."""
    lines = ["| set | training images | ImageNet | random | gain |", "|---|---|---|---|---|"]
    for size in SIZES:
        gains = []
        for name in SETS:
            values = {arm: [auroc(p) for s in SEEDS if done(p := folder(options, name, size, arm, s))] for arm in ARMS}
            if min(map(len, values.values())) < len(SEEDS):
                continue
            own = np.subtract(values["ImageNet"], values["random"])
            gains.append(own)
            cells = [f"{np.mean(values[arm]):.3f} ± {np.std(values[arm], ddof=1):.3f}" for arm in ARMS]
            lines.append(f"| {name} | {size} | {cells[0]} | {cells[1]} | {own.mean():+.3f} |")
        if gains:
            low, high = interval(np.array(gains))
            mean = np.mean(gains)
            lines.append(f"| **mean** | {size} | | | **{mean:+.3f}** (95 % interval {low:+.3f} to {high:+.3f}) |")
    return "\n".join(lines)


def interval(gains: np.ndarray, count: int = 10_000) -> tuple[float, float]:
    """Resample sets, then seeds within each: the interval of the mean gain on sets like these."""
    random = np.random.default_rng(0)
    sets = random.integers(len(gains), size=(count, len(gains), 1))
    seeds = random.integers(gains.shape[1], size=(count, len(gains), gains.shape[1]))
    means = gains[sets, seeds].mean(axis=(1, 2))
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


if __name__ == "__main__":
    main()
