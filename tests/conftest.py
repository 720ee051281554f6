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
    from tiny_data import make_tiny_data

    return make_tiny_data(tmp_path / "tiny")
