"""Does the source of an image give its class away?

When one class comes from another hospital, scanner or web site, a model can
learn the source instead of the disease, and its test score is then worthless.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from medgraft.samples.dataset import words_of
from medgraft.values import Sample

_STRONG = 0.3  # Cramér's V from which an association is called: medium or large (Cohen 1988)
_ENOUGH = 30  # images
_TAGS = {
    "Manufacturer": "the manufacturer",
    "ManufacturerModelName": "the scanner model",
    "StationName": "the station",
    "InstitutionName": "the institution",
    "Modality": "the modality",
    "PhotometricInterpretation": "the photometric interpretation (such as MONOCHROME1)",
    "TransferSyntaxUID": "the compression",
    "container": "the file format",
}
_SOURCE_WORDS = {"site", "source", "scanner", "hospital", "centre", "center", "device", "manufacturer", "vendor"} | {
    "institution",
    "machine",
    "camera",
    "dataset",
}


def cramers_v(one: Sequence[object], other: Sequence[object]) -> float:
    """Get the association of two columns of words, 0 (none) to 1 (one gives the other away).

    Example:
        >>> cramers_v(["a", "a", "b", "b"] * 20, ["x", "x", "y", "y"] * 20) > 0.95
        True

    Source:
        with the bias correction of Bergsma, J. Korean Stat. Soc. 42 (2013) 323-328.
    """
    rows = {value: place for place, value in enumerate(dict.fromkeys(one))}
    columns = {value: place for place, value in enumerate(dict.fromkeys(other))}
    n = len(one)
    if n < 2 or len(rows) < 2 or len(columns) < 2:
        return 0.0
    table = np.zeros((len(rows), len(columns)))
    for a, b in zip(one, other, strict=True):
        table[rows[a], columns[b]] += 1
    expected = table.sum(axis=1, keepdims=True) @ table.sum(axis=0, keepdims=True) / n
    phi2 = float(((table - expected) ** 2 / expected).sum()) / n
    r, c = table.shape
    phi2 = max(0.0, phi2 - (r - 1) * (c - 1) / (n - 1))
    r_fair, c_fair = r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)
    smaller = min(r_fair - 1, c_fair - 1)
    return min(1.0, math.sqrt(phi2 / smaller)) if smaller > 0 else 0.0


def source_warnings(samples: Sequence[Sample], records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Get a warning for each property of the source that goes with the class.

    Args:
        samples: usable samples.
        records: their records, in the same order.
    """
    pairs = [(s, r) for s, r in zip(samples, records, strict=True) if s.label]
    labels = [str(s.label) for s, _ in pairs]
    if len(pairs) < _ENOUGH or len(set(labels)) < 2 or len(set(labels)) > len(pairs) / 5:
        return []
    warnings = []
    for what, column in _properties(pairs):
        levels = _merged(column)
        strength = cramers_v(levels, labels)
        if strength >= _STRONG:
            warnings.append(
                f"source correlates with class: {what} goes with the label (Cramér's V {strength:.2f}; "
                f"{_example(levels, labels)}); a model may learn the source instead of the disease"
            )
    return warnings


def _properties(pairs: Sequence[tuple[Sample, Mapping[str, Any]]]) -> Iterable[tuple[str, list[str]]]:
    records = [record for _, record in pairs]
    yield "the shape of the image", [_rounded_aspect(record["shape"]) for record in records]
    yield "the size of the image", [_rounded_area(record["shape"]) for record in records]
    yield "the bit depth", [f"{record['bits']} bits" for record in records]
    yield "colour", ["gray" if record["gray"] else "colour" for record in records]
    for tag, what in _TAGS.items():
        column = [str(record["facts"].get(tag, "")) for record in records]
        if any(column):
            yield what, column
    for name in dict.fromkeys(name for sample, _ in pairs for name in sample.covariates):
        if _SOURCE_WORDS & set(words_of(name)) and "name" not in words_of(name):
            yield f"the column {name!r}", [str(sample.covariates.get(name, "")) for sample, _ in pairs]


def _rounded_aspect(shape: Sequence[int]) -> str:
    ratio = shape[-1] / shape[-2]
    return "square" if 0.98 <= ratio <= 1.02 else f"about {round(ratio * 5) / 5:g} wide a tall"


def _rounded_area(shape: Sequence[int]) -> str:
    side = 2 ** (round(2 * math.log2(math.sqrt(shape[-1] * shape[-2]))) / 2)
    return f"about {side:.0f} pixels"


def _merged(column: Sequence[str], most: int = 12) -> list[str]:
    """The commonest levels; the rest is one level."""
    common = {name for name, _ in Counter(column).most_common(most)}
    return [name if name in common else "other" for name in column]


def _example(levels: Sequence[str], labels: Sequence[str]) -> str:
    """The level whose share differs most between one class and the rest, in words."""
    n = len(labels)
    level_counts, label_counts, both = Counter(levels), Counter(labels), Counter(zip(levels, labels, strict=True))

    def shares(level: str, label: str) -> tuple[float, float]:
        outside = level_counts[level] - both[level, label]
        return both[level, label] / label_counts[label], outside / max(n - label_counts[label], 1)

    def contrast(pair: tuple[str, str]) -> float:
        inside, outside = shares(*pair)
        return abs(inside - outside)

    level, label = max(sorted((a, b) for a in level_counts for b in label_counts), key=contrast)
    inside, outside = shares(level, label)
    return f"{level or 'none'}: {inside:.0%} of {label!r}, {outside:.0%} of the rest"
