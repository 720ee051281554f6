"""What does augmentation buy on changed images? The tables "Stress" of docs/results.md.

Real sets, the embedded encoder, 96 pixels, 200 training images; each trained with no augmentation and with the
default one, otherwise alike, with a head alone and with every stage tuned, two seeds. All seeds and arms of a set
test on the same images, on which nothing is chosen. Then the test images (at most 150) are changed as
`medgraft stress` changes them. The drop is the AUROC on the images as they are less that on the changed ones, its mean
is over all changes and strengths; the ratio is the mean drop with augmentation to that without. The 95 % intervals
resample test patients and seeds. What is done is kept in --out, so that a second call goes on; after a change of the
presets give another one.

    python benchmarks/stress.py --shared ../shared --out runs/stress
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import medgraft as mg
from embedded import data_of
from medgraft import changed
from medgraft.samples.sheet import read_sheet
from medgraft.samples.stress import CHANGES
from medgraft.scores.ranking import auroc
from medgraft.scores.resample import patient_codes, resamples
from medgraft.stressing import tested_on
from medgraft.values import ImageRef

NAMES = ("cxr_pneumonia_624", "odir5k_sub", "ham10000_sub", "brain_tumor_mri")
ARMS = ("none", "auto")
DEPTHS = ("head", "all")
SIDE, IMAGES, SHOWN, TESTED, RESAMPLES = 96, 200, 4_000, 150, 500


def main() -> None:
    """Run what is missing, then print the tables."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--shared", type=Path, default=Path(os.environ.get("MEDGRAFT_SHARED", "../shared")))
    given.add_argument("--out", type=Path, default=Path("runs/stress"))
    given.add_argument("--sets", nargs="+", default=NAMES, choices=NAMES)
    given.add_argument("--arms", nargs="+", default=ARMS, choices=ARMS)
    given.add_argument("--depths", nargs="+", default=DEPTHS, choices=DEPTHS)
    given.add_argument("--seeds", type=int, nargs="+", default=(0, 1))
    given.add_argument("--table", action="store_true", help="print the tables of what is there and stop")
    options = given.parse_args()
    for cell in [] if options.table else cells(options):
        values = scores(run(options, *cell), draws=0)
        print(*cell, f"{values['plain'][0]:.3f} {mean_drop(values)[0]:.3f}", flush=True)
    for depth in options.depths:
        found = {name: pair(options, name, depth) for name in options.sets}
        found = {name: values for name, values in found.items() if values}
        if found:
            print(f"\nThawed: {depth}\n\n{table(found)}\n\n{by_change(found)}")


def cells(options: argparse.Namespace) -> Iterator[tuple[str, str, str, int]]:
    """Name every cell: set, depth, arm, seed."""
    for seed in options.seeds:
        for depth in options.depths:
            for name in options.sets:
                for arm in options.arms:
                    yield name, depth, arm, seed


def run(options: argparse.Namespace, name: str, depth: str, arm: str, seed: int) -> dict[str, np.ndarray]:
    """Train one cell, change its test images, and get its answers; the run itself is not kept."""
    place = options.out / f"{name}-{depth}-{arm}-{seed}"
    kept = place.with_suffix(".npz")
    if not kept.exists():
        shutil.rmtree(place, ignore_errors=True)
        data, more, settings = data_of(options, name)
        quiet = {f"scores.{question}": False for question in ("learning", "shortcuts", "stress")}
        settings = {**settings, **quiet, "fit.channels_last": True, "fit.precision": "bf16", "fit.patience": 0}
        mg.train(
            data,
            out=place,
            depth=depth,
            augment=arm,
            epochs=None if depth == "head" else round(SHOWN / IMAGES),
            image_size=SIDE,
            seed=seed,
            settings={**settings, "scores.resamples": 100, "split.limit_train": IMAGES},
            **more,
        )
        np.savez_compressed(kept, **asked(place))
        shutil.rmtree(place)
    with np.load(kept) as held:
        return dict(held)


def asked(place: Path) -> dict[str, np.ndarray]:
    """Get what a run answers to changed test images, by change and strength, with the truth and the patients."""
    run = mg.open_run(place)
    rows = [row for row in read_sheet(place / "samples.csv").rows if row["split"] == "test"]
    rows.sort(key=lambda row: row["key"])
    with tested_on(run, [ImageRef(Path(row["path"])) for row in rows], rows) as (logits, tested):
        chosen, found = changed.answers(run.model.task, logits, tested, seed=0, most=TESTED)
    patients = np.array([rows[k]["patient"] or rows[k]["key"] for k in chosen])
    answers = {f"{name} {strength:g}": given for (name, strength), given in found.items()}
    return {"truth": tested.targets[chosen], "patients": patients, **answers}


