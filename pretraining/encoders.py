"""The encoders that are trained: timm's architectures, so that their weights open anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Kind:
    """An architecture.

    Attributes:
        architecture: timm's name.
        args: what it is built with beside its name.
        levels: which intermediate outputs are looked at; the last is pooled.
        channels: C of each.
        fixed_size: True when it takes images of one size only.
    """

    architecture: str
    levels: tuple[int, ...]
    channels: tuple[int, ...]
    args: dict[str, Any] = field(default_factory=dict)
    fixed_size: bool = False


ENCODERS = {
    "resnet10t": Kind("resnet10t", (2, 3, 4), (128, 256, 512)),
    "resnet10t_small": Kind("resnet10t", (2, 3, 4), (64, 128, 256), {"channels": (32, 64, 128, 256), "stem_width": 16}),
}


class Encoder(nn.Module):
    """A timm net without its head: pixels -> levels."""

    def __init__(self, kind: Kind, size: int) -> None:
        super().__init__()
        import timm

        more = {"img_size": size} if kind.fixed_size else {}
        self.net = timm.create_model(kind.architecture, pretrained=False, num_classes=0, **kind.args, **more)
        self.kind = kind

    def forward(self, pixels: Tensor) -> Sequence[Tensor]:
        return self.net.forward_intermediates(pixels, indices=list(self.kind.levels), intermediates_only=True)
