"""Damaged at random: every mutated file is read or refused; none takes a reader down or keeps it busy."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pool_work
import pytest
import zoo

from medgraft.errors import BadImage
from medgraft.files import read_many
from medgraft.values import ImageRef

LIMIT = 32 << 20


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """Flip bits, overwrite runs, cut, double or drop a piece; half of the damage goes to the first 600 bytes."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 6))):
        if not out:
            break
        reach = min(len(out), 600) if rng.random() < 0.5 else len(out)
        place = int(rng.integers(reach))
        way = int(rng.integers(6))
        if way == 0:
            out[place] ^= 1 << int(rng.integers(8))
        elif way == 1:
            out[place : place + 4] = rng.bytes(min(4, len(out) - place))
        elif way == 2:
            out[place : place + 4] = b"\xff\xff\xff\x7f"[: len(out) - place]
        elif way == 3:
            del out[place:]
        elif way == 4:
            del out[place : place + int(rng.integers(1, 40))]
        else:
            out[place:place] = out[place : place + int(rng.integers(1, 200))]
    return bytes(out)


def fuzz(folder: Path, count: int, seed: int) -> tuple[int, int]:
    """Read `count` mutated files; get how many were read and how many refused."""
    rng = np.random.default_rng(seed)
    singles = [case for case in zoo.CASES if case.pixels is not None and not case.series and case.name.isascii()]
    refs = []
    for k in range(count):
        case = singles[int(rng.integers(len(singles)))]
        source = folder / "source"
        source.mkdir(exist_ok=True)
        path = source / case.name
        if not path.exists():
            case.make(path)
        mutant = folder / f"{k:05d}-{case.name.strip()[-40:]}"
        mutant.write_bytes(mutate(path.read_bytes(), rng))
        refs.append(ImageRef(mutant, index=case.index))
    work = partial(pool_work.size_of, limit=LIMIT)
    results = dict(read_many(refs, work, workers=2, timeout_s=10, memory_bytes=2 << 30))
    assert len(results) == count
    bad = [r for r in results.values() if isinstance(r, BadImage)]
    lost = [str(r) for r in bad if "crashed" in r.what or "longer than" in r.what or "reading it failed" in r.what]
    assert not lost, lost[:10]
    return count - len(bad), len(bad)


def test_four_hundred_damaged_files(tmp_path: Path) -> None:
    read, refused = fuzz(tmp_path, 400, seed=1)
    assert read > 20 and refused > 100


@pytest.mark.slow
def test_eight_thousand_damaged_files(tmp_path: Path) -> None:
    read, refused = fuzz(tmp_path, 8000, seed=2)
    print(f"{read} read, {refused} refused")
