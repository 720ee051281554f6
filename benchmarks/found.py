"""How well are boxes found on real images, and what are trained weights worth there? Tables of docs/results.md.

Sets: bccd, blood smears with its own split (it holds a near-duplicate across its parts: a training refuses that, and
is told to go on by split.allow_leaks=true); dsb2018_nuclei, the box of each nucleus of its instance masks; chula_rbc12,
boxes of 80 x 80 pixels around the points of red cells, by their 13 types and as one class. Arms: MobileNetV2 from
ImageNet and from random numbers, the embedded encoder and its architecture from random numbers; Faster R-CNN, and on
bccd FCOS too. Everything else is as medgraft plans it. Each cell is one training with its report; cells are kept in
found.json beside this file, so that a second call goes on where the first stopped.

    python benchmarks/found.py --shared ../shared           # what is missing
    python benchmarks/found.py --only bccd --seeds 0 1 2    # cells whose name begins so, of three seeds
    python benchmarks/found.py --table                      # the tables of what is there
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
from medgraft.values import ImageRef

SETS = ("bccd", "dsb2018_nuclei", "chula_rbc12", "chula_rbc12 as cells")
WEIGHTS = "weights/mobilenet_v2.safetensors"  # below --shared
ARMS = {
    "ImageNet MobileNetV2": "file:{weights}",
    "random MobileNetV2": "none:torchvision:mobilenet_v2",
    "embedded ResNet": "embedded:resnet10t",
    "random ResNet": "none:timm:resnet10t",
}
DEPTHS = {  # not searched: two stages of photographs' edges and textures stay, what has seen no real image is tuned
    "ImageNet MobileNetV2": 3,
    "random MobileNetV2": "all",
    "embedded ResNet": "all",
    "random ResNet": "all",
}
DETECTORS = {"faster_rcnn": "Faster R-CNN", "fcos": "FCOS"}
SMALLEST = 4  # pixels that a nucleus must have
HALF = 40.0  # pixels from a point to the edges of its box
ALL = ("map50", "map", "f1")
EACH = ("ap50", "f1")
VERBS = ("train", "predict")


def main() -> None:
    """Run what is missing, then print the tables."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--shared", type=Path, default=Path(os.environ.get("MEDGRAFT_SHARED", "../shared")))
    given.add_argument("--out", type=Path, default=Path("runs/found"))
    given.add_argument("--results", type=Path, default=Path(__file__).with_suffix(".json"))
    given.add_argument("--seeds", type=int, nargs="+", default=[0])
    given.add_argument("--epochs", type=int, help="instead of as many as are planned")
    given.add_argument("--limit-train", type=int, help="training images at most")
    given.add_argument("--only", default="", help="only cells whose name begins so")
    given.add_argument("--table", action="store_true", help="print the tables of what is there and stop")
    options = given.parse_args()
    held = json.loads(options.results.read_text()) if options.results.exists() else {}
    for name in [] if options.table else [one for one in cells(options.seeds) if one.startswith(options.only)]:
        if name not in held:
            held[name] = run(options, name)
            options.results.write_text(json.dumps(held, separators=(",", ":")) + "\n")
            print(name, f"AP50 {cell([held[name]['all']['map50']])}, {held[name]['seconds']:.0f} s", flush=True)
    print(table(held), class_table(held), sep="\n\n")


def cells(seeds: list[int]) -> list[str]:
    """Get the names of all cells: set/arm/detector/seed, the cheap sets first."""
    named = [(data, arm, "faster_rcnn") for data in SETS for arm in ARMS]
    named += [("bccd", arm, "fcos") for arm in ARMS]
    return ["/".join((*one, str(seed))) for seed in seeds for one in named]


