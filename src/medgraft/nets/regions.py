"""Regions cut out of maps: RoIAlign as one weighted sum of rows, which a processor does several times faster.

Every value of a region is a sum of sixteen places of a map, the same for all channels. With the channels of a place
beside each other that is a sum of rows of a table, forward and backward; torchvision's kernel walks through the
channels place by place, and its backward pass is the largest single part of a training step on a processor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

_SAMPLES = 2  # along each side of a place of a region
_USUAL, _USUAL_STRIDE = 224.0, 16.0  # pixels: a region so wide is cut out of the map of this stride


class RegionAlign(nn.Module):
    """Maps and boxes -> `(R, C, size, size)`, each box from the map whose stride fits its size.

    Args:
        strides: pixels for one place of each map, rising.
        size: places along each side of what comes out.

    Source:
        He et al., Mask R-CNN, ICCV 2017 (RoIAlign); Lin et al., Feature Pyramid Networks, CVPR 2017 (which map).
        The values are those of torchvision's `MultiScaleRoIAlign` with a sampling ratio of 2.
    """

    def __init__(self, strides: Sequence[int], *, size: int = 7) -> None:
        super().__init__()
        self.strides, self.size = tuple(strides), size

    def forward(self, maps: Mapping[str, Tensor], boxes: list[Tensor], image_shapes: object) -> Tensor:
        """Get the regions of all images, image by image.

        Args:
            maps: a map `(N, C, H, W)` a stride, in their order.
            boxes: N of `(M, 4)` x0, y0, x1, y1 in pixels.
            image_shapes: not looked at.
        """
        del image_shapes
        levels, places = list(maps.values()), torch.cat(boxes)
        numbers = [torch.full((len(own),), index, device=own.device) for index, own in enumerate(boxes)]
        images, chosen = torch.cat(numbers), self._levels_of(places)
        if levels[0].device.type != "cpu":  # there torchvision's kernel is as fast as the memory
            return self._by_torchvision(levels, places, images, chosen)
        return self._by_rows(levels, places, images, chosen)

    def _levels_of(self, places: Tensor) -> Tensor:
        sides = ((places[:, 2] - places[:, 0]) * (places[:, 3] - places[:, 1])).sqrt()
        wanted = torch.floor(torch.log2(sides / _USUAL * _USUAL_STRIDE) + 1e-6)
        first = torch.log2(torch.tensor(float(self.strides[0])))
        return (wanted - first).clamp(0, len(self.strides) - 1).long()

    def _by_torchvision(self, levels: list[Tensor], places: Tensor, images: Tensor, chosen: Tensor) -> Tensor:
        found = levels[0].new_zeros((len(places), levels[0].shape[1], self.size, self.size))
        for level, (one, stride) in enumerate(zip(levels, self.strides, strict=True)):
            own = torch.where(chosen == level)[0]
            rows = torch.cat([images[own, None].to(places), places[own]], dim=1).to(one)
            found[own] = roi_align(one, rows, self.size, 1 / stride, _SAMPLES)
        return found

    def _by_rows(self, levels: list[Tensor], places: Tensor, images: Tensor, chosen: Tensor) -> Tensor:
        table = torch.cat([one.permute(0, 2, 3, 1).reshape(-1, one.shape[1]) for one in levels])
        high, wide = (torch.tensor([one.shape[axis] for one in levels])[chosen] for axis in (2, 3))
        begins = torch.tensor([0, *(one.shape[0] * one.shape[2] * one.shape[3] for one in levels[:-1])]).cumsum(0)
        scaled = places.float() / torch.tensor(self.strides)[chosen, None]
        y, down = _line(scaled[:, 1], scaled[:, 3], high, self.size)
        x, across = _line(scaled[:, 0], scaled[:, 2], wide, self.size)
        first = begins[chosen] + images * high * wide
        rows = (first[:, None, None] + y * wide[:, None, None])[:, :, None, :, None] + x[:, None, :, None, :]
        weights = down[:, :, None, :, None] * across[:, None, :, None, :]
        width = (2 * _SAMPLES) ** 2
        summed = F.embedding_bag(
            rows.reshape(-1, width), table, per_sample_weights=weights.reshape(-1, width).to(table), mode="sum"
        )
        shape = (len(places), self.size, self.size, table.shape[1])
        return summed.reshape(shape).permute(0, 3, 1, 2)


def _line(low: Tensor, high: Tensor, side: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Get which places of a map a region sums along one axis, and how much of each.

    Args:
        low: (R,) where regions begin, in places of the map.
        high: (R,) where they end.
        side: (R,) places that the map has along this axis.
        size: places along the region.

    Returns:
        `(R, size, 4)` numbers of places, and as many weights.
    """
    length = (high - low).clamp_min(1.0)
    steps = (torch.arange(size * _SAMPLES) + 0.5) / (size * _SAMPLES)
    at = low[:, None] + length[:, None] * steps
    inside = (at >= -1) & (at <= side[:, None])
    last = side[:, None] - 1
    at = torch.minimum(at.clamp_min(0), last.to(at))
    before = at.floor().long()
    part = at - before
    numbers = torch.stack([before, torch.minimum(before + 1, last)], dim=-1)
    weights = torch.stack([1 - part, part], dim=-1) * (inside[..., None] / _SAMPLES)
    shape = (len(low), size, 2 * _SAMPLES)
    return numbers.reshape(shape), weights.reshape(shape)
