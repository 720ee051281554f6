"""How good are images that medgraft learns to draw? Tables of docs/results.md.

Real sets, each by class: fundus (odir5k_sub), chest (cxr_pneumonia_624), skin (ham10000_sub) at 64 x 64 pixels, by
diffusion and by StyleGAN; volumes, by diffusion: the hippocampus (hippocampus_msd) and CT phantoms. Drawn images are
compared with as many held-out real ones, by features of an encoder that saw neither, and beside them stand three floors
that need no learning: training images themselves, the same with noise, and a Gaussian of their pixels. Last come two
nets that learnt ten chest films for long: they copy, and the audit has to say so. Cells are kept in made.json beside
this file, so that a second call goes on where the first stopped.

    python benchmarks/made.py --shared ../shared                      # what is missing, as medgraft plans it
    python benchmarks/made.py --only "chest/stylegan" --steps 1000    # a smaller budget
    python benchmarks/made.py --table
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import medgraft as mg
from medgraft.report import svg

CT = 160  # phantoms
SHOWN = ("fid_embedded", "kid_embedded", "precision", "recall", "ms_ssim", "histogram", "nearest_copy")


@dataclass(frozen=True)
class Cell:
    """One training.

    Attributes:
        data: folder below --shared/data, or "ct_nodules": phantoms.
        task: diffuse or stylegan.
        settings: beside what is planned.
        steps: about so many; as planned when None.
    """

    data: str
    task: str
    settings: dict[str, Any] = field(default_factory=dict)
    steps: int | None = None


FLAT: dict[str, Any] = {"generator.shape": [64, 64]}
TEN: dict[str, Any] = {**FLAT, "split.limit_train": 10, "generator.kinds": False}
PLAIN: dict[str, Any] = {"generator.kinds": False}
CELLS = {
    "fundus/diffuse": Cell("odir5k_sub", "diffuse", FLAT),
    "fundus/stylegan": Cell("odir5k_sub", "stylegan", FLAT),
    "chest/diffuse": Cell("cxr_pneumonia_624", "diffuse", FLAT),
    "chest/stylegan": Cell("cxr_pneumonia_624", "stylegan", FLAT),
    "skin/diffuse": Cell("ham10000_sub", "diffuse", FLAT),
    "skin/stylegan": Cell("ham10000_sub", "stylegan", FLAT),
    "hippocampus/diffuse": Cell("hippocampus_msd", "diffuse", PLAIN),
    "ct phantoms/diffuse": Cell("ct_nodules", "diffuse", PLAIN),
    "ten chest films/diffuse": Cell("cxr_pneumonia_624", "diffuse", TEN, steps=2000),
    "ten chest films/stylegan": Cell("cxr_pneumonia_624", "stylegan", TEN, steps=1500),
}
NETS = {"diffuse": "diffusion", "stylegan": "StyleGAN"}
SETS_OF = {task: [[data, task] for data in ("fundus", "chest", "skin")] for task in NETS}


def main() -> None:
    """Run what is missing, then print the table."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--shared", type=Path, default=Path(os.environ.get("MEDGRAFT_SHARED", "../shared")))
    given.add_argument("--out", type=Path, default=Path("runs/made"))
    given.add_argument("--results", type=Path, default=Path(__file__).with_suffix(".json"))
    given.add_argument("--steps", type=int, help="instead of as many as are planned")
    given.add_argument("--only", default="", help="only cells whose name begins so")
    given.add_argument("--set", action="append", default=[], help="key=value, beside what is planned")
    given.add_argument("--plot", type=Path, help="write the plot of how FID and KID fall while nets learn")
    given.add_argument("--table", action="store_true", help="print the table of what is there and stop")
    options = given.parse_args()
    held = json.loads(options.results.read_text()) if options.results.exists() else {}
    for name in [] if options.table else [one for one in CELLS if one.startswith(options.only)]:
        if name not in held:
            held[name] = run(options, name)
            options.results.write_text(json.dumps(held, separators=(",", ":"), sort_keys=True) + "\n")
            print("\n".join(rows(name, held[name])), flush=True)
    if options.plot:
        options.plot.write_text(plot(held), encoding="utf-8")
    print(table(held))


