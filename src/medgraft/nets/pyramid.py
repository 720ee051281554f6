"""A feature pyramid over any encoder: maps of the strides that boxes of some sizes need, all of one width."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn


class Pyramid(nn.Module):
    """Levels of an encoder -> one map a stride, each of `width` channels.

    Levels that the encoder has are joined from the coarsest down (Lin et al. 2017). Strides finer than its finest are
    made by transposed convolutions and coarser ones by pooling, as a transformer, whose levels all have one stride,
    needs both (Li et al. 2022).

    Args:
        channels: C of each level of the encoder.
        strides: input pixels for one pixel of each level.
        wanted: the strides of the maps, rising, each twice the one before.
        width: channels of every map.

    Attributes:
        wanted: as given.
        taken: which levels of the encoder are looked at.

    Raises:
        ValueError: the wanted strides are no such row.

    Source:
        Lin et al., Feature Pyramid Networks for Object Detection, CVPR 2017; Li et al., Exploring Plain Vision
        Transformer Backbones for Object Detection, ECCV 2022.
    """

    def __init__(
        self, channels: Sequence[int], strides: Sequence[int], *, wanted: Sequence[int], width: int = 128
    ) -> None:
        from torchvision.ops import FeaturePyramidNetwork

        super().__init__()
        if not wanted or any(after != 2 * before for before, after in pairwise(wanted)):
            raise ValueError(f"strides of a pyramid double from map to map, not {tuple(wanted)}")
        last = {stride: level for level, stride in enumerate(strides)}  # the last level of each stride sees most
        own = sorted(stride for stride in last if stride in wanted) or [min(last, key=lambda s: abs(s - wanted[0]))]
        self.wanted, self.width = tuple(wanted), width
        self.taken = tuple(last[stride] for stride in own)
        self.joined = FeaturePyramidNetwork([channels[level] for level in self.taken], width)
        self._own = tuple(own)
        finer = sum(stride < own[0] for stride in wanted)
        self.finer = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(width, width, 2, stride=2), nn.GroupNorm(1, width), nn.GELU())
            for _ in range(finer)
        )

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Get the maps `(N, width, H / stride, W / stride)`, finest first, in float32.

        Args:
            levels: those of the encoder, `(N, C, H, W)`, all of them.
        """
        found = self.joined({str(index): levels[level] for index, level in enumerate(self.taken)})
        maps = dict(zip(self._own, found.values(), strict=True))
        finest = self._own[0]
        for grow in self.finer:
            maps[finest // 2] = grow(maps[finest])
            finest //= 2
        for stride in self.wanted:
            if stride not in maps:
                maps[stride] = F.max_pool2d(maps[stride // 2], 1, stride=2)
        # Coordinates of places in a map do not fit into bfloat16, and what meets them takes the maps' type.
        return [maps[stride].float() for stride in self.wanted]
