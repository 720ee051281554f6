"""Nets of timm, cut into stages."""

from __future__ import annotations

import difflib
import sys
from typing import Any

import torch
from torch import nn

from medgraft.errors import BadRecipe, BadWeights, UnknownName
from medgraft.nets.fit import Fetched, is_head, load_strict, opened, outputs_in
from medgraft.nets.request import Opened, Request
from medgraft.nets.timm_cut import HEADS, cut
from medgraft.values import InputSpec
from medgraft.weights import tensors

# Arguments of timm.create_model that fetch or open files: a file of weights has no say in them.
_NOT_OF_THE_NET = {"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"}
_FILTERS = ("checkpoint_filter_fn", "_filter_fn", "pretrained_filter_fn")


def open_timm(rest: str, request: Request) -> Opened:
    """Open a net of timm by its name, with or without a tag: `resnet18`, `resnet18.a1_in1k`."""
    import timm

    name, _, tag = rest.partition(".")
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        raise UnknownName(
            f"timm has no net named {name!r}",
            do=f"Did you mean {' or '.join(near)}?" if near else "List them with: medgraft backbones timm",
        )
    if tag and rest not in timm.list_pretrained(f"{name}.*"):
        raise UnknownName(f"timm has no weights {tag!r} for {name}", do=f"Leave the tag out: timm:{name}")
    cfg = _config(rest, request)
    fetched = _fetched(rest, cfg, request)
    spec = _spec(cfg, request)
    net = _build(name, cfg, spec, request, fetched)
    architecture = f"timm:{name}"
    licence = str(cfg.get("license") or "not stated")
    if request.head:
        classes = tuple(request.facts.get("classes", ())) or _classes(cfg, net)
        return opened(request, fetched, architecture, spec, licence=licence, whole=net, classes=classes)
    return opened(request, fetched, architecture, spec, licence=licence, stages=tuple(cut(net, spec)))


def _config(rest: str, request: Request) -> dict[str, Any]:
    import timm

    given = request.facts.get("timm_config")
    if given:
        return dict(given)
    found = timm.get_pretrained_cfg(rest)
    return found.to_dict() if found is not None else {}


def _spec(cfg: dict[str, Any], request: Request) -> InputSpec:
    if request.facts.get("input_spec"):
        spec = InputSpec.from_dict(request.facts["input_spec"])
    else:
        spec = InputSpec(
            tuple(cfg.get("input_size", (3, 224, 224))[1:]),
            3,
            tuple(cfg.get("mean", InputSpec.mean)),
            tuple(cfg.get("std", InputSpec.std)),
            str(cfg.get("interpolation", "bilinear")),
        )
    size = request.image_size or spec.size
    return InputSpec(size, 3, spec.mean, spec.std, spec.interpolation, bool(cfg.get("fixed_input_size")))


def loadable(cfg: dict[str, Any]) -> bool:
    """Tell whether the weights of a timm configuration are tensors by timm's own keys (a few are foreign formats)."""
    if cfg.get("hf_hub_id"):
        return cfg.get("custom_load") != "hf"
    return bool(cfg.get("url")) and not cfg.get("custom_load")


def _fetched(rest: str, cfg: dict[str, Any], request: Request) -> Fetched | None:
    if request.random:
        return None
    if request.state is not None:
        source = str(request.facts.get("source") or request.origin)
        return Fetched(dict(request.state), request.sha256, source, request.origin)
    from medgraft.weights import hub

    name = f"timm:{rest}"
    if cfg.get("hf_hub_id") and loadable(cfg):
        repository = str(cfg["hf_hub_id"])
        repository = repository if not repository.endswith("/") else repository + rest
        found = hub.fetch_weights(repository, filename=cfg.get("hf_hub_filename"), name=name, offline=request.offline)
        return Fetched(tensors.load(found.path), found.sha256, f"hf-hub:{repository}", name)
    if loadable(cfg):
        found = hub.fetch_url(str(cfg["url"]), name=name, offline=request.offline)
        return Fetched(tensors.load(found.path), found.sha256, str(cfg["url"]), name)
    raise BadWeights(f"timm has no weights for {rest} that can be loaded", do=f"Use none:{name} for random numbers.")


def _build(name: str, cfg: dict[str, Any], spec: InputSpec, request: Request, fetched: Fetched | None) -> nn.Module:
    import timm

    given = dict(request.facts.get("timm_args") or {})
    options: dict[str, Any] = {key: value for key, value in given.items() if key not in _NOT_OF_THE_NET}
    if spec.fixed_size:
        options["img_size"] = spec.size
    heads = _head_names(cfg)
    if request.head:
        options["num_classes"] = outputs_in(fetched.state, heads) if fetched else cfg.get("num_classes", 1000)
    else:
        options["num_classes"] = 0
    try:
        net = timm.create_model(name, pretrained=False, **options)
    except (RuntimeError, ValueError, AssertionError, TypeError) as error:
        raise BadRecipe(f"timm:{name} cannot be built for {spec.size[0]} x {spec.size[1]} pixels: {error}") from error
    if fetched:
        state = _translated(net, fetched.state, cfg, heads, keep_head=request.head)
        load_strict(net, state, heads=heads, keep_head=request.head, origin=fetched.origin)
    return net


def _head_names(cfg: dict[str, Any]) -> tuple[str, ...]:
    stated = cfg.get("classifier") or ()
    return (*HEADS, *((stated,) if isinstance(stated, str) else tuple(stated)))


def _translated(
    net: nn.Module, state: dict[str, torch.Tensor], cfg: dict[str, Any], heads: tuple[str, ...], *, keep_head: bool
) -> dict[str, torch.Tensor]:
    """Bring a state to the keys and sizes of the net by timm's own filter (old keys, another image size)."""
    if not keep_head:
        state = {key: value for key, value in state.items() if not is_head(key, heads)}
    module = sys.modules[type(net).__module__]
    found = next((getattr(module, name) for name in _FILTERS if hasattr(module, name)), None)
    if found is not None:
        try:
            state = dict(found(state, net))
        except TypeError:
            state = dict(found(state))
    offset = int(cfg.get("label_offset") or 0)
    if keep_head and offset:
        state = {key: value[offset:] if is_head(key, heads) else value for key, value in state.items()}
    return state


def _classes(cfg: dict[str, Any], net: Any) -> tuple[str, ...]:
    """Get the names of the outputs: the weights' own, or ImageNet's where the number of classes says so."""
    from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

    if cfg.get("label_names"):
        described = cfg.get("label_descriptions") or {}
        return tuple(str(described.get(name, name)) for name in cfg["label_names"])
    subset = infer_imagenet_subset(net)
    if not subset:
        return ()
    info = ImageNetInfo(subset)
    return tuple(info.index_to_description(index) for index in range(info.num_classes()))
