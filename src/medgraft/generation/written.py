"""Drawn images as files: PNG, of volumes NIfTI, each saying that it is synthetic."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medgraft.files import save_nifti, save_png


def write_image(
    folder: Path, stem: str, image: np.ndarray, *, note: str, spacing_mm: Sequence[float] | None = None
) -> Path:
    """Write an image `(C, [D,] H, W)` of -1..1 and get its path.

    A PNG has 0 to 255 and the note in its text; a volume is a NIfTI file of 0 to 1000, and its header carries the note.
    """
    folder.mkdir(parents=True, exist_ok=True)
    share = (np.clip(image, -1, 1) + 1) / 2
    if image.ndim == 4:
        path = folder / f"{stem}.nii.gz"
        values = np.rint(share[0] * 1000).astype(np.int16)
        save_nifti(path, values, spacing_mm=None if spacing_mm is None else tuple(spacing_mm), note=note)
        return path
    pixels = np.rint(share * 255).astype(np.uint8)
    path = folder / f"{stem}.png"
    save_png(path, pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0), text={"Comment": note})
    return path
