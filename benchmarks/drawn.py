"""How well are label maps drawn on real images, and what are trained weights worth there? Tables of docs/results.md.

Sets, each with its own split: chase_db1 (vessels of the retina; the second observer's maps are scored beside the nets),
covid_cxr_seg (lungs, and opacities), dsb2018_nuclei (things told apart), hippocampus_msd (two parts, in volumes). Arms:
MobileNetV2 from ImageNet and from random numbers, the embedded encoder and its architecture from random numbers; in
volumes the embedded encoder, inflated, and its architecture from random numbers, and MONAI's DynUNet. Everything else
is as medgraft plans it. Each cell is one training with its report; cells are kept in drawn.json beside this file, so
that a second call goes on where the first stopped.

    python benchmarks/drawn.py --shared ../shared                        # what is missing
    python benchmarks/drawn.py --only "covid_cxr_seg lungs" --seeds 0 1 2
    python benchmarks/drawn.py --observers                               # how far two people agree on vessels
    python benchmarks/drawn.py --table
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import medgraft as mg
from medgraft.files.label_map import read_label_map
from medgraft.samples.dataset import Columns, read_samples
from medgraft.scores.mask_cases import mask_scores

WEIGHTS = "weights/mobilenet_v2.safetensors"  # below --shared
FLAT = {
    "ImageNet MobileNetV2": "file:{weights}",
    "embedded ResNet": "embedded:resnet10t",
    "random MobileNetV2": "none:torchvision:mobilenet_v2",
    "random ResNet": "none:timm:resnet10t",
}
DEEP = {
    "embedded ResNet": "embedded:resnet10t_small",
    "random ResNet": "none:timm:resnet10t",
    "DynUNet": "embedded:resnet10t_small",
}


@dataclass(frozen=True)
class Set:
    """A set of images with label maps.

    Attributes:
        folder: below --shared/data.
        column: of the label maps.
        arms: name -> backbone.
        wanted: what is wanted of which score, of the best arm.
        seeds: how many are told of.
    """

    folder: str
    column: str
    arms: dict[str, str]
    wanted: tuple[str, float | None]
    seeds: int = 3


SETS = {
    "chase_db1 vessels": Set("chase_db1", "mask", FLAT, ("dice", 0.79)),
    "covid_cxr_seg lungs": Set("covid_cxr_seg", "mask", FLAT, ("dice", 0.94)),
    "covid_cxr_seg opacities": Set("covid_cxr_seg", "opacity_mask", FLAT, ("dice", None)),
    "dsb2018_nuclei": Set("dsb2018_nuclei", "instance_mask", FLAT, ("ap50", 0.82)),
    "hippocampus_msd": Set("hippocampus_msd", "mask", DEEP, ("dice", 0.87), seeds=1),
}
SHOWN = ("ap50", "aji", "pq", "dice", "nsd", "hd95_px", "hd95_mm", "cldice")


def main() -> None:
    """Run what is missing, then print the table."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--shared", type=Path, default=Path(os.environ.get("MEDGRAFT_SHARED", "../shared")))
    given.add_argument("--out", type=Path, default=Path("runs/drawn"))
    given.add_argument("--results", type=Path, default=Path(__file__).with_suffix(".json"))
    given.add_argument("--seeds", type=int, nargs="+", default=[0])
    given.add_argument("--epochs", type=int, help="instead of as many as are planned")
    given.add_argument("--only", default="", help="only cells whose name begins so")
    given.add_argument("--observers", action="store_true", help="score the second observer of chase_db1 and stop")
    given.add_argument("--table", action="store_true", help="print the table of what is there and stop")
    options = given.parse_args()
    if options.observers:
        print(observers(options.shared / "data" / "chase_db1"))
        return
    held = json.loads(options.results.read_text()) if options.results.exists() else {}
    for name in [] if options.table else [one for one in cells(options.seeds) if one.startswith(options.only)]:
        if name not in held:
            held[name] = run(options, name)
            options.results.write_text(json.dumps(held, separators=(",", ":"), sort_keys=True) + "\n")
            main_score = SETS[name.split("/")[0]].wanted[0]
            print(name, main_score, cell([held[name]["all"][main_score]]), f"{held[name]['seconds']:.0f} s", flush=True)
    print(table(held))


