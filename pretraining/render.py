"""Programs -> images, with the masks and the numbers that made them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pretraining.fields import coordinates, posed, smooth, spectral
from pretraining.numbers import measured, of_program
from pretraining.programs import Programs
from pretraining.shapes import draw_masks

MASKS = ("first", "second", "rim", "field")
_JITTERED = ("size", "count", "edge", "oval", "amplitude", "pitch", "width")


@dataclass(frozen=True)
class Rendered:
    """Images of programs.

    Attributes:
        images: `(N, 3, S, S)` float32 from 0 to 1.
        masks: `(N, 4, S, S)` float32 from 0 to 1, in the order of MASKS.
        numbers: `(N, K)` float32, what the generator knows of each image, in the order of `numbers.NUMBERS`;
            NaN where it has no meaning for this program.
    """

    images: Tensor
    masks: Tensor
    numbers: Tensor


def render(programs: Programs, *, size: int, draw: torch.Generator) -> Rendered:
    """Draw one image a program row; the same row gives another image of its kind each time.

    Args:
        programs: N rows, on the device of `draw`.
        size: S in pixels.
        draw: everything random comes from it.
    """
    p = jittered(programs, draw)
    first, second, scale = two_masks(p, size=size, draw=draw)
    rim = _rim(first, p["rim"])
    layers = torch.stack([torch.ones_like(first), first, torch.maximum(second, 0.7 * rim)], 1)
    images, drawn = coloured(layers, p, draw)
    images, field, taken = photographed(images, p, draw)
    # What lies outside the field of view cannot be seen.
    masks = torch.stack([first * field, second * field, rim * field, field], 1)
    numbers = torch.cat([of_program(p, scale), drawn, taken, measured(masks)], 1)
    return Rendered(images, masks, numbers)


def jittered(programs: Programs, draw: torch.Generator) -> dict[str, Tensor]:
    """Get the parameters of one image a program, each a little off the program's own."""
    p = dict(programs.values)
    for name in _JITTERED:
        noise = torch.randn(p[name].shape, generator=draw, device=draw.device)
        p[name] = p[name] * (1 + 0.08 * noise).clamp(0.7, 1.3)
    return p


