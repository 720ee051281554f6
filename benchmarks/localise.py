"""Severities of zones beside a diagnosis: how good are they, and does the diagnosis suffer? Tables of docs/results.md.

Phantoms: 1,400 chest phantoms of 96 pixels, seven tenths of the patients for training. For each seed the task
localise and the plain classifier learn from the same images of the same split, at the same depth and rate for as many
epochs; the difference of their AUROC is taken image by image, its interval from resampling patients over all seeds.

Real images: the opacity masks of covid_cxr_seg, parted by the box of the lungs into six zones, give severities of
real patients, in five folds by patient; the diagnosis is that of cxr_pneumonia_624, normal or pneumonia. No image has
both, and no image of the first set has a diagnosis, so that the diagnosis cannot be told from the source.

    python benchmarks/localise.py --shared ../shared     # what is missing, one to three minutes a run on one core
    python benchmarks/localise.py --table                # from the file of results
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

import medgraft as mg
from medgraft.files import read_image
from medgraft.scores.intervals import bca, draws
from medgraft.scores.ranking import auroc
from medgraft.scores.resample import patient_codes
from medgraft.scores.severity import Severities, severity_table
from medgraft.values import ImageRef

COUNT, SIDE, SEEDS, FOLDS = 1400, 96, (0, 1, 2), 5
WAYS = {  # what both tasks are trained with; of a frozen encoder the plain classifier is the probe
    "embedded:resnet10t, frozen": {"backbone": "embedded:resnet10t", "depth": "head", "epochs": 25},
    "embedded:vit, frozen": {"backbone": "embedded:vit", "depth": "head", "epochs": 25},
    "embedded:vit, frozen, 8 views": {"backbone": "embedded:vit", "depth": "head", "epochs": 60, "views": 8},
    "embedded:vit, all tuned": {"backbone": "embedded:vit", "depth": "all", "epochs": 20},
    "embedded:resnet10t, last stage tuned": {"backbone": "embedded:resnet10t", "depth": 1, "epochs": 20},
}
OFF = {f"scores.{question}": False for question in ("learning", "shortcuts", "stress", "maps")} | {
    "scores.resamples": 1000
}
ZONES = [f"z{zone}" for zone in range(1, 7)]
CUTS = (0.01, 0.25, 0.5)  # of a zone: the steps between the grades of the phantoms


def main() -> None:
    """Run what is missing, then print the tables."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--shared", type=Path, default=Path(os.environ.get("MEDGRAFT_SHARED", "../shared")))
    given.add_argument("--out", type=Path, default=Path("runs/localise"))
    given.add_argument("--results", type=Path, default=Path(__file__).with_suffix(".json"))
    given.add_argument("--only", default="", help="only runs whose name begins so")
    given.add_argument("--table", action="store_true", help="print the tables of what is there and stop")
    options = given.parse_args()
    held = json.loads(options.results.read_text()) if options.results.exists() else {}
    jobs = [f"phantoms/{way}/{seed}/{task}" for seed in SEEDS for way in WAYS for task in ("localise", "classify")]
    jobs += [f"real/{fold}/localise" for fold in range(FOLDS)] + ["real/0/classify"]
    for name in [] if options.table else [job for job in jobs if job not in held and job.startswith(options.only)]:
        held[name] = run(options, name)
        options.results.write_text(json.dumps(held, separators=(",", ":")) + "\n")
        print(name, f"{held[name]['seconds']:.0f} s", flush=True)
    for way in [] if options.table else WAYS:
        name, run_folder = f"pointing/{way}", folder(options, f"phantoms/{way}/0/localise")
        if name not in held and name.startswith(options.only) and (run_folder / "report.json").exists():
            held[name] = pointing(options, run_folder)
            options.results.write_text(json.dumps(held, separators=(",", ":")) + "\n")
    print(phantom_table(held))
    print(real_table(held))


