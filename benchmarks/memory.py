"""How much memory the main job takes on many large images.

    python benchmarks/memory.py [--count 10000] [--side 512] [--size 224] [--workers 0] [--keep FOLDER]

Writes that many different JPEG files of two classes (a bright disc or none), runs `medgraft train` on them for one
epoch as a user would, and prints the time, and the peak memory of the process and all its children together: as the
sum of their resident sets (shared pages counted once for each process, so an upper bound) and as the sum of their
proportional shares. Linux only, as it reads /proc.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from PIL import Image as Picture

LIMIT_BYTES = 2_000_000_000


def write_image(number: int, *, folder: Path, side: int) -> None:
    """Write one smooth colourful picture with grain; odd numbers bear a disc."""
    random = np.random.default_rng(number)
    coarse = Picture.fromarray(random.integers(0, 160, (8, 8, 3), dtype=np.uint8))
    picture = np.array(coarse.resize((side, side), Picture.Resampling.BICUBIC))
    picture += np.tile(random.integers(0, 24, (64, 64, 1), dtype=np.uint8), (side // 64 + 1, side // 64 + 1, 1))[
        :side, :side
    ]
    if number % 2:
        y, x = np.mgrid[:side, :side]
        picture[(y - side / 3) ** 2 + (x - side / 3) ** 2 < (side / 8) ** 2] = (240, 230, 200)
    Picture.fromarray(picture).save(folder / ("disc" if number % 2 else "none") / f"{number:06}.jpg", quality=85)


def write_images(folder: Path, *, count: int, side: int) -> None:
    """Write the data set, one folder a class; a folder that is full already is left as it is."""
    for name in ("disc", "none"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    missing = [i for i in range(count) if not (folder / ("disc" if i % 2 else "none") / f"{i:06}.jpg").exists()]
    with Pool() as pool:
        pool.map(partial(write_image, folder=folder, side=side), missing, chunksize=50)


def family(pid: int) -> list[int]:
    """Get a process and all that descend from it."""
    found = [pid]
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += family(int(child))
    return found


def memory(pid: int) -> tuple[int, int]:
    """Get (resident bytes, proportional bytes) of one process."""
    with contextlib.suppress(OSError):
        rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        found = {row.split(":")[0]: int(row.split()[1]) * 1024 for row in rows[1:]}
        return found.get("Rss", 0), found.get("Pss", 0)
    return 0, 0


def watch(process: subprocess.Popen[str]) -> dict[str, float]:
    """Poll until the process ends; get peaks in bytes and the seconds it took."""
    peak = {"resident": 0, "proportional": 0, "main": 0}
    began = time.perf_counter()
    while process.poll() is None:
        each = [memory(pid) for pid in family(process.pid)]
        peak["resident"] = max(peak["resident"], sum(rss for rss, _ in each))
        peak["proportional"] = max(peak["proportional"], sum(pss for _, pss in each))
        peak["main"] = max(peak["main"], each[0][0])
        time.sleep(0.5)  # the kernel walks every page for each look
    return {**peak, "seconds": time.perf_counter() - began}


def main() -> int:
    """Run it; 1 when what the processes really take, their proportional shares, is above the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--depth", default="all")
    parser.add_argument("--keep", type=Path, help="folder for the images, to use them again")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        images = given.keep or Path(scratch) / "images"
        write_images(images, count=given.count, side=given.side)
        run = Path(scratch) / "run"
        command = [sys.executable, "-c", "from medgraft.cli import main; main()", "train", str(images)]
        command += ["--out", str(run), "--backbone", "none:timm:test_resnet", "--image-size", str(given.size)]
        command += ["--epochs", "1", "--depth", given.depth, "--workers", str(given.workers), "--quiet"]
        environment = {**os.environ, "MEDGRAFT_HOME": str(Path(scratch) / "home")}
        process = subprocess.Popen([*command, "--patients-unknown"], env=environment, text=True)
        found = watch(process)
        print(f"{given.count} images of {given.side} x {given.side}, trained at {given.size}: {found['seconds']:.0f} s")
        print(f"peak of all processes: resident {found['resident'] / 1e9:.2f} GB, proportional share", end=" ")
        print(f"{found['proportional'] / 1e9:.2f} GB; the main process alone {found['main'] / 1e9:.2f} GB")
        if process.returncode:
            return process.returncode
        score = json.loads((run / "report.json").read_text())["scores"]["test"]["auroc"]["value"]
    print(f"test AUROC {score:.3f}")
    return int(found["proportional"] > LIMIT_BYTES)


if __name__ == "__main__":
    sys.exit(main())
