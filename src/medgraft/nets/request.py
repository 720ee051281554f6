"""What is asked of a source of nets, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from medgraft.values import InputSpec


@dataclass(frozen=True, eq=False)
class Request:
    """How a net is to be opened.

    Attributes:
        image_size: (H, W) in pixels the net will be used at; None for the size of its weights.
        offline: True forbids the network.
        seed: where random numbers come from.
        random: True leaves the weights random.
        head: True keeps the pre-trained head.
        state: weights to use instead of the source's own, by the keys of the architecture.
        origin: where `state` came from, for messages.
        sha256: of the file that `state` came from.
        facts: what the file of `state` says of itself: `input_spec` values, `licence`, `source`, `classes`, and
            `timm_args`, which build the architecture.
    """

    image_size: tuple[int, int] | None = None
    offline: bool = False
    seed: int = 0
    random: bool = False
    head: bool = False
    state: Mapping[str, torch.Tensor] | None = None
    origin: str = ""
    sha256: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """One unit of freezing.

    Attributes:
        name: such as "stem" or "layer3".
        module: raw tensor of the stage below -> raw tensor.
        to_level: raw tensor -> level `(N, C, H, W)`; None where the raw tensor is one.
    """

    name: str
    module: nn.Module
    to_level: Callable[[torch.Tensor], torch.Tensor] | None = None


@dataclass(frozen=True, eq=False)
class Opened:
    """A net as its source gives it: 3 channels in.

    Attributes:
        architecture: such as "timm:resnet10t".
        stages: the encoder, cut; empty when the head was kept.
        whole: the net with its head when it was kept.
        spec: what it eats.
        licence: of the weights; "" when they are random.
        source: where the weights came from.
        sha256: of the weight file; "" when random.
        classes: names of the outputs of `whole`.
        warnings: what a person should know.
        options: plain values that the architecture was built with beside its name.
    """

    architecture: str
    spec: InputSpec
    stages: tuple[Stage, ...] = ()
    whole: nn.Module | None = None
    licence: str = ""
    source: str = ""
    sha256: str = ""
    classes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
