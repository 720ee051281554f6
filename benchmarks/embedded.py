"""Do embedded weights beat random numbers, and how near do they come to ImageNet? The table of docs/results.md.

Every set marked "classification" in the folder of real data; three arms: random numbers in the embedded encoder's
architecture, the embedded encoder, and MobileNetV2 with ImageNet weights. Each arm as a probe (the head alone at its
optimum; five seeds) and fine-tuned (every stage, from the probe on; three seeds, as many steps for every arm), at 50,
200 and all training images of 96 pixels. The AUROC is that of the test part: the same images for every seed and arm
of a set, which nothing is chosen on. The gain of the embedded encoder over random numbers stands for each mode over
the seeds of that mode, and for the better mode of each arm, chosen on validation, over the seeds that both modes have.
Every cell is `medgraft train`; what is done is kept in --out and in the file of results, so that a second call goes on.
Both are of one encoder.

    python benchmarks/embedded.py --shared ../shared                                # what is missing
    python benchmarks/embedded.py --table                                           # from the file of results
    python benchmarks/embedded.py --encoder embedded:vit --arms random embedded --sizes 200
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import medgraft as mg
from medgraft.preparing import prepare
from medgraft.recipe import Recipe, with_options
from medgraft.scores.ranking import auroc
from medgraft.scores.resample import patient_codes, resamples
from medgraft.storage import sha256_file, sha256_json, write_table
from medgraft.weights.catalogue import embedded_path
from results import SETS

ARMS = ("random", "embedded", "ImageNet")
SIZES = ("50", "200", "all")
MODES = ("probe", "tuned")
SEEDS = {"probe": (0, 1, 2, 3, 4), "tuned": (0, 1, 2)}
COMMON = min(len(seeds) for seeds in SEEDS.values())  # so many first seeds do all modes have
SIDE = 96
RESAMPLES = 200
# Images shown in fine-tuning, whatever the arm: about 190 steps of 16, 280 of 32, 500 of 32.
SHOWN = {"50": 2_400, "200": 8_000, "all": 16_000}
# Sets without a published split that is used, and the mark of the test part that they keep: that of seed 0.
UNSPLIT = {"cxr_pneumonia_624": "74346475", "covid_cxr": "61b19857", "brain_tumor_mri": "589e39e7"}

Cell = tuple[str, str, str, str, int]  # set, size, mode, arm, seed
Held = dict[str, np.ndarray]  # by the key of a cell, what `judged` keeps of it
Values = dict[tuple[str, str], np.ndarray | None]  # by arm and mode, all seeds of a set and size: see `seeds_of`


def main() -> None:
    """Run what is missing, then print the table."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--shared", type=Path, default=Path(os.environ.get("MEDGRAFT_SHARED", "../shared")))
    given.add_argument("--out", type=Path, help="runs/embedded/ENCODER unless told")
    given.add_argument("--results", type=Path, help="benchmarks/embedded-ENCODER.npz unless told")
    given.add_argument("--encoder", default="embedded:resnet10t", help="the embedded encoder that is judged")
    given.add_argument("--modes", nargs="+", default=MODES, choices=MODES)
    given.add_argument("--arms", nargs="+", default=ARMS, choices=ARMS)
    given.add_argument("--sizes", nargs="+", default=SIZES, choices=SIZES)
    given.add_argument("--sets", nargs="+", default=tuple(SETS), choices=tuple(SETS))
    given.add_argument("--part", type=int, nargs=2, default=(0, 1), help="this process's number, of how many")
    given.add_argument("--table", action="store_true", help="print the table of what is there and stop")
    options = given.parse_args()
    encoder = options.encoder.removeprefix("embedded:")
    options.mark = sha256_file(embedded_path(encoder))[:8]
    options.out = options.out or Path("runs/embedded") / encoder
    options.results = options.results or Path(__file__).with_name(f"embedded-{encoder}.npz")
    number, count = options.part
    there = collect(options)
    jobs = [] if options.table else [cell for cell in cells() if wanted(options, cell, there)][number::count]
    for cell in jobs:
        print(*cell, f"{run(options, cell)[1]:.4f}", flush=True)
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


def wanted(options: argparse.Namespace, cell: Cell, there: Held) -> bool:
    """Say whether a cell was asked for and is not there yet."""
    name, size, mode, arm, _ = cell
    asked = name in options.sets and mode in options.modes and arm in options.arms and size in options.sizes
    return asked and key(*cell, mark=options.mark) not in there


