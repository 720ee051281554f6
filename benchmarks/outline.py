"""How well does a model outline what it is shown, and by what is it best shown? Tables and a plot of docs/results.md.

A study in the manner of Mazurowski et al. 2023 (Med Image Anal 89:102918). Sets: dsb2018_nuclei (a structure is a
nucleus), covid_cxr_seg (a lung; the opacities of a film), hippocampus_msd (a part of it in the axial slice where it
is largest), chase_db1 (the vessels of a retina, the known hard case). Test images alone. A structure is shown by the
innermost point of its largest part; by such a point in each of its parts, three at most, asked one by one; by the box
around it; by a box around each part; and by a point and further clicks, each in the middle of the largest error, with
the answer before as a mask. The answer is the candidate that the model thinks best of, or, where it says "oracle", the
one that fits best. What is measured is the overlap (IoU) with the whole structure; intervals are of images, resampled.

    python benchmarks/outline.py --shared ../shared                       # the embedded model
    python benchmarks/outline.py --backbone hf-hub:facebook/sam-vit-base  # a second one, into the same table
    python benchmarks/outline.py --tune 20                                # tuned on 20 images of each set, then asked
    python benchmarks/outline.py --seconds                                # how long a look and a click take
    python benchmarks/outline.py --table --plot docs/pictures/outline.svg
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import medgraft as mg
from medgraft.files.label_map import read_label_map
from medgraft.nets.prompter import Embedding, Prompter
from medgraft.nets.prompter_sources import open_prompter
from medgraft.outlining.seen import seen
from medgraft.report import svg
from medgraft.samples.dataset import Columns, read_samples
from medgraft.samples.showing import box_prompt, corrected, overlap, parts_of, point_prompt
from medgraft.values import Prompt, Sample

PARTS = 3  # of a structure that are shown one by one
CLICKS = (1, 2, 3, 5, 8)
EACH = 12  # structures of an image, at most
LEAST = 25  # pixels of a structure
SHOWN = {
    "1 point": "one point",
    "1 point a part": "a point a part",
    "box": "one box",
    "box a part": "a box a part",
}


@dataclass(frozen=True)
class Set:
    """A set of images with structures.

    Attributes:
        folder: below --shared/data.
        column: of the label maps.
        kind: "things" (a number each), "classes" (a number a structure), "whole" (all that is above 0) or "slices".
    """

    folder: str
    column: str
    kind: str


SETS = {
    "nuclei": Set("dsb2018_nuclei", "instance_mask", "things"),
    "lungs": Set("covid_cxr_seg", "mask", "classes"),
    "opacities": Set("covid_cxr_seg", "opacity_mask", "whole"),
    "hippocampus": Set("hippocampus_msd", "mask", "slices"),
    "vessels": Set("chase_db1", "mask", "whole"),
}


def main() -> None:
    """Ask what is missing, then print the table."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--shared", type=Path, default=Path(os.environ.get("MEDGRAFT_SHARED", "../shared")))
    given.add_argument("--backbone", default="auto", help="the model, as medgraft outline takes it")
    given.add_argument("--name", help="of the model in the table; default: as it was asked for")
    given.add_argument("--results", type=Path, default=Path(__file__).with_suffix(".json"))
    given.add_argument("--only", nargs="+", default=list(SETS), choices=list(SETS))
    given.add_argument("--images", type=int, default=40, help="of a set, at most")
    given.add_argument("--split", default="test")
    given.add_argument("--tune", type=int, help="tune the model on so many images of each set first")
    given.add_argument("--depth", default="auto", help="to which it is tuned")
    given.add_argument("--out", type=Path, default=Path("runs/outline"), help="where tuned models go")
    given.add_argument("--seconds", action="store_true", help="time a look and a click, and stop")
    given.add_argument("--table", action="store_true", help="print the table of what is there and stop")
    given.add_argument("--plot", type=Path, help="write the plot of what is there")
    options = given.parse_args()
    held = json.loads(options.results.read_text()) if options.results.exists() else {}
    if options.seconds:
        print(seconds(open_prompter(options.backbone)))
        return
    if not options.table:
        model = open_prompter(options.backbone)
        name = options.name or (model.name + (f", tuned on {options.tune} images" if options.tune else ""))
        for word in options.only:
            start = time.perf_counter()
            own = tuned(options, word) if options.tune else model
            told = asked(own, options, SETS[word])
            # Read again: another call may have written another set meanwhile.
            held = json.loads(options.results.read_text()) if options.results.exists() else {}
            held.setdefault(name, {})[word] = told
            options.results.write_text(json.dumps(held, separators=(",", ":"), sort_keys=True) + "\n")
            print(f"{name} {word}: {time.perf_counter() - start:.0f} s", flush=True)
    print(table(held))
    if options.plot:
        options.plot.write_text(plot(held), encoding="utf-8")


