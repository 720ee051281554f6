"""Windows that slide over an image of any size, joined with weights that fall towards their edges.

What is finished is handed on slab by slab along the first axis, so that memory holds no more than one window's depth of
a volume, however many slices it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

_SIGMA = 8.0  # standard deviations that a window is wide: what stands at its edge has seen half of its surroundings
_LEAST = 1e-3  # weight at the corners, so that no place is without any
Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Sweep:
    """How windows lie over an image.

    Attributes:
        window: ([D,] H, W) of a window.
        lap: ([D,] H, W) that neighbours share.
        steps: ([D,] H, W) that a window's sides are multiples of, where an image is smaller than a window.
        batch: windows that are run at once.
    """

    window: Sizes
    lap: Sizes
    steps: Sizes
    batch: int = 1

    def begins(self, shape: Sequence[int]) -> list[list[int]]:
        """Get where windows begin along each axis, so that the last one ends with it."""
        return [starts_of(*one) for one in zip(shape, self.window, self.lap, strict=True)]

    def sizes(self, shape: Sequence[int]) -> Sizes:
        """Get what a window covers of an image: less where the image is smaller."""
        return tuple(min(has, wanted) for has, wanted in zip(shape, self.window, strict=True))


def starts_of(size: int, window: int, lap: int) -> list[int]:
    """Get where windows begin along an axis, so that the last one ends with it.

    Example:
        >>> starts_of(100, 64, 16)
        [0, 36]
    """
    if size <= window:
        return [0]
    count = int(np.ceil((size - lap) / (window - lap)))
    return np.rint(np.linspace(0, size - window, count)).astype(int).tolist()


def slabs(pixels: Tensor, sweep: Sweep, run: Callable[[Tensor], Tensor]) -> Iterator[tuple[int, Tensor]]:
    """Yield (first place along the first axis, `(K, d, ...)` float32) of an image, in order, each place once.

    Args:
        pixels: `(C, [D,] H, W)`, on the device that windows are run on.
        sweep: how windows lie.
        run: `(N, C, ...)` of one size -> `(N, K, ...)` numbers of the same size, such as probabilities.
    """
    shape = tuple(int(size) for size in pixels.shape[1:])

    def cut(begin: Sizes, size: Sizes) -> Tensor:
        return pixels[_part(begin, size)]

    yield from slabs_of(shape, cut, sweep=sweep, run=run)


def slabs_of(
    shape: Sizes,
    cut: Callable[[Sizes, Sizes], Tensor | None],
    *,
    sweep: Sweep,
    run: Callable[[Tensor], Tensor],
    blank: Tensor | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """Yield slabs as `slabs` does, of an image that is read window by window.

    Args:
        shape: ([D,] H, W) of the image.
        cut: (first place, size) -> `(C, ...)` pixels of a window; None where there is nothing to look at.
        sweep: how windows lie.
        run: as of `slabs`.
        blank: `(K,)` what is said where there is nothing to look at, on the device of what `run` gives; needed where
            `cut` may give None.
    """
    size = sweep.sizes(shape)
    first, *others = sweep.begins(shape)
    places, weight = list(product(*others)), weights_of(size)
    total: Tensor | None = None
    counted = torch.zeros((size[0], *shape[1:]))
    for number, begin in enumerate(first):
        whole = len(first) == 1 and len(places) == 1  # all of it at once: there is nothing to join
        for place, one in _each(begin, places, size, cut, sweep, run, blank):
            if whole:
                yield 0, one
                return
            if total is None:
                weight, counted = weight.to(one.device), counted.to(one.device)
                total = torch.zeros((one.shape[0], *counted.shape), device=one.device)
            where = _part((0, *place), size)
            total[where] += one * weight
            counted[where[1:]] += weight
        assert total is not None
        done = size[0] if number == len(first) - 1 else first[number + 1] - begin
        yield begin, total[:, :done] / counted[:done]
        total[:, : size[0] - done] = total[:, done:].clone()
        counted[: size[0] - done] = counted[done:].clone()
        total[:, size[0] - done :] = 0
        counted[size[0] - done :] = 0


def _each(
    begin: int,
    places: Sequence[Sizes],
    size: Sizes,
    cut: Callable[[Sizes, Sizes], Tensor | None],
    sweep: Sweep,
    run: Callable[[Tensor], Tensor],
    blank: Tensor | None,
) -> Iterator[tuple[Sizes, Tensor]]:
    """Yield what is said of the windows of one slab: where each begins along the other axes, and `(K, ...)`."""
    waiting: list[tuple[Sizes, Tensor]] = []
    for number, place in enumerate(places):
        window = cut((begin, *place), size)
        if window is not None:
            waiting.append((place, window))
        elif blank is not None:
            yield place, blank.view(-1, *(1,) * len(size)).expand(-1, *size)
        if waiting and (len(waiting) == sweep.batch or number == len(places) - 1):
            told = run(padded(torch.stack([one for _, one in waiting]), sweep.steps))
            told = told[(slice(None), slice(None), *map(slice, size))].float()
            yield from zip((one for one, _ in waiting), told, strict=True)
            waiting = []


def padded(windows: Tensor, steps: Sizes) -> Tensor:
    """Get windows `(N, C, ...)` whose sides are whole multiples, filled up by repeating the last place."""
    more = [-has % step for has, step in zip(windows.shape[2:], steps, strict=True)]
    if not any(more):
        return windows
    return torch.nn.functional.pad(windows, [n for size in more[::-1] for n in (0, size)], mode="replicate")


def weights_of(size: Sizes) -> Tensor:
    """Get the weights of a window: a Gaussian around its middle, 1 there.

    Source: Isensee et al., nnU-Net, Nat Methods 2021;18:203.
    """
    weight = torch.ones(())
    for side in size:
        along = (torch.arange(side) - (side - 1) / 2) * (_SIGMA / side)
        weight = weight[..., None] * torch.exp(-(along**2) / 2)
    return weight.clamp_min(_LEAST)


def _part(begin: Sequence[int], size: Sizes) -> tuple[slice, ...]:
    return (slice(None), *(slice(start, start + side) for start, side in zip(begin, size, strict=True)))
