"""Backbones, heads, and what freezing does to them.

`medgraft.nets.backbone.backbone(name)` opens any name a user may type;
`BACKBONES` holds the words before the colon. Nothing heavy is imported until a backbone is opened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medgraft.registry import Registry

if TYPE_CHECKING:
    from medgraft.nets.adapt import depth_names, freeze, has_folded_norms, parameter_groups, train_mode
    from medgraft.nets.backbone import Backbone
    from medgraft.nets.heads import LinearHead
    from medgraft.nets.listing import default_backbone, list_backbones
    from medgraft.nets.original import classifier

BACKBONES = Registry(
    "backbone",
    {
        "timm": "medgraft.nets.timm_nets:open_timm",
        "torchvision": "medgraft.nets.torchvision_nets:open_torchvision",
        "medgraft": "medgraft.nets.own_nets:open_own",
        "hf-hub": "medgraft.nets.sources:open_hub",
        "file": "medgraft.nets.sources:open_file",
        "embedded": "medgraft.nets.sources:open_embedded",
        "none": "medgraft.nets.sources:open_none",
    },
)

_HOMES = {
    "Backbone": "backbone",
    "classifier": "original",
    "LinearHead": "heads",
    "default_backbone": "listing",
    "depth_names": "adapt",
    "freeze": "adapt",
    "has_folded_norms": "adapt",
    "list_backbones": "listing",
    "parameter_groups": "adapt",
    "train_mode": "adapt",
}

__all__ = [
    "BACKBONES",
    "Backbone",
    "LinearHead",
    "classifier",
    "default_backbone",
    "depth_names",
    "freeze",
    "has_folded_norms",
    "list_backbones",
    "parameter_groups",
    "train_mode",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
