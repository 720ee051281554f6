"""Small data sets with label maps: discs and bars in pictures, touching discs told apart, balls in volumes."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from medgraft.files import save_nifti

SIDE = 64
AFFINE = np.array([[0.0, 0, -1.5, 30], [0, -1.5, 0, 20], [3.0, 0, 0, -40], [0, 0, 0, 1]])


def picture(index: int) -> tuple[np.ndarray, np.ndarray]:
    """Get one gray picture `(H, W)` uint8 and its label map: 1 is a bright disc, 2 a dark bar; some have no bar."""
    random = np.random.default_rng([23, index])
    y, x = np.mgrid[:SIDE, : SIDE + 16]
    mask = np.zeros(y.shape, np.uint8)
    if index % 4:
        top, left = random.integers(44, 52), random.integers(4, 30)
        mask[top : top + 8, left : left + 30] = 2
    row, column, radius = random.uniform(14, 28), random.uniform(18, 60), random.uniform(7, 12)
    mask[(y - row) ** 2 + (x - column) ** 2 < radius**2] = 1
    pixels = np.choose(mask, [110, 200, 40]) + random.normal(0, 12, mask.shape)
    return np.clip(pixels, 0, 255).astype(np.uint8), mask


def make_pictures(folder: Path, *, count: int = 30, first: int = 0) -> Path:
    """Write pictures and their label maps, with a table of both; get the path of the table."""
    rows = []
    for index in range(first, first + count):
        pixels, mask = picture(index)
        for name, array in (("images", pixels), ("masks", mask)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            Pillow.fromarray(array).save(folder / name / f"case_{index:03d}.png")
        row = {"path": f"images/case_{index:03d}.png", "mask": f"masks/case_{index:03d}.png"}
        rows.append({**row, "patient": f"p{index // 2:03d}", "site": "north" if index % 3 else "south"})
    return write_table(folder / "manifest.csv", rows)


def make_things(folder: Path, *, count: int = 24) -> Path:
    """Write pictures of discs that touch, and maps with a number for each of them."""
    rows = []
    for index in range(count):
        random = np.random.default_rng([29, index])
        y, x = np.mgrid[:SIDE, :SIDE]
        things = np.zeros(y.shape, np.uint16)
        for number in range(1, 5 + index % 3):
            row, column = 12 + 20 * ((number - 1) // 3), 10 + 20 * ((number - 1) % 3) + random.uniform(-2, 2)
            things[(y - row) ** 2 + (x - column) ** 2 < random.uniform(8, 11) ** 2] = number
        pixels = np.clip(np.where(things > 0, 190, 50) + random.normal(0, 15, y.shape), 0, 255)
        for name, array in (("images", pixels.astype(np.uint8)), ("instances", things)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            Pillow.fromarray(array).save(folder / name / f"cells_{index:03d}.png")
        rows.append({"path": f"images/cells_{index:03d}.png", "instance_mask": f"instances/cells_{index:03d}.png"})
    return write_table(folder / "manifest.csv", rows)


def volume(index: int) -> tuple[np.ndarray, np.ndarray]:
    """Get one scan `(D, H, W)` int16 and its label map: 1 lies in front of 2, as two parts of one organ do."""
    random = np.random.default_rng([31, index])
    z, y, x = np.mgrid[:12, :28, :24].astype(float)
    centre, radius = random.uniform((5, 9, 9), (7, 19, 15)), random.uniform(6, 8)
    body = (2 * (z - centre[0])) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 < radius**2
    mask = np.where(body, np.where(y < centre[1], 1, 2), 0).astype(np.uint8)
    return np.rint(np.choose(mask, [100, 400, 500]) + random.normal(0, 30, mask.shape)).astype(np.int16), mask


def make_volumes(folder: Path, *, count: int = 16) -> Path:
    """Write scans and label maps as NIfTI the way of the Medical Segmentation Decathlon; get the folder."""
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for index in range(count):
        values, mask = volume(index)
        save_nifti(folder / "imagesTr" / f"organ_{index:03d}.nii.gz", values, affine=AFFINE)
        save_nifti(folder / "labelsTr" / f"organ_{index:03d}.nii.gz", mask, affine=AFFINE)
    (folder / "dataset.json").write_text('{"labels": {"0": "background", "1": "front", "2": "back"}}')
    return folder


def write_table(path: Path, rows: list[dict[str, str]]) -> Path:
    """Write a CSV, and get its path."""
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path
