"""A U-Net that tells signal from noise in a noisy image or volume, given its time and perhaps its class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

_GROUPS = 8
_HEAD = 32  # channels of a head of attention
_KEPT = 13  # maps that a block and what is around it keep for the way back; measured, 12 to 16 for nets of any form


@dataclass(frozen=True)
class DenoiserForm:
    """How a net is built.

    Attributes:
        axes: 2 or 3.
        channels: of the image.
        widths: channels at each resolution, the finest first; each is half as fine as the one before.
        blocks: residual blocks a resolution, on the way down; one more on the way up.
        attends: resolutions, counted from the coarsest, whose places look at each other.
        classes: 0 where images have no class.
        dropout: share of channels that a block leaves out while it learns.
        fold: pixels along each axis that become channels before anything else: 2 makes a net four times faster (of
            volumes eight times), as its finest map is half as fine.
    """

    axes: int = 2
    channels: int = 1
    widths: tuple[int, ...] = (64, 128, 192)
    blocks: int = 2
    attends: int = 1
    classes: int = 0
    dropout: float = 0.0
    fold: int = 1

    @property
    def step(self) -> int:
        """Get what each side of an image must be a multiple of."""
        return self.fold * 2 ** (len(self.widths) - 1)

    def to_dict(self) -> dict[str, Any]:
        """Get plain JSON values."""
        return {**asdict(self), "widths": list(self.widths)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DenoiserForm:
        """Read what `to_dict` wrote."""
        return cls(**{**values, "widths": tuple(values["widths"])})


class Denoiser(nn.Module):
    """A U-Net with residual blocks that know the time, and attention where it is coarse.

    Its last layer begins at zero, so that an untrained net says zero everywhere.

    Attributes:
        again: True keeps only what enters each block while it learns, and computes the rest again on the way back:
            less memory for one more forward pass, and the same gradients, as dropout draws the same numbers again.

    Source: Ho, Jain and Abbeel, NeurIPS 2020;33:6840, appendix B; blocks scaled and shifted by time and class as in
        Dhariwal and Nichol, NeurIPS 2021;34:8780.
    """

    def __init__(self, form: DenoiserForm) -> None:
        super().__init__()
        self.form, self.again = form, False
        conv = nn.Conv2d if form.axes == 2 else nn.Conv3d
        told = 4 * form.widths[0]
        self.time = nn.Sequential(nn.Linear(form.widths[0], told), nn.SiLU(), nn.Linear(told, told))
        # The last class is "none": what is learnt without a class, and what guidance leads away from.
        self.kind = nn.Embedding(form.classes + 1, told) if form.classes else None
        channels = form.channels * form.fold**form.axes
        self.first = conv(channels, form.widths[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        kept = [form.widths[0]]
        width = form.widths[0]
        for level, wider in enumerate(form.widths):
            looks = self._looks(level)
            for _ in range(form.blocks):
                self.down.append(_Block(form, width, wider, told, looks=looks))
                width = wider
                kept.append(width)
            if level + 1 < len(form.widths):
                self.down.append(conv(width, width, 3, stride=2, padding=1))
                kept.append(width)
        self.middle = nn.ModuleList(
            [_Block(form, width, width, told, looks=form.attends > 0), _Block(form, width, width, told, looks=False)]
        )
        for level in reversed(range(len(form.widths))):
            looks = self._looks(level)
            for _ in range(form.blocks + 1):
                self.up.append(_Block(form, width + kept.pop(), form.widths[level], told, looks=looks))
                width = form.widths[level]
            if level:
                self.up.append(_Wider(conv(width, width, 3, padding=1)))
        self.last = nn.Sequential(nn.GroupNorm(_groups(width), width), nn.SiLU(), conv(width, channels, 3, padding=1))
        _zero(self.last[-1])

    def _looks(self, level: int) -> bool:
        return len(self.form.widths) - level <= self.form.attends

    def forward(self, noisy: Tensor, time: Tensor, kinds: Tensor | None = None) -> Tensor:
        """Get what the net says of `(N, C, [D,] H, W)`.

        Args:
            noisy: images; each side a multiple of `form.step`.
            time: `(N,)` in 0 (image) to 1 (noise).
            kinds: `(N,)` class numbers; `form.classes` is none. None is none for all.
        """
        told = self.time(waves(time, self.form.widths[0]))
        if self.kind is not None:
            known = kinds if kinds is not None else torch.full_like(time, self.form.classes, dtype=torch.long)
            told = told + self.kind(known)
        told = F.silu(told)
        x = self.first(folded(noisy, self.form.fold))
        kept = [x]
        for part in self.down:
            x = self._through(part, told, x) if isinstance(part, _Block) else part(x)
            kept.append(x)
        for part in self.middle:
            x = self._through(part, told, x)
        for part in self.up:
            x = self._through(part, told, x, kept.pop()) if isinstance(part, _Block) else part(x)
        return unfolded(self.last(x), self.form.fold)

    def _through(self, block: nn.Module, told: Tensor, *maps: Tensor) -> Tensor:
        """What a block makes of maps that are laid side by side."""
        if self.again and self.training and torch.is_grad_enabled():
            return checkpoint(_joined, block, told, *maps, use_reentrant=False)  # type: ignore[return-value]
        return _joined(block, told, *maps)


def _joined(block: nn.Module, told: Tensor, *maps: Tensor) -> Tensor:
    return block(maps[0] if len(maps) == 1 else torch.cat(maps, dim=1), told)


def kept_bytes(form: DenoiserForm, shape: Sequence[int], *, batch: int) -> int:
    """Get how many bytes of float32 maps a step keeps for the way back, about; a third of it with `Denoiser.again`.

    Args:
        form: of the net.
        shape: `([D,] H, W)` of an image.
        batch: images of a step.
    """
    places = math.prod(side // form.fold for side in shape)
    maps = sum(width * places / 2 ** (form.axes * level) for level, width in enumerate(form.widths))
    return int(4 * batch * maps * (2 * form.blocks + 1) * _KEPT)


class _Block(nn.Module):
    """Two convolutions, told time and class between them, beside a way around; then attention, where it is coarse."""

    def __init__(self, form: DenoiserForm, width: int, wider: int, told: int, *, looks: bool) -> None:
        super().__init__()
        conv = nn.Conv2d if form.axes == 2 else nn.Conv3d
        self.norm, self.conv = nn.GroupNorm(_groups(width), width), conv(width, wider, 3, padding=1)
        self.told = nn.Linear(told, 2 * wider)
        self.norm2, self.conv2 = nn.GroupNorm(_groups(wider), wider), conv(wider, wider, 3, padding=1)
        self.drop = nn.Dropout(form.dropout)
        self.around = nn.Identity() if width == wider else conv(width, wider, 1)
        self.look = _Attention(wider) if looks else None
        _zero(self.conv2)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        inner = self.conv(F.silu(self.norm(x)))
        scale, shift = self.told(told).view(len(told), -1, *(1,) * (x.ndim - 2)).chunk(2, dim=1)
        inner = self.conv2(self.drop(F.silu(self.norm2(inner) * (1 + scale) + shift)))
        x = self.around(x) + inner
        return x if self.look is None else self.look(x)


class _Attention(nn.Module):
    """Places look at each other."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = next(heads for heads in range(max(1, width // _HEAD), 0, -1) if width % heads == 0)
        self.norm, self.asked, self.out = (
            nn.GroupNorm(_groups(width), width),
            nn.Linear(width, 3 * width),
            nn.Linear(width, width),
        )
        _zero(self.out)

    def forward(self, x: Tensor) -> Tensor:
        flat = self.norm(x).flatten(2).transpose(1, 2)
        parts = self.asked(flat).unflatten(-1, (3, self.heads, -1)).movedim(2, 0).transpose(2, 3)
        looked = F.scaled_dot_product_attention(parts[0], parts[1], parts[2])
        return x + self.out(looked.transpose(1, 2).flatten(2)).transpose(1, 2).reshape(x.shape)


