"""How is a trained encoder used best? Chooses pooling, recalibration, how to go on from the probe, and how fast.

The six classification sets of the folder of real data, their test rows (those of seed 0, which embedded.py keeps for
all seeds) taken away first. What is left is split anew by `medgraft train`, three seeds. The embedded encoder,
MobileNetV2 with ImageNet weights, and random numbers in the embedded encoder's architecture; 96 pixels. Prints one
table a question. What is done is kept in --out.

    python benchmarks/defaults.py --shared ../shared --out runs/defaults
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

import medgraft as mg
from results import SETS, interval

SIDE = 96
HEAD, ALL = {"depth.thaw": "head"}, {"depth.thaw": "all", "backbone.pooling": "levels"}
CAREFUL, FREE = {"fit.lr": 2e-4, "fit.layer_decay": 0.75}, {"fit.lr": 1e-3, "fit.layer_decay": 1.0}
BETWEEN = {"fit.lr": 5e-4, "fit.layer_decay": 0.87}
# Settings by question and answer; the first answer is what the others are compared with.
QUESTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "pooling, head alone": {"avg": {**HEAD, "backbone.pooling": "avg"}, "levels": HEAD},
    "recalibrate": {"no": {**HEAD, "backbone.recalibrate": False}, "yes": HEAD},
    "views, head alone": {"2": {**HEAD, "depth.views": 2}, "4": {**HEAD, "depth.views": 4}},
    "pooling, tuned": {"avg": {**ALL, "backbone.pooling": "avg"}, "levels": ALL},
    "rates": {"careful": {**ALL, **CAREFUL}, "between": {**ALL, **BETWEEN}, "free": {**ALL, **FREE}},
    "schedule": {
        "probe alone": HEAD,
        "all at once": {**ALL, "fit.probe": False},
        "probe, then all": ALL,
    },
    "depth": {"all": ALL, "two stages": {**ALL, "depth.thaw": 2}},
    "average": {"none": {**ALL, "fit.ema": 0.0}, "an eighth": ALL},
    "norms, tuned": {"batch": ALL, "stored": {**ALL, "fit.norms": "stored"}},
}
# What the plan would say anyway, so that a cell that answers several questions is trained once.
PLANNED: dict[str, dict[str, Any]] = {
    "embedded": {**FREE, "depth.views": 2},
    "ImageNet": {**CAREFUL, "depth.views": 2},
    "random": {**FREE, "fit.probe": False, "depth.views": 2},
}
# Norms that were folded into the convolutions have nothing to measure or to choose.
ASKED = {
    "embedded": set(QUESTIONS),
    "ImageNet": set(QUESTIONS) - {"recalibrate", "norms, tuned"},
    "random": {"pooling, tuned", "rates"},  # so that the arm that embedded weights are compared with is at its best
}
SHOWN = {"200": 8_000, "all": 16_000}


def main() -> None:
    """Run what is missing, then print the tables."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--shared", type=Path, default=Path(os.environ.get("MEDGRAFT_SHARED", "../shared")))
    given.add_argument("--out", type=Path, default=Path("runs/defaults"))
    given.add_argument("--questions", nargs="+", default=tuple(QUESTIONS), choices=tuple(QUESTIONS))
    given.add_argument("--encoders", nargs="+", default=tuple(ASKED), choices=tuple(ASKED))
    given.add_argument("--sizes", nargs="+", default=tuple(SHOWN), choices=tuple(SHOWN))
    given.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2))
    options = given.parse_args()
    jobs = [
        (question, answer, encoder, name, size, seed)
        for seed in options.seeds
        for size in options.sizes
        for question in options.questions
        for encoder in options.encoders
        if question in ASKED[encoder]
        for name in SETS
        for answer in QUESTIONS[question]
    ]
    for job in jobs:
        print(*job, f"{run(options, *job):.4f}", flush=True)
    for question in options.questions:
        print(table(options, question))


