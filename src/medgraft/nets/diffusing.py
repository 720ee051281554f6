"""The way from an image to noise and back: schedule, targets, and three ways of going back.

Times are continuous, 0 the image and 1 the noise: `x_t = alpha_t x_0 + sigma_t eps` with `alpha_t^2 + sigma_t^2 = 1`.
A net says `v = alpha_t eps - sigma_t x_0`, from which image and noise follow.

Source: Ho et al., NeurIPS 2020;33:6840; cosine schedule of Nichol and Dhariwal, ICML 2021, p. 8162; v of Salimans and
    Ho, ICLR 2022.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

SAMPLERS = ("ddpm", "ddim", "dpm")
_LEAST_SNR, _MOST_SNR = -10.0, 10.0  # logarithms; beyond them nothing is left of the image, or of the noise
_LOW, _HIGH = math.atan(math.exp(-0.5 * _MOST_SNR)), math.atan(math.exp(-0.5 * _LEAST_SNR))
Says = Callable[[Tensor, Tensor], Tensor]  # (x_t, t) -> v


def log_snr(time: Tensor, *, side: int = 64) -> Tensor:
    """Get the logarithm of the signal-to-noise ratio of a time, float32.

    More noise at the same time for larger images, whose neighbouring pixels tell more of each other.

    Args:
        time: in 0..1.
        side: pixels of an image's side.

    Source: cosine schedule; shifted by size as in Hoogeboom et al., ICML 2023, p. 13213.
    """
    angle = _LOW + time.float() * (_HIGH - _LOW)
    return -2 * torch.log(torch.tan(angle)) + _shift(side)


def time_of(ratio: Tensor, *, side: int = 64) -> Tensor:
    """Get the time of a logarithm of the signal-to-noise ratio: what `log_snr` undoes."""
    angle = torch.atan(torch.exp(-0.5 * (ratio.float() - _shift(side))))
    return ((angle - _LOW) / (_HIGH - _LOW)).clamp(0, 1)


def _shift(side: int) -> float:
    return 2 * math.log(64 / max(side, 64))


def parts(time: Tensor, *, side: int, ndim: int) -> tuple[Tensor, Tensor]:
    """Get alpha and sigma of times `(N,)`, shaped to multiply images of `ndim` dimensions."""
    ratio = log_snr(time, side=side)
    shape = (-1, *(1,) * (ndim - 1))
    return torch.sigmoid(ratio).sqrt().view(shape), torch.sigmoid(-ratio).sqrt().view(shape)


def q_sample(x_0: Tensor, time: Tensor, *, eps: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Get the noisy image of a time, and the v that a net should say of it."""
    alpha, sigma = parts(time, side=side, ndim=x_0.ndim)
    return alpha * x_0 + sigma * eps, alpha * eps - sigma * x_0


def split_v(x_t: Tensor, v: Tensor, time: Tensor, *, side: int) -> tuple[Tensor, Tensor]:
    """Get image and noise of what a net says."""
    alpha, sigma = parts(time, side=side, ndim=x_t.ndim)
    return alpha * x_t - sigma * v, sigma * x_t + alpha * v


def go_back(
    x_t: Tensor,
    says: Says,
    *,
    side: int,
    steps: int,
    sampler: str = "dpm",
    start: float = 1.0,
    noises: Callable[[int], Tensor] | None = None,
    clip: bool = True,
) -> Iterator[Tensor]:
    """Yield after each step the image as it is foreseen, the last one being the result.

    Args:
        x_t: noise, or an image with noise of the time `start`.
        says: the net.
        side: as it learnt.
        steps: how many; each asks the net once.
        sampler: "ddpm" draws new noise at each step; "ddim" none; "dpm" is of second order and needs the fewest steps.
        start: the time of `x_t`.
        noises: step -> noise in the shape of `x_t`, for "ddpm".
        clip: keep foreseen images in -1..1; of latents not.

    Source: Ho et al. 2020 (ancestral); Song, Meng and Ermon, ICLR 2021 (DDIM); Lu et al., DPM-Solver++,
        arXiv:2211.01095, algorithm 2 (2M).
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"the samplers are {', '.join(SAMPLERS)}, not {sampler}")
    times = _times(start, steps, sampler, side=side, device=x_t.device)
    before: tuple[Tensor, Tensor] | None = None
    for step in range(steps):
        now, later = (times[k].expand(len(x_t)) for k in (step, step + 1))
        x_0, eps = split_v(x_t, says(x_t, now), now, side=side)
        if clip:
            alpha, sigma = parts(now, side=side, ndim=x_t.ndim)
            x_0 = x_0.clamp(-1, 1)
            eps = (x_t - alpha * x_0) / sigma
        last = step + 1 == steps
        if not last or sampler == "ddpm":
            yield x_0
        if last and sampler == "ddpm":
            return
        if sampler == "ddpm":
            assert noises is not None
            x_t = _ancestral(x_t, x_0, now, later, noises(step), side=side)
        elif sampler == "ddim":
            alpha, sigma = parts(later, side=side, ndim=x_t.ndim)
            x_t = alpha * x_0 + sigma * eps
        else:
            # The last step is of first order: there the ratio changes so fast that a line leads astray.
            x_t = _second_order(x_t, x_0, None if last else before, now, later, side=side)
            before = x_0, log_snr(now, side=side) / 2
    yield x_t.clamp(-1, 1) if clip else x_t


def _times(start: float, steps: int, sampler: str, *, side: int, device: torch.device) -> Tensor:
    """Times from `start` to 0: evenly, or for the second order evenly in the logarithm of the ratio."""
    if sampler != "dpm":
        return torch.linspace(start, 0.0, steps + 1, device=device)
    ends = log_snr(torch.tensor([start, 0.0], device=device), side=side)
    times = time_of(torch.linspace(float(ends[0]), float(ends[1]), steps + 1, device=device), side=side)
    times[0], times[-1] = start, 0.0
    return times


def _ancestral(x_t: Tensor, x_0: Tensor, now: Tensor, later: Tensor, noise: Tensor, *, side: int) -> Tensor:
    """The image of a time before, drawn from the posterior that image and noisy image leave."""
    alpha, sigma = parts(now, side=side, ndim=x_t.ndim)
    alpha_s, sigma_s = parts(later, side=side, ndim=x_t.ndim)
    kept = alpha / alpha_s
    added = sigma**2 - kept**2 * sigma_s**2
    mean = kept * sigma_s**2 / sigma**2 * x_t + alpha_s * added / sigma**2 * x_0
    return mean + (added.clamp_min(0) * sigma_s**2 / sigma**2).sqrt() * noise


def _second_order(
    x_t: Tensor, x_0: Tensor, before: tuple[Tensor, Tensor] | None, now: Tensor, later: Tensor, *, side: int
) -> Tensor:
    alpha_s, sigma_s = parts(later, side=side, ndim=x_t.ndim)
    sigma = parts(now, side=side, ndim=x_t.ndim)[1]
    shape = sigma.shape
    here, there = log_snr(now, side=side) / 2, log_snr(later, side=side) / 2
    step = there - here
    image = x_0
    if before is not None:
        former, when = before
        share = ((here - when) / step).view(shape)
        image = (1 + 1 / (2 * share)) * x_0 - 1 / (2 * share) * former
    return sigma_s / sigma * x_t - alpha_s * torch.expm1(-step).view(shape) * image
