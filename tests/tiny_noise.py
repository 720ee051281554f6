"""Noisy images of known noise, with clean ones beside them: smooth blobs and edges, of which the noise can be told."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from medgraft.files import save_nifti, save_png

NOISE = 20.0  # standard deviation, of 255


def clean_plane(number: int, side: int = 48) -> np.ndarray:
    """Get a plane `(side, side)` of 40 to 215: two discs and a slope, elsewhere in each."""
    dice = np.random.default_rng(number)
    down, across = np.mgrid[:side, :side] / side
    plane = 40 + 60 * across
    for _ in range(2):
        y, x, radius = *dice.uniform(0.25, 0.75, 2), dice.uniform(0.1, 0.25)
        plane = plane + 55 * ((down - y) ** 2 + (across - x) ** 2 < radius**2)
    return plane


def make_noisy(folder: Path, *, count: int = 20, side: int = 48) -> Path:
    """Write a CSV of noisy pictures: path, clean, label (a or b by brightness), patient; get its path."""
    (folder / "noisy").mkdir(parents=True)
    (folder / "clean").mkdir()
    with open(folder / "data.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "clean", "label", "patient"))
        for number in range(count):
            plane = clean_plane(number, side) - (20 if number % 2 else 0)
            noisy = plane + NOISE * np.random.default_rng(1000 + number).standard_normal(plane.shape)
            name = f"{number:02d}.png"
            save_png(folder / "clean" / name, np.clip(np.rint(plane), 0, 255).astype(np.uint8))
            save_png(folder / "noisy" / name, np.clip(np.rint(noisy), 0, 255).astype(np.uint8))
            rows.writerow((f"noisy/{name}", f"clean/{name}", "ab"[number % 2], f"p{number}"))
    return folder / "data.csv"


def write_volume(path: Path, *, depth: int = 6, side: int = 24) -> np.ndarray:
    """Write a noisy volume of int16 with an affine and get its values `(D, H, W)`."""
    planes = np.stack([clean_plane(3, side) * 4 for _ in range(depth)])
    noisy = np.rint(planes + 80 * np.random.default_rng(0).standard_normal(planes.shape)).astype(np.int16)
    affine = np.diag([2.0, -1.0, 1.0, 1.0])
    affine[:3, 3] = 5.0
    save_nifti(path, noisy, affine=affine)
    return noisy
