"""How fast the main job is beside fastai, on two processor cores, and beside the bare network.

    python benchmarks/classify.py [--fastai-python PATH] [--fastai-epochs 20]

The same ResNet-18 (one file of random numbers that both load), the same fundus photographs (normal or cataract,
split by patient), 224 pixels, batches of 32, the same threads, both with augmentation. Every arm is a process of its
own, and imports are outside of every time. Decoding, surveying and the caches of medgraft start empty and are inside.

fastai comes by `pip install "medgraft[bench]"`; where it lives in another environment, name its interpreter.
Training images fill whole batches, as fastai leaves out a last one that is not full. Its frozen epochs take the same
time each, so only --fastai-epochs are run and scaled to --epochs; give both the same number to run them all, which
also makes the AUROC of that row comparable.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
CLASSES = ("cataract", "normal")  # the first is the positive one
VAL = 48
TARGETS = {
    "head": "at least 20",
    "all": "at least 2.5",
    "predict": "at least 3",
    "bare": "at least 85 %",
    "help": "under 0.5 s",
}


# ---- the images -----------------------------------------------------------------------


def write_data(shared: Path, folder: Path, *, train: int, predict: int) -> dict[str, Any]:
    """Copy the images of two classes with a table that names their split, and a folder to predict."""
    root = shared / "odir5k_sub"
    with open(root / "manifest.csv", newline="", encoding="utf-8") as file:
        listed = list(csv.DictReader(file))
    splits = split_by_patient([row for row in listed if row["label"] in CLASSES], train=train)
    (folder / "images").mkdir()
    (folder / "predict").mkdir()
    rows = []
    for row, split in splits:
        name = row["path"].replace("/", "_")
        shutil.copyfile(root / row["path"], folder / "images" / name)
        rows.append([f"images/{name}", row["label"], row["patient"], split])
    tested = [row for row, split in splits if split == "test"]
    others = [row for row in listed if row["label"] not in CLASSES]
    for row in [*tested, *others][:predict]:
        shutil.copyfile(root / row["path"], folder / "predict" / row["path"].replace("/", "_"))
    with open(folder / "table.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["path", "label", "patient", "split"], *rows])
    held = [(Path(path).name, label) for path, label, _, split in rows if split == "test"]
    return {"test": [str(folder / "images" / name) for name, _ in held], "truth": [x == CLASSES[0] for _, x in held]}


def split_by_patient(rows: Sequence[Mapping[str, str]], *, train: int) -> list[tuple[Mapping[str, str], str]]:
    """Shuffle patients, then fill validation, training and test to exact numbers of images, both eyes together."""
    patients = sorted({row["patient"] for row in rows})
    np.random.default_rng(0).shuffle(patients)
    left = {"val": VAL, "train": train, "test": len(rows) - VAL - train}
    found = []
    for patient in patients:
        own = [row for row in rows if row["patient"] == patient]
        split = next(name for name, room in left.items() if room >= len(own))
        left[split] -= len(own)
        found += [(row, split) for row in own]
    if left["train"] or left["val"]:
        raise SystemExit("the images could not be split to full batches")
    return found


# ---- the arms of medgraft, each in a process of its own -----------------------------------


def arm_train(depth: str, options: dict[str, Any]) -> dict[str, Any]:
    """Run `medgraft train` from empty caches: seconds to the end of the last epoch, and of the whole command."""
    import torch

    import medgraft as mg
    import medgraft.run
    from medgraft.recipe import load

    torch.set_num_threads(options["threads"])
    folder = Path(options["folder"])
    os.environ["MEDGRAFT_HOME"] = str(folder / f"home-{depth}")
    ended, began = [0.0], time.perf_counter()

    def listen(event: dict[str, Any]) -> None:
        if event.get("event") == "epoch":
            ended[0] = time.perf_counter() - began

    report = mg.train(
        options["table"],
        out=folder / f"run-{depth}",
        backbone=f"file:{options['weights']},arch=torchvision:resnet18",
        depth=depth,
        epochs=options["epochs"],
        image_size=options["size"],
        batch_size=options["batch"],
        settings={"fit.lr": 1e-3, "fit.head_lr": 1e-3, "fit.layer_decay": 1.0, "fit.patience": 0},
        listen=listen,
    )
    whole = time.perf_counter() - began
    with open(folder / f"run-{depth}" / "predictions.csv", newline="", encoding="utf-8") as file:
        found = {Path(row["key"]).name: float(row[f"p_{CLASSES[0]}"]) for row in csv.DictReader(file)}
    fit = load(folder / f"run-{depth}" / "recipe.yaml").fit
    return {
        "seconds": ended[0],
        "whole_seconds": whole,
        "images_per_second": report["timing"]["train_images_per_second"],
        "prefix_seconds": report["timing"]["prefix_seconds"],
        "precision": fit.precision,
        "channels_last": fit.channels_last,
        "positive": [found[Path(path).name] for path in options["test"]],
    }


def arm_predict(options: dict[str, Any]) -> dict[str, Any]:
    """Predict a folder of files into a CSV."""
    import torch

    import medgraft as mg
    import medgraft.opened

    torch.set_num_threads(options["threads"])
    folder = Path(options["folder"])
    run = mg.open_run(folder / "run-all")
    began = time.perf_counter()
    done = mg.predict(run, [options["predict"]], out=folder / "medgraft.csv", batch_size=options["batch"])
    seconds = time.perf_counter() - began
    with open(folder / "medgraft.csv", newline="", encoding="utf-8") as file:
        found = {Path(row["path"]).name: float(row[f"p_{CLASSES[0]}"]) for row in csv.DictReader(file)}
    return {"seconds": seconds, "images_per_second": done.count / seconds, "by_name": found}


def arm_bare(options: dict[str, Any]) -> dict[str, Any]:
    """Train the bare torchvision net on one synthetic batch: no images, no augmentation, nothing else.

    Precision, memory layout and allocation are those of medgraft, so that the share says what its own work costs.
    """
    import torch
    from torch.nn import functional
    from torchvision.models import resnet18

    from medgraft.learn.engine import keep_memory

    keep_memory()
    torch.set_num_threads(options["threads"])
    bf16, last = options["precision"] == "bf16", options["channels_last"]
    layout = torch.channels_last if last else torch.contiguous_format
    net = resnet18(num_classes=2).to(memory_format=layout)
    pixels = torch.randn(options["batch"], 3, options["size"], options["size"]).contiguous(memory_format=layout)
    targets = torch.randint(2, (options["batch"],))
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = functional.cross_entropy(net(pixels).float(), targets)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    net.train()
    step()
    steps, began = options["bare_steps"], time.perf_counter()
    for _ in range(steps):
        step()
    training = steps * options["batch"] / (time.perf_counter() - began)
    net.eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        net(pixels)
        began = time.perf_counter()
        for _ in range(steps):
            net(pixels)
    return {"training": training, "predicting": steps * options["batch"] / (time.perf_counter() - began)}


# ---- running and comparing ---------------------------------------------------------------


def call(arm: str, options: dict[str, Any], *, python: str, **changes: Any) -> dict[str, Any]:
    """Run one arm in a process of its own and get what it measured."""
    folder = Path(options["folder"])
    path = folder / f"{arm}.json"
    path.write_text(json.dumps({**options, **changes}))
    fastai = arm.startswith("fastai-")
    script = HERE / ("_classify_fastai.py" if fastai else "classify.py")
    words = [arm.removeprefix("fastai-"), str(path)] if fastai else ["--arm", arm, str(path)]
    threads = str(options["threads"])
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "PYTHONUNBUFFERED": "1"}
    done = subprocess.run([python, str(script), *words], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{arm} failed:\n{done.stderr[-2000:]}")
    found = json.loads(done.stdout.strip().splitlines()[-1])
    shown = {name: value for name, value in found.items() if name not in ("positive", "by_name", "arm")}
    print(f"{arm}: {json.dumps(shown)}", flush=True)
    return found


def help_seconds() -> float:
    """Get the median time of `medgraft --help`."""
    command, times = [sys.executable, "-c", "from medgraft.cli import main; main()", "--help"], []
    for _ in range(7):
        began = time.perf_counter()
        subprocess.run(command, capture_output=True, check=True)
        times.append(time.perf_counter() - began)
    return float(np.median(times))


def auroc_words(truth: Sequence[bool], ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Say both AUROCs and their difference with its interval."""
    from medgraft.scores.delong import delong, paired_delong

    targets = np.array(truth)
    scores = [delong(targets, np.array(each)) for each in (ours, theirs)]
    difference = paired_delong(targets, first=np.array(ours), second=np.array(theirs)).score
    words = " and ".join(f"{s.value:.3f} ({s.low:.3f} to {s.high:.3f})" for s in scores)
    if difference.low is None or difference.high is None:
        return words
    verdict = "not worse" if difference.high >= 0 else "WORSE"
    return f"{words}, difference {difference.value:+.3f} ({difference.low:+.3f} to {difference.high:+.3f}): {verdict}"


