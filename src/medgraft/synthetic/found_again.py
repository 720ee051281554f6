"""A real image found again among those that a generator can draw: the style and the noise that come nearest to it.

Written from Karras et al., CVPR 2020, p. 8107, section 5 and appendix D.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medgraft import seeds
from medgraft.generation.features import Features
from medgraft.learn import stopping
from medgraft.nets.stylegan import Generator

_DRAWN = 1000  # styles whose mean is where the search begins
_RATE, _RISE, _FALL = 0.1, 0.05, 0.25  # of Adam, and the shares of the steps in which it rises and falls
_SHAKEN, _UNTIL = 0.05, 0.75  # of the spread of styles, and the share of the steps in which a style is shaken
_WHITE = 1e4  # weight of what keeps noise white
_LEAST = 8  # pixels of the coarsest noise that is kept white


@dataclass(frozen=True, eq=False)
class FoundAgain:
    """What came nearest.

    Attributes:
        style: `(latent,)` float32.
        noises: `(side, side)` float32 each: one over a Gaussian, else one a layer.
        image: `(C, side, side)` float32 in -1..1.
        kind: class whose mean style the search began with.
        features: distance to the image in features, at the beginning and at the end.
        pixels: root mean squared distance of pixels as a share of white, likewise.
    """

    style: np.ndarray
    noises: list[np.ndarray]
    image: np.ndarray
    kind: int
    features: tuple[float, float]
    pixels: tuple[float, float]


@dataclass(frozen=True)
class Search:
    """How it is searched.

    Attributes:
        steps: how many.
        seed: of all draws.
        kinds: classes whose mean style it may begin with; the nearest is taken.
    """

    steps: int = 300
    seed: int = 0
    kinds: tuple[int, ...] = (0,)


def find_again(maker: Generator, features: Features, image: np.ndarray, *, search: Search, name: str) -> FoundAgain:
    """Get the style and noise whose image comes nearest to a given one, by features and pixels together.

    One style for all layers. The same for the same seed and name, in whatever company.

    Args:
        maker: frozen, in eval mode.
        features: what images are compared by.
        image: `(C, side, side)` float32 in -1..1.
        search: how.
        name: what the draws depend on beside the seed, such as a hash of the image.
    """
    device = next(maker.parameters()).device
    target = torch.from_numpy(np.asarray(image, np.float32))[None].to(device)
    with torch.no_grad():
        wanted = [_unit(level) for level in features.levels(target)]
    styles, spreads = zip(*(_usual(maker, kind, search.seed) for kind in search.kinds), strict=True)
    dice = seeds.generator(search.seed, "project", 0, name)
    noises = [torch.from_numpy(dice.standard_normal(shape, np.float32)) for shape in maker.noise_shapes(1)]
    noises = [_white(one.to(device)) for one in noises]
    near = [_distances(maker, features, (style, noises), target, wanted) for style in styles]
    first = int(np.argmin([float((one[1] + one[2]).detach()) for one in near]))
    style = styles[first].clone().requires_grad_()
    noises = [one.requires_grad_() for one in noises]
    optimiser = torch.optim.Adam([style, *noises], lr=_RATE, betas=(0.9, 0.999))
    for step in range(search.steps):
        stopping.check()
        share = step / search.steps
        for group in optimiser.param_groups:
            group["lr"] = _RATE * _rate(share)
        size = _SHAKEN * spreads[first] * max(0.0, 1 - share / _UNTIL) ** 2
        shake = seeds.generator(search.seed, "project", step + 1, name).standard_normal(style.shape, np.float32)
        shaken = style + size * torch.from_numpy(shake).to(device)
        _, apart, square = _distances(maker, features, (shaken, noises), target, wanted)
        loss = apart + square + _WHITE * sum((_colour(one) for one in noises), torch.zeros((), device=device))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            for one in noises:
                one.copy_(_white(one))
    ends = _distances(maker, features, (style, noises), target, wanted)
    return FoundAgain(
        style=style.detach()[0].cpu().numpy(),
        noises=[one.detach()[0, 0].cpu().numpy() for one in noises],
        image=ends[0].detach()[0].clamp(-1, 1).cpu().numpy(),
        kind=search.kinds[first],
        features=(float(near[first][1].detach()), float(ends[1].detach())),
        pixels=(_of_white(near[first][0], target), _of_white(ends[0], target)),
    )


def drawn_of(maker: Generator, style: np.ndarray, noises: Sequence[np.ndarray]) -> np.ndarray:
    """Get the image `(C, side, side)` in -1..1 of a style and its noises, as they were found."""
    device = next(maker.parameters()).device
    maps = [torch.from_numpy(one)[None, None].to(device) for one in noises]
    with torch.no_grad():
        return maker.drawn(torch.from_numpy(style)[None].to(device), maps)[0].clamp(-1, 1).cpu().numpy()


def _usual(maker: Generator, kind: int, seed: int) -> tuple[Tensor, float]:
    """The mean `(1, latent)` of many styles of a class, and how far they lie from it."""
    device, form = next(maker.parameters()).device, maker.form
    z = seeds.generator(seed, "usual", kind).standard_normal((_DRAWN, form.latent), np.float32)
    kinds = torch.full((_DRAWN,), kind, device=device) if form.classes else None
    with torch.no_grad():
        styles = maker.styled(torch.from_numpy(z).to(device), kinds)
    mean = styles.mean(dim=0, keepdim=True)
    return mean, float((styles - mean).square().sum(dim=1).mean().sqrt())


def _distances(
    maker: Generator, features: Features, given: tuple[Tensor, list[Tensor]], target: Tensor, wanted: list[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """The image, its distance in features, and its mean squared distance in pixels."""
    made = maker.drawn(*given)
    levels = [_unit(level) for level in features.levels(made)]
    apart = [(one - two).square().sum(dim=1).mean() for one, two in zip(levels, wanted, strict=True)]
    return made, torch.stack(apart).mean(), F.mse_loss(made, target)


def _unit(level: Tensor) -> Tensor:
    """Features of length one at each place: each level then counts alike (Zhang et al., CVPR 2018, p. 586)."""
    return level * (level.square().sum(dim=1, keepdim=True) + 1e-10).rsqrt()


def _of_white(made: Tensor, target: Tensor) -> float:
    """The root mean squared distance of what is written, as a share of white."""
    return math.sqrt(float(F.mse_loss(made.detach().clamp(-1, 1), target))) / 2


def _rate(share: float) -> float:
    falling = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - share) / _FALL))
    return falling * min(1.0, (share + 1e-3) / _RISE)


def _white(noise: Tensor) -> Tensor:
    """Noise of mean zero and variance one."""
    return (noise - noise.mean()) * (noise.var(correction=0) + 1e-12).rsqrt()


def _colour(noise: Tensor) -> Tensor:
    """How much neighbours in noise know of each other, at all its resolutions; an image could be hidden there."""
    found = torch.zeros((), device=noise.device)
    while noise.shape[-1] >= _LEAST:
        for axis in (2, 3):
            found = found + (noise * noise.roll(1, dims=axis)).mean().square()
        noise = F.avg_pool2d(noise, 2) * 2
    return found
