"""Things put into normal pictures, where they do not belong, for a head that learns to see what does not.

They are of three kinds, at places where a picture has structure: a patch of another picture, blended; a change of
brightness and colour; a change of texture. Size, shape and strength are drawn over wide ranges, in units of the
picture's own structure, so that nothing of it is of one kind of image.

Sources: Tan et al., arXiv:2011.04197 (foreign patches, blended); Li et al., CVPR 2021, p. 9664 (CutPaste).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

_MOST = 4  # things a picture
_RADIUS = (0.012, 0.16)  # of the side
_STRENGTH = (1.0, 8.0)  # of the picture's own fine structure
_SMALL = 40  # pixels; less has no texture of its own
_FLAT = 0.15  # of the structure of a picture's busy parts: less is background


def put_in(
    picture: np.ndarray, others: Sequence[np.ndarray] | np.ndarray, *, inside: np.ndarray, dice: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Put one to four things into a picture.

    Args:
        picture: `(C, H, W)` float32.
        others: pictures that patches are taken from.
        inside: `(H, W)` bool, what belongs to the image.
        dice: of all draws.

    Returns:
        the changed picture, and how much of each pixel is changed, `(H, W)` float32 from 0 to 1.
    """
    busy, unit = _structure(picture, inside)
    low, high = float(picture.min()), float(picture.max())
    out, cover = picture.copy(), np.zeros(inside.shape, np.float32)
    spots = np.argwhere(busy)
    for _ in range(int(dice.integers(1, _MOST + 1)) if len(spots) else 0):
        shape = _shape(dice, inside.shape, spots[int(dice.integers(len(spots)))]) * inside
        if not shape.max():
            continue
        kind = dice.choice(("patch", "tone", "texture"), p=(0.35, 0.5, 0.15))
        if kind == "tone" or shape.sum() < _SMALL:
            new = _toned(out, shape, unit, low=low, dice=dice)
        elif kind == "patch":
            other = np.asarray(others[int(dice.integers(len(others)))], np.float32)
            new = _patched(out, other, shape, dice=dice)
        else:
            new = _textured(out, shape, unit, dice=dice)
        new = np.clip(new, low, high)  # first: what is clipped away was not put in
        change = np.abs(new - out).mean(0)
        cover = np.maximum(cover, np.minimum(1, change / (0.5 * unit)) * (shape > 0.1))
        out = new
    return out.astype(np.float32), cover.astype(np.float32)


def _structure(picture: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, float]:
    """Where a picture has structure, `(H, W)` bool, and how strong it is there."""
    gray, reach = picture.mean(0), max(inside.shape) / 32
    fine = np.abs(gray - ndimage.gaussian_filter(gray, reach)) * inside
    near = ndimage.gaussian_filter(fine, reach)
    busy = (near > _FLAT * np.quantile(near[inside], 0.9)) & inside if inside.any() else inside
    return busy, max(1.25 * float(fine[busy].mean()), 1e-3) if busy.any() else 1.0


def _shape(dice: np.random.Generator, size: tuple[int, ...], spot: np.ndarray) -> np.ndarray:
    """An ellipse with a ragged, more or less soft edge around a place, `(H, W)` float32 from 0 to 1."""
    radius = max(size) * float(np.exp(dice.uniform(*np.log(_RADIUS))))
    long, wide = radius * np.exp(dice.normal(0, 0.25, 2))
    turn = dice.uniform(0, np.pi)
    y, x = np.mgrid[: size[0], : size[1]] - spot[:, None, None]
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    level = 1 - (along / long) ** 2 - (across / wide) ** 2
    if radius > 3:
        ragged = ndimage.gaussian_filter(dice.standard_normal(size, np.float32), 0.35 * radius)
        level = level + 0.4 * ragged / (ragged.std() + 1e-9)
    return np.clip(level / dice.uniform(0.1, 1), 0, 1).astype(np.float32)


def _toned(picture: np.ndarray, shape: np.ndarray, unit: float, *, low: float, dice: np.random.Generator) -> np.ndarray:
    """Brighter or darker, by as much everywhere or in proportion, more in one colour than in another."""
    step = dice.choice((-1, 1)) * unit * float(np.exp(dice.uniform(*np.log(_STRENGTH))))
    tint = np.exp(0.35 * dice.normal(size=(len(picture), 1, 1))) if len(picture) > 1 else np.ones((1, 1, 1))
    if dice.uniform() < 0.5:
        return picture + shape * step * tint
    above = picture - low
    usual = float((above.mean(0) * shape).sum() / shape.sum())
    return low + above * (1 + shape * tint * step / max(usual, 2 * unit))


def _patched(picture: np.ndarray, other: np.ndarray, shape: np.ndarray, *, dice: np.random.Generator) -> np.ndarray:
    """A patch of another picture from elsewhere, mostly as bright as what it covers."""
    reach = [max(1, side // 4) for side in shape.shape]
    other = np.roll(other, [int(dice.integers(-far, far + 1)) for far in reach], axis=(1, 2))
    if dice.uniform() < 0.6:
        other = other + ((picture - other) * shape).sum((1, 2), keepdims=True) / shape.sum()
    return picture + (other - picture) * shape * dice.uniform(0.4, 1)


def _textured(picture: np.ndarray, shape: np.ndarray, unit: float, *, dice: np.random.Generator) -> np.ndarray:
    """Smoother, or grainier."""
    if dice.uniform() < 0.5:
        width = dice.uniform(1, 3)
        new = np.stack([ndimage.gaussian_filter(channel, width) for channel in picture])
    else:
        new = picture + unit * dice.uniform(0.5, 2) * dice.standard_normal((1, *shape.shape), np.float32)
    return picture + (new - picture) * shape
