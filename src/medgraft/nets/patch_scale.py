"""What numbers of places say: channels, levels and distances brought to the scale that normal images have."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

_QUIET = 0.2  # of the mean deviation of the channels of a level
_STEADY = 0.3  # of the deviation of all places: no place counts as steadier
_PRIOR = 5.0  # normal images, as many as all places together count for beside those of a place


def moments(rows: Tensor, widths: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Get mean and deviation of each channel; one that is silent in normal images must not shout in others.

    Args:
        rows: `(N, D)`.
        widths: channels of each level, D together; no channel counts as steadier than a fifth of its level's mean.
    """
    stds = rows.std(dim=0, correction=0).split(list(widths))
    return rows.mean(dim=0), torch.cat([std.clamp_min(max(1e-6, _QUIET * float(std.mean()))) for std in stds])


def evened(features: Tensor, widths: Sequence[int]) -> Tensor:
    """Let each level weigh as much as any other, however many channels it has; changes what it is given."""
    for part, width in zip(features.split(list(widths), dim=-1), widths, strict=True):
        part /= width**0.5
    return features


def by_place(distances: Tensor, spots: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Get what distances are multiplied by, and what is then added, so that normal ones are alike wherever they lie.

    Mean and deviation are of a place and of those beside it. Where few normal images reach, all places count as well.

    Args:
        distances: `(N,)` of places of normal images.
        spots: `(N,)` where each lies, `row * w + column`.
        grid: (h, w).

    Returns:
        two of `grid`; 1 and 0 where all distances are the same.

    Example:
        >>> gain, shift = by_place(torch.tensor([1.0, 3.0]), torch.tensor([0, 0]), (1, 1))
        >>> gain.item(), shift.item()
        (1.0, 0.0)
    """
    mean, spread = distances.mean(), distances.std(correction=0)
    if not float(spread):
        return torch.ones(grid), torch.zeros(grid)
    parts = (torch.ones_like(distances), distances, distances.square())
    sums = [torch.zeros(grid[0] * grid[1]).index_add_(0, spots, one).view(1, *grid) for one in parts]
    count, first, second = (F.avg_pool2d(one, 3, stride=1, padding=1, count_include_pad=False)[0] for one in sums)
    usual = (first + _PRIOR * mean) / (count + _PRIOR)
    square = (second + _PRIOR * (mean.square() + spread.square())) / (count + _PRIOR)
    own = (square - usual.square()).clamp_min((_STEADY * spread).square()).sqrt()
    gain = spread / own
    return gain, mean - usual * gain


def topmost(values: Tensor, share: float) -> Tensor:
    """Get the mean of the largest share of values; of no values zero."""
    if not len(values):
        return values.new_zeros(())
    return values.topk(max(1, round(share * len(values)))).values.mean()


def mean_inside(level: Tensor, area: Tensor) -> Tensor:
    """Get the mean of a level `(N, F)` over what belongs to the image."""
    cells = F.adaptive_avg_pool2d(area, (level.shape[-2], level.shape[-1]))
    return (level * cells).sum(dim=(2, 3)) / cells.sum(dim=(2, 3)).clamp_min(1e-6)


def around(level: Tensor, area: Tensor) -> Tensor:
    """Get the mean of 3 x 3 cells, of those in the image."""
    inside = F.avg_pool2d(area, 3, stride=1, padding=1).clamp_min(1e-6)
    return F.avg_pool2d(level * area, 3, stride=1, padding=1) / inside


def on_grid(level: Tensor, grid: tuple[int, int]) -> Tensor:
    """Bring a level `(N, F, h, w)` to a grid (h, w)."""
    if tuple(level.shape[-2:]) == grid:
        return level
    if level.shape[-1] > grid[1]:
        return F.adaptive_avg_pool2d(level, grid)
    return F.interpolate(level, size=grid, mode="bilinear", align_corners=False)


def unit_of(scores: Sequence[Tensor]) -> Tensor:
    """Get mean and deviation of scores; 0 and 1 of fewer than two."""
    if len(scores) < 2:
        return torch.tensor([0.0, 1.0])
    rows = torch.stack(list(scores))
    return torch.stack([rows.mean(), rows.std().clamp_min(1e-6)])
