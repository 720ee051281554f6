"""Radiomic features as IBSI defines them: shape, first-order statistics and gray level co-occurrence.

Source: Zwanenburg et al., "The Image Biomarker Standardization Initiative", Radiology 2020;295:328, and its reference
manual, arXiv 1612.07003. Names are those of the manual.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np
from scipy.spatial import ConvexHull, QhullError

from medgraft.errors import BadRecipe
from medgraft.samples.measures import longest, perimeter, surface_of

BINS = 32
_MOST_LEVELS = 1024


def features(
    values: np.ndarray, mask: np.ndarray, *, spacing: Sequence[float], bins: int = BINS, bin_width: float | None = None
) -> dict[str, float]:
    """Get all features of one structure.

    Args:
        values: `([D,] H, W)`, in the image's own unit.
        mask: what is in, of the same shape; not empty.
        spacing: of a pixel or voxel along each axis, in mm or in pixels.
        bins: gray levels of the histogram and the co-occurrence, from the darkest to the brightest value.
        bin_width: width of a gray level instead, counted from the darkest value.

    Returns:
        name -> value; NaN where it is not defined, as the skewness of one value.

    Raises:
        BadRecipe: there would be more than 1024 gray levels.
    """
    mask = np.asarray(mask, bool)
    levels = discretised(values, mask, bins=bins, bin_width=bin_width)
    inside = np.asarray(values, np.float64)[mask]
    shape = _flat_shape(mask, spacing) if mask.ndim == 2 else solid_shape(mask, spacing)
    return {
        **{f"shape_{name}": value for name, value in shape.items()},
        **{f"firstorder_{name}": value for name, value in (first_order(inside) | histogram(levels[mask])).items()},
        **{f"glcm_{name}": value for name, value in co_occurrence(levels, mask).items()},
    }


def discretised(
    values: np.ndarray, mask: np.ndarray, *, bins: int = BINS, bin_width: float | None = None
) -> np.ndarray:
    """Get gray levels from 1 of values; 0 outside of the mask.

    Raises:
        BadRecipe: there would be more than 1024: levels far apart carry no texture, and a table of all pairs of them
            would not fit into memory.

    Source: IBSI 2.7: a fixed number of bins, or bins of a fixed width.
    """
    inside = np.asarray(values, np.float64)[mask]
    low, high = float(inside.min()), float(inside.max())
    if bin_width is not None:
        steps = np.floor((inside - low) / bin_width)
        if steps.max() >= _MOST_LEVELS:
            what = f"gray levels {bin_width:g} wide would be {steps.max() + 1:.0f}, and at most {_MOST_LEVELS} are told"
            raise BadRecipe(f"{what} apart", do=f"Give --bin-width {_least_width(high - low)} or more.")
    else:
        if bins > _MOST_LEVELS:
            raise BadRecipe(f"{bins} gray levels are more than {_MOST_LEVELS}", do="Give --bins 32.")
        steps = np.minimum(np.floor(bins * (inside - low) / max(high - low, 1e-300)), bins - 1)
    found = np.zeros(mask.shape, np.int64)
    found[mask] = 1 + steps.astype(np.int64)
    return found


def _least_width(span: float) -> str:
    """The least width of a gray level that fits, in three digits."""
    least = span / (_MOST_LEVELS - 1)
    digit = 10.0 ** (math.floor(math.log10(least)) - 2)
    return f"{math.ceil(least / digit) * digit:.3g}"


def first_order(inside: np.ndarray) -> dict[str, float]:
    """Get intensity-based statistics of the values `(N,)` of a structure.

    Source: IBSI 3.3.
    """
    mean, variance = float(inside.mean()), float(inside.var())
    p10, p25, median, p75, p90 = np.percentile(inside, (10, 25, 50, 75, 90)).tolist()
    robust = inside[(p10 <= inside) & (inside <= p90)]
    off = inside - mean
    return {
        "mean": mean,
        "variance": variance,
        "skewness": _ratio(float((off**3).mean()), variance**1.5),
        "kurtosis": _ratio(float((off**4).mean()), variance**2) - 3,
        "median": median,
        "minimum": float(inside.min()),
        "p10": p10,
        "p90": p90,
        "maximum": float(inside.max()),
        "interquartile_range": p75 - p25,
        "range": float(np.ptp(inside)),
        "mean_absolute_deviation": float(np.abs(off).mean()),
        "robust_mean_absolute_deviation": float(np.abs(robust - robust.mean()).mean()),
        "median_absolute_deviation": float(np.abs(inside - median).mean()),
        "coefficient_of_variation": _ratio(math.sqrt(variance), mean),
        "quartile_coefficient_of_dispersion": _ratio(p75 - p25, p75 + p25),
        "energy": float((inside**2).sum()),
        "root_mean_square": math.sqrt(float((inside**2).mean())),
    }


def histogram(levels: np.ndarray) -> dict[str, float]:
    """Get entropy (bits) and uniformity of gray levels `(N,)`.

    Source: IBSI 3.4.18 and 3.4.19.
    """
    shares = np.bincount(levels.ravel()).astype(np.float64)
    shares = shares[shares > 0] / shares.sum()
    return {"entropy": _entropy(shares), "uniformity": float((shares**2).sum())}


def co_occurrence(levels: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Get what the gray levels of neighbours say: one matrix, merged over all directions at distance 1.

    Args:
        levels: `([D,] H, W)` from 1.
        mask: what is in.

    Source: IBSI 3.6; of volumes "3D, merged".
    """
    joint = _joint(levels, mask)
    if joint is None:
        return dict.fromkeys(_CO_OCCURRENCE, math.nan)
    count = len(joint)
    i, j = (index + 1.0 for index in np.indices(joint.shape))
    mean = float((i * joint).sum())
    variance = float(((i - mean) ** 2 * joint).sum())
    apart, together = _diagonals(joint)
    k, s = np.arange(count), np.arange(2, 2 * count + 1)
    gap, total = float((k * apart).sum()), float((s * together).sum())
    far = np.abs(i - j)
    unequal = far > 0
    found = (
        float(joint.max()),
        mean,
        variance,
        _entropy(joint),
        gap,
        float(((k - gap) ** 2 * apart).sum()),
        _entropy(apart),
        total,
        float(((s - total) ** 2 * together).sum()),
        _entropy(together),
        float((joint**2).sum()),
        float((far**2 * joint).sum()),
        float((far * joint).sum()),
        float((joint / (1 + far)).sum()),
        float((joint / (1 + far / count)).sum()),
        float((joint / (1 + far**2)).sum()),
        float((joint / (1 + (far / count) ** 2)).sum()),
        float((joint[unequal] / far[unequal] ** 2).sum()),
        _ratio(float((i * j * joint).sum()) - mean**2, variance),
        float((i * j * joint).sum()),
        *(float(((i + j - 2 * mean) ** power * joint).sum()) for power in (2, 3, 4)),
        *_information(joint),
    )
    return dict(zip(_CO_OCCURRENCE, found, strict=True))


