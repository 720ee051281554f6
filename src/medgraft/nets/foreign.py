"""A head on an encoder's features that learnt to see what was put into normal images, as findings are not there.

What is put in is of three kinds, at places where a picture has structure: a patch of another normal image, blended; a
change of brightness and colour; a change of texture. Size, shape and strength are drawn over wide ranges, in units of
the picture's own structure, so that nothing of it is of one kind of image.

Sources: Tan et al., arXiv:2011.04197 (foreign patches, blended); Li et al., CVPR 2021, p. 9664 (CutPaste); here the
encoder is not tuned, and a small head looks at single places.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor, nn

from medgraft import seeds

PICTURES = 1200  # that something is put into
_PLACES = 128  # of each of them that are learnt from
_HIDDEN, _DROPPED = 64, 0.1
_STEPS, _ROWS, _LR = 600, 2048, 2e-3
_AT_ONCE = 16
_MOST = 4  # things a picture
_RADIUS = (0.012, 0.16)  # of the side
_STRENGTH = (1.0, 8.0)  # of the picture's own fine structure
_SMALL = 40  # pixels; less has no texture of its own
_FLAT = 0.15  # of the structure of a picture's busy parts: less is background

Rows = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class ForeignHead(nn.Module):
    """Logits of places: something that was put in, or not.

    Args:
        width: numbers of a place.

    Attributes:
        units: `(2,)` mean and deviation of the logits of normal places.
    """

    units: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Dropout(_DROPPED), nn.Linear(width, _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, 1))
        self.register_buffer("units", torch.tensor([0.0, 1.0]))

    def forward(self, rows: Tensor) -> Tensor:
        """Get how foreign places `(..., D)` look, `(...)`, in deviations of normal ones."""
        return (self.layers(rows)[..., 0] - self.units[0]) / self.units[1]


@dataclass(frozen=True, eq=False)
class _Shown:
    """Places of pictures, `(N, D)`, and how much of each was put in, `(N,)`."""

    rows: Tensor
    cover: Tensor


def learn_head(pictures: Tensor, areas: Tensor, rows_of: Rows, *, seed: int) -> ForeignHead:
    """Put things into normal pictures and learn to see them.

    Args:
        pictures: `(N, C, H, W)` float, normalised normal images.
        areas: `(N, 1, H, W)` 1 where pixels belong to the image.
        rows_of: (pixels, areas) -> features of places `(n, h, w, D)`, and which are in the image `(n, h, w)`.
        seed: of all draws.
    """
    plain = pictures.float().numpy()
    normal = _shown(plain[: PICTURES // 4], areas, rows_of, seed=seed, count=0)
    changed = _shown(plain, areas, rows_of, seed=seed, count=PICTURES)
    torch.manual_seed(seeds.torch_seed(seed, "foreign-head"))
    head = ForeignHead(changed.rows.shape[1])
    optimiser = torch.optim.AdamW(head.parameters(), lr=_LR, weight_decay=1e-2)
    dice = seeds.generator(seed, "foreign-rows")
    with torch.enable_grad():
        for step in range(_STEPS):
            for group in optimiser.param_groups:
                group["lr"] = _LR * min(1.0, (step + 1) / 30) * (1 - step / _STEPS)
            some = torch.from_numpy(dice.integers(0, len(changed.rows), _ROWS))
            loss = F.binary_cross_entropy_with_logits(head(changed.rows[some].float()), changed.cover[some])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    head.eval().requires_grad_(False)
    with torch.no_grad():
        logits = torch.cat([head(one.float()) for one in normal.rows.split(_ROWS)])
        head.units = torch.stack([logits.mean(), logits.std().clamp_min(1e-6)])
    return head


def _shown(plain: np.ndarray, areas: Tensor, rows_of: Rows, *, seed: int, count: int) -> _Shown:
    """Look at some places of so many pictures with things in them, half of them foreign; 0 = of all as they are."""
    inside, found = areas[:, 0].numpy() > 0, list[_Shown]()
    numbers = range(count or len(plain))
    for start in range(0, len(numbers), _AT_ONCE):
        some = numbers[start : start + _AT_ONCE]
        own = [number % len(plain) for number in some]
        if count:
            dice = [seeds.generator(seed, "foreign", index=number) for number in some]
            parts = [put_in(plain[k], plain, inside=inside[k], dice=one) for k, one in zip(own, dice, strict=True)]
        else:
            parts = [(plain[k], np.zeros(inside[k].shape, np.float32)) for k in own]
        pixels, covers = (torch.from_numpy(np.stack(side)) for side in zip(*parts, strict=True))
        rows, there = rows_of(pixels, areas[own])
        covers = F.adaptive_avg_pool2d(covers, (rows.shape[1], rows.shape[2]))
        for number, *one in zip(some, rows, there, covers, strict=True):
            found.append(_some(*one, dice=seeds.generator(seed, "foreign-places", index=number)))
    return _Shown(torch.cat([one.rows for one in found]), torch.cat([one.cover for one in found]))


def _some(rows: Tensor, there: Tensor, cover: Tensor, *, dice: np.random.Generator) -> _Shown:
    """Take some places of a picture, up to half of them foreign."""
    rows, cover = rows[there], cover[there]
    order = torch.from_numpy(dice.permutation(len(rows)))
    foreign = cover[order] > 0.1
    chosen = torch.cat([order[foreign][: _PLACES // 2], order[~foreign]])[:_PLACES]
    return _Shown(rows[chosen].half(), cover[chosen].float())


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