def run(options: argparse.Namespace, name: str) -> dict[str, Any]:
    """Train, and get what the tables need."""
    data, arm, detector, seed = name.split("/")
    out = options.out / name.replace(" ", "-")
    settings: dict[str, Any] = {"boxes.arm": detector, "split.allow_leaks": data == "bccd"}
    if options.limit_train is not None:
        settings["split.limit_train"] = options.limit_train
    if not (out / "report.json").exists():
        mg.train(
            data_of(options, data),
            out=out,
            task="detect",
            backbone=ARMS[arm].format(weights=(options.shared / WEIGHTS).resolve()),
            seed=int(seed),
            epochs=options.epochs,
            depth=DEPTHS[arm],
            patients_unknown=True,
            offline=True,
            resume=(out / "recipe.yaml").exists(),
            settings=settings,
        )
    report = json.loads((out / "report.json").read_text())
    timing = report["timing"]
    return {
        "all": {score: report["scores"]["test"][score] for score in ALL},
        "classes": {word: {score: row[score] for score in EACH} for word, row in report["per_class"].items()},
        "boxes": report["data"]["boxes"],
        "epochs": report["training"]["epochs"],
        "image_size": report["training"]["image_size"],
        "seconds": timing["train_seconds"] + timing["prefix_seconds"],
        "train_images_per_second": timing["train_images_per_second"],
        "predict_images_per_second": timing["predict_images_per_second"],
    }


# ---- the sets ---------------------------------------------------------------------------------------------------


def data_of(options: argparse.Namespace, name: str) -> Path:
    """Get what a training is given; sets that hold no boxes are written as COCO JSON, a file a split."""
    folder = options.shared / "data" / name.partition(" ")[0]
    if name == "bccd":
        return folder
    found = options.out / "data" / name.replace(" ", "-")
    if not (found / "train.json").exists():
        boxes = nuclei(folder) if name == "dsb2018_nuclei" else cells_of(folder, types=name == "chula_rbc12")
        write_coco(found, folder, boxes)
    return found


Boxed = list[tuple[str, list[float]]]  # class, and x0, y0, x1, y1


def nuclei(folder: Path) -> dict[str, Boxed]:
    """Get the box of each nucleus by image; those of fewer than a handful of pixels are left out and counted."""
    found: dict[str, Boxed] = {}
    left = 0
    for row in rows_of(folder):
        boxes, small = boxes_in(read_image(ImageRef(folder / row["instance_mask"])).pixels[0])
        left += small
        found[row["path"]] = [("nucleus", box) for box in boxes]
    total = sum(map(len, found.values()))
    print(f"dsb2018_nuclei: {total} nuclei, {left} of fewer than {SMALLEST} pixels left out", flush=True)
    return found


def boxes_in(labels: np.ndarray) -> tuple[list[list[float]], int]:
    """Get the boxes of the things in a label image `(H, W)`, 0 being none, and how many were too small."""
    from scipy.ndimage import find_objects

    whole = np.rint(labels).astype(np.int64)
    counts = np.bincount(whole.ravel())
    boxes, small = [], 0
    for number, part in enumerate(find_objects(whole), start=1):
        if part is None:
            continue
        if counts[number] < SMALLEST:
            small += 1
            continue
        rows, columns = part
        boxes.append([float(edge) for edge in (columns.start, rows.start, columns.stop, rows.stop)])
    return boxes, small


def cells_of(folder: Path, *, types: bool) -> dict[str, Boxed]:
    """Get the boxes around the points of each image, cut off at its edges."""
    found: dict[str, Boxed] = {}
    for row in rows_of(folder):
        shape = read_image(ImageRef(folder / row["path"])).pixels.shape
        limit = np.array([shape[-1], shape[-2]] * 2, dtype=np.float64)
        found[row["path"]] = []
        for line in (folder / row["annotation"]).read_text().splitlines():
            if not line.strip():
                continue
            x, y, kind = line.split()
            corners = np.array([float(x), float(y)] * 2) + np.array([-HALF, -HALF, HALF, HALF])
            name = f"type {int(kind):02d}" if types else "cell"
            found[row["path"]].append((name, np.clip(corners, 0.0, limit).tolist()))
    return found


