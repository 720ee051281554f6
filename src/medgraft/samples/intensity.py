"""Changes of pixel values, one sample at a time: tables, colour, stain, blur, noise, shading.

Everything is made of table look-ups, products and sums in a fixed order, each
with its own rounding, so that the bits depend on the numbers alone: not on
the batch, the number of threads, or where a vector register ends. Powers and
logarithms are taken of small tables of fixed length only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache

import numpy as np

Drawn = Mapping[str, float]

_KNOTS = 1025  # of a table for pixels that are not bytes
_OD_LEVELS = 8192
_OD_TOP = 3.0  # optical density that counts as black
_STAINS = np.array([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105]])  # haematoxylin, eosin
_LUMA = np.array([0.299, 0.587, 0.114])


def points(pixels: np.ndarray, drawn: Drawn, *, colour: bool) -> np.ndarray:
    """Get one sample as float32 in about 0..1 with brightness, contrast, gamma, saturation, hue and stain changed.

    Args:
        pixels: `(C, ...)` uint8, uint16, or float32 in 0..1.
        drawn: what `augment.draw` gave.
        colour: the three channels are red, green and blue.
    """
    stained = colour and any(drawn[name] != 1.0 for name in ("stain_1", "stain_2", "stain_3"))
    size = 256 if pixels.dtype == np.uint8 else _KNOTS
    table = _curve(drawn, _mean(pixels) if drawn["contrast"] != 1.0 else 0.5, size)
    if stained:
        table = -np.log10(np.maximum(table, 10.0**-_OD_TOP))
    out = look_up(pixels, table.astype(np.float32))
    if stained:
        out = _restain(out, drawn)
    if colour and (drawn["saturation"] != 1.0 or drawn["hue"] != 0.0):
        out = _mix(out, _colour_matrix(drawn["saturation"], drawn["hue"]))
    return out


def look_up(pixels: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Send pixels through a float32 table whose ends stand for black and white; linear between knots."""
    if pixels.dtype == np.uint8 and len(table) == 256:
        return np.take(table, pixels, mode="clip")  # "clip" skips a copy; a byte never leaves the table
    at = unit(pixels) * np.float32(len(table) - 1)
    np.clip(at, 0, len(table) - 1, out=at)
    low = at.astype(np.int32)
    np.minimum(low, len(table) - 2, out=low)
    at -= low
    start = np.take(table, low, mode="clip")
    slope = np.take(table[1:] - table[:-1], low, mode="clip")
    slope *= at
    start += slope
    return start


def unit(pixels: np.ndarray) -> np.ndarray:
    """Get a float32 copy in 0..1 of uint8, uint16 or float pixels; no bit of a 16-bit sample is lost."""
    if pixels.dtype == np.uint8:
        return np.take(_unit_table(), pixels, mode="clip")
    if pixels.dtype == np.uint16:
        return pixels.astype(np.float32) / np.float32(65535)
    return pixels.astype(np.float32)


@lru_cache(maxsize=1)
def _unit_table() -> np.ndarray:
    return (np.arange(256) / 255.0).astype(np.float32)


def _mean(pixels: np.ndarray) -> float:
    """The mean in 0..1 of every fourth pixel along each axis: enough for a pivot, and exact for integers."""
    part = pixels[..., ::4, ::4]
    if part.dtype.kind == "u":
        return int(part.sum(dtype=np.int64)) / part.size / (255.0 if part.dtype == np.uint8 else 65535.0)
    return float(np.ascontiguousarray(part).sum(dtype=np.float64)) / part.size


def _curve(drawn: Drawn, pivot: float, size: int) -> np.ndarray:
    """Gamma, then contrast around the mean, then gain; float64 of shape (size,), clipped to 0..1."""
    level = np.linspace(0.0, 1.0, size)
    if drawn["gamma"] != 1.0:
        level = level ** drawn["gamma"]
        pivot = pivot ** drawn["gamma"]
    if drawn["contrast"] != 1.0:
        level = np.clip((level - pivot) * drawn["contrast"] + pivot, 0.0, 1.0)
    return np.clip(level * drawn["brightness"], 0.0, 1.0)


