"""What the encoder is asked: which program, which numbers, which two views belong together, which pixels are what."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MEAN, STD = 0.45, 0.25


class Questions(nn.Module):
    """Heads that only training needs; they are thrown away with the last step.

    Args:
        channels: C of the encoder's levels that are looked at, the last three or more.
        programs: number of classes.
        numbers: K.
        masks: M.
    """

    def __init__(self, channels: Sequence[int], *, programs: int, numbers: int, masks: int) -> None:
        super().__init__()
        last, seen = channels[-1], sum(channels[-3:])
        self.program = nn.Linear(last, programs)
        self.numbers = nn.Linear(seen, numbers)
        self.project = nn.Sequential(
            nn.Linear(last, 512, bias=False), nn.BatchNorm1d(512), nn.ReLU(inplace=True), nn.Linear(512, 128)
        )
        self.lateral = nn.ModuleList(nn.Conv2d(c, 48, 1, bias=False) for c in channels[-3:])
        self.dense = nn.Sequential(nn.BatchNorm2d(48), nn.ReLU(inplace=True), nn.Conv2d(48, masks, 3, padding=1))

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Get (program logits, numbers, unit vectors to compare, mask logits) of levels `(N, C, H, W)`."""
        pooled = [level.mean((2, 3)) for level in levels[-3:]]
        size = levels[-3].shape[2:]
        maps = [F.interpolate(conv(x), size=size) for conv, x in zip(self.lateral, levels[-3:], strict=True)]
        compared = F.normalize(self.project(pooled[-1]).float(), dim=1)
        return self.program(pooled[-1]), self.numbers(torch.cat(pooled, 1)), compared, self.dense(sum(maps))


def contrast_loss(first: Tensor, second: Tensor, *, temperature: float) -> Tensor:
    """Get SimCLR's NT-Xent (Chen et al. 2020, arXiv 2002.05709) of unit vectors `(N, D)`; row i belongs to row i."""
    both = torch.cat([first, second])
    near = both @ both.T / temperature
    near.fill_diagonal_(float("-inf"))
    count = len(first)
    partner = torch.cat([torch.arange(count) + count, torch.arange(count)]).to(near.device)
    return F.cross_entropy(near, partner)


def program_loss(logits: Tensor, programs: Tensor, shares: Tensor) -> Tensor:
    """Get the cross-entropy of mixtures `(N, 2)` of programs, labels smoothed."""
    own = F.cross_entropy(logits, programs[:, 0], label_smoothing=0.1, reduction="none")
    other = F.cross_entropy(logits, programs[:, 1], label_smoothing=0.1, reduction="none")
    return (shares * own + (1 - shares) * other).mean()


def numbers_loss(found: Tensor, wanted: Tensor, shares: Tensor) -> Tensor:
    """Get the smooth absolute error of the numbers that have a meaning, mixtures left out."""
    known = ~wanted.isnan() & (shares == 1)[:, None]
    each = F.smooth_l1_loss(found, wanted.nan_to_num(0), reduction="none")
    return (each * known).sum() / known.sum().clamp_min(1)


def dense_loss(logits: Tensor, masks: Tensor, shares: Tensor) -> Tensor:
    """Get the binary cross-entropy of masks `(N, M, h, w)`, taken to the size of the logits, mixtures left out.

    A mixture shows the masks of two pictures, and those of one are known.
    """
    wanted = F.adaptive_avg_pool2d(masks, logits.shape[2:])
    each = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean((1, 2, 3))
    known = shares == 1
    return (each * known).sum() / known.sum().clamp_min(1)


class Imitation(nn.Module):
    """A fifth question, for encoders that learn slowly from little: what would a trained encoder say of this view?

    Args:
        channels: C of the last level of the encoder that learns.
        teacher: C of the last three levels of the trained one.

    Source: Touvron et al. 2021, arXiv 2012.12877, a convolutional teacher for a transformer.
    """

    def __init__(self, channels: int, teacher: Sequence[int]) -> None:
        super().__init__()
        self.whole = nn.Linear(channels, sum(teacher))
        self.places = nn.Conv2d(channels, teacher[1], 1)
        self.alike = nn.ModuleList(
            [nn.BatchNorm1d(sum(teacher), affine=False), nn.BatchNorm2d(teacher[1], affine=False)]
        )

    def forward(self, level: Tensor, taught: Sequence[Tensor]) -> Tensor:
        """Get the loss of the last level `(N, C, H, W)` before the teacher's last three, channels standardised."""
        whole, places = self.alike
        with torch.no_grad():
            pooled = whole(torch.cat([part.float().mean((2, 3)) for part in taught], 1))
            maps = places(taught[1].float())
        found = F.adaptive_avg_pool2d(self.places(level), maps.shape[2:])
        return F.smooth_l1_loss(self.whole(level.mean((2, 3))).float(), pooled) + F.smooth_l1_loss(found.float(), maps)


def normalise(pixels: Tensor) -> Tensor:
    """Turn pixels from 0 to 1 into what the encoder eats."""
    return (pixels - MEAN) / STD
