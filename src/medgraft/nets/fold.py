"""One gray channel through a net made for colour, exactly.

A gray image g goes into an RGB net as three equal channels, each normalised
by its own mean m_c and deviation s_c. With one channel z = (g - m) / s,

    (g - m_c) / s_c = a_c z + b_c,   a_c = s / s_c,   b_c = (m - m_c) / s_c

so the first convolution W becomes sum_c a_c W_c on z, and sum_c b_c W_c on a
channel of ones. The channel of ones is padded with zeros like every other, so
borders are exact too. It is left out where it is not needed: when all b_c are
zero, or when the convolution has no padding and the ones are a bias.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import nn

from medgraft.values import InputSpec


class GrayConv(nn.Module):
    """A convolution that takes gray pixels and adds the channel of ones its weights expect."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, gray: torch.Tensor) -> torch.Tensor:
        """Map `(N, 1, H, W)` as the convolution would map its RGB copy."""
        return self.conv(torch.cat([gray, torch.ones_like(gray)], dim=1))


class Repeat(nn.Module):
    """Copies gray pixels to RGB and renormalises them, for nets whose first layer cannot be folded."""

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, scale: torch.Tensor, shift: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale.view(1, -1, 1, 1))
        self.register_buffer("shift", shift.view(1, -1, 1, 1))

    def forward(self, gray: torch.Tensor) -> torch.Tensor:
        """Map `(N, 1, H, W)` to `(N, 3, H, W)`."""
        return gray * self.scale + self.shift


def gray_spec(spec: InputSpec) -> InputSpec:
    """Get the one-channel spec: the mean of the means and of the deviations."""
    count = len(spec.mean)
    mean, std = sum(spec.mean) / count, sum(spec.std) / count
    return InputSpec(spec.size, 1, (mean,), (std,), spec.interpolation, spec.fixed_size)


def coefficients(spec: InputSpec) -> tuple[torch.Tensor, torch.Tensor]:
    """Get (a, b), float32 of shape (3,): normalised RGB copies are a z + b of the normalised gray z."""
    gray = gray_spec(spec)
    std = torch.tensor(spec.std, dtype=torch.float64)
    a = gray.std[0] / std
    b = (gray.mean[0] - torch.tensor(spec.mean, dtype=torch.float64)) / std
    return a.float(), torch.where(b.abs() < 1e-9, torch.zeros_like(b), b).float()


def fold_first(stem: nn.Module, spec: InputSpec, *, how: str = "") -> tuple[nn.Module, str]:
    """Make the first stage take one channel.

    Args:
        stem: the first stage, `(N, 3, H, W)` in; changed in place where its first convolution can be folded.
        spec: what the net eats, 3 channels.
        how: "folded" or "repeated" as a saved model says; "" folds where a trial shows that it is exact.

    Returns:
        The stem for one channel, and how it was done: "folded" or "repeated". Both give what the RGB copy gives.
    """
    a, b = coefficients(spec)
    found = _first_conv(stem)
    if found is None or how == "repeated":
        return nn.Sequential(Repeat(a, b), stem), "repeated"
    owner, name, conv = found
    folded = _fold(conv, a, b)
    if how == "folded":
        _replace(owner, name, folded)
        return stem, how
    probe = torch.rand(1, 1, *spec.size, generator=torch.Generator().manual_seed(0))
    was = stem.training
    stem.eval()
    with torch.no_grad():
        wanted = stem(probe * a.view(1, 3, 1, 1) + b.view(1, 3, 1, 1))
        _replace(owner, name, folded)
        try:
            got = stem(probe)
            same = got.shape == wanted.shape and bool((got - wanted).abs().max() <= 1e-4 * wanted.abs().max())
        except (RuntimeError, AssertionError, IndexError):
            same = False
    stem.train(was)
    if same:
        return stem, "folded"
    _replace(owner, name, conv)
    return nn.Sequential(Repeat(a, b), stem), "repeated"


def _first_conv(stem: nn.Module) -> tuple[nn.Module, str, nn.Conv2d] | None:
    for path, module in stem.named_modules():
        if isinstance(module, nn.Conv2d):
            if module.in_channels != 3 or module.groups != 1:
                return None
            owner, _, name = path.rpartition(".")
            return stem.get_submodule(owner), name, module
    return None


def _replace(owner: nn.Module, name: str, module: nn.Module) -> None:
    owner._modules[name] = module


def _fold(conv: nn.Conv2d, a: torch.Tensor, b: torch.Tensor) -> nn.Module:
    weight = conv.weight.detach()
    gray = (weight * a.view(1, 3, 1, 1)).sum(1, keepdim=True)
    ones = (weight * b.view(1, 3, 1, 1)).sum(1, keepdim=True)
    new = copy.deepcopy(conv)
    if not bool(b.any()):
        new.in_channels, new.weight = 1, nn.Parameter(gray)
        return new
    # Subclasses pad inside their forward ("same" padding), so only the plain class is known not to pad.
    unpadded = type(conv) is nn.Conv2d and conv.padding in ((0, 0), 0, "valid")
    if unpadded:
        bias = ones.sum((1, 2, 3)) + (0 if conv.bias is None else cast(torch.Tensor, conv.bias).detach())
        new.in_channels, new.weight, new.bias = 1, nn.Parameter(gray), nn.Parameter(bias)
        return new
    new.in_channels, new.weight = 2, nn.Parameter(torch.cat([gray, ones], dim=1))
    return GrayConv(new)