def compare(options: dict[str, Any], given: argparse.Namespace) -> list[str]:
    """Run every arm and get the lines of the table."""
    own, truth, epochs = sys.executable, options.pop("truth"), given.epochs
    lines = ["| what | medgraft | fastai | ratio | wanted |", "|---|---|---|---|---|"]

    def line(*cells: str) -> None:
        lines.append(f"| {' | '.join(cells)} |")

    head = call("head", options, python=own, epochs=epochs)
    everything = call("all", options, python=own, epochs=given.thawed_epochs)
    engine = {"precision": everything["precision"], "channels_last": everything["channels_last"]}
    bare = [call("bare", {**options, **engine}, python=own)]
    predicted = call("predict", options, python=own)
    bare.append(call("bare", {**options, **engine}, python=own))
    rate = float(np.mean([found["training"] for found in bare]))
    seconds = help_seconds()
    if not given.no_fastai:
        python = given.fastai_python
        words = {"channels_last": given.fastai_channels_last}
        frozen = call("fastai-frozen", options, python=python, epochs=given.fastai_epochs, workers=None, **words)
        words["workers"] = frozen["workers"]
        thawed = call("fastai-thawed", options, python=python, epochs=given.thawed_epochs, **words)
        theirs = call("fastai-predict", options, python=python, **words)
        scaled = frozen["seconds"] * epochs / given.fastai_epochs
        how = "" if given.fastai_epochs == epochs else f" ({given.fastai_epochs} epochs run, scaled)"
        line(
            f"`--depth head`, {epochs} epochs, from files",
            f"{head['seconds']:.1f} s ({head['whole_seconds']:.1f} s with test scores and report)",
            f"{scaled:.0f} s{how}", f"{scaled / head['seconds']:.1f}", TARGETS["head"],
        )  # fmt: skip
        for name, ours, other, target in (
            ("`--depth all`, training images a second", everything, thawed, "all"),
            ("`predict`, images a second from files to a CSV", predicted, theirs, "predict"),
        ):
            mine, their = ours["images_per_second"], other["images_per_second"]
            line(name, f"{mine:.1f}", f"{their:.1f}", f"{mine / their:.2f}", TARGETS[target])
        if given.fastai_epochs == epochs:
            line(f"AUROC, head, {epochs} epochs", auroc_words(truth, head["positive"], frozen["positive"]), "", "", "")
        said = auroc_words(truth, everything["positive"], thawed["positive"])
        line(f"AUROC, all, {given.thawed_epochs} epochs", said, "", "", "not worse")
        names = [Path(path).name for path in options["test"]]
        by_file = [[found["by_name"][name] for name in names] for found in (predicted, theirs)]
        line("AUROC, predicted from files", auroc_words(truth, *by_file), "", "", "not worse")
    share = everything["images_per_second"] / rate
    words = f"{everything['images_per_second']:.1f} of {rate:.1f} images a second"
    line("share of the bare net's training speed", words, "", f"{100 * share:.0f} %", TARGETS["bare"])
    line("`medgraft --help`", f"{seconds:.2f} s", "", "", TARGETS["help"])
    return lines


