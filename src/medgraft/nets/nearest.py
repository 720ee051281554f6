"""Rows of numbers: which of a bank is nearest to each, and which few are far from each other."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from medgraft import seeds

_PROJECTED = 64  # numbers of a row while it is chosen
_AT_ONCE = 2048  # rows that are compared together


def nearest_of(rows: Tensor, bank: Tensor, *, count: int = 1) -> tuple[Tensor, Tensor]:
    """Get the distance of each row from the nearest of a bank, and its number.

    Args:
        rows: `(N, D)`.
        bank: `(M, D)`.
        count: how many of the nearest; 1 gives `(N,)`, more give `(N, count)`, the nearest first.
    """
    squares = bank.square().sum(dim=1)
    distances, numbers = [], []
    for some in rows.split(_AT_ONCE):
        apart = torch.addmm(squares, some, bank.T, alpha=-2).add_(some.square().sum(dim=1, keepdim=True))
        own = apart.min(dim=1) if count == 1 else apart.topk(count, dim=1, largest=False)
        distances.append(own.values.clamp_min(0).sqrt())
        numbers.append(own.indices)
    return torch.cat(distances), torch.cat(numbers)


def coreset(rows: Tensor, count: int, *, seed: int) -> Tensor:
    """Choose rows so that none is far from a chosen one: each time the one that is furthest from all chosen.

    Distances are those of a random projection to 64 numbers.

    Args:
        rows: `(N, D)`.
        count: how many.
        seed: of the projection and of the first row.

    Returns:
        `(count,)` numbers of rows, in the order in which they were chosen.

    Source: greedy k-centre, Gonzalez, Theor Comput Sci 1985;38:293; as used by Roth et al. 2022.
    """
    dice = seeds.generator(seed, "coreset")
    if rows.shape[1] > _PROJECTED:
        way = torch.from_numpy(dice.standard_normal((rows.shape[1], _PROJECTED)).astype(np.float32))
        rows = rows @ way.to(rows) / _PROJECTED**0.5
    squares = rows.square().sum(dim=1)
    chosen = torch.zeros(count, dtype=torch.long)
    place = int(dice.integers(len(rows)))
    far = torch.full((len(rows),), torch.inf)
    for number in range(count):
        chosen[number] = place
        far = torch.minimum(far, torch.addmv(squares + squares[place], rows, rows[place], alpha=-2))
        far[place] = -1
        place = int(far.argmax())
    return chosen
