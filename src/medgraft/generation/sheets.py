"""Sheets of drawn images: for the eye while nets learn, and to ask an expert which are real."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medgraft import storage
from medgraft.files import save_png
from medgraft.report import pictures
from medgraft.seeds import permutation

SAMPLES = "samples"  # folder of a run


def shown(image: np.ndarray) -> np.ndarray:
    """Get an image `(C, [D,] H, W)` of -1..1 as a picture, uint8 `(H, W)` or `(H, W, 3)`; of a volume three planes."""
    bytes_ = np.rint((np.clip(image, -1, 1) + 1) * 127.5).astype(np.uint8)
    if bytes_.ndim == 4:
        middle = [side // 2 for side in bytes_.shape[1:]]
        planes = (bytes_[:, middle[0]], bytes_[:, :, middle[1]], bytes_[:, :, :, middle[2]])
        high = max(plane.shape[1] for plane in planes)
        padded = [np.pad(plane, ((0, 0), (0, high - plane.shape[1]), (0, 2))) for plane in planes]
        bytes_ = np.concatenate(padded, axis=2)
    return bytes_[0] if len(bytes_) == 1 else bytes_.transpose(1, 2, 0)


def write_sheet(path: Path, images: Sequence[np.ndarray], *, columns: int = 8) -> np.ndarray:
    """Write images `(C, [D,] H, W)` of -1..1 as one PNG, and get it, uint8 `(H, W, 3)`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet = pictures.sheet([shown(one) for one in images], columns=columns, cell=128)
    save_png(path, sheet)
    return sheet


def write_turing(folder: Path, real: Sequence[np.ndarray], made: Sequence[np.ndarray], *, seed: int) -> Path:
    """Write real and drawn images in random order, as many of each, and the key in a file of its own.

    Args:
        folder: gets `turing.png`, numbered along its rows from 1, and `turing-key.csv`.
        real: images.
        made: as many.
        seed: of the order.
    """
    count = min(len(real), len(made))
    order = permutation(2 * count, seed=seed, purpose="turing")
    both = [*real[:count], *made[:count]]
    write_sheet(folder / "turing.png", [both[k] for k in order])
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("number", "kind"))
    rows.writerows((place, "real" if k < count else "drawn") for place, k in enumerate(order.tolist(), start=1))
    storage.write_text(folder / "turing-key.csv", text.getvalue())
    return folder / "turing.png"
