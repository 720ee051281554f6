"""Label maps drawn into pictures: what is right, missed and false, or the classes beside the true ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medgraft.report.boxes import ALARM, HIT, MISSED

_FILL = 0.35  # opacity of what is filled; its boundary is opaque
_GAP = 4
# Told apart by people with any common colour blindness (Okabe and Ito 2008).
PALETTE = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))


def agreement(image: np.ndarray, truth: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Get a picture, and beside it what was drawn right (green), missed (yellow) and drawn falsely (red).

    Args:
        image: uint8 `(H, W)` or `(H, W, 3)`.
        truth: `(H, W)` booleans.
        drawn: `(H, W)` booleans.

    Returns:
        uint8 `(H, 2 W + 4, 3)`.
    """
    parts = [(truth & drawn, HIT), (truth & ~drawn, MISSED), (drawn & ~truth, ALARM)]
    return beside(coloured(image), filled(image, parts))


def classes(image: np.ndarray, truth: np.ndarray, drawn: np.ndarray, *, count: int) -> np.ndarray:
    """Get the true classes in a picture, and beside them the drawn ones, uint8 `(H, 2 W + 4, 3)`.

    Args:
        image: uint8 `(H, W)` or `(H, W, 3)`.
        truth: `(H, W)` numbers, 0 for none.
        drawn: the same.
        count: how many classes there are.
    """
    return beside(*(filled(image, by_number(one, count)) for one in (truth, drawn)))


def by_number(labels: np.ndarray, count: int) -> list[tuple[np.ndarray, tuple[int, int, int]]]:
    """Get where each number of a label map is, and its colour."""
    return [(labels == number, PALETTE[(number - 1) % len(PALETTE)]) for number in range(1, count + 1)]


def things(image: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Get a picture with the boundary of every thing drawn in, uint8 `(H, W, 3)`; `numbers` `(H, W)`, 0 for none."""
    found = coloured(image).copy()
    edge = np.zeros(numbers.shape, bool)
    for axis in (0, 1):
        one, two = (
            tuple(part if k == axis else slice(None) for k in (0, 1)) for part in (slice(None, -1), slice(1, None))
        )
        differ = numbers[one] != numbers[two]
        edge[one] |= differ & (numbers[one] > 0)
        edge[two] |= differ & (numbers[two] > 0)
    found[edge] = PALETTE[0]
    return found


def filled(image: np.ndarray, parts: Sequence[tuple[np.ndarray, tuple[int, int, int]]]) -> np.ndarray:
    """Get a picture with parts filled, `(H, W, 3)` uint8: each is `(H, W)` booleans and a colour."""
    found = coloured(image).astype(np.float32)
    for where, colour in parts:
        edge = where & ~_inner(where)
        found[where] = found[where] * (1 - _FILL) + np.array(colour, np.float32) * _FILL
        found[edge] = colour
    return np.rint(found).astype(np.uint8)


def beside(*pictures: np.ndarray) -> np.ndarray:
    """Get pictures of one height side by side, white between them."""
    gap = np.full((pictures[0].shape[0], _GAP, 3), 255, np.uint8)
    row = [part for picture in pictures for part in (gap, picture)]
    return np.concatenate(row[1:], axis=1)


def coloured(image: np.ndarray) -> np.ndarray:
    """Get `(H, W, 3)` of a picture with or without colour."""
    return np.repeat(image[..., None], 3, axis=-1) if image.ndim == 2 else image


def _inner(where: np.ndarray) -> np.ndarray:
    """Pixels all of whose four neighbours are inside, too."""
    whole = np.pad(where, 1, constant_values=True)
    return where & whole[:-2, 1:-1] & whole[2:, 1:-1] & whole[1:-1, :-2] & whole[1:-1, 2:]