def cells(seeds: list[int]) -> list[str]:
    """Get the names of all cells: set/arm/seed; of volumes one seed alone."""
    return [
        f"{data}/{arm}/{seed}" for seed in seeds for data, own in SETS.items() for arm in own.arms if seed < own.seeds
    ]


def run(options: argparse.Namespace, name: str) -> dict[str, Any]:
    """Train, and get what the table needs."""
    data, arm, seed = name.split("/")
    own, out = SETS[data], options.out / name.replace(" ", "-")
    settings: dict[str, Any] = {"masks.decoder": "dynunet"} if arm == "DynUNet" else {}
    if not (out / "report.json").exists():
        mg.train(
            options.shared / "data" / own.folder,
            out=out,
            task="segment",
            mask_column=own.column,
            backbone=own.arms[arm].format(weights=(options.shared / WEIGHTS).resolve()),
            seed=int(seed),
            epochs=options.epochs,
            patients_unknown=True,
            offline=True,
            resume=(out / "recipe.yaml").exists(),
            settings=settings,
        )
    report = json.loads((out / "report.json").read_text())
    timing, test = report["timing"], report["scores"]["test"]
    return {
        "all": {score: test[score] for score in SHOWN if score in test},
        "classes": {word: row["dice"] for word, row in report["per_class"].items()},
        "epochs": report["training"]["epochs"],
        "facts": report["training"]["facts"],
        "seconds": timing["train_seconds"] + timing["prefix_seconds"],
        "train_images_per_second": timing["train_images_per_second"],
        "predict_images_per_second": timing["predict_images_per_second"],
    }


def observers(folder: Path) -> str:
    """Get how far the second observer's vessels agree with the first's on the test images, as a line."""
    found = read_samples(folder, columns=Columns(mask="mask"))
    dice = []
    for sample in found.samples:
        if sample.split == "test" and sample.mask is not None:
            first = (read_label_map(sample.mask).values > 0).astype(np.uint8)
            second = (read_label_map(folder / sample.covariates["mask2"]).values > 0).astype(np.uint8)
            own = mask_scores(first, second, classes=["vessels"], spacing_mm=None, tolerance=2.0)
            dice.append(float(own["dice"][0]))
    return f"second observer of chase_db1: mean Dice {np.mean(dice):.3f} of {len(dice)} test images"


def cell(scores: list[dict[str, Any]]) -> str:
    """Get a score with its 95 % interval; of several seeds their mean, and the mean ends of their intervals."""
    known = [one for one in scores if one and one.get("value") is not None]
    if not known:
        return ""
    value = f"{np.mean([one['value'] for one in known]):.3f}"
    if any(one["low"] is None for one in known):
        return f"{value} (no interval)"
    low, high = (np.mean([one[end] for one in known]) for end in ("low", "high"))
    return f"{value} ({low:.3f} to {high:.3f})"


def table(held: dict[str, Any]) -> str:
    """Get Markdown: a row a set and an arm."""
    heads = ["set", "encoder", "seeds", "Dice", "AP at IoU .50", "AJI", "PQ", "NSD", "HD95", "clDice", "classes"]
    heads += ["wanted", "training", "draws, images a second"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for data, own in SETS.items():
        for arm in own.arms:
            rows = [one for name, one in held.items() if name.startswith(f"{data}/{arm}/")]
            if not rows:
                continue
            scores = [row["all"] for row in rows]
            unit = "mm" if any("hd95_mm" in one for one in scores) else "px"
            far = cell([one.get(f"hd95_{unit}") for one in scores])  # type: ignore[misc]
            each = [f"{word} {cell([row['classes'][word] for row in rows])}" for word in rows[0]["classes"]]
            shown = [data, arm, str(len(rows))]
            shown += [cell([one.get(score) for one in scores]) for score in ("dice", "ap50", "aji", "pq", "nsd")]  # type: ignore[misc]
            shown += [f"{far} {unit}", cell([one.get("cldice") for one in scores]), "; ".join(each)]  # type: ignore[misc]
            shown += [f"{own.wanted[0]} {own.wanted[1]}" if own.wanted[1] else ""]
            shown += [f"{np.mean([row['seconds'] for row in rows]) / 60:.0f} min"]
            shown += [f"{np.mean([row['predict_images_per_second'] for row in rows]):.2f}"]
            lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
