"""Small data sets with label maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medgraft.files import save_png
from medgraft.samples.dataset import DataSet
from medgraft.values import ImageRef, Sample

SHAPE = (24, 30)


def drawn(*numbers: int, shape: tuple[int, ...] = SHAPE, kind: type = np.uint8) -> np.ndarray:
    """Get a label map with a square of each number, side by side, on 0."""
    values = np.zeros(shape, kind)
    for place, number in enumerate(numbers):
        values[..., 4:9, 2 + 6 * place : 7 + 6 * place] = number
    return values


def painted(*colours: int) -> np.ndarray:
    """Get the same in colours, (H, W, 3)."""
    packed = drawn(*colours, kind=np.uint32)
    return np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=-1).astype(np.uint8)


def written(path: Path, values: np.ndarray) -> Path:
    """Write a map, and get its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_png(path, values)
    return path


def dataset_of(root: Path, *maps: np.ndarray, splits: str = "", **words) -> DataSet:
    """Get a data set of a gray image for each map; `splits` has a letter (t, v, e) for each."""
    samples = []
    for number, values in enumerate(maps):
        image = written(root / "images" / f"{number}.png", np.full(values.shape[:2], 9 * number, np.uint8))
        mask = written(root / "masks" / f"{number}.png", values)
        split = {"t": "train", "v": "val", "e": "test"}[splits[number]] if splits else None
        samples.append(Sample(f"images/{number}.png", ImageRef(image), split=split, mask=ImageRef(mask)))
    return DataSet(tuple(samples), "masks", "", root, **words)
