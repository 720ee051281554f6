"""The arm of benchmarks/detect.py that trains torchvision's Faster R-CNN as torchvision's reference scripts do.

    python benchmarks/_detect_torchvision.py OPTIONS.json

It is told what to do a line at a time on stdin and answers each with a line of JSON on stdout. The protocol is that
of `references/detection`, written anew: Pillow decodes every image in every epoch, a horizontal mirror by chance,
`DataLoader`, `GeneralizedRCNNTransform`, SGD with momentum .9 and weight decay 1e-4 at .02 for 16 images, a linear
warm-up over the first epoch, a tenth of the rate from 16 and 22 of 26 parts of the epochs on, the last weights.
What is the other arm's, so that both do the same work: the encoder with its weights and frozen stages, the strides,
width and anchors of the pyramid, the scale of the picture, how many images a step has, how many boxes are kept.
"""

from __future__ import annotations

import json
import math
import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.transforms.functional import pil_to_tensor

from medgraft.nets.adapt import freeze, train_mode
from medgraft.nets.backbone import backbone

_SCALE = 4  # anchors as wide as so many places of their map, and 1.41 times as many, as in the other arm
_WARMUP_STEPS = 1000


class Pictures(torch.utils.data.Dataset[tuple[Tensor, dict[str, Tensor]]]):
    """Images and their boxes; each is decoded when it is asked for."""

    def __init__(self, rows: Sequence[dict[str, Any]], *, mirror: bool) -> None:
        self.rows, self.mirror = list(rows), mirror

    def __len__(self) -> int:
        """How many images."""
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Get pixels `(3, H, W)` in 0..1, and boxes with classes from 1."""
        row = self.rows[index]
        with Image.open(row["path"]) as file:
            pixels = pil_to_tensor(file.convert("RGB")).float().div_(255)
        boxes = torch.tensor(row["boxes"], dtype=torch.float32).reshape(-1, 4)
        if self.mirror and random.random() < 0.5:
            pixels, wide = pixels.flip(-1), pixels.shape[-1]
            boxes = torch.stack([wide - boxes[:, 2], boxes[:, 1], wide - boxes[:, 0], boxes[:, 3]], dim=1)
        return pixels, {"boxes": boxes, "labels": torch.tensor(row["labels"], dtype=torch.int64) + 1}


class Levels(nn.Module):
    """The encoder's levels of the wanted strides, joined from the coarsest down."""

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__()
        self.body = backbone(options["backbone"], channels=3, image_size=(options["side"],) * 2, offline=True)
        named = {"all": len(self.body.stages), "head": 0}
        thawed = options["thawed"]
        self.thawed: int = named[thawed] if isinstance(thawed, str) else thawed
        freeze(self.body, thawed=self.thawed)
        last = {stride: level for level, stride in enumerate(self.body.strides)}
        missing = [stride for stride in options["strides"] if stride not in last]
        if missing:
            raise SystemExit(f"the encoder has no level of stride {missing}: name others by --strides")
        self.taken = [last[stride] for stride in options["strides"]]
        self.out_channels = options["width"]
        self.joined = FeaturePyramidNetwork([self.body.channels[level] for level in self.taken], self.out_channels)

    def train(self, mode: bool = True) -> Levels:
        """As of any module, with the statistics of normalisation kept."""
        super().train(mode)
        if mode:
            train_mode(self.body, thawed=self.thawed, frozen_norms=True)
        return self

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Get the maps by name, finest first."""
        levels = self.body(pixels)
        return self.joined({str(index): levels[level] for index, level in enumerate(self.taken)})


def clocks() -> tuple[float, float]:
    """Get the time on the wall, and that which the processor spent on this process."""
    return time.perf_counter(), time.process_time()


def since(began: tuple[float, float]) -> tuple[float, float]:
    """Get the seconds since then by both clocks."""
    now = clocks()
    return now[0] - began[0], now[1] - began[1]


def together(batch: Sequence[tuple[Tensor, dict[str, Tensor]]]) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Put a batch together: lists, as images may differ in size."""
    pixels, targets = zip(*batch, strict=True)
    return list(pixels), list(targets)


