"""Class activation maps: which places of the levels that a head looks at speak for an answer.

A head may look at several levels and at averages and largest values of each;
the map is the sum over the levels, each brought to the size of the image so
that equal parts of the answer weigh equally.

Sources: Selvaraju et al., "Grad-CAM", ICCV 2017; Chattopadhay et al.,
"Grad-CAM++", WACV 2018; Draelos, Carin, "Use HiResCAM instead of Grad-CAM for
faithful explanations", arXiv:2011.08891: with a linear head on averages it is
exactly what each place adds to the answer.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from medgraft.explanation.speech import spoken
from medgraft.tasks.base import ImageTask
from medgraft.tasks.localise import Localise


def levels_of(task: ImageTask, pixels: Tensor) -> tuple[list[Tensor], Tensor]:
    """Get the levels that the head looks at, and the logits that come of them.

    Each level is a leaf: its gradient is what the head takes of it, and not what it adds by way of later levels, which
    would count twice.

    Args:
        task: in eval mode.
        pixels: `(N, C, [D,] H, W)` normalised.
    """
    raw, levels = pixels, []
    with torch.no_grad():
        for stage, width in enumerate(task.head.widths):
            raw = task.backbone.run(raw, start=stage, stop=stage + 1)
            if width:
                levels.append(task.backbone.level(raw, stage).float().clone())  # the next stage may change it in place
    leaves = [level.requires_grad_() for level in levels]
    stages = [stage for stage, width in enumerate(task.head.widths) if width]
    with torch.enable_grad():
        parts = [task.head.part(level, stage) for level, stage in zip(leaves, stages, strict=True)]
        return leaves, task.answer(torch.cat(parts, dim=1))


def activation_map(task: ImageTask, pixels: Tensor, answer: Tensor, *, how: str = "hirescam") -> Tensor:
    """Get `(N, [D,] H, W)` float32, at least 0: the larger, the more the place speaks for the answer.

    Args:
        task: in eval mode.
        pixels: `(N, C, [D,] H, W)` normalised.
        answer: `(N,)` int64, see `spoken`.
        how: "hirescam", "gradcam" or "gradcam++".
    """
    levels, logits = levels_of(task, pixels)
    with torch.enable_grad():
        gradients = torch.autograd.grad(spoken(task, logits, answer).sum(), levels)
    total = torch.zeros(len(pixels), *pixels.shape[2:], device=pixels.device)
    for level, gradient in zip(levels, gradients, strict=True):
        own = _WAYS[how](level.detach(), gradient)
        # A place of a coarse level stands for many pixels: they share what it adds.
        share = math.prod(level.shape[2:]) / math.prod(pixels.shape[2:])
        total += enlarged(own, tuple(pixels.shape[2:])) * share
    return total.clamp_min(0)


def severity_map(task: ImageTask, pixels: Tensor) -> Tensor:
    """Get `(N, H, W)` float32, at least 0: what each place adds to the severities of all zones, by the task's own map.

    Args:
        task: in eval mode, with zones.
        pixels: `(N, C, H, W)` normalised.
    """
    assert isinstance(task, Localise)
    with torch.no_grad():
        return enlarged(task.severity_map(pixels).float(), tuple(pixels.shape[2:])).clamp_min(0)


def enlarged(values: Tensor, size: tuple[int, ...]) -> Tensor:
    """Bring `(N, [D,] h, w)` to another size by linear interpolation."""
    mode = "bilinear" if len(size) == 2 else "trilinear"
    return functional.interpolate(values[:, None], size=size, mode=mode, align_corners=False)[:, 0]


def _hirescam(level: Tensor, gradient: Tensor) -> Tensor:
    return (level * gradient).sum(dim=1)


def _gradcam(level: Tensor, gradient: Tensor) -> Tensor:
    space = tuple(range(2, level.ndim))
    return (level * gradient.mean(space, keepdim=True)).sum(dim=1).clamp_min(0)


def _gradcam_plus(level: Tensor, gradient: Tensor) -> Tensor:
    space = tuple(range(2, level.ndim))
    square, cube = gradient**2, gradient**3
    below = 2 * square + level.sum(space, keepdim=True) * cube
    share = square / torch.where(below.abs() > 1e-12, below, torch.ones_like(below))
    weight = (share * gradient.clamp_min(0)).sum(space, keepdim=True)
    return (level * weight).sum(dim=1).clamp_min(0)


_WAYS = {"hirescam": _hirescam, "gradcam": _gradcam, "gradcam++": _gradcam_plus}
