"""What real and drawn images are compared by: pooled features of an encoder that neither was learnt with."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgraft.nets.backbone import Backbone, backbone

EMBEDDED = "embedded:resnet10t"
_LEAST = 96  # pixels that an encoder is shown, at least
_AT_ONCE = 64


class Features(nn.Module):
    """Images of -1..1 to features, by the means of an encoder's last level.

    Of a volume its three middle planes are looked at, and their features stand side by side.

    Args:
        name: of the encoder, as anywhere.
        channels: of the images.
        offline: never open a connection.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str = EMBEDDED, *, channels: int, offline: bool = False) -> None:
        super().__init__()
        self.net: Backbone = backbone(name, channels=channels, image_size=_LEAST, offline=offline)
        self.name = self.net.name
        self.eval().requires_grad_(False)
        shape = (1, -1, 1, 1)
        self.register_buffer("mean", torch.tensor(self.net.spec.mean[:channels]).view(shape))
        self.register_buffer("std", torch.tensor(self.net.spec.std[:channels]).view(shape))

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Get `(N, D)` of `(N, C, H, W)`, or `(N, 3 D)` of `(N, C, D, H, W)`."""
        if images.ndim == 5:
            middle = [side // 2 for side in images.shape[2:]]
            planes = (images[:, :, middle[0]], images[:, :, :, middle[1]], images[:, :, :, :, middle[2]])
            return torch.cat([self(plane) for plane in planes], dim=1)
        return self.levels(images)[-1].mean(dim=(2, 3))

    def levels(self, images: Tensor) -> list[Tensor]:
        """Get the levels of flat images `(N, C, H, W)`, each `(N, K, h, w)`; gradients flow back to the images."""
        grow = max(1.0, _LEAST / min(images.shape[2:]))
        size = [round(side * grow) for side in images.shape[2:]]
        shown = (
            F.interpolate(images.float(), size=size, mode="bilinear", antialias=True) if grow > 1 else images.float()
        )
        pixels = ((shown.clamp(-1, 1) + 1) / 2 - self.mean) / self.std
        return self.net(pixels)


def features_of(net: Features, images: Iterable[np.ndarray]) -> np.ndarray:
    """Get features `(N, D)` float64 of images `(C, [D,] H, W)` float32 in -1..1, some at a time."""
    device = next(net.parameters()).device
    rows: list[np.ndarray] = []
    held: list[np.ndarray] = []

    def flush() -> None:
        if held:
            rows.append(net(torch.from_numpy(np.stack(held)).to(device)).double().cpu().numpy())
            held.clear()

    for image in images:
        held.append(image)
        if len(held) == _AT_ONCE:
            flush()
    flush()
    return np.concatenate(rows) if rows else np.zeros((0, 1))
