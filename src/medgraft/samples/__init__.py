"""From a data set on disk to batches: layouts, splits, duplicates, survey, store, loader.

The names below open on first use, so importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from medgraft.registry import Registry

if TYPE_CHECKING:
    from medgraft.samples.dataset import Columns, DataSet, read_samples
    from medgraft.samples.duplicates import Duplicates
    from medgraft.samples.facts import facts_of, image_facts
    from medgraft.samples.split import assign_splits, check_leaks
    from medgraft.samples.survey import Survey

LAYOUTS = Registry(
    "layout",
    {
        "coco": "medgraft.samples.coco:Coco",
        "dicomtree": "medgraft.samples.dicomtree:Dicomtree",
        "folder": "medgraft.samples.folder:Folder",
        "masks": "medgraft.samples.masks:Masks",
        "medmnist": "medgraft.samples.medmnist:Medmnist",
        "table": "medgraft.samples.table:Table",
        "voc": "medgraft.samples.voc:Voc",
        "yolo": "medgraft.samples.yolo:Yolo",
    },
)

_HOMES = {
    "Columns": "dataset",
    "DataSet": "dataset",
    "Duplicates": "duplicates",
    "Survey": "survey",
    "assign_splits": "split",
    "check_leaks": "split",
    "facts_of": "facts",
    "image_facts": "facts",
    "read_samples": "dataset",
}

__all__ = [
    "LAYOUTS",
    "Columns",
    "DataSet",
    "Duplicates",
    "Survey",
    "assign_splits",
    "check_leaks",
    "facts_of",
    "image_facts",
    "read_samples",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'medgraft.samples' has no attribute {name!r}")
    return getattr(importlib.import_module(f"medgraft.samples.{_HOMES[name]}"), name)