_CO_OCCURRENCE = (
    "joint_maximum",
    "joint_average",
    "joint_variance",
    "joint_entropy",
    "difference_average",
    "difference_variance",
    "difference_entropy",
    "sum_average",
    "sum_variance",
    "sum_entropy",
    "angular_second_moment",
    "contrast",
    "dissimilarity",
    "inverse_difference",
    "normalised_inverse_difference",
    "inverse_difference_moment",
    "normalised_inverse_difference_moment",
    "inverse_variance",
    "correlation",
    "autocorrelation",
    "cluster_tendency",
    "cluster_shade",
    "cluster_prominence",
    "information_correlation_1",
    "information_correlation_2",
)


def _joint(levels: np.ndarray, mask: np.ndarray) -> np.ndarray | None:
    """Shares of pairs of neighbours, either way round; None where no two neighbours are in."""
    count = int(levels.max(initial=0))
    pairs = np.zeros(count * count, np.float64)
    for way in product((-1, 0, 1), repeat=levels.ndim):
        if way <= (0,) * levels.ndim:  # the other half are the same pairs the other way round
            continue
        one = tuple(slice(max(0, -step), size - max(0, step)) for step, size in zip(way, mask.shape, strict=True))
        two = tuple(slice(max(0, step), size - max(0, -step)) for step, size in zip(way, mask.shape, strict=True))
        both = mask[one] & mask[two]
        codes = (levels[one][both] - 1) * count + levels[two][both] - 1
        pairs += np.bincount(codes, minlength=count * count)
    joint = pairs.reshape(count, count)
    joint = joint + joint.T
    return joint / joint.sum() if joint.sum() else None


