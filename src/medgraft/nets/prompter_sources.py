"""Where models that outline prompts come from: the hub, a folder of its layout, or a file of weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from medgraft.errors import BadWeights, Offline, UnknownName
from medgraft.nets.prompter import Prompter
from medgraft.weights import catalogue, tensors

_PREPROCESSING = ("preprocessor_config.json", "processor_config.json")  # the newer one holds the older one
EMBEDDED = catalogue.EMBEDDED / "prompters" / "pyramid.safetensors"
_OWN = "embedded:pyramid"
_EXAMPLE = "--backbone hf-hub:facebook/sam-vit-base, a folder of that layout, or file:PATH"


def default_prompter() -> str:
    """Get the name of the model that "auto" means: the one that comes with medgraft.

    Raises:
        UnknownName: it does not come with this release.
    """
    if not EMBEDDED.is_file():
        what = "no model that outlines what a prompt shows comes with this release of medgraft"
        raise UnknownName(what, do=f"Name one: {_EXAMPLE}.")
    return _OWN


def open_prompter(name: str = "auto", *, offline: bool = False, device: str = "cpu") -> Prompter:
    """Get a model that outlines what prompts show.

    Args:
        name: "auto", embedded:pyramid, hf-hub:OWNER/NAME (or OWNER/NAME@REVISION), a folder that holds config.json
            and weights, the folder of a run of the task outline, or file:PATH of weights: .safetensors with
            config.json beside it, or a checkpoint of segment-anything or MobileSAM (.pth).
        offline: True never opens a socket.
        device: "cpu", "cuda" or "cuda:1".

    Raises:
        UnknownName: there is no such source.
        BadWeights: the files are not there, damaged, hold more than tensors, or are of another model.
        Offline: they are not here, and the network is forbidden or cannot be reached.
        MissingExtra: transformers is not installed.
    """
    name = default_prompter() if name == "auto" else name
    scheme, colon, rest = name.partition(":")
    if Path(name).expanduser().exists():
        scheme, colon, rest = "file", ":", name
    if name == _OWN:
        from medgraft.nets import pyramid_prompter

        return pyramid_prompter.opened(EMBEDDED, name=name, device=device)
    if colon and scheme == "hf-hub":
        return _of_hub(rest, name, offline, device)
    if colon and scheme == "file":
        path = Path(rest).expanduser()
        return _of_folder(path, name, device) if path.is_dir() else _of_file(path, name, device)
    if colon:
        raise UnknownName(f"there is no source {scheme!r} of models that take prompts", where=name, do=f"{_EXAMPLE}.")
    raise UnknownName("there is no such file or folder", where=name, do=f"Name a model: {_EXAMPLE}.")


def _of_hub(repository: str, name: str, offline: bool, device: str) -> Prompter:
    from medgraft.nets import sam
    from medgraft.weights import hub

    sam.library()
    config = _json(hub.fetch(repository, "config.json", name=name, offline=offline).path)
    sam.kind_of(config, where=name)
    preprocessing = None
    # Asked for before the weights: where these are in the cache, what is not there was asked for once.
    for file in _PREPROCESSING:
        try:
            preprocessing = _json(hub.fetch(repository, file, name=name, offline=offline).path)
            break
        except (BadWeights, Offline) as error:
            if isinstance(error, Offline) and not offline:
                raise
    found = hub.fetch_weights(repository, name=name, offline=offline)
    return _built(config, preprocessing, found.path, name=name, sha256=found.sha256, device=device)


def _of_run(path: Path, name: str, device: str) -> Prompter:
    """The model of a run that learnt to outline."""
    from medgraft.nets import pyramid_prompter, sam

    state, card = tensors.load_model(path)
    described = card.get("net")
    if not isinstance(described, Mapping):
        what = f"this is the model of a run for {card.get('task')}, which takes no prompts"
        raise BadWeights(what, where=path, do="Give one that was tuned on prompts; see medgraft train.")
    own = card.get("backbone") or {}
    facts = {"name": name, "source": f"tuned from {own.get('name')}", "licence": str(own.get("licence") or "")}
    facts["sha256"] = tensors.sha256_file(path)
    words: dict[str, Any] = {"facts": facts, "where": path, "device": device}
    if described.get("arm") == pyramid_prompter.ARM:
        return pyramid_prompter.rebuilt(described, state, **words)
    return sam.rebuilt(described, state, **words)


def _of_folder(folder: Path, name: str, device: str) -> Prompter:
    from medgraft.weights.hub import WEIGHT_FILES

    run = folder / "model.safetensors"
    if run.is_file() and "medgraft_card" in tensors.metadata(run):
        return _of_run(run, name, device)
    if not (folder / "config.json").is_file():
        do = "Give a folder as transformers saves a model: config.json and model.safetensors."
        raise BadWeights("the folder holds no config.json", where=folder, do=do)
    weights = next((folder / file for file in WEIGHT_FILES if (folder / file).is_file()), None)
    if weights is None:
        raise BadWeights(f"the folder holds no {' and no '.join(WEIGHT_FILES)}", where=folder, do="Copy it there.")
    return _beside(weights, name, device)


def _of_file(path: Path, name: str, device: str) -> Prompter:
    from medgraft.nets import sam, sam_original

    if not path.is_file():
        raise BadWeights("there is no such file", where=path, do="Give the path of a .safetensors or .pth file.")
    if path.suffix == ".safetensors" and "medgraft_card" in tensors.metadata(path):
        return _of_run(path, name, device)
    state = tensors.load(path)
    if not sam_original.is_original(state):
        if not (path.parent / "config.json").is_file():
            do = "Put its config.json beside it, or give a checkpoint of segment-anything or MobileSAM."
            raise BadWeights("the file does not say its architecture", where=path, do=do)
        return _beside(path, name, device)
    sam.library()
    config, renamed, encoder = sam_original.translated(state, where=path)
    model, side = sam.built(config, renamed, where=path, encoder=encoder)
    facts = {"name": name, "source": f"file {path.name}", "sha256": tensors.sha256_file(path)}
    return sam.SamPrompter(model, sam.sight_of(None, kind="sam", side=side), facts=facts, device=device)


def _beside(weights: Path, name: str, device: str) -> Prompter:
    """Of weights whose config.json lies beside them."""
    folder = weights.parent
    config = _json(folder / "config.json")
    preprocessing = next((_json(folder / file) for file in _PREPROCESSING if (folder / file).is_file()), None)
    sha256 = tensors.sha256_file(weights)
    return _built(config, preprocessing, weights, name=name, sha256=sha256, device=device)


def _built(
    config: dict[str, Any], preprocessing: dict[str, Any] | None, weights: Path, *, name: str, sha256: str, device: str
) -> Prompter:
    from medgraft.nets import sam

    kind = sam.kind_of(config, where=name)
    model, side = sam.built(config, tensors.load(weights), where=name)
    facts = {"name": name, "source": name, "licence": str(config.get("license") or ""), "sha256": sha256}
    sight = _read(lambda: sam.sight_of(preprocessing, kind=kind, side=side), weights.parent)
    return sam.SamPrompter(model, sight, facts=facts, device=device)


def _json(path: Path) -> dict[str, Any]:
    values = _read(lambda: json.loads(path.read_text(encoding="utf-8")), path)
    if not isinstance(values, Mapping):
        raise BadWeights("this is no JSON object", where=path)
    return dict(values)


def _read(act: Callable[[], Any], where: Path) -> Any:
    try:
        return act()
    except (ValueError, TypeError, KeyError, AttributeError, ZeroDivisionError, RecursionError) as error:
        raise BadWeights("the files beside the weights cannot be read", where=where) from error
