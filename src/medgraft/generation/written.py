"""Drawn images as files: PNG, of volumes NIfTI, each saying that it is synthetic."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medgraft.files import save_nifti, save_png
from medgraft.generation.meaning import RELATIVE, Meaning


def write_image(folder: Path, stem: str, image: np.ndarray, *, note: str, meaning: Meaning | None = None) -> Path:
    """Write an image `(C, [D,] H, W)` of -1..1 and get its path.

    A PNG has 0 to 255 and the note in its text. A volume is a NIfTI file in the unit of the files that were learnt
    from, such as HU, where the window is known that they were learnt in; else of 0 (black) to 1000 (white). Its header
    carries the note with the unit, what is black and white, the voxels' size, and how the axes lie where that is known.

    Args:
        folder: is made.
        stem: of the name.
        image: what was drawn.
        note: at most 50 characters.
        meaning: of a volume; None knows nothing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if image.ndim == 4:
        path, known = folder / f"{stem}.nii.gz", meaning or Meaning()
        save_nifti(
            path,
            known.values(image[0]),
            affine=known.affine(image.shape[1:]),
            spacing_mm=known.spacing_mm,
            note=f"{note}; {known.words}",
            shown=known.window or RELATIVE,
        )
        return path
    pixels = np.rint((np.clip(image, -1, 1) + 1) * 127.5).astype(np.uint8)
    path = folder / f"{stem}.png"
    save_png(path, pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0), text={"Comment": note})
    return path
