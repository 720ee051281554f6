"""What is known of an image without looking at it, as numbers: size, format, scanner, columns of the table."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medgraft.samples.roles import column_named
from medgraft.samples.zones import named_zones
from medgraft.values import Sample

_LEAST, _MOST = 0.02, 20  # share of the training images that a word must have to count; words a property
_NUMERIC = 0.9  # share of the values that must be numbers


def properties(samples: Sequence[Sample], records: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Get each property's value of every image, as text; "" where it is unknown.

    Args:
        samples: with the columns of their table beside label, patient and split; those named like an answer or like
            the severity of a zone are not taken.
        records: their records, in the same order.
    """
    found: dict[str, list[str]] = {
        "width": [str(record["shape"][-1]) for record in records],
        "height": [str(record["shape"][-2]) for record in records],
        "aspect": [f"{record['shape'][-1] / record['shape'][-2]:.4f}" for record in records],
        "bits": [f"{record['bits']} bits" for record in records],
        "colour": ["gray" if record["gray"] else "colour" for record in records],
        "format": [sample.image.path.suffix.lower() for sample in samples],
    }
    tags = dict.fromkeys(tag for record in records for tag in record["facts"])
    found |= {f"tag {tag}": [str(record["facts"].get(tag, "")) for record in records] for tag in tags}
    # A column that is named like an answer, such as a grade beside a diagnosis, says nothing of how an image was made.
    every = dict.fromkeys(name for sample in samples for name in sample.covariates)
    told = set(named_zones(list(every)))
    if "synthetic" in every:  # how often a program had drawn before is no circumstance of an image
        told |= {"seed", "number"}
    columns = [name for name in every if name not in told and column_named("label", [name]) is None]
    found |= {f"column {name}": [str(sample.covariates.get(name) or "") for sample in samples] for name in columns}
    return found


def table(known: Mapping[str, Sequence[str]], training: Sequence[int]) -> tuple[np.ndarray, list[str]]:
    """Get `(N, P)` float32 numbers and the properties that they come from; which words count is settled on training.

    Numbers stand as they are, beside whether they are known; words as one column each. A property that is the same
    for all training images, or of a different word for nearly each, is left out.
    """
    columns, used = [], []
    for name, values in known.items():
        made = _numbers(values, training) if _is_number(values, training) else _words(values, training)
        if made:
            columns += made
            used.append(name)
    count = len(next(iter(known.values()), ()))
    return np.column_stack(columns).astype(np.float32) if columns else np.zeros((count, 0), np.float32), used


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def _is_number(values: Sequence[str], training: Sequence[int]) -> bool:
    told = [values[index] for index in training if values[index]]
    return bool(told) and sum(not math.isnan(_number(text)) for text in told) >= _NUMERIC * len(told)


def _numbers(values: Sequence[str], training: Sequence[int]) -> list[np.ndarray]:
    column = np.array([_number(text) for text in values])
    own = column[list(training)]
    known = own[np.isfinite(own)]
    if len(known) == 0:
        return []
    missing = ~np.isfinite(column)
    filled = np.where(missing, np.median(known), column)
    found = [filled] if np.ptp(known) > 0 else []
    return [*found, missing.astype(float)] if 0 < missing[list(training)].sum() < len(own) else found


def _words(values: Sequence[str], training: Sequence[int]) -> list[np.ndarray]:
    told = Counter(values[index] for index in training)
    common = [word for word, count in told.most_common(_MOST) if count >= max(2, _LEAST * len(training))]
    if len(told) < 2 or not common:
        return []
    return [np.array([float(value == word) for value in values]) for word in common]
