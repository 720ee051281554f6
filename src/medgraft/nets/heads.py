"""Heads: levels of a backbone -> raw outputs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medgraft.errors import BadRecipe

_LEVELS = 3  # further down there are edges and colours, which are many numbers a picture and say little of the whole


class Standard(nn.Module):
    """Features less their centre, divided by their spread.

    Attributes:
        centre: `(F,)` zeros until it is set.
        spread: `(F,)` ones until it is set, never 0.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))

    def put(self, centre: Tensor, spread: Tensor) -> None:
        """Set both; a spread of 0 becomes 1."""
        self.centre.copy_(centre)
        self.spread.copy_(torch.where(spread > 0, spread, torch.ones_like(spread)))

    def forward(self, features: Tensor) -> Tensor:
        """Map `(N, F)` to `(N, F)`."""
        return (features - self.centre) / self.spread


class LinearHead(nn.Module):
    """Pooled features, standardised, dropout, one linear layer.

    Args:
        channels: C of each level of the backbone.
        outputs: K.
        pooling: "avg" takes the averages of the last level; "levels" the averages of the last three levels and the
            largest values of the last, side by side.
        dropout: share of features set to zero in training.

    Attributes:
        widths: numbers that each level gives, 0 for those that are not looked at.
        width: F, their sum.
        standard: brings features of different sizes to one; set from training features, until then it changes nothing.
    """

    def __init__(self, channels: Sequence[int], outputs: int, *, pooling: str = "avg", dropout: float = 0.0) -> None:
        super().__init__()
        self.channels, self.outputs = tuple(channels), outputs
        self.dropout = nn.Dropout(dropout)
        self.pool(pooling)

    def pool(self, pooling: str) -> None:
        """Look at the levels in another way: the linear layer starts anew, what else the head holds stays.

        Raises:
            BadRecipe: there is no such pooling.
        """
        below, last = self.channels[:-1], self.channels[-1]
        seen = {"avg": 1, "levels": _LEVELS}
        if pooling not in seen:
            raise BadRecipe(f"there is no pooling named {pooling!r}", do=f"Known: {', '.join(seen)}.")
        first = len(self.channels) - seen[pooling]
        self.widths = tuple(count if index >= first else 0 for index, count in enumerate(below))
        self.widths += (last if pooling == "avg" else 2 * last,)
        self.pooling = pooling
        self.resize(sum(self.widths))

    def resize(self, width: int) -> None:
        """Start anew on features of another width, which are taken as they are."""
        self.width = width
        self.linear = nn.Linear(width, self.outputs)
        # Small weights and no bias: at the start every class is equally likely, so the encoder is not shaken.
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)
        self.standard = Standard(width)

    def part(self, level: Tensor, stage: int) -> Tensor:
        """Get what the head takes of a level `(N, C, ...)` that it looks at: `(N, widths[stage])`, in float32."""
        level = level.float()
        space = tuple(range(2, level.ndim))
        if self.pooling == "avg" or stage < len(self.channels) - 1:
            return level.mean(space)
        return torch.cat([level.mean(space), level.amax(space)], dim=1)

    def features(self, levels: Sequence[Tensor]) -> Tensor:
        """Get the pooled features `(N, width)` of all levels `(N, C, ...)`, in float32."""
        return torch.cat([self.part(level, stage) for stage, level in enumerate(levels) if self.widths[stage]], dim=1)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Get raw outputs `(N, K)`."""
        return self.logits(self.features(levels))

    def logits(self, features: Tensor) -> Tensor:
        """Get raw outputs `(N, K)` of pooled features `(N, width)`."""
        return self.linear(self.dropout(self.standard(features)))
