"""A severity head: the places of the last levels -> a map of severity -> one number a zone of the image.

    levels (N, C, h, w) --a layer each, brought to the finest, added--> features of each place
                        --severity of each place, 0..1
                        --how far each place belongs to each zone
    zone = the generalised mean of the severities of its places

Only the numbers of the zones are taught; the map comes of it, so it is weakly
supervised. A zone begins as its cell of the image's grid, and what the places
show may move it: lungs do not fill an image, and no two lie alike.

Source: Park et al., "Multi-task vision transformer using low-level chest X-ray
feature corpus for COVID-19 diagnosis and severity quantification", Med Image
Anal 2022;75:102299, who pool a map of severities over six zones of segmented
lungs by their maxima.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

_HIDDEN = 64
_FIRST = 0.05  # severity of every place before anything is learnt
_SLOPE = 2.0  # of the cuts before anything is learnt: with less, the cut of a rare grade lies where no severity reaches
_OUTSIDE = 20.0  # how fast a place stops belonging to a cell, in e-folds a side of the image


class SeverityHead(nn.Module):
    """Severities of zones from a map of severities.

    Args:
        channels: C of each level that is looked at, the finest first.
        shapes: (h, w) of each.
        grid: rows and columns of the zones, which are counted as `cell_of` says.
        zones: how many there are, at most the cells of the grid.
        steps: cuts between ordered grades; 0 where severities are shares of a zone.
        dropout: share of hidden features set to zero in training.

    Attributes:
        shape: (h, w) of the map.
        prior: `(Z, h * w)` logarithms of how far each place belongs to each zone before anything is learnt.
    """

    prior: Tensor

    def __init__(
        self,
        channels: Sequence[int],
        shapes: Sequence[tuple[int, int]],
        *,
        grid: tuple[int, int],
        zones: int,
        steps: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.channels, self.shapes, self.shape = tuple(channels), tuple(shapes), shapes[0]
        # Levels differ in size, and tuned ones change it: each is standardised by the images of a batch.
        self.norms = nn.ModuleList(nn.BatchNorm2d(count, affine=False) for count in channels)
        self.enter = nn.ModuleList(nn.Conv2d(count, _HIDDEN, 1, bias=k == 0) for k, count in enumerate(channels))
        self.dropout = nn.Dropout(dropout)
        self.severity = nn.Conv2d(_HIDDEN, 1, 1)
        self.belongs = nn.Conv2d(_HIDDEN, zones, 1)
        for layer, spread in ((self.severity, 0.01), (self.belongs, 1e-3)):
            nn.init.normal_(layer.weight, std=spread)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.constant_(self.severity.bias, math.log(_FIRST / (1 - _FIRST)))  # type: ignore[arg-type]
        self.register_buffer("prior", _prior(self.shape, grid, zones))
        # Of grades the data say how far a zone is judged by its worst place; a measured share is a plain mean.
        self.rise = nn.Parameter(torch.zeros(())) if steps else None
        self.slope = nn.Parameter(torch.tensor(math.log(_SLOPE))) if steps else None
        self.cuts = nn.Parameter(torch.linspace(-1.0, 1.0, steps)) if steps else None

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Get the logarithm of each zone's severity, `(N, Z)`, at most 0, of levels `(N, C, h, w)`."""
        severity, belongs = self.places(levels)
        if self.rise is None:
            return torch.logsumexp(belongs + severity[:, None], dim=2)
        rise = self.rise.exp()
        return torch.logsumexp(belongs + rise * severity[:, None], dim=2) / rise

    def places(self, levels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Get logarithms of the severity of each place `(N, P)`, and of its share in each zone `(N, Z, P)`."""
        seen = torch.zeros((), device=levels[0].device)
        for level, norm, enter in zip(levels, self.norms, self.enter, strict=True):
            own = enter(norm(level))
            if own.shape[2:] != self.shape:
                own = functional.interpolate(own, size=self.shape, mode="bilinear", align_corners=False)
            seen = seen + own
        seen = self.dropout(functional.gelu(seen))
        severity = functional.logsigmoid(self.severity(seen).flatten(1))
        return severity, (self.belongs(seen).flatten(2) + self.prior).log_softmax(dim=2)

    def map(self, levels: Sequence[Tensor]) -> Tensor:
        """Get what each place adds to the severities of all zones, `(N, h, w)`, at least 0."""
        severity, belongs = self.places(levels)
        added = (belongs + severity[:, None]).exp().sum(dim=1)
        return added.view(-1, *self.shape)

    def above(self, scores: Tensor) -> Tensor:
        """Get the logits `(N, Z, steps)` of "more severe than grade k" from the scores `(N, Z)` of `forward`.

        All cuts have one slope, so that they never cross (as cumulative logits of ordinal grades do not).
        """
        assert self.slope is not None and self.cuts is not None
        return self.slope.exp() * scores[..., None] - torch.sort(self.cuts).values

    @torch.no_grad()
    def begin(self, shares: Tensor) -> None:
        """Start where the training severities lie, so that the head has only the images to learn.

        Args:
            shares: `(steps,)` of the zones that are above each grade but the last; of shares `(1,)` their mean.
        """
        inside = torch.logit(shares.clamp(0.01, 0.99))
        if self.cuts is None:
            self.severity.bias.copy_(inside)  # type: ignore[union-attr]
        else:
            self.cuts.copy_(_SLOPE * math.log(_FIRST) - inside)


def cell_of(zone: int, grid: tuple[int, int]) -> tuple[int, int]:
    """Get the (row, column) of a zone: down the first column, then down the next.

    So the six zones of a chest are the right lung, which is on the left of the image, from above, then the left lung.

    Example:
        >>> [cell_of(zone, (3, 2)) for zone in range(6)]
        [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1)]
    """
    column, row = divmod(zone, grid[0])
    return row, column


def _prior(shape: tuple[int, int], grid: tuple[int, int], zones: int) -> Tensor:
    """Belonging falls off with the distance from the zone's cell, so a place just outside may still be drawn in."""
    found = []
    for zone in range(zones):
        away = []
        for axis, place in enumerate(cell_of(zone, grid)):
            at = (torch.arange(shape[axis]) + 0.5) / shape[axis]
            low, high = place / grid[axis], (place + 1) / grid[axis]
            away.append((low - at).clamp_min(0) + (at - high).clamp_min(0))
        found.append((away[0][:, None] + away[1][None, :]).flatten())
    return -_OUTSIDE * torch.stack(found)
