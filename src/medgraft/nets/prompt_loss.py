"""What is learnt from answers to prompts whose structures are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medgraft.nets.prompter import Answer

_LEAST = 12.0  # places of its grid that a structure covers where it can be drawn there
_JUDGED = 0.5  # weight of the overlap that is foreseen, beside the drawing


def on_grid(masks: Tensor, edges: np.ndarray, *, shape: Sequence[int]) -> Tensor:
    """Get how much of each place of a grid masks `(P, H, W)` cover; the grid of each covers `edges` of its file.

    Returns:
        `(P, h, w)` from 0 to 1.
    """
    from torchvision.ops import roi_align

    where = torch.tensor(edges, dtype=torch.float32, device=masks.device)
    numbers = torch.arange(len(masks), device=masks.device, dtype=torch.float32)
    rows = torch.cat([numbers[:, None], where], dim=1)
    return roi_align(masks[:, None], rows, (int(shape[0]), int(shape[1])), 1.0, -1, aligned=True)[:, 0]


def prompt_loss(answer: Answer, masks: Tensor) -> Tensor:
    """Get the loss of answers to prompts: cross-entropy and soft Dice of the drawing, and the error of its quality.

    Where all candidates are of one place, such as SAM's, the best of them alone learns to draw; where each looks at
    another part of the picture, each learns as far as the structure lies in what it sees.

    Args:
        answer: of P prompts.
        masks: `(P, H, W)` 0 or 1, in the pixels of the file.

    Source: Kirillov et al., "Segment Anything", ICCV 2023, for the best of several candidates.
    """
    count, most, high, wide = answer.logits.shape
    shape = (high, wide)
    edges = answer.edges.reshape(-1, 4)
    wanted = on_grid(masks.repeat_interleave(most, 0), edges, shape=shape).unflatten(0, (count, most))
    steps = (answer.edges[..., 2] - answer.edges[..., 0]) * (answer.edges[..., 3] - answer.edges[..., 1])
    place = torch.tensor(steps / (high * wide), dtype=torch.float32, device=masks.device)
    inside = wanted.sum((2, 3))
    beyond = (masks.sum((1, 2))[:, None] / place - inside).clamp_min(0)
    logits = answer.logits.float()
    each = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean((2, 3))
    share = logits.sigmoid()
    both = (share * wanted).sum((2, 3))
    each = each + 1 - (2 * both + 1) / (share.sum((2, 3)) + inside + 1)
    drawn = (logits.detach() > 0).float()
    shared = (drawn * wanted).sum((2, 3))
    overlap = shared / (drawn.sum((2, 3)) + inside - shared + beyond).clamp_min(1e-3)
    foreseen = (answer.quality.float() - overlap).square().mean()
    if bool((answer.edges == answer.edges[:, :1]).all()):
        drawing = each.min(dim=1).values.mean()
    else:
        fits = (inside / (inside + beyond).clamp_min(1e-3)).square() * (inside / _LEAST).clamp(max=1)
        drawing = (each * fits).sum() / fits.sum().clamp_min(1e-3)
    return drawing + _JUDGED * foreseen