def run(options: argparse.Namespace, name: str) -> dict[str, Any]:
    """Train, and get what the tables need: predictions of the test part."""
    out = folder(options, name)
    kind, *rest, task = name.split("/")
    if kind == "phantoms":
        data, words = phantoms(options.out / "chest"), {**WAYS[rest[0]], "seed": int(rest[1])}
        if task == "classify" and words["depth"] == "head":
            words["epochs"] = None
        settings = {**OFF, "depth.views": words.pop("views", 2), "fit.lr": 5e-4, "fit.patience": 0, "fit.mixup": 0}
    else:
        data, words = real(options, int(rest[0])), {"backbone": "embedded:resnet10t", "depth": "head", "seed": 0}
        words |= {"epochs": 40 if task == "localise" else None, "augment": "chest"}
        zones = {"zones.mask_column": "opacity_mask", "zones.region_column": "lungs"} if task == "localise" else {}
        settings = {**OFF, **zones, "depth.views": 4, "fit.patience": 0, "fit.mixup": 0}
    if not (out / "report.json").exists():
        unfinished = (out / "recipe.yaml").exists()
        mg.train(
            data,
            out=out,
            task=task,
            label_column="label",
            image_size=SIDE,
            settings=settings,
            resume=unfinished,
            **words,
        )
    report = json.loads((out / "report.json").read_text())
    with open(out / "predictions.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    positive = report["positive"]
    kept = {
        "patient": [row["patient"] or row["key"] for row in rows],
        "ill": [None if not row["target"] else int(row["target"] == positive) for row in rows],
        "p": [float(row[f"p_{positive}"]) for row in rows],
    }
    if task == "localise":
        kept["true"] = [[float(row[f"target_{zone}"] or "nan") for zone in ZONES] for row in rows]
        kept["true"] = [[None if np.isnan(v) else v for v in own] for own in kept["true"]]
        kept["said"] = [[float(row[f"zone_{zone}"]) for zone in ZONES] for row in rows]
        kept["intervals"] = report["severity"].get("intervals")
    return {**kept, "seconds": report["timing"]["train_seconds"] + report["timing"]["prefix_seconds"]}


def folder(options: argparse.Namespace, name: str) -> Path:
    """Get the folder of a run."""
    return options.out / name.replace(" ", "").replace(":", "-").replace(",", "-")


def pointing(options: argparse.Namespace, run_folder: Path) -> dict[str, Any]:
    """Get how often a map is largest on a painted opacity: of every third ill test image, forty at most."""
    with open(run_folder / "predictions.csv") as file:
        keys = sorted(
            row["key"] for row in csv.DictReader(file) if row["split"] == "test" and row["target"] == "opacity"
        )
    table = options.out / "chest" / "pointing.csv"
    lines = ["path,mask", *(f"{key},masks/{Path(key).name}" for key in keys[::3][:40])]
    table.write_text("\n".join(lines) + "\n")
    told = mg.explain(run_folder, [table], out=options.out / "maps" / run_folder.parent.parent.name)
    return {**told["pointing"], "failed": told["failed"]}


def phantoms(folder: Path) -> Path:
    """Get the table of the phantoms, drawn where they are not there."""
    from medgraft.phantoms import write_set

    return write_set("chest", count=COUNT, out=folder, size=SIDE, seed=5)


def real(options: argparse.Namespace, fold: int) -> Path:
    """Write one table of both real sets: zones of the one by masks, diagnoses of the other."""
    first, other = (options.shared / "data" / name for name in ("covid_cxr_seg", "cxr_pneumonia_624"))
    with open(first / "manifest.csv") as file:
        seen = [row for row in csv.DictReader(file) if row["masks_present"] == "L+O+R"]  # else a lung is not known
    people = sorted({row["patient"] for row in seen})
    order = np.random.default_rng(0).permutation(len(people)).tolist()
    part = {people[place]: rank % FOLDS for rank, place in enumerate(order)}
    rows = []
    for row in seen:
        own = part[row["patient"]]
        split = "test" if own == fold else "val" if own == (fold + 1) % FOLDS else "train"
        paths = {name: str(first / row[was]) for name, was in (("path", "path"), ("lungs", "mask"))}
        mask = str(first / row["opacity_mask"])
        rows.append({**paths, "opacity_mask": mask, "label": "", "patient": f"seg-{row['patient']}", "split": split})
    with open(other / "manifest.csv") as file:
        films = _without_copies(list(csv.DictReader(file)), other)
    chosen = np.random.default_rng(1).permutation(len(films))[:320].tolist()
    for rank, place in enumerate(chosen):
        split = "train" if rank < 160 else "val" if rank < 210 else "test"
        own = {"path": str(other / films[place]["path"]), "lungs": "", "opacity_mask": ""}
        rows.append({**own, "label": films[place]["label"], "patient": f"cxr-{place}", "split": split})
    table = options.out / f"real-{fold}.csv"
    table.parent.mkdir(parents=True, exist_ok=True)
    with open(table, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return table


def _without_copies(films: list[dict[str, str]], folder: Path) -> list[dict[str, str]]:
    """The set holds some films twice, and nothing says of whom they are."""
    seen: dict[bytes, dict[str, str]] = {}
    for row in films:
        seen.setdefault(read_image(ImageRef(folder / row["path"])).pixels.tobytes(), row)
    return list(seen.values())


def severities(runs: list[dict[str, Any]], *, grades: bool) -> Severities:
    """Put the zones of several test parts together; shares become grades at the cuts where grades are asked for."""
    truth = np.array([[np.nan if v is None else v for v in own] for one in runs for own in one["true"]])
    said = np.array([own for one in runs for own in one["said"]])
    people = [name for one in runs for name in one["patient"]]
    rows = np.isfinite(truth).any(axis=1)
    truth, said, people = truth[rows], said[rows], [people[row] for row in np.flatnonzero(rows).tolist()]
    if not grades:
        return Severities(truth, said, (), people)
    if truth.max() <= 1 and (truth != np.round(truth)).any():
        truth, said = (np.digitize(values, CUTS, right=True).astype(float) for values in (truth, said))
    return Severities(truth, said, (0.0, 1.0, 2.0, 3.0), people)


def difference(pairs: list[tuple[dict[str, Any], dict[str, Any]]]) -> tuple[float, float | None, float | None]:
    """Get the mean over runs of AUROC with zones less AUROC of the plain classifier, and its 95 % interval."""
    truth, first, other, people, places = [], [], [], [], []
    for one, plain in pairs:
        known = {name: (ill, p) for name, ill, p in zip(plain["patient"], plain["ill"], plain["p"], strict=True)}
        rows = [k for k, ill in enumerate(one["ill"]) if ill is not None]
        kept = [k for k in rows if one["patient"][k] in known]
        start = len(truth)
        plain_rows = [k for k, ill in enumerate(plain["ill"]) if ill is not None]
        assert len(kept) == len(plain_rows), "both runs judge the same images"
        truth += [one["ill"][k] for k in kept]
        first += [one["p"][k] for k in kept]
        other += [plain["p"][k] for k in plain_rows]
        assert [one["ill"][k] for k in kept] == [plain["ill"][k] for k in plain_rows]
        people += [one["patient"][k] for k in kept]
        places.append(slice(start, len(truth)))
    t, a, b = np.array(truth), np.array(first), np.array(other)

    def statistic(rows: np.ndarray) -> np.ndarray:
        found = [
            auroc(t[own], a[own], weights=rows[:, own]) - auroc(t[own], b[own], weights=rows[:, own]) for own in places
        ]
        return np.mean(found, axis=0)

    value = float(statistic(np.ones((1, len(t))))[0])
    codes, _ = patient_codes(people, len(people))
    low, high, _ = bca(value, draws({"it": statistic}, codes, seed=0, count=2000)["it"])
    return value, low, high


def _auroc(one: dict[str, Any]) -> float:
    rows = [k for k, ill in enumerate(one["ill"]) if ill is not None]
    return float(auroc(np.array([one["ill"][k] for k in rows]), np.array([one["p"][k] for k in rows])))


def _ends(low: float | None, high: float | None) -> str:
    return "no interval" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def phantom_table(held: dict[str, Any]) -> str:
    """Get Markdown: a row a way of training, means over the seeds that are there."""
    lines = [
        "| encoder | seeds | zones: kappa | sum: kappa | sum: mean error | sums in their intervals | AUROC | plain "
        "classifier | difference | maps on the opacity |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for way in WAYS:
        seeds = [seed for seed in SEEDS if all(f"phantoms/{way}/{seed}/{t}" in held for t in ("localise", "classify"))]
        pairs = [tuple(held[f"phantoms/{way}/{seed}/{t}"] for t in ("localise", "classify")) for seed in seeds]
        if not pairs:
            continue
        found = severity_table(severities([one for one, _ in pairs], grades=True), seed=0, count=2000)
        inside = np.mean([one["intervals"]["covered"]["sum"]["value"] for one, _ in pairs])
        gap, low, high = difference(pairs)  # type: ignore[arg-type]
        cells = [way, str(len(seeds))]
        for name in ("zone_kappa", "sum_kappa", "sum_mae"):
            score = found[name]
            cells.append(f"{score.value:.3f} ({_ends(score.low, score.high)})")
        cells += [f"{inside:.3f}", *(f"{np.mean([_auroc(pair[k]) for pair in pairs]):.3f}" for k in (0, 1))]
        seen = held.get(f"pointing/{way}")
        hits = f"{seen['hits']} of {seen['n']}" if seen else ""
        lines.append("| " + " | ".join([*cells, f"{gap:+.3f} ({_ends(low, high)})", hits]) + " |")
    return "\n".join(lines)


def real_table(held: dict[str, Any]) -> str:
    """Get Markdown: scores of zones of real patients over all folds, and the diagnosis of the other set."""
    runs = [held[f"real/{fold}/localise"] for fold in range(FOLDS) if f"real/{fold}/localise" in held]
    if not runs:
        return ""
    lines = ["| real images | value | 95 % interval | n | patients |", "|---|---|---|---|---|"]
    shares = severity_table(severities(runs, grades=False), seed=0, count=2000)
    graded = severity_table(severities(runs, grades=True), seed=0, count=2000)
    rows = [("zones, Spearman", shares["zone_spearman"]), ("zones, mean error (share)", shares["zone_mae"])]
    rows += [("zones, kappa of four grades", graded["zone_kappa"]), ("sum, Spearman", shares["sum_spearman"])]
    rows += [("sum, mean error (of 6)", shares["sum_mae"])]
    for name, score in rows:
        lines.append(
            f"| {name} | {score.value:.3f} | {_ends(score.low, score.high)} | {score.n} | {score.n_patients} |"
        )
    if "real/0/classify" in held and "real/0/localise" in held:
        gap, low, high = difference([(held["real/0/localise"], held["real/0/classify"])])
        both = [_auroc(held[f"real/0/{task}"]) for task in ("localise", "classify")]
        n = sum(ill is not None for ill in held["real/0/classify"]["ill"])
        lines.append(
            f"| pneumonia, AUROC {both[0]:.3f} less {both[1]:.3f} | {gap:+.3f} | {_ends(low, high)} | {n} | {n} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
