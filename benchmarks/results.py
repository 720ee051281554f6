"""Do trained weights beat random ones on real medical images? Writes the table of docs/results.md.

Every set marked "classification" in the folder of real data, the same architecture from ImageNet weights and
from random numbers, the same recipe otherwise, at 200 training images and at all, three seeds. The AUROC is that
of the test part. Runs are kept in --out, so that a second call goes on where the first stopped.

    python benchmarks/results.py --shared ../shared --out runs/results --net squeezenet1_1 --depth all
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

SETS = {
    "ham10000_sub": ("manifest.csv", []),
    "odir5k_sub": ("manifest.csv", []),
    "cxr_pneumonia_624": ("manifest.csv", ["--patients-unknown"]),
    "covid_cxr": ("manifest.csv", ["--patients-unknown"]),
    "brain_tumor_mri": ("manifest.csv", ["--patients-unknown", "--split-column", "none"]),
    "pneumoniamnist_reduced": ("pneumoniamnist.npz", ["--patients-unknown", "--set", "split.allow_leaks=true"]),
}
ARMS = ("ImageNet", "random")
SIZES = ("200", "all")
SEEDS = (0, 1, 2)


def main() -> None:
    """Run what is missing, two runs at a time with one thread each, then print the table."""
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--shared", type=Path, default=Path(os.environ.get("MEDGRAFT_SHARED", "../shared")))
    given.add_argument("--out", type=Path, default=Path("runs/results"))
    given.add_argument("--net", default="squeezenet1_1", choices=("squeezenet1_1", "mobilenet_v2"))
    given.add_argument("--depth", default="all")
    given.add_argument("--epochs", type=int, default=20, help="at all images; twice as many at 200")
    given.add_argument("--jobs", type=int, default=2)
    given.add_argument("--table", action="store_true", help="print the table of what is there and stop")
    options = given.parse_args()
    jobs = [(name, size, arm, seed) for size in SIZES for name in SETS for seed in SEEDS for arm in ARMS]
    if not options.table:
        with ThreadPoolExecutor(options.jobs) as pool:
            for job, said in zip(jobs, pool.map(lambda job: run(options, *job), jobs), strict=True):
                print(*job, said, flush=True)
    print(table(options))


def folder(options: argparse.Namespace, name: str, size: str, arm: str, seed: int) -> Path:
    """Get the run folder of one cell."""
    return options.out / options.net / f"depth_{options.depth}" / f"{name}-{size}-{arm}-{seed}"


def run(options: argparse.Namespace, name: str, size: str, arm: str, seed: int) -> str:
    """Train one cell with the command a user would type."""
    out = folder(options, name, size, arm, seed)
    if not (out / "report.json").exists():
        file, more = SETS[name]
        weights = f"file:{options.shared / 'weights' / options.net}.safetensors"
        # The largest set has as many steps as the others, not as many epochs.
        epochs = options.epochs if name != "pneumoniamnist_reduced" else max(1, options.epochs // 3)
        command = [sys.executable, "-c", "from medgraft.cli import main; main()", "train"]
        command += [str(options.shared / "data" / name / file), "--out", str(out), "--image-size", "128"]
        command += ["--backbone", weights if arm == "ImageNet" else f"none:torchvision:{options.net}"]
        command += ["--depth", options.depth, "--seed", str(seed), *more, "--quiet"]
        command += ["--epochs", str(options.epochs * 2 if size == "200" else epochs)]
        command += ["--set", "fit.precision=bf16", "--set", "fit.channels_last=true", "--set", "scores.resamples=500"]
        command += ["--set", "split.limit_train=200"] if size == "200" else []
        command += ["--resume"] if (out / "recipe.yaml").exists() else []
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            return f"failed: {done.stderr.strip().splitlines()[-1]}"
    return f"{auroc(out):.4f}"


def auroc(out: Path) -> float:
    """Get the test AUROC of a run."""
    return json.loads((out / "report.json").read_text())["scores"]["test"]["auroc"]["value"]


def table(options: argparse.Namespace) -> str:
    """Get the results as Markdown: means over seeds, and the gain with a 95 % interval over sets and seeds."""
    lines = ["| set | training images | ImageNet | random | gain |", "|---|---|---|---|---|"]
    for size in SIZES:
        gains = []
        for name in SETS:
            values = {
                arm: [auroc(p) for s in SEEDS if (p := folder(options, name, size, arm, s)).is_dir()] for arm in ARMS
            }
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
