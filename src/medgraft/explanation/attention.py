"""Maps of vision transformers from their attention: rollout, and attention weighed by its gradients.

Sources: Abnar, Zuidema, "Quantifying attention flow in transformers", ACL
2020, for rollout; Chefer, Gur, Wolf, "Generic attention-model explainability",
ICCV 2021, for the gradient-weighted variant.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from medgraft.errors import BadRecipe
from medgraft.explanation.cams import enlarged
from medgraft.explanation.speech import spoken
from medgraft.tasks.base import ImageTask


@torch.no_grad()
def attends(task: ImageTask) -> bool:
    """Say whether the encoder is a transformer whose attention can be read: each layer over one grid of patches.

    Layers of a net that also convolves and pools see grids of several sizes, or some channels of one: what flows
    through one cannot be followed through the next. It is found out by running the net once.
    """
    net = task.backbone
    if not _layers(task) or len(set(net.strides)) > 1:
        return False
    pixels = torch.zeros(1, net.spec.channels, *net.spec.size, device=next(net.parameters()).device)
    with _at_rest(net), _read(task) as seen:
        raw = net.run(pixels)
    if raw.ndim != 3 or not seen:
        return False
    return all(one.ndim == 4 and one.shape[-2:] == (raw.shape[1], raw.shape[1]) for one in seen)


@contextlib.contextmanager
def _at_rest(net: nn.Module) -> Iterator[None]:
    """Put a net in eval mode while the block runs, so that no statistic and no random number moves."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def refuse_without_attention(task: ImageTask) -> None:
    """Refuse an encoder without attention over one grid of patches.

    Raises:
        BadRecipe: it has none.
    """
    if not attends(task):
        what = f"{task.backbone.name} has no attention over one grid of patches that can be read"
        raise BadRecipe(what, do="Use --method hirescam.")


def attention_map(task: ImageTask, pixels: Tensor, answer: Tensor, *, how: str = "attention gradients") -> Tensor:
    """Get `(N, H, W)` float32, at least 0: how much each patch flows into what the head looks at.

    Args:
        task: in eval mode; one that `attends`.
        pixels: `(N, C, H, W)` normalised.
        answer: `(N,)` int64, see `spoken`; rollout is the same for every answer.
        how: "rollout", or "attention gradients".
    """
    with torch.enable_grad(), _read(task) as seen:
        logits = task(pixels.detach().clone().requires_grad_())
        weighted = how != "rollout"
        gradients = torch.autograd.grad(spoken(task, logits, answer).sum(), seen) if weighted else seen
    flow = None
    for attention, gradient in zip(seen, gradients, strict=True):
        flow = _next(flow, attention.detach().float(), gradient.detach().float(), weighted=weighted)
    assert flow is not None
    if weighted:  # it began with each patch holding itself, which says nothing
        flow = flow - torch.eye(flow.shape[-1], device=flow.device)
    return _picture(flow, task, tuple(pixels.shape[2:]))


def _next(flow: Tensor | None, attention: Tensor, gradient: Tensor, *, weighted: bool) -> Tensor:
    """Follow the flow through one layer: what stays in place, and what the heads bring from elsewhere."""
    same = torch.eye(attention.shape[-1], device=attention.device)[None]
    flow = same.expand(len(attention), -1, -1) if flow is None else flow
    if weighted:
        return flow + (attention * gradient).clamp_min(0).mean(dim=1) @ flow
    mixed = attention.mean(dim=1) + same
    return (mixed / mixed.sum(dim=-1, keepdim=True)) @ flow


def _picture(flow: Tensor, task: ImageTask, size: tuple[int, ...]) -> Tensor:
    """What the head's tokens take from each patch: the class token where there is one, and all patches."""
    stride = task.backbone.strides[-1]
    grid = tuple(side // stride for side in size)
    prefix = flow.shape[-1] - math.prod(grid)
    rows = flow[:, :, prefix:].mean(dim=1)
    if prefix:
        rows = 0.5 * rows / rows.amax(dim=1, keepdim=True).clamp_min(1e-12)
        first = flow[:, 0, prefix:]
        rows = rows + 0.5 * first / first.amax(dim=1, keepdim=True).clamp_min(1e-12)
    return enlarged(rows.reshape(len(rows), *grid), size).clamp_min(0)


def _layers(task: ImageTask) -> list[nn.Module]:
    """The attention layers over all patches, in order."""
    found = []
    for module in task.backbone.modules():
        timm_like = hasattr(module, "fused_attn") and hasattr(module, "attn_drop") and hasattr(module, "qkv")
        if (timm_like or isinstance(module, nn.MultiheadAttention)) and not hasattr(
            module, "relative_position_bias_table"
        ):
            found.append(module)
    return found


@contextlib.contextmanager
def _read(task: ImageTask) -> Iterator[list[Tensor]]:
    """Collect the attention `(N, heads, T, T)` of each layer while the block runs the net."""
    seen: list[Tensor] = []
    with contextlib.ExitStack() as undone:
        for layer in _layers(task):
            if isinstance(layer, nn.MultiheadAttention):
                layer.forward = partial(_attended, layer, seen)  # type: ignore[method-assign]
                undone.callback(delattr, layer, "forward")
                continue
            undone.callback(setattr, layer, "fused_attn", layer.fused_attn)
            layer.fused_attn = False  # type: ignore[assignment]
            drop: Any = layer.attn_drop
            undone.callback(drop.register_forward_hook(lambda _m, _i, out: seen.append(out)).remove)
        yield seen


def _attended(layer: nn.MultiheadAttention, seen: list[Tensor], x: Tensor, *_: Any, **__: Any) -> tuple[Tensor, None]:
    """Self-attention of `(N, T, D)` in the open: torch's own returns a copy that no gradient reaches."""
    count, tokens, width = x.shape
    mixed = functional.linear(x, layer.in_proj_weight, layer.in_proj_bias)
    query, key, value = mixed.view(count, tokens, 3, layer.num_heads, -1).permute(2, 0, 3, 1, 4)
    attention = (query @ key.mT * layer.head_dim**-0.5).softmax(dim=-1)
    seen.append(attention)
    return layer.out_proj((attention @ value).transpose(1, 2).reshape(count, tokens, width)), None