def run(options: argparse.Namespace, cell: Cell) -> np.ndarray:
    """Train one cell; get what `judged` keeps of it; the run itself is not kept."""
    name, size, mode, arm, seed = cell
    place = options.out / key(*cell, mark=options.mark).replace("/", "-")
    kept = place.with_suffix(".npy")
    if kept.exists():
        return np.load(kept)
    shutil.rmtree(place, ignore_errors=True)
    data, more, settings = data_of(options, name)
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
        data,
        out=place,
        backbone=backbone,
        depth="head" if mode == "probe" else "all",
        epochs=None if mode == "probe" else epochs(name, size),
        image_size=SIDE,
        seed=seed,
        settings=settings,
        **more,
    )
    found = judged(place / "predictions.csv")
    np.save(kept, found)
    shutil.rmtree(place)
    return found


def data_of(options: argparse.Namespace, name: str) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """Get the data of a set with one test part for all seeds, and the options and settings that go with them.

    A set without a split gets a table that gives the rows that seed 0 tests on to the test and the others to train,
    out of which each seed cuts its validation. The split of seed 0 keeps patients and copies together, so none of
    them crosses the border.
    """
    file, more, settings = SETS[name]
    source = options.shared / "data" / name / file
    if name not in UNSPLIT:
        return source, more, settings
    table = options.out / "tables" / f"{name}.csv"
    if not table.exists():
        recipe = with_options(Recipe(), {**more, "image_size": SIDE, "seed": 0}, settings=settings)  # type: ignore[call-arg]
        _, found, _, _ = prepare(source, recipe, listen=lambda event: None)
        found.store.close()
        mark = sha256_json(sorted(sample.key for sample in found.samples if sample.split == "test"))[:8]
        if mark != UNSPLIT[name]:
            what = f"{name}: seed 0 now tests on other rows ({mark}) than the cells in the file of results"
            raise SystemExit(f"{what} ({UNSPLIT[name]}). Void its cells and put the new mark into UNSPLIT.")
        rows = [
            {
                "path": sample.image.path.resolve(),
                "label": sample.label,
                "patient": sample.patient,
                "split": "test" if sample.split == "test" else "train",
            }
            for sample in found.samples
        ]
        write_table(table, rows, columns=tuple(rows[0]))
    return table, {word: value for word, value in more.items() if word != "split_column"}, settings


def epochs(name: str, size: str) -> int:
    """Get the passes that show as many images as SHOWN says."""
    all_images = {"pneumoniamnist_reduced": 3882, "cxr_pneumonia_624": 437, "brain_tumor_mri": 486}.get(name, 850)
    return max(1, round(SHOWN[size] / min(all_images, int(size) if size != "all" else all_images)))


def judged(path: Path) -> np.ndarray:
    """Get what is kept of a cell: validation AUROC, test AUROC, then that of RESAMPLES draws of test patients.

    Draw k is of the same patients for every seed and arm of a set, since all of them test on the same images.
    """
    with open(path, encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["key"])
    test = [row for row in rows if row["split"] == "test"]
    truth, chances = answers([row for row in rows if row["split"] == "val"])
    points = [auroc(truth, chances)]
    truth, chances = answers(test)
    points.append(auroc(truth, chances))
    codes, _ = patient_codes([row["patient"] or row["key"] for row in test], len(test))
    drawn = [auroc(truth, chances, weights=weights) for weights in resamples(codes, seed=0, count=RESAMPLES)]
    return np.concatenate([points, *drawn]).astype(np.float16)


def answers(rows: Sequence[Mapping[str, str]]) -> tuple[np.ndarray, np.ndarray]:
    """Get the numbers of the true classes (n,), and the chances (n, K), of two classes those of the second (n,)."""
    classes = [column.removeprefix("p_") for column in rows[0] if column.startswith("p_")]
    truth = np.array([classes.index(row["target"]) for row in rows])
    chances = np.array([[float(row[f"p_{name}"]) for name in classes] for row in rows])
    return truth, chances[:, 1] if len(classes) == 2 else chances


def collect(options: argparse.Namespace) -> Held:
    """Gather what the file of results holds and what lies in --out, and write the file again when there is news."""
    held: Held = {}
    if options.results.exists():
        with np.load(options.results) as file:
            held = dict(zip(file["cells"].tolist(), file["values"], strict=True))
    new = {path.stem.replace("-", "/"): np.load(path) for path in options.out.glob("*.npy")}
    if set(new) - set(held):
        held |= new
        names = sorted(held)
        np.savez_compressed(options.results, cells=names, values=np.stack([held[n] for n in names]))
    return held


