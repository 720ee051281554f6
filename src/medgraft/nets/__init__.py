"""Backbones, heads, and what freezing does to them.

`medgraft.nets.backbone.backbone(name)` opens any name a user may type;
`BACKBONES` holds the words before the colon. Nothing heavy is imported until a backbone is opened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medgraft.registry import Registry

if TYPE_CHECKING:
    from medgraft.nets.adapt import (
        batch_norms,
        depth_names,
        freeze,
        has_folded_norms,
        parameter_groups,
        train_mode,
    )
    from medgraft.nets.backbone import Backbone
    from medgraft.nets.heads import LinearHead
    from medgraft.nets.listing import default_backbone, list_backbones
    from medgraft.nets.lora import RANK, add_adapters, merge_adapters, takes_adapters
    from medgraft.nets.norms import recalibrate, unfold_norms
    from medgraft.nets.original import classifier
    from medgraft.nets.volume import VolumeBackbone, inflate, pooled, volume_backbone

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
    "RANK": "lora",
    "add_adapters": "lora",
    "Backbone": "backbone",
    "batch_norms": "adapt",
    "classifier": "original",
    "LinearHead": "heads",
    "VolumeBackbone": "volume",
    "default_backbone": "listing",
    "depth_names": "adapt",
    "takes_adapters": "lora",
    "freeze": "adapt",
    "has_folded_norms": "adapt",
    "inflate": "volume",
    "list_backbones": "listing",
    "merge_adapters": "lora",
    "parameter_groups": "adapt",
    "pooled": "volume",
    "recalibrate": "norms",
    "train_mode": "adapt",
    "unfold_norms": "norms",
    "volume_backbone": "volume",
}

__all__ = [
    "BACKBONES",
    "Backbone",
    "LinearHead",
    "RANK",
    "VolumeBackbone",
    "add_adapters",
    "batch_norms",
    "classifier",
    "default_backbone",
    "depth_names",
    "freeze",
    "has_folded_norms",
    "inflate",
    "list_backbones",
    "merge_adapters",
    "parameter_groups",
    "pooled",
    "recalibrate",
    "takes_adapters",
    "train_mode",
    "unfold_norms",
    "volume_backbone",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
