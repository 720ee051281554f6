"""The arms of benchmarks/classify.py that run fastai; needs fastai and torchvision, not medgraft.

    python benchmarks/_classify_fastai.py ARM OPTIONS.json     ARM: frozen, thawed or predict

The last line on stdout is a JSON object. Imports are outside of every time.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch

warnings.filterwarnings("ignore")

import pandas  # noqa: E402
from fastai.callback.core import Callback  # noqa: E402
from fastai.vision.all import (  # noqa: E402
    ImageDataLoaders,
    Normalize,
    Resize,
    aug_transforms,
    imagenet_stats,
    vision_learner,
)
from torchvision.models import resnet18  # noqa: E402


class Clock(Callback):
    """Seconds in the training part of each epoch, validation left out."""

    def __init__(self) -> None:
        self.epochs: list[float] = []

    def before_train(self) -> None:
        self.began = time.perf_counter()

    def after_train(self) -> None:
        self.epochs.append(time.perf_counter() - self.began)


def make_learner(options: dict[str, Any], workers: int) -> Any:
    """Get `vision_learner` as its documentation uses it, on the weights that medgraft starts from too."""
    table = pandas.read_csv(options["table"], dtype=str)
    table = table[table["split"] != "test"]
    loaders = ImageDataLoaders.from_df(
        table.assign(is_valid=table["split"] == "val"),
        Path(options["table"]).parent,
        fn_col="path",
        label_col="label",
        valid_col="is_valid",
        item_tfms=Resize(options["size"]),
        batch_tfms=[*aug_transforms(), Normalize.from_stats(*imagenet_stats)],
        bs=options["batch"],
        num_workers=workers,
    )
    learner = vision_learner(loaders, resnet18, pretrained=False, lr=1e-3)
    whole = resnet18()
    whole.load_state_dict(torch.load(options["weights"], weights_only=True))
    learner.model[0].load_state_dict(torch.nn.Sequential(*list(whole.children())[:-2]).state_dict())
    if options["channels_last"]:
        learner.to_channelslast(use_amp=False)
    return learner


def choose_workers(options: dict[str, Any]) -> tuple[int, dict[int, float]]:
    """Train one epoch without and with worker processes and take the faster; not part of any time that is quoted."""
    found: dict[int, float] = {}
    if len(options["worker_choices"]) == 1:
        return options["worker_choices"][0], found
    for workers in options["worker_choices"]:
        learner = make_learner(options, workers)
        learner.freeze()
        began = time.perf_counter()
        with learner.no_bar(), learner.no_logging():
            learner.fit(1)
        found[workers] = time.perf_counter() - began
    return min(found, key=lambda workers: found[workers]), found


def train(arm: str, options: dict[str, Any]) -> dict[str, Any]:
    """Fit with the encoder frozen or thawed; times and the probabilities of the test images."""
    workers, tried = options["workers"], {}
    if workers is None:
        workers, tried = choose_workers(options)
    began = time.perf_counter()
    learner = make_learner(options, workers)
    if arm == "frozen":
        learner.freeze()
    else:
        learner.unfreeze()
    clock = Clock()
    learner.add_cb(clock)
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(options["epochs"])
    seconds = time.perf_counter() - began
    torch.save(learner.model.state_dict(), Path(options["folder"]) / f"fastai-{arm}.pth")
    images = len(learner.dls.train) * options["batch"] * options["epochs"]
    return {
        "seconds": seconds,
        "images_per_second": images / sum(clock.epochs),
        "epoch_seconds": clock.epochs,
        "workers": workers,
        "workers_tried": tried,
        "positive": answers(learner, [Path(p) for p in options["test"]], options["batch"], 0),
    }


def answers(learner: Any, files: list[Path], batch: int, workers: int) -> list[float]:
    """Get the probability of the first class of each file."""
    loader = learner.dls.test_dl(files, bs=batch, num_workers=workers)
    with learner.no_bar(), learner.no_logging():
        found, _ = learner.get_preds(dl=loader)
    return found[:, 0].tolist()


def predict(options: dict[str, Any]) -> dict[str, Any]:
    """Predict a folder of files into a CSV, as `medgraft predict` does, with the weights that `thawed` ended with."""
    best: dict[str, Any] = {}
    for workers in options["worker_choices"]:
        learner = make_learner(options, 0)
        learner.model.load_state_dict(torch.load(Path(options["folder"]) / "fastai-thawed.pth", weights_only=True))
        began = time.perf_counter()
        files = sorted(Path(options["predict"]).iterdir())
        found = answers(learner, files, options["batch"], workers)
        pandas.DataFrame({"path": files, "p": found}).to_csv(Path(options["folder"]) / "fastai.csv", index=False)
        seconds = time.perf_counter() - began
        if not best or seconds < best["seconds"]:
            best = {"seconds": seconds, "images_per_second": len(files) / seconds, "workers": workers}
            best["by_name"] = {path.name: p for path, p in zip(files, found, strict=True)}
    return best


def main() -> None:
    arm, options = sys.argv[1], json.loads(Path(sys.argv[2]).read_text())
    torch.set_num_threads(options["threads"])
    torch.manual_seed(0)
    found = predict(options) if arm == "predict" else train(arm, options)
    print(json.dumps({**found, "arm": arm}))


if __name__ == "__main__":
    main()
