"""Changes of images that a discriminator sees, real and generated alike, each with a chance that adapts to overfitting.

They can be undone in distribution as long as their chance is below one, so a generator does not learn to draw them.
Gradients pass through.

Source: Karras et al., "Training generative adversarial networks with limited data", NeurIPS 2020;33:12104, appendix B
    (its groups of pixel moves, geometry and colour).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_SCALE, _STRETCH, _SHIFT = 0.2 * math.log(2), 0.2 * math.log(2), 0.125  # standard deviations; of log2 as in the paper
_LIGHT, _CONTRAST, _COLOUR = 0.2, 0.5 * math.log(2), math.log(2)
_WHOLE = 0.125  # of the side, moves by whole pixels


def changed(images: Tensor, chance: float | Tensor, *, turns: bool = True, mirror: bool = True) -> Tensor:
    """Get images `(N, C, H, W)` of -1..1, about, each changed by chance; draws from torch's own numbers.

    Args:
        images: squares.
        chance: of each change, 0 to below 1.
        turns: whether quarter turns are among them; of images that have an upper side they are left out.
        mirror: whether mirrors are among them.
    """
    moved = _moved(images, chance, turns=turns, mirror=mirror)
    return _coloured(moved, chance)


def _moved(images: Tensor, chance: float | Tensor, *, turns: bool, mirror: bool) -> Tensor:
    count, side = len(images), images.shape[-1]
    to = {"device": images.device, "dtype": torch.float32}
    back = torch.eye(3, **to).repeat(count, 1, 1)

    def lucky() -> Tensor:
        return torch.rand(count, **to) < chance

    if mirror:
        back = _scaled(back, torch.where(lucky() & (torch.rand(count, **to) < 0.5), -1.0, 1.0), torch.ones(count, **to))
    if turns:
        quarters = torch.randint(4, (count,), device=images.device) * lucky()
        back = _turned(back, quarters * (math.pi / 2))
    steps = torch.round((torch.rand(count, 2, **to) * 2 - 1) * _WHOLE * side) * lucky()[:, None]
    back = _shifted(back, 2 * steps / side)
    size = torch.exp(torch.randn(count, **to) * _SCALE * lucky())
    back = _scaled(back, size, size)
    # A turn before and one after the stretch, together with the chance that either gives.
    half = 1 - (1 - torch.as_tensor(chance, **to)).clamp_min(0).sqrt()
    angle = (torch.rand(count, **to) * 2 - 1) * math.pi
    back = _turned(back, angle * (torch.rand(count, **to) < half) * float(turns))
    wide = torch.exp(torch.randn(count, **to) * _STRETCH * lucky())
    back = _scaled(back, wide, 1 / wide)
    angle = (torch.rand(count, **to) * 2 - 1) * math.pi
    back = _turned(back, angle * (torch.rand(count, **to) < half) * float(turns))
    back = _shifted(back, 2 * torch.randn(count, 2, **to) * _SHIFT * lucky()[:, None])
    grid = F.affine_grid(back[:, :2].to(images.dtype), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _scaled(back: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return back @ torch.diag_embed(torch.stack([x, y, torch.ones_like(x)], dim=1))


def _turned(back: Tensor, angle: Tensor) -> Tensor:
    cos, sin, none, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    return back @ torch.stack([cos, -sin, none, sin, cos, none, none, none, one], dim=1).view(-1, 3, 3)


def _shifted(back: Tensor, by: Tensor) -> Tensor:
    moved = torch.eye(3, device=by.device).repeat(len(by), 1, 1)
    moved[:, :2, 2] = by
    return back @ moved


def _coloured(images: Tensor, chance: float | Tensor) -> Tensor:
    count, channels = images.shape[:2]
    to = {"device": images.device, "dtype": images.dtype}

    def draw(spread: float) -> Tensor:
        lucky = torch.rand(count, **to) < chance
        return (torch.randn(count, **to) * spread * lucky)[:, None, None, None]

    light, contrast = draw(_LIGHT), torch.exp(draw(_CONTRAST))
    images = images * contrast + light
    if channels == 3:
        gray = images.mean(dim=1, keepdim=True)
        images = gray + (images - gray) * torch.exp(draw(_COLOUR))
        images = _hued(images, (torch.rand(count, **to) * 2 - 1) * math.pi * (torch.rand(count, **to) < chance))
    return images


def _hued(images: Tensor, angle: Tensor) -> Tensor:
    """Turn colours around the gray axis (Rodrigues)."""
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    flat = torch.full((1, 3, 3), 1 / 3, device=images.device, dtype=images.dtype)
    skew = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=images.device, dtype=images.dtype) / math.sqrt(3)
    turn = cos * torch.eye(3, device=images.device, dtype=images.dtype) + (1 - cos) * flat + sin * skew
    return torch.einsum("nij,njhw->nihw", turn, images)