def run(
    options: argparse.Namespace, question: str, answer: str, encoder: str, name: str, size: str, seed: int
) -> float:
    """Train one cell, unless it was done; get its AUROC."""
    planned = PLANNED[encoder]
    settings = {key: value for key, value in QUESTIONS[question][answer].items() if planned.get(key) != value}
    told = "_".join(f"{key.rpartition('.')[2]}={value}" for key, value in sorted(settings.items()))
    out = options.out / f"{encoder}-{name}-{size}-{seed}-{told}"
    said = out.with_name(out.name + ".json")
    if said.exists():
        return float(json.loads(said.read_text()))
    shutil.rmtree(out, ignore_errors=True)
    settings |= {"scores.resamples": 100, "fit.channels_last": True, "fit.precision": "bf16", "fit.patience": 0}
    if size != "all":
        settings["split.limit_train"] = int(size)
    data, more = without_test(options, name)
    backbone = {
        "embedded": "auto",
        "ImageNet": f"file:{options.shared / 'weights' / 'mobilenet_v2.safetensors'}",
        "random": "none:embedded:resnet10t",
    }[encoder]
    epochs = None if settings["depth.thaw"] == "head" else max(1, SHOWN[size] // (200 if size == "200" else 700))
    mg.train(
        data,
        out=out,
        backbone=backbone,
        epochs=epochs,
        image_size=SIDE,
        seed=seed,
        settings=settings,
        **more,
    )
    found = json.loads((out / "report.json").read_text())["scores"]["test"]["auroc"]["value"]
    said.write_text(json.dumps(found))
    shutil.rmtree(out)
    return float(found)


def without_test(options: argparse.Namespace, name: str) -> tuple[Path, dict[str, Any]]:
    """Write the set's table without the rows that the benchmarks test on with seed 0, and without a split.

    The array of PneumoniaMNIST is cut to its training part.
    """
    file, more, settings = SETS[name]
    out = options.out / "tables" / f"{name}{Path(file).suffix}"
    words: dict[str, Any] = {"patients_unknown": True} if more.get("patients_unknown") else {}
    words |= {"split_column": "none"} if file.endswith(".npz") else {}
    if out.exists():
        return out, words
    out.parent.mkdir(parents=True, exist_ok=True)
    source = options.shared / "data" / name / file
    if source.suffix == ".npz":
        with np.load(source, allow_pickle=False) as arrays:
            chosen = np.random.default_rng(0).permutation(len(arrays["train_labels"]))[:1500]  # they lie in order
            np.savez_compressed(out, **{key: arrays[key][chosen] for key in arrays if key.startswith("train")})
        return out, words
    held = {row["key"] for row in tested(options, name, source, more, settings)}
    with open(source, encoding="utf-8", newline="") as read:
        missing = held - {row["path"] for row in csv.DictReader(read)}
    if missing or not held:
        raise SystemExit(f"{name}: the test rows could not be found in its table, so they cannot be taken away")
    with open(source, encoding="utf-8", newline="") as read, open(out, "w", encoding="utf-8", newline="") as write:
        rows = csv.DictReader(read)
        columns = [column for column in rows.fieldnames or [] if column != "split"]
        writer = csv.DictWriter(write, columns, extrasaction="ignore")
        writer.writeheader()
        for row in rows:
            if row["path"] not in held:
                writer.writerow({**row, "path": str((source.parent / row["path"]).resolve())})
    return out, words


def tested(
    options: argparse.Namespace, name: str, source: Path, more: dict[str, Any], settings: dict[str, Any]
) -> list[dict[str, str]]:
    """Get the rows that a run of seed 0 tests on."""
    out = options.out / f"split-{name}"
    if not (out / "report.json").exists():
        shutil.rmtree(out, ignore_errors=True)
        words = {"backbone": "none:timm:test_resnet", "depth": "head", "image_size": SIDE, "seed": 0, **more}
        mg.train(source, out=out, settings={**settings, "scores.resamples": 100}, **words)
    with open(out / "samples.csv", encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["split"] == "test"]


def table(options: argparse.Namespace, question: str) -> str:
    """Get the answers of one question as Markdown, with the gain over the first and its 95 % interval."""
    answers = list(QUESTIONS[question])
    lines = [f"| {question} | images | {' | '.join(answers)} |", "|---" * (len(answers) + 2) + "|"]
    for encoder in (encoder for encoder in options.encoders if question in ASKED[encoder]):
        for size in options.sizes:
            values = np.array(
                [
                    [[run(options, question, a, encoder, n, size, s) for s in options.seeds] for n in SETS]
                    for a in answers
                ]
            )
            cells = [f"{values[0].mean():.3f}"]
            for own in values[1:]:
                low, high = interval(own - values[0])
                cells.append(f"{own.mean():.3f} ({(own - values[0]).mean():+.3f}, {low:+.3f} to {high:+.3f})")
            lines.append(f"| {encoder} | {size} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
