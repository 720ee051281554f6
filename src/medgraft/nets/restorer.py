"""A small U-Net that foretells an image by another, and the spots that are hidden from it while it learns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EVERY = 2  # along each axis: one pixel in so many is hidden
GRIDS = EVERY * EVERY
_SLOPE = 0.1


@dataclass(frozen=True)
class RestorerForm:
    """How a net is built.

    Attributes:
        widths: channels at each resolution, the finest first; each is half as fine as the one before.
    """

    widths: tuple[int, ...] = (24, 48, 96)

    @property
    def step(self) -> int:
        """Get what each side of an image must be a multiple of."""
        return 2 ** (len(self.widths) - 1)

    def to_dict(self) -> dict[str, Any]:
        """Get plain JSON values."""
        return {**asdict(self), "widths": list(self.widths)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RestorerForm:
        """Read what `to_dict` wrote."""
        return cls(tuple(values["widths"]))


class Restorer(nn.Module):
    """A U-Net without norms, so that what it says of a pixel depends on the surroundings alone, not on the window.

    There is no way around from the first to the last layer: a pixel that could be passed on unchanged would be.

    Where it becomes coarser means are taken, not maxima, which leave chequered patterns.

    Source: Ronneberger et al., MICCAI 2015; LNCS 9351:234.
    """

    def __init__(self, form: RestorerForm) -> None:
        super().__init__()
        self.form = form
        widths = form.widths
        self.down = nn.ModuleList(_pair(before, width) for before, width in zip((1, *widths), widths, strict=False))
        self.up = nn.ModuleList(_pair(widths[k + 1] + widths[k], widths[k]) for k in reversed(range(len(widths) - 1)))
        self.last = nn.Conv2d(widths[0], 1, 1)
        for one in self.modules():
            if isinstance(one, nn.Conv2d):
                nn.init.kaiming_normal_(one.weight, a=_SLOPE)
                nn.init.zeros_(one.bias)  # type: ignore[arg-type]

    def forward(self, noisy: Tensor) -> Tensor:
        """Get `(N, 1, H, W)` of the same; each side a multiple of `form.step`."""
        x, kept = noisy, []
        for level, part in enumerate(self.down):
            x = part(F.avg_pool2d(x, 2) if level else x)
            kept.append(x)
        kept.pop()
        for part in self.up:
            x = part(torch.cat([F.interpolate(x, scale_factor=2.0, mode="nearest"), kept.pop()], dim=1))
        return self.last(x)


def _pair(before: int, width: int) -> nn.Module:
    first, second = nn.Conv2d(before, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
    return nn.Sequential(first, nn.LeakyReLU(_SLOPE), second, nn.LeakyReLU(_SLOPE))


def hidden(pixels: Tensor, phases: Tensor) -> tuple[Tensor, Tensor]:
    """Get images `(N, 1, H, W)` in which every fourth pixel has the mean of its four neighbours, and where, bool.

    The neighbours of a hidden pixel are all shown, so that nothing in the image knows its value any more.

    Args:
        pixels: noisy images.
        phases: `(N,)` of 0 to 3, which of the four grids is hidden in each; all four together hide every pixel once.

    Source: Krull, Buchholz and Jug, CVPR 2019, p. 2129 (blind spots); Batson and Royer, ICML 2019, p. 524 (grids, and
        means of neighbours).
    """
    phases = phases.to(pixels.device)
    rows, columns = (
        torch.arange(side, device=pixels.device)[None] % EVERY == at[:, None]
        for side, at in zip(pixels.shape[2:], (phases // EVERY, phases % EVERY), strict=True)
    )
    spots = (rows[:, :, None] & columns[:, None])[:, None]
    wide = F.pad(pixels, (1, 1, 1, 1), mode="reflect")
    around = (wide[..., :-2, 1:-1] + wide[..., 2:, 1:-1] + wide[..., 1:-1, :-2] + wide[..., 1:-1, 2:]) / 4
    return torch.where(spots, around, pixels), spots


def shapes(form: RestorerForm, shape: Sequence[int]) -> tuple[int, ...]:
    """Get the smallest shape that holds another one and that the net takes."""
    return tuple(-(-side // form.step) * form.step for side in shape)
