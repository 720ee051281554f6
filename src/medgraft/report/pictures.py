"""Arrays as pictures inside the page: small, with no file beside it."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image as Pillow

_TINY = 64


def data_uri(pixels: np.ndarray, *, most: int = 224, quality: int = 82) -> str:
    """Get a `data:` address of an image, at most `most` pixels wide or high.

    Args:
        pixels: uint8 `(H, W)`, `(H, W, 1)` or `(H, W, 3)`.
        most: larger images are reduced; tiny ones stay as they are, without loss.
        quality: of the JPEG.

    Raises:
        ValueError: another shape or type.
    """
    image = Pillow.fromarray(_plain(pixels))
    if max(image.size) <= _TINY:
        return _encoded(image, "PNG", optimize=True)
    image.thumbnail((most, most), Pillow.Resampling.LANCZOS)
    return _encoded(image, "JPEG", quality=quality, optimize=True)


def reduced(pixels: np.ndarray, *, most: int) -> np.ndarray:
    """Get an image, uint8, at most `most` pixels wide or high; smaller ones as they are."""
    image = Pillow.fromarray(_plain(pixels))
    image.thumbnail((most, most), Pillow.Resampling.LANCZOS)
    return np.asarray(image)


def is_tiny(pixels: np.ndarray) -> bool:
    """Say whether an image is so small that it should be magnified with hard pixel edges."""
    return max(pixels.shape[:2]) <= _TINY


def sheet(images: Sequence[np.ndarray], *, columns: int = 8, cell: int = 150, gap: int = 6) -> np.ndarray:
    """Lay images on one white sheet; uint8 `(H, W, 3)`, each centred in a cell as wide and high as the largest needs.

    Args:
        images: uint8, at least one.
        columns: at most.
        cell: pixels of each image's longer side.
        gap: pixels between cells.
    """
    shown = [_fitted(pixels, cell) for pixels in images]
    wide, high = max(one.width for one in shown), max(one.height for one in shown)
    columns, rows = min(columns, len(shown)), math.ceil(len(shown) / columns)
    page = Pillow.new("RGB", (columns * (wide + gap) - gap, rows * (high + gap) - gap), "white")
    for place, image in enumerate(shown):
        left = (place % columns) * (wide + gap) + (wide - image.width) // 2
        top = (place // columns) * (high + gap) + (high - image.height) // 2
        page.paste(image, (left, top))
    return np.asarray(page)


def _fitted(pixels: np.ndarray, side: int) -> Pillow.Image:
    image = Pillow.fromarray(_plain(pixels)).convert("RGB")
    share = side / max(image.size)
    method = Pillow.Resampling.NEAREST if is_tiny(pixels) else Pillow.Resampling.LANCZOS
    return image.resize((max(1, round(image.width * share)), max(1, round(image.height * share))), method)


def _plain(pixels: np.ndarray) -> np.ndarray:
    array = np.asarray(pixels)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if (
        array.dtype != np.uint8
        or array.ndim not in (2, 3)
        or (array.ndim == 3 and array.shape[2] != 3)
        or not array.size
    ):
        raise ValueError(f"a picture must be uint8 (H, W), (H, W, 1) or (H, W, 3), not {array.dtype} {array.shape}")
    return np.ascontiguousarray(array)


def _encoded(image: Pillow.Image, kind: str, **options: object) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
