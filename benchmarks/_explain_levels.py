"""Maps of single levels and of several, by which the default of `medgraft explain` was chosen."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medgraft.explanation.cams import activation_map, enlarged, levels_of
from medgraft.explanation.speech import spoken
from medgraft.tasks.base import ImageTask


def candidates(task: ImageTask, pixels: Tensor, answer: Tensor) -> dict[str, Tensor]:
    """Get maps `(N, [D,] H, W)` by what they are made of; all are activation times gradient but Grad-CAM."""
    size = tuple(pixels.shape[2:])
    raws, stages, logits = levels_of(task, pixels)
    slopes = torch.autograd.grad(spoken(task, logits, answer).sum(), raws)
    own = {stage: (raw * slope).detach().sum(dim=1) for raw, slope, stage in zip(raws, slopes, stages, strict=True)}
    large = {stage: enlarged(values, size) for stage, values in own.items()}
    space = tuple(range(1, pixels.ndim - 1))
    per_pixel = {stage: large[stage] * math.prod(own[stage].shape[1:]) / math.prod(size) for stage in stages}
    parts = {stage: large[stage] / own[stage].abs().amax(space, keepdim=True).clamp_min(1e-12) for stage in stages}
    weight = slopes[-1].mean(tuple(range(2, raws[-1].ndim)), keepdim=True)
    return {
        "Grad-CAM of the last level": enlarged((raws[-1] * weight).detach().sum(dim=1), size),
        "what the head takes of three levels": _direct(task, pixels, answer),
        **{f"level {stage} alone": large[stage] for stage in stages},
        "three levels, as much a pixel": sum(per_pixel[stage] for stage in stages[-3:]),
        "four levels, as much a pixel": sum(per_pixel.values()),
        "three levels, in parts of their largest": sum(parts[stage] for stage in stages[-3:]),
        "four levels, in parts of their largest": activation_map(task, pixels, answer, how="hirescam"),
    }


def _direct(task: ImageTask, pixels: Tensor, answer: Tensor) -> Tensor:
    """Each level by the gradient of what the head takes of it, without what it brings by way of later levels."""
    raw, levels = pixels, {}
    with torch.no_grad():
        for stage, width in enumerate(task.head.widths):
            raw = task.backbone.run(raw, start=stage, stop=stage + 1)
            if width:
                levels[stage] = task.backbone.level(raw, stage).clone()
    leaves = [level.requires_grad_() for level in levels.values()]
    heads = [task.head.part(level, stage) for stage, level in levels.items()]
    slopes = torch.autograd.grad(spoken(task, task.answer(torch.cat(heads, dim=1)), answer).sum(), leaves)
    size = tuple(pixels.shape[2:])
    total = torch.zeros(len(pixels), *size)
    for level, slope in zip(leaves, slopes, strict=True):
        own = (level * slope).detach().sum(dim=1)
        total += enlarged(own, size) * math.prod(own.shape[1:]) / math.prod(size)
    return total
