"""A small data set with boxes, easy to learn: bright discs and dark squares on noise, some images empty."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from medgraft.files.write_boxes import Pictured, write_coco
from medgraft.values import Boxes


def draw(index: int, *, size: tuple[int, int] = (96, 128)) -> tuple[np.ndarray, Boxes]:
    """Get one picture, uint8 `(H, W, 3)`, and its boxes; every fifth is empty."""
    random = np.random.default_rng([11, index])
    height, width = size
    pixels = random.normal(110, 18, (height, width, 3))
    y, x = np.mgrid[:height, :width]
    corners, labels = [], []
    for turn in range(0 if index % 5 == 4 else 1 + index % 3):
        radius = int(random.integers(8, 13))
        left = turn * width // 3 + int(random.integers(0, width // 3 - 2 * radius + 1))
        top = int(random.integers(0, height - 2 * radius + 1))
        disc = bool(random.integers(2))
        inside = (y - top - radius + 0.5) ** 2 + (x - left - radius + 0.5) ** 2 < radius**2
        square = (y >= top) & (y < top + 2 * radius) & (x >= left) & (x < left + 2 * radius)
        pixels[inside if disc else square] += 100 if disc else -90
        corners.append([left, top, left + 2 * radius, top + 2 * radius])
        labels.append("disc" if disc else "square")
    boxes = Boxes(np.array(corners, dtype=np.float64).reshape(-1, 4), tuple(labels))
    return np.clip(pixels, 0, 255).astype(np.uint8), boxes


def make_boxed_data(folder: Path, *, count: int = 40, first: int = 0) -> Path:
    """Write pictures into `images/` and a COCO JSON beside them, and get the path of the folder."""
    (folder / "images").mkdir(parents=True)
    told = []
    for index in range(first, first + count):
        pixels, boxes = draw(index)
        name = f"{index:03d}.png"
        Image.fromarray(pixels).save(folder / "images" / name)
        told.append(Pictured(name, (pixels.shape[1], pixels.shape[0]), boxes))
    write_coco(folder / "annotations.json", told)
    return folder