def two_masks(p: dict[str, Tensor], *, size: int, draw: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Get the two masks of each image, `(N, S, S)` each, and the log of their magnification `(N,)`."""
    at, scale = _pose(p, coordinates(size, draw.device), draw)
    first = draw_masks(p["family"][:, 0], _of_mask(p, 0), at[:, 0], draw)
    second = draw_masks(p["family"][:, 1], _of_mask(p, 1), at[:, 1], draw)
    first, second = _warped(torch.stack([first, second], 1), p["warp"], draw).unbind(1)
    place = p["place"][:, None, None]
    return first, second * torch.where(place == 1, first, torch.where(place == 2, 1 - first, 1.0)), scale


def _of_mask(p: dict[str, Tensor], which: int) -> dict[str, Tensor]:
    """Get the parameters of one of the two masks."""
    own = ("size", "count", "fill", "edge", "oval", "waves", "amplitude", "rings", "slope", "pitch", "level", "width")
    values = {name: p[name][:, which] for name in (*own, "bend")}
    parts = ("map_turn", "map_size", "map_shift", "map_flip", "part_place", "part_size", "part_turn", "part_value")
    return values | {name: p[name] for name in parts}


def _pose(p: dict[str, Tensor], grid: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Place the two masks: `(N, 2, S, S, 2)`, and the log of their magnification `(N,)`."""
    count, device = len(p["upright"]), draw.device
    whole_turn = torch.where(p["upright"] > 0, 0.15, torch.pi)
    turn = (torch.rand(count, generator=draw, device=device) * 2 - 1) * whole_turn
    scale = (torch.randn(count, generator=draw, device=device) * 0.1).exp()
    shift = torch.randn(count, 2, generator=draw, device=device) * torch.where(p["upright"] > 0, 0.08, 0.2)[:, None]
    apart = 0.3 * torch.randn(count, 2, generator=draw, device=device)
    first = posed(grid, turn=turn, scale=scale, shift=shift)
    second = posed(grid, turn=turn, scale=scale, shift=shift + apart)
    return torch.stack([first, second], 1), scale.log()


def _warped(masks: Tensor, strength: Tensor, draw: torch.Generator) -> Tensor:
    """Bend masks by smooth noise: `strength` is the displacement in half pictures."""
    count, _, size, _ = masks.shape
    push = smooth(draw, 2 * count, size=size, cells=5, device=masks.device).view(count, 2, size, size)
    where = coordinates(size, masks.device)[None] + (push * strength[:, None, None, None]).permute(0, 2, 3, 1)
    return torch.nn.functional.grid_sample(masks, where, align_corners=False, padding_mode="border")


def _rim(mask: Tensor, width: Tensor) -> Tensor:
    """A band of `width` half pictures, about, around the edge of a mask; nothing where the width is 0."""
    solid = (mask > 0.5).float()[:, None]
    bands = []
    for share in (0.015, 0.06):  # the narrowest and the widest
        reach = max(1, round(share * mask.shape[-1]))
        soft = torch.nn.functional.avg_pool2d(solid, 2 * reach + 1, 1, reach, count_include_pad=False)[:, 0]
        bands.append(4 * soft * (1 - soft))
    wide = ((width - 0.05) / 0.25).clamp(0, 1)[:, None, None]
    return torch.lerp(*bands, wide) * (width > 0)[:, None, None]


def coloured(layers: Tensor, p: dict[str, Tensor], draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Lay textured colours on one another, or let stains absorb light (Beer-Lambert).

    Args:
        layers: `(N, L, S, S)`, the ground first; each hides what is below it by its value.
        p: L textures and colours an image.
        draw: random numbers.

    Returns:
        images `(N, 3, S, S)` and the numbers of colour `(N, 4 L)`.
    """
    count, depth, size, _ = layers.shape
    device, flat = layers.device, p["alpha"].reshape(-1)
    band = (p["band"] * p["banded"]).reshape(-1) * (96 / size)
    turn = p["grain_turn"].reshape(-1)
    noise = spectral(draw, slope=flat, size=size, band=band, stretch=p["stretch"].reshape(-1), turn=turn)
    texture = _curved(noise, p["curve"].reshape(-1), p["gain"].reshape(-1)).view(count, depth, size, size)
    shift = torch.randn(count, depth, 3, generator=draw, device=device) * torch.tensor([1.0, 0.4, 0.4], device=device)
    common = torch.randn(count, depth, 1, generator=draw, device=device)
    amount = torch.where(p["mode"] == 0, 0.0, 0.04)[:, None, None]
    colour = p["colour"] + amount * shift + 0.05 * common
    quiet = torch.stack([1 - 0.8 * p["empty"]] + [torch.ones_like(p["empty"])] * (depth - 1), 1)
    contrast = p["contrast"] * quiet * (0.2 * torch.randn(count, depth, generator=draw, device=device)).exp()
    image = torch.zeros(count, 3, size, size, device=device)
    for k in range(depth):
        own = (
            colour[:, k, :, None, None]
            + (contrast[:, k, None] * p["direction"][:, k])[:, :, None, None] * texture[:, k : k + 1]
        )
        image = torch.lerp(image, own, layers[:, k : k + 1])
    stained = torch.exp(-image.clamp_min(0) * 1.6)
    image = torch.where((p["mode"] == 2)[:, None, None, None], stained, image)
    return image, torch.cat([colour.flatten(1), contrast], 1)


def _curved(noise: Tensor, curve: Tensor, gain: Tensor) -> Tensor:
    """Bend noise by a point function, to mean 0 and variance 1 again."""
    x, which = noise * gain[:, None, None], curve[:, None, None]
    bent = torch.where(which == 1, -x.abs(), noise)
    bent = torch.where(which == 2, torch.sin(2 * x), bent)
    bent = torch.where(which == 3, torch.tanh(2 * x), bent)
    bent = torch.where(which == 4, x.clamp_max(3).exp(), bent)
    bent = bent - bent.mean((1, 2), keepdim=True)
    return bent / bent.flatten(1).std(1).clamp_min(1e-6)[:, None, None]


def photographed(image: Tensor, p: dict[str, Tensor], draw: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Light, blur, field of view, speckle and noise: (images, field of view, numbers)."""
    count, _, size, _ = image.shape
    device = image.device
    spread = torch.randn(count, 4, generator=draw, device=device)
    light = p["light"] * (0.5 + spread[:, 0].abs() * 0.5)
    shade = smooth(draw, count, size=size, cells=2, device=device)[:, None] * light[:, None, None, None]
    image = image * (1 + shade).clamp(0.2, 1.8)
    blur = p["blur"] * (0.3 * spread[:, 1]).exp()
    image = _blurred(image, blur)
    grid = coordinates(size, device)
    radius = p["field_size"] * (1 + 0.04 * spread[:, 2])
    disc = torch.sigmoid((radius[:, None, None] - grid.norm(dim=-1)[None]) / 0.01)
    field = torch.where((p["field"] == 0)[:, None, None], torch.ones_like(disc), disc)
    speckle = p["speckle"] * (0.2 * spread[:, 3]).exp()
    grain = torch.randn(count, 1, size, size, generator=draw, device=device)
    image = image * (1 + speckle[:, None, None, None] * grain)
    outside = (p["field"] == 2).float()[:, None, None, None]
    image = torch.lerp(outside.expand_as(image), image, field[:, None])
    gray_noise = torch.randn(count, 1, size, size, generator=draw, device=device)
    own_noise = torch.randn(count, 3, size, size, generator=draw, device=device)
    coloured = (p["mode"] > 0).float()[:, None, None, None]
    image = image + p["noise"][:, None, None, None] * torch.lerp(
        gray_noise.expand_as(own_noise), own_noise, 0.5 * coloured
    )
    taken = torch.stack([light, blur.log(), radius, speckle, p["noise"].log()], 1)
    taken[:, 2] = torch.where(p["field"] == 0, torch.nan, taken[:, 2].log())
    return image.clamp(0, 1), field, taken


def _blurred(image: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur, sigma in pixels of a 96-pixel picture, periodic at the border."""
    size = image.shape[-1]
    fy = torch.fft.fftfreq(size, device=image.device)[:, None]
    fx = torch.fft.rfftfreq(size, device=image.device)[None, :]
    pixels = sigma[:, None, None] * (size / 96)
    gain = torch.exp(-2 * (torch.pi * pixels).square() * (fx.square() + fy.square()))
    return torch.fft.irfft2(torch.fft.rfft2(image) * gain[:, None], s=(size, size))
