"""What taking noise away is worth: PSNR and SSIM of each way, and the AUROC of a classifier of clean images.

    python benchmarks/denoise.py --shared ../shared --out runs/denoise                  # all cells, minutes each
    python benchmarks/denoise.py --shared ../shared --cell chest-200 --steps 250
    python benchmarks/denoise.py --prior runs/diffuse-chest       # a diffusion model of films as a prior, and filters

Real images get noise as fewer photons would bring it (`medgraft.samples.dose`), at two levels. Chest films, at 128
pixels: photons are counted behind the body. Slices of the hippocampus: brightness is counted. A cell is a set and a
level. A net learns from the noisy training images alone; filters get the strength that foretells hidden pixels of
three validation images best; all are compared on the first 60 test images. For chest films the embedded encoder and a
head at its optimum learn from clean training images, and are asked of all test images clean, noisy, and without noise.
A prior is a run of `--task diffuse`; it is asked at the size that it draws, of the test images of its own split, with
noise as of chest films.
A cell that is there is not made again; denoise.json holds them all, and a Markdown table is printed.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import medgraft as mg
from medgraft.files import read_image, save_png
from medgraft.samples.dose import few_counts, low_dose

SIDE = 128
CELLS = {"chest-1000": ("chest", 1000.0), "chest-200": ("chest", 200.0)}
CELLS |= {"hippocampus-200": ("hippocampus", 200.0), "hippocampus-50": ("hippocampus", 50.0)}
ROOM = 0.1  # of the range of a file on either side, so that noise is not cut off
SPLITS = ("train",) * 7 + ("val",) + ("test",) * 2


def main() -> None:
    """Run what is missing, then print the table."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--shared", type=Path, default=Path(os.environ.get("MEDGRAFT_SHARED", "../shared")))
    given.add_argument("--out", type=Path, default=Path("runs/denoise"))
    given.add_argument("--cell", choices=tuple(CELLS), action="append", help="only these")
    given.add_argument("--steps", type=int, default=600, help="of the net, about")
    given.add_argument(
        "--prior", type=Path, help="a run of --task diffuse that draws gray images: compare it, and stop"
    )
    given.add_argument("--images", type=int, default=60, help="test images that ways are compared on")
    given.add_argument("--table", action="store_true", help="print the table of what is there and stop")
    options = given.parse_args()
    if options.prior is not None:
        print(table({f"{photons:g} photons": {"methods": as_prior(options, photons)} for photons in (1000.0, 200.0)}))
        return
    for name in [] if options.table else options.cell or CELLS:
        if not (options.out / name / "cell.json").exists():
            cell(options, name)
    told = {name: json.loads(path.read_text()) for name in CELLS if (path := options.out / name / "cell.json").exists()}
    (options.out / "denoise.json").write_text(json.dumps(told, indent=1) + "\n")
    print(table(told))


def cell(options: argparse.Namespace, name: str) -> None:
    """Make one cell."""
    kind, level = CELLS[name]
    folder = options.out / name
    data = make(options, kind, level, folder / "data")
    settings = {"denoise.clean_column": "clean", "scores.resamples": 1000, "split.allow_leaks": True}
    words: dict[str, Any] = {"patients_unknown": True, "offline": True, "device": "cpu"}
    run = folder / "run"
    if not (run / "report.json").exists():
        resume = (run / "recipe.yaml").exists()
        epochs = max(1, round(options.steps / 100))
        mg.train(data, out=run, task="denoise", resume=resume, epochs=epochs, settings=settings, **words)
    report = json.loads((run / "report.json").read_text())
    told: dict[str, Any] = {"methods": compared(options, data, run), "epochs": report["training"]["epochs"]}
    told |= {"seconds": report["timing"]["train_seconds"], "noise": report["denoising"]["noise"]}
    if kind == "chest":
        told["auroc"] = downstream(options, folder, data, run)
    (folder / "cell.json").write_text(json.dumps(told, indent=1) + "\n")


