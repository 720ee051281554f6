"""What a map is worth: does it depend on what the net has learnt, and do its places carry the answer?

Sources: Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018, for
randomised weights; Petsiuk, Das, Saenko, "RISE", BMVC 2018, for deletion and
insertion; Zhang et al., "Top-down neural attention by excitation backprop",
IJCV 2018, for the pointing game.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from medgraft import seeds
from medgraft.explanation.speech import spoken
from medgraft.tasks.base import ImageTask

STEPS = 12
ALIKE = 0.6  # rank correlation with the map of random weights at which a map tells of the image and not of the net
_COARSE = 16  # cells along a side that ranks are compared in: neighbouring pixels say the same


@dataclass(frozen=True)
class Sanity:
    """Figures of one map.

    Attributes:
        randomised: rank correlation with the map of the same net with random weights; near 0 is good.
        deletion: mean share of the answer left while the map's places are hidden, the highest first; low is good.
        insertion: mean share of the answer reached while they alone are shown; high is good.
        chance: insertion less deletion of a map that is the same everywhere, its places in random order.
    """

    randomised: float
    deletion: float
    insertion: float
    chance: float

    @property
    def faults(self) -> tuple[str, ...]:
        """What is wrong with the map, in words; empty when it passes."""
        found = []
        if not self.randomised < ALIKE:
            found.append("a net with random weights gives nearly the same map")
        if not self.insertion - self.deletion > self.chance:
            found.append("its places carry the answer no more than places taken at random")
        return tuple(found)


def randomised(task: ImageTask, *, seed: int = 0) -> ImageTask:
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
def deletion_insertion(task: ImageTask, pixels: Tensor, *, order: Tensor, answer: Tensor) -> tuple[float, float]:
    """Get (deletion, insertion) of one image, each a mean share of the answer between hidden and whole image.

    Args:
        task: in eval mode.
        pixels: `(1, C, [D,] H, W)` normalised; gray is 0.
        order: `([D,] H, W)` numbers, the highest places go first.
        answer: `(1,)`.
    """
    flat = order.flatten().argsort(descending=True)
    shown = torch.zeros(STEPS + 1, flat.numel(), dtype=torch.bool)
    for step in range(1, STEPS + 1):
        shown[step, flat[: round(step / STEPS * flat.numel())]] = True
    mask = shown.view(STEPS + 1, 1, *order.shape).to(pixels.device)
    batches = [pixels * ~mask, pixels * mask]
    left, reached = [
        spoken(task, task(batch.contiguous()), answer.expand(len(batch))).double().cpu().numpy() for batch in batches
    ]
    whole, hidden = left[0], reached[0]
    span = whole - hidden
    if abs(span) < 1e-9:
        return 0.5, 0.5
    shares = [np.clip((values - hidden) / span, -1, 2).mean() for values in (left, reached)]
    return float(shares[0]), float(shares[1])


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
