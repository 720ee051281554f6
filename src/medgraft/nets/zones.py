"""A severity head: the places of the last level -> a map of severity -> one number a zone of the image.

    level (N, C, h, w) --two layers a place--> severity of each place, 0..1
                       --one layer a place---> how far each place belongs to each zone
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

import torch
from torch import Tensor, nn
from torch.nn import functional

_HIDDEN = 64
_FIRST = 0.15  # severity of every place before anything is learnt
_OUTSIDE = 12.0  # how fast a place stops belonging to a cell, in e-folds a side of the image


class SeverityHead(nn.Module):
    """Severities of zones from a map of severities.

    Args:
        channels: C of the level.
        shape: (h, w) of the level.
        grid: rows and columns of the zones, which are counted as `cell_of` says.
        zones: how many there are, at most the cells of the grid.
        steps: cuts between ordered grades; 0 where severities are shares of a zone.
        dropout: share of hidden features set to zero in training.

    Attributes:
        prior: `(Z, h * w)` logarithms of how far each place belongs to each zone before anything is learnt.
    """

    prior: Tensor

    def __init__(
        self, channels: int, shape: tuple[int, int], *, grid: tuple[int, int], zones: int, steps: int, dropout: float
    ) -> None:
        super().__init__()
        self.channels, self.shape = channels, shape
        self.norm = nn.LayerNorm(channels, elementwise_affine=False)
        self.severity = nn.Sequential(
            nn.Linear(channels, _HIDDEN), nn.GELU(), nn.Dropout(dropout), nn.Linear(_HIDDEN, 1)
        )
        self.belongs = nn.Linear(channels, zones)
        nn.init.normal_(self.belongs.weight, std=1e-3)
        nn.init.zeros_(self.belongs.bias)
        last = self.severity[-1]
        assert isinstance(last, nn.Linear)
        nn.init.normal_(last.weight, std=0.01)
        nn.init.constant_(last.bias, math.log(_FIRST / (1 - _FIRST)))
        self.register_buffer("prior", _prior(shape, grid, zones))
        # Of grades the data say how far a zone is judged by its worst place; a measured share is a plain mean.
        self.rise = nn.Parameter(torch.zeros(())) if steps else None
        self.slope = nn.Parameter(torch.zeros(())) if steps else None
        self.cuts = nn.Parameter(torch.linspace(-1.0, 1.0, steps)) if steps else None

    def forward(self, level: Tensor) -> Tensor:
        """Get the logarithm of each zone's severity, `(N, Z)`, at most 0, of levels `(N, C, h, w)`."""
        severity, belongs = self.places(level)
        if self.rise is None:
            return torch.logsumexp(belongs + severity[:, None], dim=2)
        rise = self.rise.exp()
        return torch.logsumexp(belongs + rise * severity[:, None], dim=2) / rise

    def places(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Get logarithms of the severity of each place `(N, P)`, and of its share in each zone `(N, Z, P)`."""
        places = self.norm(level.flatten(2).transpose(1, 2))
        severity = functional.logsigmoid(self.severity(places)[..., 0])
        belongs = self.belongs(places).transpose(1, 2) + self.prior
        return severity, belongs.log_softmax(dim=2)

    def map(self, level: Tensor) -> Tensor:
        """Get what each place adds to the severities of all zones, `(N, h, w)`, at least 0."""
        severity, belongs = self.places(level)
        added = (belongs + severity[:, None]).exp().sum(dim=1)
        return added.view(len(level), *self.shape)

    def above(self, scores: Tensor) -> Tensor:
        """Get the logits `(N, Z, steps)` of "more severe than grade k" from the scores `(N, Z)` of `forward`.

        All cuts have one slope, so that they never cross (as in `medgraft.tasks.grade`).
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
            self.severity[-1].bias.copy_(inside)  # type: ignore[operator]
        else:
            self.cuts.copy_(math.log(_FIRST) - inside)


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
