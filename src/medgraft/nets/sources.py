"""Sources that stand on others: files, the hub, embedded weights, random numbers."""

from __future__ import annotations

import difflib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from medgraft.errors import BadWeights, UnknownName
from medgraft.nets import BACKBONES
from medgraft.nets.request import Opened, Request
from medgraft.weights import catalogue, tensors

DEFAULT_ARCHITECTURE = "timm:resnet10t"
# Names of papers that the libraries know under another one.
ALIASES = {"inception_v1": "torchvision:googlenet", "inception_v2": "medgraft:inception_v2"}


def resolve(name: str) -> str:
    """Turn what a user typed into "source:name".

    "auto" is the best embedded encoder, or random numbers where none is installed; a path that exists is
    a file; a bare name is looked up in timm, then in torchvision.

    Raises:
        UnknownName: there is no such source or net; the nearest names are given.
    """
    if name == "auto":
        return catalogue.default_name() or f"none:{DEFAULT_ARCHITECTURE}"
    scheme, colon, rest = name.partition(":")
    if colon and scheme in BACKBONES:
        return f"none:{resolve(rest)}" if scheme == "none" else name
    if Path(name).is_file():
        return f"file:{name}"
    if colon:
        known = ", ".join(BACKBONES)
        raise UnknownName(f"there is no source of backbones named {scheme!r}", where=name, do=f"Known: {known}.")
    return _bare(name)


def _bare(name: str) -> str:
    import timm

    from medgraft.nets.torchvision_nets import known_names

    if name in ALIASES:
        return ALIASES[name]
    if timm.is_model(name.partition(".")[0]):
        return f"timm:{name}"
    if name in known_names():
        return f"torchvision:{name}"
    near = [f"timm:{n}" for n in difflib.get_close_matches(name, timm.list_models(), n=2)]
    near += [f"timm:{n}" for n in timm.list_models(f"*{name}*")[:2]] if not near else []
    near += [f"torchvision:{n}" for n in difflib.get_close_matches(name, known_names(), n=1)]
    hint = f"Did you mean {' or '.join(near)}?" if near else "List them with: medgraft backbones"
    raise UnknownName(f"there is no backbone named {name!r}", do=hint)


def open_none(rest: str, request: Request) -> Opened:
    """Open the same architecture with random numbers: no weights are read, the network is not touched."""
    inner = resolve(rest)
    scheme, _, name = inner.partition(":")
    warning = f"{inner} starts from random numbers, not from trained weights"
    opened = BACKBONES[scheme](name, replace(request, random=True))
    return replace(opened, licence="", sha256="", source="random numbers", warnings=(*opened.warnings, warning))


def open_file(rest: str, request: Request) -> Opened:
    """Open a weight file (.safetensors, .pth, .pt, .bin); `arch=`, its header or config.json name the architecture."""
    path, architecture = _split(rest)
    if not path.is_file():
        raise BadWeights("there is no such file", where=path, do="Give the path of a .safetensors or .pth file.")
    facts = _file_facts(path)
    architecture = architecture or facts.get("arch")
    if not architecture:
        raise BadWeights("the file does not say its architecture", where=path, do="Add it: file:PATH,arch=timm:NAME")
    inner = resolve(str(architecture))
    scheme, _, name = inner.partition(":")
    if scheme not in ("timm", "torchvision", "medgraft"):
        raise BadWeights(f"the architecture {inner!r} is no net", where=path, do="Use arch=timm:NAME.")
    if request.random:
        return BACKBONES[scheme](name, replace(request, facts=facts))
    found = replace(request, state=tensors.load(path), origin=str(path), sha256=tensors.sha256_file(path), facts=facts)
    return BACKBONES[scheme](name, found)


def _split(rest: str) -> tuple[Path, str]:
    path, comma, option = rest.rpartition(",arch=")
    return (Path(path).expanduser(), option) if comma else (Path(rest).expanduser(), "")


def _file_facts(path: Path) -> dict[str, Any]:
    """Read what a weight file, or the config.json beside it, says of itself."""
    facts: dict[str, Any] = {"source": f"file {path.name}"}
    if path.suffix == ".safetensors":
        facts |= catalogue.stated(tensors.metadata(path), where=path)
    config = path.parent / "config.json"
    if "arch" not in facts and config.is_file():
        facts |= timm_config(config)
    return facts


def timm_config(path: Path) -> dict[str, Any]:
    """Read the config.json that timm writes beside weights."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        own = dict(values.get("pretrained_cfg") or values)
        architecture = str(values["architecture"])
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise BadWeights("the file is no config.json of timm", where=path) from error
    for key in ("num_classes", "label_names", "label_descriptions"):
        if key in values:
            own[key] = values[key]
    facts = {"arch": f"timm:{architecture}", "timm_config": own, "timm_args": values.get("model_args") or {}}
    return facts | ({"licence": own["license"]} if own.get("license") else {})


def open_embedded(rest: str, request: Request) -> Opened:
    """Open weights that come with medgraft."""
    return open_file(str(catalogue.embedded_path(rest)), request)


def open_hub(rest: str, request: Request) -> Opened:
    """Open a timm net of the Hugging Face hub: OWNER/NAME, or OWNER/NAME@REVISION."""
    from medgraft.weights import hub

    name = f"hf-hub:{rest}"
    config = hub.fetch(rest, "config.json", name=name, offline=request.offline)
    facts = timm_config(config.path) | {"source": name}
    scheme, _, architecture = str(facts["arch"]).partition(":")
    if request.random:
        return BACKBONES[scheme](architecture, replace(request, facts=facts))
    found = hub.fetch_weights(rest, name=name, offline=request.offline)
    state = tensors.load(found.path)
    return BACKBONES[scheme](architecture, replace(request, state=state, origin=name, sha256=found.sha256, facts=facts))
