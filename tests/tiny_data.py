"""A small data set, easy to learn, for tests that need a whole run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


def make_tiny_data(folder: Path, *, patients: int = 24, size: int = 40) -> Path:
    """Write pictures and their table; every image differs from the others."""
    folder.mkdir(parents=True)
    rows = ["path,label,patient,findings,grade,amount,site"]
    y, x = np.mgrid[:size, :size]
    for person in range(patients):
        for shot in range(2):
            random = np.random.default_rng([person, shot])
            pixels = random.normal(90, 25, (size, size, 3))
            ill, grade = person % 2, person % 3
            radius = 4 + 3 * grade
            if ill:
                pixels[(y - 20) ** 2 + (x - 14) ** 2 < 60] += 110
            pixels[(y - 8) ** 2 + (x - 30) ** 2 < radius**2] -= 60
            name = f"p{person:02d}_{shot}.png"
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / name)
            findings = "|".join(word for word, there in (("disc", ill), ("hole", grade > 0)) if there)
            site = "north" if person < 12 else "south"
            amount = f"{grade * 1.5 + shot / 8:.3f}"
            rows.append(
                ",".join([name, "ill" if ill else "well", f"p{person:02d}", findings, str(grade), amount, site])
            )
    table = folder / "table.csv"
    table.write_text("\n".join(rows) + "\n")
    return table


def train_tiny(folder: Path, **options: Any) -> tuple[Path, Path]:
    """Train on such pictures, with caches in the same folder, and get (table, run folder)."""
    import medgraft as mg

    table = make_tiny_data(folder / "tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDGRAFT_HOME", str(folder / "home"))
        mg.train(table, out=folder / "run", **options)
    return table, folder / "run"
