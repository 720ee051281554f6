"""Views: crops of an image under weak changes of light and colour.

Colour says much in medicine, so it is hardly changed: no hue at all. A net
that learns to ignore colour loses on skin and stained tissue.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class View:
    """Views of images.

    Attributes:
        pixels: `(N, 3, size, size)` float32, about 0 to 1.
        masks: `(N, M, size/4, size/4)` from 0 to 1.
        zoom: `(N,)` log of the magnification.
        gray: `(N,)` True where the colour was taken away.
    """

    pixels: Tensor
    masks: Tensor
    zoom: Tensor
    gray: Tensor


def view(
    images: Tensor, masks: Tensor, *, size: int, area: tuple[float, float], gray: float, draw: torch.Generator
) -> View:
    """Get one random view an image, and its masks at a quarter of the size.

    Args:
        images: `(N, 3, S, S)` uint8.
        masks: `(N, M, S/2, S/2)` uint8.
        size: side of the view in pixels.
        area: share of the picture that a crop shows, from and to.
        gray: share of the views without colour.
        draw: random numbers, on the device of the images.
    """
    count = len(images)
    where, zoom = _crops(count, area, draw)
    grid = torch.nn.functional.affine_grid(where, [count, 3, size, size], align_corners=False)
    pixels = torch.nn.functional.grid_sample(images.float() / 255, grid, align_corners=False, padding_mode="reflection")
    coarse = torch.nn.functional.affine_grid(where, [count, 1, size // 4, size // 4], align_corners=False)
    shown = torch.nn.functional.grid_sample(masks.float() / 255, coarse, align_corners=False, padding_mode="reflection")
    colourless = torch.rand(count, generator=draw, device=images.device) < gray
    return View(_lit(pixels, colourless, draw), shown, zoom, colourless)


def _crops(count: int, area: tuple[float, float], draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw crops with any quarter turn, a small turn, and flips: `(N, 2, 3)` matrices, and the log of the zoom."""
    unit = torch.rand(count, 7, generator=draw, device=draw.device)
    side = (area[0] + (area[1] - area[0]) * unit[:, 0]).sqrt()
    aspect = (0.25 * (unit[:, 1] * 2 - 1)).exp()
    width, height = (side * aspect).clamp_max(1), (side / aspect).clamp_max(1)
    turn = (unit[:, 2] * 4).floor() * (torch.pi / 2) + (unit[:, 3] * 2 - 1) * 0.2
    flip = (unit[:, 4] < 0.5).float() * 2 - 1
    c, s = torch.cos(turn), torch.sin(turn)
    # A turned crop reaches this far from its centre, which so stays within the picture where it can.
    across, along = c.abs() * width + s.abs() * height, s.abs() * width + c.abs() * height
    x, y = (unit[:, 5] * 2 - 1) * (1 - across).clamp_min(0), (unit[:, 6] * 2 - 1) * (1 - along).clamp_min(0)
    first = torch.stack([c * width * flip, -s * height, x], -1)
    second = torch.stack([s * width * flip, c * height, y], -1)
    return torch.stack([first, second], 1), -0.5 * (width * height).log()


def _lit(pixels: Tensor, colourless: Tensor, draw: torch.Generator) -> Tensor:
    """Change light, contrast, saturation and noise a little; take the colour away where told."""
    unit = torch.rand(len(pixels), 4, 1, 1, 1, generator=draw, device=pixels.device) * 2 - 1
    mean = pixels.mean((1, 2, 3), keepdim=True)
    pixels = (pixels - mean) * (0.4 * unit[:, 0]).exp() + mean * (1 + 0.25 * unit[:, 1])
    luma = pixels.mean(1, keepdim=True)
    saturation = torch.where(colourless[:, None, None, None], 0.0, 1 + 0.2 * unit[:, 2])
    pixels = luma + (pixels - luma) * saturation
    noise = torch.randn(pixels.shape, generator=draw, device=pixels.device) * 0.02 * (unit[:, 3] + 1)
    return pixels + noise
