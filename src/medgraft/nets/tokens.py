"""Vision transformers in stages: patches, four groups of blocks, the last norm.

Between stages travel tokens `(N, T, D)`. A level is the patches laid out as
`(N, D, H, W)`. The level of the last stage also carries the class token, as D
further channels that are constant over the picture: pooled, it reads [mean of
the patches, class token], the features DINOv2 evaluates its linear probes on
(Oquab et al. 2023, arXiv:2304.07193, section 7.1).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

from medgraft.nets.request import Stage
from medgraft.nets.stages import chain

GROUPS = 4


def grid(raw: torch.Tensor, *, size: tuple[int, int], prefix: int, token: bool) -> torch.Tensor:
    """Lay tokens out as a picture.

    Args:
        raw: `(N, prefix + H * W, D)`.
        size: (H, W) of the grid of patches.
        prefix: class and register tokens in front.
        token: True appends the first token as constant channels.

    Returns:
        `(N, D, H, W)`, or `(N, 2 D, H, W)` with the token.
    """
    count, _, width = raw.shape
    picture = raw[:, prefix:].transpose(1, 2).reshape(count, width, *size)
    if not token:
        return picture
    return torch.cat([picture, raw[:, 0, :, None, None].expand_as(picture)], dim=1)


def groups_of(blocks: list[nn.Module], last: list[nn.Module]) -> list[nn.Module]:
    """Split blocks into four groups, as even as can be; `last` modules join the last group."""
    count = min(GROUPS, len(blocks))
    edges = [round(k * len(blocks) / count) for k in range(count + 1)]
    parts = [blocks[low:high] for low, high in zip(edges, edges[1:], strict=False)]
    parts[-1] = parts[-1] + last
    return [chain([(str(k), module) for k, module in enumerate(part)]) for part in parts]


def _stages(
    embed: nn.Module, groups: list[nn.Module], *, size: tuple[int, int], prefix: int, token: bool
) -> list[Stage]:
    plain = partial(grid, size=size, prefix=prefix, token=False)
    final = partial(grid, size=size, prefix=prefix, token=token)
    found = [Stage("embed", embed, plain)]
    for index, group in enumerate(groups):
        found.append(Stage(f"blocks{index + 1}", group, final if index == len(groups) - 1 else plain))
    return found


class TimmEmbed(nn.Module):
    """Image -> tokens: a timm net whose blocks and head were taken out."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map pixels `(N, C, H, W)` to tokens `(N, T, D)`."""
        return self.net.forward_features(x)  # type: ignore[operator]


class RotaryBlock(nn.Module):
    """A block with the table of rotations it turns queries and keys by."""

    rope: torch.Tensor

    def __init__(self, block: nn.Module, rope: torch.Tensor) -> None:
        super().__init__()
        self.block = block
        self.register_buffer("rope", rope, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map tokens `(N, T, D)` to tokens."""
        return self.block(x, rope=self.rope)


def cut_timm_vit(net: Any) -> list[Stage]:
    """Cut a timm net of `blocks` on tokens; its head is left out, its norm stays with the last blocks."""
    blocks: list[nn.Module] = list(net.blocks)
    rope = getattr(net, "rope", None)
    if rope is not None:
        if getattr(net, "rope_mixed", False):
            raise ValueError("every block has its own table of rotations")
        table = rope.get_embed(shape=net.patch_embed.grid_size).detach()
        blocks = [RotaryBlock(block, table) for block in blocks]
    norm = net.norm
    size, prefix = tuple(net.patch_embed.grid_size), int(net.num_prefix_tokens)
    token = getattr(net, "cls_token", None) is not None
    net.blocks, net.norm = type(net.blocks)(), nn.Identity()
    for head in ("fc_norm", "head", "head_dist", "head_drop", "attn_pool"):
        if isinstance(getattr(net, head, None), nn.Module):
            setattr(net, head, nn.Identity())
    return _stages(TimmEmbed(net), groups_of(blocks, [norm]), size=size, prefix=prefix, token=token)


class TorchvisionEmbed(nn.Module):
    """Image -> tokens: the first layers of a torchvision ViT."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.conv_proj = net.conv_proj
        self.class_token = net.class_token
        self.pos_embedding = net.encoder.pos_embedding
        self.dropout = net.encoder.dropout

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map pixels `(N, C, H, W)` to tokens `(N, T, D)`."""
        patches = self.conv_proj(x).flatten(2).transpose(1, 2)
        first = self.class_token.expand(patches.shape[0], -1, -1)
        return self.dropout(torch.cat([first, patches], dim=1) + self.pos_embedding)


def cut_torchvision_vit(net: Any) -> list[Stage]:
    """Cut a torchvision VisionTransformer; its head is left out."""
    side = net.image_size // net.patch_size
    groups = groups_of(list(net.encoder.layers), [net.encoder.ln])
    return _stages(TorchvisionEmbed(net), groups, size=(side, side), prefix=1, token=True)