def main() -> None:
    """Run all arms and print one table."""
    if len(sys.argv) == 4 and sys.argv[1] == "--arm":
        return run_arm(sys.argv[2], json.loads(Path(sys.argv[3]).read_text()))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("MEDGRAFT_SHARED", "../shared")))
    parser.add_argument("--fastai-python", default=sys.executable, help="interpreter that has fastai")
    parser.add_argument("--no-fastai", action="store_true", help="measure medgraft and the bare net alone")
    parser.add_argument("--fastai-channels-last", action="store_true", help="fastai with to_channelslast")
    parser.add_argument("--fastai-workers", type=int, nargs="+", default=[0, 2], help="the fastest of these is used")
    parser.add_argument("--epochs", type=int, default=20, help="of the frozen arms")
    parser.add_argument("--fastai-epochs", type=int, default=2, help="of them, how many fastai really runs")
    parser.add_argument("--thawed-epochs", type=int, default=3)
    parser.add_argument("--train", type=int, default=256, help="images to train on, whole batches of 32")
    parser.add_argument("--predict", type=int, default=720, help="images to predict")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = write_data(given.shared / "data", folder, train=given.train, predict=given.predict)
        options |= {"folder": name, "table": str(folder / "table.csv"), "predict": str(folder / "predict")}
        options |= {"size": 224, "batch": 32, "threads": given.threads, "bare_steps": 8}
        options |= {"worker_choices": given.fastai_workers}
        options |= {"weights": str(write_weights(folder / "resnet18.pth"))}
        print("\n".join(compare(options, given)))


def write_weights(path: Path) -> Path:
    """Write the random numbers that every arm starts from."""
    import torch
    from torchvision.models import resnet18

    torch.manual_seed(0)
    torch.save(resnet18().state_dict(), path)
    return path


def run_arm(arm: str, options: dict[str, Any]) -> None:
    """Run one arm here and print what it measured."""
    arms = {"predict": arm_predict, "bare": arm_bare}
    found = arms[arm](options) if arm in arms else arm_train(arm, options)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps({**found, "arm": arm, "peak_gb": round(peak, 2)}))


if __name__ == "__main__":
    main()
