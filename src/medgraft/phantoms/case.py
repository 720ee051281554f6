"""What a phantom is: a picture that nobody was photographed for, and all that is true of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from medgraft.values import Boxes

STAMP = "PHANTOM: procedural image, not a patient"


@dataclass(frozen=True)
class Lesion:
    """One lesion that was painted.

    Attributes:
        kind: one of the names in `Case.mask_names`.
        row: centre in pixels from the top edge of the image, with 0 at the centre of the first pixel.
        column: centre in pixels from the left edge.
        radius: pixels; of a lesion that is not round, about half of its longest side.
    """

    kind: str
    row: float
    column: float
    radius: float


@dataclass(frozen=True)
class Nodule(Lesion):
    """One nodule of the lung in a volume; its `radius` is in millimetres, of the ball of the same volume.

    Attributes:
        slice: centre in slices, with 0 at the centre of the first one.
        ras_mm: the centre in millimetres, x to the right, y to the front, z to the head.
        texture: "solid", "part_solid" or "ground_glass".
        margin: "smooth", "lobulated" or "spiculated".
        attachment: "none", "vessel" or "pleura".
    """

    slice: float
    ras_mm: tuple[float, float, float]
    texture: str
    margin: str
    attachment: str


@dataclass(frozen=True, eq=False)
class Case:
    """One phantom image with its ground truth.

    Attributes:
        name: stem of its files; begins with `phantom_`.
        pixels: uint8 `(H, W, 3)`, or uint8 or uint16 `(H, W)`; of a volume int16 `(D, H, W)` in HU.
        label: the class in words.
        patient: the patient who does not exist, such as `phantom-0001`.
        lesions: every lesion; empty means that there is none.
        mask: uint8 `(H, W)`; 0 is background, k is a lesion of kind `mask_names[k]`. Of a volume `(D, H, W)`, where k
            is the k-th of `lesions`, a number for each.
        mask_names: names of the values of `mask`; the first is "background".
        grade: the ordinal grade, where the disease has one.
        covariates: what a table would say beside it (age, sex, camera ...), as text.
        anatomy: uint8 `(H, W)` map of the organs, or None.
        anatomy_names: names of the values of `anatomy`.
        boxes: around what is to be found, in pixels or voxels, exact to the edge of what was painted; None for kinds
            without boxes.
        spacing_mm: of a volume, (z, y, x) size of a voxel; else None.
        affine: of a volume, index `(d, h, w)` -> RAS millimetres; else None.
    """

    name: str
    pixels: np.ndarray
    label: str
    patient: str
    lesions: tuple[Lesion, ...]
    mask: np.ndarray
    mask_names: tuple[str, ...]
    grade: int | None = None
    covariates: Mapping[str, str] = field(default_factory=dict)
    anatomy: np.ndarray | None = None
    anatomy_names: tuple[str, ...] = ()
    boxes: Boxes | None = None
    spacing_mm: tuple[float, float, float] | None = None
    affine: np.ndarray | None = None


def patient_of(index: int, *, sizes: tuple[int, ...]) -> tuple[int, int]:
    """Get (number of the patient, number of the image within the patient) of image `index`.

    Patients come in blocks: `sizes` says how many images each patient of a
    block has. So the answer needs nothing but the index, and images can be
    made in any order.

    Example:
        >>> [patient_of(i, sizes=(1, 2)) for i in range(4)]
        [(0, 0), (1, 0), (1, 1), (2, 0)]
    """
    block, rest = divmod(index, sum(sizes))
    for place, size in enumerate(sizes):
        if rest < size:
            return block * len(sizes) + place, rest
        rest -= size
    raise AssertionError("the rest is smaller than the sum of sizes")
