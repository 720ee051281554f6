"""Do synthetic images help to learn from 57 healthy and 27 diseased ones? The experiment of lectures, done to the end.

The story: of microbial keratitis there are few photographs, a generator learns to draw both kinds, and a detector that
sees the drawn ones too does better. Here each draw takes 57 healthy and 27 diseased training images of other patients
(one image each), trains a diffusion model by class on the training part alone, and then a classifier with real images
alone, with half as many, as many and twice as many synthetic ones of each class, and with the rare class filled up; all
with the same number of steps. They are compared on many images of other patients. Sets:

- phantoms: the front of an eye, healthy or with keratitis, drawn by medgraft itself; about 550 test images;
- chest: chest X-rays, normal or pneumonia (cxr_pneumonia_624); test: all other images, near-duplicates kept together;
- skin: dermoscopies, naevus or melanoma (ham10000_sub); test: all other lesions.

And two rare classes, 15 training images of one beside 120 of all others:

- dermatofibroma: dermoscopies of seven kinds of lesion (ham10000_sub);
- covid: chest X-rays without a finding, with COVID-19 or another pneumonia (covid_cxr).

What is told: the paired difference of AUROC from real images alone on the test images, of each draw with its interval,
and over draws the mean with the interval of Student's t (another training set and other seeds each); and how often
validation let synthetic images in. Nothing is chosen on test images. Cells are kept in keratitis.json beside this file,
so that a second call goes on where the first stopped. A cell is planned to take 6 to 8 minutes
on a core of its own: about 1,000 steps of the generator, and five classifiers.

    python benchmarks/keratitis.py --shared ../shared           # what is missing
    python benchmarks/keratitis.py --only phantoms --draws 2    # cells whose name begins so
    python benchmarks/keratitis.py --table                      # the table of what is there
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

import medgraft as mg
from medgraft import seeds


@dataclass(frozen=True)
class Real:
    """Real images to draw training sets from.

    Attributes:
        folder: below --shared/data.
        diseased: label of the diseased ones.
        healthy: label of the healthy ones; of a rare class None, which takes all others.
    """

    folder: str
    diseased: str
    healthy: str | None = None


REAL = {
    "chest": Real("cxr_pneumonia_624", "pneumonia", "normal"),
    "skin": Real("ham10000_sub", "mel", "nv"),
    "dermatofibroma": Real("ham10000_sub", "df"),
    "covid": Real("covid_cxr", "covid"),
}
SETS = ("phantoms", *REAL)
RARE = {"healthy": 120, "diseased": 15}  # training images where a class is rare
RATIOS: list[Any] = [0.5, 1.0, 2.0, "balance"]
WORDS = {0.5: "half as many", 1.0: "as many", 2.0: "twice as many", "balance": "rare class filled up"}
HELD = 0.5  # share of phantom patients who are in the test part of every draw
CLASSES = ("healthy", "diseased")


def main() -> None:
    """Run what is missing, then print the table."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--shared", type=Path, default=Path(os.environ.get("MEDGRAFT_SHARED", "../shared")))
    given.add_argument("--out", type=Path, default=Path("runs/keratitis"))
    given.add_argument("--results", type=Path, default=Path(__file__).with_suffix(".json"))
    given.add_argument("--draws", type=int, default=5, help="training sets and seeds of each set")
    given.add_argument("--healthy", type=int, default=57, help="healthy training images")
    given.add_argument("--diseased", type=int, default=27, help="diseased training images")
    given.add_argument("--size", type=int, default=64, help="pixels of a side, of generator and classifier")
    given.add_argument("--pool", type=int, default=1100, help="phantoms to draw from, test images among them")
    given.add_argument("--epochs", type=int, default=12, help="of the classifier with real images alone")
    given.add_argument("--generator-epochs", type=int, default=10, help="of the generator, about 100 steps each")
    given.add_argument("--fold", type=int, default=4, help="of the generator: 2 is finer and four times as slow")
    given.add_argument("--depth", default="all", help="of the classifier: head, all, or how many stages")
    given.add_argument("--only", default="", help="only cells whose name begins so")
    given.add_argument("--table", action="store_true", help="print the table of what is there and stop")
    options = given.parse_args()
    held = json.loads(options.results.read_text()) if options.results.exists() else {}
    names = [f"{data}/{draw}" for draw in range(options.draws) for data in SETS]
    for name in [] if options.table else [one for one in names if one.startswith(options.only) and one not in held]:
        held[name] = run(options, name)
        options.results.write_text(json.dumps(held, separators=(",", ":")) + "\n")
        print(name, f"{held[name]['seconds']:.0f} s; {held[name]['why']}", flush=True)
    print(table(held))


def run(options: argparse.Namespace, name: str) -> dict[str, Any]:
    """Train with and without, and get what the table needs."""
    data, draw = name.split("/")
    out, began = options.out / name, time.perf_counter()
    depth = options.depth if options.depth in ("head", "all") else int(options.depth)
    if not (out / "report.json").exists():
        mg.train(
            drawn_table(options, data, int(draw)),
            out=out,
            task="classify",
            synthetic="diffuse",
            image_size=options.size,
            depth=depth,
            epochs=None if depth == "head" else options.epochs,
            seed=int(draw),
            label_column="label",
            offline=True,
            resume=(out / "recipe.yaml").exists(),
            settings={
                "scores.positive": "diseased",
                "synthetic.tried": RATIOS,
                "synthetic.epochs": options.generator_epochs,
                "generator.shape": [options.size, options.size],
                "generator.fold": options.fold,
                "generator.widths": [32, 64, 96],
                "generator.steps": 16,
                **dict.fromkeys(("scores.learning", "scores.shortcuts", "scores.stress", "scores.maps"), False),
            },
        )
    report = json.loads((out / "report.json").read_text())
    told = report["enrichment"]
    return {
        "images": report["data"]["images"],
        "real": told["real"],
        "audit": told["generator"]["audit"],
        "without": told["test"]["without"],
        "differences": {str(row["ratio"]): row["test"] for row in told["tried"][1:]},
        "validation": {str(row["ratio"]): row["difference"]["log_loss"] for row in told["tried"][1:]},
        "admitted": [str(row["ratio"]) for row in told["tried"][1:] if row["admitted"]],
        "ratio": told["ratio"],
        "why": told["why"],
        "seconds": time.perf_counter() - began,
    }