def table(held: Held, *, mark: str) -> str:
    """Get the results as Markdown: means over the seeds of a mode, and gains with 95 % intervals.

    The gain of a mode is over its own seeds; that of the better mode, and the way to ImageNet, over those that both
    modes have. A number whose cells are not all there is left out, a mean over the sets that lacks a set, and a size
    without numbers.
    """
    heads = [f"{arm} {mode}" for arm in ARMS for mode in MODES]
    heads += [f"gain, {mode} ({len(SEEDS[mode])} seeds)" for mode in MODES] + [f"gain, better mode ({COMMON} seeds)"]
    lines = [f"| set | images | {' | '.join(heads)} |", "|---" * (2 + len(heads)) + "|"]
    for size in SIZES:
        sets = [of_set(held, mark, name, size) for name in SETS]
        if all(own is None for values in sets for own in values.values()):
            continue
        means = np.array([[np.nan if (own := v[k]) is None else own[:, 1].mean() for k in v] for v in sets])
        gains = [gains_of(values) for values in sets]
        for name, row, own in zip(SETS, means, gains, strict=True):
            lines.append(f"| {name} | {size} | {shown(row)} | {' | '.join(told([gain]) for gain in own)} |")
        *modes, better = map(told, zip(*gains, strict=True))
        last = " | ".join([*modes, better + way(sets)])
        lines.append(f"| **mean** | {size} | {shown(means.mean(axis=0))} | {last} |")
    return "\n".join(lines)


def shown(values: np.ndarray) -> str:
    """Get cells of one row; what is not there yet is empty."""
    return " | ".join("" if np.isnan(value) else f"{value:.3f}" for value in values)


def told(gains: Sequence[np.ndarray | None]) -> str:
    """Get the mean gain of some sets with its interval; empty unless all are there."""
    there = [gain for gain in gains if gain is not None]
    if len(there) < len(gains):
        return ""
    return "{:+.3f} ({:+.3f} to {:+.3f})".format(np.mean([gain[:, 0].mean() for gain in there]), *interval(there))


def way(sets: Sequence[Values]) -> str:
    """Say how much of the way from random numbers to ImageNet the embedded encoder goes, each in its better mode."""
    best = [[chosen(values, arm) for arm in ARMS] for values in sets]
    if any(part is None for row in best for part in row):
        return ""
    random, ours, real = np.mean([[part[:, 0].mean() for part in row] for row in best], axis=0)  # type: ignore[index]
    return f"; {(ours - random) / (real - random):.0%} of the way to ImageNet" if real > random else ""


def of_set(held: Held, mark: str, name: str, size: str) -> Values:
    """Get the seeds of every arm and mode, in the order of the columns."""
    return {(arm, mode): seeds_of(held, mark, (name, size, mode, arm)) for arm in ARMS for mode in MODES}


def seeds_of(held: Held, mark: str, cell: tuple[str, str, str, str]) -> np.ndarray | None:
    """Get the seeds of (set, size, mode, arm), `(seeds, 2 + RESAMPLES)`; None unless all are there."""
    found = [held.get(key(*cell, seed, mark=mark)) for seed in SEEDS[cell[2]]]
    return None if any(value is None for value in found) else np.stack(found).astype(np.float64)  # type: ignore[arg-type]


def gains_of(values: Values) -> list[np.ndarray | None]:
    """Get embedded less random, `(seeds, 1 + RESAMPLES)`: of each mode, then of the better mode of each arm."""
    pairs = [[None if (own := values[arm, mode]) is None else own[:, 1:] for arm in ARMS[:2]] for mode in MODES]
    pairs.append([chosen(values, arm) for arm in ARMS[:2]])
    return [None if random is None or ours is None else ours - random for random, ours in pairs]


def chosen(values: Values, arm: str) -> np.ndarray | None:
    """Get the test AUROCs, `(seeds, 1 + RESAMPLES)`, of the mode of an arm that does better on validation.

    Over the seeds that all modes have; where two do as well, the first. None unless all modes are there.
    """
    # Validation flatters a tuned net, which has chosen its epoch on it (the probe that it began with among them), and
    # so leans to tuning. It is still the place to choose: a user has no other, the lean is the same for every arm, and
    # no test image has a say, so that the figure that is shown is not flattered.
    modes = [own[:COMMON] for mode in MODES if (own := values[arm, mode]) is not None]
    if len(modes) < len(MODES):
        return None
    return max(modes, key=lambda own: own[:, 0].mean())[:, 1:]


def interval(gains: Sequence[np.ndarray], count: int = 10_000) -> tuple[float, float]:
    """Resample sets, seeds within each, and test patients within those: where the mean gain lies in 95 % of draws.

    The seeds of a set test on the same images, so one draw of patients holds for all of them.

    Args:
        gains: a set each, `(seeds, 1 + RESAMPLES)`: the gain, then that of resampled test patients.
        count: draws.
    """
    random = np.random.default_rng(0)
    sets = random.integers(len(gains), size=(count, len(gains)))
    drawn = np.empty(sets.shape)
    for number, own in enumerate(gains):
        times = np.count_nonzero(sets == number)
        seeds = random.integers(len(own), size=(times, len(own)))
        patients = random.integers(1, own.shape[1], size=(times, 1))
        drawn[sets == number] = own[seeds, patients].mean(axis=1)
    means = drawn.mean(axis=1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


if __name__ == "__main__":
    main()
