"""Label maps written: a file an image with the numbers of the user's own maps, and a table with what they measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medgraft import files
from medgraft.errors import BadData
from medgraft.files.label_tiff import write_label_tiff
from medgraft.samples.label_maps import decoded
from medgraft.samples.mask_grid import GridFrame, SolidFrame
from medgraft.samples.mask_meaning import MaskForm
from medgraft.values import ImageRef

FOLDER = "masks"
_MOST_NAME = 120
_NIFTI = (np.int16, np.int32)  # what readers of NIfTI take where 8 bits do not hold a number


class MaskWriter:
    """Writes label maps into a folder, each under a name that no other has.

    Args:
        folder: gets the files; it is made.
        form: what the numbers of the user's own maps mean; what is drawn gets the same numbers.
        name: of the only file, with its ending; else files are named after their images.
    """

    def __init__(self, folder: Path, form: MaskForm, *, name: str = "") -> None:
        self.folder, self.form, self.name = folder, form, name
        self._taken: set[str] = set()

    def write(self, ref: ImageRef, mask: np.ndarray, frame: GridFrame) -> Path:
        """Write one label map on the grid of its image: PNG, TIFF where 16 bits are too few, or NIfTI of a volume.

        Args:
            ref: the image.
            mask: `([D,] H, W)`.
            frame: of the image.

        Raises:
            BadData: the file holds no numbers as large as those of the map.
            DiskFull: there is no space.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        numbers = stored(mask, self.form)
        if isinstance(frame, SolidFrame):
            return self._write_solid(ref, numbers, frame)
        if np.can_cast(numbers.dtype, np.uint16):
            path = self.folder / (self.name or f"{self.free_name(ref)}.png")
            files.save_png(path, numbers)
            return path
        if self.name:
            what = f"a PNG holds numbers up to 65535, and the label map goes to {numbers.max()}"
            raise BadData(what, where=self.folder / self.name, do="Give a folder: it is written as TIFF there.")
        path = self.folder / f"{self.free_name(ref)}.tif"
        height, width = numbers.shape
        write_label_tiff(path, [numbers], size=(width, height), kind=numbers.dtype, note="label map by medgraft")
        return path

    def _write_solid(self, ref: ImageRef, numbers: np.ndarray, frame: SolidFrame) -> Path:
        path = self.folder / (self.name or f"{self.free_name(ref)}.nii.gz")
        if numbers.dtype != np.uint8:
            most = int(numbers.max(initial=0))
            kinds = [kind for kind in _NIFTI if most <= np.iinfo(kind).max]
            if not kinds:
                raise BadData(
                    f"{most} is too large a number for a NIfTI file", where=path, do="Number the labels anew."
                )
            numbers = numbers.astype(kinds[0])
        space = frame.frame.space
        affine = None if space.affine is None else np.array(space.affine)
        note = "label map by medgraft"
        files.save_nifti(path, numbers, affine=affine, spacing_mm=frame.spacing_mm, note=note)
        return path

    def free_name(self, ref: ImageRef) -> str:
        """Get a name after an image, without an ending, that no other file of the folder gets."""
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
    """Get the numbers that the user's maps have; of maps in colours those of the classes, of things their own.

    Returns:
        Unsigned whole numbers of as many bits as they need; of classes the same for any map.
    """
    if form.instances:
        return mask.astype(np.promote_types(np.uint16, np.min_scalar_type(int(mask.max(initial=0)))))
    return mask.astype(np.uint8) if form.colours else decoded(mask, form)


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
