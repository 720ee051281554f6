"""Images without their noise as files of the form they came in, each saying what was done to it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medgraft.files import save_nifti, save_png
from medgraft.values import Image

_WHOLE = {"uint8": np.uint8, "int16": np.int16, "int8": np.int16, "uint16": np.int32, "int32": np.int32}
_DEEP = 65535


def note_of(method: str) -> str:
    """Get what a file says of itself; a header of NIfTI holds 79 characters."""
    return f"derived: noise taken away by medgraft ({method}); not the original"


def write_like(folder: Path, stem: str, image: Image, pixels: np.ndarray, *, method: str) -> tuple[Path, str]:
    """Write an image without its noise, and get its path and what a person should know of its form.

    A picture is a PNG with the numbers of its file, 8 or 16 bits; a frame of DICOM as a monitor shows it, in 16 bits;
    what has depth, space or fractions is NIfTI on its own grid, in its own unit and, where it held whole numbers, in
    whole numbers.

    Args:
        folder: gets the file.
        stem: its name without an ending.
        image: the noisy one, as it was read.
        pixels: `(C, [D,] H, W)` without noise, in its unit.
        method: what was done.
    """
    note = note_of(method)
    if pixels.ndim == 3 and image.facts.get("container") != "nifti" and (image.unit == "display" or _is_picture(image)):
        values, said = _picture(image, pixels)
        path = folder / f"{stem}.png"
        save_png(path, values, text={"Comment": note})
        return path, said
    solid = pixels[0]
    whole = _WHOLE.get(np.dtype(image.facts["dtype"]).name if "dtype" in image.facts else "")
    if whole is None and image.unit == "HU":
        whole = np.int16
    if whole is not None and bool((image.pixels == np.rint(image.pixels)).all()):
        limits = np.iinfo(whole)
        solid = np.clip(np.rint(solid), limits.min, limits.max).astype(whole)
    path = folder / f"{stem}.nii.gz"
    save_nifti(path, solid, affine=image.affine, spacing_mm=image.spacing_mm, note=note)
    colour = "the first channel alone; " if len(pixels) > 1 else ""
    return path, f"{colour}unit {image.unit}" if image.facts.get("container") != "nifti" or colour else ""


def _is_picture(image: Image) -> bool:
    """Whether a PNG holds its numbers: whole ones from 0, of at most 16 bits."""
    return image.unit == "stored" and image.bits <= 16 and float(image.pixels.min()) >= 0


def _picture(image: Image, pixels: np.ndarray) -> tuple[np.ndarray, str]:
    """The numbers of a PNG, and what is to be said of them."""
    gray = len(pixels) == 1 or bool((pixels == pixels[:1]).all())
    if image.unit == "display":
        shown = np.clip(pixels, 0, 1)
        if gray:
            return np.rint(shown[0] * _DEEP).astype(np.uint16), "as a monitor shows it, 0 to 65535"
        return _coloured(shown * 255), "as a monitor shows it"
    if gray and image.bits > 8:
        return np.rint(np.clip(pixels[0], 0, _DEEP)).astype(np.uint16), ""
    if gray:
        return np.rint(np.clip(pixels[0], 0, 255)).astype(np.uint8), ""
    low, high = image.range
    said = "colour of 16 bits became 8 bits" if image.bits > 8 else ""
    return _coloured((pixels - low) / max(high - low, 1e-12) * 255), said


def _coloured(pixels: np.ndarray) -> np.ndarray:
    chosen = pixels if len(pixels) == 3 else np.repeat(pixels[:1], 3, axis=0)
    return np.ascontiguousarray(np.rint(np.clip(chosen, 0, 255)).astype(np.uint8).transpose(1, 2, 0))