def make(options: argparse.Namespace, kind: str, level: float, out: Path) -> Path:
    """Write noisy and clean images of 16 bits and their table, unless they are there; get the table."""
    path = out / "data.csv"
    if path.exists():
        return path
    rows = []
    for number, (key, label, shares) in enumerate(images(options.shared / "data", kind)):
        words: dict[str, Any] = {"seed": 0, "key": key}
        if kind == "chest":
            noisy = low_dose(shares, photons=level, **words)
        else:
            noisy = few_counts(shares, counts=level, **words)
        row = {"path": f"noisy/{number:04d}.png", "clean": f"clean/{number:04d}.png", "label": label}
        rows.append(row | {"split": SPLITS[(7 * number) % len(SPLITS)]})
        for column, values in (("path", noisy), ("clean", shares)):
            (out / row[column]).parent.mkdir(parents=True, exist_ok=True)
            stored = np.clip(ROOM + (1 - 2 * ROOM) * values, 0, 1) * 65535
            save_png(out / row[column], np.rint(stored).astype(np.uint16))
    with open(path, "w", newline="") as file:
        table_ = csv.DictWriter(file, fieldnames=list(rows[0]))
        table_.writeheader()
        table_.writerows(rows)
    return path


def images(data: Path, kind: str) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield (key, label, image `(H, W)` in 0..1)."""
    if kind == "chest":
        from medgraft.files import network_pixels

        folder = data / "cxr_pneumonia_624"
        with open(folder / "manifest.csv", newline="") as file:
            for row in csv.DictReader(file):
                pixels = network_pixels(read_image(folder / row["path"]), size=(SIDE, SIDE), channels=1, fit="pad")
                yield row["path"], row["label"], pixels[0].astype(np.float32) / np.iinfo(pixels.dtype).max
        return
    folder = data / "hippocampus_msd"
    with open(folder / "manifest.csv", newline="") as file:
        for row in csv.DictReader(file):
            volume = read_image(folder / row["path"]).pixels[0]
            plane = volume[len(volume) // 2]
            yield row["path"], "", np.clip(plane / np.percentile(volume, 99.5), 0, 1)


def rows_of(data: Path, split: str) -> list[dict[str, str]]:
    """Get the rows of a split."""
    with open(data, newline="") as file:
        return [row for row in csv.DictReader(file) if row["split"] == split]


def compared(options: argparse.Namespace, data: Path, run: Path) -> dict[str, Any]:
    """Get the scores of every way on the first test images, filters settled on validation images."""
    from medgraft.denoising.judge import Around, case_of, filters_for, judged
    from medgraft.restoring.work import way_of
    from medgraft.values import ImageRef

    root = data.parent
    cases = {
        split: [
            case_of(ImageRef(root / row["path"]), root / row["clean"], key=row["path"], patient=None)
            for row in rows_of(data, split)[:most]
        ]
        for split, most in (("val", 3), ("test", options.images))
    }
    ways: list[Any] = [way_of(run, None, device="cpu", steps=1), Around(), *filters_for(cases["val"])[0]]
    return judged(cases["test"], ways, listen=lambda event: None).scores(seed=0)


def as_prior(options: argparse.Namespace, photons: float) -> dict[str, Any]:
    """Get the scores of a diffusion model as a prior and of filters, on images that the model did not learn from."""
    from medgraft.denoising.judge import Around, case_of, filters_for, judged
    from medgraft.files import network_pixels
    from medgraft.recipe import load
    from medgraft.restoring.work import way_of
    from medgraft.values import ImageRef

    side = tuple(load(options.prior / "recipe.yaml").generator.shape or ())
    folder, cases = options.out / f"prior-{photons:g}", {}
    for split, most in (("val", 3), ("test", options.images)):
        cases[split] = []
        for number, row in enumerate(rows_of(options.prior / "samples.csv", split)[:most]):
            pixels = network_pixels(read_image(Path(row["path"])), size=side, channels=1, fit="pad")[0]
            clean = pixels.astype(np.float32) / np.iinfo(pixels.dtype).max
            paths = [folder / kind / f"{split}-{number:04d}.png" for kind in ("noisy", "clean")]
            noisy = low_dose(clean, photons=photons, seed=0, key=row["key"])
            for path, values in zip(paths, (noisy, clean), strict=True):
                path.parent.mkdir(parents=True, exist_ok=True)
                save_png(path, np.rint(np.clip(values, 0, 1) * 65535).astype(np.uint16))
            cases[split].append(case_of(ImageRef(paths[0]), paths[1], key=row["key"], patient=row["patient"] or None))
    ways: list[Any] = [way_of(options.prior, "prior", device="cpu", steps=1), Around(), *filters_for(cases["val"])[0]]
    return judged(cases["test"], ways, listen=lambda event: None).scores(seed=0)


def downstream(options: argparse.Namespace, folder: Path, data: Path, run: Path) -> dict[str, Any]:
    """Get the AUROCs of a classifier that learnt from clean images, by way of taking noise away."""
    clean = folder / "data" / "clean.csv"
    with open(data, newline="") as file:
        rows = [{"path": row["clean"], "label": row["label"], "split": row["split"]} for row in csv.DictReader(file)]
    with open(clean, "w", newline="") as file:
        table_ = csv.DictWriter(file, fieldnames=list(rows[0]))
        table_.writeheader()
        table_.writerows(rows)
    judge = folder / "judge"
    if not (judge / "report.json").exists():
        settings = {"split.allow_leaks": True, "scores.resamples": 500, "scores.stress": False, "scores.maps": False}
        settings |= {"scores.learning": False, "scores.shortcuts": False}
        words: dict[str, Any] = {"depth": "head", "epochs": 0, "image_size": SIDE, "device": "cpu", "offline": True}
        resume = (judge / "recipe.yaml").exists()
        mg.train(clean, out=judge, resume=resume, patients_unknown=True, settings=settings, **words)
    test = folder / "data" / "test.csv"
    with open(test, "w", newline="") as file:
        table_ = csv.DictWriter(file, fieldnames=["path", "clean", "label"], extrasaction="ignore")
        table_.writeheader()
        table_.writerows(rows_of(data, "test"))
    from medgraft.restoring.downstream import judged_by
    from medgraft.samples.dataset import read_samples

    found: dict[str, Any] = {}
    ways: dict[str, dict[str, Any]] = {"blindspot": {"run": run}, "nlmeans": {"method": "nlmeans"}}
    for name, words in ways.items():
        done = mg.denoise(test, out=folder / f"cleaned-{name}-{os.getpid()}", device="cpu", **words)
        samples = read_samples(test).samples
        beside = {one.key: test.parent / one.covariates["clean"] for one in samples}
        found[name] = judged_by(judge, samples, done, beside, device="cpu", seed=0)["auroc"]
    return found


def table(told: dict[str, Any]) -> str:
    """Get the results as Markdown."""
    lines = ["| cell | way | PSNR, dB | gained, dB | SSIM | error at hidden pixels |", "|---|---|---|---|---|---|"]
    for name, one in told.items():
        for way, own in one["methods"].items():
            cells = [said(own.get(score), form) for score, form in _COLUMNS]
            lines.append(f"| {name} | {way} | {' | '.join(cells)} |")
    if any("auroc" in one for one in told.values()):
        lines += ["", "| cell | images | AUROC |", "|---|---|---|"]
    for name, one in told.items():
        rows: dict[str, Any] = {}
        for way, own in one.get("auroc", {}).items():
            rows |= {key.replace("denoised", way): score for key, score in own.items()}
        lines += [f"| {name} | {key} | {said(one, _form(key))} |" for key, one in rows.items()]
    return "\n".join(lines)


_COLUMNS = (("psnr", ".2f"), ("psnr_gain", "+.2f"), ("ssim", ".3f"), ("blind_error", ".3f"))


def _form(key: str) -> str:
    return "+.3f" if " - " in key else ".3f"


def said(score: dict[str, Any] | None, form: str) -> str:
    """Get a score with its interval."""
    if score is None or score["value"] is None:
        return ""
    return f"{score['value']:{form}} ({score['low']:{form}} to {score['high']:{form}})"


if __name__ == "__main__":
    main()
