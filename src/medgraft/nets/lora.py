"""Low-rank adapters: every weight of a transformer stays as it was trained, and a thin product beside it learns.

W + 2 B A, with A of `rank` rows and B of `rank` columns, takes the place of W
wherever it is used. B begins at zero, so a net begins as it was. After the fit
the product is added in, and what is saved is a plain net.

Source: Hu et al., "LoRA: low-rank adaptation of large language models", ICLR 2022.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from medgraft import seeds
from medgraft.errors import BadRecipe
from medgraft.nets.backbone import Encoder

RANK = 8
_SCALE = 2.0  # alpha of 16 over a rank of 8, as in the paper's code


class Adapter(nn.Module):
    """What is added to one weight.

    Args:
        weight: `(rows, columns)`.
        rank: of what is added.
        generator: draws A; B begins at zero.
    """

    def __init__(self, weight: Tensor, rank: int, *, generator: torch.Generator) -> None:
        super().__init__()
        rows, columns = weight.shape
        down = torch.empty(rank, columns).uniform_(-1, 1, generator=generator) * columns**-0.5
        self.down = nn.Parameter(down.to(weight.device))
        self.up = nn.Parameter(torch.zeros(rows, rank, device=weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        """Get the weight with what was learnt, same shape."""
        return weight + _SCALE * (self.up @ self.down).to(weight.dtype)


def takes_adapters(backbone: Encoder) -> bool:
    """Say whether adapters reach most of a net: its weights are those of linear layers, as in a transformer."""
    reached = sum(getattr(owner, name).numel() for owner, name in _weights(backbone))
    return 2 * reached > sum(parameter.numel() for parameter in backbone.parameters())


def add_adapters(backbone: Encoder, *, rank: int = RANK, seed: int = 0) -> None:
    """Freeze a net and put an adapter beside each weight of its linear layers and of its attention.

    Args:
        backbone: changed in place; adapters that it has stay.
        rank: of each adapter; 0 changes nothing.
        seed: of A.

    Raises:
        BadRecipe: most of the net is not linear layers, so adapters would leave it as it is.
    """
    if not rank or is_adapted(backbone):
        return
    if not takes_adapters(backbone):
        raise BadRecipe(
            f"depth lora is for transformers: {backbone.name} is made of convolutions",
            do="Give --depth head, a number of stages, or all.",
        )
    backbone.requires_grad_(False)
    for index, (owner, name) in enumerate(list(_weights(backbone))):
        generator = torch.Generator().manual_seed(seeds.torch_seed(seed, "lora", 0, index))
        adapter = Adapter(getattr(owner, name), rank, generator=generator)
        parametrize.register_parametrization(owner, name, adapter)


def is_adapted(backbone: Encoder) -> bool:
    """Say whether a net has adapters."""
    return any(isinstance(part, Adapter) for part in backbone.modules())


def merge_adapters(backbone: Encoder) -> None:
    """Add to each weight what its adapter learnt, and remove the adapter; a net without adapters stays as it is."""
    for owner in list(backbone.modules()):
        for name in list(getattr(owner, "parametrizations", {})):
            if any(isinstance(part, Adapter) for part in owner.parametrizations[name]):  # type: ignore[index,union-attr]
                parametrize.remove_parametrizations(owner, name, leave_parametrized=True)


def _weights(backbone: Encoder) -> Iterator[tuple[nn.Module, str]]:
    """The matrices that take an adapter, in the order of the stages."""
    for _, stage in backbone.stages:
        for part in stage.modules():
            if isinstance(part, nn.Linear):
                yield part, "weight"
            elif isinstance(part, nn.MultiheadAttention) and part.in_proj_weight is not None:
                yield part, "in_proj_weight"
