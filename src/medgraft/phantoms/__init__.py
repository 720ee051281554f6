"""Phantoms: procedural medical images of nobody, with every lesion known.

A kind is a function `kind(index, *, seed, size) -> Case`; a picture, or a volume if it is in `VOLUMES`. Each image
depends on its seed and index alone, so a set can be made in any order and in parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medgraft.registry import Registry

if TYPE_CHECKING:
    from medgraft.phantoms.case import Case, Lesion, Nodule
    from medgraft.phantoms.slides import SlidePlan, slide_of, write_slide
    from medgraft.phantoms.write import write_set

KINDS = Registry(
    "phantom",
    {
        "fundus": "medgraft.phantoms.fundus:fundus",
        "chest": "medgraft.phantoms.chest:chest",
        "skin": "medgraft.phantoms.skin:skin",
        "keratitis": "medgraft.phantoms.keratitis:keratitis",
        "glomeruli": "medgraft.phantoms.glomeruli:glomeruli",
        "ct_nodules": "medgraft.phantoms.ct_nodules:ct_nodules",
    },
)

VOLUMES = frozenset({"ct_nodules"})  # kinds that are volumes, written as NIfTI or DICOM series

_HOMES = {
    "Case": "case",
    "Lesion": "case",
    "Nodule": "case",
    "SlidePlan": "slides",
    "slide_of": "slides",
    "write_slide": "slides",
    "write_set": "write",
}

__all__ = ["KINDS", "VOLUMES", "Case", "Lesion", "Nodule", "SlidePlan", "slide_of", "write_set", "write_slide"]


def __getattr__(name: str) -> Any:
    """Open a public name on first use, so that importing this room costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
