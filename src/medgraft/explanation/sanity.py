"""What a map is worth: does it depend on what the net has learnt, and do its places carry the answer?

Sources: Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018, for
randomised weights; Petsiuk, Das, Saenko, "RISE", BMVC 2018, for deletion and
insertion; Zhang et al., "Top-down neural attention by excitation backprop",
IJCV 2018, for the pointing game.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor, nn

from medgraft import seeds
from medgraft.explanation.speech import spoken
from medgraft.tasks.base import ImageTask

STEPS = 5  # few: each costs two passes, of the map and of every draw; what is judged is one order against others
DRAWS = 10  # a map that means nothing lies above all of them once in eleven times
ALIKE = 0.6  # rank correlation with the map of random weights at which a map tells of the image and not of the net
_FLAT = 1e-6  # of the answer: less is the rounding of float32
_COARSE = 16  # cells along a side that ranks are compared in: neighbouring pixels say the same

Net = TypeVar("Net", bound=nn.Module)
Says = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Sanity:
    """Figures of one map.

    Attributes:
        randomised: rank correlation with the map of the same net with random weights; near 0 is good.
        deletion: mean of the answer while the map's places are hidden, the highest first; low is good. 0 is the
            lowest and 1 the highest answer that was met while hiding and showing. None where that was not asked.
        insertion: mean of the answer while they alone are shown; high is good.
        chance: what insertion less deletion has to exceed: the largest of the same map laid elsewhere.
    """

    randomised: float
    deletion: float | None
    insertion: float | None
    chance: float | None

    @property
    def faults(self) -> tuple[str, ...]:
        """What is wrong with the map, in words; empty when it passes."""
        found = []
        if not self.randomised < ALIKE:
            found.append("a net with random weights gives nearly the same map")
        if self.insertion is None or self.deletion is None or self.chance is None:
            return tuple(found)
        if not self.insertion - self.deletion > self.chance:
            found.append("its places carry the answer no more than the same map laid elsewhere")
        return tuple(found)


def randomised(task: Net, *, seed: int = 0) -> Net:
    """Get a copy whose weights were replaced by normal random numbers of each tensor's own mean and spread."""
    other = copy.deepcopy(task)
    generator = torch.Generator().manual_seed(seeds.torch_seed(seed, "randomised"))
    with torch.no_grad():
        for parameter in other.parameters():
            if parameter.numel() > 1:
                spread, mean = torch.std_mean(parameter.float().cpu())
                drawn = torch.randn(parameter.shape, generator=generator) * spread + mean
                parameter.copy_(drawn.to(parameter.dtype))
    return other.eval()


def alike(one: np.ndarray, other: np.ndarray) -> float:
    """Get the rank correlation of two maps, averaged into cells; 1 where both are the same everywhere."""
    cells = [rankdata(_cells(values)) for values in (one, other)]
    if any(np.ptp(ranks) == 0 for ranks in cells):
        return 1.0
    return float(np.corrcoef(*cells)[0, 1])


def _cells(values: np.ndarray) -> np.ndarray:
    """Means over a coarse grid, flat."""
    for axis, side in enumerate(values.shape):
        edges = np.linspace(0, side, min(_COARSE, side) + 1).astype(int)[:-1]
        sizes = np.diff([*edges, side])
        shape = [-1 if place == axis else 1 for place in range(values.ndim)]
        values = np.add.reduceat(values, edges, axis=axis) / sizes.reshape(shape)
    return values.ravel()


@torch.no_grad()
def deletion_insertion(
    task: ImageTask, pixels: Tensor, *, order: Tensor, answer: Tensor, draws: int = DRAWS
) -> tuple[float, float, float]:
    """Get (deletion, insertion, chance) of one image; see `Sanity` and `hidden_and_shown`.

    Args:
        task: in eval mode.
        pixels: `(1, C, [D,] H, W)` normalised; gray is 0.
        order: `([D,] H, W)` numbers, the highest places go first.
        answer: `(1,)`.
        draws: how many times the map is laid elsewhere.
    """
    return hidden_and_shown(
        lambda batch: spoken(task, task(batch), answer.expand(len(batch))), pixels, order=order, draws=draws
    )


