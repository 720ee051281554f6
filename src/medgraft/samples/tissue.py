"""Where a slide has tissue, told from a small picture of it: what differs from the glass in colour or in density."""

from __future__ import annotations

import numpy as np

_FLAT = 0.02  # optical density: glass varies less than this between neighbours
_GLASS = 0.01  # share of a picture that must be flat and bright, or there is no glass
_NEAR = 0.06  # optical density within which flat pixels belong to the glass
_LEAST, _MOST = 0.03, 0.05  # optical density: the threshold lies between these
_BLACK = 10  # darker than any tissue: padding of the scanner
_HOLE, _SPECK = 0.01, 1e-4  # shares of the picture


def tissue_mask(overview: np.ndarray) -> np.ndarray:
    """Get where tissue is, bool `(H, W)`.

    The glass is what is flat and bright, whatever its colour; tissue is what absorbs otherwise than the glass does.
    Where nothing is flat and bright there is no glass, and all is tissue.

    Args:
        overview: uint8 `(H, W, 3)`, the whole slide at about 500 to 2000 pixels a side; see `Slide.overview`.

    Source:
        Otsu, "A threshold selection method from gray-level histograms", IEEE Transactions SMC 1979.
    """
    from scipy import ndimage

    density = -np.log10((overview.astype(np.float32) + 1) / 256)
    padding = overview.max(axis=-1) < _BLACK
    glass = _glass(density, padding)
    if glass is None:
        return ~padding
    colour, spread = glass
    away = np.sqrt(((density - colour) ** 2).mean(axis=-1))
    away: np.ndarray = ndimage.gaussian_filter(away, 0.8)
    # Otsu on square roots: a faint section counts, however dark another one is.
    least = float(np.clip(4 * spread, _LEAST, _MOST))
    level = float(np.clip(otsu(np.sqrt(away[~padding])) ** 2, least, _MOST))
    found = (away > level) & ~padding
    radius = max(1, round(max(found.shape) / 400))
    closed: np.ndarray = ndimage.binary_closing(np.pad(found, 2 * radius, "edge"), _disc(radius))[
        2 * radius : -2 * radius, 2 * radius : -2 * radius
    ]
    found = ~_without_small(~closed, round(_HOLE * found.size), open_edge=True)
    return _without_small(found, max(4, round(_SPECK * found.size)), open_edge=False)


def _glass(density: np.ndarray, padding: np.ndarray) -> tuple[np.ndarray, float] | None:
    """Get density of the glass in each channel and how much it varies, or None where there is no glass."""
    from scipy import ndimage

    light = density.mean(axis=-1)
    mean = ndimage.uniform_filter(light, 5, mode="nearest")
    square = ndimage.uniform_filter(light * light, 5, mode="nearest")
    near: np.ndarray = ndimage.binary_dilation(padding, iterations=3)
    flat = (np.sqrt(np.maximum(square - mean * mean, 0)) < _FLAT) & ~near
    flat = ndimage.binary_opening(flat, _disc(3))  # the lumen of a vessel may be as flat, but is small
    if flat.mean() < _GLASS:
        return None
    brightest = np.percentile(light[flat], 5)
    flat &= light < brightest + _NEAR
    bright = np.mean(light[~padding] > brightest - _NEAR)
    if flat.mean() < _GLASS or bright < 0.9:
        return None
    colour = np.median(density[flat], axis=0)
    away = np.sqrt(((density[flat] - colour) ** 2).mean(axis=-1))
    return colour, float(np.median(away))


def otsu(values: np.ndarray) -> float:
    """Get the threshold that parts numbers into two groups which vary least within themselves.

    Example:
        >>> bool(1 < otsu(np.array([0.9, 1.0, 1.0, 5.0, 5.1, 4.9])) < 4.9)
        True
    """
    counts, edges = np.histogram(values, bins=256)
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    total = np.cumsum(counts * middles)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (total / below - (total[-1] - total) / above) ** 2
    between = np.nan_to_num(between, nan=-1.0)
    # Any threshold in an empty gap is as good; the middle of the gap is the safest.
    best = np.flatnonzero(between >= between.max() * (1 - 1e-9))
    return float(middles[best].mean())


def _disc(radius: int) -> np.ndarray:
    line = np.arange(-radius, radius + 1)
    return line[:, None] ** 2 + line[None, :] ** 2 <= (radius + 0.5) ** 2


def _without_small(mask: np.ndarray, least: int, *, open_edge: bool) -> np.ndarray:
    """Drop pieces of fewer than `least` pixels; with `open_edge` those at the edge of the picture stay."""
    from scipy import ndimage

    pieces = np.empty(mask.shape, np.int32)
    count = int(ndimage.label(mask, output=pieces))  # type: ignore[arg-type]
    if not count:
        return mask
    kept = np.bincount(pieces.ravel(), minlength=count + 1) >= least
    if open_edge:
        border = np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]])
        kept[border] = True
    kept[0] = False
    return kept[pieces]