def run(options: argparse.Namespace, name: str) -> dict[str, Any]:
    """Train, and get what the table needs."""
    own, out = CELLS[name], options.out / name.replace(" ", "-")
    data = options.shared / "data" / own.data
    if own.data == "ct_nodules":
        data = options.out / "ct"
        if not data.exists():
            mg.draw_phantoms("ct_nodules", count=CT, out=data, size=64, seed=0)
    asked = {key: json.loads(value) for key, _, value in (one.partition("=") for one in options.set)}
    steps = options.steps or own.steps
    if not (out / "report.json").exists():
        mg.train(
            data,
            out=out,
            task=own.task,
            epochs=None if steps is None else max(1, round(steps / 100)),
            patients_unknown=True,
            offline=True,
            resume=(out / "recipe.yaml").exists(),
            settings={**own.settings, **asked},
        )
    report = json.loads((out / "report.json").read_text())
    told, timing, test = report["generation"], report["timing"], report["scores"]["test"]
    audit = told["audit"]
    return {
        "scores": {score: test[score] for score in SHOWN},
        "floors": {floor: {score: one[score] for score in SHOWN[:2]} for floor, one in told["floors"].items()},
        "ms_ssim_real": told["ms_ssim_real"],
        "audit": {"verdict": audit["verdict"], "reasons": audit["reasons"]},
        "membership": {space: audit[space]["membership"] for space in ("features", "pixels")},
        "facts": report["training"]["facts"],
        "followed": [
            [row["step"], *([round(row[name][end], 4) for end in ("value", "low", "high")] for name in SHOWN[:2])]
            for row in told["followed"]
        ],
        "epochs": [report["training"]["best_epoch"], report["training"]["epochs"]],
        "images": report["data"]["images"],
        "train_images_per_second": timing["train_images_per_second"],
        "predict_images_per_second": timing["predict_images_per_second"],
        "seconds": timing["train_seconds"],
    }


def plot(held: dict[str, Any]) -> str:
    """Get an SVG: FID and KID beside validation images by steps, a colour a set; the KID of the Gaussian dashed."""
    body: list[str] = []
    for row, task in enumerate(("diffuse", "stylegan")):
        own = {name: held[name] for name in CELLS if name in held and name.split("/") in SETS_OF[task]}
        for column, score in enumerate(("FID", "KID")):
            panel_of(body, own, left=70 + 400 * column, top=30 + 290 * row, score=score, word=NETS[task])
    for order, (colour, (data, _)) in enumerate(zip(svg.COLOURS, SETS_OF["diffuse"], strict=False)):
        body.append(svg.dot(82 + 90 * order, 620, 4, fill=colour))
        body.append(svg.text(92 + 90 * order, 624, data))
    body.append(svg.text(372, 624, "dashed: the KID of a Gaussian, beside test images"))
    drawn = str(svg.picture(body, width=860, height=640, title="How FID and KID fall while nets learn"))
    style = 'xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" font-size="12" fill="#1d2a35" '
    return drawn.replace("<svg ", f"<svg {style}", 1).replace(">", '><rect width="860" height="640" fill="#fff"/>', 1)


def panel_of(body: list[str], own: dict[str, Any], *, left: int, top: int, score: str, word: str) -> None:
    """Add one panel: a line a set, with the ends of its intervals as a band."""
    place, name = ("FID", "KID").index(score), f"{score.lower()}_embedded"
    lines = [[[row[0], *row[1 + place]] for row in one["followed"]] for one in own.values()]
    steps, high = (max(row[k] for line in lines for row in line) for k in (0, 3))
    panel = svg.Panel(left, top, 330, 210, (0, steps), (0, 1.03 * high))
    body.append(panel.axes("steps of 16 images", f"{score}, {word}"))
    for colour, line, one in zip(svg.COLOURS, lines, own.values(), strict=False):
        x, y, low, top_of = zip(*line, strict=True)
        body += [panel.band(x, [max(0.0, end) for end in low], top_of, colour=colour), panel.path(x, y, colour=colour)]
        if score == "KID":
            floor = one["floors"]["gaussian"][name]["value"]
            body.append(panel.path([0, steps], [floor, floor], colour=colour, width=1, dash="3 3"))


def cell(score: dict[str, Any] | None, digits: int = 1) -> str:
    """Get a score with its 95 % interval."""
    if not score or score.get("value") is None:
        return ""
    value = f"{score['value']:.{digits}f}"
    return value if score["low"] is None else f"{value} ({score['low']:.{digits}f} to {score['high']:.{digits}f})"


def rows(name: str, one: dict[str, Any]) -> Iterator[str]:
    """Yield Markdown: drawn images, then the floors."""
    scores = one["scores"]
    told = [cell(scores["fid_embedded"]), cell(scores["kid_embedded"], 3), cell(scores["precision"], 2)]
    told += [cell(scores["recall"], 2), f"{cell(scores['ms_ssim'], 2)}; real {cell(one['ms_ssim_real'], 2)}"]
    told += [cell(scores["histogram"], 3), one["audit"]["verdict"], f"{one['seconds'] / 60:.0f} min"]
    yield f"| {name} | {' | '.join(told)} |"
    for floor, values in one["floors"].items():
        beside = [cell(values["fid_embedded"]), cell(values["kid_embedded"], 3), *[""] * 6]
        yield f"| beside: {floor} | {' | '.join(beside)} |"


def table(held: dict[str, Any]) -> str:
    """Get Markdown: a row a cell and one a floor."""
    heads = ["set", "FID", "KID", "precision", "recall", "MS-SSIM", "histogram", "audit", "training"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name in CELLS:
        lines += rows(name, held[name]) if name in held else []
    return "\n".join(lines)


if __name__ == "__main__":
    main()
