"""What each stage of an encoder has learnt to see: filters, maps, and the patches that excite a unit most.

Source: Zeiler, Fergus, "Visualizing and understanding convolutional networks", ECCV 2014, for the patches; Yosinski et
al., "How transferable are features in deep neural networks?", NIPS 2014, for the order from edges to parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from medgraft.nets.backbone import Encoder


def first_filters(net: Encoder, *, most: int = 64) -> np.ndarray | None:
    """Get the filters that look at the pixels, `(K, h, w, 3)` uint8, the strongest first; None where there are none.

    Each is stretched to its own largest weight; gray where the net eats one channel.
    """
    for _, module in net.stages[:1]:
        for part in module.modules():
            if isinstance(part, nn.Conv2d) and part.in_channels in (1, 3) and part.groups == 1:
                weights = part.weight.detach().float().cpu().numpy().transpose(0, 2, 3, 1)
                order = np.argsort(-np.abs(weights).sum(axis=(1, 2, 3)), kind="stable")[:most]
                chosen = np.repeat(weights[order], 3 // part.in_channels, axis=-1)
                scale = np.abs(chosen).max(axis=(1, 2, 3), keepdims=True)
                return np.rint(127.5 + 127.5 * chosen / np.maximum(scale, 1e-12)).astype(np.uint8)
    return None


@torch.no_grad()
def levels(net: Encoder, pixels: Tensor) -> Iterator[Tensor]:
    """Yield each stage's level `(N, C, H, W)` float32."""
    raw = pixels
    for stage in range(len(net.stages)):
        raw = net.run(raw, start=stage, stop=stage + 1)
        yield net.level(raw, stage).float()
        raw = raw.clone()


def telling_units(level: np.ndarray, *, count: int) -> np.ndarray:
    """Get the channels whose largest values differ most from image to image, the first the most telling.

    Args:
        level: `(N, C)` largest value of each channel in each image.
        count: how many.
    """
    spread = level.std(axis=0) / np.maximum(np.abs(level).mean(axis=0), 1e-9)
    alive = (level > level.min(axis=0, keepdims=True) + 1e-9).mean(axis=0) > 0.05
    return np.argsort(-np.where(alive, spread, -1.0), kind="stable")[:count]


@dataclass(frozen=True)
class Peak:
    """Where a unit is most excited.

    Attributes:
        image: place of the image.
        row, column: centre of the place in network pixels.
        value: of the unit there.
    """

    image: int
    row: int
    column: int
    value: float


class Peaks:
    """The largest value of every unit of every stage in every image, and where it lies."""

    def __init__(self) -> None:
        self.values: list[list[np.ndarray]] = []
        self.places: list[list[np.ndarray]] = []
        self.means: list[list[np.ndarray]] = []

    def add(self, net: Encoder, pixels: Tensor) -> None:
        """Take in images `(N, C, H, W)`."""
        for stage, level in enumerate(levels(net, pixels)):
            if stage == len(self.values):
                self.values.append([])
                self.places.append([])
                self.means.append([])
            flat = level.flatten(2)
            best, where = flat.max(dim=2)
            width = level.shape[3]
            scale = np.array([pixels.shape[2] / level.shape[2], pixels.shape[3] / level.shape[3]])
            place = np.stack([where.cpu().numpy() // width, where.cpu().numpy() % width], axis=-1)
            self.values[stage].append(best.cpu().numpy())
            self.places[stage].append(((place + 0.5) * scale).astype(int))
            self.means[stage].append(flat.mean(dim=2).cpu().numpy())

    def largest(self, stage: int) -> np.ndarray:
        """Get `(N, C)` largest values."""
        return np.concatenate(self.values[stage])

    def pooled(self, stage: int) -> np.ndarray:
        """Get `(N, C)` means: what a head on this stage alone would see."""
        return np.concatenate(self.means[stage])

    def of(self, stage: int, unit: int, *, count: int) -> list[Peak]:
        """Get the images that excite a unit most, and where."""
        values, places = self.largest(stage)[:, unit], np.concatenate(self.places[stage])[:, unit]
        order = np.argsort(-values, kind="stable")[:count]
        return [Peak(int(k), int(places[k, 0]), int(places[k, 1]), float(values[k])) for k in order]


def patch(rows: np.ndarray, peak: Peak, *, side: int) -> np.ndarray:
    """Cut a square out of an image around a peak, `(side, side)` or `(side, side, 3)`; beyond the edge is black.

    Args:
        rows: `(C, H, W)` uint8.
        peak: its place.
        side: pixels.
    """
    wide = np.pad(rows, ((0, 0), (side, side), (side, side)))
    top, left = peak.row + side - side // 2, peak.column + side - side // 2
    cut = wide[:, top : top + side, left : left + side]
    return cut[0] if len(cut) == 1 else cut.transpose(1, 2, 0)
