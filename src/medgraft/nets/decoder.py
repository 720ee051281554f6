"""From the levels of an encoder to a map as fine as the image: what is drawn on every pixel or voxel.

    levels (coarse) --up--> + finer level --up--> ... --up--> + a look at the pixels themselves --> logits

Pictures and volumes share the code: an axis more is a convolution of another kind.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ARMS = ("unet", "fpn")
_MOST = 256  # channels of a step of the decoder
_FINE = 16  # channels of the look at the pixels themselves
_MODES = {2: "bilinear", 3: "trilinear"}
_GROUPS = 8  # of the channels of a map, each brought to one mean and spread
Steps = tuple[int, ...]
Mixed = Callable[..., nn.Module]  # channels in and out -> convolution, norm and ReLU


@dataclass(frozen=True)
class DecoderForm:
    """How a decoder is built.

    Attributes:
        arm: "unet" joins each level on the way up; "fpn" brings all levels to one width and adds them, which is
            cheaper and blurs what is thin.
        width: channels of the finest map; each coarser one has twice as many as the one before, to a limit.
        deep: coarser maps that get logits of their own while it learns (deep supervision).
        rungs: how many resolutions of the encoder it looks at, the finest first; 0 for all.
        fine: True looks at the pixels themselves, too; False draws on the encoder's finest level, which costs half, and
            stretches what was drawn.
        norm: "batch" normalises by the images of a step while it learns and by what was stored of them from then on;
            "group" each image by itself (Wu and He, ECCV 2018).
    """

    arm: str = "unet"
    width: int = _FINE
    deep: int = 0
    rungs: int = 0
    fine: bool = True
    norm: str = "batch"

    def to_dict(self) -> dict[str, Any]:
        """Get plain JSON values."""
        return asdict(self)


class MaskHead(nn.Module):
    """Levels and pixels -> logits of every pixel.

    Args:
        channels: C of each level of the encoder.
        strides: input pixels for one pixel of each level: a number, or one an axis.
        pixels: channels of the image.
        axes: 2 for pictures, 3 for volumes.
        outputs: how many numbers a pixel gets.
        form: how it is built.

    Attributes:
        reads: how many levels, from the first, it looks at; later stages of the encoder need not run.
        steps: pixels along each axis of a place of the coarsest level that it looks at.

    Raises:
        ValueError: no such arm.

    Source: Ronneberger et al., U-Net, MICCAI 2015; Kirillov et al., Panoptic feature pyramid networks, CVPR 2019;
        deep supervision as in Isensee et al., nnU-Net, Nat Methods 2021.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int | Sequence[int]],
        *,
        pixels: int,
        axes: int,
        outputs: int,
        form: DecoderForm,
    ) -> None:
        super().__init__()
        if form.arm not in ARMS:
            raise ValueError(f"there is no decoder {form.arm!r}: there are {', '.join(ARMS)}")
        steps = [_steps(one, axes) for one in strides]
        last = {step: level for level, step in enumerate(steps)}  # the last level of each stride sees most
        rungs = sorted((step for step in last if math.prod(step) > 1), key=math.prod)[: form.rungs or None]
        self.form, self.axes = form, axes
        self.taken = tuple(last[step] for step in rungs)
        self.reads = max(self.taken, default=len(steps) - 1) + 1
        self.steps: Steps = rungs[-1] if rungs else (1,) * axes
        own = [channels[level] for level in self.taken]
        widths = [min(_MOST, form.width * 2**index) for index in range(1, len(rungs) + 1)]
        mixed = partial(block, axes=axes, norm=form.norm)
        self.fine = mixed(pixels, form.width) if form.fine or not rungs else None
        if self.fine is not None:
            own, widths = [form.width, *own], [form.width, *widths]
        builder = _Climb if form.arm == "unet" else _Sum
        self.climb = builder(own, widths, axes=axes, mixed=mixed)
        self.last = conv(widths[0], outputs, axes, size=1)
        deep = range(1, 1 + min(form.deep, len(widths) - 2)) if form.arm == "unet" else range(0)
        self.aside = nn.ModuleList(conv(widths[index], outputs, axes, size=1) for index in deep)

    def forward(self, levels: Sequence[Tensor], pixels: Tensor) -> list[Tensor]:
        """Get logits `(N, outputs, [D,] H, W)`, float32; while it learns those of coarser maps follow.

        Args:
            levels: at least the first `reads` of the encoder.
            pixels: `(N, C, [D,] H, W)` what the encoder saw.
        """
        rungs = [levels[level] for level in self.taken]
        maps = self.climb(rungs if self.fine is None else [self.fine(pixels), *rungs])
        found = [grown(self.last(maps[0]).float(), pixels.shape[2:])]
        if self.training:
            found += [look(maps[index]).float() for index, look in enumerate(self.aside, start=1)]
        return found


