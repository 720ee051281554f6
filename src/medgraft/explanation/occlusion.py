"""Occlusion: how much less a net holds to an answer when a patch of the image is hidden.

Source: Zeiler, Fergus, "Visualizing and understanding convolutional networks", ECCV 2014; carried out by Captum.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medgraft.explanation.speech import spoken
from medgraft.tasks.base import ImageTask

_PATCHES = 8  # along each side


@torch.no_grad()
def occlusion_map(task: ImageTask, pixels: Tensor, answer: Tensor) -> Tensor:
    """Get `(N, [D,] H, W)` float32, at least 0: the loss of the answer where a patch is hidden by gray.

    Args:
        task: in eval mode.
        pixels: `(N, C, [D,] H, W)` normalised; gray is 0 there.
        answer: `(N,)` int64, see `spoken`.
    """
    from captum.attr import Occlusion

    window = tuple(max(1, side // _PATCHES) for side in pixels.shape[2:])
    found = Occlusion(lambda x, own: spoken(task, task(x), own)).attribute(
        pixels,
        sliding_window_shapes=(pixels.shape[1], *window),
        strides=(pixels.shape[1], *(max(1, side // 2) for side in window)),
        baselines=0.0,
        additional_forward_args=answer,
        perturbations_per_eval=8,
    )
    return found[:, 0].float().clamp_min(0)
