"""Class activation maps: which places of the encoder's levels speak for an answer.

At any level the answer is, to first order, a sum over places: activation
times gradient. A late level says it coarsely, an early one finely and with
more noise; the map is the mean of what the last levels say, each in parts of
its largest value. The gradient of a level is all that it brings to the answer:
by what the head takes of it and by way of later levels.

Sources: Selvaraju et al., "Grad-CAM", ICCV 2017; Chattopadhay et al.,
"Grad-CAM++", WACV 2018; Draelos, Carin, "Use HiResCAM instead of Grad-CAM for
faithful explanations", arXiv:2011.08891; Jiang et al., "LayerCAM: exploring
hierarchical class activation maps for localization", IEEE TIP 2021, also for
the mean over levels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from medgraft.explanation.speech import spoken
from medgraft.tasks.base import ImageTask
from medgraft.tasks.detect import Detect
from medgraft.tasks.localise import Localise

_LEVELS = 4  # of a residual net all but the stem: see docs/decisions/0008-where-a-net-looked.md


def levels_of(task: ImageTask, pixels: Tensor) -> tuple[list[Tensor], list[int], Tensor]:
    """Get the last levels, each as its stage gives it and as a level, and the logits that come of them.

    Args:
        task: in eval mode.
        pixels: `(N, C, [D,] H, W)` normalised.

    Returns:
        Raw tensors, from the first of which on gradients are kept; the stages they come out of; logits `(N, K)`.
    """
    net, head = task.backbone, task.head
    count = len(net.stages)
    first = max(0, count - _LEVELS)
    raw, raws, parts = pixels, [], []
    for stage in range(count):
        with torch.set_grad_enabled(stage > first):
            raw = net.run(raw, start=stage, stop=stage + 1)
        if stage >= first:
            raw = raw.detach().requires_grad_() if stage == first else raw
            raws.append(raw)
        with torch.set_grad_enabled(stage >= first):
            if head.widths[stage]:
                parts.append(head.part(net.level(raw, stage), stage))
            raw = raw.clone()  # the next stage may change it in place
    with torch.enable_grad():
        return raws, list(range(first, count)), task.answer(torch.cat(parts, dim=1))


def activation_map(task: ImageTask, pixels: Tensor, answer: Tensor, *, how: str = "hirescam") -> Tensor:
    """Get `(N, [D,] H, W)` float32, at least 0: the larger, the more the place speaks for the answer.

    Args:
        task: in eval mode.
        pixels: `(N, C, [D,] H, W)` normalised.
        answer: `(N,)` int64, see `spoken`.
        how: "hirescam", "layercam", "gradcam" or "gradcam++".
    """
    raws, stages, logits = levels_of(task, pixels)
    with torch.enable_grad():
        gradients = torch.autograd.grad(spoken(task, logits, answer).sum(), raws)
    size = tuple(pixels.shape[2:])
    space = tuple(range(1, pixels.ndim - 1))
    total = torch.zeros(len(pixels), *size, device=pixels.device)
    for raw, gradient, stage in zip(raws, gradients, stages, strict=True):
        level, slope = (own_places(task, part.detach().float(), stage) for part in (raw, gradient))
        own = WAYS[how](level, slope)
        total += enlarged(own / own.abs().amax(space, keepdim=True).clamp_min(1e-12), size) / len(raws)
    return total.clamp_min(0)


def own_places(task: ImageTask | Detect, raw: Tensor, stage: int) -> Tensor:
    """Lay a raw tensor, or its gradient, out as `(N, C, [D,] H, W)`: what each place has of its own.

    A level of tokens may bear the class token as further channels, the same at every place: its part of the answer
    belongs to no place, and would be counted once for each.

    Args:
        task: with the encoder.
        raw: out of a stage.
        stage: which.
    """
    level = task.backbone.level(raw, stage)
    return level[:, : raw.shape[-1]] if raw.ndim == 3 else level


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


def _layercam(level: Tensor, gradient: Tensor) -> Tensor:
    return (level * gradient.clamp_min(0)).sum(dim=1)


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


WAYS = {"hirescam": _hirescam, "layercam": _layercam, "gradcam": _gradcam, "gradcam++": _gradcam_plus}
