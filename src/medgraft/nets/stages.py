"""Cut a net into stages: the units of freezing.

Most nets are a list of modules applied one after another. They are cut where
the picture gets smaller, so a stage is "everything at one resolution". The
composition of the stages is the net's own feature extractor, exactly.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import nn

from medgraft.nets.request import Stage
from medgraft.values import InputSpec

RESNET_STAGES = ("stem", "layer1", "layer2", "layer3", "layer4")

Piece = tuple[str, nn.Module]
Layout = Callable[[torch.Tensor], torch.Tensor]


def channels_first(raw: torch.Tensor) -> torch.Tensor:
    """Turn `(N, H, W, C)` into `(N, C, H, W)`."""
    return raw.permute(0, 3, 1, 2)


def pieces_of(net: nn.Module, *, skip: Iterable[str] = (), depth: int = 8) -> list[Piece]:
    """List the children of a net in order, plain `nn.Sequential` opened down to `depth` levels.

    Args:
        skip: names of direct children that are no part of the encoder.
    """
    found: list[Piece] = []
    for name, child in net.named_children():
        if name in skip:
            continue
        if type(child) is nn.Sequential and depth > 0 and len(child):
            found += [(f"{name}_{inner}", module) for inner, module in pieces_of(child, depth=depth - 1)]
        else:
            found.append((name, child))
    return found


def shape_of(module: nn.Module, shape: Sequence[int]) -> tuple[int, ...]:
    """Get the shape that comes out of a module for a float32 tensor of `shape`, without computing it.

    Runs on torch's meta device, which knows shapes only; nets that cannot run there are run on zeros.
    """
    module_was = module.training
    module.eval()
    try:
        with torch.no_grad():
            return _shape_on_meta(module, shape)
    finally:
        module.train(module_was)


def _shape_on_meta(module: nn.Module, shape: Sequence[int]) -> tuple[int, ...]:
    held = dict(module.named_parameters()) | dict(module.named_buffers())
    empty = {name: torch.empty_like(tensor, device="meta") for name, tensor in held.items()}
    try:
        out = torch.func.functional_call(module, empty, (torch.empty(tuple(shape), device="meta"),))
    except (RuntimeError, NotImplementedError, TypeError):
        out = module(torch.zeros(tuple(shape)))
    return tuple(out.shape)


def probe_size(spec: InputSpec) -> tuple[int, int]:
    """Get the size to measure resolutions at: large, so that a cut does not depend on the size of the images."""
    return spec.size if spec.fixed_size else (512, 512)


def cut_by_stride(
    pieces: Sequence[Piece], size: tuple[int, int], *, names: Sequence[str] = (), layout: Layout | None = None
) -> list[Stage]:
    """Group modules by the resolution they work at.

    Args:
        pieces: modules in order; together they are the encoder.
        size: (H, W) of the input the resolutions are measured at.
        names: names of the stages; "stem", "stage1" ... where they do not fit in number.
        layout: raw tensor -> `(N, C, H, W)`.
    """
    groups: list[list[Piece]] = []
    shape: tuple[int, ...] = (1, 3, *size)
    scale = 0
    for name, module in pieces:
        shape = shape_of(module, shape)
        before, scale = scale, round(math.log2(size[0] / _rows(shape, layout)))
        # A stem that cuts the image into patches stays a stage of its own: what follows has its resolution.
        after_patches = len(groups) == 1 and len(groups[0]) == 1 and before >= 2
        if not groups or scale > before or after_patches:
            groups.append([])
        groups[-1].append((name, module))
    groups = _merge_weightless(groups)
    labels = list(names) if len(names) == len(groups) else ["stem", *(f"stage{k}" for k in range(1, len(groups)))]
    return [Stage(label, chain(group), layout) for label, group in zip(labels, groups, strict=True)]


def _rows(shape: tuple[int, ...], layout: Layout | None) -> int:
    return layout(torch.empty(shape, device="meta")).shape[2] if layout else shape[2]


def _merge_weightless(groups: list[list[Piece]]) -> list[list[Piece]]:
    """Join a group without weights (a pooling at the end or the start) to its neighbour."""
    merged: list[list[Piece]] = []
    for group in groups:
        has_weights = any(True for _, module in group for _ in module.parameters())
        if merged and (not has_weights or not any(True for _, m in merged[-1] for _ in m.parameters())):
            merged[-1] += group
        else:
            merged.append(list(group))
    return merged


def chain(pieces: Sequence[Piece]) -> nn.Sequential:
    """Put modules in a row under their own names."""
    return nn.Sequential(OrderedDict(pieces))


def strides_of(stages: Sequence[Stage], spec: InputSpec) -> tuple[list[int], list[int]]:
    """Get the channels of each level and how many input pixels one pixel of it stands for.

    A stride is exact where it divides the image, else the nearest power of two (convolutions without
    padding lose a little at the border).
    """
    size = probe_size(spec)
    shape: tuple[int, ...] = (1, spec.channels, *size)
    channels, strides = [], []
    for stage in stages:
        shape = shape_of(stage.module, shape)
        level = tuple(stage.to_level(torch.empty(shape, device="meta")).shape) if stage.to_level else shape
        channels.append(int(level[1]))
        exact = size[0] % level[2] == 0
        strides.append(size[0] // level[2] if exact else 2 ** round(math.log2(size[0] / level[2])))
    return channels, strides