@torch.no_grad()
def hidden_and_shown(says: Says, pixels: Tensor, *, order: Tensor, draws: int = DRAWS) -> tuple[float, float, float]:
    """Get (deletion, insertion, chance) of anything that answers pixels with one number an image; see `Sanity`.

    A higher answer is always the better one, whether the whole image answers above or below a gray one: areas under
    the answers themselves are compared, and shares are only for showing them.

    Args:
        says: `(N, C, [D,] H, W)` -> `(N,)`.
        pixels: `(1, C, [D,] H, W)` normalised; gray is 0.
        order: `([D,] H, W)` numbers, the highest places go first.
        draws: how many times the map is laid elsewhere.
    """
    ends = torch.cat([pixels, torch.zeros_like(pixels)])
    whole, hidden = says(ends).double().cpu().tolist()
    curves = _curves(says, pixels, ranks=_ranks(order), ends=(whole, hidden))
    width = float(np.ptp(curves))
    if not width > _FLAT * max(1.0, float(np.abs(curves).max())):
        return 0.5, 0.5, 0.0
    left, reached = (curves.mean(axis=1) - curves.min()) / width
    chance = -np.inf
    for turn in _turns(tuple(order.shape), draws):
        elsewhere = _ranks(torch.roll(order, turn, dims=tuple(range(order.ndim))))
        below, above = _curves(says, pixels, ranks=elsewhere, ends=(whole, hidden)).mean(axis=1)
        chance = max(chance, float(above - below) / width)
    return float(left), float(reached), chance


def _ranks(order: Tensor) -> Tensor:
    """The place of each number among all, from the highest.

    Equal ones, as where a map is 0, come in one random order, whichever map it is: they tell no map from another.
    """
    flat = order.flatten().cpu()
    mixed = torch.from_numpy(np.random.default_rng(0).permutation(flat.numel()))
    falling = mixed[flat[mixed].argsort(descending=True, stable=True)]
    ranks = torch.empty_like(falling)
    ranks[falling] = torch.arange(flat.numel())
    return ranks.view(order.shape)


def _turns(size: tuple[int, ...], draws: int) -> list[tuple[int, ...]]:
    """How far to move a map round the edges: along one axis by a quarter of its side or more, lest it be a copy."""
    random = np.random.default_rng(0)
    found: list[tuple[int, ...]] = []
    while len(found) < draws:
        turn = tuple(int(random.integers(side)) for side in size)
        if any(4 * min(step, side - step) >= side for step, side in zip(turn, size, strict=True)):
            found.append(turn)
    return found


def _curves(says: Says, pixels: Tensor, *, ranks: Tensor, ends: tuple[float, float]) -> np.ndarray:
    """The answer `(2, STEPS + 1)` while places are hidden, and while they are shown; its ends are known."""
    whole, hidden = ends
    marks = torch.arange(1, STEPS).view(-1, 1, *[1] * ranks.ndim) * ranks.numel() / STEPS
    shown = (ranks < marks).to(pixels.device)
    batch = torch.cat([pixels * ~shown, pixels * shown])
    said = says(batch.contiguous()).double().cpu().numpy()
    left, reached = np.split(said, 2)
    return np.stack([[whole, *left, hidden], [hidden, *reached, whole]])


def pointed(values: np.ndarray, mask: np.ndarray, *, reach: int) -> bool:
    """Say whether the largest value of a map lies on a mask, or within `reach` pixels of it.

    Args:
        values: `([D,] H, W)`.
        mask: booleans of the same shape.
        reach: tolerance in pixels.
    """
    from scipy.ndimage import distance_transform_edt

    place = np.unravel_index(int(np.argmax(values)), values.shape)
    distance = distance_transform_edt(~mask) if mask.any() else np.full(mask.shape, np.inf)
    return bool(np.asarray(distance)[place] <= reach)