# ---- the sets ---------------------------------------------------------------------------------------------------


def pool(options: argparse.Namespace, data: str) -> list[dict[str, str]]:
    """Get the images of a set: absolute path, label (healthy or diseased) and patient."""
    if data == "phantoms":
        folder = options.out / "data" / "phantoms"
        mg.draw_phantoms("keratitis", count=options.pool, out=folder, size=options.size, seed=7)
        diseased, healthy = "keratitis", None
    else:
        folder = options.shared / "data" / REAL[data].folder
        diseased, healthy = REAL[data].diseased, REAL[data].healthy
    with open(folder / "manifest.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["label"] in (diseased, healthy or row["label"])]
    patients = looks_alike(options, data, folder) if "patient" not in rows[0] else {}
    return [
        {
            "path": str((folder / row["path"]).resolve()),
            "label": CLASSES[row["label"] == diseased],
            "patient": row.get("patient") or patients.get(row["path"], row["path"]),
        }
        for row in rows
    ]


def looks_alike(options: argparse.Namespace, data: str, folder: Path) -> dict[str, str]:
    """Get a name for each group of near-duplicates, which then counts as a patient: nobody knows the real ones."""
    kept = options.out / "data" / f"{data}-alike.json"
    if not kept.exists():
        found = mg.survey(folder / "manifest.csv").duplicates
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps({key: f"alike-{number}" for key, number in found.near.items()}))
    return json.loads(kept.read_text())


def drawn_table(options: argparse.Namespace, data: str, draw: int) -> Path:
    """Write the table of one draw: training images of as many patients, and a test part of others."""
    path = options.out / "data" / f"{data}-{draw}.csv"
    rows = pool(options, data)
    by_patient: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        by_patient[row["patient"]].append(row)
    patients = sorted(by_patient)
    held: set[str] = set()
    if data == "phantoms":  # enough of them, so that the test images are the same in each draw
        order = seeds.permutation(len(patients), seed=0, purpose="keratitis-test")
        held = {patients[k] for k in order[: round(HELD * len(patients))].tolist()}
    rare = data in REAL and REAL[data].healthy is None
    wanted = RARE if rare else {"healthy": options.healthy, "diseased": options.diseased}
    chosen = list(train_images(by_patient, [one for one in patients if one not in held], wanted=wanted, draw=draw))
    taken = {row["patient"] for row in chosen}
    test = [row for row in rows if row["patient"] not in taken and (not held or row["patient"] in held)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=["path", "label", "patient", "split"])
        writer.writeheader()
        writer.writerows({**row, "split": "train"} for row in chosen)
        writer.writerows({**row, "split": "test"} for row in test)
    return path


def train_images(
    by_patient: dict[str, list[dict[str, str]]], patients: list[str], *, wanted: dict[str, int], draw: int
) -> Iterator[dict[str, str]]:
    """Yield one image of each of as many patients of either class as are wanted, drawn by lot.

    Raises:
        SystemExit: there are too few.
    """
    order = seeds.permutation(len(patients), seed=draw, purpose="keratitis-train").tolist()
    for label, count in wanted.items():
        own = [patients[k] for k in order if {row["label"] for row in by_patient[patients[k]]} == {label}]
        if len(own) < count:
            raise SystemExit(f"{count} {label} patients are wanted, and there are {len(own)}: give a larger --pool")
        for patient in own[:count]:
            yield by_patient[patient][0]


# ---- the table --------------------------------------------------------------------------------------------------


def table(held: dict[str, Any]) -> str:
    """Get a Markdown table: a row a set and ratio."""
    lines = [
        "| set | synthetic images | draws | AUROC, real alone | difference in AUROC (95 % interval over draws) | "
        "better, worse than by chance in a draw | let in by validation |",
        "|---|---|---|---|---|---|---|",
    ]
    for data in SETS:
        own = [cell for name, cell in sorted(held.items()) if name.split("/")[0] == data]
        for ratio in RATIOS if own else []:
            scores = [cell["differences"][str(ratio)]["auroc"] for cell in own if str(ratio) in cell["differences"]]
            alone = np.mean([cell["without"]["auroc"]["value"] for cell in own])
            low, high = ([one[end] for one in scores if one[end] is not None] for end in ("low", "high"))
            sure = f"{sum(end > 0 for end in low)}, {sum(end < 0 for end in high)}"
            let = sum(str(ratio) in cell["admitted"] for cell in own)
            mean = over_draws([one["value"] for one in scores])
            lines.append(f"| {data} | {WORDS[ratio]} | {len(own)} | {alone:.3f} | {mean} | {sure} | {let} |")
    return "\n".join(lines)


def over_draws(values: list[float]) -> str:
    """Get the mean with its interval by Student's t; without one for a single draw."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:+.3f} (one draw)"
    half = float(student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return f"{mean:+.3f} ({mean - half:+.3f} to {mean + half:+.3f})"


if __name__ == "__main__":
    main()
