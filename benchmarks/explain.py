"""Does a map point at the finding? Prints one table: share of test images whose map's largest value lies on the mask.

Phantoms of three kinds, three sets of real images with masks (`_explain_questions.py`), a ResNet with every stage tuned
and a transformer with its head alone tuned and with all of it, both embedded; phantom volumes (`_explain_volumes.py`)
with the small ResNet, inflated and frozen.
Phantoms: 1600 of seed 1 for training and validation; maps of others of seed 202, and with --seed 101 of those on which
the default method was chosen. Only images that have the finding are explained, and always for the finding. "On it" is
on the mask or within 3 % of the longer side, as in `medgraft explain`: 15 pixels of 500, the tolerance of Zhang et al.
2018. "By chance" is the share of the image where a point counts as on it, "centre" how often the middle of the image
does. Where the net is right: where it says that the finding is there.

    python benchmarks/explain.py --shared ../shared --out runs/explain
    python benchmarks/explain.py --shared ../shared --out runs/explain --occlusion 30     # slow
    python benchmarks/explain.py --out runs/explain --levels --seed 101                   # the choice
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt

import _explain_questions as questions
import _explain_volumes as volumes
import medgraft as mg
from _explain_levels import candidates
from medgraft.explanation.explainer import REACH
from medgraft.explanation.maker import MapMaker
from medgraft.explanation.methods import map_of
from medgraft.explanation.sanity import alike
from medgraft.files import network_pixels, read_image, way_back
from medgraft.samples.loader import normalised
from medgraft.samples.sheet import read_sheet
from medgraft.scores.intervals import wilson
from medgraft.values import ImageRef
from results import done

NETS = {"resnet10t": "embedded:resnet10t", "vit": "embedded:vit", "vit, all tuned": "embedded:vit"}
DEPTHS = {"resnet10t": "all", "vit": "head", "vit, all tuned": "all"}
LONGER = {"vit, all tuned": 2}  # a transformer has no notion of places until it learns one
METHODS = {
    "resnet10t": ("hirescam", "layercam", "gradcam", "gradcam++"),
    "vit": ("attention", "rollout", "hirescam", "layercam"),
    "vit, all tuned": ("attention", "rollout", "hirescam", "layercam"),
}
PIXELS_EPOCHS = {  # side of the net's picture, passes over the images
    "chest": (128, 10),
    "fundus": (128, 5),
    "skin": (96, 5),
    "opacities": (96, 6),
    "platelets": (96, 4),
    "hippocampus": (96, 3),
}
MOST = 100  # images explained a question
VOLUMES = 60


@dataclass(frozen=True, eq=False)
class Point:
    """What one map did: is its largest value on the mask, with and without tolerance; does the net see the finding?"""

    hit: bool
    exact: bool
    right: bool
    alike: float
    seconds: float


def main() -> None:
    """Train what is missing, then print the table."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--shared", type=Path, default=Path(os.environ.get("MEDGRAFT_SHARED", "../shared")))
    given.add_argument("--out", type=Path, default=Path("runs/explain"))
    given.add_argument("--questions", nargs="+", default=[*questions.PHANTOMS, *questions.REAL, "volumes"])
    given.add_argument("--nets", nargs="+", default=list(NETS))
    given.add_argument("--seed", type=int, default=202, help="of the phantoms that are explained")
    given.add_argument("--occlusion", type=int, default=0, help="images that are explained by occlusion too")
    given.add_argument("--levels", action="store_true", help="print how the default was chosen instead")
    options = given.parse_args()
    if options.levels:
        print_levels(options)
        return
    words = ("question", "net", "AUROC", "method", "n", "on it", "on it, net right", "exactly on it")
    print(f"| {' | '.join(words)} | by chance | centre | alike with random weights | seconds a map |")
    print("|---" * 12 + "|")
    for name in options.questions:
        for net in options.nets if name != "volumes" else ():
            for row in rows_of(name, net, options):
                print(row, flush=True)
    for row in volume_rows(options.seed) if "volumes" in options.questions else ():
        print(row, flush=True)


