"""A backbone: an encoder in stages, with what it eats and where it came from.

    pixels --stage 0--> raw --stage 1--> raw ... --> raw
                         |                |            |
                       level            level        level     (N, C, H, W)

The raw tensor between stages is whatever the net uses (tokens, channels
last); `forward` gives levels, `run` gives the raw tensor.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from medgraft import seeds
from medgraft.errors import BadRecipe
from medgraft.nets import BACKBONES
from medgraft.nets.fold import fold_first, gray_spec
from medgraft.nets.request import Opened, Request, Stage
from medgraft.nets.sources import resolve
from medgraft.nets.stages import strides_of
from medgraft.values import InputSpec


class Encoder(nn.Module):
    """Stages in a row: what pictures and volumes have in common, and all that freezing needs.

    Attributes:
        name: what the user typed, resolved.
        encoder: stage name -> module, in order; a module maps raw tensor to raw tensor.
    """

    def __init__(self, name: str, stages: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.name = name
        self.encoder = nn.ModuleDict(dict(stages))

    @property
    def stages(self) -> list[tuple[str, nn.Module]]:
        """The stages in order, as (name, module); a module maps raw tensor to raw tensor."""
        return list(self.encoder.items())

    @property
    def parameters_count(self) -> int:
        """The number of trainable and frozen numbers of the encoder."""
        return sum(parameter.numel() for parameter in self.parameters())

    def run(self, x: torch.Tensor, *, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """Get the raw tensor that comes out of stage `stop - 1`, for the one that enters stage `start`.

        Args:
            x: `(N, C, [D,] H, W)` normalised pixels when `start` is 0, else the raw tensor out of stage `start - 1`.
            start: first stage to run.
            stop: the stage to stop before; None runs all.
        """
        for _, module in self.stages[start:stop]:
            x = module(x)
        return x

    def forward(self, x: torch.Tensor, start: int = 0, stop: int | None = None) -> list[torch.Tensor]:
        """Get the levels of stages `start` to `stop - 1`, each `(N, C, [D,] H, W)`; arguments as in `run`."""
        levels = []
        for index, (_, module) in list(enumerate(self.stages))[start:stop]:
            x = module(x)
            levels.append(self.level(x, index))
        return levels

    def level(self, raw: torch.Tensor, stage: int) -> torch.Tensor:
        """Turn the raw tensor out of one stage into its level `(N, C, [D,] H, W)`."""
        return raw


class Backbone(Encoder):
    """An encoder of pictures: pixels `(N, C, H, W)` -> one level a stage.

    Attributes:
        name: what the user typed, resolved, such as "timm:resnet18".
        architecture: what it is, such as "timm:resnet18" also for a file of it.
        spec: what it eats; `spec.channels` is 1 after folding.
        channels: C of each level.
        strides: input pixels for one pixel of each level.
        licence: of the weights; "" for random numbers.
        source: where the weights came from, in words.
        sha256: of the weight file; "" for random numbers.
        weights_spec: what the weights ate before folding, 3 channels.
        options: plain values that the architecture was built with beside its name.
        gray: "" for 3 channels; "folded" or "repeated" for 1. Both are exact; folded is faster.
    """

    def __init__(self, name: str, opened: Opened, *, channels: int = 3, gray: str = "") -> None:
        stages, spec, how = list(opened.stages), opened.spec, ""
        if channels == 1:
            stem, how = fold_first(stages[0].module, spec, how=gray)
            stages[0] = Stage(stages[0].name, stem, stages[0].to_level)
            spec = gray_spec(spec)
        super().__init__(name, {stage.name: stage.module for stage in stages})
        self.weights_spec, self.gray = opened.spec, how
        self.architecture, self.options = opened.architecture, dict(opened.options)
        self.spec = spec
        self.licence = opened.licence
        self.source = opened.source
        self.sha256 = opened.sha256
        self._to_level = [stage.to_level for stage in stages]
        self.channels, self.strides = strides_of(stages, spec)

    def level(self, raw: torch.Tensor, stage: int) -> torch.Tensor:
        """Turn the raw tensor out of one stage into its level `(N, C, H, W)`."""
        convert = self._to_level[stage]
        return raw if convert is None else convert(raw)


def backbone(
    name: str,
    *,
    channels: int = 3,
    image_size: int | tuple[int, int] | None = None,
    offline: bool = False,
    seed: int = 0,
    weights_spec: InputSpec | None = None,
    gray: str = "",
    options: Mapping[str, Any] | None = None,
) -> Backbone:
    """Get an encoder by name, its head cut off, in eval mode.

    Args:
        name: "auto", "timm:NAME", "torchvision:NAME", "hf-hub:OWNER/NAME", "file:PATH[,arch=NAME]",
            "embedded:NAME", "none:NAME" (the same architecture from random numbers), or a bare name.
        channels: 1 or 3 input channels; 1 gives exactly what the gray image copied to RGB would give.
        image_size: pixels; None for the size its weights were made for.
        offline: True never opens a socket.
        seed: of random numbers.
        weights_spec: mean and std to go by instead of the source's own: those of a saved model.
        gray: how one channel was made, "folded" or "repeated", of a saved model; "" finds out.
        options: plain values to build the architecture with beside its name, of a saved model.

    Raises:
        UnknownName: no such source or architecture.
        Offline: the weights are not here and the network is forbidden.
        BadWeights: the weights are damaged or do not fit.

    Example:
        >>> net = backbone("none:torchvision:mobilenet_v2", image_size=64)
        >>> len(net.stages), net.channels[-1]
        (5, 1280)
    """
    if channels not in (1, 3):
        raise BadRecipe(f"a backbone takes 1 or 3 channels, not {channels}")
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    full = resolve(name)
    opened = open_net(full, Request(image_size=size, offline=offline, seed=seed, facts={"timm_args": options or {}}))
    for warning in opened.warnings:
        warnings.warn(warning, stacklevel=2)
    if weights_spec is not None:
        opened = replace(opened, spec=replace(weights_spec, size=opened.spec.size))
    return Backbone(full, opened, channels=channels, gray=gray).eval()


def saved_words(card: Mapping[str, Any]) -> dict[str, Any]:
    """Get the arguments of `backbone` that build the layers of a saved model again, of its card.

    Raises:
        KeyError, TypeError: it is not such a card.
    """
    return {
        "weights_spec": InputSpec.from_dict(card["weights_spec"]),
        "gray": str(card["gray"]),
        "options": dict(card["backbone"].get("options") or {}),
    }


def open_net(name: str, request: Request) -> Opened:
    """Open a resolved name: torch's random state is left as it was, and random weights depend on the seed alone."""
    scheme, _, rest = name.partition(":")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.torch_seed(request.seed, "weights"))
        opened = BACKBONES[scheme](rest, request)
    if request.image_size and opened.stages:
        return replace(opened, spec=replace(opened.spec, size=request.image_size))
    return opened
