"""Work for reader processes: sound, and of every kind that ends a process."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np


def act(word: Any) -> Any:
    """Do what the word says."""
    if word == "abort":
        os.abort()
    if word == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "exit":
        os._exit(3)
    if word == "segv":
        os.kill(os.getpid(), signal.SIGSEGV)
    if word == "hang":
        while True:
            time.sleep(1)
    if word == "raise":
        raise ValueError("a bad\nthing")
    if word == "memory":
        return np.ones(1 << 40, dtype=np.uint8)
    if word == "print":
        os.write(1, b"a decoder that prints\n")
        print("and prints")
        return "printed"
    if word == "torch":
        import sys

        return "torch" in sys.modules
    if word == "unsendable":
        return lambda: None
    return word


def big(count: int) -> np.ndarray:
    """Get `count` bytes that depend on the count."""
    return np.full(count, count % 251, dtype=np.uint8)


def abort_in_decoder(path: Path) -> Any:
    """Decode a run-length frame with the plug-in alone, without our checks: it aborts the process."""
    if path.suffix != ".dcm":
        return "spared"
    from rle import decode_pixel_data

    return decode_pixel_data(
        b"\1\0\0\0\x40" + b"\0" * 60 + b"\x81\0",
        {"rows": 60000, "columns": 60000, "bits_allocated": 8},
        version=2,
        rows=60000,
        columns=60000,
        bits_allocated=8,
        samples_per_pixel=1,
        number_of_frames=1,
    )


def size_of(ref: Any, limit: int) -> Any:
    """Read an image with a small limit and give its shape."""
    from medgraft.files import read_image

    return read_image(ref, max_bytes=limit).pixels.shape
