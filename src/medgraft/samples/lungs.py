"""The lungs of a chest CT from its HU alone, closed so that what sits on the pleura stays inside.

Source: the steps are those of Hu, Hoffman and Reinhardt, "Automatic lung
segmentation for accurate quantitation of volumetric X-ray CT images", IEEE
Trans Med Imaging 2001: threshold, the large pieces of air inside the body,
closing.
"""

from __future__ import annotations

import numpy as np

from medgraft.samples.resampling import Regrid, resampled, stretched

_AIR_HU = -400.0
_GRID_MM = 2.6
_CLOSING_MM = 14.0  # half of the largest nodule: what is narrower is bridged
_LEAST_ML = 80.0
_LEAST_SHARE = 0.12  # of the largest piece of air


def lung_mask(hu: np.ndarray, spacing_mm: tuple[float, ...]) -> np.ndarray:
    """Get where lung is, bool `(D, H, W)`, with vessels, and nodules at the pleura up to about 28 mm.

    Args:
        hu: `(D, H, W)`, slices along the first axis.
        spacing_mm: (z, y, x) size of a voxel.

    The mask is drawn on a grid of 2.6 mm; all False where no lung is found.
    """
    small, way = resampled(hu, spacing_mm, to_mm=_GRID_MM)
    mask = _closed(_air_inside(small, way), way.spacing_mm)
    return _grown_back(mask, way)


def _air_inside(hu: np.ndarray, way: Regrid) -> np.ndarray:
    from scipy import ndimage

    air = hu < _AIR_HU
    air &= ~_outside(air)
    found: tuple[np.ndarray, int] = ndimage.label(air)  # type: ignore[assignment]
    labels, count = found
    if not count:
        return air
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    millilitres = sizes * float(np.prod(way.spacing_mm)) / 1000
    kept = (millilitres > _LEAST_ML) & (sizes > _LEAST_SHARE * sizes.max())
    return kept[labels]


def _outside(air: np.ndarray) -> np.ndarray:
    """Get the air of each slice that reaches the edge of the picture: the room, not the lung."""
    from scipy import ndimage

    flat = ndimage.generate_binary_structure(3, 1)
    flat[0] = flat[2] = False
    found: tuple[np.ndarray, int] = ndimage.label(air, structure=flat)  # type: ignore[assignment]
    labels = found[0]
    rim = np.zeros(air.shape, bool)
    rim[:, [0, -1]] = True
    rim[:, :, [0, -1]] = True
    touching = np.unique(labels[rim & air])
    return np.isin(labels, touching[touching > 0])


def _closed(mask: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """Close each lung for itself: closed together, they would take in the heart between them."""
    out = mask.copy()
    if not mask.any():
        return out
    columns = np.flatnonzero(mask.any(axis=(0, 1)))
    middle = int(round(float(np.average(columns, weights=mask.sum(axis=(0, 1))[columns]))))
    for side in (slice(0, middle), slice(middle, mask.shape[2])):
        out[:, :, side] |= _closing(mask[:, :, side], spacing)
    return out


def _closing(mask: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    from scipy import ndimage

    if not mask.any():
        return mask
    room = [int(np.ceil(_CLOSING_MM / step)) + 1 for step in spacing]
    wide = np.pad(mask, [(k, k) for k in room])
    grown = np.asarray(ndimage.distance_transform_edt(~wide, sampling=spacing)) <= _CLOSING_MM
    closed = np.asarray(ndimage.distance_transform_edt(grown, sampling=spacing)) > _CLOSING_MM
    closed = closed[tuple(slice(k, -k) for k in room)] | mask
    return np.stack([np.asarray(ndimage.binary_fill_holes(layer)) for layer in closed])


def _grown_back(mask: np.ndarray, way: Regrid) -> np.ndarray:
    """Get the mask on the voxels that it came from, with a surface that is straight between the coarse ones."""
    if not mask.any():
        return np.zeros(way.shape, bool)
    return stretched(mask, way.shape) > 0.5