def scores(held: dict[str, np.ndarray], *, draws: int = RESAMPLES) -> dict[str, np.ndarray]:
    """Get by change: AUROC, then that of resamples of patients; `(strengths, 1 + draws)`, "plain" `(1 + draws,)`."""
    codes, _ = patient_codes(held["patients"].tolist(), len(held["truth"]))
    rows = [np.ones((1, len(codes))), *(resamples(codes, seed=0, count=draws) if draws else [])]

    def values(name: str) -> np.ndarray:
        return np.concatenate([np.atleast_1d(auroc(held["truth"], held[name], weights=w)) for w in rows])

    found = {"plain": values("plain 0")}
    for name, change in CHANGES.items():
        there = [values(f"{name} {strength:g}") for strength in change.strengths if f"{name} {strength:g}" in held]
        found |= {name: np.stack(there)} if there else {}
    return found


def mean_drop(values: dict[str, np.ndarray]) -> np.ndarray:
    """Get the mean over changes of `drops`."""
    return np.mean([drop(values, name) for name in values if name != "plain"], axis=0)


def drop(values: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Get the mean over strengths of what a change costs, `(1 + draws,)`."""
    return values["plain"] - values[name].mean(axis=0)


def pair(options: argparse.Namespace, name: str, depth: str) -> dict[str, list[dict[str, np.ndarray]]]:
    """Get the scores of both arms of a set, a seed each; empty unless all are there."""
    places = {arm: [options.out / f"{name}-{depth}-{arm}-{seed}.npz" for seed in options.seeds] for arm in ARMS}
    if not all(place.exists() for arm in ARMS for place in places[arm]):
        return {}
    return {arm: [scores(run(options, name, depth, arm, seed)) for seed in options.seeds] for arm in ARMS}


Pairs = dict[str, dict[str, list[dict[str, np.ndarray]]]]


def table(found: Pairs) -> str:
    """Get the first table as Markdown: clean AUROC and mean drop of each set, and the mean over the sets."""
    lines = ["| set | AUROC, none | default | difference | mean drop, none | default | ratio |", "|---" * 7 + "|"]
    rows = {name: told(values) for name, values in found.items()}
    for name, (plain, drops) in rows.items():
        lines.append(f"| {name} | {line(plain, drops)} |")
    plain, drops = (np.mean([row[k] for row in rows.values()], axis=0) for k in (0, 1))
    lines.append(f"| **mean** | {line(plain, drops)} |")
    return "\n".join(lines)


def told(values: dict[str, list[dict[str, np.ndarray]]]) -> tuple[np.ndarray, np.ndarray]:
    """Get clean AUROC and mean drop, `(2 arms, 1 + draws)` each; a draw is of seeds too."""
    plain = np.array([[own["plain"] for own in values[arm]] for arm in ARMS])
    drops = np.array([[mean_drop(own) for own in values[arm]] for arm in ARMS])
    return over_seeds(plain), over_seeds(drops)


def over_seeds(values: np.ndarray) -> np.ndarray:
    """Average `(arms, seeds, 1 + draws)` over seeds: all of them first, then of as many drawn ones."""
    _, count, draws = values.shape
    picks = np.random.default_rng(0).integers(count, size=(draws, count))
    picks[0] = np.arange(count)
    return np.stack([values[:, picks[draw], draw].mean(axis=1) for draw in range(draws)], axis=1)


def line(plain: np.ndarray, drops: np.ndarray) -> str:
    """Get the cells of a row."""
    ratio = drops[1] / drops[0]
    cells = [
        f"{plain[0, 0]:.3f}",
        f"{plain[1, 0]:.3f}",
        f"{plain[1, 0] - plain[0, 0]:+.3f} {ends(plain[1] - plain[0])}",
    ]
    return " | ".join([*cells, f"{drops[0, 0]:.3f}", f"{drops[1, 0]:.3f}", f"{ratio[0]:.2f} {ends(ratio, sign='')}"])


def ends(values: np.ndarray, *, sign: str = "+") -> str:
    """Get the 95 % interval of a number out of its draws, in brackets."""
    low, high = np.nanquantile(values[1:], (0.025, 0.975))
    return f"({low:{sign}.3f} to {high:{sign}.3f})" if sign else f"({low:.2f} to {high:.2f})"


def by_change(found: Pairs) -> str:
    """Get the second table: what each change costs without and with augmentation, a set a column."""
    lines = [f"| change | {' | '.join(found)} | mean |", "|---" * (2 + len(found)) + "|"]
    for name, change in CHANGES.items():
        cells, means = [], []
        for values in found.values():
            if name not in values["none"][0]:
                cells.append("")
                continue
            means.append([np.mean([drop(own, name)[0] for own in values[arm]]) for arm in ARMS])
            cells.append(both(means[-1]))
        lines.append(f"| {change.title} | {' | '.join(cells)} | {both(np.mean(means, axis=0))} |")
    return "\n".join(lines)


def both(pair: Sequence[Any] | np.ndarray) -> str:
    """Get a drop without and with augmentation."""
    return f"{pair[0]:.3f} → {pair[1]:.3f}"


if __name__ == "__main__":
    main()
