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
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import medgraft as mg
from medgraft import judge, planning
from medgraft.assemble import assemble
from medgraft.gather import Gathered
from medgraft.judge import Predicted, known_patients
from medgraft.learn import probe
from medgraft.learn.recalibrate import recalibrate_on
from medgraft.preparing import prepare
from medgraft.recipe import Recipe, with_options
from medgraft.samples.duplicates import Duplicates
from medgraft.samples.loader import normalised
from medgraft.samples.split import assign_splits, group_of
from medgraft.scores.ranking import auroc
from medgraft.tasks.base import ImageTask
from medgraft.values import Sample
from results import SETS, done

SPLITS = 20
COVERAGE, FAMILIAR = 0.9, 0.95
MOST = 1200  # images of a set that are split
OTHERS = 200  # images of another set


def main() -> None:
    """Run what is missing, then print the tables."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--shared", type=Path, default=Path(os.environ.get("MEDGRAFT_SHARED", "../shared")))
    given.add_argument("--out", type=Path, default=Path("runs/certainty"))
    given.add_argument("--splits", type=int, default=SPLITS)
    given.add_argument("--depth", nargs="+", default=["head"], help="of the nets that tell sets apart")
    options = given.parse_args()
    head = "| set | validation images | test images | coverage | lowest and highest class | answers in a set |"
    print(f"{head} unlike the training |\n{'|---' * 7}|")
    for name in SETS:
        print(coverage_row(name, splits_of(options, name)), flush=True)
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


def splits_of(options: argparse.Namespace, name: str) -> dict[str, np.ndarray]:
    """Get what the sets and the limit of familiarity give on each split: name -> (splits,)."""
    kept = options.out / f"{name}-splits.npz"
    if kept.exists():
        with np.load(kept) as held:
            return dict(held)
    file, more, settings = SETS[name]
    recipe = with_options(Recipe(), {**more, "image_size": 96, "depth": "head"}, settings=settings)  # type: ignore[call-arg]
    recipe, found, task, pixels = prepare(options.shared / "data" / name / file, recipe, listen=lambda event: None)
    _, parts = assemble(recipe.changed({"fit.precision": "fp32", "fit.channels_last": True}), found, task, pixels)
    recalibrate_on(task.backbone, parts.train, engine=parts.engine)
    chosen = np.random.default_rng(0).permutation(len(found.samples))[:MOST].tolist()
    samples = [replace(found.samples[k], split=None) for k in chosen]
    features = features_of(task, found, chosen)
    rows = [one_split(task, samples, features, found.survey.duplicates, seed) for seed in range(options.splits)]
    values = {word: np.array([row.get(word, np.nan) for row in rows]) for word in rows[0]}
    options.out.mkdir(parents=True, exist_ok=True)
    np.savez(kept, **values)
    return values


def features_of(task: ImageTask, found: Gathered, chosen: Sequence[int]) -> np.ndarray:
    """Get the pooled features of images as they are, `(N, F)`."""
    task.eval()
    rows = []
    for start in range(0, len(chosen), 32):
        places = [found.places[k] for k in chosen[start : start + 32]]
        with torch.inference_mode():
            rows.append(task.features(normalised(found.store.rows(places), task.backbone.spec)).numpy())
    return np.concatenate(rows)


def one_split(
    task: ImageTask, samples: Sequence[Sample], features: np.ndarray, duplicates: Duplicates, seed: int
) -> dict[str, float]:
    """Split anew as `medgraft train` does, put a head at its optimum, settle on validation, and look at the test."""
    placed = assign_splits(samples, duplicates, seed=seed)
    rows = {word: [k for k, one in enumerate(placed) if one.split == word] for word in ("train", "val", "test")}
    targets = {word: task.encode([placed[k].label or "" for k in own]) for word, own in rows.items()}
    task.begin(targets["train"])
    task.balance(targets["train"], planning.balance_rule(task.rarity(targets["train"]))[0])
    names = group_of(samples, duplicates)
    groups = [names[samples[k].key] for k in rows["train"]]
    head = probe.solve(features[rows["train"]], targets["train"], groups=groups, task=task, seed=seed)
    val, test = (
        Predicted(
            keys=tuple(placed[k].key for k in rows[word]),
            logits=head.logits(features[rows[word]], task),
            targets=np.asarray(targets[word]),
            patients=known_patients([placed[k] for k in rows[word]]),
            covariates={},
            features=features[rows[word]],
        )
        for word in ("val", "test")
    )
    judge.settle(task, val, rule="youden")
    sure = judge.settle_certainty(task, val, features[rows["train"]], coverage=COVERAGE, share=FAMILIAR)
    assert sure is not None
    told = judge.certainty_entry(task, sure, test, seed=seed, resamples=100)
    sets = told["sets"]
    values = {"coverage": sets["coverage"]["value"], "size": sets["size"]["value"], "n": sets["coverage"]["n"]}
    values |= {"val": len(rows["val"]), "unlike": told["ood"]["above"]["value"]}
    return values | {f"of {word}": score["value"] for word, score in sets["per_class"].items()}


def coverage_row(name: str, found: dict[str, np.ndarray]) -> str:
    """Get one row of the first table: means over splits, of which the one of coverage has a 95 % interval."""
    classes = {word.removeprefix("of "): values for word, values in found.items() if word.startswith("of ")}
    low, high = (f(classes, key=lambda word: np.nanmean(classes[word])) for f in (min, max))
    ends = ", ".join(f"{np.nanmean(classes[word]):.3f} ({word})" for word in (low, high))
    cells = [f"{found['val'].mean():.0f}", f"{found['n'].mean():.0f}", with_ends(found["coverage"]), ends]
    return f"| {name} | {' | '.join(cells)} | {found['size'].mean():.2f} of {len(classes)} | {with_ends(found['unlike'])} |"


def with_ends(values: np.ndarray) -> str:
    """Get a mean over splits with the 95 % interval that the splits give it."""
    reach = 2.09 * values.std(ddof=1) / np.sqrt(len(values))  # Student's t with 19 degrees of freedom
    return f"{values.mean():.3f} ({values.mean() - reach:.3f} to {values.mean() + reach:.3f})"


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
