"""Heads: levels of a backbone -> raw outputs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from medgraft.errors import BadRecipe


class LinearHead(nn.Module):
    """Pooled features, dropout, one linear layer.

    Args:
        channels: C of each level of the backbone.
        outputs: K.
        pooling: "avg" pools the last level; "max" takes its largest values; "avgmax" both, side by side;
            "levels" the averages of all levels, side by side.
        dropout: share of features set to zero in training.
    """

    def __init__(self, channels: Sequence[int], outputs: int, *, pooling: str = "avg", dropout: float = 0.0) -> None:
        super().__init__()
        widths = {"avg": channels[-1], "max": channels[-1], "avgmax": 2 * channels[-1], "levels": sum(channels)}
        if pooling not in widths:
            raise BadRecipe(f"there is no pooling named {pooling!r}", do=f"Known: {', '.join(widths)}.")
        self.pooling = pooling
        self.width = widths[pooling]
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(self.width, outputs)
        # Small weights and no bias: at the start every class is equally likely, so the encoder is not shaken.
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def features(self, levels: Sequence[torch.Tensor]) -> torch.Tensor:
        """Get the pooled features `(N, width)` of levels `(N, C, H, W)`, in float32."""
        if self.pooling == "levels":
            return torch.cat([level.float().mean((2, 3)) for level in levels], dim=1)
        last = levels[-1].float()
        if self.pooling == "avg":
            return last.mean((2, 3))
        if self.pooling == "max":
            return last.amax((2, 3))
        return torch.cat([last.mean((2, 3)), last.amax((2, 3))], dim=1)

    def forward(self, levels: Sequence[torch.Tensor]) -> torch.Tensor:
        """Get raw outputs `(N, K)`."""
        return self.logits(self.features(levels))

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        """Get raw outputs `(N, K)` of pooled features `(N, width)`."""
        return self.linear(self.dropout(features))