def _colour_matrix(saturation: float, hue: float) -> np.ndarray:
    """A 3 x 3 matrix on RGB: a turn of the hue in YIQ, then a blend with the luma; gray stays gray."""
    to_yiq = np.array([[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
    angle = math.radians(hue)
    c, s = math.cos(angle), math.sin(angle)
    turn = np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])
    gray = np.tile(_LUMA, (3, 1))
    blend = saturation * np.eye(3) + (1.0 - saturation) * gray
    return blend @ np.linalg.inv(to_yiq) @ turn @ to_yiq


def stain_basis() -> np.ndarray:
    """Get the optical densities (rows: haematoxylin, eosin, residual; columns: R, G, B), each of length one.

    The residual is at right angles to both, so that any colour is a sum of the three.

    Source: Ruifrok and Johnston, "Quantification of histochemical staining by color deconvolution", 2001.
    """
    rows = np.vstack([_STAINS, np.cross(_STAINS[0], _STAINS[1])])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _restain(density: np.ndarray, drawn: Drawn) -> np.ndarray:
    """Scale each stain in optical density and come back to 0..1."""
    basis = stain_basis()
    gains = np.diag([drawn["stain_1"], drawn["stain_2"], drawn["stain_3"]])
    mixed = _mix(density, (np.linalg.inv(basis) @ gains @ basis).T)
    mixed *= np.float32((_OD_LEVELS - 1) / _OD_TOP)
    np.clip(mixed, 0, _OD_LEVELS - 1, out=mixed)
    return np.take(_transmission(), mixed.astype(np.uint16), mode="clip")


@lru_cache(maxsize=1)
def _transmission() -> np.ndarray:
    middle = (np.arange(_OD_LEVELS) + 0.5) * (_OD_TOP / (_OD_LEVELS - 1))
    return (10.0**-middle).astype(np.float32)


def _mix(pixels: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Multiply the channels of `(3, ...)` by a 3 x 3 matrix, plane by plane in a fixed order."""
    out = np.empty_like(pixels)
    part = np.empty_like(pixels[0])
    for row in range(3):
        np.multiply(pixels[0], np.float32(matrix[row, 0]), out=out[row])
        for column in (1, 2):
            np.multiply(pixels[column], np.float32(matrix[row, column]), out=part)
            out[row] += part
    return out


def texture(planes: np.ndarray, drawn: Drawn) -> None:
    """Lose resolution, blur, shade, grain and erase one sample `(P, H, W)` float32 in place, clipped to 0..1."""
    height, width = planes.shape[-2:]
    if drawn["resolution"] > 1.0:
        planes[:] = _coarser(planes, drawn["resolution"])
    if drawn["blur"] > 0.0:
        planes[:] = blurred(planes, drawn["blur"] * max(height, width))
    if any(drawn[name] > 0.0 for name in ("bias", "speckle", "noise")):
        _grain(planes, drawn)
    if drawn["erase"] > 0.0:
        _erase(planes, drawn)
    np.clip(planes, 0.0, 1.0, out=planes)


def _grain(planes: np.ndarray, drawn: Drawn) -> None:
    height, width = planes.shape[-2:]
    random = np.random.Generator(np.random.Philox(key=int(drawn["key"])))
    if drawn["bias"] > 0.0:
        knots = 1.0 + drawn["bias"] * random.uniform(-1.5, 1.5, (6, 6))  # a B-spline stays well inside its knots
        planes *= smooth(knots, height, width)
    if drawn["speckle"] > 0.0:
        coarse = _bell(random, ((height + 1) // 2, (width + 1) // 2), drawn["speckle"])
        coarse += np.float32(1.0)
        planes *= np.repeat(np.repeat(coarse, 2, axis=0), 2, axis=1)[:height, :width]
    if drawn["noise"] > 0.0:
        planes += _bell(random, planes.shape, drawn["noise"])


def _bell(random: np.random.Generator, shape: tuple[int, ...], spread: float) -> np.ndarray:
    """Normal noise in 256 steps from single random bytes: eight times cheaper than drawing floats."""
    raw = np.frombuffer(random.bytes(math.prod(shape)), np.uint8).reshape(shape)
    return np.take(_bell_table() * np.float32(spread), raw, mode="clip")


@lru_cache(maxsize=1)
def _bell_table() -> np.ndarray:
    """Quantiles of the normal distribution at (k + 1/2) / 256, scaled to a standard deviation of one."""
    from statistics import NormalDist

    normal = NormalDist()
    values = np.array([normal.inv_cdf((k + 0.5) / 256) for k in range(256)])
    return (values / values.std()).astype(np.float32)


def smooth(knots: np.ndarray, height: int, width: int) -> np.ndarray:
    """Get a smooth field `(height, width)` float32: a uniform cubic B-spline over the knots `(a, b)`, both >= 4."""
    rows, row_weights = _spline(knots.shape[0], height)
    columns, column_weights = _spline(knots.shape[1], width)
    knots = knots.astype(np.float32)
    tall = np.zeros((height, knots.shape[1]), np.float32)
    for tap in range(4):
        tall += knots[rows + tap] * row_weights[tap][:, None]
    field = np.zeros((height, width), np.float32)
    for tap in range(4):
        field += np.take(tall, columns + tap, axis=1) * column_weights[tap]
    return field


@lru_cache(maxsize=32)
def _spline(knots: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    at = (np.arange(size) + 0.5) / size * (knots - 3)
    low = np.minimum(at.astype(np.int64), knots - 4)
    t = at - low
    weights = [(1 - t) ** 3 / 6, (3 * t**3 - 6 * t**2 + 4) / 6, (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6, t**3 / 6]
    return low, np.array(weights, np.float32)


def blurred(planes: np.ndarray, sigma: float) -> np.ndarray:
    """Get `(P, H, W)` blurred by a Gaussian of `sigma` pixels; edges are repeated."""
    reach = max(1, min(math.ceil(2.5 * sigma), *(side - 1 for side in planes.shape[-2:])))
    taps = np.exp(-0.5 * (np.arange(reach + 1) / max(sigma, 1e-6)) ** 2)
    taps = (taps / (taps[0] + 2 * taps[1:].sum())).astype(np.float32)
    for axis in (1, 2):
        width = [(0, 0)] * 3
        width[axis] = (reach, reach)
        padded = np.pad(planes, width, mode="edge")
        size = planes.shape[axis]
        planes = _window(padded, axis, reach, size) * taps[0]
        for step in range(1, reach + 1):
            pair = _window(padded, axis, reach - step, size) + _window(padded, axis, reach + step, size)
            pair *= taps[step]
            planes += pair
    return planes


def _window(padded: np.ndarray, axis: int, start: int, size: int) -> np.ndarray:
    return padded[:, start : start + size] if axis == 1 else padded[:, :, start : start + size]


def _coarser(planes: np.ndarray, factor: float) -> np.ndarray:
    """Shrink by `factor` with the mean over areas, then grow again linearly: a worse detector or a small original."""
    sizes = planes.shape[-2:]
    small = [max(2, min(size, round(size / factor))) for size in sizes]
    for axis in (1, 2):
        planes = np.swapaxes(_area_mean(np.swapaxes(planes, axis, 2), small[axis - 1]), axis, 2)
    for axis in (1, 2):
        planes = np.swapaxes(_stretch(np.swapaxes(planes, axis, 2), sizes[axis - 1]), axis, 2)
    return planes


def _area_mean(lines: np.ndarray, count: int) -> np.ndarray:
    size = lines.shape[-1]
    total = np.zeros((*lines.shape[:-1], size + 1))
    np.cumsum(lines, axis=-1, dtype=np.float64, out=total[..., 1:])
    at = np.linspace(0.0, size, count + 1)
    low = np.minimum(at.astype(np.int64), size - 1)
    part = at - low
    edge = total[..., low] * (1.0 - part) + total[..., low + 1] * part
    return ((edge[..., 1:] - edge[..., :-1]) * (count / size)).astype(np.float32)


def _stretch(lines: np.ndarray, count: int) -> np.ndarray:
    size = lines.shape[-1]
    at = np.clip((np.arange(count) + 0.5) * (size / count) - 0.5, 0.0, size - 1.0)
    low = np.minimum(at.astype(np.int64), size - 2)
    part = (at - low).astype(np.float32)
    return lines[..., low] * (np.float32(1) - part) + lines[..., low + 1] * part


def _erase(planes: np.ndarray, drawn: Drawn) -> None:
    """Blank a rectangle with the image's mean, channel by channel."""
    height, width = planes.shape[-2:]
    tall = min(1.0, math.sqrt(drawn["erase"] * drawn["erase_ratio"]))
    wide = min(1.0, math.sqrt(drawn["erase"] / drawn["erase_ratio"]))
    rows, columns = max(1, round(tall * height)), max(1, round(wide * width))
    top, left = int(drawn["erase_y"] * (height - rows + 1)), int(drawn["erase_x"] * (width - columns + 1))
    for plane in planes:
        plane[top : top + rows, left : left + columns] = plane.sum(dtype=np.float64) / plane.size