def tuned(options: argparse.Namespace, word: str) -> Prompter:
    """Tune the model on some training images of a set, as `medgraft train --task outline` does, and open it."""
    own, out = SETS[word], options.out / word
    if not (out / "report.json").exists():
        mg.train(
            options.shared / "data" / own.folder,
            out=out,
            task="outline",
            mask_column=own.column,
            backbone=options.backbone,
            depth=options.depth,
            patients_unknown=True,
            offline=True,
            resume=(out / "recipe.yaml").exists(),
            settings={"split.limit_train": options.tune},
        )
    return open_prompter(str(out))


def structures(root: Path, own: Set, sample: Sample) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Get pictures `(H, W, 3)` of a sample, and the masks of the structures in each."""
    assert sample.mask is not None
    labels = read_label_map(sample.mask).values
    image = seen(sample.image.path)
    if own.kind == "slices":
        upright = image.along(labels, "axial")
        for number in np.unique(upright[upright > 0]):
            level = int((upright == number).sum(axis=(1, 2)).argmax())
            yield image.slice(level, "axial"), [upright[level] == number]
        return
    numbers = [True] if own.kind == "whole" else np.unique(labels[labels > 0])
    masks = [labels > 0 if own.kind == "whole" else labels == number for number in numbers]
    masks = [mask for mask in masks if mask.sum() >= LEAST]
    if len(masks) > EACH:  # evenly over the sizes
        masks.sort(key=lambda mask: int(mask.sum()))
        masks = [masks[k] for k in np.linspace(0, len(masks) - 1, EACH).round().astype(int)]
    if masks:
        yield image.picture, masks


def asked(model: Prompter, options: argparse.Namespace, own: Set) -> dict[str, Any]:
    """Get the overlaps of each way of showing: name -> image by image -> structure by structure."""
    root = options.shared / "data" / own.folder
    found = read_samples(root, columns=Columns(mask=own.column))
    samples = [one for one in found.samples if one.split == options.split and one.mask is not None]
    samples = [samples[k] for k in np.linspace(0, len(samples) - 1, min(len(samples), options.images)).astype(int)]
    held: dict[str, list[list[float]]] = {}
    for sample in samples:
        rows: dict[str, list[float]] = {}
        for picture, masks in structures(root, own, sample):
            embedding = model.encode(picture)
            for mask in masks:
                for name, value in shown(model, embedding, mask).items():
                    rows.setdefault(name, []).append(round(value, 4))
        for name, values in rows.items():
            held.setdefault(name, []).append(values)
    return held


def shown(model: Prompter, embedding: Embedding, mask: np.ndarray) -> dict[str, float]:
    """Show one structure in every way."""
    parts = parts_of(mask, most=PARTS)
    ways = {
        "1 point": [point_prompt(mask)],
        "1 point a part": [point_prompt(part) for part in parts],
        "box": [box_prompt(mask)],
        "box a part": [box_prompt(part) for part in parts],
    }
    told: dict[str, float] = {}
    for name, prompts in ways.items():
        best, oracle = np.zeros_like(mask), np.zeros_like(mask)
        truths = [mask] if len(prompts) == 1 else parts
        for prompt, truth in zip(prompts, truths, strict=True):
            candidates = model.decode(embedding, prompt)
            best |= candidates.masks[candidates.best]
            oracle |= max(candidates.masks, key=lambda drawn, truth=truth: overlap(truth, drawn))
        told[name], told[f"{name}, oracle"] = overlap(mask, best), overlap(mask, oracle)
    return told | clicks(model, embedding, mask)


def clicks(model: Prompter, embedding: Embedding, mask: np.ndarray) -> dict[str, float]:
    """Click again and again where the answer is wrong."""
    told: dict[str, float] = {}
    prompt: Prompt = point_prompt(mask)
    for count in range(1, max(CLICKS) + 1):
        candidates = model.decode(embedding, prompt)
        drawn = candidates.masks[candidates.best]
        if count in CLICKS:
            told[f"{count} clicks"] = overlap(mask, drawn)
        prompt = corrected(prompt, mask, drawn)
    return told


def mean(images: list[list[float]], *, seed: int = 0) -> tuple[float, float, float, int]:
    """Get the mean over structures with its 95 % interval over images, resampled, and how many structures there are."""
    sums = np.array([[sum(values), len(values)] for values in images])
    drawn = np.random.default_rng(seed).integers(len(sums), size=(2000, len(sums)))
    resampled = sums[drawn].sum(axis=1)
    low, high = np.quantile(resampled[:, 0] / resampled[:, 1], [0.025, 0.975])
    return float(sums[:, 0].sum() / sums[:, 1].sum()), float(low), float(high), int(sums[:, 1].sum())


def table(held: dict[str, Any]) -> str:
    """Get Markdown: a row a model and a set, and the mean over the sets without vessels."""
    ways = [way for name in SHOWN for way in (name, f"{name}, oracle")]
    lines = [f"| model | set | structures | {' | '.join(ways)} | clicks: {', '.join(map(str, CLICKS))} |"]
    lines.append("|---" * (4 + len(ways)) + "|")
    for model, sets in held.items():
        values: dict[str, list[float]] = {}
        for word in [one for one in SETS if one in sets]:
            cells = [mean(sets[word][way]) for way in ways]
            further = [mean(sets[word][f"{count} clicks"])[0] for count in CLICKS]
            told = [f"{value:.3f} ({low:.3f} to {high:.3f})" for value, low, high, _ in cells]
            row = [model, word, str(cells[0][3]), *told, ", ".join(f"{value:.3f}" for value in further)]
            lines.append(f"| {' | '.join(row)} |")
            if word != "vessels":
                for way, one in zip([*ways, *map(str, CLICKS)], [*(c[0] for c in cells), *further], strict=True):
                    values.setdefault(way, []).append(one)
        if values:
            means = [f"{np.mean(values[way]):.3f}" for way in ways]
            last = ", ".join(f"{np.mean(values[str(count)]):.3f}" for count in CLICKS)
            lines.append(f"| {model} | mean without vessels | | {' | '.join(means)} | {last} |")
    return "\n".join(lines)


def plot(held: dict[str, Any]) -> str:
    """Get an SVG: a panel a set, overlap by the way of showing, a colour a model; the oracle's is hollow."""
    wide, high, room = 250, 190, 34
    body = []
    for place, word in enumerate(SETS):
        left = 10 + place * wide
        body.append(svg.text(left + room, 18, word))
        for value in (0, 0.25, 0.5, 0.75, 1):
            y = 30 + high * (1 - value)
            body.append(svg.line(left + room, y, left + wide - 14, y))
            if not place:
                body.append(svg.text(left + room - 5, y + 4, f"{value:g}", anchor="end"))
        for order, (model, sets) in enumerate(held.items()):
            colour = svg.COLOURS[order % len(svg.COLOURS)]
            for step, way in enumerate(SHOWN if word in sets else ()):
                x = left + room + 22 + step * (wide - room - 58) / (len(SHOWN) - 1) + 6 * (order - (len(held) - 1) / 2)
                for oracle in (False, True):
                    value, low, top, _ = mean(sets[word][f"{way}, oracle" if oracle else way])
                    y = 30 + high * (1 - value)
                    if not oracle:
                        ends = (30 + high * (1 - low), 30 + high * (1 - top))
                        body.append(svg.line(x, ends[0], x, ends[1], colour=colour, width=1.5))
                    fill, edge = ("#fff", colour) if oracle else (colour, "#fff")
                    body.append(svg.dot(x, y, 3.5, fill=fill, stroke=edge, hint=f"{model}, {way}: {value:.3f}"))
        for step, way in enumerate(SHOWN):
            x = left + room + 22 + step * (wide - room - 58) / (len(SHOWN) - 1)
            body.append(svg.text(x, 30 + high + 16, way.replace("1 point", "point"), anchor="end", turn=-35))
    for order, model in enumerate(held):
        y = 30 + high + 78 + 18 * order
        body.append(svg.dot(50, y - 4, 4, fill=svg.COLOURS[order % len(svg.COLOURS)]))
        body.append(svg.text(60, y, f"{model}: mean overlap (IoU), interval of images; hollow: the best candidate"))
    size = (20 + wide * len(SETS), 30 + high + 90 + 18 * len(held))
    drawn = str(svg.picture(body, width=size[0], height=size[1], title="Overlap by the way of showing"))
    style = 'xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" font-size="12" fill="#1d2a35" '
    paper = f'<rect width="{size[0]}" height="{size[1]}" fill="#fff"/>'
    return drawn.replace("<svg ", f"<svg {style}", 1).replace(">", f">{paper}", 1)


def seconds(model: Prompter) -> str:
    """Get how long a picture takes to be seen, and a prompt to be answered, medians of many."""
    lines = [f"{model.name}, {torch.get_num_threads()} threads"]
    for side in (256, 512, 1024, 2048):
        picture = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
        looks, asks = [], {"a point": [], "a box": []}
        for _ in range(5):
            start = time.perf_counter()
            embedding = model.encode(picture)
            looks.append(time.perf_counter() - start)
        for _ in range(20):
            for name, prompt in (
                ("a point", Prompt(points=np.array([[side / 3, side / 2, 1.0]]))),
                ("a box", Prompt(boxes=np.array([[side / 4, side / 4, side / 2, side / 2]]))),
            ):
                start = time.perf_counter()
                model.decode(embedding, prompt)
                asks[name].append(time.perf_counter() - start)
        told = ", ".join(f"{name} {1000 * np.median(values):.0f} ms" for name, values in asks.items())
        lines.append(f"{side} x {side}: seen in {1000 * np.median(looks):.0f} ms; {told}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
