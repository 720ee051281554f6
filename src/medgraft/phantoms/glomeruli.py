"""Fields of stained sections of kidney, with a box around each glomerulus; one to four fields a patient."""

from __future__ import annotations

import numpy as np

from medgraft.phantoms.case import Case, Lesion, patient_of
from medgraft.phantoms.cortex import Body, bodies_in
from medgraft.phantoms.endless import Plane, Window
from medgraft.phantoms.outline import area_of
from medgraft.phantoms.section import Section, section
from medgraft.phantoms.stains import STAINS, look_of
from medgraft.seeds import generator, permutation
from medgraft.values import Boxes

KINDS = ("background", "glomerulus", "sclerosed")
CLASS = "glomerulus"
FIELD_UM = 512.0
"""Width and height of a field in micrometres, whatever its size in pixels."""

LEAST_SEEN = 0.15
"""Share of a glomerulus that must be in the field; the box of a smaller rest is to be ignored."""

_IMAGES = (1, 2, 3, 4)  # fields of the patients of a block
_BLOCK = 10
_EMPTY = 0.3  # share of the fields without a glomerulus
_TRIES = 200


def glomeruli(index: int, *, seed: int = 0, size: int = 512) -> Case:
    """Get field `index` of a kidney's cortex.

    Args:
        index: which image of the set; each can be made alone.
        seed: of the set.
        size: width and height in pixels of a field that is always 512 um wide.
    """
    number, place = patient_of(index, sizes=_IMAGES)
    plane = Plane(seed, number)
    # Each four patients in turn have one of each stain.
    turn, rank = divmod(number, len(STAINS))
    stain = STAINS[permutation(len(STAINS), seed=seed, purpose="phantom-glomeruli-stain", epoch=turn)[rank]]
    block, rank = divmod(index, _BLOCK)
    order = permutation(_BLOCK, seed=seed, purpose="phantom-glomeruli-order", epoch=block)
    window = _field(plane, index, size=size, empty=bool(order[rank] < _BLOCK * _EMPTY))
    look = look_of(plane, stain)
    painted = section(plane, window, look)
    mask, lesions, boxes = _truth(painted, window)
    person = generator(seed, "phantom-glomeruli-patient", index=number)
    return Case(
        name=f"phantom_glomeruli_{number + 1:04d}_{place + 1}",
        pixels=painted.pixels,
        label=CLASS if lesions else "none",
        patient=f"phantom-{number + 1:04d}",
        lesions=lesions,
        mask=mask,
        mask_names=KINDS,
        covariates={
            "stain": stain,
            "thickness_um": f"{look.thickness_um:g}",
            "um_per_px": f"{window.pitch:.6g}",
            "age": str(int(np.clip(person.normal(51, 17), 6, 90))),
            "sex": str(person.choice(["F", "M"])),
        },
        boxes=boxes,
    )


def _field(plane: Plane, index: int, *, size: int, empty: bool) -> Window:
    """Choose a field of the patient's kidney that has, or has not, a glomerulus."""
    pitch = FIELD_UM / size
    rng = generator(plane.seed, "phantom-glomeruli-field", index=index)
    # Fields of one patient lie in rows of their own, so that they share no tissue.
    row = index * 4 * FIELD_UM
    window = Window(0, 0, size, size, pitch)
    for _ in range(_TRIES):
        top, left = row + rng.uniform(0, 2 * FIELD_UM), rng.uniform(0, 80 * FIELD_UM)
        window = Window(round(top / pitch), round(left / pitch), size, size, pitch)
        seen = [share for body in bodies_in(plane, window.ends_um()) if (share := _share(body, window)) > -0.08]
        if (not seen) if empty else (max(seen, default=0.0) > 0.4):
            break
    return window


def _share(body: Body, window: Window) -> float:
    """Get about how far a glomerulus reaches into a window, by its diameter; -1 for other bodies."""
    if body.kind not in KINDS:
        return -1.0
    top, left, bottom, right = window.ends_um()
    inward = min(body.centre[0] - top, bottom - body.centre[0], body.centre[1] - left, right - body.centre[1])
    return (inward + body.radius) / (2 * body.radius)


def _truth(painted: Section, window: Window) -> tuple[np.ndarray, tuple[Lesion, ...], Boxes]:
    """Get mask, lesions and boxes of what was painted."""
    mask = np.zeros(painted.truth.shape, np.uint8)
    lesions, corners, ignored = [], [], []
    for value in np.unique(painted.truth[painted.truth > 0]).tolist():
        body, own = painted.bodies[value - 1], painted.truth == value
        mask[own] = KINDS.index(body.kind)
        spots = np.argwhere(own)
        (top, left), (bottom, right) = spots.min(axis=0), spots.max(axis=0) + 1
        centre = spots.mean(axis=0)
        if not own[round(float(centre[0])), round(float(centre[1]))]:
            centre = spots[np.argmin(((spots - centre) ** 2).sum(axis=1))]
        row, column = round(float(centre[0]), 2), round(float(centre[1]), 2)
        lesions.append(Lesion(body.kind, row, column, max(bottom - top, right - left) / 2))
        corners.append((left, top, right, bottom))
        ignored.append(len(spots) * window.pitch**2 < LEAST_SEEN * area_of(body))
    boxes = Boxes(np.array(corners, float).reshape(-1, 4), (CLASS,) * len(corners), None, np.array(ignored, bool))
    return mask, tuple(lesions), boxes
