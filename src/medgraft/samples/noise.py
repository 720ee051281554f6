"""How much noise there is in an image, of the image alone, and whether the noise of neighbours goes together."""

from __future__ import annotations

import numpy as np

_NORMAL = 0.6745  # the median of absolute values of a normal distribution, in standard deviations
_PLANES = 16  # of a volume are looked at


def noise_of(pixels: np.ndarray) -> float:
    """Get the standard deviation of the noise of `(C, [D,] H, W)`, in its unit: the median over channels and planes.

    What has no noise at all, such as a border of one value, is left out. Noise is taken to be without relation between
    neighbours, and fine texture counts as noise: it is an estimate, and rather too high than too low in such images.
    """
    planes = pixels.reshape(-1, *pixels.shape[-2:])
    chosen = planes[np.unique(np.linspace(0, len(planes) - 1, min(_PLANES, len(planes))).astype(int))]
    found = [one for one in map(_of_plane, chosen) if one > 0]
    return float(np.median(found)) if found else 0.0


def _of_plane(plane: np.ndarray) -> float:
    """The median of absolute second differences along both axes, which slopes and edges along an axis do not move.

    Source: the mask of Immerkær, Comput Vis Image Underst 1996;64:300; the median as Donoho and Johnstone, Biometrika
        1994;81:425, take it of the finest wavelet.
    """
    if min(plane.shape) < 3:
        return 0.0
    values = np.asarray(plane, np.float64)
    down = values[:-2] - 2 * values[1:-1] + values[2:]
    both = down[:, :-2] - 2 * down[:, 1:-1] + down[:, 2:]
    moved = np.abs(both[both != 0])
    return float(np.median(moved) / _NORMAL / 6) if len(moved) else 0.0  # the mask's numbers have the norm 6


def neighbours_of(residual: np.ndarray) -> float:
    """Get the correlation of neighbouring pixels of what was taken away, `(C, [D,] H, W)`; near 0 for noise alone.

    A net that foretells a pixel by its surroundings foretells noise as well where neighbours share it, as after
    resampling, smoothing or JPEG.
    """
    values = np.asarray(residual, np.float64)
    values = values - values.mean()
    power = float((values**2).mean())
    if power == 0:
        return 0.0
    along = [(values[..., 1:] * values[..., :-1]).mean(), (values[..., 1:, :] * values[..., :-1, :]).mean()]
    return float(np.mean(along) / power)
