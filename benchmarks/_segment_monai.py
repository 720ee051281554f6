"""The arm of benchmarks/segment.py that trains and draws with MONAI's plain loop, as its tutorials do.

    python benchmarks/_segment_monai.py OPTIONS.json

It is told what to do a line at a time on stdin and answers each with a line of JSON on stdout. The protocol is that of
MONAI's tutorials of segmentation in volumes, written anew: `CacheDataset` keeps what is not drawn at random (loading,
orientation, spacing, scaling of intensities), each step crops by positive and negative voxels, mirrors, shifts and
scales intensities; `DataLoader`, `DiceCELoss`, AdamW, a cosine rate; `SlidingWindowInferer` with Gaussian weights, an
overlap of a half; `Invertd` for the way back to the file. What is the other arm's, so that both do the same work: the
net with its weights and frozen stages, voxels, patches, how many a step has, how many steps there are, rates.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medgraft.learn.segmenter import DrawForm, graft_segmenter
from medgraft.tasks.answers import Answers


class Net(nn.Module):
    """The other arm's net as one module: pixels -> logits, or while it learns those of coarser maps too."""

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__()
        form = DrawForm.from_dict(options["form"])
        names = tuple(options["classes"])
        self.task = graft_segmenter(Answers(classes=names), form, backbone_name=options["backbone"], offline=True)
        self.task.thaw(options["thawed"])
        spec = self.task.backbone.spec
        shape = (1, -1, *(1,) * form.axes)
        self.register_buffer("mean", torch.tensor(spec.mean).view(shape))
        self.register_buffer("std", torch.tensor(spec.std).view(shape))

    def forward(self, pixels: Tensor) -> Any:
        """Get logits of normalised pixels; `pixels` are in 0..1."""
        found = self.task((pixels - self.mean) / self.std)
        return found if self.training else found[0]


class Arm:
    """MONAI's loop that waits after every few steps until it is told to go on; then it draws."""

    def __init__(self, options: dict[str, Any]) -> None:
        warnings.simplefilter("ignore")
        from monai.losses import DiceCELoss

        torch.manual_seed(0)
        torch.set_num_threads(options["threads"])
        self.options, self.net = options, Net(options)
        self.loss = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False, batch=True)
        learning = [one for one in self.net.parameters() if one.requires_grad]
        self.optimiser = torch.optim.AdamW(learning, lr=options["lr"], weight_decay=0.05)
        self.rate = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimiser, options["steps"])
        self.loader = self._loader()
        self.batches, self.done = self._endless(), 0

    def _loader(self) -> Any:
        from monai.data import CacheDataset, DataLoader

        dataset = CacheDataset(self.options["rows"]["train"], self._transforms(train=True), progress=False)
        size = max(1, self.options["batch"] // self.options["each"])
        return DataLoader(dataset, batch_size=size, shuffle=True, num_workers=self.options["workers"], drop_last=True)

    def _transforms(self, *, train: bool) -> Any:
        from monai import transforms as t

        spacing = self.options["spacing"][::-1]  # MONAI's axes are x, y, z
        keys = ["image", "label"] if train else ["image"]
        modes = ("bilinear", "nearest") if train else ("bilinear",)
        steps: list[Any] = [
            t.LoadImaged(keys=keys, ensure_channel_first=True),
            t.Orientationd(keys=keys, axcodes="RAS", labels=None),
            t.Spacingd(keys=keys, pixdim=spacing, mode=modes),
            t.ScaleIntensityRangePercentilesd(keys=["image"], lower=0.5, upper=99.5, b_min=0, b_max=1, clip=True),
        ]
        if train:
            patch, each = self.options["patch"][::-1], self.options["each"]
            steps += [
                t.SpatialPadd(keys=keys, spatial_size=patch),
                t.RandCropByPosNegLabeld(
                    keys=keys, label_key="label", spatial_size=patch, pos=1, neg=1, num_samples=each
                ),
                *[t.RandFlipd(keys=keys, prob=0.5, spatial_axis=2 - axis) for axis in self.options["mirrors"]],
                t.RandScaleIntensityd(keys=["image"], factors=0.15, prob=1.0),
                t.RandShiftIntensityd(keys=["image"], offsets=0.1, prob=1.0),
            ]
        return t.Compose(steps)

    def _endless(self) -> Iterator[dict[str, Tensor]]:
        while True:
            yield from self.loader

    def train(self, count: int) -> dict[str, Any]:
        """Take steps; get the seconds of each."""
        self.net.train()
        seconds = []
        for _ in range(min(count, self.options["steps"] - self.done)):
            began = time.perf_counter(), time.process_time()
            batch = next(self.batches)
            pixels, labels = (batch[name].as_tensor() for name in ("image", "label"))
            found = self.net(pixels)
            loss = self.loss(found[0], labels)
            for number, coarse in enumerate(found[1:], start=1):
                small = torch.nn.functional.interpolate(labels.float(), size=coarse.shape[2:], mode="nearest-exact")
                loss = loss + self.loss(coarse, small) / 2**number
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            self.rate.step()
            seconds.append((time.perf_counter() - began[0], time.process_time() - began[1]))
            self.done += 1
        return {"seconds": seconds, "ended": self.done == self.options["steps"]}

    def draw(self, path: str | None) -> dict[str, Any]:
        """Draw on all test scans, from files to label maps on their own grids; written where a folder is given."""
        from monai.inferers import SlidingWindowInferer
        from monai.transforms import Invertd

        before = self._transforms(train=False)
        inferer = SlidingWindowInferer(self.options["patch"][::-1], sw_batch_size=4, overlap=0.5, mode="gaussian")
        back = Invertd(keys=["drawn"], transform=before, orig_keys=["image"], nearest_interp=False)
        self.net.eval()
        began, found = time.perf_counter(), []
        with torch.inference_mode():
            for row in self.options["rows"]["test"]:
                item = before({"image": row["image"]})
                item["drawn"] = inferer(item["image"][None], self.net)[0].softmax(dim=0)
                labels = back(item)["drawn"].argmax(dim=0).to(torch.uint8).numpy()
                found.append(np.ascontiguousarray(labels.T))  # D, H, W
        seconds = time.perf_counter() - began
        if path:
            np.savez(path, *found)
        return {"seconds": seconds}


def main() -> None:
    """Answer stdin until it ends."""
    with open(sys.argv[1], encoding="utf-8") as file:
        arm = Arm(json.load(file))
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        verb, _, value = line.strip().partition(" ")
        answer = arm.train(int(value)) if verb == "train" else arm.draw(None if value == "0" else value)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
