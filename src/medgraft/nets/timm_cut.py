"""Cut nets of timm into stages."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from medgraft.errors import BadRecipe
from medgraft.nets import tokens
from medgraft.nets.request import Stage
from medgraft.nets.stages import RESNET_STAGES, channels_first, cut_by_stride, pieces_of, probe_size
from medgraft.values import InputSpec

HEADS = (
    "global_pool",
    "fc",
    "head",
    "head_dist",
    "classifier",
    "classifier_dist",
    "last_linear",
    "head_drop",
    "head_fc",
    "fc_norm",
    "pre_logits",
    "AuxLogits",
    "flatten",
)
_AFTER_POOL = ("conv_head", "norm_head", "act2")
# Families whose cut the tests compare with the net's own features; every other is compared when it is opened.
_TESTED = {
    "ByobNet",
    "ConvNeXt",
    "DenseNet",
    "EfficientNet",
    "InceptionResnetV2",
    "InceptionV3",
    "InceptionV4",
    "MaxxVit",
    "MobileNetV3",
    "RegNet",
    "ResNet",
    "SwinTransformer",
    "SwinTransformerV2",
    "VGG",
    "VisionTransformer",
    "VisionTransformerDistilled",
}


def cut(net: Any, spec: InputSpec) -> list[Stage]:
    """Cut a net of timm into stages; its head is left out.

    A family not known here is cut like the known ones, and the cut is kept only if the stages, run in a
    row, give what the net's own feature extractor gives. Otherwise the whole encoder is one stage.
    """
    way = _way(net)
    if type(net).__name__ in _TESTED:
        norm = _late_norm(net)
        return _with_norm(way(net, spec), norm)
    net.eval()
    whole = _whole(net, spec)
    x = torch.rand(1, 3, *spec.size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = whole.module(x)
        if not isinstance(wanted, torch.Tensor):
            raise BadRecipe(
                f"{type(net).__name__} of timm gives several feature maps and cannot be grafted",
                do="Choose another backbone with: medgraft backbones",
            )
        found = _tried(way, copy.deepcopy(net), spec, x=x, wanted=wanted)
    return found or [whole]


def _tried(
    way: Callable[[Any, InputSpec], list[Stage]],
    net: Any,
    spec: InputSpec,
    *,
    x: torch.Tensor,
    wanted: torch.Tensor,
) -> list[Stage]:
    """Cut, and compare with the net's own features; an empty list where the cut fails or differs."""
    norm = _late_norm(net)
    try:
        stages, got = way(net, spec), x
        for stage in stages:
            got = stage.module(got)
            level = stage.to_level(got) if stage.to_level else got
            if level.ndim != 4:
                return []
    except (RuntimeError, TypeError, ValueError, AttributeError, AssertionError, IndexError):
        return []
    same = got.shape == wanted.shape and bool((got - wanted).abs().max() <= 1e-4 * wanted.abs().max())
    return _with_norm(stages, norm) if same else []


def _way(net: Any) -> Callable[[Any, InputSpec], list[Stage]]:
    """Choose how to cut: blocks of tokens, or modules in a row."""
    if hasattr(net, "blocks") and hasattr(net, "norm") and hasattr(getattr(net, "patch_embed", None), "grid_size"):
        return lambda net, spec: tokens.cut_timm_vit(net)
    return _in_a_row


def _in_a_row(net: Any, spec: InputSpec) -> list[Stage]:
    after = _AFTER_POOL if type(net).__name__ in ("MobileNetV3", "GhostNet") else ()
    layout = channels_first if getattr(net, "output_fmt", "NCHW") == "NHWC" else None
    found = pieces_of(net, skip=(*HEADS, *after), depth=1 if layout else 8)
    names = RESNET_STAGES if hasattr(net, "layer4") else ()
    return cut_by_stride(found, probe_size(spec), names=names, layout=layout)


def _late_norm(net: Any) -> nn.Module | None:
    """Find the norm that a net puts between pooling and its last layer."""
    for norm in (getattr(getattr(net, "head", None), "norm", None), getattr(net, "fc_norm", None)):
        if isinstance(norm, nn.Module) and not isinstance(norm, nn.Identity):
            return norm
    return None


def _with_norm(stages: list[Stage], norm: nn.Module | None) -> list[Stage]:
    """Keep that norm on every pixel of the last level, so the new head gets features of a known scale."""
    last = stages[-1]
    if norm is not None and isinstance(last.module, nn.Sequential):
        last.module.add_module("head_norm", norm)
    return stages


class Whole(nn.Module):
    """The net's own feature extractor as one stage."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map pixels to the net's own features."""
        return self.net.forward_features(x)


def _whole(net: Any, spec: InputSpec) -> Stage:
    layout = channels_first if getattr(net, "output_fmt", "NCHW") == "NHWC" else None
    prefix = int(getattr(net, "num_prefix_tokens", 0) or 0)
    return Stage("encoder", Whole(net), layout or partial(as_picture, prefix=prefix, ratio=spec.size[0] / spec.size[1]))


def as_picture(raw: torch.Tensor, *, prefix: int, ratio: float) -> torch.Tensor:
    """Lay features of any kind out as `(N, C, H, W)`.

    Args:
        raw: `(N, C, H, W)`, tokens `(N, prefix + H * W, C)`, or pooled `(N, C)`.
        prefix: class and register tokens in front.
        ratio: H / W of the picture.
    """
    if raw.ndim == 4:
        return raw
    if raw.ndim == 2:
        return raw[:, :, None, None]
    patches = raw[:, prefix:]
    rows = max(1, round((patches.shape[1] * ratio) ** 0.5))
    if patches.shape[1] % rows:
        return patches.transpose(1, 2)[..., None]
    return patches.transpose(1, 2).unflatten(2, (rows, patches.shape[1] // rows))