class _Wider(nn.Module):
    """Twice as fine: each pixel becomes two by two (by two), then a convolution."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def folded(x: Tensor, by: int) -> Tensor:
    """Get `(N, C * by^k, ...)` of an image `(N, C, ...)` of k axes: each block of pixels becomes channels."""
    if by == 1:
        return x
    axes = x.ndim - 2
    parts = x.reshape(*x.shape[:2], *(part for side in x.shape[2:] for part in (side // by, by)))
    order = [0, 1, *range(3, 3 + 2 * axes, 2), *range(2, 2 + 2 * axes, 2)]
    return parts.permute(order).flatten(1, 1 + axes)


def unfolded(x: Tensor, by: int) -> Tensor:
    """Get the image again that `folded` made channels of."""
    if by == 1:
        return x
    axes = x.ndim - 2
    parts = x.reshape(len(x), -1, *(by,) * axes, *x.shape[2:])
    order = [0, 1, *(place for axis in range(axes) for place in (2 + axes + axis, 2 + axis))]
    whole = parts.permute(order)
    return whole.reshape(*whole.shape[:2], *(side * by for side in x.shape[2:]))


def waves(time: Tensor, width: int) -> Tensor:
    """Get sines and cosines `(N, width)` of a time in 0..1, as of positions 0 to 1000.

    Source: Vaswani et al., NeurIPS 2017;30:5998, section 3.5.
    """
    half = width // 2
    rates = torch.exp(-math.log(10_000.0) * torch.arange(half, device=time.device, dtype=torch.float32) / half)
    angles = 1000.0 * time.float()[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _groups(width: int) -> int:
    return math.gcd(width, _GROUPS)


def _zero(layer: nn.Module) -> None:
    for one in layer.parameters():
        nn.init.zeros_(one)