def _diagonals(joint: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    i, j = np.indices(joint.shape)
    apart = np.bincount(np.abs(i - j).ravel(), weights=joint.ravel(), minlength=len(joint))
    return apart, np.bincount((i + j).ravel(), weights=joint.ravel(), minlength=2 * len(joint) - 1)


def _information(joint: np.ndarray) -> tuple[float, float]:
    margin = joint.sum(axis=1)
    alone = np.outer(margin, margin)
    kept = alone > 0
    hxy, hx = _entropy(joint), _entropy(margin)
    hxy1 = -float((joint[kept] * np.log2(alone[kept])).sum())
    hxy2 = -float((alone[kept] * np.log2(alone[kept])).sum())
    return _ratio(hxy - hxy1, hx), math.sqrt(max(0.0, 1 - math.exp(-2 * (hxy2 - hxy))))


def solid_shape(mask: np.ndarray, spacing: Sequence[float]) -> dict[str, float]:
    """Get the shape of a structure of a volume.

    Source: IBSI 3.1: of the mesh halfway between voxels, and of the centres of voxels along their main axes.
    """
    surface = surface_of(mask, spacing)
    area, volume = float(surface.area or 0), float(surface.volume or 0)
    roundness = 36 * math.pi * volume**2 / area**3
    major, minor, least = _axes(mask, spacing)
    return {
        "volume_mesh": volume,
        "volume_voxels": float(mask.sum()) * math.prod(spacing),
        "surface_area": area,
        "surface_to_volume": area / volume,
        "compactness_1": volume / (math.sqrt(math.pi) * area**1.5),
        "compactness_2": roundness,
        "spherical_disproportion": roundness ** (-1 / 3),
        "sphericity": roundness ** (1 / 3),
        "asphericity": roundness ** (-1 / 3) - 1,
        "maximum_diameter": longest(surface.points),
        "major_axis_length": major,
        "minor_axis_length": minor,
        "least_axis_length": least,
        "elongation": _ratio(minor, major),
        "flatness": _ratio(least, major),
        "volume_density_convex_hull": _ratio(volume, _hull(surface.points)),
    }


def _flat_shape(mask: np.ndarray, spacing: Sequence[float]) -> dict[str, float]:
    """The shape of a structure of a picture: the same measures where they have a meaning there."""
    area, around = float(mask.sum()) * math.prod(spacing), perimeter(mask, spacing)
    points = surface_of(mask, spacing).points
    major, minor = _axes(mask, spacing)
    return {
        "area": area,
        "perimeter": around,
        "perimeter_to_area": around / area,
        "circularity": 4 * math.pi * area / around**2,
        "maximum_diameter": longest(points),
        "major_axis_length": major,
        "minor_axis_length": minor,
        "elongation": _ratio(minor, major),
        "solidity": min(1.0, _ratio(area, _hull(points))),
    }


def _axes(mask: np.ndarray, spacing: Sequence[float]) -> list[float]:
    """Lengths of the main axes, the longest first: four times the deviation along each."""
    places = np.argwhere(mask) * np.array(spacing, np.float64)
    spread = np.atleast_2d(np.cov(places, rowvar=False)) if len(places) > 1 else np.zeros((mask.ndim,) * 2)
    return [4 * math.sqrt(max(0.0, value)) for value in np.linalg.eigvalsh(spread)[::-1].tolist()]


def _hull(points: np.ndarray) -> float:
    """Area or volume of the convex hull."""
    try:
        return float(ConvexHull(points).volume)
    except (QhullError, ValueError):
        return math.nan


def _entropy(shares: np.ndarray) -> float:
    kept = shares[shares > 0]
    return -float((kept * np.log2(kept)).sum())


def _ratio(above: float, below: float) -> float:
    return above / below if below else math.nan
