"""Do embedded weights beat random numbers, and how near do they come to ImageNet? The table of docs/results.md.

Every set marked "classification" in the folder of real data; three arms: random numbers in the embedded encoder's
architecture, the embedded encoder, and MobileNetV2 with ImageNet weights. Each arm as a probe (the head alone at its
optimum; five seeds) and fine-tuned (every stage, from the probe on; three seeds, as many steps for every arm), at 50,
200 and all training images of 96 pixels. The AUROC is that of the test part, which no
run chooses anything on; the better of two modes, which the gain is taken of, is the better on it. Every cell is
`medgraft train`; what is done is kept in --out and in the file of results, so that a second call goes on.

    python benchmarks/embedded.py --shared ../shared --out runs/embedded            # what is missing
    python benchmarks/embedded.py --table                                           # from the file of results
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

import medgraft as mg
from medgraft.scores.ranking import auroc
from medgraft.scores.resample import patient_codes, resamples
from medgraft.storage import sha256_file
from medgraft.weights.catalogue import embedded_path
from results import SETS

ARMS = ("random", "embedded", "ImageNet")
SIZES = ("50", "200", "all")
MODES = ("probe", "tuned")
SEEDS = {"probe": (0, 1, 2, 3, 4), "tuned": (0, 1, 2)}
SIDE = 96
RESAMPLES = 200
RESULTS = Path(__file__).with_name("embedded.npz")
# Images shown in fine-tuning, whatever the arm: about 190 steps of 16, 280 of 32, 500 of 32.
SHOWN = {"50": 2_400, "200": 8_000, "all": 16_000}

Cell = tuple[str, str, str, str, int]  # set, size, mode, arm, seed


def main() -> None:
    """Run what is missing, then print the table."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--shared", type=Path, default=Path(os.environ.get("MEDGRAFT_SHARED", "../shared")))
    given.add_argument("--out", type=Path, default=Path("runs/embedded"))
    given.add_argument("--results", type=Path, default=RESULTS)
    given.add_argument("--encoder", default="embedded:resnet10t", help="the embedded encoder that is judged")
    given.add_argument("--modes", nargs="+", default=MODES, choices=MODES)
    given.add_argument("--arms", nargs="+", default=ARMS, choices=ARMS)
    given.add_argument("--sizes", nargs="+", default=SIZES, choices=SIZES)
    given.add_argument("--sets", nargs="+", default=tuple(SETS), choices=tuple(SETS))
    given.add_argument("--part", type=int, nargs=2, default=(0, 1), help="this process's number, of how many")
    given.add_argument("--table", action="store_true", help="print the table of what is there and stop")
    options = given.parse_args()
    path = embedded_path(options.encoder.removeprefix("embedded:"))
    options.mark = sha256_file(path)[:8]
    number, count = options.part
    jobs = [] if options.table else [cell for cell in cells() if wanted(options, cell)][number::count]
    for cell in jobs:
        print(*cell, f"{run(options, cell)[0]:.4f}", flush=True)
    print(table(collect(options), mark=options.mark))


def cells() -> Iterator[Cell]:
    """Name every cell, those that tell most first."""
    for mode in MODES:
        for seed in SEEDS[mode]:
            for size in ("200", "all", "50"):
                for name in SETS:
                    for arm in ARMS:
                        yield name, size, mode, arm, seed


def key(name: str, size: str, mode: str, arm: str, seed: int, *, mark: str) -> str:
    """Get the name of a cell in the file of results; that of an embedded encoder bears the mark of its weights."""
    return f"{name}/{size}/{mode}/{arm}{'@' + mark if arm == 'embedded' else ''}/{seed}"


def wanted(options: argparse.Namespace, cell: Cell) -> bool:
    """Say whether a cell was asked for and is not there yet."""
    name, size, mode, arm, _ = cell
    asked = name in options.sets and mode in options.modes and arm in options.arms and size in options.sizes
    return asked and key(*cell, mark=options.mark) not in collect(options)


def run(options: argparse.Namespace, cell: Cell) -> np.ndarray:
    """Train one cell; get its AUROC, then those of resampled test patients; the run itself is not kept."""
    name, size, mode, arm, seed = cell
    place = options.out / key(*cell, mark=options.mark).replace("/", "-")
    kept = place.with_suffix(".npy")
    if kept.exists():
        return np.load(kept)
    shutil.rmtree(place, ignore_errors=True)
    file, more, settings = SETS[name]
    backbone = {
        "random": f"none:{options.encoder}",
        "embedded": options.encoder,
        "ImageNet": f"file:{options.shared / 'weights' / 'mobilenet_v2.safetensors'}",
    }[arm]
    settings = {**settings, "fit.channels_last": True, "scores.resamples": 100, "fit.precision": "bf16"}
    if size != "all":
        settings["split.limit_train"] = int(size)
    if mode == "tuned":
        settings |= {"fit.batch_size": 16 if size == "50" else 32, "fit.patience": 0}
    mg.train(
        options.shared / "data" / name / file,
        out=place,
        backbone=backbone,
        depth="head" if mode == "probe" else "all",
        epochs=None if mode == "probe" else epochs(name, size),
        image_size=SIDE,
        seed=seed,
        settings=settings,
        **more,
    )
    found = resampled(place / "predictions.csv", seed)
    np.save(kept, found)
    shutil.rmtree(place)
    return found


