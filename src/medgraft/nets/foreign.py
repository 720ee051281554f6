"""A head on an encoder's features that learnt to see what was put into normal images, as findings are not there.

Sources: Tan et al., arXiv:2011.04197 (foreign patches, blended); Li et al., CVPR 2021, p. 9664 (CutPaste); here the
encoder is not tuned, and a small head looks at single places.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgraft import seeds

PICTURES = 1200  # that something is put into
_PLACES = 128  # of each of them that are learnt from
_HIDDEN, _DROPPED = 64, 0.1
_STEPS, _ROWS, _LR = 600, 2048, 2e-3
_AT_ONCE = 16

Rows = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class PutIn(Protocol):
    """Puts things into a picture `(C, H, W)`, and says how much of each pixel is changed, `(H, W)` from 0 to 1."""

    def __call__(
        self, picture: np.ndarray, others: np.ndarray, /, *, inside: np.ndarray, dice: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]: ...


class ForeignHead(nn.Module):
    """Logits of places: something that was put in, or not.

    Args:
        width: numbers of a place.

    Attributes:
        units: `(2,)` mean and deviation of the logits of normal places.
    """

    units: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Dropout(_DROPPED), nn.Linear(width, _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, 1))
        self.register_buffer("units", torch.tensor([0.0, 1.0]))

    def forward(self, rows: Tensor) -> Tensor:
        """Get how foreign places `(..., D)` look, `(...)`, in deviations of normal ones."""
        return (self.layers(rows)[..., 0] - self.units[0]) / self.units[1]


@dataclass(frozen=True, eq=False)
class _Shown:
    """Places of pictures, `(N, D)`, and how much of each was put in, `(N,)`."""

    rows: Tensor
    cover: Tensor


def learn_head(pictures: Tensor, areas: Tensor, *, rows_of: Rows, put_in: PutIn, seed: int) -> ForeignHead:
    """Put things into normal pictures and learn to see them.

    Args:
        pictures: `(N, C, H, W)` float, normalised normal images.
        areas: `(N, 1, H, W)` 1 where pixels belong to the image.
        rows_of: (pixels, areas) -> features of places `(n, h, w, D)`, and which are in the image `(n, h, w)`.
        put_in: what puts things into a picture; others to take patches from, what of it is image, and dice are given.
        seed: of all draws.
    """
    plain = pictures.float().numpy()
    normal = _shown(plain[: PICTURES // 4], areas, rows_of=rows_of, put_in=None, seed=seed)
    changed = _shown(plain, areas, rows_of=rows_of, put_in=put_in, seed=seed)
    torch.manual_seed(seeds.torch_seed(seed, "foreign-head"))
    head = ForeignHead(changed.rows.shape[1])
    optimiser = torch.optim.AdamW(head.parameters(), lr=_LR, weight_decay=1e-2)
    dice = seeds.generator(seed, "foreign-rows")
    with torch.enable_grad():
        for step in range(_STEPS):
            for group in optimiser.param_groups:
                group["lr"] = _LR * min(1.0, (step + 1) / 30) * (1 - step / _STEPS)
            some = torch.from_numpy(dice.integers(0, len(changed.rows), _ROWS))
            loss = F.binary_cross_entropy_with_logits(head(changed.rows[some].float()), changed.cover[some])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    head.eval().requires_grad_(False)
    with torch.no_grad():
        logits = torch.cat([head(one.float()) for one in normal.rows.split(_ROWS)])
        head.units = torch.stack([logits.mean(), logits.std().clamp_min(1e-6)])
    return head


def _shown(plain: np.ndarray, areas: Tensor, *, rows_of: Rows, put_in: PutIn | None, seed: int) -> _Shown:
    """Look at some places of pictures with things put in, up to half of them foreign; None = of all as they are."""
    inside, found = areas[:, 0].numpy() > 0, list[_Shown]()
    numbers = range(PICTURES if put_in else len(plain))
    for start in range(0, len(numbers), _AT_ONCE):
        some = numbers[start : start + _AT_ONCE]
        own = [number % len(plain) for number in some]
        if put_in:
            dice = [seeds.generator(seed, "foreign", index=number) for number in some]
            parts = [put_in(plain[k], plain, inside=inside[k], dice=one) for k, one in zip(own, dice, strict=True)]
        else:
            parts = [(plain[k], np.zeros(inside[k].shape, np.float32)) for k in own]
        pixels, covers = (torch.from_numpy(np.stack(side)) for side in zip(*parts, strict=True))
        rows, there = rows_of(pixels, areas[own])
        covers = F.adaptive_avg_pool2d(covers, (rows.shape[1], rows.shape[2]))
        for number, *one in zip(some, rows, there, covers, strict=True):
            found.append(_some(*one, dice=seeds.generator(seed, "foreign-places", index=number)))
    return _Shown(torch.cat([one.rows for one in found]), torch.cat([one.cover for one in found]))


def _some(rows: Tensor, there: Tensor, cover: Tensor, *, dice: np.random.Generator) -> _Shown:
    """Take some places of a picture, up to half of them foreign."""
    rows, cover = rows[there], cover[there]
    order = torch.from_numpy(dice.permutation(len(rows)))
    foreign = cover[order] > 0.1
    chosen = torch.cat([order[foreign][: _PLACES // 2], order[~foreign]])[:_PLACES]
    return _Shown(rows[chosen].half(), cover[chosen].float())
