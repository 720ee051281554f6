"""Do sets of answers hold the truth as often as they say, and are images of other sets told apart? Prints two tables.

Every set marked "classification" in the folder of real data, the frozen embedded encoder, 96 pixels, its BatchNorm
measured anew once. At most 1,200 images of a set are split anew twenty times, 70/10/20 by patient (by image with
copies kept together, where patients are unknown); on each split a head at its optimum learns from the training part,
temperature, sets and limit are settled on validation, and the test part is looked at. Coverage .9, familiar .95.

The first table: the share of test images whose set of answers holds the truth, of all and of the classes that fare
worst and best; the second: for each set (row) the AUROC with which the distance tells its own test images from 200
images of another set (column), and the share of those that is beyond the limit. Means over the splits; in brackets
the 95 % interval of the mean. With --depth all the second table comes from a tuned net too, one split.

    python benchmarks/certainty.py --shared ../shared --out runs/certainty
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import medgraft as mg
from medgraft import judge, planning
from medgraft.assemble import assemble
from medgraft.files import read_pixels
from medgraft.judge import Predicted, known_patients
from medgraft.learn import probe
from medgraft.learn.infer import from_array
from medgraft.learn.model import Pixels
from medgraft.learn.recalibrate import recalibrate_on
from medgraft.preparing import prepare
from medgraft.recipe import Recipe, with_options
from medgraft.samples.duplicates import Duplicates
from medgraft.samples.loader import normalised
from medgraft.samples.split import assign_splits, group_of
from medgraft.scores.ranking import auroc
from medgraft.tasks.base import ImageTask
from medgraft.values import ImageRef, Sample
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
    given.add_argument(
        "--depth", nargs="+", default=[], help="train nets of these depths too, and let them tell sets apart"
    )
    options = given.parse_args()
    head = "| set | validation images | test images | coverage | lowest and highest class | answers in a set |"
    print(f"{head} unlike the training |\n{'|---' * 7}|")
    for name in SETS:
        print(coverage_row(name, splits_of(options, name)), flush=True)
    heads = f"| trained on | own images beyond the limit | {' | '.join(SETS)} |\n{'|---' * (2 + len(SETS))}|"
    print(f"\n{heads}")
    for name in SETS:
        print(apart(name, splits_of(options, name)), flush=True)
    for depth in options.depth:
        print(f"\nThawed: {depth}\n\n{heads}")
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
    task.eval()
    features = features_of(task, lambda start: found.store.rows([found.places[k] for k in chosen[start : start + 32]]))
    others = {}
    for other in [other for other in SETS if other != name]:
        arrays = [pixels_of(image, pixels) for image in images_of(options, other)]
        others[other] = features_of(task, lambda start, arrays=arrays: np.array(arrays[start : start + 32]))
    words = {"features": features, "others": others, "duplicates": found.survey.duplicates}
    rows = [one_split(task, samples, seed=seed, **words) for seed in range(options.splits)]
    values = {word: np.array([row.get(word, np.nan) for row in rows]) for word in rows[0]}
    options.out.mkdir(parents=True, exist_ok=True)
    np.savez(kept, **values)
    return values


def features_of(task: ImageTask, rows: Callable[[int], np.ndarray]) -> np.ndarray:
    """Get the pooled features `(N, F)` of images as they are; `rows` gives 32 of them from one on, at the end none."""
    found, start = [], 0
    while len(own := rows(start)):
        with torch.inference_mode():
            found.append(task.features(normalised(own, task.backbone.spec)).numpy())
        start += len(own)
    return np.concatenate(found)


def pixels_of(image: Any, pixels: Pixels) -> np.ndarray:
    """Get the network pixels of a file or an array, as bytes."""
    if isinstance(image, np.ndarray):
        return from_array(image, pixels, name="array")
    found = read_pixels(ImageRef(image), **pixels.words())
    return found if found.dtype == np.uint8 else (found / 257).astype(np.uint8)


def one_split(
    task: ImageTask,
    samples: Sequence[Sample],
    *,
    features: np.ndarray,
    others: dict[str, np.ndarray],
    duplicates: Duplicates,
    seed: int,
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
    values |= {f"of {word}": score["value"] for word, score in sets["per_class"].items()}
    own = sure.familiar.distances(test.features)
    for other, seen in others.items():
        far = sure.familiar.distances(seen)
        truth = np.repeat([0, 1], [len(own), len(far)])
        values[f"from {other}"] = auroc(truth, np.concatenate([own, far]))
        values[f"beyond {other}"] = (far > sure.familiar.limit).mean()
    return values


def coverage_row(name: str, found: dict[str, np.ndarray]) -> str:
    """Get one row of the first table: means over splits, of which the one of coverage has a 95 % interval."""
    classes = {word.removeprefix("of "): values for word, values in found.items() if word.startswith("of ")}
    low, high = (f(classes, key=lambda word: np.nanmean(classes[word])) for f in (min, max))
    ends = ", ".join(f"{word} {with_ends(classes[word])}" for word in (low, high))
    cells = [f"{found['val'].mean():.0f}", f"{found['n'].mean():.0f}", with_ends(found["coverage"]), ends]
    cells += [f"{found['size'].mean():.2f} of {len(classes)}", with_ends(found["unlike"])]
    return f"| {name} | {' | '.join(cells)} |"


def apart(name: str, found: dict[str, np.ndarray]) -> str:
    """Get one row of the second table: means over splits, of which that of the own images has its interval."""
    cells = [
        "" if other == name else f"{found[f'from {other}'].mean():.3f} ({found[f'beyond {other}'].mean():.0%})"
        for other in SETS
    ]
    return f"| {name} | {with_ends(found['unlike'])} | {' | '.join(cells)} |"


def with_ends(values: np.ndarray) -> str:
    """Get a mean over splits with the 95 % interval that the splits give it."""
    values = values[np.isfinite(values)]
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
