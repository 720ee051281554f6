"""Pictures written as JPEG and read again, in memory: what a lossy archive does to them."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def through_jpeg(pixels: np.ndarray, *, quality: int) -> np.ndarray:
    """Get pictures as they come out of a JPEG file.

    Args:
        pixels: `(N, C, H, W)` floats in 0..1; C is 1 or 3.
        quality: 1 to 95, libjpeg's scale.

    Returns:
        float32 of the same shape, in steps of 1/255.
    """
    found = np.empty(pixels.shape, np.float32)
    for place, image in enumerate(np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)):
        file = io.BytesIO()
        picture = Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
        picture.save(file, "JPEG", quality=quality)
        read = np.asarray(Image.open(file), np.float32) / np.float32(255)
        found[place] = read[None] if read.ndim == 2 else read.transpose(2, 0, 1)
    return found
