"""Every random draw is a function of (seed, purpose, epoch, index).

There is no global stream, so nothing random has to be saved: a resumed run,
and any number of workers, draw the same numbers. Philox is counter-based:
Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import hashlib

import numpy as np


def key(seed: int, purpose: str, epoch: int = 0, index: int | str = 0) -> int:
    """Get a 128-bit integer that depends on all four arguments alone.

    Example:
        >>> key(0, "shuffle", 1) == key(0, "shuffle", 1)
        True
        >>> key(0, "shuffle", 1) == key(0, "shuffle", 2)
        False
    """
    words = f"{seed}\x1f{purpose}\x1f{epoch}\x1f{index}".encode()
    return int.from_bytes(hashlib.blake2b(words, digest_size=16).digest(), "little")


def generator(seed: int, purpose: str, epoch: int = 0, index: int | str = 0) -> np.random.Generator:
    """Get a fresh numpy generator for one purpose, epoch and sample."""
    return np.random.Generator(np.random.Philox(key=key(seed, purpose, epoch, index)))


def permutation(count: int, *, seed: int, purpose: str, epoch: int = 0) -> np.ndarray:
    """Get the order of `count` items in one epoch, int64 of shape (count,)."""
    return generator(seed, purpose, epoch).permutation(count)


def torch_seed(seed: int, purpose: str, epoch: int = 0, index: int | str = 0) -> int:
    """Get a 63-bit integer for `torch.manual_seed` (dropout, mixing, initial weights)."""
    return key(seed, purpose, epoch, index) & 0x7FFF_FFFF_FFFF_FFFF