def epochs(name: str, size: str) -> int:
    """Get the passes that show as many images as SHOWN says."""
    all_images = {"pneumoniamnist_reduced": 3882, "cxr_pneumonia_624": 437, "brain_tumor_mri": 485}.get(name, 850)
    return max(1, round(SHOWN[size] / min(all_images, int(size) if size != "all" else all_images)))


def resampled(path: Path, seed: int) -> np.ndarray:
    """Get the test AUROC, then that of RESAMPLES draws of test patients, the same draws for every arm."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = sorted((row for row in csv.DictReader(file) if row["split"] == "test"), key=lambda row: row["key"])
    classes = [column.removeprefix("p_") for column in rows[0] if column.startswith("p_")]
    truth = np.array([classes.index(row["target"]) for row in rows])
    chances = np.array([[float(row[f"p_{name}"]) for name in classes] for row in rows])
    chances = chances[:, 1] if len(classes) == 2 else chances
    codes, _ = patient_codes([row["patient"] or row["key"] for row in rows], len(rows))
    drawn = np.concatenate([auroc(truth, chances, weights=w) for w in resamples(codes, seed=seed, count=RESAMPLES)])
    return np.concatenate([[auroc(truth, chances)], drawn]).astype(np.float32)


def collect(options: argparse.Namespace) -> dict[str, np.ndarray]:
    """Gather what the file of results holds and what lies in --out, and write the file again when there is news."""
    held: dict[str, np.ndarray] = {}
    if options.results.exists():
        with np.load(options.results) as file:
            held = dict(zip(file["cells"].tolist(), file["values"], strict=True))
    new = {path.stem.replace("-", "/"): np.load(path) for path in options.out.glob("*.npy")}
    if set(new) - set(held):
        held |= new
        names = sorted(held)
        np.savez_compressed(options.results, cells=names, values=np.stack([held[n] for n in names]).astype(np.float16))
    return held


Held = dict[str, np.ndarray]


def table(held: Held, *, mark: str) -> str:
    """Get the results as Markdown: means over seeds, and gains with 95 % intervals."""
    heads = [f"{arm} {mode}" for arm in ARMS for mode in MODES]
    lines = [f"| set | images | {' | '.join(heads)} | gain over the better random arm |", "|---" * 9 + "|"]
    for size in SIZES:
        gains, best, columns = [], [], []
        for name in SETS:
            values = {
                (a, m): found
                for a in ARMS
                for m in MODES
                if (found := seeds_of(held, mark, (name, size, m, a))) is not None
            }
            means = {key: found[:, 0].mean() for key, found in values.items()}
            columns.append([means.get((a, m), np.nan) for a in ARMS for m in MODES])
            tops = {
                arm: max((key for key in means if key[0] == arm), key=means.__getitem__, default=None) for arm in ARMS
            }
            gain = ""
            if {(a, m) for a in ("random", "embedded") for m in MODES} <= set(means):  # else the better is not known
                difference = paired(values[tops["embedded"]], values[tops["random"]])
                gains.append(difference)
                best.append([means[tops[arm]] if tops[arm] else np.nan for arm in ARMS])
                gain = "{:+.3f} ({:+.3f} to {:+.3f})".format(difference[:, 0].mean(), *interval([difference]))
            lines.append(f"| {name} | {size} | {shown(columns[-1])} | {gain} |")
        if len(gains) == len(SETS):  # a mean of some sets would be taken for that of all
            means = shown(np.mean(columns, axis=0))
            lines.append(f"| **mean** | {size} | {means} | {summary(gains, np.array(best))} |")
    return "\n".join(lines)


def shown(values: Iterable[float]) -> str:
    """Get cells of one row; what is not there yet is empty."""
    return " | ".join("" if np.isnan(value) else f"{value:.3f}" for value in values)


def seeds_of(held: Held, mark: str, cell: tuple[str, str, str, str]) -> np.ndarray | None:
    """Get the seeds of (set, size, mode, arm), `(seeds, 1 + RESAMPLES)`; None unless all are there."""
    found = [held.get(key(*cell, seed, mark=mark)) for seed in SEEDS[cell[2]]]
    return None if any(value is None for value in found) else np.stack(found).astype(np.float64)  # type: ignore[arg-type]


def paired(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Get the difference by seed and draw, of the seeds that both have."""
    both = min(len(one), len(other))
    return one[:both] - other[:both]


def summary(gains: list[np.ndarray], best: np.ndarray) -> str:
    """Say the mean gain with its interval, and how much of the way to ImageNet it is; `best` is (sets, arms)."""
    mean = np.mean([part[:, 0].mean() for part in gains])
    random, ours, real = best.mean(axis=0)
    way = "" if np.isnan(real) else f"; {(ours - random) / (real - random):.0%} of the way to ImageNet"
    return "**{:+.3f}** ({:+.3f} to {:+.3f}){}".format(mean, *interval(gains), way)


def interval(gains: list[np.ndarray], count: int = 10_000) -> tuple[float, float]:
    """Resample sets, seeds within each, and test patients within those: where the mean gain lies in 95 % of draws.

    Args:
        gains: a set each, `(seeds, 1 + RESAMPLES)`: the gain, then that of resampled test patients.
        count: draws.
    """
    random = np.random.default_rng(0)
    means = np.empty(count)
    for draw in range(count):
        sets = random.integers(len(gains), size=len(gains)) if len(gains) > 1 else [0]
        values = []
        for k in sets:
            seeds = random.integers(len(gains[k]), size=len(gains[k]))
            values.append(gains[k][seeds, random.integers(1, gains[k].shape[1], size=len(seeds))].mean())
        means[draw] = np.mean(values)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


if __name__ == "__main__":
    main()
