"""How a person would show a structure whose mask is known: by a box, by a point well inside, by a click where it errs.

Source: Mazurowski et al., "Segment anything model for medical image analysis: an experimental study", Med Image Anal
2023;89:102918 (points at the innermost pixel, boxes around whole parts, further clicks in the largest error).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage

from medgraft.values import Prompt


def parts_of(mask: np.ndarray, *, most: int) -> list[np.ndarray]:
    """Get the connected parts of a mask `(H, W)`, the largest first, at most `most` of them."""
    found: tuple[np.ndarray, int] = ndimage.label(mask, structure=np.ones((3, 3)))  # type: ignore[assignment]
    numbers, count = found
    sizes = np.bincount(numbers.ravel(), minlength=count + 1)[1:]
    return [numbers == 1 + k for k in np.argsort(-sizes, kind="stable")[:most]]


def innermost(mask: np.ndarray) -> tuple[float, float]:
    """Get x and y of the pixel of a mask `(H, W)` that is farthest from what is not in it.

    Raises:
        ValueError: the mask is empty.
    """
    if not mask.any():
        raise ValueError("an empty mask has no innermost pixel")
    deep: Any = ndimage.distance_transform_edt(np.pad(mask, 1))
    y, x = np.unravel_index(int(deep[1:-1, 1:-1].argmax()), mask.shape)
    return float(x), float(y)


def point_prompt(mask: np.ndarray) -> Prompt:
    """Get the innermost pixel of the largest part of a mask as a prompt."""
    return Prompt(points=np.array([[*innermost(parts_of(mask, most=1)[0]), 1.0]]))


def box_prompt(mask: np.ndarray) -> Prompt:
    """Get the box around a mask as a prompt."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    edges = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    return Prompt(boxes=np.array([edges], np.float64))


def corrected(prompt: Prompt, mask: np.ndarray, drawn: np.ndarray) -> Prompt:
    """Get a prompt with one more click, in the middle of the largest part that is wrong, and the answer as a guess.

    Args:
        prompt: what was shown before.
        mask: `(H, W)` the structure.
        drawn: `(H, W)` the answer.

    Returns:
        the prompt itself where nothing is wrong.
    """
    wrong = mask != drawn
    if not wrong.any():
        return prompt
    x, y = innermost(parts_of(wrong, most=1)[0])
    points = np.concatenate([prompt.points, [[x, y, float(mask[int(y), int(x)])]]])
    return Prompt(points, prompt.boxes, drawn if drawn.any() else None)


def overlap(mask: np.ndarray, drawn: np.ndarray) -> float:
    """Get the overlap (IoU) of two masks; two empty ones agree."""
    union = int((mask | drawn).sum())
    return float((mask & drawn).sum() / union) if union else 1.0
