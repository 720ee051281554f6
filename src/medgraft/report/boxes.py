"""Boxes drawn into pictures, and close-ups of single ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw

# Told apart on dark films and on pink tissue, and by people with any common colour blindness.
HIT, MISSED, ALARM = (64, 224, 128), (255, 214, 0), (255, 64, 96)
_CONTEXT = 2.0  # sides of a box that a close-up shows
_CLOSE_SIDE = 96


def with_boxes(
    image: np.ndarray, marks: Sequence[tuple[np.ndarray, tuple[int, int, int]]], *, least: int = 480
) -> np.ndarray:
    """Draw boxes into a picture.

    Args:
        image: uint8 `(H, W)` or `(H, W, 3)`.
        marks: corners x0, y0, x1, y1 in its pixels, and a colour.
        least: a smaller picture is magnified to this side, so that lines stay thin beside what they surround.

    Returns:
        uint8 `(H, W, 3)`.
    """
    paper = Pillow.fromarray(image).convert("RGB")
    scale = max(1.0, least / max(paper.size))
    paper = paper.resize((round(paper.width * scale), round(paper.height * scale)), Pillow.Resampling.BICUBIC)
    pen = ImageDraw.Draw(paper)
    for corners, colour in marks:
        x0, y0, x1, y1 = (np.asarray(corners) * scale).tolist()
        pen.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=colour, width=2)
    return np.asarray(paper)


def close_up(image: np.ndarray, corners: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Cut a square around a box, twice as wide as it is, the box drawn in: uint8 `(H, W, 3)`.

    Args:
        image: uint8 `(H, W)` or `(H, W, 3)`.
        corners: x0, y0, x1, y1 in its pixels.
        colour: of the box.
    """
    side = max(8.0, _CONTEXT * float(max(corners[2] - corners[0], corners[3] - corners[1])))
    x, y = (float(corners[k] + corners[k + 2]) / 2 - side / 2 for k in (0, 1))
    paper = Pillow.fromarray(image).convert("RGB")
    near = paper.resize((_CLOSE_SIDE, _CLOSE_SIDE), Pillow.Resampling.BICUBIC, box=_within(x, y, side, paper.size))
    x, y, right, below = _within(x, y, side, paper.size)
    scale = np.array([_CLOSE_SIDE / (right - x), _CLOSE_SIDE / (below - y)] * 2)
    return with_boxes(np.asarray(near), [((corners - np.array([x, y, x, y])) * scale, colour)], least=_CLOSE_SIDE)


def _within(x: float, y: float, side: float, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """A square moved into the picture; smaller where the picture is."""
    side = min(side, *size)
    left, top = float(np.clip(x, 0, size[0] - side)), float(np.clip(y, 0, size[1] - side))
    return left, top, left + side, top + side
