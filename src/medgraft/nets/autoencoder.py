"""An autoencoder that folds images or volumes into small latents, so that what draws has less to draw.

Source: Kingma and Welling, ICLR 2014 (the Gaussian code and its Kullback-Leibler term); drawing in the latents of such
    a net: Rombach et al., CVPR 2022, p. 10674; of volumes: Khader et al., Sci Rep 2023;13:7303.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

_GROUPS = 8
_KEPT = 17  # maps of each resolution that are kept for the way back; measured
_LEAST, _MOST = -20.0, 10.0  # logarithms of a variance; beyond them exp() is no number


@dataclass(frozen=True)
class CoderForm:
    """How the net is built.

    Attributes:
        axes: 2 or 3.
        channels: of the image.
        width: channels at the finest resolution; each coarser one has twice as many, up to four times as many.
        latent: numbers at each place of a latent.
        step: pixels along each axis that one place stands for, a power of two.
    """

    axes: int = 2
    channels: int = 1
    width: int = 16
    latent: int = 4
    step: int = 4

    @property
    def widths(self) -> list[int]:
        """Get the channels at each resolution, the finest first."""
        return [self.width * min(4, 2**level) for level in range(int(math.log2(self.step)) + 1)]

    def places(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Get the shape of the latent of an image of `(C, [D,] H, W)`."""
        return (self.latent, *(side // self.step for side in shape[1:]))

    def to_dict(self) -> dict[str, Any]:
        """Get plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CoderForm:
        """Read what `to_dict` wrote."""
        return cls(**values)


class Autoencoder(nn.Module):
    """Images `(N, C, [D,] H, W)` in -1..1 to latents and back.

    Attributes:
        centre: `(latent,)` the mean of each number of the latents of the training, taken from them.
        scale: `(latent,)` their standard deviation, which they are divided by: what draws them finds variance one.
        again: True computes maps again on the way back, as of a `Denoiser`.
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, form: CoderForm) -> None:
        super().__init__()
        self.form, self.again = form, False
        conv = nn.Conv2d if form.axes == 2 else nn.Conv3d
        widths = form.widths
        down: list[nn.Module] = [conv(form.channels, widths[0], 3, padding=1)]
        for width, wider in zip(widths, widths[1:], strict=False):
            down += [_Block(conv, width), conv(width, wider, 3, stride=2, padding=1)]
        down += [_Block(conv, widths[-1]), _ready(widths[-1]), conv(widths[-1], 2 * form.latent, 3, padding=1)]
        up: list[nn.Module] = [conv(form.latent, widths[-1], 3, padding=1), _Block(conv, widths[-1])]
        for wider, width in zip(widths[::-1], widths[-2::-1], strict=False):
            up += [nn.Upsample(scale_factor=2.0, mode="nearest"), conv(wider, width, 3, padding=1), _Block(conv, width)]
        up += [_ready(widths[0]), conv(widths[0], form.channels, 3, padding=1)]
        self.down, self.up = nn.Sequential(*down), nn.Sequential(*up)
        self.register_buffer("centre", torch.zeros(form.latent))
        self.register_buffer("scale", torch.ones(form.latent))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Get mean and logarithm of the variance of the raw latents, `(N, latent, [d,] h, w)` each."""
        mean, spread = self._through(self.down, images).chunk(2, dim=1)
        return mean, spread.float().clamp(_LEAST, _MOST)

    def raw_back(self, latents: Tensor) -> Tensor:
        """Get the images of raw latents."""
        return self._through(self.up, latents)

    def folded(self, images: Tensor) -> Tensor:
        """Get the latents of images, of mean zero and variance one over the training: always the same ones."""
        mean = self(images)[0].float()
        return (mean - self._each(self.centre, mean)) / self._each(self.scale, mean)

    def unfolded(self, latents: Tensor) -> Tensor:
        """Get the images of latents as `folded` gives them."""
        return self.raw_back(latents * self._each(self.scale, latents) + self._each(self.centre, latents))

    def _through(self, parts: nn.Sequential, x: Tensor) -> Tensor:
        for part in parts:
            spares = self.again and self.training and torch.is_grad_enabled() and isinstance(part, _Block)
            x = checkpoint(part, x, use_reentrant=False) if spares else part(x)  # type: ignore[assignment]
        return x

    def _each(self, values: Tensor, like: Tensor) -> Tensor:
        return values.view(1, -1, *(1,) * (like.ndim - 2))


class _Block(nn.Module):
    """Two convolutions beside a way around."""

    def __init__(self, conv: Any, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            _ready(width), conv(width, width, 3, padding=1), _ready(width), conv(width, width, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


def _ready(width: int) -> nn.Module:
    return nn.Sequential(nn.GroupNorm(math.gcd(width, _GROUPS), width), nn.SiLU())


def coder_bytes(form: CoderForm, shape: tuple[int, ...], *, batch: int) -> int:
    """Get how many bytes of float32 maps a step keeps for the way back, about; under a half with `Autoencoder.again`.

    Args:
        form: of the net.
        shape: `([D,] H, W)` of an image.
        batch: images of a step.
    """
    maps = sum(width * math.prod(shape) / 2 ** (form.axes * level) for level, width in enumerate(form.widths))
    return int(4 * batch * maps * _KEPT)


def gaussian_excess(mean: Tensor, spread: Tensor) -> Tensor:
    """Get how far Gaussian codes are from the standard one: the mean of their Kullback-Leibler divergence, in nats.

    Args:
        mean: of any shape.
        spread: logarithm of the variance, in the same one.

    Source: Kingma and Welling, ICLR 2014, appendix B.
    """
    return 0.5 * (mean.float().square() + spread.exp() - 1 - spread).mean()


def code_loss(said: Tensor, images: Tensor, *, mean: Tensor, spread: Tensor, weight: float) -> Tensor:
    """Get the mean absolute error of what came back, and `weight` times the excess of the codes."""
    return F.l1_loss(said.float(), images.float()) + weight * gaussian_excess(mean, spread)