class Arm:
    """The net, its data and its optimiser; `train` and `predict` are what the other side asks for."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        torch.manual_seed(options["seed"])
        random.seed(options["seed"])
        levels = Levels(options)
        sizes = tuple((_SCALE * stride, int(_SCALE * stride * 2**0.5)) for stride in options["strides"])
        self.net = FasterRCNN(
            levels,
            1 + len(options["classes"]),
            min_size=options["short"],
            max_size=options["side"],
            image_mean=list(levels.body.spec.mean),
            image_std=list(levels.body.spec.std),
            rpn_anchor_generator=AnchorGenerator(sizes, (tuple(options["ratios"]),) * len(sizes)),
            box_roi_pool=MultiScaleRoIAlign([str(i) for i in range(len(sizes))], output_size=7, sampling_ratio=2),
            box_detections_per_img=options["most"],
            box_score_thresh=0.01,
        )
        own = [one for one in self.net.parameters() if one.requires_grad]
        self.rate = 0.02 / 16 * options["batch"]
        self.optimiser = torch.optim.SGD(own, lr=self.rate, momentum=0.9, weight_decay=1e-4)
        self.train_data = self._loader("train", batch=options["batch"], mirror=True, workers=options["workers"])
        self.steps = self._steps()
        self.done = 0

    def _loader(self, split: str, *, batch: int, mirror: bool = False, workers: int = 0) -> Any:
        data = Pictures(self.options["rows"][split], mirror=mirror)
        words: dict[str, Any] = {"shuffle": mirror, "num_workers": workers, "collate_fn": together}
        return torch.utils.data.DataLoader(data, batch, **words)

    def _autocast(self) -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=self.options["precision"] == "bf16")

    def _factor(self, step: int) -> float:
        in_epoch, epochs = len(self.train_data), self.options["epochs"]
        rising = min(_WARMUP_STEPS, in_epoch - 1)
        epoch = step // in_epoch
        fallen = sum(epoch >= math.ceil(epochs * part / 26) for part in (16, 22))
        warm = 1e-3 + (1 - 1e-3) * step / rising if step < rising else 1.0
        return warm * 0.1**fallen

    def _steps(self) -> Iterator[tuple[float, float]]:
        """Train to the end; yields the seconds of each step by both clocks, decoding included."""
        step = 0
        for _ in range(self.options["epochs"]):
            self.net.train()
            began = clocks()
            for pixels, targets in self.train_data:
                with self._autocast():
                    loss = torch.stack([one.float() for one in self.net(pixels, targets).values()]).sum()
                value = float(loss.detach())
                if not math.isfinite(value):
                    raise SystemExit(f"the reference's loss became {value} at step {step}")
                for group in self.optimiser.param_groups:
                    group["lr"] = self.rate * self._factor(step)
                self.optimiser.zero_grad()
                loss.backward()
                self.optimiser.step()
                step += 1
                yield since(began)
                began = clocks()

    def train(self, count: int) -> dict[str, Any]:
        """Train some steps more: their seconds, and whether it was the last."""
        seconds = []
        for _ in range(count):
            one = next(self.steps, None)
            if one is None:
                break
            seconds.append(one)
        self.done += len(seconds)
        return {"seconds": seconds, "ended": self.done >= len(self.train_data) * self.options["epochs"]}

    @torch.inference_mode()
    def predict(self, batch: int) -> dict[str, Any]:
        """Find boxes in the test files: the seconds from files to boxes, and the boxes in the files' pixels."""
        self.net.eval()
        found = []
        began = clocks()
        for pixels, _ in self._loader("test", batch=batch, workers=self.options["predict_workers"]):
            with self._autocast():
                found += self.net(pixels)
        seconds = since(began)
        plain = [{name: values.float().tolist() for name, values in one.items()} for one in found]
        return {"seconds": seconds, "found": [{**one, "labels": [int(v) - 1 for v in one["labels"]]} for one in plain]}


def main() -> None:
    """Do what stdin says until it ends."""
    options = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(options["threads"])
    arm = Arm(options)
    arm.train(options["cold"])
    print(json.dumps({"prepared": 0.0}), flush=True)
    for line in sys.stdin:
        verb, value = line.split()
        print(json.dumps(getattr(arm, verb)(int(value))), flush=True)


if __name__ == "__main__":
    main()
