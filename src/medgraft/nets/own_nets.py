"""Architectures that neither timm nor torchvision has."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

import torch
from torch import nn

from medgraft.errors import BadWeights, UnknownName
from medgraft.nets.fit import Fetched, load_strict, opened, outputs_in
from medgraft.nets.request import Opened, Request
from medgraft.nets.stages import cut_by_stride, pieces_of, probe_size
from medgraft.values import InputSpec

_HEADS = ("avgpool", "fc")

# Rows of figure 5 of the paper: 1x1; 3x3 reduce, 3x3; double 3x3 reduce, double 3x3; pool, projection.
# A block without 1x1 halves the resolution and passes its pooled input on.
_BLOCKS = {
    "3a": (64, 64, 64, 64, 96, "avg", 32),
    "3b": (64, 64, 96, 64, 96, "avg", 64),
    "3c": (0, 128, 160, 64, 96, "max", 0),
    "4a": (224, 64, 96, 96, 128, "avg", 128),
    "4b": (192, 96, 128, 96, 128, "avg", 128),
    "4c": (160, 128, 160, 128, 160, "avg", 96),
    "4d": (96, 128, 192, 160, 192, "avg", 96),
    "4e": (0, 128, 192, 192, 256, "max", 0),
    "5a": (352, 192, 320, 160, 224, "avg", 128),
    "5b": (352, 192, 320, 192, 224, "max", 128),
}


def open_own(rest: str, request: Request) -> Opened:
    """Open a net of medgraft's own: `inception_v2`. It has no trained weights but those a file brings."""
    if rest != "inception_v2":
        raise UnknownName(f"medgraft has no net named {rest!r}", do="Known: inception_v2.")
    if request.state is None and not request.random:
        raise BadWeights("no trained weights of it are known", where=rest, do=f"Use none:medgraft:{rest}.")
    spec = InputSpec.from_dict(request.facts.get("input_spec") or {})
    spec = replace(spec, size=request.image_size or spec.size)
    fetched = None
    if request.state is not None:
        source = str(request.facts.get("source") or request.origin)
        fetched = Fetched(dict(request.state), request.sha256, source, request.origin)
    net = InceptionV2(outputs_in(fetched.state, _HEADS) if fetched and request.head else 1000)
    if fetched:
        load_strict(net, fetched.state, heads=_HEADS, keep_head=request.head, origin=fetched.origin)
    name, licence = f"medgraft:{rest}", "Apache-2.0"
    if request.head:
        classes = tuple(request.facts.get("classes", ()))
        return opened(request, fetched, name, spec, licence=licence, whole=net, classes=classes)
    stages = tuple(cut_by_stride(pieces_of(net, skip=_HEADS), probe_size(spec)))
    return opened(request, fetched, name, spec, licence=licence, stages=stages)


class InceptionV2(nn.Sequential):
    """Inception v2, also named BN-Inception.

    Source: Ioffe, Szegedy, "Batch normalization", ICML 2015, arXiv:1502.03167, figure 5.
    """

    def __init__(self, outputs: int = 1000) -> None:
        parts: list[tuple[str, nn.Module]] = [
            ("conv1", _conv(3, 64, 7, stride=2)),
            ("pool1", nn.MaxPool2d(3, 2, 1)),
            ("conv2_reduce", _conv(64, 64, 1)),
            ("conv2", _conv(64, 192, 3)),
            ("pool2", nn.MaxPool2d(3, 2, 1)),
        ]
        width = 192
        for name, row in _BLOCKS.items():
            block = _Block(width, row)
            parts.append((f"inception{name}", block))
            width = block.width
        parts += [("avgpool", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())), ("fc", nn.Linear(width, outputs))]
        super().__init__(OrderedDict(parts))


class _Block(nn.Module):
    def __init__(self, width: int, row: tuple[int, int, int, int, int, str, int]) -> None:
        super().__init__()
        one, reduce, three, double_reduce, double, pool, projection = row
        stride = 1 if one else 2
        pooling = nn.AvgPool2d(3, stride, 1) if pool == "avg" else nn.MaxPool2d(3, stride, 1)
        branches: list[nn.Module] = [_conv(width, one, 1)] if one else []
        branches.append(nn.Sequential(_conv(width, reduce, 1), _conv(reduce, three, 3, stride=stride)))
        branches.append(
            nn.Sequential(
                _conv(width, double_reduce, 1),
                _conv(double_reduce, double, 3),
                _conv(double, double, 3, stride=stride),
            )
        )
        branches.append(nn.Sequential(pooling, _conv(width, projection, 1)) if projection else pooling)
        self.branches = nn.ModuleList(branches)
        self.width = one + three + double + (projection or width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(N, C, H, W)` to the branches side by side."""
        return torch.cat([branch(x) for branch in self.branches], dim=1)


def _conv(inner: int, outer: int, kernel: int, *, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inner, outer, kernel, stride, kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(outer), nn.ReLU(inplace=True))
