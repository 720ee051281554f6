"""Nets of torchvision, cut into stages."""

from __future__ import annotations

import difflib
from collections import OrderedDict
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from medgraft.errors import BadRecipe, BadWeights, UnknownName
from medgraft.nets import tokens
from medgraft.nets.fit import Fetched, load_strict, opened, outputs_in
from medgraft.nets.request import Opened, Request, Stage
from medgraft.nets.stages import RESNET_STAGES, channels_first, cut_by_stride, pieces_of, probe_size
from medgraft.values import InputSpec
from medgraft.weights import tensors

_HEADS = ("avgpool", "fc", "classifier", "head", "heads", "AuxLogits", "aux1", "aux2", "dropout", "flatten", "permute")
_FIXED = ("vit_", "maxvit_")
_WITH_AUX = ("googlenet", "inception_v3")


def open_torchvision(rest: str, request: Request) -> Opened:
    """Open a classification net of torchvision by its name."""
    name, _, tag = rest.partition(".")
    known = known_names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        raise UnknownName(
            f"torchvision has no net named {name!r}",
            do=f"Did you mean {' or '.join(near)}?" if near else "List them with: medgraft backbones torchvision",
        )
    weights = _weights_entry(name, tag)
    spec = _spec(weights, request)
    if name in _WITH_AUX and not request.facts.get("input_spec"):
        # These two renormalise inside; said here, the net needs no step of its own.
        spec = replace(spec, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    spec = replace(spec, size=request.image_size or spec.size, fixed_size=name.startswith(_FIXED))
    fetched = _fetched(name, weights, request)
    net = build(name, spec.size, outputs_in(fetched.state, _HEADS) if fetched and request.head else 1000)
    if fetched:
        load_strict(net, _resampled(net, fetched.state), heads=_HEADS, keep_head=request.head, origin=fetched.origin)
    label, licence = f"torchvision:{name}", licence_of(weights)
    if request.head:
        classes = tuple(request.facts.get("classes", ())) or (tuple(weights.meta["categories"]) if weights else ())
        return opened(request, fetched, label, spec, licence=licence, whole=net, classes=classes)
    return opened(request, fetched, label, spec, licence=licence, stages=tuple(cut(net, spec)))


def licence_of(weights: Any) -> str:
    """Get what torchvision states of the licence of one set of weights."""
    stated = weights.meta.get("license") if weights is not None else None
    return str(stated or "not stated for the weights; torchvision itself is BSD-3-Clause")


def known_names() -> list[str]:
    """Get the names of torchvision's classification nets, quantised ones left out."""
    import torchvision

    return torchvision.models.list_models(module=torchvision.models)


def _weights_entry(name: str, tag: str) -> Any:
    import torchvision

    entries: Any = torchvision.models.get_model_weights(name)
    if not tag:
        return entries.DEFAULT if len(entries) else None
    if tag not in entries.__members__:
        raise UnknownName(
            f"torchvision has no weights {tag!r} for {name}", do=f"Known: {', '.join(entries.__members__)}."
        )
    return entries[tag]


def _spec(weights: Any, request: Request) -> InputSpec:
    """Read what the weights eat: the file's own word first, then torchvision's."""
    if request.facts.get("input_spec"):
        return InputSpec.from_dict(request.facts["input_spec"])
    if weights is None:
        return InputSpec()
    preset = weights.transforms()
    side = preset.crop_size[0]
    return InputSpec(
        (side, side), 3, tuple(preset.mean), tuple(preset.std), str(getattr(preset.interpolation, "value", "bilinear"))
    )


def build(name: str, size: tuple[int, int], classes: int) -> nn.Module:
    """Build a net for a size in pixels (H, W) and a number of classes, from random numbers."""
    import torchvision

    options: dict[str, Any] = {"num_classes": classes}
    if name in _WITH_AUX:
        options |= {"aux_logits": False, "init_weights": True, "transform_input": False}
    if name.startswith("vit_"):
        if size[0] != size[1]:
            raise BadRecipe(f"{name} of torchvision takes square images only, not {size[0]} x {size[1]}")
        options["image_size"] = size[0]
    if name.startswith("maxvit_"):
        options["input_size"] = size
    try:
        return torchvision.models.get_model(name, weights=None, **options)
    except (ValueError, RuntimeError, AssertionError) as error:
        raise BadRecipe(f"torchvision:{name} cannot be built for {size[0]} x {size[1]} pixels: {error}") from error


def _fetched(name: str, weights: Any, request: Request) -> Fetched | None:
    if request.random:
        return None
    if request.state is not None:
        source = str(request.facts.get("source") or request.origin)
        return Fetched(dict(request.state), request.sha256, source, request.origin)
    label = f"torchvision:{name}"
    if weights is None:
        raise BadWeights(f"torchvision has no weights for {name}", do=f"Use none:{label} for random numbers.")
    from medgraft.weights import hub

    found = hub.fetch_url(weights.url, name=label, offline=request.offline)
    return Fetched(tensors.load(found.path), found.sha256, weights.url, label)


def _resampled(net: nn.Module, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Stretch the positions of a ViT to another image size, with torchvision's own code."""
    from torchvision.models import VisionTransformer
    from torchvision.models.vision_transformer import interpolate_embeddings

    if isinstance(net, VisionTransformer) and "encoder.pos_embedding" in state:
        return dict(interpolate_embeddings(net.image_size, net.patch_size, OrderedDict(state)))
    return state


def cut(net: nn.Module, spec: InputSpec) -> list[Stage]:
    """Cut a net of torchvision into stages; its head is left out."""
    size = probe_size(spec)
    from torchvision.models import ConvNeXt, DenseNet, MaxVit, SwinTransformer, VisionTransformer

    if isinstance(net, VisionTransformer):
        return tokens.cut_torchvision_vit(net)
    if isinstance(net, SwinTransformer):
        return cut_by_stride(pieces_of(net, skip=_HEADS, depth=1), size, layout=channels_first)
    if isinstance(net, MaxVit):
        return cut_by_stride([("stem", net.stem), *((f"block{k}", b) for k, b in enumerate(net.blocks))], size)
    found = pieces_of(net, skip=_HEADS)
    if isinstance(net, DenseNet):
        found.append(("relu", nn.ReLU()))
    if isinstance(net, ConvNeXt):
        found.append(("norm", net.classifier[0]))
    return cut_by_stride(found, size, names=RESNET_STAGES if hasattr(net, "layer4") else ())
