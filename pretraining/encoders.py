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
        sized: True when it is built for one size of images, though it takes others.
    """

    architecture: str
    levels: tuple[int, ...]
    channels: tuple[int, ...]
    args: dict[str, Any] = field(default_factory=dict)
    sized: bool = False


VIT = {
    "patch_size": 8, "depth": 6, "class_token": False, "global_pool": "avg", "fc_norm": False, "dynamic_img_size": True
}  # fmt: skip
ENCODERS = {
    "resnet10t": Kind("resnet10t", (2, 3, 4), (128, 256, 512)),
    "resnet10t_small": Kind("resnet10t", (2, 3, 4), (64, 128, 256), {"channels": (32, 64, 128, 256), "stem_width": 16}),
    # Patches of 8 pixels, as views are small; no class token, so that every token is a place.
    "vit": Kind("vit_tiny_patch16_224", (1, 3, 5), (192, 192, 192), VIT, sized=True),
}


class Encoder(nn.Module):
    """A timm net without its head: pixels -> levels."""

    def __init__(self, kind: Kind, size: int) -> None:  # size: of the views, in pixels
        super().__init__()
        import timm

        more = {"img_size": size} if kind.sized else {}
        self.net = timm.create_model(kind.architecture, pretrained=False, num_classes=0, **kind.args, **more)
        self.kind = kind

    def forward(self, pixels: Tensor) -> Sequence[Tensor]:
        return self.net.forward_intermediates(pixels, list(self.kind.levels), norm=True, intermediates_only=True)