def rows_of(folder: Path) -> list[dict[str, str]]:
    """Get the rows of a set's manifest."""
    with open(folder / "manifest.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_coco(out: Path, folder: Path, boxes: dict[str, Boxed]) -> None:
    """Write a COCO JSON a split of the manifest; images stay where they are."""
    names = sorted({name for own in boxes.values() for name, _ in own})
    numbers = {name: number for number, name in enumerate(names, start=1)}
    splits = {row["path"]: row["split"] for row in rows_of(folder)}
    (out / "images").mkdir(parents=True, exist_ok=True)
    for split in ("test", "val", "train"):  # the last one says that all are there
        document: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}
        document["categories"] = [{"id": number, "name": name} for name, number in numbers.items()]
        for path in (path for path in boxes if splits[path] == split):
            place = out / "images" / Path(path).name
            if not place.exists():
                place.symlink_to((folder / path).resolve())
            shape = read_image(ImageRef(folder / path)).pixels.shape
            image = {"id": len(document["images"]) + 1, "file_name": place.name}
            document["images"].append({**image, "width": shape[-1], "height": shape[-2]})
            for name, (x0, y0, x1, y1) in boxes[path]:
                one = {"id": len(document["annotations"]) + 1, "image_id": image["id"], "iscrowd": 0}
                one |= {"category_id": numbers[name], "bbox": [x0, y0, x1 - x0, y1 - y0]}
                document["annotations"].append({**one, "area": (x1 - x0) * (y1 - y0)})
        (out / f"{split}.json").write_text(json.dumps(document))


# ---- the tables -------------------------------------------------------------------------------------------------


def of_seeds(held: dict[str, Any], data: str, arm: str, detector: str) -> list[dict[str, Any]]:
    """Get the cells of all seeds that are there."""
    begin = "/".join((data, arm, detector, ""))
    return [one for name, one in held.items() if name.startswith(begin)]


def cell(scores: list[dict[str, Any]]) -> str:
    """Get a score with its 95 % interval; of several seeds their mean, and the mean ends of their intervals."""
    known = [one for one in scores if one.get("value") is not None]
    if not known:
        return scores[0].get("why") or "no value"
    value = f"{np.mean([one['value'] for one in known]):.3f}"
    if any(one["low"] is None for one in known):
        return f"{value} (no interval)"
    low, high = (np.mean([one[end] for one in known]) for end in ("low", "high"))
    return f"{value} ({low:.3f} to {high:.3f})"


def table(held: dict[str, Any]) -> str:
    """Get Markdown: a row a set, an arm and a detector."""
    lines = [
        "| set | detector | encoder | seeds | AP at IoU .50 | AP, IoU .50 to .95 | F1 | pixels | epochs | training "
        "| learns, images a second | finds, images a second |",
        "|---" * 12 + "|",
    ]
    for data in SETS:
        for detector, arm in ((detector, arm) for detector in DETECTORS for arm in ARMS):
            own = of_seeds(held, data, arm, detector)
            if not own:
                continue
            means = [np.mean([one[f"{verb}_images_per_second"] or np.nan for one in own]) for verb in VERBS]
            shown = [data, DETECTORS[detector], arm, str(len(own))]
            shown += [cell([one["all"][score] for one in own]) for score in ALL]
            shown += [str(own[0]["image_size"][-1]), f"{np.mean([one['epochs'] for one in own]):.0f}"]
            shown += [f"{np.mean([one['seconds'] for one in own]) / 60:.0f} min", *(f"{mean:.1f}" for mean in means)]
            lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines)


def class_table(held: dict[str, Any]) -> str:
    """Get Markdown: the classes of bccd, a row a detector and an encoder."""
    some = next((one for name, one in held.items() if name.startswith("bccd/")), None)
    if some is None:
        return ""
    names = sorted(some["classes"])
    counts = some["boxes"]["test"]["classes"]
    heads = [f"{name} ({counts.get(name, 0)}), {score}" for name in names for score in ("AP50", "F1")]
    lines = [f"| detector | encoder | {' | '.join(heads)} |", "|---" * (2 + len(heads)) + "|"]
    for detector, arm in ((detector, arm) for detector in DETECTORS for arm in ARMS):
        own = of_seeds(held, "bccd", arm, detector)
        if own:
            shown = [cell([one["classes"][name][score] for one in own]) for name in names for score in EACH]
            lines.append(f"| {DETECTORS[detector]} | {arm} | {' | '.join(shown)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
