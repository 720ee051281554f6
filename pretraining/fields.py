"""Noise with a chosen spectrum, and the coordinates that shapes are drawn in."""

from __future__ import annotations

import torch
from torch import Tensor


def spectral(draw: torch.Generator, *, slope: Tensor, size: int, band: Tensor | None = None, **shape: Tensor) -> Tensor:
    """Draw noise whose amplitude falls as a power of the frequency, or lies in a band.

    Args:
        draw: random numbers, on the device of the result.
        slope: `(N,)` power spectrum |f|^-slope.
        size: S.
        band: `(N,)` centre of a log-gaussian band in cycles a pixel; 0 = the power law instead.
        shape: `stretch` and `turn`, `(N,)`: the spectrum is that many times wider across the angle `turn` (radians).

    Returns:
        `(N, S, S)` float32, mean 0 and variance 1; periodic at the border.
    """
    device, count = slope.device, len(slope)
    fy = torch.fft.fftfreq(size, device=device)[:, None]
    fx = torch.fft.rfftfreq(size, device=device)[None, :]
    if shape:
        c, s = torch.cos(shape["turn"])[:, None, None], torch.sin(shape["turn"])[:, None, None]
        wide = shape["stretch"].sqrt()[:, None, None]
        squared = ((c * fx + s * fy) * wide).square() + ((c * fy - s * fx) / wide).square()
    else:
        squared = (fx.square() + fy.square()).expand(count, -1, -1)
    log_f = 0.5 * squared.clamp_min(1e-8).log()
    gain = -0.5 * slope[:, None, None] * log_f
    if band is not None:
        centre = band[:, None, None]
        in_band = -((log_f - centre.clamp_min(1e-4).log()) / 0.35).square()
        gain = torch.where(centre > 0, in_band, gain)
    gain = (gain - gain.flatten(1).amax(1)[:, None, None]).exp()
    gain[:, 0, 0] = 0
    white = torch.randn(count, size, size, generator=draw, device=device)
    field = torch.fft.irfft2(torch.fft.rfft2(white) * gain, s=(size, size))
    return field / field.flatten(1).std(1).clamp_min(1e-6)[:, None, None]


def smooth(draw: torch.Generator, count: int, *, size: int, cells: int, device: torch.device) -> Tensor:
    """Draw `(N, S, S)` noise that varies over about `1 / cells` of the picture."""
    coarse = torch.randn(count, 1, cells + 3, cells + 3, generator=draw, device=device)
    wide = size * (cells + 3) // cells + 1
    fine = torch.nn.functional.interpolate(coarse, size=(wide, wide), mode="bicubic", align_corners=False)
    return fine[:, 0, wide // 8 : wide // 8 + size, wide // 8 : wide // 8 + size]


def coordinates(size: int, device: torch.device) -> Tensor:
    """Get the centres of pixels, `(S, S, 2)` as (x, y), from -1 to 1."""
    line = (torch.arange(size, device=device) + 0.5) * (2 / size) - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x, y], -1)


def posed(grid: Tensor, *, turn: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Get the coordinates in which a shape stands upright at the centre.

    Args:
        grid: `(S, S, 2)`.
        turn: `(N,)` radians.
        scale: `(N,)`; the shape appears this many times larger.
        shift: `(N, 2)` where its centre goes.

    Returns:
        `(N, S, S, 2)`.
    """
    c, s = torch.cos(turn), torch.sin(turn)
    matrix = torch.stack([torch.stack([c, s], -1), torch.stack([-s, c], -1)], -2) / scale[:, None, None]
    moved = grid[None] - shift[:, None, None, :]
    return torch.einsum("nij,nhwj->nhwi", matrix, moved)
