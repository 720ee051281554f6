"""How fast images become batches, and how much memory that takes.

    python benchmarks/loader.py [--count 512] [--side 512] [--size 224] [--workers 2] [--threads 1]

Prints images a second by the clock, and milliseconds of this process's processor an image, for files -> store
(decoding, hashing, facts), store -> rows, and store -> batches with every preset, without and with worker
processes; then the peak memory of all processes together. The clock means little on a busy machine.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import struct
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image as Picture

from medgraft.samples.loader import Items, Loader
from medgraft.samples.presets import PRESETS
from medgraft.samples.store import Store
from medgraft.values import ImageRef, InputSpec


def write_images(folder: Path, count: int, side: int) -> list[ImageRef]:
    """Smooth colourful JPEG files with some grain; 64 pictures, and copies that differ in a comment."""
    random = np.random.default_rng(0)
    grain = random.integers(-12, 13, (side, side, 3), dtype=np.int16)
    made: list[bytes] = []
    for _ in range(min(count, 64)):
        coarse = Picture.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((side, side), Picture.Resampling.BICUBIC), np.int16)
        buffer = io.BytesIO()
        Picture.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
        made.append(buffer.getvalue())
    refs = []
    for i in range(count):
        path, data = folder / f"{i:06}.jpg", made[i % len(made)]
        path.write_bytes(data[:2] + b"\xff\xfe" + struct.pack(">HI", 6, i) + data[2:])  # a comment segment
        refs.append(ImageRef(path))
    return refs


class Memory:
    """The peak of the proportional memory of this process and its children, in bytes (Linux)."""

    def __init__(self) -> None:
        self.peak = 0
        self.own = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.2):
            own = _share(Path("/proc/self"))
            self.own = max(self.own, own)
            self.peak = max(self.peak, own + sum(_share(child) for child in _children()))


def _children() -> Iterator[Path]:
    for task in Path("/proc/self/task").glob("*/children"):
        for pid in task.read_text().split():
            yield Path("/proc") / pid


def _share(process: Path) -> int:
    try:
        for line in (process / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


@contextlib.contextmanager
def timed(what: str, count: int) -> Iterator[None]:
    clock, processor = time.perf_counter(), time.process_time()
    yield
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    print(f"{what:34}{count / clock:8.0f} images/s {1e3 * processor / count:8.2f} ms of processor", flush=True)


def run(what: str, loader: Loader, epochs: int) -> None:
    for _ in loader.epoch(0):  # warm
        pass
    with timed(what, epochs * len(loader.keys)):
        for epoch in range(1, epochs + 1):
            for _ in loader.epoch(epoch):
                pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--count", type=int, default=512)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory-only", action="store_true", help="one epoch of one preset")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        refs = write_images(Path(folder), options.count, options.side)
        with Memory() as memory:
            measure(refs, Path(folder) / "cache", options)
        print(f"peak memory: {memory.own / 1e6:.0f} MB this process, {memory.peak / 1e6:.0f} MB with its children")


def measure(refs: list[ImageRef], cache: Path, options: argparse.Namespace) -> None:
    count, size = len(refs), options.size
    print(f"{count} JPEG files of {options.side} x {options.side} -> {size} x {size} x 3, {options.threads} thread(s)")
    network = {"size": (size, size), "channels": 3, "fit": "pad"}
    for what in (f"files -> store, {options.workers} workers", "files -> store, second time"):
        with timed(what, count):
            store = Store.open(refs, network, folder=cache, workers=options.workers)
    with timed("store -> rows", count):
        for at in range(0, count, 32):
            store.rows(range(at, min(count, at + 32)))
    items = Items(range(count), [str(i) for i in range(count)])
    spec = InputSpec(size=(size, size))
    for name in ("fundus",) if options.memory_only else PRESETS:
        loader = Loader(store, items, spec=spec, batch_size=32, shuffle=True, preset=PRESETS[name])
        run(f"store -> batches, {name}", loader, 1)
    for name in ("none", "fundus") if options.workers and not options.memory_only else ():
        settings = {"shuffle": True, "preset": PRESETS[name], "workers": options.workers}
        loader = Loader(store, items, spec=spec, batch_size=32, **settings)
        run(f"  {name}, {options.workers} worker processes", loader, 1)
        loader.close()


if __name__ == "__main__":
    main()
