"""Which places of the encoder's levels speak for the class of a box that was found, and what such a map is worth.

The maps are those of `cams`, of the log-odds of the box's class where the box came from: for Faster R-CNN in the
proposal, through RoIAlign; for FCOS at its place; for RetinaNet in volumes at its anchor. The levels are those that the
detector's pyramid takes.

Any net's map of a box lies near the box, since nothing else is pooled for it. So the checks ask what is left: whether,
in the surroundings of the box, the map depends on what was learnt and carries the score better than moved aside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medgraft.explanation.cams import WAYS, enlarged, own_places
from medgraft.explanation.sanity import DRAWS, STEPS, Sanity, alike, hidden_and_shown, randomised
from medgraft.tasks.detect import Detect

AROUND = 2.0  # sides of a box that its surroundings are wide
_PASSED = 2 * STEPS * (1 + DRAWS)  # pictures that one check of hiding and showing takes, about
_BUDGET = {"cpu": 2**25}  # network pixels an image that go through the net for these checks
_LARGE_BUDGET = 2**29


@dataclass(frozen=True, eq=False)
class BoxMap:
    """A map of one box.

    Attributes:
        map: `([D,] H, W)` float32 in network pixels, at least 0.
        sanity: what it is worth.
        odds: the log-odds that it is a map of.
    """

    map: np.ndarray
    sanity: Sanity
    odds: float


class BoxMapMaker:
    """Makes maps of found boxes, one image at a time, in float32.

    Args:
        task: it is put in eval mode, and its weights are no longer trained.
        method: "hirescam", "layercam", "gradcam" or "gradcam++".
        seed: of the random weights that maps are checked against.
    """

    def __init__(self, task: Detect, *, method: str = "hirescam", seed: int = 0) -> None:
        self.task, self.method = task.eval().requires_grad_(False), method
        self.random = randomised(task, seed=seed)

    def make(self, pixels: Tensor, *, boxes: np.ndarray, labels: Sequence[int], before: int = 0) -> list[BoxMap]:
        """Make the maps of some boxes of one image.

        Hiding and showing takes a hundred pictures a box, so it is asked of the first ones alone, as far as a budget
        reaches.

        Args:
            pixels: `(1, C, [D,] H, W)` normalised, on the task's device.
            boxes: `(M, 4)` or `(M, 6)` corners in network pixels, as they were found.
            labels: M numbers of classes.
            before: boxes of the same image that got their maps before.
        """
        corners, kinds = torch.from_numpy(boxes).float().to(pixels.device), torch.tensor(labels, device=pixels.device)
        with torch.no_grad():
            levels = self.task.levels(pixels)
            places = self.task.head.places(levels, pixels, boxes=corners, labels=kinds)
            odds = self.task.head.odds(levels, pixels, places=places, labels=kinds)[0].tolist()
        maps, others = (
            box_maps(net, pixels, places=places, labels=kinds, how=self.method).cpu()
            for net in (self.task, self.random)
        )
        size = tuple(int(side) for side in pixels.shape[2:])
        affordable = _BUDGET.get(pixels.device.type, _LARGE_BUDGET) // (_PASSED * math.prod(size))
        found = []
        for row, (own, other) in enumerate(zip(maps, others, strict=True)):
            near = surroundings(boxes[row], size)
            same = alike(own[near].numpy(), other[near].numpy())
            figures: tuple[float | None, ...] = (None, None, None)
            if before + row < affordable:
                figures = self._hidden(pixels, own, near, places[row : row + 1], kinds[row : row + 1])
            found.append(BoxMap(own.numpy(), Sanity(same, *figures), odds[row]))
        return found

    def _hidden(
        self, pixels: Tensor, own: Tensor, near: tuple[slice, ...], place: Tensor, label: Tensor
    ) -> tuple[float, float, float]:
        """Hide and show places of the surroundings; what lies outside stays as it is."""

        def says(inside: Tensor) -> Tensor:
            batch = pixels.expand(len(inside), *pixels.shape[1:]).clone()
            batch[:, :, *near] = inside
            return self.task.head.odds(self.task.levels(batch), batch, places=place, labels=label)[:, 0]

        return hidden_and_shown(says, pixels[:, :, *near], order=own[near])


def surroundings(corners: np.ndarray, size: tuple[int, ...]) -> tuple[slice, ...]:
    """Get what a box lies in, twice as wide as it is where there is room, along each axis of a picture or volume.

    Args:
        corners: x0, y0, x1, y1, or x0, y0, z0, x1, y1, z1.
        size: ([D,] H, W).
    """
    lows, highs = np.split(np.asarray(corners, np.float64)[::-1], 2)[::-1]
    found = []
    for low, high, side in zip(lows.tolist(), highs.tolist(), size, strict=True):
        middle, half = (low + high) / 2, max(AROUND * (high - low) / 2, 2.0)
        first = int(np.clip(np.floor(middle - half), 0, side - 1))
        found.append(slice(first, int(np.clip(np.ceil(middle + half), first + 1, side))))
    return tuple(found)


def box_maps(task: Detect, pixels: Tensor, *, places: Tensor, labels: Tensor, how: str = "hirescam") -> Tensor:
    """Get `(M, [D,] H, W)` float32, at least 0: the larger, the more the place speaks for the class of the box.

    Args:
        task: in eval mode.
        pixels: `(1, C, [D,] H, W)` normalised.
        places: M where the boxes came from, see `nets.detector.BoxHead.places`.
        labels: `(M,)` classes.
        how: "hirescam", "layercam", "gradcam" or "gradcam++".
    """
    taken = task.head.takes
    raws, levels = _levels(task, pixels, first=taken[0], last=taken[-1])
    size, found = tuple(int(side) for side in pixels.shape[2:]), []
    with torch.enable_grad():
        odds = task.head.odds(levels, pixels, places=places, labels=labels)[0]
        for row in range(len(labels)):
            slopes = torch.autograd.grad(odds[row], [raws[stage] for stage in taken], retain_graph=True)
            total = torch.zeros(1, *size, device=pixels.device)
            for stage, slope in zip(taken, slopes, strict=True):
                level, slope = (own_places(task, part.detach().float(), stage) for part in (raws[stage], slope))
                own = WAYS[how](level, slope)
                total += enlarged(own / own.abs().amax().clamp_min(1e-12), size) / len(taken)
            found.append(total.clamp_min(0))
    return torch.cat(found) if found else torch.zeros(0, *size)


def _levels(task: Detect, pixels: Tensor, *, first: int, last: int) -> tuple[dict[int, Tensor], list[Tensor]]:
    """Raw tensors of the stages from `first` to `last`, gradients kept, and the levels of all stages up to there."""
    net = task.backbone
    raw, raws, levels = pixels, {}, []
    for stage in range(last + 1):
        with torch.set_grad_enabled(stage > first):
            raw = net.run(raw, start=stage, stop=stage + 1)
        if stage >= first:
            raw = raw.detach().requires_grad_() if stage == first else raw
            raws[stage] = raw
        with torch.set_grad_enabled(stage >= first):
            levels.append(net.level(raw, stage))
            raw = raw.clone()  # the next stage may change it in place
    return raws, levels