class _Climb(nn.Module):
    """A U-Net's way up: each map, halved in channels, is grown to the next finer one, joined with its level, mixed."""

    def __init__(self, own: Sequence[int], widths: Sequence[int], *, axes: int, mixed: Mixed) -> None:
        super().__init__()
        self.first = mixed(own[-1], widths[-1], size=1) if len(own) > 1 else nn.Identity()
        self.halve, self.narrow, self.mix = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for index in range(len(own) - 2, -1, -1):
            above = min(widths[index + 1], widths[index])
            self.halve.append(conv(widths[index + 1], above, axes, size=1, bias=False))  # before it is grown: cheap
            skip = min(own[index], 2 * widths[index])  # a level much wider than its step would cost most of the time
            self.narrow.append(nn.Identity() if skip == own[index] else mixed(own[index], skip, size=1))
            self.mix.append(nn.Sequential(mixed(above + skip, widths[index]), mixed(widths[index], widths[index])))

    def forward(self, rungs: Sequence[Tensor]) -> list[Tensor]:
        """Get a map for each rung, finest first."""
        maps = [self.first(rungs[-1])]
        for halve, narrow, mix, level in zip(self.halve, self.narrow, self.mix, rungs[-2::-1], strict=True):
            maps.append(mix(torch.cat([grown(halve(maps[-1]), level.shape[2:]), narrow(level)], dim=1)))
        return maps[::-1]


class _Sum(nn.Module):
    """A feature pyramid's way: all levels at one width, from the coarsest down, and their sum on the finest."""

    def __init__(self, own: Sequence[int], widths: Sequence[int], *, axes: int, mixed: Mixed) -> None:
        super().__init__()
        width = widths[min(2, len(widths) - 1)]
        self.across = nn.ModuleList(conv(one, width, axes, size=1) for one in own[1:])
        self.mix = nn.ModuleList(mixed(width, width) for _ in own[1:])
        self.end = mixed(width + own[0] if len(own) > 1 else own[0], widths[0])

    def forward(self, rungs: Sequence[Tensor]) -> list[Tensor]:
        """Get one map, as fine as the pixels."""
        if len(rungs) == 1:
            return [self.end(rungs[0])]
        above: Tensor | None = None
        parts: list[Tensor] = []
        for across, mix, level in list(zip(self.across, self.mix, rungs[1:], strict=True))[::-1]:
            here = across(level)
            above = here if above is None else here + grown(above, here.shape[2:])
            parts.append(mix(above))
        finest = parts[-1]
        total = finest
        for part in parts[:-1]:
            total = total + grown(part, finest.shape[2:])
        return [self.end(torch.cat([grown(total, rungs[0].shape[2:]), rungs[0]], dim=1))]


def grown(values: Tensor, shape: Sequence[int]) -> Tensor:
    """Get a map `(N, C, [D,] H, W)` at another resolution, linear between its places."""
    if tuple(values.shape[2:]) == tuple(shape):
        return values
    return F.interpolate(values, size=tuple(shape), mode=_MODES[values.ndim - 2], align_corners=False)


def conv(inside: int, outside: int, axes: int, *, size: int = 3, bias: bool = True) -> nn.Module:
    """Get a convolution of pictures or volumes that keeps the size."""
    kind: Any = nn.Conv2d if axes == 2 else nn.Conv3d
    return cast("nn.Module", kind(inside, outside, size, padding=size // 2, bias=bias))


def block(inside: int, outside: int, *, axes: int, norm: str, size: int = 3) -> nn.Sequential:
    """Get convolution, norm ("group" or "batch") and ReLU."""
    kinds: dict[str, Any] = {"batch": nn.BatchNorm2d if axes == 2 else nn.BatchNorm3d, "group": _grouped}
    return nn.Sequential(
        conv(inside, outside, axes, size=size, bias=False), kinds[norm](outside), nn.ReLU(inplace=True)
    )


def _grouped(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(_GROUPS, channels), channels)


def _steps(stride: int | Sequence[int], axes: int) -> Steps:
    return (stride,) * axes if isinstance(stride, int) else tuple(int(one) for one in stride)
