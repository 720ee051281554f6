"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

# The nets of the tests are tiny: threads that wait for each other would cost more than they bring.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """Get a path inside the folder of real data and weights, or skip where it is missing."""
    folder = Path(os.environ.get("MEDGRAFT_SHARED", ROOT / ".." / "shared")).resolve()

    def find(inside: str) -> Path:
        path = folder / inside
        if not path.exists():
            pytest.skip(f"needs {inside} in the folder that MEDGRAFT_SHARED names (looked in {folder})")
        return path

    return find


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep caches of the tests out of the user's own cache folder."""
    monkeypatch.setenv("MEDGRAFT_HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture
def tiny_data(tmp_path: Path) -> Path:
    """Get a CSV of 48 pictures of 24 patients: a bright disc left ("ill") or none ("well"), easy to tell apart."""
    return make_tiny_data(tmp_path / "tiny")


def make_tiny_data(folder: Path, *, patients: int = 24, size: int = 40) -> Path:
    """Write pictures and their table; every image differs from the others."""
    import numpy as np
    from PIL import Image

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
