"""How much noise there is in an image, of the image alone, and whether the noise of neighbours goes together."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

_NORMAL = 0.6745  # the median of absolute values of a normal distribution, in standard deviations
_PLANES = 16  # of a volume are looked at
_CLASSES, _FEWEST = 12, 256  # of brightness, and pixels of one at least
_AROUND = 5  # pixels, whose mean says how bright a place is


def noise_of(pixels: np.ndarray) -> float:
    """Get the root mean square of the noise of `(C, [D,] H, W)`, in its unit: the median over channels and planes.

    What has no noise at all, such as a border of one value, is left out. Noise is taken to be without relation between
    neighbours, and fine texture counts as noise: it is an estimate, and rather too high than too low in such images.
    """
    planes = pixels.reshape(-1, *pixels.shape[-2:])
    chosen = planes[np.unique(np.linspace(0, len(planes) - 1, min(_PLANES, len(planes))).astype(int))]
    found = [one for one in map(_of_plane, chosen) if one > 0]
    return float(np.median(found)) if found else 0.0


def _of_plane(plane: np.ndarray) -> float:
    """The root of the mean power of the noise, where there is any."""
    power, moved = power_by_brightness(plane, ndimage.uniform_filter(np.asarray(plane, np.float64), _AROUND))
    return float(np.sqrt(power[moved].mean())) if moved.any() else 0.0


def power_by_brightness(plane: np.ndarray, guide: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Get the power of the noise at each place of `(H, W)`, as those of its brightness have it, and where there is any.

    Noise of counted photons is not alike in bright and dark places, so that one median would tell of neither. In each
    class of brightness it is the median of absolute second differences along both axes, which slopes, and edges along
    an axis, do not move.

    Args:
        plane: noisy.
        guide: the same with less noise, by which brightness is told.

    Source: the mask of Immerkær, Comput Vis Image Underst 1996;64:300; the median as Donoho and Johnstone, Biometrika
        1994;81:425, take it of the finest wavelet.
    """
    power = np.zeros(plane.shape)
    if min(plane.shape) < 3:
        return power, np.zeros(plane.shape, bool)
    wide = np.pad(np.asarray(plane, np.float64), 1, mode="reflect")
    down = wide[:-2] - 2 * wide[1:-1] + wide[2:]
    both = (down[:, :-2] - 2 * down[:, 1:-1] + down[:, 2:]) / 6  # the mask's numbers have the norm 6
    moved = both != 0
    for part in brightness_of(guide):
        own = np.abs(both[part & moved])
        power[part] = (np.median(own) / _NORMAL) ** 2 if len(own) else 0.0
    return power, moved


def brightness_of(guide: np.ndarray) -> list[np.ndarray]:
    """Get the places `(H, W)` bool of each class of brightness, from dark to bright, all of about one size."""
    count = int(np.clip(guide.size // _FEWEST, 1, _CLASSES))
    edges = np.quantile(guide, np.linspace(0, 1, count + 1)[1:-1])
    classes = np.searchsorted(edges, guide)
    return [classes == number for number in range(count)]


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
