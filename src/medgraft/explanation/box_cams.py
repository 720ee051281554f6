"""Which places of the encoder's levels speak for the class of a box that was found, and what such a map is worth.

The maps are those of `cams`, of the log-odds of the box's class where the box came from: for Faster R-CNN in the
proposal, through RoIAlign; for FCOS at its place. The levels are those that the detector's pyramid takes.

Any net's map of a box lies near the box, since nothing else is pooled for it. So the checks ask what is left: whether,
in the surroundings of the box, the map depends on what was learnt and carries the score better than moved aside.
"""

from __future__ import annotations

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
    """A map `(H, W)` float32 in network pixels, at least 0, and what it is worth."""

    map: np.ndarray
    sanity: Sanity


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

    def make(self, pixels: Tensor, *, boxes: np.ndarray, labels: Sequence[int]) -> list[BoxMap]:
        """Make the maps of some boxes of one image.

        Hiding and showing takes a hundred pictures a box, so it is asked of the first ones alone, as far as a budget
        reaches.

        Args:
            pixels: `(1, C, H, W)` normalised, on the task's device.
            boxes: `(M, 4)` corners in network pixels, as they were found.
            labels: M numbers of classes.
        """
        corners, kinds = torch.from_numpy(boxes).float().to(pixels.device), torch.tensor(labels, device=pixels.device)
        with torch.no_grad():
            places = self.task.head.places(self.task.backbone(pixels), pixels, boxes=corners, labels=kinds)
        maps, others = (
            box_maps(net, pixels, places=places, labels=kinds, how=self.method).cpu()
            for net in (self.task, self.random)
        )
        size = (int(pixels.shape[2]), int(pixels.shape[3]))
        affordable = _BUDGET.get(pixels.device.type, _LARGE_BUDGET) // (_PASSED * size[0] * size[1])
        found = []
        for row, (own, other) in enumerate(zip(maps, others, strict=True)):
            near = surroundings(boxes[row], size)
            same = alike(own[near].numpy(), other[near].numpy())
            figures: tuple[float | None, ...] = (None, None, None)
            if row < affordable:
                figures = self._hidden(pixels, own, near, places[row : row + 1], kinds[row : row + 1])
            found.append(BoxMap(own.numpy(), Sanity(same, *figures)))
        return found

    def _hidden(
        self, pixels: Tensor, own: Tensor, near: tuple[slice, slice], place: Tensor, label: Tensor
    ) -> tuple[float, float, float]:
        """Hide and show places of the surroundings; what lies outside stays as it is."""

        def says(inside: Tensor) -> Tensor:
            batch = pixels.repeat(len(inside), 1, 1, 1)
            batch[:, :, near[0], near[1]] = inside
            return self.task.head.odds(self.task.backbone(batch), batch, places=place, labels=label)[:, 0]

        return hidden_and_shown(says, pixels[:, :, near[0], near[1]], order=own[near])


def surroundings(corners: np.ndarray, size: tuple[int, int]) -> tuple[slice, slice]:
    """Get rows and columns of a picture (H, W) that a box lies in, twice as wide as it is where there is room."""
    x0, y0, x1, y1 = (float(value) for value in corners)
    found = []
    for low, high, side in ((y0, y1, size[0]), (x0, x1, size[1])):
        middle, half = (low + high) / 2, max(AROUND * (high - low) / 2, 2.0)
        first = int(np.clip(np.floor(middle - half), 0, side - 1))
        found.append(slice(first, int(np.clip(np.ceil(middle + half), first + 1, side))))
    return found[0], found[1]


def box_maps(task: Detect, pixels: Tensor, *, places: Tensor, labels: Tensor, how: str = "hirescam") -> Tensor:
    """Get `(M, H, W)` float32, at least 0: the larger, the more the place speaks for the class of the box.

    Args:
        task: in eval mode.
        pixels: `(1, C, H, W)` normalised.
        places: M where the boxes came from, see `nets.detector.BoxHead.places`.
        labels: `(M,)` classes.
        how: "hirescam", "layercam", "gradcam" or "gradcam++".
    """
    taken = sorted(task.head.pyramid.taken)
    raws, levels = _levels(task, pixels, first=taken[0])
    size, found = (int(pixels.shape[2]), int(pixels.shape[3])), []
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


def _levels(task: Detect, pixels: Tensor, *, first: int) -> tuple[dict[int, Tensor], list[Tensor]]:
    """Raw tensors of the stages from `first` on, gradients kept, and the levels of all stages."""
    net = task.backbone
    raw, raws, levels = pixels, {}, []
    for stage in range(len(net.stages)):
        with torch.set_grad_enabled(stage > first):
            raw = net.run(raw, start=stage, stop=stage + 1)
        if stage >= first:
            raw = raw.detach().requires_grad_() if stage == first else raw
            raws[stage] = raw
        with torch.set_grad_enabled(stage >= first):
            levels.append(net.level(raw, stage))
            raw = raw.clone()  # the next stage may change it in place
    return raws, levels
