"""What can be grafted, as rows: the embedded encoders, what was downloaded, torchvision, timm."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

from medgraft.nets.sources import ALIASES, resolve
from medgraft.weights import catalogue, hub


def list_backbones(word: str | None = None) -> list[dict[str, Any]]:
    """List the backbones whose name holds `word`; no network, no weights are read.

    Returns:
        Rows of `name`, `architecture`, `source`, `parameters` (with the pre-trained head), `licence`, `top1`
        (published ImageNet-1k accuracy in %, None where the library does not state it), `input` (H, W),
        `offline` (True: usable without the network) and `note`. Embedded ones come first, the default on top.
    """
    rows = [*_embedded(), *_own(), *_torchvision(), *_timm(), *_downloaded()]
    wanted = (word or "").lower()
    return [row for row in rows if wanted in row["name"].lower() or wanted in row["note"].lower()]


def default_backbone() -> dict[str, str]:
    """Get `name` and `architecture` of what `auto` stands for."""
    name = resolve("auto")
    if name.startswith("embedded:"):
        return {"name": name, "architecture": str(catalogue.embedded()[0].get("arch", ""))}
    return {"name": name, "architecture": name.removeprefix("none:")}


def _row(name: str, architecture: str, **facts: Any) -> dict[str, Any]:
    blank = {"source": "", "parameters": None, "licence": "", "top1": None, "input": None, "offline": False, "note": ""}
    return {"name": name, "architecture": architecture} | blank | facts


def _embedded() -> list[dict[str, Any]]:
    rows = []
    for row in catalogue.embedded():
        spec = row.get("input_spec", {})
        facts = {"licence": row.get("licence", ""), "parameters": row.get("parameters"), "input": spec.get("size")}
        rows.append(
            _row(row["name"], str(row.get("arch", "")), source=row.get("source", "medgraft"), offline=True, **facts)
        )
    return rows


def _own() -> list[dict[str, Any]]:
    note = "Inception v2 (BN-Inception); random numbers only: neither timm nor torchvision has weights of it"
    facts = {"source": "medgraft", "parameters": 11_194_984, "licence": "Apache-2.0", "input": [224, 224]}
    return [_row("none:medgraft:inception_v2", "medgraft:inception_v2", offline=True, note=note, **facts)]


def _torchvision() -> list[dict[str, Any]]:
    from torchvision.models import get_model_weights

    from medgraft.nets.torchvision_nets import known_names, licence_of

    aliases = {target: name for name, target in ALIASES.items()}
    rows = []
    for name in known_names():
        full = f"torchvision:{name}"
        entries: Any = get_model_weights(name)
        best = entries.DEFAULT if len(entries) else None
        if best is None:
            continue
        side = best.transforms().crop_size[0]
        top1 = best.meta.get("_metrics", {}).get("ImageNet-1K", {}).get("acc@1")
        rows.append(
            _row(
                full,
                full,
                source=f"torchvision {best.name}",
                parameters=best.meta.get("num_params"),
                licence=licence_of(best),
                top1=top1,
                input=[side, side],
                offline=hub.has_url(best.url),
                note=f"also known as {aliases[full]}" if full in aliases else "",
            )
        )
    return rows


def _timm() -> list[dict[str, Any]]:
    import timm

    from medgraft.nets.timm_nets import loadable

    counts, here = _parameter_counts(), hub.repositories()
    rows = []
    for name in timm.list_models():
        cfg = timm.get_pretrained_cfg(name)
        if cfg is None or not loadable(cfg.to_dict()):
            continue
        repository = cfg.hf_hub_id or ""
        rows.append(
            _row(
                f"timm:{name}",
                f"timm:{name}",
                source=f"timm {cfg.tag}" if cfg.tag else "timm",
                parameters=counts.get(name),
                licence=cfg.license or "not stated",
                input=list(cfg.input_size[1:]),
                offline=repository in here or (bool(cfg.url) and not repository and hub.has_url(str(cfg.url))),
            )
        )
    return rows


def _downloaded() -> list[dict[str, Any]]:
    return [
        _row(f"hf-hub:{name}", "", source="Hugging Face hub, downloaded", offline=True)
        for name in sorted(hub.repositories())
        if not name.startswith("timm/")
    ]


@cache
def _parameter_counts() -> dict[str, int]:
    """Read the counts of timm's nets: building 1,400 of them takes minutes, so they were counted once."""
    text = resources.files("medgraft.nets").joinpath("timm_parameters.json").read_text(encoding="utf-8")
    return json.loads(text)
