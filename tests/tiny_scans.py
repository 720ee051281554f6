"""A small data set of scans with boxes: two lungs in a body, with balls to be found and tubes that are none."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from medgraft.files import save_nifti
from medgraft.values import Boxes

SHAPE, SPACING = (40, 52, 76), (3.0, 2.5, 2.5)
CORNERS = ("x0", "y0", "z0", "x1", "y1", "z1")
# d to the head, h to the back, w to the left, as most files of CT have it; millimetres of the first voxel are not 0.
AFFINE = np.array([[0.0, 0, -2.5, 95], [0, -2.5, 0, 20], [3.0, 0, 0, -400], [0, 0, 0, 1]])


def draw(index: int) -> tuple[np.ndarray, Boxes]:
    """Get one scan in HU, int16 `(D, H, W)`, and its boxes; every fourth has none."""
    random = np.random.default_rng([17, index])
    d, h, w = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    z, y, x = (axis * step for axis, step in zip((d, h, w), SPACING, strict=True))
    hu = np.full(SHAPE, -1000.0)
    hu[np.broadcast_to(((y - 65) / 60) ** 2 + ((x - 95) / 90) ** 2 < 1, SHAPE)] = 40
    lungs = np.zeros(SHAPE, bool)
    for side in (52, 138):
        lungs |= ((z - 58) / 52) ** 2 + ((y - 65) / 46) ** 2 + ((x - side) / 36) ** 2 < 1
    hu[lungs] = -850
    for _ in range(14):  # tubes
        side, height, row = random.choice([52, 138]), random.uniform(25, 90), random.uniform(40, 90)
        tilt, radius = random.uniform(-0.5, 0.5), random.uniform(1.6, 2.8)
        tube = ((z - height - tilt * (x - side)) ** 2 + (y - row) ** 2 < radius**2) & lungs
        hu[tube & (np.abs(x - side) < 30)] = 20
    corners = []
    for turn in range(0 if index % 4 == 3 else 1 + index % 2):
        centre = np.array([random.uniform(35, 80), random.uniform(48, 82), (52, 138)[turn] + random.uniform(-16, 16)])
        radius = random.uniform(4.5, 8)
        ball = (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 < radius**2
        hu[ball] = 30
        inside = np.argwhere(ball)
        corners.append([*inside.min(axis=0)[::-1], *(inside.max(axis=0)[::-1] + 1)])
    hu += random.normal(0, 12, SHAPE)
    return hu.astype(np.int16), Boxes(np.array(corners, float).reshape(-1, 6), ("nodule",) * len(corners))


def make_scans(folder: Path, *, count: int = 24, first: int = 0) -> Path:
    """Write scans as NIfTI into `images/`, and get the path of the table of their boxes."""
    rows = []
    for index in range(first, first + count):
        hu, boxes = draw(index)
        path = f"images/scan_{index:03d}.nii.gz"
        save_nifti(folder / path, hu, affine=AFFINE)
        own = {"path": path, "patient": f"p{index:03d}"}
        for label, corners in zip(boxes.labels, boxes.corners, strict=True):
            rows.append({**own, "label": label, **dict(zip(CORNERS, corners, strict=True))})
        if not len(boxes):
            rows.append({**own, "label": "", **dict.fromkeys(CORNERS, "")})
    table = folder / "boxes.csv"
    with open(table, "w", newline="") as file:
        writer = csv.DictWriter(file, ["path", "patient", "label", *CORNERS])
        writer.writeheader()
        writer.writerows(rows)
    return table
