"""What is thawed, and how fast each part learns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from medgraft.errors import BadRecipe
from medgraft.nets.backbone import Encoder

_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm)


def depth_names(backbone: Encoder) -> list[str]:
    """Get the name of each depth: "head", then "layer4", "layer3" ... down to the whole net.

    Entry k says the lowest stage that learns when k stages are thawed.
    """
    return ["head", *(name for name, _ in reversed(backbone.stages))]


def check_thawed(backbone: Encoder, thawed: int) -> int:
    """Get the number of frozen stages for a number of thawed ones.

    Raises:
        BadRecipe: the backbone has fewer stages.
    """
    count = len(backbone.stages)
    if not 0 <= thawed <= count:
        raise BadRecipe(
            f"{thawed} stages cannot be thawed: {backbone.name} has {count}",
            do=f"Give --depth head, 1 to {count}, or all.",
        )
    return count - thawed


def freeze(backbone: Encoder, *, thawed: int) -> int:
    """Let the last `thawed` stages learn and freeze the rest; get the number of frozen stages.

    Args:
        backbone: changed in place.
        thawed: stages from the head down; 0 trains the head alone.

    Raises:
        BadRecipe: the backbone has fewer stages.
    """
    frozen = check_thawed(backbone, thawed)
    for index, (_, module) in enumerate(backbone.stages):
        module.requires_grad_(index >= frozen)
    return frozen


def train_mode(backbone: Encoder, *, thawed: int, frozen_norms: bool = False) -> None:
    """Put thawed stages in train mode and frozen ones in eval mode: no dropout there, BatchNorm keeps its statistics.

    Args:
        backbone: changed in place.
        thawed: stages from the head down.
        frozen_norms: True keeps BatchNorm of thawed stages on its stored statistics too, for tiny batches.
    """
    frozen = check_thawed(backbone, thawed)
    for index, (_, module) in enumerate(backbone.stages):
        module.train(index >= frozen)
        if frozen_norms:
            for part in module.modules():
                if isinstance(part, nn.modules.batchnorm._BatchNorm):
                    part.eval()


def has_folded_norms(backbone: Encoder) -> bool:
    """Say whether BatchNorm was folded into the convolutions: every layer stores mean 0 and one variance.

    Such a layer passes its input on; normalising by batches would change the net from the first step.
    """
    stored = [(norm.running_mean, norm.running_var) for norm in batch_norms(backbone)]
    known = [(mean, var) for mean, var in stored if mean is not None and var is not None]
    return bool(known) and all(bool((mean == 0).all() and (var == var.flatten()[0]).all()) for mean, var in known)


def batch_norms(backbone: Encoder) -> list[nn.modules.batchnorm._BatchNorm]:
    """Get the BatchNorm layers that normalise by stored statistics outside training."""
    norms = [part for part in backbone.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    return [norm for norm in norms if norm.running_mean is not None]


def parameter_groups(
    backbone: Encoder,
    head: nn.Module,
    *,
    thawed: int,
    lr: float,
    head_lr: float | None = None,
    layer_decay: float = 1.0,
    weight_decay: float = 0.0,
) -> list[dict[str, Any]]:
    """Get groups for an optimiser: the head, then thawed stages from the head down.

    Args:
        backbone: its last `thawed` stages are listed, no others.
        head: every parameter of it is listed.
        thawed: stages from the head down.
        lr: learning rate of the stage next to the head.
        head_lr: of the head; None takes `lr`.
        layer_decay: each stage further down learns this times slower.
        weight_decay: of weights; norms, biases, class tokens and positions get none.

    Returns:
        Dicts of `name`, `params`, `lr`, `weight_decay`; empty groups are left out.
    """
    frozen = check_thawed(backbone, thawed)
    parts: list[tuple[str, nn.Module, float]] = [("head", head, lr if head_lr is None else head_lr)]
    for below, (name, module) in enumerate(reversed(backbone.stages[frozen:])):
        parts.append((name, module, lr * layer_decay**below))
    groups = []
    for name, module, rate in parts:
        decayed, plain = _split(module)
        for suffix, chosen, decay in (("", decayed, weight_decay), (" (no decay)", plain, 0.0)):
            if chosen:
                groups.append({"name": name + suffix, "params": chosen, "lr": rate, "weight_decay": decay})
    return groups


def _split(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Split parameters that learn into those that decay and those that do not."""
    decayed, plain = [], []
    for owner, name, parameter in _owned(module):
        if not parameter.requires_grad:  # beside an adapter
            continue
        bare = parameter.ndim <= 1 or isinstance(owner, _NORMS) or name.endswith(("token", "embed", "embedding"))
        (plain if bare or "bias" in name else decayed).append(parameter)
    return decayed, plain


def _owned(module: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Parameter]]:
    seen: set[int] = set()
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield part, name, parameter