def volume_rows(seed: int) -> Iterator[str]:
    """Yield a row of the table a method, of volumes."""
    net = "embedded:resnet10t_small"
    task = volumes.learnt(net)
    score = volumes.telling(task, seed=seed, count=VOLUMES)
    for method in METHODS["resnet10t"]:
        points, floors = [], []
        began = time.perf_counter()
        for found, mask, right, similar in volumes.maps(task, seed=seed, count=VOLUMES, method=method):
            away = distance_transform_edt(~mask)
            reach = round(REACH * max(mask.shape))
            floors.append((float((away <= reach).mean()), bool(away[tuple(side // 2 for side in mask.shape)] <= reach)))
            own = away[np.unravel_index(found.argmax(), found.shape)]
            seconds = (time.perf_counter() - began) / (len(points) + 1)
            points.append(Point(bool(own <= reach), bool(own == 0), right, similar, seconds))
        yield told(("volumes", net.split(":")[1], f"{score:.3f}", method), points, *np.mean(floors, axis=0))


def rows_of(name: str, net: str, options: argparse.Namespace) -> Iterator[str]:
    """Yield a row of the table a method."""
    folds = range(questions.FOLDS) if name == "opacities" else (0,)
    runs = [trained(name, net, fold, options) for fold in folds]
    found = [cases(name, fold, options) for fold in folds]  # each fold's images by the net that never saw them
    score = np.mean([run.report["scores"]["test"]["auroc"]["value"] for run in runs])
    masks = [mask for one in found for _, mask in one]
    floor, centre = np.mean([chance(mask) for mask in masks], axis=0)
    more = ("occlusion",) if options.occlusion and net != "vit" else ()
    for method in (*METHODS[net], *more):
        most = options.occlusion if method == "occlusion" else MOST
        points = [point for run, one in zip(runs, found, strict=True) for point in points_of(run, name, one, method)]
        yield told((name, net, f"{score:.3f}", method), points[:most], floor, centre)


def print_levels(options: argparse.Namespace) -> None:
    """Print, of each way to put levels together, how often its maps point at the finding of each kind of phantom."""
    hits: dict[str, dict[str, list[bool]]] = {}
    for name in [*questions.PHANTOMS, "volumes"]:
        for found, mask in levels_of_kind(name, options):
            away = distance_transform_edt(~mask)
            for how, values in found.items():
                hit = bool(away[np.unravel_index(values.argmax(), values.shape)] <= round(REACH * max(mask.shape)))
                hits.setdefault(how, {}).setdefault(name, []).append(hit)
    print(f"| map | {' | '.join(next(iter(hits.values())))} |")
    print("|---" * (1 + len(next(iter(hits.values())))) + "|")
    for how, row in hits.items():
        print(f"| {how} | {' | '.join(share(one) for one in row.values())} |")


def levels_of_kind(name: str, options: argparse.Namespace) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
    """Yield maps by how they were made, in the file's own pixels, and the mask."""
    if name == "volumes":
        task = volumes.learnt("embedded:resnet10t_small")
        for index in range(1, 2 * VOLUMES, 2):
            solid, mask = volumes.volume(index, seed=options.seed)
            found = candidates(task, torch.from_numpy(solid)[None, None], torch.tensor([1]))
            yield {how: values[0].numpy() for how, values in found.items()}, mask
        return
    run = trained(name, "resnet10t", 0, options)
    model, answer = run.model, torch.tensor([run.classes.index(questions.PHANTOMS[name])])
    model.task.requires_grad_(False)
    words = {word: value for word, value in model.pixels.words().items() if word != "window"}
    for path, mask in cases(name, 0, options):
        rows = network_pixels(read_image(ImageRef(path)), **words)[None]
        found = candidates(model.task, normalised(rows, model.spec), answer)
        back = {
            how: way_back(values[0].numpy(), size=mask.shape, fit=model.pixels.fit) for how, values in found.items()
        }
        yield back, mask


def told(words: tuple[str, ...], points: list[Point], floor: float, centre: float) -> str:
    """Get one row."""
    hits, exact = [point.hit for point in points], [point.exact for point in points]
    right = [point.hit for point in points if point.right]
    alikes, seconds = np.mean([point.alike for point in points]), np.mean([point.seconds for point in points])
    cells = [*words, str(len(points)), *map(share, (hits, right, exact)), f"{floor:.3f}", f"{centre:.3f}"]
    return f"| {' | '.join(cells)} | {alikes:+.2f} | {seconds:.2f} |"


def share(hits: list[bool]) -> str:
    """Get a share with its 95 % interval."""
    low, high = wilson(sum(hits), len(hits))
    return f"{sum(hits) / len(hits):.3f} ({low:.3f} to {high:.3f})" if hits else "none"


def chance(mask: np.ndarray) -> tuple[float, bool]:
    """Get the share of places that count as on a mask, and whether the middle does."""
    away = distance_transform_edt(~mask) <= round(REACH * max(mask.shape))
    return float(away.mean()), bool(away[mask.shape[0] // 2, mask.shape[1] // 2])


def trained(name: str, net: str, fold: int, options: argparse.Namespace) -> mg.Run:
    """Train one net unless it was done before."""
    out = options.out / f"{name}-{net}-{fold}"
    side, epochs = PIXELS_EPOCHS[name]
    if not done(out):
        off = {f"scores.{part}": False for part in ("learning", "shortcuts", "stress", "maps")}
        mg.train(
            table_of(name, fold, options),
            out=out,
            resume=(out / "recipe.yaml").exists(),
            backbone=NETS[net],
            depth=DEPTHS[net],
            image_size=side,
            epochs=epochs * LONGER.get(net, 1),
            label_column="label",
            offline=True,
            settings={"scores.resamples": 200, "split.test": 0.15, **off},
        )
    return mg.open_run(out)


def table_of(name: str, fold: int, options: argparse.Namespace) -> Path:
    """Get the table that a net learns from."""
    folder = options.out / "data" / f"{name}-{fold}"
    if (folder / "manifest.csv").exists():
        return folder / "manifest.csv"
    if name in questions.PHANTOMS:
        return questions.phantoms(name, seed=1, count=1600, out=folder)
    return questions.real(name, shared=options.shared, out=folder, fold=fold)


def cases(name: str, fold: int, options: argparse.Namespace) -> list[tuple[Path, np.ndarray]]:
    """Get test images that have the finding, and where it is."""
    if name in questions.PHANTOMS:
        folder = options.out / "data" / f"{name}-seed{options.seed}"
        table = questions.phantoms(name, seed=options.seed, count=240, out=folder)
        rows = [row for row in read_sheet(table).rows if row["label"] == questions.PHANTOMS[name]]
    else:
        table = table_of(name, fold, options)
        rows = [row for row in read_sheet(table).rows if row["split"] == "test" and row["mask"]]
    found = [(table.parent / row["path"], table.parent / row["mask"]) for row in rows]
    read = [(path, read_image(ImageRef(mask)).pixels[0] > 0) for path, mask in found]
    return [(path, mask) for path, mask in read if mask.any()][:MOST]


def points_of(run: mg.Run, name: str, chosen: list[tuple[Path, np.ndarray]], method: str) -> Iterator[Point]:
    """Make a map of each image and see where it points."""
    model = run.model
    maker = MapMaker(model.task, device=run.predictor.device, method=method)
    finding = {**questions.PHANTOMS, **questions.REAL}[name]
    answer = torch.tensor([run.classes.index(finding)])
    words = {word: value for word, value in model.pixels.words().items() if word != "window"}
    for path, mask in chosen:
        rows = network_pixels(read_image(ImageRef(path)), **words)[None]
        entering = normalised(rows, model.spec)
        began = time.perf_counter()
        found = map_of(model.task, entering, answer=answer, method=method)[0].numpy()
        seconds = time.perf_counter() - began
        other = found if method == "occlusion" else map_of(maker.random, entering, answer=answer, method=method)[0]
        own = way_back(found, size=mask.shape, fit=model.pixels.fit)
        away = float(distance_transform_edt(~mask)[np.unravel_index(own.argmax(), own.shape)])
        (said,) = run.predictor.predict(rows, [str(path)])
        hit = away <= round(REACH * max(mask.shape))
        yield Point(hit, away == 0, said.predicted == finding, alike(found, np.asarray(other)), seconds)


if __name__ == "__main__":
    main()
