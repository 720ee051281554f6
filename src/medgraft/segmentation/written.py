"""Label maps written: a file an image with the numbers of the user's own maps, and a table with what they measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medgraft import files
from medgraft.samples.label_maps import decoded
from medgraft.samples.mask_grid import GridFrame, SolidFrame
from medgraft.samples.mask_meaning import MaskForm
from medgraft.values import ImageRef

FOLDER = "masks"
_MOST_NAME = 120


class MaskWriter:
    """Writes label maps into a folder, each under a name that no other has.

    Args:
        folder: gets the files; it is made.
        form: what the numbers of the user's own maps mean; what is drawn gets the same numbers.
        name: of the only file, without its ending; else files are named after their images.
    """

    def __init__(self, folder: Path, form: MaskForm, *, name: str = "") -> None:
        self.folder, self.form, self.name = folder, form, name
        self._taken: set[str] = set()

    def write(self, ref: ImageRef, mask: np.ndarray, frame: GridFrame) -> Path:
        """Write one label map on the grid of its image: PNG, or NIfTI of a volume.

        Args:
            ref: the image.
            mask: `([D,] H, W)`.
            frame: of the image.

        Raises:
            DiskFull: there is no space.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        numbers = stored(mask, self.form)
        name = self._name(ref)
        if isinstance(frame, SolidFrame):
            space = frame.frame.space
            affine = None if space.affine is None else np.array(space.affine)
            path = self.folder / f"{name}.nii.gz"
            kind = numbers if numbers.dtype == np.uint8 else numbers.astype(np.int16)
            note = "label map by medgraft"
            files.save_nifti(path, kind, affine=affine, spacing_mm=frame.spacing_mm, note=note)
            return path
        path = self.folder / f"{name}.png"
        files.save_png(path, numbers)
        return path

    def _name(self, ref: ImageRef) -> str:
        if self.name:
            return self.name
        path = ref.path
        stem = path.name[: -len(".nii.gz")] if path.name.lower().endswith(".nii.gz") else path.stem
        plain = stem[:_MOST_NAME] if ref.index is None else f"{stem[:_MOST_NAME]}-{ref.index}"
        name, number = plain, 1
        while name.lower() in self._taken:
            number += 1
            name = f"{plain}-{number}"
        self._taken.add(name.lower())
        return name


def stored(mask: np.ndarray, form: MaskForm) -> np.ndarray:
    """Get the numbers that the user's maps have; of maps in colours those of the classes, of things their own."""
    if form.instances or form.colours:
        return mask.astype(np.uint8 if int(mask.max(initial=0)) < 256 and not form.instances else np.uint16)
    return decoded(mask, form)


def measures(mask: np.ndarray, names: Sequence[str], frame: GridFrame, *, apart: bool) -> dict[str, Any]:
    """Get how much of each class a label map shows, as cells: pixels, and mm2 or ml where sizes are known.

    Args:
        mask: `([D,] H, W)` on the grid of the file.
        names: of the classes.
        frame: of the image.
        apart: True where the numbers are things: they are counted, too.
    """
    spacing = frame.spacing_mm
    unit = None if spacing is None else float(np.prod(spacing))
    cells: dict[str, Any] = {}
    if apart:
        cells["things"] = int(mask.max(initial=0))
        mask = (mask > 0).astype(np.uint8)
    counts = np.bincount(mask.ravel(), minlength=len(names) + 1)[1:]
    for name, count in zip(names, counts.tolist(), strict=True):
        cells[f"pixels_{name}"] = count
        if unit is not None and mask.ndim == 3:
            cells[f"ml_{name}"] = f"{count * unit / 1000:.4g}"
        elif unit is not None:
            cells[f"mm2_{name}"] = f"{count * unit:.4g}"
    return cells


def columns_of(names: Sequence[str], rows: Sequence[Mapping[str, Any]], *, apart: bool) -> list[str]:
    """Get the columns that `measures` gave, in order."""
    wanted = ["things"] if apart else []
    for name in names:
        wanted += [f"pixels_{name}", f"mm2_{name}", f"ml_{name}"]
    return [name for name in wanted if any(name in row for row in rows)]
