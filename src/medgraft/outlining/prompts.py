"""Prompts as people write them, checked against the image that they are laid on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from medgraft.errors import BadRecipe
from medgraft.values import Prompt

_BOX = "--box x0,y0,x1,y1"
_POINT = "--point x,y or --point x,y,0 (0: not in the structure)"
_POINT_3 = "--point x,y,z or --point x,y,z,0 (0: not in the structure)"


def numbers(text: str, *, option: str) -> tuple[float, ...]:
    """Read numbers with commas between them.

    Raises:
        BadRecipe: there is something else.

    Example:
        >>> numbers("10, 20.5", option="--point")
        (10.0, 20.5)
    """
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise BadRecipe(f"{option} {text!r} is no list of numbers", do=f"Write it as {option} 10,20.") from error
    if not all(math.isfinite(value) for value in found):
        raise BadRecipe(f"{option} {text!r} is no list of numbers", do=f"Write it as {option} 10,20.")
    return found


def several(given: Any) -> list[tuple[float, ...]]:
    """Get a list of boxes or points of one of them or several.

    Raises:
        BadRecipe: they are no numbers.
    """
    if given is None:
        return []
    rows = np.asarray(given, object)
    rows = [given] if rows.ndim == 1 and rows.size and not isinstance(rows[0], Sequence | np.ndarray) else list(given)
    try:
        return [tuple(float(value) for value in row) for row in rows]
    except (TypeError, ValueError) as error:
        do = "Give box=(x0, y0, x1, y1) and points=[(x, y, 1), ...]."
        raise BadRecipe("boxes and points are tuples of numbers", do=do) from error


def flat_prompt(
    boxes: Sequence[tuple[float, ...]],
    points: Sequence[tuple[float, ...]],
    *,
    shape: tuple[int, int],
    mask: np.ndarray | None = None,
) -> Prompt:
    """Get the prompt of a picture or a slice.

    Args:
        boxes: x0, y0, x1, y1 each.
        points: x, y or x, y, label each; without a label a point is in the structure.
        shape: (H, W) of what it is laid on.
        mask: `(H, W)`, a first guess.

    Raises:
        BadRecipe: it lies outside, is empty, or shows nothing that is meant.
    """
    for box in boxes:
        check_box(box, shape)
    for point in points:
        _check_point(point, shape)
    labelled = [(*point[:2], point[2] if len(point) == 3 else 1.0) for point in points]
    if mask is not None:
        _check_mask(np.asarray(mask), shape, boxes)
    if not boxes and mask is None and not any(label == 1 for *_, label in labelled):
        said = "no point is in the structure" if points else "nothing is shown"
        raise BadRecipe(said, do=f"Give {_BOX}, {_POINT}, or --all for everything.")
    edges = np.array([shape[1], shape[0]] * 2, np.float64)
    corners = np.clip(np.array(boxes, np.float64).reshape(-1, 4), 0, edges)
    prompt = Prompt(np.array(labelled, np.float64).reshape(-1, 3), corners, mask)
    lost = next((point for point in prompt.points if boxes and not inside(corners, point).any()), None)
    if lost is not None:
        where = "is outside of the box" if len(boxes) == 1 else f"is in none of the {len(boxes)} boxes"
        what = f"the point {lost[0]:g},{lost[1]:g} {where}"
        raise BadRecipe(what, do="With a box, a point refines the box that it is in.")
    return prompt


def inside(boxes: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Tell in which of the boxes `(M, 4)` the centre of a pixel x, y is, `(M,)`."""
    x, y = point[0] + 0.5, point[1] + 0.5  # counted from the edge, as boxes are
    return (boxes[:, 0] <= x) & (x <= boxes[:, 2]) & (boxes[:, 1] <= y) & (y <= boxes[:, 3])


def check_box(box: tuple[float, ...], shape: tuple[int, int]) -> None:
    """Check a box against (H, W) of what it is laid on.

    Raises:
        BadRecipe: it has not four numbers, is empty, or lies outside.
    """
    said = ",".join(f"{value:g}" for value in box)
    if len(box) != 4:
        raise BadRecipe(f"the box {said} has {len(box)} numbers, not 4", do=f"Write it as {_BOX}.")
    x0, y0, x1, y1 = box
    if not (x1 > x0 and y1 > y0):
        raise BadRecipe(f"the box {said} is empty", do=f"Write it as {_BOX}, the upper left corner first.")
    if x0 >= shape[1] or y0 >= shape[0] or x1 <= 0 or y1 <= 0:
        raise BadRecipe(f"the box {said} is outside of the image", do=_size(shape))


def _check_point(point: tuple[float, ...], shape: tuple[int, int]) -> None:
    said = ",".join(f"{value:g}" for value in point)
    if len(point) not in (2, 3):
        raise BadRecipe(f"the point {said} has {len(point)} numbers", do=f"Write it as {_POINT}.")
    if len(point) == 3 and point[2] not in (0, 1):
        raise BadRecipe(f"the label of the point {said} is neither 0 nor 1", do=f"Write it as {_POINT}.")
    if not (-0.5 <= point[0] <= shape[1] - 0.5 and -0.5 <= point[1] <= shape[0] - 0.5):
        raise BadRecipe(f"the point {said} is outside of the image", do=_size(shape))


def _check_mask(mask: np.ndarray, shape: tuple[int, int], boxes: Sequence[Any]) -> None:
    if mask.shape != shape:
        sizes = " x ".join(map(str, mask.shape[::-1]))
        raise BadRecipe(f"the mask that is given has {sizes} pixels", do=_size(shape))
    if len(boxes) > 1:
        raise BadRecipe("a mask is a first guess of one structure, and there are several boxes", do="Give one box.")
    if not mask.any():
        raise BadRecipe("the mask that is given is empty", do="Leave it out.")


def _size(shape: tuple[int, int]) -> str:
    return f"It has {shape[1]} x {shape[0]} pixels, x from the left and y from the top."


def solid_points(points: Sequence[tuple[float, ...]], *, shape: tuple[int, ...], shown: bool = False) -> np.ndarray:
    """Get points in a volume, `(N, 4)` x, y, z, label, in voxels of the file.

    Args:
        points: x, y, z or x, y, z, label each.
        shape: (D, H, W) of the file.
        shown: whether a box or a mask shows the structure, so that no point has to be in it.

    Raises:
        BadRecipe: one lies outside, or none is in the structure and nothing else shows it.
    """
    rows = []
    for point in points:
        said = ",".join(f"{value:g}" for value in point)
        if len(point) not in (3, 4) or (len(point) == 4 and point[3] not in (0, 1)):
            do = f"Without --slice, write it as {_POINT_3}; with --slice N as {_POINT}."
            raise BadRecipe(f"the point {said} is no point of a volume", do=do)
        if not all(-0.5 <= value <= size - 0.5 for value, size in zip(point[:3], shape[::-1], strict=True)):
            sizes = " x ".join(map(str, shape[::-1]))
            raise BadRecipe(f"the point {said} is outside of the volume", do=f"It has {sizes} voxels, x, y and z.")
        rows.append((*point[:3], point[3] if len(point) == 4 else 1.0))
    if not shown and not any(row[3] == 1 for row in rows):
        raise BadRecipe("no point is in the structure", do=f"Give {_POINT_3}.")
    return np.array(rows, np.float64)
