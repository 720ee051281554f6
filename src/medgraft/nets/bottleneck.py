"""A plain convolutional autoencoder: it draws an image again from the few numbers that it keeps of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn

_GROUPS = 4
_STEPS = 4  # halvings: a cell of the code stands for 16 x 16 pixels


@dataclass(frozen=True)
class BottleneckForm:
    """How it is built.

    Attributes:
        channels: of the image.
        width: channels of the finest map; each coarser one has twice as many.
        code: channels of the coarsest map, all that is kept of the image.
    """

    channels: int = 1
    width: int = 16
    code: int = 32

    @property
    def step(self) -> int:
        """Get what each side of an image must be a multiple of."""
        return 2**_STEPS

    def to_dict(self) -> dict[str, Any]:
        """Get plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BottleneckForm:
        """Read what `to_dict` wrote."""
        return cls(**values)


class Bottleneck(nn.Module):
    """Four halvings to a code of few channels, and as many doublings back.

    Source: the baseline of Baur et al., Med Image Anal 2021;69:101952 (spatial autoencoder).
    """

    def __init__(self, form: BottleneckForm) -> None:
        super().__init__()
        self.form = form
        widths = [form.width * 2**k for k in range(_STEPS)]
        down: list[nn.Module] = []
        before = form.channels
        for width in widths:
            down += [nn.Conv2d(before, width, 4, stride=2, padding=1), nn.GroupNorm(_GROUPS, width), nn.SiLU()]
            before = width
        self.down = nn.Sequential(*down, nn.Conv2d(before, form.code, 1))
        up: list[nn.Module] = [nn.Conv2d(form.code, before, 1)]
        for width in [*widths[-2::-1], widths[0]]:
            up += [nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(before, width, 3, padding=1)]
            up += [nn.GroupNorm(_GROUPS, width), nn.SiLU()]
            before = width
        self.up = nn.Sequential(*up, nn.Conv2d(before, form.channels, 3, padding=1))

    def forward(self, pixels: Tensor) -> Tensor:
        """Get `(N, C, H, W)` drawn again; each side is a multiple of 16."""
        return self.up(self.down(pixels))
