"""Names of the numbers in label maps, as `dataset.json` of nnU-Net and of the Medical Segmentation Decathlon has them.

Source: https://github.com/MIC-DKFZ/nnUNet (documentation/dataset_format.md); Antonelli et al., "The Medical
Segmentation Decathlon", Nature Communications 2022.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from medgraft.errors import BadData
from medgraft.samples.mask_meaning import numbers_named

_FILE = "dataset.json"
_MAX_BYTES = 64 << 20


def names_beside(folder: Path, notes: list[str]) -> dict[int, str]:
    """Get number -> name by the `labels` of a `dataset.json` in a folder; empty, with a note, where they do not say."""
    path = folder / _FILE
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"it is larger than {_MAX_BYTES >> 20} MiB")
        document = json.loads(path.read_bytes().decode("utf-8-sig"))
        labels = document.get("labels") if isinstance(document, Mapping) else None
        if not isinstance(labels, Mapping):
            return {}
        regions = [name for name, value in labels.items() if isinstance(value, list)]
        if regions:
            raise ValueError(f"{regions[0]!r} is a region of several labels, which overlap")
        found = numbers_named(labels)
    except (OSError, ValueError, RecursionError, BadData) as error:
        why = error.what if isinstance(error, BadData) else str(error)
        notes.append(f"the names in {_FILE} are not used: {why}")
        return {}
    notes.append(f"the names of the masks' numbers are those in {_FILE}")
    return found
